import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HostPath, imagePath, type Mount, type SandboxSpec } from '../core/index.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';

const ROUNDS = 10;
const SECRET = 'host secret';

/** What a step asks for in a folder that another one changes meanwhile; `number` makes places that are not there yet. */
const STEPS: readonly (readonly [string, (cache: HostPath, number: number) => Partial<SandboxSpec>])[] = [
  ['a folder in it', (cache, number) => ({ mounts: [bound(cache), tmpfs(`c/a/t${number}`)] })],
  ['folders in folders of it', (cache, number) => ({ mounts: [bound(cache), tmpfs(`c/a/d${number}/e/f`)] })],
  ['a file in it', (cache, number) => ({ mounts: [bound(cache), file(`c/a/f${number}`)] })],
  ['a file that is there', (cache) => ({ mounts: [bound(cache), file('c/a/secret')] })],
  [
    'its working directory',
    (cache, number) => ({ mounts: [bound(cache)], cwd: imagePath(`c/a/w${number}`) }),
  ],
  ['a file of it as a source', (cache) => ({ mounts: [tree(cache, 'a/secret')] })],
  ['a folder of it as a source', (cache) => ({ mounts: [tree(cache, 'a')] })],
];

function bound(source: HostPath): Mount {
  return { type: 'bind', source, target: imagePath('c'), readonly: false };
}

function tmpfs(target: string): Mount {
  return { type: 'tmpfs', target: imagePath(target) };
}

function file(target: string): Mount {
  const content = Buffer.from('content');
  return { type: 'file', target: imagePath(target), content, mode: 0o666, uid: 5, gid: 5 };
}

function tree(path: HostPath, source: string): Mount {
  const root = { type: 'directory', path, readonly: true } as const;
  return { type: 'tree', root, source: imagePath(source), target: imagePath('x'), readonly: true };
}

describe.skipIf(!CAN_SANDBOX)(
  'a step that swaps folders and symlinks in a folder which another one mounts',
  () => {
    let box: Box;

    beforeAll(() => {
      box = Box.make({ attack: true });
    });
    afterAll(() => box.remove());

    /** A folder of the host, one that steps share, and in it a folder `a` and a symlink `l` to the host's. */
    function lay(link: (victim: string, cache: string) => string) {
      const folder = mkdtempSync(join(box.folder, 'race-'));
      const [cache, victim] = [join(folder, 'cache'), join(folder, 'victim')];
      mkdirSync(join(cache, 'a'), { recursive: true });
      writeFileSync(join(cache, 'a/secret'), 'own');
      mkdirSync(victim, { mode: 0o700 });
      writeFileSync(join(victim, 'secret'), SECRET, { mode: 0o600 });
      symlinkSync(link(victim, cache), join(cache, 'l'));
      return { cache: cache as HostPath, victim };
    }

    /** All that changing the folder or the file in it would change. */
    function stateOf(victim: string) {
      const times = [victim, join(victim, 'secret')].map((path) => {
        const { ctimeNs, mode, uid, ino } = statSync(path, { bigint: true });
        return { ctimeNs, mode, uid, ino };
      });
      return { times, names: readdirSync(victim) };
    }

    it.each([
      ['absolute', (victim: string) => victim],
      ['relative', (victim: string, cache: string) => relative(cache, victim)],
    ])(
      "reaches nothing of the host by the other's mounts, and would be noticed: %s symlinks",
      async (_name, link) => {
        const { cache, victim } = lay(link);
        const before = stateOf(victim);
        const swapping = box.run(['attack', 'swap', '/c'], { mounts: [bound(cache)] });
        try {
          let all = '';
          for (const [name, changes] of STEPS) {
            const seen = await manyTimes(cache, changes);
            expect(seen.join('\n'), name).not.toContain(SECRET);
            expect(stateOf(victim), name).toEqual(before);
            all += seen.join();
          }
          expect(all).toContain('started');
          // Whoever looks before it uses a path does get there.
          expect(await until(() => checkedThenMade(cache, victim))).toBe(true);
          expect(await until(() => checkedThenRead(cache))).toBe(true);
        } finally {
          writeFileSync(join(cache, 'stop'), '');
        }
        expect((await swapping).stdout).toBe('swap ok\n');
      },
    );

    /** What the steps printed, and why others did not start: what was there was a symlink to nothing of the image. */
    async function manyTimes(
      cache: HostPath,
      changes: (cache: HostPath, number: number) => Partial<SandboxSpec>,
    ): Promise<readonly string[]> {
      const seen: string[] = [];
      const other = Box.make();
      try {
        for (let number = 0; number < ROUNDS; number += 1) {
          const script = 'echo started; cat /x /x/secret /c/a/secret 2>/dev/null; true';
          const ran = other.sh(script, changes(cache, number));
          seen.push(await ran.then(({ stdout }) => stdout, String));
        }
      } finally {
        other.remove();
      }
      return seen;
    }
  },
);

const MOST_TRIES = 200_000;

/** Tries until something comes of it. */
async function until(attempt: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    try {
      if (attempt()) return true;
    } catch {
      // It was something else a moment ago.
    }
  }
  return false;
}

function checkedThenMade(cache: string, victim: string): boolean {
  if (!lstatSync(join(cache, 'a')).isDirectory()) return false;
  mkdirSync(join(cache, 'a/naive'), { recursive: true });
  return existsSync(join(victim, 'naive'));
}

function checkedThenRead(cache: string): boolean {
  if (!lstatSync(join(cache, 'a')).isDirectory()) return false;
  return readFileSync(join(cache, 'a/secret'), 'utf8') === SECRET;
}
