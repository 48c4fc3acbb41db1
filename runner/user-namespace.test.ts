import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SandboxSpec } from '../core/index.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';

const FIRST = 100_000;
const range = { inside: 0, outside: FIRST, count: 65_536 };
/** Without Docker's restrictions: what is refused here is refused by the namespace alone. */
const mapped: Partial<SandboxSpec> = {
  userNamespace: { uids: [range], gids: [range] },
  security: 'insecure',
};

describe.skipIf(!CAN_SANDBOX)('a sandbox with a user namespace', () => {
  let box: Box;
  beforeEach(() => {
    box = Box.make();
    mkdirSync(join(box.lower, 'private'), { mode: 0o700 });
  });
  afterEach(() => box.remove());

  it('has the ids of the spec inside and those of the maps outside', async () => {
    const { outcome, stdout } = await box.sh(
      'cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; : > /made',
      { ...mapped, user: { uid: 7, gid: 8, additionalGids: [9] } },
    );
    expect(stdout.replaceAll(/ +/g, ' ')).toBe(' 0 100000 65536\n 0 100000 65536\n7\n8\n');
    // The root folder is root's, and this is nobody there.
    expect(outcome).toEqual({ kind: 'exited', code: 1 });
  });

  it('leaves files that belong to the outside ids', async () => {
    chmodSync(join(box.lower, 'tmp'), 0o1777);
    const { stdout } = await box.sh('id -u; : > /tmp/made; stat -c %u /tmp/made /private', mapped);
    expect(stdout).toBe('0\n0\n65534\n');
    expect(lstatSync(join(box.upper, 'tmp/made')).uid).toBe(FIRST);
  });

  it('writes again to its standard output by name', async () => {
    const { stdout } = await box.sh('echo again > /dev/stdout', mapped);
    expect(stdout).toBe('again\n');
  });

  it.each([
    ['mounts', 'mount -t tmpfs none /tmp'],
    ['the hostname', 'hostname taken'],
    ['files of the image', 'chown 0 /bin/busybox'],
    ['folders of others', 'ls /private'],
    ['device nodes', 'mknod /dev/shm/disk b 8 0'],
    ['the processes outside', 'kill -9 1'],
  ])('gives its root no power over %s, and without the namespace there would be', async (_what, attack) => {
    const outcome = async (changes: Partial<SandboxSpec>) => (await box.sh(attack, changes)).outcome;
    expect(await outcome(mapped)).toMatchObject({ kind: 'exited', code: 1 });
    if (!attack.startsWith('kill'))
      expect(await outcome({ security: 'insecure' })).toEqual({ kind: 'exited', code: 0 });
  });

  it('refuses a user who is in no map', async () => {
    const user = { uid: 70_000, gid: 0, additionalGids: [] };
    await expect(box.sh('true', { ...mapped, user })).rejects.toMatchObject({ code: 'sandbox-setup' });
    expect(lstatSync(box.upper).isDirectory()).toBe(true);
  });
});
