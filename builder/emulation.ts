import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import {
  DEFAULT_SHM_BYTES,
  type HostPath,
  imagePath,
  joinHost,
  type Platform,
  ROOT_USER,
  type Runner,
  type SourceRange,
} from '../core/index.ts';
import { formatPlatform } from '../image/index.ts';
import { probeProgram } from './probe-program.ts';
import { stop } from './stop.ts';

export interface EmulationParts {
  readonly runner: Runner;
  readonly temporary: HostPath;
  /** This machine's. */
  readonly platform: Platform;
}

const HINT =
  'Register an emulator: on Debian, install qemu-user-static and binfmt-support. Or run this step on the machine that builds, with FROM --platform=$BUILDPLATFORM.';

/**
 * Knows on which platforms this machine's sandboxes can run programs. That is tried out, with a program of a few bytes in
 * an empty root: only so do all ways count in which a kernel may come to run it, and no others. One try for each
 * architecture.
 */
export class Emulation {
  readonly #parts: EmulationParts;
  readonly #tried = new Map<string, Promise<boolean>>();

  constructor(parts: EmulationParts) {
    this.#parts = parts;
  }

  /** Ends the build at `range` where programs of `platform` do not run here. */
  async need(platform: Platform, range: SourceRange, signal: AbortSignal): Promise<void> {
    if (await this.#runs(platform, signal)) return;
    const here = formatPlatform(this.#parts.platform);
    stop('no-emulator', `programs for ${formatPlatform(platform)} do not run on this machine (${here})`, {
      range,
      hint: HINT,
    });
  }

  #runs({ os, architecture }: Platform, signal: AbortSignal): Promise<boolean> {
    if (os !== this.#parts.platform.os) return Promise.resolve(false);
    if (architecture === this.#parts.platform.architecture) return Promise.resolve(true);
    const known = this.#tried.get(architecture);
    if (known !== undefined) return known;
    const tried = this.#try(architecture, signal);
    this.#tried.set(architecture, tried);
    return tried;
  }

  async #try(architecture: string, signal: AbortSignal): Promise<boolean> {
    const program = probeProgram(architecture);
    if (program === undefined) return false;
    const { runner, temporary } = this.#parts;
    const folder = (await mkdtemp(joinHost(temporary, 'probe-'))) as HostPath;
    try {
      const file = joinHost(folder, 'probe');
      await writeFile(file, program);
      await chmod(file, 0o755);
      const child = await runner.start(
        {
          root: { type: 'directory', path: folder, readonly: false },
          readonlyRoot: false,
          mounts: [],
          args: ['/probe'],
          env: [],
          cwd: imagePath('/'),
          user: ROOT_USER,
          hostname: 'probe',
          network: 'none',
          extraHosts: [],
          limits: {},
          shmSizeBytes: DEFAULT_SHM_BYTES,
          security: 'default',
          noNewPrivileges: false,
          id: `probe-${architecture}`,
        },
        { mode: 'pipe', onOutput: () => {} },
        { signal },
      );
      const outcome = await child.outcome;
      signal.throwIfAborted();
      return outcome.kind === 'exited' && outcome.code === 0;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}
