export { authorizationFor } from './authorization.ts';
export * from './contract.ts';
export { FileTree } from './file-tree.ts';
export { folderTree } from './folder-tree.ts';
export { createSources, type SourcesOptions } from './sources.ts';
