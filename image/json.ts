import { type Descriptor, isDigest, MachineError } from '../core/index.ts';

/** Largest JSON document that is read from an archive or a registry; registries refuse manifests beyond 4 MiB. */
export const MAX_JSON_BYTES = 4 * 1024 * 1024;

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object in `bytes`. @throws MachineError `image-invalid` naming `what` where there is none. */
export function parseObject(bytes: Uint8Array, what: string): JsonObject {
  const value = parseJson(bytes, what);
  if (!isObject(value)) throw invalid(`${what} is no JSON object`);
  return value;
}

/** @throws MachineError `image-invalid`, see {@link parseObject}. */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  if (bytes.byteLength > MAX_JSON_BYTES) throw invalid(`${what} is larger than ${MAX_JSON_BYTES} bytes`);
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw invalid(`${what} is no JSON: ${error instanceof Error ? error.message : error}`);
  }
}

export function invalid(message: string): MachineError {
  return new MachineError('image-invalid', message, { hint: 'the image is damaged, or no container image' });
}

export function textField(object: JsonObject, field: string): string | undefined {
  const value = object[field];
  return typeof value === 'string' ? value : undefined;
}

export function isStringArray(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** A value as an OCI descriptor (image-spec, descriptor.md), checked. */
export function isDescriptor(value: unknown): value is Descriptor {
  if (!isObject(value)) return false;
  const { mediaType, digest, size } = value;
  const sized = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
  return typeof mediaType === 'string' && typeof digest === 'string' && isDigest(digest) && sized;
}
