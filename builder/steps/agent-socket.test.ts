import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { HostPath } from '../../core/index.ts';
import { forwardAgent } from './agent-socket.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-agent-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const OWNER = { mode: 0o620, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const HAS_AGENT = existsSync('/usr/bin/ssh-agent');

/** A message of the agent protocol: its length, its type, what it says. */
function message(type: number, body: string | Buffer = ''): Buffer {
  const text = Buffer.from(body);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length + 1);
  head[4] = type;
  return Buffer.concat([head, text]);
}

const LIST = 11;
const SIGN = 13;
const REMOVE_ALL = 19;
const LOCK = 22;
const EXTENSION = 27;

function named(name: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return Buffer.concat([length, Buffer.from(name), Buffer.from('and more')]);
}

/** Answers each chunk that it gets with a message of type 200 that repeats it; asks for no more than it was given. */
async function startEcho(path: string) {
  const heard: Buffer[] = [];
  const server = createServer((socket) =>
    socket.on('data', (chunk: Buffer) => {
      heard.push(chunk);
      socket.write(message(200, chunk));
    }),
  );
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { heard, close: () => new Promise((resolve) => server.close(resolve)) };
}

test('forwardAgent lends what an agent lists and signs, in order, and nothing else; it leaves nothing behind', async () => {
  const agent = join(folder, 'agent') as HostPath;
  const echo = await startEcho(agent);
  const deep = join(folder, 'x'.repeat(120)) as HostPath;
  mkdirSync(deep);
  const socket = await forwardAgent(agent, deep, OWNER);
  expect(statSync(socket.path).mode & 0o777).toBe(0o620);
  const place = join(folder, 'short');
  linkSync(socket.path, place);

  const bind = message(EXTENSION, named('session-bind@openssh.com'));
  const refused = [
    message(REMOVE_ALL),
    message(LOCK, 'x'),
    message(EXTENSION, named('other@example.com')),
    message(EXTENSION, 'ab'),
  ];
  const asked = [message(LIST), ...refused, message(SIGN, 'data'.repeat(20)), bind];
  const client = createConnection(place);
  const bytes = Buffer.concat(asked);
  // Cut inside of a length, and inside of what is signed.
  for (const part of [bytes.subarray(0, 7), bytes.subarray(7, 90), bytes.subarray(90)]) {
    client.write(part);
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.end();
  const said: Buffer[] = [];
  for await (const chunk of client) said.push(chunk);
  const failure = Buffer.from([0, 0, 0, 1, 5]);
  expect(
    Buffer.concat(echo.heard).equals(Buffer.concat([message(LIST), message(SIGN, 'data'.repeat(20)), bind])),
  ).toBe(true);
  const answer = Buffer.concat(said);
  const first = Buffer.concat([message(200, message(LIST)), ...refused.map(() => failure)]);
  expect(answer.subarray(0, first.length).equals(first)).toBe(true);
  expect(answer.subarray(-message(200, bind).length).equals(message(200, bind))).toBe(true);

  const flood = createConnection(place);
  flood.write(Buffer.from([0x7f, 0xff, 0xff, 0xff, LIST]));
  await once(flood, 'close');
  await socket[Symbol.asyncDispose]();
  expect(readdirSync(deep)).toEqual([]);
  await echo.close();
});

test.skipIf(!HAS_AGENT)(
  'a step uses keys of an agent of OpenSSH, and can neither remove nor lock them',
  async () => {
    const agent = join(folder, 'real') as HostPath;
    const key = join(folder, 'key');
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const process = spawn('ssh-agent', ['-D', '-a', agent], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      await once(process.stdout, 'data');
      const ask = (socket: string, program: string, args: readonly string[]) => {
        const env = { PATH: '/usr/bin:/bin', SSH_AUTH_SOCK: socket };
        const child = spawn(program, args, { env, stdio: 'ignore' });
        return once(child, 'close').then(([code]) => code === 0);
      };
      expect(await ask(agent, 'ssh-add', ['-q', key])).toBe(true);
      await using lent = await forwardAgent(agent, folder as HostPath, OWNER);
      const step = (program: string, args: readonly string[]) => ask(lent.path, program, args);
      expect(await step('ssh-add', ['-l'])).toBe(true);
      expect(await step('ssh-add', ['-T', `${key}.pub`])).toBe(true);
      for (const args of [['-D'], ['-d', key], ['-q', key]])
        expect([args, await step('ssh-add', args)]).toEqual([args, false]);
      const listed = spawnSync('ssh-add', ['-l'], { env: { PATH: '/usr/bin:/bin', SSH_AUTH_SOCK: agent } });
      expect(listed.stdout.toString()).toContain('ED25519');
    } finally {
      process.kill();
      await once(process, 'close');
    }
  },
);
