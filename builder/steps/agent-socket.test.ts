import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
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

test('forwardAgent passes bytes both ways from a folder however deep, and leaves nothing behind', async () => {
  const agent = join(folder, 'agent') as HostPath;
  const server = createServer((socket) => socket.on('data', (chunk) => socket.end(`you said ${chunk}`)));
  await new Promise<void>((resolve) => server.listen(agent, resolve));
  const deep = join(folder, 'x'.repeat(120)) as HostPath;
  mkdirSync(deep);
  const owner = { mode: 0o620, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const socket = await forwardAgent(agent, deep, owner);
  expect(statSync(socket.path).mode & 0o777).toBe(0o620);
  const place = join(folder, 'short');
  const { linkSync } = await import('node:fs');
  linkSync(socket.path, place);
  const client = createConnection(place);
  client.end('hello');
  let said = '';
  for await (const chunk of client) said += chunk;
  expect(said).toBe('you said hello');
  await socket[Symbol.asyncDispose]();
  expect(readdirSync(deep)).toEqual([]);
  await new Promise((resolve) => server.close(resolve));
});
