import { resolve } from 'node:path';
import {
  type HostPath,
  type ImageAnnotation,
  type ImageForm,
  type LayerForm,
  type Output,
  type OutputDest,
  UsageError,
} from '../../core/index.ts';
import { annotationAt } from './annotation.ts';
import { splitFields, splitPair } from './csv.ts';
import { nearest } from './nearest.ts';

const TYPES = ['local', 'tar', 'oci', 'docker', 'image', 'registry', 'cacheonly'];
const ATTRIBUTES = [
  'type',
  'dest',
  'tar',
  'push',
  'push-by-digest',
  'name',
  'compression',
  'compression-level',
  'force-compression',
  'oci-mediatypes',
  'rewrite-timestamp',
  'platform-split',
  'unpack',
  'store',
  'name-canonical',
];
/** Attributes of buildx's that cannot mean anything here, with what to do instead. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  context: 'DOCKER_HOST names the Docker daemon that gets the image.',
  'dangling-name-prefix': 'Images without a name are found by their ID: see --iidfile and --metadata-file.',
  'registry.insecure':
    'Say in config.toml which registries are insecure: [registry."HOST"] with http or insecure.',
  'attestation-prefix': 'varve makes no attestations.',
  'oci-artifact': 'varve makes no attestations.',
  mode: 'Files that are in the folder already stay there.',
};
const COMPRESSIONS = ['uncompressed', 'gzip', 'zstd'] as const;
const FLAG = '--output';

export interface ParsedOutput {
  /** Absent for `type=cacheonly`: nothing is written. */
  readonly output?: Output;
  /** References from `name=`. */
  readonly names: readonly string[];
}

/**
 * One value of `--output`: `type=oci,dest=app.tar`, or a folder, or `-` for a tar on standard output
 * (https://docs.docker.com/reference/cli/docker/buildx/build/#output). Paths are taken from `cwd`.
 *
 * @throws UsageError
 */
export function parseOutput(text: string, cwd: string): ParsedOutput {
  const fields = splitFields(text, FLAG);
  if (fields.length === 1 && !text.includes('=')) {
    if (text === '') throw new UsageError(`${FLAG} must not be empty`);
    if (text === '-') return { output: { type: 'tar', dest: { kind: 'stdout' } }, names: [] };
    return { output: { type: 'local', dest: hostPath(text, cwd) }, names: [] };
  }
  const attributes = readAttributes(fields, text);
  const names = (attributes.get('name') ?? '').split(',').filter((name) => name !== '');
  const form = formOf(attributes, readOutputAnnotations(fields));
  const output = outputOf(attributes, cwd, form === undefined ? {} : { form });
  return output === undefined ? { names } : { output, names };
}

function readAttributes(fields: readonly string[], text: string): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const field of fields) {
    const [key, value] = splitPair(field.trim());
    if (value === undefined)
      throw new UsageError(
        `invalid value ${JSON.stringify(text)} for ${FLAG}: no "=" in ${JSON.stringify(field)}`,
      );
    if (isAnnotation(key)) continue;
    const name = key.toLowerCase();
    if (!ATTRIBUTES.includes(name)) {
      const guess = nearest(name, ATTRIBUTES);
      const near = guess === undefined ? undefined : `Did you mean ${guess}?`;
      throw new UsageError(
        `${FLAG}: the attribute ${JSON.stringify(key)} is not supported`,
        Object.hasOwn(ELSEWHERE, name) ? ELSEWHERE[name] : near,
      );
    }
    attributes.set(name, value);
  }
  return attributes;
}

function outputOf(
  attributes: ReadonlyMap<string, string>,
  cwd: string,
  form: { readonly form?: ImageForm },
): Output | undefined {
  const type = attributes.get('type');
  const dest = attributes.get('dest');
  // Layers always keep to SOURCE_DATE_EPOCH; a word that is neither yes nor no is still wrong.
  for (const name of ['rewrite-timestamp', 'unpack', 'store', 'name-canonical'])
    flagOf(attributes, name, false);
  switch (type) {
    case undefined:
      throw new UsageError(`${FLAG}: "type=" is missing`);
    case 'cacheonly':
      return undefined;
    case 'local':
      if (dest === undefined || dest === '-') throw new UsageError(`${FLAG}: type=local needs dest=FOLDER`);
      return { type, dest: hostPath(dest, cwd), ...splitOf(attributes) };
    case 'tar':
      return { type, dest: outputDest(dest, cwd), ...splitOf(attributes) };
    case 'docker':
    case 'oci': {
      const tar = flagOf(attributes, 'tar', true);
      if (type === 'docker' && dest === undefined) return { type: 'daemon', ...form };
      if (!tar && (dest === undefined || dest === '-')) {
        throw new UsageError(`${FLAG}: type=${type},tar=false needs dest=FOLDER`);
      }
      return { type, tar, dest: outputDest(dest, cwd), ...form };
    }
    case 'image':
    case 'registry': {
      const byDigest = flagOf(attributes, 'push-by-digest', false);
      const push = byDigest || flagOf(attributes, 'push', type === 'registry');
      return { type: 'image', push, ...(byDigest ? { byDigest } : {}), ...form };
    }
    default: {
      const guess = nearest(type, TYPES);
      throw new UsageError(
        `${FLAG}: unknown type ${JSON.stringify(type)}: use ${TYPES.join(', ')}`,
        guess === undefined ? undefined : `Did you mean type=${guess}?`,
      );
    }
  }
}

function splitOf(attributes: ReadonlyMap<string, string>): { readonly platformSplit?: boolean } {
  if (!attributes.has('platform-split')) return {};
  return { platformSplit: flagOf(attributes, 'platform-split', false) };
}

/** How the image is to be written; undefined where nothing is said of it. */
function formOf(
  attributes: ReadonlyMap<string, string>,
  annotations: readonly ImageAnnotation[],
): ImageForm | undefined {
  const layers = layersOf(attributes);
  const form: ImageForm = {
    ...(layers === undefined ? {} : { layers }),
    ...(attributes.has('oci-mediatypes')
      ? { mediaTypes: flagOf(attributes, 'oci-mediatypes', true) ? 'oci' : 'docker' }
      : {}),
    ...(annotations.length === 0 ? {} : { annotations }),
  };
  return Object.keys(form).length === 0 ? undefined : form;
}

function layersOf(attributes: ReadonlyMap<string, string>): LayerForm | undefined {
  const force = flagOf(attributes, 'force-compression', false);
  const level = attributes.get('compression-level');
  const asked = attributes.get('compression') ?? (level === undefined && !force ? undefined : 'gzip');
  if (asked === undefined) return undefined;
  const compression = COMPRESSIONS.find((one) => one === asked);
  if (compression === undefined) {
    const known = asked === 'estargz' ? ' is not supported' : ' is unknown';
    throw new UsageError(
      `${FLAG}: compression=${asked}${known}: use ${COMPRESSIONS.join(', ')}`,
      asked === 'estargz' ? 'Readers of estargz read gzip too.' : undefined,
    );
  }
  return {
    compression,
    ...(level === undefined ? {} : { level: levelOf(level, compression) }),
    ...(force ? { force } : {}),
  };
}

/** zlib's levels, or those of zstd. */
function levelOf(text: string, compression: LayerForm['compression']): number {
  const most = compression === 'zstd' ? 22 : 9;
  const level = /^[0-9]{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (level <= most) return level;
  throw new UsageError(`${FLAG}: compression-level=${text} must be a number from 0 to ${most}`);
}

const ANNOTATION = /^annotation(?:-([a-z-]+?))?(?:\[([^\]]*)\])?\.(.+)$/;

function isAnnotation(key: string): boolean {
  return ANNOTATION.test(key);
}

/** `annotation.NAME=`, `annotation-index.NAME=`, `annotation-manifest[linux/arm64].NAME=`. */
function readOutputAnnotations(fields: readonly string[]): readonly ImageAnnotation[] {
  return fields.flatMap((field) => {
    const [key, value] = splitPair(field.trim());
    const match = ANNOTATION.exec(key);
    if (match === null || value === undefined) return [];
    const [, place = 'manifest', platform, name = ''] = match;
    return [annotationAt(place, { name, value, ...(platform === undefined ? {} : { platform }) }, FLAG)];
  });
}

function flagOf(attributes: ReadonlyMap<string, string>, name: string, fallback: boolean): boolean {
  const value = attributes.get(name);
  if (value === undefined) return fallback;
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw new UsageError(`${FLAG}: ${name}= must be true or false`);
}

function outputDest(dest: string | undefined, cwd: string): OutputDest {
  if (dest === undefined || dest === '-') return { kind: 'stdout' };
  return { kind: 'file', path: hostPath(dest, cwd) };
}

function hostPath(path: string, cwd: string): HostPath {
  return resolve(cwd, path) as HostPath;
}
