export { createBlobStore } from './blob-store.ts';
export * from './contract.ts';
export {
  type Compression,
  compressionOf,
  DEFAULT_DECOMPRESS_LIMITS,
  type DecompressLimits,
  decompress,
} from './decompress.ts';
export { createImageStore } from './image-store.ts';
export { createLayerTable } from './layer-table.ts';
export { layerTar } from './layer-tar.ts';
export { compressLayer, type LayerSources, layerFrom, plainDescriptor } from './layers.ts';
export { encodeManifest, type ManifestParts, parseConfig, parseManifest } from './manifest.ts';
export { type PackLayerOptions, packLayer } from './pack-layer.ts';
export { DEFAULT_UNPACK_LIMITS, unpackLayer } from './unpack-layer.ts';
