import {
  type ContainerConfig,
  type Descriptor,
  type Digest,
  digestOf,
  type ImageConfig,
  type ImageIndex,
  type ImageManifest,
  isDigest,
  MEDIA_TYPE,
} from '../core/index.ts';
import { invalid, isDescriptor, isObject, isStringArray, parseObject, textField } from './json.ts';

/** Media types of Docker's and their OCI names for the same bytes. */
const OCI_NAME: Readonly<Record<string, string>> = {
  [MEDIA_TYPE.dockerLayer]: MEDIA_TYPE.ociLayer,
  [MEDIA_TYPE.dockerLayerGzip]: MEDIA_TYPE.ociLayerGzip,
  [MEDIA_TYPE.dockerLayerZstd]: MEDIA_TYPE.ociLayerZstd,
};
const DOCKER_NAME: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(OCI_NAME).map(([docker, oci]) => [oci, docker]),
);

export interface ManifestParts {
  readonly config: Uint8Array;
  readonly layers: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** Whose names the media types have; absent: `oci`. Annotations are OCI's alone. */
  readonly mediaTypes?: 'oci' | 'docker';
}

/**
 * The bytes of an image manifest (image-spec, manifest.md): the same parts give the same bytes, and all media types are
 * those of one side.
 */
export function encodeManifest(parts: ManifestParts): Uint8Array {
  const isDocker = parts.mediaTypes === 'docker' && parts.annotations === undefined;
  const names = isDocker ? DOCKER_NAME : OCI_NAME;
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: isDocker ? MEDIA_TYPE.dockerManifest : MEDIA_TYPE.ociManifest,
    config: {
      mediaType: isDocker ? MEDIA_TYPE.dockerConfig : MEDIA_TYPE.ociConfig,
      digest: digestOf(parts.config),
      size: parts.config.byteLength,
    },
    layers: parts.layers.map(({ mediaType, digest, size }) => ({
      mediaType: names[mediaType] ?? mediaType,
      digest,
      size,
    })),
    ...(parts.annotations === undefined ? {} : { annotations: parts.annotations }),
  };
  return Buffer.from(JSON.stringify(manifest));
}

/** Fields of `config` in the order in which Docker and BuildKit write them; names in their maps are sorted. */
const CONFIG_ORDER = [
  'User',
  'ExposedPorts',
  'Env',
  'Entrypoint',
  'Cmd',
  'Volumes',
  'WorkingDir',
  'Labels',
  'StopSignal',
  'ArgsEscaped',
  'Healthcheck',
  'OnBuild',
  'Shell',
] as const satisfies readonly (keyof ContainerConfig)[];
const HEALTH_ORDER = ['Test', 'Interval', 'Timeout', 'StartPeriod', 'StartInterval', 'Retries'] as const;
const HISTORY_ORDER = ['created', 'created_by', 'author', 'comment', 'empty_layer'] as const;

/**
 * The bytes of an image configuration (image-spec, config.md) as BuildKit writes them: fields in its order, what is empty
 * left out, `<`, `>` and `&` escaped. The same configuration gives the same bytes, however it came about.
 */
export function encodeConfig(config: ImageConfig): Uint8Array {
  const { history } = config;
  const top: Readonly<Record<string, unknown>> = {
    ...config,
    config: containerFields(config.config ?? {}),
    ...(history === undefined ? {} : { history: history.map((entry) => inOrder(entry, HISTORY_ORDER)) }),
  };
  const text = jsonOf(sorted(top));
  return Buffer.from(text.replace(/[<>&\u2028\u2029]/g, escaped));
}

/** JSON in the order of maps and of fields; numbers among an object's names would come first. */
function jsonOf(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(jsonOf).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries: readonly (readonly [string, unknown])[] =
    value instanceof Map ? [...value] : Object.entries(value);
  const present = entries.filter(([, field]) => field !== undefined);
  return `{${present.map(([name, field]) => `${JSON.stringify(name)}:${jsonOf(field)}`).join(',')}}`;
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function containerFields(config: ContainerConfig): Readonly<Record<string, unknown>> {
  const { ExposedPorts, Volumes, Labels, Healthcheck } = config;
  const fields = {
    ...config,
    ...(ExposedPorts === undefined ? {} : { ExposedPorts: sorted(ExposedPorts) }),
    ...(Volumes === undefined ? {} : { Volumes: sorted(Volumes) }),
    ...(Labels === undefined ? {} : { Labels: sorted(Labels) }),
    ...(Healthcheck === undefined ? {} : { Healthcheck: inOrder(Healthcheck, HEALTH_ORDER) }),
  };
  return inOrder(fields, CONFIG_ORDER);
}

/** The fields of `order` that hold something, then whatever else there is. */
function inOrder(fields: object, order: readonly string[]): Record<string, unknown> {
  const all = new Map<string, unknown>(Object.entries(fields));
  const names = [...order, ...[...all.keys()].filter((name) => !order.includes(name))];
  return Object.fromEntries(
    names.map((name) => [name, all.get(name)] as const).filter(([, value]) => !isNothing(value)),
  );
}

/** What Go's `omitempty` leaves out. */
function isNothing(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === false) return true;
  if (value instanceof Map) return value.size === 0;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** Names in the order of their bytes, as Go sorts the names of a map. */
function sorted<T>(record: Readonly<Record<string, T>>): ReadonlyMap<string, T> {
  return new Map(Object.entries(record).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
}

/** The bytes of an image index (image-spec, image-index.md). */
export function encodeIndex(parts: {
  readonly manifests: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly mediaTypes?: 'oci' | 'docker';
}): Uint8Array {
  const isDocker = parts.mediaTypes === 'docker' && parts.annotations === undefined;
  const index: ImageIndex = {
    schemaVersion: 2,
    mediaType: isDocker ? MEDIA_TYPE.dockerIndex : MEDIA_TYPE.ociIndex,
    manifests: parts.manifests,
    ...(parts.annotations === undefined ? {} : { annotations: parts.annotations }),
  };
  return Buffer.from(JSON.stringify(index));
}

/** @throws MachineError `image-invalid` where the bytes are no index of images. */
export function parseIndex(bytes: Uint8Array): ImageIndex {
  const value = parseObject(bytes, 'the image index');
  const { manifests, annotations } = value;
  if (!Array.isArray(manifests) || !manifests.every(isDescriptor))
    throw invalid('the image index has no valid manifests');
  return {
    schemaVersion: 2,
    mediaType: textField(value, 'mediaType') ?? MEDIA_TYPE.ociIndex,
    manifests,
    ...(isObject(annotations) ? { annotations: textsOnly(annotations) } : {}),
  };
}

/** Does the index name all of these manifests? */
export function namesManifests(index: string, digests: ReadonlySet<Digest>): boolean {
  const named = new Set(parseIndex(Buffer.from(index)).manifests.map(({ digest }) => digest));
  return [...digests].every((digest) => named.has(digest));
}

/**
 * The index with what `instead` gives for each manifest that it names; undefined leaves one out. Where nothing changes, neither do
 * its bytes.
 */
export function withManifests(
  index: Uint8Array,
  instead: (named: Descriptor) => Pick<Descriptor, 'mediaType' | 'digest' | 'size'> | undefined,
): Uint8Array {
  const { manifests, mediaType, annotations } = parseIndex(index);
  if (manifests.every((one) => instead(one)?.digest === one.digest)) return index;
  return encodeIndex({
    manifests: manifests.flatMap((one) => {
      const other = instead(one);
      if (other === undefined) return [];
      const { mediaType, digest, size } = other;
      return [{ ...one, mediaType, digest, size }];
    }),
    ...(annotations === undefined ? {} : { annotations }),
    mediaTypes: mediaType === MEDIA_TYPE.dockerIndex ? 'docker' : 'oci',
  });
}

/** The media type that a manifest or an index says that it has. */
export function mediaTypeOf(document: Uint8Array): string {
  return textField(parseObject(document, 'the manifest'), 'mediaType') ?? MEDIA_TYPE.ociManifest;
}

/** @throws MachineError `image-invalid` where the bytes are no manifest of an image. */
export function parseManifest(bytes: Uint8Array): ImageManifest {
  const value = parseObject(bytes, 'the image manifest');
  const { schemaVersion, config, layers, mediaType, annotations } = value;
  if (schemaVersion === 1) {
    throw invalid('the image manifest has the old schema version 1, which no registry has to keep');
  }
  const whole =
    schemaVersion === 2 && isDescriptor(config) && Array.isArray(layers) && layers.every(isDescriptor);
  if (!whole) throw invalid('the image manifest has no valid config and layers');
  return {
    schemaVersion: 2,
    mediaType: typeof mediaType === 'string' ? mediaType : MEDIA_TYPE.ociManifest,
    config,
    layers,
    ...(isObject(annotations) ? { annotations: textsOnly(annotations) } : {}),
  };
}

function textsOnly(record: Readonly<Record<string, unknown>>): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [key, value] of Object.entries(record)) if (typeof value === 'string') texts[key] = value;
  return texts;
}

/** @throws MachineError `image-invalid` where the bytes are no image configuration that can be built on. */
export function parseConfig(bytes: Uint8Array): ImageConfig {
  const value = parseObject(bytes, 'the image configuration');
  if (!isImageConfig(value))
    throw invalid('the image configuration lacks os, architecture or rootfs.diff_ids');
  return value;
}

/** Checks what varve relies on; see {@link isContainerConfig} for the rest. */
function isImageConfig(value: unknown): value is ImageConfig {
  if (!isObject(value) || typeof value['os'] !== 'string' || typeof value['architecture'] !== 'string')
    return false;
  const { rootfs, config, history } = value;
  if (!isObject(rootfs) || !isStringArray(rootfs['diff_ids']) || !rootfs['diff_ids'].every(isDigest))
    return false;
  const historyFits =
    history === undefined || history === null || (Array.isArray(history) && history.every(isObject));
  return historyFits && (config === undefined || config === null || isContainerConfig(config));
}

/** Fields that varve reads have the types that the image-spec gives them; Go writes `null` for what is empty. */
function isContainerConfig(value: unknown): boolean {
  if (!isObject(value)) return false;
  const lists = ['Env', 'Entrypoint', 'Cmd', 'Shell', 'OnBuild'];
  const texts = ['User', 'WorkingDir', 'StopSignal'];
  const maps = ['ExposedPorts', 'Volumes', 'Labels'];
  const absent = (field: string): boolean => value[field] === undefined || value[field] === null;
  return (
    lists.every((field) => absent(field) || isStringArray(value[field])) &&
    texts.every((field) => absent(field) || typeof value[field] === 'string') &&
    maps.every((field) => absent(field) || isObject(value[field]))
  );
}
