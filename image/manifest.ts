import {
  type Descriptor,
  digestOf,
  type ImageConfig,
  type ImageManifest,
  isDigest,
  MEDIA_TYPE,
} from '../core/index.ts';
import { invalid, isDescriptor, isObject, isStringArray, parseObject } from './json.ts';

/** Media types of Docker's and their OCI names for the same bytes. */
const OCI_NAME: Readonly<Record<string, string>> = {
  [MEDIA_TYPE.dockerLayer]: MEDIA_TYPE.ociLayer,
  [MEDIA_TYPE.dockerLayerGzip]: MEDIA_TYPE.ociLayerGzip,
};

export interface ManifestParts {
  readonly config: Uint8Array;
  readonly layers: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/**
 * The bytes of an OCI image manifest (image-spec, manifest.md): the same parts give the same bytes. Docker's media types
 * become the OCI ones.
 */
export function encodeManifest(parts: ManifestParts): Uint8Array {
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociManifest,
    config: {
      mediaType: MEDIA_TYPE.ociConfig,
      digest: digestOf(parts.config),
      size: parts.config.byteLength,
    },
    layers: parts.layers.map(({ mediaType, digest, size }) => ({
      mediaType: OCI_NAME[mediaType] ?? mediaType,
      digest,
      size,
    })),
    ...(parts.annotations === undefined ? {} : { annotations: parts.annotations }),
  };
  return Buffer.from(JSON.stringify(manifest));
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
