import {
  type BuildRequest,
  formatReference,
  type ImageAnnotation,
  type ImageForm,
  type LayerForm,
  type Platform,
  type Reference,
} from '../core/index.ts';
import {
  compressLayer,
  descriptorOf,
  encodeIndex,
  encodeManifest,
  formatPlatform,
  type ImageToWrite,
  type IndexToWrite,
  type Layer,
  normalizePlatform,
  parsePlatform,
  type StoredImage,
} from '../image/index.ts';
import type { BuilderParts } from './contract.ts';

/** What is put together for an output. */
export interface ToCompose {
  readonly parts: Pick<BuilderParts, 'images' | 'blobs' | 'layerTable'>;
  readonly request: Pick<BuildRequest, 'annotations'>;
  readonly references: readonly Reference[];
  /** One for each platform. */
  readonly stored: readonly StoredFor[];
  readonly isIndex: boolean;
  readonly signal: AbortSignal;
}

/** An image of the local store, as it was built. */
export interface StoredFor {
  readonly stored: StoredImage;
  readonly config: Uint8Array;
  readonly platform: Platform;
}

/**
 * The image as an output wants it, or the index over several. `layers`: the form of layers where the output's own says
 * nothing; absent: as they are stored.
 */
export async function compose(
  input: ToCompose,
  how: { readonly form: ImageForm | undefined; readonly layers?: LayerForm },
): Promise<ImageToWrite | IndexToWrite> {
  const { form } = how;
  const layers = form?.layers ?? how.layers;
  const names = input.references.map(formatReference);
  const images: ImageToWrite[] = [];
  for (const one of input.stored) {
    const image = await composeOne(one, { ...input, form, layers });
    images.push({ ...image, names: input.isIndex ? [] : names });
  }
  const [only] = images;
  if (only !== undefined && !input.isIndex) return only;
  const index = encodeIndex({
    manifests: images.map(descriptorOf),
    ...annotationsFor('index', { request: input.request, form }),
    ...(form?.mediaTypes === undefined ? {} : { mediaTypes: form.mediaTypes }),
  });
  return { index, images, names, ...annotationsFor('index-descriptor', { request: input.request, form }) };
}

async function composeOne(
  { stored, config, platform }: StoredFor,
  input: ToCompose & { readonly form: ImageForm | undefined; readonly layers: LayerForm | undefined },
): Promise<Omit<ImageToWrite, 'names'>> {
  const { parts, request, form } = input;
  const layers: Layer[] = [];
  for (const layer of await parts.images.layersOf(stored)) {
    input.signal.throwIfAborted();
    const sources = { blobs: parts.blobs, table: parts.layerTable };
    layers.push(input.layers === undefined ? layer : await compressLayer(layer, input.layers, sources));
  }
  const manifest = encodeManifest({
    config,
    layers: layers.map(({ descriptor }) => descriptor),
    ...(form?.mediaTypes === undefined ? {} : { mediaTypes: form.mediaTypes }),
    ...annotationsFor('manifest', { request, form, platform }),
  });
  return { manifest, config, layers, ...annotationsFor('manifest-descriptor', { request, form, platform }) };
}

/** The annotations of one place, by name; those of the output win over those of the request. */
export function annotationsFor(
  at: ImageAnnotation['at'],
  from: {
    readonly request: Pick<BuildRequest, 'annotations'>;
    readonly form: ImageForm | undefined;
    readonly platform?: Platform;
  },
): { readonly annotations?: Readonly<Record<string, string>> } {
  const given = [...(from.request.annotations ?? []), ...(from.form?.annotations ?? [])];
  const pairs = given
    .filter((one) => one.at === at && isFor(one.platform, from.platform))
    .map(({ name, value }) => [name, value] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? {} : { annotations: Object.fromEntries(pairs) };
}

function isFor(asked: string | undefined, platform: Platform | undefined): boolean {
  if (asked === undefined || platform === undefined) return true;
  const wanted = parsePlatform(asked, platform);
  return (
    wanted !== undefined &&
    formatPlatform(normalizePlatform(wanted)) === formatPlatform(normalizePlatform(platform))
  );
}
