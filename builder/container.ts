import {
  type CommittedSnapshot,
  type ImageConfig,
  imagePath,
  MachineError,
  type Mount,
  type ResourceLimits,
  type Runner,
  type SandboxIo,
  type SandboxProcess,
  type SandboxSpec,
  type Snapshotter,
  type Ulimit,
} from '../core/index.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { lookUpUser } from './users.ts';
import { DEFAULT_PATH, formatEnvironment, readEnvironment } from './variables.ts';

/** What a container is started with; what is absent comes from the image's configuration. */
export interface ContainerRequest {
  /** Replaces the image's CMD where it is not empty. */
  readonly command: readonly string[];
  /** Replaces ENTRYPOINT and drops CMD; `''` means none. */
  readonly entrypoint?: string;
  /** `NAME=value`, on top of the image's. */
  readonly env: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly hostname: string;
  readonly mounts: readonly Mount[];
  readonly network: 'default' | 'host' | 'none';
  readonly extraHosts: SandboxSpec['extraHosts'];
  readonly limits: ResourceLimits;
  readonly ulimits?: readonly Ulimit[];
  readonly cgroupParent?: string;
  readonly readonlyRoot: boolean;
  readonly noNewPrivileges: boolean;
  readonly shmSizeBytes: number;
  readonly tty: boolean;
  /** Names the sandbox; see `SandboxSpec.id`. */
  readonly id: string;
}

export interface ContainerImage {
  readonly config: ImageConfig;
  /** Undefined for an image without layers. */
  readonly snapshot: CommittedSnapshot | undefined;
}

/**
 * Starts a container on a writable layer over the image. The layer is thrown away when the process has ended, before the
 * outcome is told.
 *
 * @throws MachineError `no-command` where neither the image nor the request names a program; `unknown-user`.
 */
export async function startContainer(
  parts: { readonly snapshotter: Snapshotter; readonly runner: Runner },
  image: ContainerImage,
  call: { readonly request: ContainerRequest; readonly io: SandboxIo; readonly signal: AbortSignal },
): Promise<SandboxProcess> {
  const { request, io, signal } = call;
  const args = commandLine(image.config, request);
  const { env, user, home } = await identity(image, request);
  const active = await parts.snapshotter.prepare(image.snapshot);
  try {
    const child = await parts.runner.start(
      {
        root: active.root,
        readonlyRoot: request.readonlyRoot,
        mounts: request.mounts,
        args,
        env: formatEnvironment(
          new Map([
            ['PATH', DEFAULT_PATH],
            ['HOSTNAME', request.hostname],
            ...(request.tty ? [['TERM', 'xterm'] as const] : []),
            ['HOME', home],
            ...env,
          ]),
        ),
        cwd: imagePath(request.workdir ?? image.config.config?.WorkingDir ?? '/'),
        user,
        hostname: request.hostname,
        network: request.network,
        extraHosts: request.extraHosts,
        limits: request.limits,
        ...(request.ulimits === undefined ? {} : { ulimits: request.ulimits }),
        ...(request.cgroupParent === undefined ? {} : { cgroupParent: request.cgroupParent }),
        shmSizeBytes: request.shmSizeBytes,
        security: 'default',
        noNewPrivileges: request.noNewPrivileges,
        id: request.id,
      },
      io,
      { signal },
    );
    const outcome = child.outcome.finally(() => active[Symbol.asyncDispose]());
    return {
      outcome,
      trace: child.trace,
      signal: (name) => child.signal(name),
      resize: (size) => child.resize(size),
    };
  } catch (error) {
    await active[Symbol.asyncDispose]();
    throw error;
  }
}

function commandLine(config: ImageConfig, request: ContainerRequest): readonly string[] {
  const { Entrypoint, Cmd } = config.config ?? {};
  const { entrypoint } = request;
  const given = entrypoint !== undefined;
  const program = given ? [entrypoint].filter((part) => part !== '') : (Entrypoint ?? []);
  const command = request.command.length > 0 || given ? request.command : (Cmd ?? []);
  const args = [...program, ...command];
  if (args.length === 0) {
    throw new MachineError('no-command', 'no command specified', {
      hint: 'The image names no program: write one behind the image, such as /bin/sh.',
    });
  }
  return args;
}

async function identity(image: ContainerImage, request: ContainerRequest) {
  const env = readEnvironment([...(image.config.config?.Env ?? []), ...request.env]);
  const user = await lookUpUser(
    image.snapshot?.tree() ?? EMPTY_TREE,
    request.user ?? image.config.config?.User ?? '',
  );
  if (!user.ok) {
    throw new MachineError('unknown-user', user.error, {
      hint: 'Name a user of the image with -u, or give numbers: -u 1000:1000.',
    });
  }
  return { env, user: user.value, home: user.value.home };
}
