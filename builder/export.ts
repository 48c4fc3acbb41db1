import {
  type BuildRequest,
  type BuiltImage,
  type CommittedSnapshot,
  type Descriptor,
  familiarName,
  formatReference,
  type ImageForm,
  type Output,
  type OutputDest,
  type Platform,
  parseReference,
  type Reference,
  unreachable,
} from '../core/index.ts';
import {
  descriptorOf,
  dockerArchiveFiles,
  encodeConfig,
  encodeManifest,
  formatPlatform,
  ociLayoutFiles,
  platformRank,
  writeDockerArchive,
  writeLayoutFolder,
  writeOciArchive,
  writeStreamTo,
} from '../image/index.ts';
import type { AssembledImage } from './assemble.ts';
import type { BuilderParts } from './contract.ts';
import { filesTar, writeFolder } from './export-files.ts';
import { annotationsFor, compose, type StoredFor, type ToCompose } from './export-image.ts';
import type { TimelessEvent } from './solve.ts';
import { stop } from './stop.ts';
import { beginTransfer } from './transfer-phase.ts';

export interface ExportInput {
  readonly parts: Pick<
    BuilderParts,
    'images' | 'blobs' | 'layerTable' | 'registry' | 'treeOps' | 'owner' | 'platform' | 'daemon'
  >;
  readonly request: Pick<BuildRequest, 'outputs' | 'tags' | 'annotations' | 'buildArgs'>;
  /** One for each platform, in the order in which they were asked for. */
  readonly images: readonly BuiltFor[];
  /** SOURCE_DATE_EPOCH, seconds. */
  readonly sourceDateEpoch: number | undefined;
  readonly emit: (event: TimelessEvent) => void;
  readonly signal: AbortSignal;
  readonly writeStdout: (chunk: Uint8Array) => Promise<void>;
}

/** What was built for one platform. */
export interface BuiltFor {
  readonly image: AssembledImage;
  readonly snapshot: CommittedSnapshot | undefined;
  readonly platform: Platform;
}

type StoredExport = ExportInput & ToCompose;

const GZIP = { compression: 'gzip' } as const;

/**
 * Puts the images where the request wants them. The local store gets them whatever the outputs are, because layers are read
 * from there; it gets the tags only where an image is asked for.
 *
 * @returns what was built; undefined where only its files were asked for.
 */
export async function exportImages(input: ExportInput): Promise<BuiltImage | undefined> {
  const { outputs, tags } = input.request;
  const references = tags.map(readTag);
  const [image, ...others] = outputs.filter((output) => output.type !== 'tar' && output.type !== 'local');
  if (image === undefined) {
    for (const output of outputs) await writeFiles(output, input);
    return undefined;
  }
  input.emit({ type: 'phase.started', phase: 'export', name: 'exporting to image' });
  const named = [image, ...others].find(({ type }) => type === 'image' || type === 'daemon');
  refuseIndexAnnotations(input);
  const names = named === undefined ? [] : references.map(formatReference);
  const stored = await store(input, isIndex(input) ? [] : names, named?.form);
  const composed: StoredExport = { ...input, references, stored, isIndex: isIndex(input) };
  // Layers lie in the store as they are, whatever form they travel in.
  const { layers: _, ...form } = named?.form ?? {};
  const kept = await compose(composed, { form });
  if ('index' in kept) await nameIndex(kept.index, names, composed);
  let descriptor = descriptorOf(kept);
  for (const output of outputs) descriptor = (await writeOutput(output, composed)) ?? descriptor;
  const [first, ...more] = stored;
  const configDigest = more.length === 0 ? first?.stored.configDigest : undefined;
  input.emit({
    type: 'phase.finished',
    phase: 'export',
    detail: configDigest === undefined ? `index ${descriptor.digest}` : `image ${configDigest}`,
  });
  return {
    manifestDigest: descriptor.digest,
    ...(configDigest === undefined ? {} : { configDigest }),
    descriptor,
    names: references.map(familiarName),
  };
}

/** Several platforms make an index; one does where BuildKit's argument asks for it. */
function isIndex({ images, request }: ExportInput): boolean {
  const asked = request.buildArgs['BUILDKIT_MULTI_PLATFORM'];
  return images.length > 1 || asked === '1' || asked === 'true';
}

function refuseIndexAnnotations(input: ExportInput): void {
  if (isIndex(input)) return;
  const given = [
    ...(input.request.annotations ?? []),
    ...input.request.outputs.flatMap((output) => ('form' in output ? (output.form?.annotations ?? []) : [])),
  ];
  const wrong = given.find(({ at }) => at === 'index' || at === 'index-descriptor');
  if (wrong === undefined) return;
  stop('no-index', `the annotation ${wrong.at}:${wrong.name} has no index to stand in`, {
    hint: 'One platform makes a manifest alone: annotate manifest: or manifest-descriptor:, or build for several platforms.',
  });
}

/** Makes names of the local store mean the image for this machine, or the first, and the others to who asks for them. */
async function nameIndex(index: Uint8Array, names: readonly string[], input: StoredExport): Promise<void> {
  const { parts, stored } = input;
  const main =
    stored.find(({ platform }) => platformRank(parts.platform, platform) !== undefined) ?? stored[0];
  if (main === undefined) return;
  const platforms = stored.map((one) => [formatPlatform(one.platform), one.stored.manifestDigest] as const);
  const meaning = {
    manifest: main.stored.manifestDigest,
    platforms: Object.fromEntries(platforms),
    index: Buffer.from(index).toString(),
  };
  for (const name of names) await parts.images.tag(meaning, name);
}

/** The images in the local store. */
async function store(
  input: ExportInput,
  names: readonly string[],
  form: ImageForm | undefined,
): Promise<readonly StoredFor[]> {
  const { parts, images } = input;
  const stored: StoredFor[] = [];
  for (const { image, platform } of images) {
    const annotations = annotationsFor('manifest', { request: input.request, form, platform });
    const config = encodeConfig(image.config);
    const kept = await parts.images.put({
      config,
      manifest: encodeManifest({ config, layers: image.layers, ...annotations, ...mediaTypesOf(form) }),
      layers: image.layers,
      names,
    });
    stored.push({ stored: kept, config, platform });
  }
  return stored;
}

function mediaTypesOf(form: ImageForm | undefined): Pick<ImageForm, 'mediaTypes'> {
  return form?.mediaTypes === undefined ? {} : { mediaTypes: form.mediaTypes };
}

/** @returns what names the image, where the output has a form of its own. */
async function writeOutput(output: Output, input: StoredExport): Promise<Descriptor | undefined> {
  switch (output.type) {
    case 'image':
      return output.push ? pushImage(output, input) : undefined;
    case 'daemon':
      await loadIntoDaemon(output, input);
      return undefined;
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

async function pushImage(
  output: Extract<Output, { type: 'image' }>,
  input: StoredExport,
): Promise<Descriptor> {
  if (input.references.length === 0) {
    stop('push-without-tag', 'a push needs a name to push to', {
      hint: 'Name the image with -t registry/name:tag.',
    });
  }
  const image = await compose(input, { form: output.form, layers: GZIP });
  for (const reference of input.references) {
    using phase = beginTransfer(input.emit, `push ${familiarName(reference)}`);
    const { host, repository } = reference;
    const byDigest: Reference = { host, repository };
    const options = { onProgress: phase.onProgress, signal: input.signal };
    const { registry } = input.parts;
    const to = output.byDigest === true ? byDigest : reference;
    if ('index' in image) {
      for (const one of image.images) await registry.push(byDigest, one, options);
      await registry.pushIndex(to, image.index, input.signal);
    } else await registry.push(to, image, options);
  }
  return descriptorOf(image);
}

/** Docker's own daemon takes the image where one answers; it reads archives of one platform. */
async function loadIntoDaemon(
  output: Extract<Output, { type: 'daemon' }>,
  input: StoredExport,
): Promise<void> {
  const daemon = await input.parts.daemon.find(input.signal);
  if (daemon === undefined) return;
  const image = await compose(input, { form: output.form });
  if ('index' in image) stop('index-to-docker', NO_INDEX, { hint: INDEX_HINT });
  const phase = 'load';
  input.emit({ type: 'phase.started', phase, name: `loading into Docker at ${daemon.name}` });
  await daemon.load(writeDockerArchive([image]), input.signal);
  input.emit({ type: 'phase.finished', phase });
}

const NO_INDEX = 'an archive for Docker holds an image for one platform alone';
const INDEX_HINT = 'Build for one platform, or write the index with --output type=oci or --push.';

async function writeArchive(
  output: Extract<Output, { type: 'oci' | 'docker' }>,
  input: StoredExport,
): Promise<Descriptor> {
  const plain = output.type === 'docker';
  const image = await compose(input, { form: output.form, ...(plain ? {} : { layers: GZIP }) });
  if (plain && 'index' in image) stop('index-to-docker', NO_INDEX, { hint: INDEX_HINT });
  const { dest } = output;
  if (output.tar) {
    const bytes = plain && !('index' in image) ? writeDockerArchive([image]) : writeOciArchive([image]);
    await writeTo(dest, bytes, input);
  } else if (dest.kind === 'file') {
    const files = plain && !('index' in image) ? dockerArchiveFiles([image]) : ociLayoutFiles([image]);
    await writeLayoutFolder(files, dest.path);
  } else stop('folder-to-stdout', `--output type=${output.type},tar=false needs a folder: dest=FOLDER`);
  return descriptorOf(image);
}

async function writeTo(
  dest: OutputDest,
  bytes: AsyncIterable<Uint8Array>,
  input: ExportInput,
): Promise<void> {
  if (dest.kind === 'file') return writeStreamTo(dest.path, bytes);
  for await (const chunk of bytes) await input.writeStdout(chunk);
}

/** The images' files alone, as a tar or in a folder. */
async function writeFiles(output: Output, input: ExportInput): Promise<void> {
  if (output.type === 'tar') return writeTo(output.dest, filesTar(output, input), input);
  if (output.type === 'local') await writeFolder(output, input);
}
