import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hasNativeProgram, locateNative } from './native-program.ts';
import { collectEnd, NativeServer } from './native-server.ts';
import { WireWriter } from './native-wire.ts';

/** Connects to the address in the first argument, sends the bytes of the second (hex), and prints all that comes back. */
const CONNECT = `
  const stream = require('node:net').createConnection({ path: '\\0' + process.argv[1] });
  stream.on('data', (chunk) => console.log(chunk.toString('hex')));
  stream.on('error', (error) => console.log(error.code));
  stream.on('close', () => console.log('closed'));
  stream.end(Buffer.from(process.argv[2], 'hex'));
`;

/** Abstract addresses that are listened on. */
function addresses(): readonly string[] {
  const lines = readFileSync('/proc/net/unix', 'latin1').split('\n');
  // Flags __SO_ACCEPTCON; the kernel shows NUL as `@`.
  return lines.filter((line) => / 00010000 0001 01 /.test(line)).flatMap((line) => line.split(' @')[1] ?? []);
}

describe.skipIf(!hasNativeProgram())('a server of the native program', () => {
  let folder: string;
  let victim: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'varve-server-'));
    victim = join(folder, 'victim');
    writeFileSync(victim, 'kept');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function removal(): Buffer {
    const orders = new WireWriter();
    orders.text(victim);
    return orders.take();
  }

  it('carries out what its parent asks for, and tells how that ended', async () => {
    const server = new NativeServer(locateNative);
    const [stream] = await server.start('remove', [0]);
    if (stream === undefined) throw new Error('no stream');
    stream.end(removal());
    expect(await collectEnd(stream)).toMatchObject({ status: 0 });
    expect(existsSync(victim)).toBe(false);
  });

  it.each([
    ['older', `printf 'A\\005\\000\\000\\00000a1f'`],
    ['newer', `printf 'C'`],
  ])('that is %s than varve is told at once, with what to do', async (_age, answer) => {
    const program = join(folder, 'program');
    writeFileSync(program, `#!/bin/sh\n${answer}\nexec cat\n`, { mode: 0o755 });
    const server = new NativeServer(() => program);
    await expect(server.start('remove', [0])).rejects.toMatchObject({
      code: 'native-mismatch',
      hint: expect.stringContaining('npm rebuild varve'),
    });
    server.close();
  });

  it('carries out nothing for anybody else, who may know its address', async () => {
    const before = addresses();
    const server = new NativeServer(locateNative);
    const [own] = await server.start('remove', [0]);
    const [address = ''] = addresses().filter((one) => !before.includes(one));
    expect(address).not.toBe('');
    const header = Buffer.from([...Buffer.from('r'), 0, 1, 0, 99, 0, 0, 0]);
    const orders = Buffer.concat([header, removal()]).toString('hex');
    const run = await promisify(execFile)(process.execPath, ['-e', CONNECT, address, orders]);
    expect(run.stdout).toMatch(/^(closed|ECONNRESET\nclosed|EPIPE\nclosed)\n$/);
    expect(readFileSync(victim, 'utf8')).toBe('kept');
    own?.destroy();
  });

  it('that cannot be started is told', async () => {
    const server = new NativeServer(() => join(folder, 'absent'));
    await expect(server.start('remove', [0])).rejects.toMatchObject({ code: 'native-failed' });
    await expect(new NativeServer(() => '/bin/true').start('remove', [0])).rejects.toMatchObject({
      code: 'native-failed',
    });
  });
});
