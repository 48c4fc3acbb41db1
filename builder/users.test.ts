import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type HostPath, MachineError, type Tree } from '../core/index.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { link, memoryTree } from './testing/memory-tree.ts';
import { lookUpOwner, lookUpUser } from './users.ts';

const PASSWD = `root:x:0:0:root:/root:/bin/sh
node:x:1000:1000::/home/node:/bin/bash
web:x:33:34::/var/www:
12345:x:7:8::/odd:
broken line
bad:x:abc:1::/:
`;
const GROUP = `root:x:0:
docker:x:999:node,web
staff:x:50:node
data:x:34:
node:x:1000:
`;

let folder = '';
let tree: Tree;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'varve-users-'));
  tree = memoryTree({ 'etc/passwd': PASSWD, 'etc/group': GROUP }, folder as HostPath);
});

afterAll(() => rm(folder, { recursive: true }));

describe('lookUpUser', () => {
  test.each([
    ['', { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['root', { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['0', { uid: 0, gid: 0, additionalGids: [0], home: '/root' }],
    ['node', { uid: 1000, gid: 1000, additionalGids: [1000, 999, 50], home: '/home/node' }],
    ['1000', { uid: 1000, gid: 1000, additionalGids: [1000, 999, 50], home: '/home/node' }],
    ['web', { uid: 33, gid: 34, additionalGids: [34, 999], home: '/var/www' }],
    ['web:staff', { uid: 33, gid: 50, additionalGids: [50], home: '/var/www' }],
    ['web:77', { uid: 33, gid: 77, additionalGids: [77], home: '/var/www' }],
    ['web:', { uid: 33, gid: 34, additionalGids: [34, 999], home: '/var/www' }],
    ['4242', { uid: 4242, gid: 0, additionalGids: [0], home: '/' }],
    ['4242:docker', { uid: 4242, gid: 999, additionalGids: [999], home: '/' }],
    ['12345', { uid: 7, gid: 8, additionalGids: [8], home: '/odd' }],
    [':staff', { uid: 0, gid: 50, additionalGids: [50], home: '/root' }],
  ])('%j', async (text, expected) => {
    expect(await lookUpUser(tree, text)).toEqual({ ok: true, value: expected });
  });

  test.each([
    ['nobody', 'unable to find user nobody: no matching entries in passwd file'],
    ['bad', 'unable to find user bad: no matching entries in passwd file'],
    ['99999999999', 'unable to find user 99999999999: no matching entries in passwd file'],
    ['node:nogroup', 'unable to find group nogroup: no matching entries in group file'],
  ])('refuses %j', async (text, message) => {
    expect(await lookUpUser(tree, text)).toEqual({ ok: false, error: message });
  });

  test('needs no files for numbers', async () => {
    expect(await lookUpUser(EMPTY_TREE, '5:6')).toEqual({
      ok: true,
      value: { uid: 5, gid: 6, additionalGids: [6], home: '/' },
    });
  });

  test('follows a linked passwd file inside of the root only', async () => {
    const files = { 'etc/passwd': link('/../usr/lib/passwd'), 'usr/lib/passwd': 'app:x:5:6::/app:\n' };
    const linked = await lookUpUser(memoryTree(files, folder as HostPath), 'app');
    expect(linked).toMatchObject({ ok: true, value: { uid: 5, gid: 6 } });
  });

  test('refuses a passwd file that is too large to be one', async () => {
    const huge = memoryTree({ 'etc/passwd': { size: 2 ** 30, content: '' } }, folder as HostPath);
    await expect(lookUpUser(huge, 'app')).rejects.toThrow(MachineError);
  });
});

describe('lookUpOwner', () => {
  test.each([
    ['node', { uid: 1000, gid: 1000 }],
    ['web', { uid: 33, gid: 34 }],
    ['55', { uid: 55, gid: 55 }],
    ['55:66', { uid: 55, gid: 66 }],
    ['55:staff', { uid: 55, gid: 50 }],
    ['web:staff', { uid: 33, gid: 50 }],
    [':staff', { uid: 0, gid: 50 }],
    ['33', { uid: 33, gid: 33 }],
  ])('%j', async (text, expected) => {
    expect(await lookUpOwner(tree, text)).toEqual({ ok: true, value: expected });
  });

  test.each([
    ['nobody', "can't find uid for user nobody"],
    ['node:nogroup', "can't find gid for group nogroup"],
    ['1:2:3', "can't find gid for group 2:3"],
  ])('refuses %j', async (text, message) => {
    const result = await lookUpOwner(tree, text);
    expect(result.ok ? '' : result.error).toContain(message);
  });
});
