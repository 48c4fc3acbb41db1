export { type ArchiveFile, tarOf, writeStreamTo } from './archive.ts';
export { isArchiveHead } from './archive-head.ts';
export { createBlobStore } from './blob-store.ts';
export * from './contract.ts';
export {
  type ArchiveCompression,
  archiveCompressionOf,
  type Compression,
  compressionOf,
  DEFAULT_DECOMPRESS_LIMITS,
  type DecompressLimits,
  decompress,
  decompressArchive,
} from './decompress.ts';
export { createDockerDaemons } from './docker-daemon.ts';
export { sweepTemporary } from './durable.ts';
export {
  descriptorOf,
  dockerArchiveFiles,
  type ImageToWrite,
  type IndexToWrite,
  ociLayoutFiles,
  writeDockerArchive,
  writeLayoutFolder,
  writeOciArchive,
} from './image-archive.ts';
export { createImageStore } from './image-store.ts';
export { createLayerTable } from './layer-table.ts';
export { layerTar } from './layer-tar.ts';
export { compressLayer, type LayerSources, layerFrom, plainDescriptor } from './layers.ts';
export {
  DEFAULT_ARCHIVE_LIMITS,
  diffIdOf,
  type LoadedImage,
  type LoadOptions,
  loadArchive,
} from './load-archive.ts';
export {
  encodeConfig,
  encodeIndex,
  encodeManifest,
  type ManifestParts,
  mediaTypeOf,
  parseConfig,
  parseIndex,
  parseManifest,
  withManifests,
} from './manifest.ts';
export { type LayoutImage, type OciLayoutOptions, readOciLayout } from './oci-layout.ts';
export { type PackLayerOptions, packLayer } from './pack-layer.ts';
export {
  formatPlatform,
  isAttestation,
  normalizePlatform,
  parsePlatform,
  platformRank,
  selectManifest,
  shortPlatform,
} from './platform.ts';
export {
  type CredentialPlace,
  type CredentialStore,
  type CredentialStoreOptions,
  type Credentials,
  createCredentialStore,
} from './registry/credentials.ts';
export { isLoopback, type RegistryConfig, type RegistrySettings } from './registry/endpoint.ts';
export { noPlatform } from './registry/pull.ts';
export { createRegistry, type RegistryOptions } from './registry/registry.ts';
export {
  ConnectionError,
  connectionHint,
  createTransport,
  type HttpRequest,
  type HttpResponse,
  TRUST_HINT,
  type Transport,
  type TransportOptions,
} from './registry/transport.ts';
export { readTar } from './tar-reader.ts';
export { type PlacedTree, treeTar } from './tree-tar.ts';
export { DEFAULT_UNPACK_LIMITS, unpackLayer } from './unpack-layer.ts';
