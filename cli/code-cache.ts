import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';

/**
 * Code that V8 has compiled, one file a kind of command line. V8 looks itself whether code is its own version's; it does not look
 * whether the bytes are whole, so that a checksum stands behind them.
 */
const CHECKSUM_BYTES = 4;
const DAY_MS = 24 * 60 * 60 * 1000;
const KEPT_MS = 30 * DAY_MS;

/** What was kept under `name`; undefined where there is nothing, or nothing whole. */
export function readCode(folder: string, name: string): Buffer | undefined {
  try {
    const bytes = readFileSync(`${folder}/${name}`);
    const end = bytes.length - CHECKSUM_BYTES;
    const code = bytes.subarray(0, Math.max(0, end));
    return end > 0 && crc32(code) === bytes.readUInt32LE(end) ? code : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps `code` under `name`, and removes what has not been written for long. Where that cannot be done, nothing is kept. */
export function keepCode(folder: string, name: string, code: Buffer): void {
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32LE(crc32(code));
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch {
    return;
  }
  const temporary = `${folder}/${name}.${process.pid}`;
  try {
    writeFileSync(temporary, Buffer.concat([code, checksum]), { mode: 0o600 });
    renameSync(temporary, `${folder}/${name}`);
    for (const other of readdirSync(folder)) removeOld(`${folder}/${other}`);
  } catch {
    rmSync(temporary, { force: true });
  }
}

function removeOld(path: string): void {
  const found = statSync(path);
  if (found.mtimeMs < Date.now() - KEPT_MS) rmSync(path, { recursive: true, force: true });
}

/**
 * What kind of command line this is: its first word, and whether it only asks. Other kinds need other code, and what the first
 * one of a kind needed is kept for those after it.
 */
export function kindOf(argv: readonly string[]): string {
  const [word = 'help'] = argv;
  const command = /^[a-z]{1,20}$/.test(word) ? word : 'other';
  const asks = argv.some((one) => /^(?:-h|--help|--check|--call.*)$/.test(one));
  return asks ? `${command}-asks` : command;
}
