import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DiffId, imagePath, isDigest } from '../core/index.ts';
import { isRoot, Rig } from './test-rig.ts';

const CHILD = fileURLToPath(new URL('./test-child.ts', import.meta.url));

interface Ending {
  readonly committed: readonly DiffId[];
  readonly status: number | null;
  readonly log: string;
}

describe.skipIf(!isRoot).each(['overlay', 'copy'] as const)(
  'processes on one store, %s driver:',
  (driver) => {
    let rig: Rig;
    beforeEach(() => {
      rig = new Rig(driver);
    });
    afterEach(() => rig.dispose());

    /** Runs a child; kills it `killAfterMs` after its first commit, where given. */
    function run(session: string, count: number, killAfterMs?: number): Promise<Ending> {
      const child = spawn(process.execPath, [CHILD, rig.root, driver, session, `${count}`], {
        stdio: 'pipe',
      });
      let output = '';
      let log = '';
      child.stderr.on('data', (chunk: Buffer) => {
        log += chunk.toString();
      });
      child.stdout.on('data', (chunk: Buffer) => {
        if (output === '' && killAfterMs !== undefined) setTimeout(() => child.kill('SIGKILL'), killAfterMs);
        output += chunk.toString();
      });
      return new Promise((resolve) => {
        child.once('close', (status) => {
          const committed = output.split('\n').filter((line): line is DiffId => isDigest(line));
          resolve({ committed, status, log });
        });
      });
    }

    const names = (path: string) => readdirSync(join(rig.root, path));

    test('four of them commit the same diffs at once', async () => {
      const endings = await Promise.all(['a', 'b', 'c', 'd'].map((session) => run(session, 8)));
      for (const ending of endings) {
        expect(ending).toMatchObject({ status: 0, log: '' });
        expect(ending.committed).toHaveLength(8);
      }
      expect(names('diffs/sha256')).toHaveLength(8);
      expect(names('diffs/data')).toHaveLength(8);
      expect(names('trash')).toEqual([]);
    });

    test('kill -9 at any moment leaves sound diffs, no mounts, and nothing after a sweep', async () => {
      for (const killAfterMs of [0, 7, 23, 40, 61]) {
        const ending = await run(`child-${killAfterMs}`, 1000, killAfterMs);
        expect(ending.status).toBeNull();
        expect(ending.log).toBe('');
        expect(ending.committed.length).toBeGreaterThan(0);
        const snapshotter = rig.open();
        for (const diffId of ending.committed) {
          const found = await snapshotter.find([diffId]);
          const place = await found?.tree().hostPath(imagePath('a/f'));
          expect(readFileSync(place ?? '', 'utf8')).toMatch(/^content of \d+$/);
        }
        await snapshotter.sweep(() => false);
        expect(names('active')).toEqual(['one']);
        expect(names('active/one')).toEqual([]);
        expect(names('trash')).toEqual([]);
        expect(names('diffs/data').length).toBe(names('diffs/sha256').length);
        await snapshotter.remove((await snapshotter.diffs()).map((diff) => diff.diffId));
        expect(names('diffs/data')).toEqual([]);
      }
      // Only those of this store: other tests mount at the same time.
      const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
      expect(mounts.filter((line) => line.includes(rig.root))).toEqual([]);
    });
  },
);
