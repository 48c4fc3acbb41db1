import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** Command lines of this machine that have `text` in them. */
function processesWith(text: string): readonly string[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return line.includes(text) ? [line] : [];
    } catch {
      return [];
    }
  });
}

test('git and its helpers end with a varve that is killed', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const remote = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/silent`;
  const program = `
    const { createGitProgram } = await import(${JSON.stringify(join(import.meta.dirname, 'git-program.ts'))});
    const git = createGitProgram({ env: process.env, knownHosts: '/nonexistent' });
    await git(['ls-remote', process.argv[1] + '/silent'], { signal: new AbortController().signal });`;
  const origin = remote.slice(0, -'/silent'.length);
  const varve = spawn(process.execPath, ['--input-type=module', '-e', program, origin]);
  const [socket] = await once(server, 'connection');
  expect(processesWith(remote)).not.toEqual([]);
  varve.kill('SIGKILL');
  await expect.poll(() => processesWith(remote), { timeout: 30_000 }).toEqual([]);
  socket.destroy();
  server.close();
});
