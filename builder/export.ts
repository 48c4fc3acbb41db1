import { mkdir } from 'node:fs/promises';
import {
  type BuildRequest,
  type BuiltImage,
  type CommittedSnapshot,
  type Digest,
  digestOf,
  familiarName,
  formatReference,
  type HostPath,
  type ImagePath,
  MachineError,
  type Output,
  type OutputDest,
  parseReference,
  type Reference,
  ROOT_PATH,
  type Tree,
  type TreeOp,
  unreachable,
} from '../core/index.ts';
import {
  compressLayer,
  dockerArchiveFiles,
  encodeManifest,
  type ImageToWrite,
  type Layer,
  ociLayoutFiles,
  type StoredImage,
  treeTar,
  writeArchiveFolder,
  writeDockerArchive,
  writeOciArchive,
  writeStreamTo,
} from '../image/index.ts';
import type { AssembledImage } from './assemble.ts';
import type { BuilderParts } from './contract.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { entryOp } from './entry-op.ts';
import type { TimelessEvent } from './solve.ts';
import { stop } from './stop.ts';
import { beginTransfer } from './transfer-phase.ts';

export interface ExportInput {
  readonly parts: Pick<BuilderParts, 'images' | 'blobs' | 'layerTable' | 'registry' | 'treeOps' | 'owner'>;
  readonly request: Pick<BuildRequest, 'outputs' | 'tags'>;
  readonly image: AssembledImage;
  readonly snapshot: CommittedSnapshot | undefined;
  readonly emit: (event: TimelessEvent) => void;
  readonly signal: AbortSignal;
  readonly writeStdout: (chunk: Uint8Array) => Promise<void>;
}

/**
 * Puts the image where the request wants it. The local store gets it whatever the outputs are, because layers are read
 * from there; it gets the tags only with `type=image`.
 *
 * @returns the image; undefined where only its files were asked for.
 */
export async function exportImage(input: ExportInput): Promise<BuiltImage | undefined> {
  const { outputs, tags } = input.request;
  const references = tags.map(readTag);
  const names = references.map(formatReference);
  const wantsImage = outputs.some((output) => output.type === 'image');
  if (outputs.every((output) => output.type === 'tar' || output.type === 'local')) {
    for (const output of outputs) await writeFiles(output, input);
    return undefined;
  }
  input.emit({ type: 'phase.started', phase: 'export', name: 'exporting to image' });
  const config = Buffer.from(JSON.stringify(input.image.config));
  const stored = await input.parts.images.put({
    config,
    layers: input.image.layers,
    names: wantsImage ? names : [],
  });
  let manifestDigest: Digest = stored.manifestDigest;
  for (const output of outputs) {
    manifestDigest = (await writeOutput(output, { ...input, stored, config, references })) ?? manifestDigest;
  }
  input.emit({ type: 'phase.finished', phase: 'export', detail: `image ${stored.configDigest}` });
  return { manifestDigest, configDigest: stored.configDigest, names: references.map(familiarName) };
}

interface StoredExport extends ExportInput {
  readonly stored: StoredImage;
  readonly config: Uint8Array;
  readonly references: readonly Reference[];
}

/** @returns the digest of the manifest, where the output has one of its own. */
async function writeOutput(output: Output, input: StoredExport): Promise<Digest | undefined> {
  switch (output.type) {
    case 'image':
      return output.push ? pushImage(input) : undefined;
    case 'oci':
    case 'docker':
      return writeArchive(output, input);
    case 'tar':
    case 'local':
      await writeFiles(output, input);
      return undefined;
    default:
      return unreachable(output);
  }
}

function readTag(tag: string): Reference {
  const parsed = parseReference(tag);
  if (!parsed.ok)
    stop('invalid-tag', `invalid tag ${JSON.stringify(tag)}: ${parsed.error}`, {
      hint: 'Use -t name[:tag].',
    });
  return parsed.value;
}

/** The image with gzip layers, as it travels. */
async function travelling(input: StoredExport): Promise<ImageToWrite> {
  const { images, blobs, layerTable } = input.parts;
  const layers: Layer[] = [];
  for (const layer of await images.layersOf(input.stored)) {
    input.signal.throwIfAborted();
    layers.push(await compressLayer(layer, 'gzip', { blobs, table: layerTable }));
  }
  const manifest = encodeManifest({ config: input.config, layers: layers.map((layer) => layer.descriptor) });
  return { manifest, config: input.config, layers, names: input.references.map(formatReference) };
}

async function pushImage(input: StoredExport): Promise<Digest> {
  if (input.references.length === 0) {
    stop('push-without-tag', 'a push needs a name to push to', {
      hint: 'Name the image with -t registry/name:tag.',
    });
  }
  const image = await travelling(input);
  let digest = digestOf(image.manifest);
  for (const reference of input.references) {
    using phase = beginTransfer(input.emit, `push ${familiarName(reference)}`);
    digest = await input.parts.registry.push(reference, image, {
      onProgress: phase.onProgress,
      signal: input.signal,
    });
  }
  return digest;
}

async function writeArchive(
  output: Extract<Output, { type: 'oci' | 'docker' }>,
  input: StoredExport,
): Promise<Digest> {
  const { images } = input.parts;
  const plain = output.type === 'docker';
  const image = plain
    ? {
        manifest: encodeManifest({ config: input.config, layers: input.stored.manifest.layers }),
        config: input.config,
        layers: await images.layersOf(input.stored),
        names: input.references.map(formatReference),
      }
    : await travelling(input);
  if (output.tar)
    await writeTo(output.dest, plain ? writeDockerArchive([image]) : writeOciArchive([image]), input);
  else if (output.dest.kind === 'file') {
    await writeArchiveFolder(plain ? dockerArchiveFiles([image]) : ociLayoutFiles([image]), output.dest.path);
  } else stop('folder-to-stdout', `--output type=${output.type},tar=false needs a folder: dest=FOLDER`);
  return digestOf(image.manifest);
}

async function writeTo(
  dest: OutputDest,
  bytes: AsyncIterable<Uint8Array>,
  input: ExportInput,
): Promise<void> {
  if (dest.kind === 'file') return writeStreamTo(dest.path, bytes);
  for await (const chunk of bytes) await input.writeStdout(chunk);
}

/** The image's files alone, as a tar or in a folder. */
async function writeFiles(output: Output, input: ExportInput): Promise<void> {
  const tree = input.snapshot?.tree() ?? EMPTY_TREE;
  if (output.type === 'tar') return writeTo(output.dest, treeTar(tree, { signal: input.signal }), input);
  if (output.type !== 'local') throw new Error(`type=${output.type} does not write files`);
  await writeFolder(tree, output.dest, input);
}

async function writeFolder(tree: Tree, dest: HostPath, input: ExportInput): Promise<void> {
  input.emit({ type: 'phase.started', phase: 'export', name: 'exporting to client directory' });
  try {
    await mkdir(dest, { recursive: true });
  } catch (cause) {
    throw new MachineError('output-not-writable', `cannot make the folder ${dest}`, {
      hint: 'Name a folder that can be written to with --output type=local,dest=FOLDER.',
      cause,
    });
  }
  const root = { type: 'directory', path: dest, readonly: false } as const;
  await input.parts.treeOps.apply(root, folderOps(tree, input.parts.owner), input.signal);
  input.emit({ type: 'phase.finished', phase: 'export' });
}

/** Every file of `tree`, owned by whoever asked for the export, as Docker's local exporter has it. */
async function* folderOps(
  tree: Tree,
  owner: { readonly uid: number; readonly gid: number },
): AsyncGenerator<TreeOp> {
  const folders: ImagePath[] = [ROOT_PATH];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await tree.list(folder)) {
      const { path, mode, mtime } = entry;
      const content = async () => ({ kind: 'host', path: await tree.hostPath(path) }) as const;
      yield await entryOp(entry, { path, attributes: { mode, mtime, ...owner } }, content);
      if (entry.type === 'dir') folders.push(entry.path);
    }
  }
}
