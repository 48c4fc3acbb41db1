import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { StepSummary } from '../core/index.ts';
import { type BaseName, baseImage, exec } from '../fixtures/index.ts';
import type { Command } from './command.ts';

const VARVE = join(import.meta.dirname, '../bin/varve');

export interface TimedBuild {
  readonly wallMs: number;
  /** User and system time of varve and of all that it started. */
  readonly cpuMs: number;
  readonly steps: readonly StepSummary[];
}

/** `bin/varve` on a state folder of its own. */
export class Store {
  readonly root: string;
  readonly #folder: string;
  readonly #loaded = new Map<BaseName, Promise<void>>();

  /** `folder` exists, and is this store's alone. */
  constructor(folder: string) {
    this.#folder = folder;
    this.root = join(folder, 'root');
  }

  /** Makes `FROM localhost/NAME` work. */
  base(name: BaseName): Promise<void> {
    const loaded = this.#loaded.get(name) ?? this.#load(name);
    this.#loaded.set(name, loaded);
    return loaded;
  }

  async #load(name: BaseName): Promise<void> {
    const archive = join(this.#folder, `${name}.tar`);
    await writeArchive(name, archive);
    await this.varve(['load', '--input', archive]);
    await rm(archive);
  }

  /** Runs varve and returns its standard output. @throws Error where the exit code is not 0. */
  varve(args: readonly string[]): Promise<string> {
    return this.#exec([VARVE, ...args]);
  }

  /** What {@link Store.varve} runs, for who starts it. */
  command(args: readonly string[]): Command {
    const env = { VARVE_ROOT: this.root, VARVE_CONFIG: undefined, XDG_CONFIG_HOME: this.#folder };
    return { argv: [VARVE, ...args], env };
  }

  async #exec(argv: readonly string[], stdin?: string): Promise<string> {
    const { env = {} } = this.command([]);
    return (await exec(argv, { env, ...(stdin === undefined ? {} : { stdin }) })).stdout;
  }

  /** Takes all of it away. */
  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** One build, timed from outside; `flags` end with the context. `dockerfile` is text, or absent for the context's own. */
  async build(flags: readonly string[], dockerfile?: string): Promise<TimedBuild> {
    const metadata = join(this.#folder, 'metadata.json');
    const file = dockerfile === undefined ? [] : ['-f', '-'];
    const args = ['build', '--quiet', '--metadata-file', metadata, ...file, ...flags];
    const times = join(this.#folder, 'times');
    const began = performance.now();
    await this.#exec(['sh', '-c', TIMED, times, VARVE, ...args], dockerfile);
    const wallMs = performance.now() - began;
    const cpuMs = childTimes(await readFile(times, 'utf8'));
    const parsed: { readonly 'varve.steps': readonly StepSummary[] } = JSON.parse(
      await readFile(metadata, 'utf8'),
    );
    return { wallMs, cpuMs, steps: parsed['varve.steps'] };
  }
}

/** Runs what follows, and writes into the file that stands first what processor time it took: POSIX, times. */
const TIMED = '"$@"; code=$?; times > "$0"; exit $code';

/** Milliseconds of the second line, which is that of the children: `0m1.250000s 0m0.340000s`. */
function childTimes(text: string): number {
  const times = [...(text.split('\n')[1] ?? '').matchAll(/(\d+)m([\d.]+)s/g)];
  if (times.length !== 2) throw new Error(`times: ${JSON.stringify(text)}`);
  return times.reduce(
    (sum, [, minutes, seconds]) => sum + Number(minutes) * 60_000 + Number(seconds) * 1000,
    0,
  );
}

/** A base image as an archive that builders load under `localhost/NAME:latest`. */
export async function writeArchive(name: BaseName, path: string): Promise<void> {
  const { transport } = await baseImage(name);
  const archive = `docker-archive:${path}:localhost/${name}:latest`;
  await exec(['skopeo', 'copy', '--quiet', transport, archive]);
}
