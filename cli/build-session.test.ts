import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readAgent, readSecret } from './argv/session-options.ts';
import { openSession } from './build-session.ts';

const HAS_AGENT = existsSync('/usr/bin/ssh-agent');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-session-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const open = (
  given: { secrets?: readonly string[]; agents?: readonly string[] },
  env: Record<string, string> = {},
) =>
  openSession({
    secrets: (given.secrets ?? []).map((text) => readSecret(text, folder, env)),
    agents: (given.agents ?? []).map((text) => readAgent(text, folder)),
    env: { PATH: process.env['PATH'], ...env },
    temporaryFolder: folder,
  });

describe('--secret', () => {
  test('is read from its file or variable when it is asked for', async () => {
    writeFileSync(join(folder, 'f'), 'one');
    await using session = await open(
      { secrets: ['id=a,src=f', 'id=b,env=B', 'id=c,env=NONE'] },
      { B: 'two' },
    );
    writeFileSync(join(folder, 'f'), 'three');
    const text = async (id: string) => (await session.secret(id))?.toString();
    expect([await text('a'), await text('b'), await text('c'), await text('d')]).toEqual([
      'three',
      'two',
      undefined,
      undefined,
    ]);
  });

  test.each<[string, string, string | RegExp]>([
    ['a file that is not there', 'id=a,src=nope', /--secret id=a: cannot read .*nope: ENOENT/],
    ['a folder', 'id=a,src=.', /is no file/],
    [
      'one that is too large',
      'id=a,src=large',
      '--secret id=a: 512001 bytes are too many, a secret may have 512000',
    ],
  ])('refuses %s', async (_what, text, message) => {
    writeFileSync(join(folder, 'large'), Buffer.alloc(512_001));
    await expect(open({ secrets: [text] })).rejects.toThrow(message);
  });

  test.each<[string, object]>([
    ['id=a,src=f', { kind: 'file', path: '/w/f' }],
    ['id=a,type=file,source=/f', { kind: 'file', path: '/f' }],
    ['id=a,env=E', { kind: 'variable', name: 'E' }],
    ['type=env,id=a,src=E', { kind: 'variable', name: 'E' }],
    ['id=SET', { kind: 'variable', name: 'SET' }],
    ['id=unset', { kind: 'file', path: '/w/unset' }],
  ])('readSecret %s', (text, from) => {
    expect(readSecret(text, '/w', { SET: '1' }).from).toEqual(from);
  });

  test.each([
    ['src=f', '--secret src=f: it has no id'],
    ['id=a,type=vault', '--secret id=a,type=vault: unsupported secret type "vault"'],
    ['id=a,sorce=f', "--secret id=a,sorce=f: unexpected key 'sorce' in 'sorce=f'"],
    ['id=a,required', "--secret id=a,required: invalid field 'required' must be a key=value pair"],
  ])('readSecret refuses %s', (text, message) => {
    expect(() => readSecret(text, '/w', {})).toThrow(message);
  });
});

describe('--ssh', () => {
  const key = (name: string, passphrase = ''): void => {
    execFileSync('ssh-keygen', [
      '-q',
      '-t',
      'ed25519',
      '-C',
      name,
      '-N',
      passphrase,
      '-f',
      join(folder, name),
    ]);
  };

  test('default is the agent of the environment, and must be there', async () => {
    const socket = join(folder, 'agent');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    try {
      await using session = await open({ agents: ['default', 'default'] }, { SSH_AUTH_SOCK: socket });
      expect(await session.agent('default')).toBe(socket);
      expect(await session.agent('other')).toBeUndefined();
      const twice = open({ agents: ['default', `default=${socket}`] }, { SSH_AUTH_SOCK: socket });
      await expect(twice).rejects.toThrow('--ssh default is given twice');
    } finally {
      server.close();
    }
    await expect(open({ agents: ['default'] }, { SSH_AUTH_SOCK: socket })).rejects.toThrow(
      /--ssh default: SSH_AUTH_SOCK: cannot read .*agent: ENOENT/,
    );
    await expect(open({ agents: ['default'] })).rejects.toThrow('SSH_AUTH_SOCK is not set');
    await expect(open({ agents: ['x=nope'] })).rejects.toThrow(/--ssh x: cannot read .*nope: ENOENT/);
  });

  test.skipIf(!HAS_AGENT)('keys get an agent of their own, which ends with the session', async () => {
    key('one');
    key('two');
    const session = await open({ agents: ['git=one,two'] });
    const socket = await session.agent('git');
    const listed = execFileSync('ssh-add', ['-l'], {
      env: { ...process.env, SSH_AUTH_SOCK: socket },
    }).toString();
    expect([...listed.matchAll(/ (one|two) /g)].map(([, name]) => name)).toEqual(['one', 'two']);
    expect(await session.agent('git')).toBe(socket);
    await session[Symbol.asyncDispose]();
    expect(existsSync(socket ?? '')).toBe(false);
    // No process that has the keys is left.
    const processes = execFileSync('ps', ['-e', '-o', 'args='], { maxBuffer: 2 ** 26 }).toString();
    expect(processes).not.toContain(folder);
  });

  test.skipIf(!HAS_AGENT)('an agent whose session was killed leaves no folder', async () => {
    key('kept');
    const temporary = join(folder, 'temporary');
    mkdirSync(temporary);
    const module = (name: string) => JSON.stringify(join(import.meta.dirname, name));
    const script = `import { openSession } from ${module('build-session.ts')};
      import { readAgent } from ${module('argv/session-options.ts')};
      const [folder, temporaryFolder] = process.argv.slice(1);
      const agents = [readAgent('git=kept', folder)];
      const session = await openSession({ secrets: [], agents, env: process.env, temporaryFolder });
      await session.agent('git');
      process.kill(process.pid, 'SIGKILL');`;
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script, folder, temporary]);
    expect(signal).toBe('SIGKILL');
    await expect.poll(() => readdirSync(temporary), { timeout: 10_000 }).toEqual([]);
  });

  test('says what to install where there is no ssh-agent', async () => {
    writeFileSync(join(folder, 'one'), 'a key');
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    symlinkSync('/bin/sh', join(bin, 'sh'));
    await using session = await open({ agents: ['git=one'] }, { PATH: bin });
    await expect(session.agent('git')).rejects.toMatchObject({
      code: 'no-ssh-agent',
      message: 'cannot start ssh-agent: it is not installed',
    });
  });

  test.skipIf(!HAS_AGENT)('a key with a passphrase is refused without a question', async () => {
    key('locked', 'secret');
    await using session = await open({ agents: ['locked=locked'] });
    await expect(session.agent('locked')).rejects.toMatchObject({ code: 'ssh-key-unusable' });
  });
});
