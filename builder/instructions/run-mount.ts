import { baseName, type ImagePath, imagePath, ROOT_PATH, type SourceRange } from '../../core/index.ts';
import { type Flag, type Mount, type MountFlag, readMount } from '../../parser/index.ts';
import type { AgentMount, BindMount, CacheMount, RunMount, SecretMount } from '../graph.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

/** What `RUN --mount=...` means in its stage. `agents`: how many agents the step has already. */
export function planMount(flag: MountFlag, stage: StageDraft, agents: number): RunMount {
  const { range } = flag;
  const read = readMount(flag, (word) => stage.expand(word));
  if (!read.ok) {
    const { message, range: at, hint } = read.error;
    stop('invalid-mount', message, { range: at, ...(hint === undefined ? {} : { hint }) });
  }
  const mount = read.value;
  switch (mount.type) {
    case 'tmpfs': {
      const { sizeBytes = 0, readOnly } = mount;
      return {
        type: 'tmpfs',
        target: targetOf(mount, stage, range),
        ...(sizeBytes === 0 ? {} : { sizeBytes }),
        ...(readOnly ? { readonly: true } : {}),
      };
    }
    case 'bind':
      return bindMount(mount, stage, flag);
    case 'cache':
      return cacheMount(mount, stage, flag);
    case 'secret':
      return secretMount(mount, stage, range);
    case 'ssh':
      return agentMount(mount, { stage, range, agents });
  }
}

/** The stage or image whose files a `--mount` takes, as a `--from` flag, as written; undefined where it takes none. */
export function mountSource({ fields, range }: MountFlag): Flag | undefined {
  const last = (key: string) => fields.findLast((field) => field.key === key)?.value?.text;
  const value = last('from') ?? '';
  if (value === '' || last('type')?.toLowerCase() === 'tmpfs') return undefined;
  return { name: 'from', value, range };
}

type Of<T extends Mount['type']> = Extract<Mount, { readonly type: T }>;

function bindMount({ source = '', ...mount }: Of<'bind'>, stage: StageDraft, flag: MountFlag): BindMount {
  const from = mountSource(flag)?.value;
  return {
    type: 'bind',
    target: targetOf(mount, stage, flag.range),
    from: from === undefined ? { kind: 'context' } : stage.context.treeNamed(from),
    source: imagePath(source),
    readonly: mount.readOnly,
    range: flag.range,
  };
}

function cacheMount(mount: Of<'cache'>, stage: StageDraft, flag: MountFlag): CacheMount {
  const { source = '', id, mode, uid, gid } = mount;
  const from = mountSource(flag)?.value;
  const isNewFolder = imagePath(source) === ROOT_PATH && [mode, uid, gid].some((one) => one !== undefined);
  return {
    type: 'cache',
    target: targetOf(mount, stage, flag.range),
    id: inNamespace(id ?? cleanPath(mount.target ?? ''), stage),
    sharing: mount.sharing,
    readonly: mount.readOnly,
    // With an owner or a mode the folder is made anew, and what `from` holds is out of sight.
    from: from === undefined || isNewFolder ? { kind: 'scratch' } : stage.context.treeNamed(from),
    source: imagePath(source),
    mode: mode ?? 0o755,
    uid: uid ?? 0,
    gid: gid ?? 0,
    range: flag.range,
  };
}

/** Projects that build with a namespace of their own share no cache mounts with others. */
function inNamespace(id: string, { context }: StageDraft): string {
  const namespace = context.buildArgs.get('BUILDKIT_CACHE_MOUNT_NS') ?? '';
  return namespace === '' ? id : `${namespace}/${id}`;
}

/** Go's `path.Clean`, which an id comes from: a relative path stays one. */
function cleanPath(path: string): string {
  const clean = imagePath(path);
  if (path.startsWith('/')) return `/${clean}`;
  return clean === '' ? '.' : clean;
}

function secretMount(mount: Of<'secret'>, stage: StageDraft, range: SourceRange): SecretMount {
  const { id, env } = mount;
  const place = mount.target ?? (env === undefined ? `/run/secrets/${baseName(imagePath(id))}` : undefined);
  const path = place === undefined ? undefined : imagePath(place, stage.workdir);
  if (path !== undefined) checkTarget(path, range);
  return {
    type: 'secret',
    id,
    ...(path === undefined ? {} : { target: path }),
    ...(env === undefined ? {} : { env }),
    required: mount.required,
    mode: mount.mode ?? 0o400,
    uid: mount.uid ?? 0,
    gid: mount.gid ?? 0,
    range,
  };
}

/** `agents`: how many the step has already. */
function agentMount(
  mount: Of<'ssh'>,
  {
    stage,
    range,
    agents,
  }: { readonly stage: StageDraft; readonly range: SourceRange; readonly agents: number },
): AgentMount {
  const path = imagePath(mount.target ?? `/run/buildkit/ssh_agent.${agents}`, stage.workdir);
  checkTarget(path, range);
  return {
    type: 'ssh',
    id: mount.id ?? 'default',
    target: path,
    required: mount.required,
    mode: mount.mode ?? 0o600,
    uid: mount.uid ?? 0,
    gid: mount.gid ?? 0,
    range,
  };
}

/** A relative target lies in the work folder, and none at all means that folder itself. */
function targetOf({ target = '' }: { readonly target?: string }, stage: StageDraft, range: SourceRange) {
  const path = imagePath(target, stage.workdir);
  checkTarget(path, range);
  return path;
}

/** Files of /proc that may be covered, as with runc; the others tell the sandbox's own set-up what it is. */
const COVERED_PROC: readonly string[] = [
  'cpuinfo',
  'diskstats',
  'loadavg',
  'meminfo',
  'net/dev',
  'slabinfo',
  'stat',
  'swaps',
  'sys/crypto/fips_enabled',
  'sys/kernel/ns_last_pid',
  'uptime',
];

function checkTarget(path: ImagePath, range: SourceRange): void {
  if (path === ROOT_PATH) refuseRoot(range);
  const [top, ...below] = path.split('/');
  if (top !== 'proc' || COVERED_PROC.includes(below.join('/'))) return;
  stop('invalid-mount', `invalid mount target "/${path}": it is the kernel's`, {
    range,
    hint: 'Mount elsewhere: nothing may lie on /proc.',
  });
}

function refuseRoot(range: SourceRange): never {
  stop('invalid-mount', `invalid mount target "/"`, {
    range,
    hint: 'Say where to mount with target=PATH; the root itself cannot be covered.',
  });
}
