export { createBlobStore } from './blob-store.ts';
export * from './contract.ts';
export {
  type Compression,
  compressionOf,
  DEFAULT_DECOMPRESS_LIMITS,
  type DecompressLimits,
  decompress,
} from './decompress.ts';
export { layerTar } from './layer-tar.ts';
export { type PackLayerOptions, packLayer } from './pack-layer.ts';
export { DEFAULT_UNPACK_LIMITS, unpackLayer } from './unpack-layer.ts';
