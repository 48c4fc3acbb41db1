import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CAN_SANDBOX } from './testing/box.ts';
import { TracedBox, usesOf } from './testing/traced-box.ts';

const FILES = 400;

/** Of these folders `deep` has, with 20 files in each. */
const FOLDERS = 30;

describe.skipIf(!CAN_SANDBOX)('reading ahead', () => {
  let box: TracedBox;
  beforeAll(async () => {
    box = await TracedBox.make();
    await box.layer(`
      mkdir -p /app/flat /app/other; cd /app/flat
      for i in $(seq 1000 ${999 + FILES}); do echo "content of $i" > $i; done
      for i in $(seq 1000 1099); do echo "other $i" > /app/other/$i; done
      for d in $(seq 10 ${9 + FOLDERS}); do mkdir -p /app/deep/$d
        for i in $(seq 10 29); do echo "deep $d $i" > /app/deep/$d/$i; done; done`);
  });
  afterAll(() => box.remove());

  /** The paths that fit `among` and of which the script's step used this. */
  const pathsUsed = async (script: string, use: string, among: RegExp) => {
    const { outcome, trace, stdout } = await box.sh(script);
    expect(outcome).toEqual({ kind: 'exited', code: 0 });
    const uses = Object.entries(usesOf(trace, among));
    return { read: uses.flatMap(([path, words]) => (words.includes(use) ? [path] : [])), stdout };
  };
  const contentRead = (script: string) => pathsUsed(script, 'content', /^app\/(flat|other|deep)\//);
  const foldersListed = (script: string) => pathsUsed(script, 'listing', /^app\/deep\/\d+$/);

  it('a walk through a folder reads the right bytes, and all of them count as read', async () => {
    const script = 'cd /app/flat; for i in *; do cat $i; done | sha256sum';
    const { read, stdout } = await contentRead(script);
    expect(read).toHaveLength(FILES);
    expect(stdout).toBe((await box.sh(script, { traced: false })).stdout);
  });

  it('so does a walk in no order', async () => {
    const script = 'cd /app/flat; for i in $(ls -r); do cat $i; done | sha256sum';
    const { read, stdout } = await contentRead(script);
    expect(read).toHaveLength(FILES);
    expect(stdout).toBe((await box.sh(script, { traced: false })).stdout);
  });

  it('a few files of a listed folder count alone', async () => {
    const { read } = await contentRead('cd /app/flat; ls > /dev/null; cat 1010 1200 1399 > /dev/null');
    expect(read).toEqual(['app/flat/1010', 'app/flat/1200', 'app/flat/1399']);
  });

  it('files of a folder that nobody listed count alone', async () => {
    const { read } = await contentRead(
      'cd /app/flat; for i in $(seq 1000 1050); do cat $i; done > /dev/null',
    );
    expect(read).toHaveLength(51);
  });

  it('a walk that stops has at most one more window read', async () => {
    const { read } = await contentRead(
      'cd /app/flat; n=0; for i in *; do cat $i; n=$((n+1)); [ $n = 50 ] && break; done > /dev/null; sleep 0.5',
    );
    expect(read.length).toBeGreaterThanOrEqual(50);
    expect(read.length).toBeLessThan(50 + 2 * 192);
  });

  it('another folder that is only listed is not read', async () => {
    const { read } = await contentRead(
      'cd /app/flat; cat * > /dev/null; ls -l /app/other > /dev/null; sleep 0.3',
    );
    expect(read.filter((path) => path.startsWith('app/other'))).toEqual([]);
  });

  it('a walk through folders reads the right bytes, and all of them count as read', async () => {
    const script = 'cd /app; grep -r deep deep | sort | sha256sum';
    const { read, stdout } = await contentRead(script);
    expect(read).toHaveLength(FOLDERS * 20);
    expect(stdout).toBe((await box.sh(script, { traced: false })).stdout);
  });

  it('a walk through folders that stops has at most one more window read', async () => {
    const written = 200_000;
    const { read } = await contentRead(`cd /app; tar -cf - deep | head -c ${written} > /dev/null; sleep 0.5`);
    const inPipe = 64 * 1024 + 10 * 1024;
    expect(read.length).toBeGreaterThan(120);
    expect(read.length).toBeLessThan((written + inPipe) / 1024 + 2 * 192);
  });

  it('a walk ends where its own listings end', async () => {
    const { read } = await contentRead(
      'cd /app; tar -cf - deep/10 deep/11 deep/12 deep/13 deep/14; sleep 0.3',
    );
    expect(read).toHaveLength(5 * 20);
  });

  it('folders that one process lists and another reads end the reading ahead', async () => {
    const { read } = await contentRead('cd /app; for d in deep/1?; do cat $d/* > /dev/null; done; sleep 0.3');
    expect(read).toHaveLength(10 * 20);
  });

  it('a process that looks up all names of folder after folder finds the right ones, in folders that count as listed', async () => {
    const script = 'cd /app; find deep -type f -size +0 | sort | sha256sum';
    const { read, stdout } = await foldersListed(script);
    expect(read).toHaveLength(FOLDERS);
    expect(stdout).toBe((await box.sh(script, { traced: false })).stdout);
  });

  it('folders beside those that it lists are left alone', async () => {
    const { read } = await foldersListed('cd /app/deep; find 1? -type f -size +0 > /dev/null; sleep 0.3');
    expect(read).toHaveLength(10);
  });

  it('a step goes on where the process that reads ahead is killed', async () => {
    await using active = await box.prepare();
    const script = 'cd /app/flat; for i in *; do cat $i; [ $i = 1049 ] && sleep 1; done | wc -l; sleep 0.2';
    const chunks: Uint8Array[] = [];
    const started = await box.runner.start(box.spec(active.root, ['sh', '-c', script]), {
      mode: 'pipe',
      onOutput: (_stream, chunk) => chunks.push(chunk),
    });
    const readers = () =>
      readdirSync('/proc').filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'varve-ahead\n' && isOurs(pid);
        } catch {
          return false;
        }
      });
    await expect.poll(() => readers().length, { timeout: 10_000 }).toBe(1);
    for (const pid of readers()) process.kill(Number(pid), 'SIGKILL');
    expect(await started.outcome).toEqual({ kind: 'exited', code: 0 });
    expect(Buffer.concat(chunks).toString().trim()).toBe(String(FILES));
    expect((await started.trace)?.kind).toBe('traced');
  });
});

/** Was the process started by a supervisor that our server forked? */
function isOurs(pid: string): boolean {
  const parentOf = (one: string) =>
    /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${one}/status`, 'utf8'))?.[1] ?? '';
  return parentOf(parentOf(parentOf(pid))) === String(process.pid);
}
