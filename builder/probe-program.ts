/** How programs of an architecture look, and the machine code that ends one with exit code 0. */
interface Architecture {
  /** `e_machine` of elf(5). */
  readonly machine: number;
  readonly bits: 32 | 64;
  readonly order: 'little' | 'big';
  readonly flags?: number;
  readonly code: readonly number[];
}

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  '386': {
    machine: 3,
    bits: 32,
    order: 'little',
    // mov eax, 1; xor ebx, ebx; int 0x80
    code: [0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80],
  },
  amd64: {
    machine: 62,
    bits: 64,
    order: 'little',
    // mov eax, 60; xor edi, edi; syscall
    code: [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05],
  },
  arm: {
    machine: 40,
    bits: 32,
    order: 'little',
    flags: 0x05000000,
    // mov r0, #0; mov r7, #1; svc #0
    code: [0x00, 0x00, 0xa0, 0xe3, 0x01, 0x70, 0xa0, 0xe3, 0x00, 0x00, 0x00, 0xef],
  },
  arm64: {
    machine: 183,
    bits: 64,
    order: 'little',
    // mov x0, #0; mov x8, #93; svc #0
    code: [0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4],
  },
  riscv64: {
    machine: 243,
    bits: 64,
    order: 'little',
    flags: 0x5,
    // li a0, 0; li a7, 93; ecall
    code: [0x13, 0x05, 0x00, 0x00, 0x93, 0x08, 0xd0, 0x05, 0x73, 0x00, 0x00, 0x00],
  },
  ppc64le: {
    machine: 21,
    bits: 64,
    order: 'little',
    flags: 2,
    // li r3, 0; li r0, 1; sc
    code: [0x00, 0x00, 0x60, 0x38, 0x01, 0x00, 0x00, 0x38, 0x02, 0x00, 0x00, 0x44],
  },
  s390x: {
    machine: 22,
    bits: 64,
    order: 'big',
    // lghi %r2, 0; svc 1
    code: [0xa7, 0x29, 0x00, 0x00, 0x0a, 0x01],
  },
  loong64: {
    machine: 258,
    bits: 64,
    order: 'little',
    flags: 0x43,
    // addi.w $a0, $zero, 0; addi.w $a7, $zero, 93; syscall 0
    code: [0x04, 0x00, 0x80, 0x02, 0x0b, 0x74, 0x81, 0x02, 0x00, 0x00, 0x2b, 0x00],
  },
};

const LOAD_ADDRESS = 0x400000;

/**
 * The smallest static program of an architecture: it ends at once with exit code 0, and so tells whether a machine runs such
 * programs at all (elf(5)). @returns undefined for an architecture that varve knows no such program of.
 */
export function probeProgram(architecture: string): Uint8Array | undefined {
  const kind = ARCHITECTURES[architecture];
  if (kind === undefined) return undefined;
  const { machine, bits, order, flags = 0, code } = kind;
  const isWide = bits === 64;
  const [headerBytes, segmentBytes] = isWide ? [64, 56] : [52, 32];
  const start = headerBytes + segmentBytes;
  const bytes = Buffer.alloc(start + code.length);
  const isLittle = order === 'little';
  let at = 0;
  const put = (size: 1 | 2 | 4, value: number): void => {
    if (isLittle) bytes.writeUIntLE(value, at, size);
    else bytes.writeUIntBE(value, at, size);
    at += size;
  };
  const word = (value: number): void => {
    if (isWide && !isLittle) put(4, 0);
    put(4, value);
    if (isWide && isLittle) put(4, 0);
  };
  Buffer.from('\x7fELF', 'latin1').copy(bytes);
  at = 4;
  put(1, isWide ? 2 : 1);
  put(1, isLittle ? 1 : 2);
  put(1, 1);
  at = 16;
  for (const value of [2, machine]) put(2, value);
  put(4, 1);
  for (const value of [LOAD_ADDRESS + start, headerBytes, 0]) word(value);
  put(4, flags);
  for (const value of [headerBytes, segmentBytes, 1, 0, 0, 0]) put(2, value);
  const readAndExecute = 5;
  put(4, 1);
  if (isWide) put(4, readAndExecute);
  for (const value of [0, LOAD_ADDRESS, LOAD_ADDRESS, bytes.length, bytes.length]) word(value);
  if (!isWide) put(4, readAndExecute);
  word(0x1000);
  bytes.set(code, start);
  return bytes;
}
