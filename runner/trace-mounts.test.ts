import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ImagePath, imagePath, type Mount, type SandboxProcess } from '../core/index.ts';
import { CAN_SANDBOX, childProcesses, machineMounts } from './testing/box.ts';
import { observationsOf, TracedBox, usesOf } from './testing/traced-box.ts';

const TARGET = imagePath('mnt');

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

function descendants(pid: number): readonly number[] {
  return childProcesses(pid).flatMap((child) => [child, ...descendants(child)]);
}

describe.skipIf(!CAN_SANDBOX)('the file server of a mounted tree', () => {
  let box: TracedBox;
  let mounts: string;
  beforeAll(async () => {
    box = await TracedBox.make({
      script: 'mkdir -p /app/sub /opaque /gone; echo base > /app/base; echo x > /opaque/x; echo y > /gone/y',
    });
    mounts = machineMounts(box.folder);
    await box.layer(
      'rm /app/base; rm -r /gone /opaque; mkdir /opaque; echo z > /opaque/z; cd /app; echo a > a; ln a b; ln -s a link; chmod 4711 a; mkfifo pipe',
    );
    await box.layer('rm /app/b; echo later > /app/sub/later; chown 5:6 /app/sub');
  });
  afterAll(() => box.remove());
  afterEach(async () => {
    for (let waited = 0; childProcesses().length > 0 && waited < 500; waited += 1) await sleep(10);
    expect(childProcesses()).toEqual([]);
    expect(machineMounts(box.folder)).toBe(mounts);
  });

  /** Runs `script` with all layers at /mnt; `act` is called once it has said something. */
  async function run(
    script: string,
    options: {
      readonly traced?: boolean;
      readonly source?: ImagePath;
      readonly signal?: AbortSignal;
      readonly act?: (started: SandboxProcess, server: number) => Promise<void>;
    } = {},
  ) {
    await using tree = await box.mountable(options.traced);
    await using active = await box.prepare();
    const { source } = options;
    const mount: Mount = {
      type: 'tree',
      root: tree.root,
      target: TARGET,
      readonly: true,
      ...(source === undefined ? {} : { source }),
    };
    const said = Promise.withResolvers<void>();
    let stdout = '';
    const started = await box.runner.start(
      { ...box.spec(active.root, ['sh', '-c', script]), mounts: [mount] },
      {
        mode: 'pipe',
        onOutput: (stream, chunk) => {
          if (stream === 'stdout') stdout += Buffer.from(chunk).toString('latin1');
          said.resolve();
        },
      },
      options.signal === undefined ? {} : { signal: options.signal },
    );
    if (options.act !== undefined) {
      await said.promise;
      const servers = descendants(process.pid).filter((pid) => nameOf(pid) === 'varve-files');
      expect(servers.length).toBe(2);
      await options.act(started, Math.max(...servers));
    }
    return { started, out: () => stdout };
  }

  it('shows what the kernel shows of the same layers, and what the observed tree says of them', async () => {
    const script = `cd /mnt; find app opaque gone opaque/x app/base 2>/dev/null | sort | while read f; do
      [ -d "$f" ] && stat -c '%n %f %u:%g' "$f" || stat -c '%n %f %u:%g %h %s %Y' "$f"; done; cat app/link app/sub/later`;
    const traced = await run(script);
    await traced.started.outcome;
    const plain = await run(script, { traced: false });
    await plain.started.outcome;
    // The kernel counts a name that a layer above has removed.
    expect(traced.out().replace('app/a 89c9 0:0 1', 'app/a 89c9 0:0 2')).toBe(plain.out());
    expect(await plain.started.mountTraces).toEqual(new Map());
    const tree = await box.observed();
    const observations = observationsOf((await traced.started.mountTraces)?.get(TARGET));
    const seen = observations.filter(({ path }) => /^(app|opaque|gone)/.test(path));
    const absent = seen.filter(({ path }) => tree.state(path).kind !== 'present').map(({ path }) => path);
    expect(absent.sort()).toEqual(['app/base', 'gone', 'opaque/x']);
    expect(seen.length).toBe(11);
    expect(usesOf((await traced.started.mountTraces)?.get(TARGET), /^app.(a|link)$/)).toEqual({
      'app/a': 'seen content',
      'app/link': 'seen target',
    });
    expect(tree.list(imagePath('app')).map(({ name }) => name)).toEqual(['a', 'link', 'pipe', 'sub']);
  });

  it('is asked for a part of the tree alone', async () => {
    const { started, out } = await run('cat /mnt; touch /mnt', { source: imagePath('app/link') });
    expect(await started.outcome).toEqual({ kind: 'exited', code: 1 });
    expect(out()).toBe('a\n');
    expect(usesOf((await started.mountTraces)?.get(TARGET), /^app/)).toEqual({
      app: 'seen',
      'app/a': 'seen content',
      'app/link': 'seen target',
    });
  });

  it('that is killed ends the step with an error, whatever the step makes of it', async () => {
    await run('echo ready; while true; do cat /mnt/none$((n++)) 2>/dev/null; done; exit 0', {
      act: async (started, server) => {
        process.kill(server, 'SIGKILL');
        await expect(started.outcome).rejects.toMatchObject({ code: 'trace-lost' });
        await expect(started.mountTraces).rejects.toMatchObject({ code: 'trace-lost' });
      },
    });
  });

  it('that hangs neither keeps a step from being cancelled nor makes its end a hang', async () => {
    const stop = new AbortController();
    await run('echo ready; while true; do cat /mnt/none$((n++)) 2>/dev/null; done', {
      signal: stop.signal,
      act: async (started, server) => {
        process.kill(server, 'SIGSTOP');
        stop.abort();
        expect(await started.outcome).toEqual({ kind: 'cancelled' });
      },
    });
    await run('echo ready; exec sleep 0.2', {
      act: async (started, server) => {
        process.kill(server, 'SIGSTOP');
        await expect(started.outcome).rejects.toMatchObject({ code: 'trace-lost' });
      },
    });
  });
});
