import {
  type BuildRequest,
  type HostPath,
  type NetworkMode,
  type Output,
  parseAge,
  parseReference,
  type RunLimits,
  type StepCaching,
  UsageError,
} from '../../core/index.ts';
import { readAnnotations } from './annotation.ts';
import { contextOf, dockerfileOf, namedContextsOf } from './build-context.ts';
import type { BUILD_SPEC } from './build-spec.ts';
import { splitFields } from './csv.ts';
import { parseOutput } from './output.ts';
import { type Environment, readPairs } from './pairs.ts';
import { cgroupParentOf, extraHost, limitsOf, noNewPrivilegesOf, ulimitsOf } from './sandbox-options.ts';
import { checkEntitlement } from './session-options.ts';
import type { FlagValues } from './spec.ts';

/** The arguments of `varve build`, read but not yet looked up in folder or environment. */
export interface BuildOptions {
  readonly flags: FlagValues<(typeof BUILD_SPEC)['flags']>;
  /** `PATH`, `URL` or `-`. */
  readonly context: string;
}

/** What standard input turned out to hold: see `readStdin`. */
export type StdinContent =
  | { readonly kind: 'archive'; readonly path: HostPath }
  | { readonly kind: 'text'; readonly text: string };

/** What a request takes from around the command line. */
export interface RequestSurroundings {
  readonly cwd: string;
  readonly env: Environment;
  readonly id: string;
  /** How many steps run at once unless `--parallelism` says otherwise. */
  readonly parallelism: number;
  /** Is there a folder of this name? */
  readonly isFolder: (path: string) => boolean;
  /** Present where {@link readsStdin} says that it is needed. */
  readonly stdin?: StdinContent;
}

/** Must standard input be read before {@link toBuildRequest}? */
export function readsStdin(options: BuildOptions): boolean {
  return options.context === '-' || options.flags.file === '-';
}

/** @throws UsageError where flags do not go together or hold values that mean nothing. */
export function toBuildRequest(options: BuildOptions, around: RequestSurroundings): BuildRequest {
  const { flags } = options;
  const { outputs, names } = readOutputs(options, around.cwd);
  const annotations = readAnnotations(flags.annotation);
  const tags = [...flags.tag, ...names];
  for (const tag of tags) checkTag(tag);
  if (outputs.some((output) => output.type === 'image' && output.push) && tags.length === 0) {
    throw new UsageError(
      '--push needs a name for the image',
      'Give one with --tag [registry/]repository[:tag].',
    );
  }
  const { DOCKER_DEFAULT_PLATFORM: usual = '' } = around.env;
  const asked = flags.platform.length > 0 || usual === '' ? flags.platform : [usual];
  const platforms = asked.flatMap((text) => text.split(',')).map((text) => text.trim());
  for (const platform of platforms) checkPlatform(platform);
  return {
    id: around.id,
    context: contextOf(options, around),
    dockerfile: dockerfileOf(options, around),
    ...namedContextsOf(options, around),
    ...(flags.target === undefined || flags.target === '' ? {} : { target: flags.target }),
    buildArgs: { ...epochOf(around.env), ...readPairs(flags['build-arg'], '--build-arg', around.env) },
    labels: readPairs(flags.label, '--label'),
    tags,
    noCache: flags['no-cache'],
    noCacheFilter: flags['no-cache-filter'].flatMap((text) => text.split(',')).filter((name) => name !== ''),
    caching: cachingOf(flags),
    ...(flags['verify-cache'] ? { verifyCache: true } : {}),
    pull: flags.pull,
    ...(platforms.length === 0 ? {} : { platforms }),
    network: networkOf(flags.network),
    ...runLimitsOf(flags),
    ...entitlementsOf(flags.allow),
    outputs,
    ...(annotations.length === 0 ? {} : { annotations }),
    parallelism: parallelismOf(flags.parallelism, around.parallelism),
  };
}

/** As buildx has it, SOURCE_DATE_EPOCH of the environment counts as a build argument. */
function epochOf({ SOURCE_DATE_EPOCH }: Environment): Readonly<Record<string, string>> {
  return SOURCE_DATE_EPOCH === undefined || SOURCE_DATE_EPOCH === '' ? {} : { SOURCE_DATE_EPOCH };
}

function readOutputs(options: BuildOptions, cwd: string): { outputs: Output[]; names: string[] } {
  const { flags } = options;
  const parsed = flags.output.map((text) => parseOutput(text, cwd));
  const outputs = parsed.flatMap(({ output }) => (output === undefined ? [] : [output]));
  const pushed = outputs.findIndex(({ type }) => type === 'image');
  const image = outputs[pushed];
  if (flags.push && image?.type === 'image') outputs[pushed] = { ...image, push: true };
  else if (flags.push) outputs.push({ type: 'image', push: true });
  if (flags.load && !outputs.some(({ type }) => type === 'daemon')) outputs.push({ type: 'daemon' });
  if (parsed.length === 0 && outputs.length === 0) outputs.push({ type: 'image', push: false });
  const toStdout = outputs.filter(
    (output) => 'dest' in output && typeof output.dest === 'object' && output.dest.kind === 'stdout',
  );
  if (toStdout.length > 1) throw new UsageError('--output: only one output can go to standard output');
  return { outputs, names: parsed.flatMap(({ names }) => names) };
}

function checkTag(tag: string): void {
  const reference = parseReference(tag);
  if (!reference.ok) throw new UsageError(`invalid tag ${JSON.stringify(tag)}: ${reference.error}`);
  if (reference.value.digest !== undefined) {
    throw new UsageError(`invalid tag ${JSON.stringify(tag)}: a name for a new image cannot hold a digest`);
  }
}

function checkPlatform(platform: string): void {
  if (/^[A-Za-z0-9_.-]+(?:\/[A-Za-z0-9_.-]+){0,2}$/.test(platform)) return;
  throw new UsageError(
    `invalid platform ${JSON.stringify(platform)}`,
    'Write os/architecture, as in linux/amd64.',
  );
}

function parallelismOf(given: number | undefined, fallback: number): number {
  if (given === undefined) return fallback;
  if (Number.isInteger(given) && given > 0) return given;
  throw new UsageError('--parallelism must be a whole number above 0');
}

function cachingOf(flags: BuildOptions['flags']): StepCaching {
  const age = flags['cache-ttl'];
  const ttlMs = age === undefined ? undefined : parseAge(age);
  if (age !== undefined && ttlMs === undefined) {
    throw new UsageError(
      `--cache-ttl: ${JSON.stringify(age)} is no age`,
      'Write a number with a unit: 90m, 12h, 7d.',
    );
  }
  const noise = flags['cache-noise'];
  const wrong = noise.find((pattern) => !pattern.startsWith('/'));
  if (wrong !== undefined) {
    throw new UsageError(`--cache-noise: ${JSON.stringify(wrong)} is no absolute path in the image`);
  }
  const mode = flags.cache === 'exact' ? 'exact' : 'observed';
  return { mode, noise, ...(ttlMs === undefined ? {} : { ttlMs }) };
}

/** What holds for the sandboxes of all steps; absent where nothing was said. */
function runLimitsOf(flags: BuildOptions['flags']): Pick<BuildRequest, 'runLimits'> {
  const resources = limitsOf(flags);
  const ulimits = ulimitsOf(flags.ulimit);
  const extraHosts = flags['add-host'].flatMap((text) => splitFields(text, '--add-host')).map(extraHost);
  const noNewPrivileges = noNewPrivilegesOf(flags['security-opt']);
  const cgroupParent = cgroupParentOf(flags['cgroup-parent']);
  const shmSizeBytes = flags['shm-size'];
  const runLimits: RunLimits = {
    ...(extraHosts.length === 0 ? {} : { extraHosts }),
    ...(ulimits.length === 0 ? {} : { ulimits }),
    ...(shmSizeBytes === undefined || shmSizeBytes <= 0 ? {} : { shmSizeBytes }),
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
    ...(cgroupParent === undefined ? {} : { cgroupParent }),
    ...(noNewPrivileges ? { noNewPrivileges } : {}),
  };
  return Object.keys(runLimits).length === 0 ? {} : { runLimits };
}

function entitlementsOf(allowed: readonly string[]): Pick<BuildRequest, 'entitlements'> {
  const entitlements = allowed.flatMap((text) => text.split(',')).filter((text) => text !== '');
  for (const text of entitlements) checkEntitlement(text);
  return entitlements.length === 0 ? {} : { entitlements };
}

function networkOf(text: string | undefined): NetworkMode {
  return text === 'none' || text === 'host' ? text : 'default';
}
