import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, type HostPath, type StepKey } from '../core/index.ts';
import { type Child, startChild } from './fixtures/child.ts';
import { isLocked, NamedLocks, tryLock, waitForLock } from './locks.ts';
import { isSessionAlive, openStepCache } from './store.ts';

let root: HostPath;
let path: HostPath;
const children: Child[] = [];

beforeEach(async () => {
  root = (await mkdtemp(join(tmpdir(), 'varve-locks-'))) as HostPath;
  path = join(root, 'a.lock') as HostPath;
});

afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill()));
  await rm(root, { recursive: true });
});

function start(command: string, session: string): Child {
  const child = startChild('store-process.ts', [command, root, session]);
  children.push(child);
  return child;
}

function sharedKey(): StepKey {
  const text = `{"action":{"definition":{"command":"shared"},"kind":"RUN","version":1},"inputs":[],"parent":"${digestOf('base')}","version":1}`;
  return digestOf(text) as string as StepKey;
}

describe('tryLock', () => {
  it('gives the lock to one at a time and leaves no file behind', () => {
    const first = tryLock(path);
    expect(first).toBeDefined();
    expect(tryLock(path)).toBeUndefined();
    expect(isLocked(path)).toBe(true);
    first?.[Symbol.dispose]();
    first?.[Symbol.dispose]();
    expect(existsSync(path)).toBe(false);
    expect(isLocked(path)).toBe(false);
    using second = tryLock(path);
    expect(second).toBeDefined();
  });

  it('keeps the lock when other openings of the file in this process end', () => {
    using _held = tryLock(path);
    for (let at = 0; at < 3; at += 1) {
      expect(tryLock(path)).toBeUndefined();
      expect(isLocked(path)).toBe(true);
    }
  });

  it('is not taken in by a file that a holder in another process has just removed', async () => {
    const all = Array.from({ length: 4 }, (_, at) => start('spin', `s${at}`));
    const lines = await Promise.all(all.map((child) => child.lines));
    expect(lines.flat()).toEqual(Array<string>(4).fill('taken true'));
  });

  it('fails where the folder cannot be written to', () => {
    expect(() => tryLock(join(root, 'none', 'a.lock') as HostPath)).toThrow(
      expect.objectContaining({ code: 'store-io' }),
    );
  });
});

describe('waitForLock', () => {
  it('never lets two in when many wait for a file that each holder removes', async () => {
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        using _lock = await waitForLock(path);
        inside += 1;
        most = Math.max(most, inside);
        await sleep(1);
        inside -= 1;
      }),
    );
    expect(most).toBe(1);
    expect(readdirSync(root)).toEqual([]);
  });

  it('stops waiting when aborted', async () => {
    using _held = tryLock(path);
    await expect(waitForLock(path, AbortSignal.timeout(30))).rejects.toThrow('timeout');
  });
});

describe('NamedLocks.run', () => {
  it('lets callers of one name in by the order of their coming, and other names at once', async () => {
    const locks = new NamedLocks(root);
    const order: string[] = [];
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>();
    const runs = [1, 2, 3].map((at) =>
      locks.run('x', async () => {
        await gate;
        order.push(`x${at}`);
      }),
    );
    await locks.run('y', async () => void order.push('y'));
    openGate();
    await Promise.all(runs);
    expect(order).toEqual(['y', 'x1', 'x2', 'x3']);
  });

  it('goes on after work that failed and after a waiter that gave up', async () => {
    const locks = new NamedLocks(root);
    const abort = new AbortController();
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>();
    const first = locks.run('x', async () => {
      await gate;
      throw new Error('failed');
    });
    const second = locks.run('x', async () => 'second', abort.signal);
    const third = locks.run('x', async () => 'third');
    abort.abort();
    await expect(second).rejects.toThrow('aborted');
    openGate();
    await expect(first).rejects.toThrow('failed');
    expect(await third).toBe('third');
    expect(readdirSync(root)).toEqual([]);
  });
});

describe('exclusively', () => {
  it('lets a waiter proceed at once when the process that has the lock is killed', async () => {
    const holder = start('work', 'holder');
    await holder.said('working');
    const cache = openStepCache({ root, session: 'waiter', clock: () => 0 });
    let entered = false;
    const waiting = cache.exclusively(sharedKey(), async () => {
      entered = true;
    });
    await sleep(100);
    expect(entered).toBe(false);
    await holder.kill();
    const killed = performance.now();
    await waiting;
    expect(performance.now() - killed).toBeLessThan(3000);
    cache.close();
  });

  it('lets one process in at a time, also while holders are killed', async () => {
    const contenders = Array.from({ length: 3 }, (_, at) => start('contend', `c${at}`));
    const lines = Promise.all(contenders.map((child) => child.lines));
    for (let at = 0; at < 4; at += 1) {
      const victim = start('work', `victim${at}`);
      await victim.said('working');
      await victim.kill();
    }
    expect((await lines).flat()).toEqual([]);
  });

  it('runs a step once that 8 processes want', async () => {
    const all = Array.from({ length: 8 }, (_, at) => start('step', `p${at}`));
    const outcomes = (await Promise.all(all.map((child) => child.lines))).flat();
    expect(outcomes.sort()).toEqual([...Array<string>(7).fill('hit'), 'miss']);
    expect((await readFile(join(root, 'ran'), 'utf8')).split('\n').length).toBe(2);
    expect(readdirSync(join(root, 'locks'))).toEqual([]);
  });
});

describe('isSessionAlive', () => {
  it('is true from opening to close, and false once the process was killed', async () => {
    const child = start('hold', 'child');
    await child.said('holding');
    expect(isSessionAlive(root, 'child')).toBe(true);
    await child.kill();
    expect(isSessionAlive(root, 'child')).toBe(false);
    const cache = openStepCache({ root, session: 'own', clock: () => 0 });
    expect([cache.isAlive('own'), isSessionAlive(root, 'own'), cache.isAlive('never')]).toEqual([
      true,
      true,
      false,
    ]);
    cache.close();
    expect(isSessionAlive(root, 'own')).toBe(false);
    expect(isSessionAlive(root, '../../etc/passwd')).toBe(false);
  });
});
