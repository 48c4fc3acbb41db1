import { digestHex, familiarName, parseReference } from '../../core/index.ts';
import type { ImageDetails, ImageSummary } from '../engine-contract.ts';
import { formatSize } from '../progress/text.ts';
import { formatCreated, formatTable } from './table.ts';

const NONE = '<none>';

export interface ImagesOptions {
  readonly quiet: boolean;
  readonly noTrunc: boolean;
  readonly digests: boolean;
  /** Also images that a name means only for other platforms than this machine's. */
  readonly all: boolean;
  readonly format: 'table' | 'json';
  /** Epoch milliseconds. */
  readonly now: number;
}

interface NamedImage {
  readonly repository: string;
  readonly tag: string;
  readonly digest: string;
  readonly id: string;
  readonly created: string | undefined;
  readonly size: number;
  readonly platform: string;
}

/** `varve images`, as `docker images` prints it: one line for each name, `<none>` for an image without one. */
export function renderImages(images: readonly ImageSummary[], options: ImagesOptions): string {
  const named = images.flatMap((summary) => namesOf(summary, options));
  if (options.quiet) return [...new Set(named.map(({ id }) => id))].map((id) => `${id}\n`).join('');
  const age = (one: NamedImage): string => formatCreated(one.created, options.now);
  if (options.format === 'json') {
    return named
      .map((one) =>
        JSON.stringify({
          CreatedAt: one.created ?? '',
          CreatedSince: age(one),
          Digest: one.digest,
          ID: one.id,
          Platform: one.platform,
          Repository: one.repository,
          Size: formatSize(one.size),
          Tag: one.tag,
        }),
      )
      .map((line) => `${line}\n`)
      .join('');
  }
  const header = ['REPOSITORY', 'TAG', ...(options.digests ? ['DIGEST'] : []), 'IMAGE ID', 'CREATED', 'SIZE'];
  if (options.all) header.push('PLATFORM');
  const rows = named.map((one) => [
    one.repository,
    one.tag,
    ...(options.digests ? [one.digest] : []),
    one.id,
    age(one),
    formatSize(one.size),
    ...(options.all ? [one.platform] : []),
  ]);
  return formatTable(header, rows);
}

function namesOf({ image, size }: ImageSummary, options: ImagesOptions): NamedImage[] {
  const { os, architecture, variant } = image.config;
  const base = {
    platform: [os, architecture, ...(variant === undefined ? [] : [variant])].join('/'),
    digest: image.manifestDigest,
    id: options.noTrunc ? image.configDigest : shortId(image.configDigest),
    created: image.config.created,
    size,
  };
  if (image.names.length === 0) return [{ ...base, repository: NONE, tag: NONE }];
  const hidden = options.all ? [] : (image.platformNames ?? []);
  const shown = image.names.filter((name) => !hidden.includes(name));
  return shown.map((name) => {
    const { repository, tag } = splitName(name);
    return { ...base, digest: image.indexDigests?.[name] ?? image.manifestDigest, repository, tag };
  });
}

/** Docker's two columns for a full reference. */
function splitName(name: string): { readonly repository: string; readonly tag: string } {
  const parsed = parseReference(name);
  if (!parsed.ok) return { repository: name, tag: NONE };
  const { tag, host, repository } = parsed.value;
  // A reference without a tag would gain `:latest`; what is cut off again is exactly that.
  const familiar = familiarName({ host, repository, tag: 'latest' });
  return { repository: familiar.slice(0, -':latest'.length), tag: tag ?? NONE };
}

/** The first 12 hex digits, as Docker shows them. */
export function shortId(digest: ImageSummary['image']['configDigest']): string {
  return digestHex(digest).slice(0, 12);
}

/** `varve history`: newest layer first; sizes belong to the entries that have a layer. */
export function renderHistory(
  { image, layerSizes }: ImageDetails,
  options: {
    readonly quiet: boolean;
    readonly noTrunc: boolean;
    readonly human: boolean;
    readonly now: number;
  },
): string {
  let layer = 0;
  const entries = (image.config.history ?? []).map((entry) => {
    const size = entry.empty_layer === true ? 0 : (layerSizes[layer++] ?? 0);
    return { entry, size };
  });
  const id = options.noTrunc ? image.configDigest : shortId(image.configDigest);
  const ids = entries.map((_, index) => (index === entries.length - 1 ? id : '<missing>')).reverse();
  if (options.quiet) return ids.map((one) => `${one}\n`).join('');
  const rows = entries.reverse().map(({ entry, size }, index) => {
    const by = (entry.created_by ?? '').replace(/\s+/g, ' ');
    const created = options.human ? formatCreated(entry.created, options.now) : (entry.created ?? 'N/A');
    return [
      ids[index] ?? '',
      created,
      options.noTrunc || by.length <= 45 ? by : `${by.slice(0, 44)}…`,
      options.human ? formatSize(size) : String(size),
      entry.comment ?? '',
    ];
  });
  return formatTable(['IMAGE', 'CREATED', 'CREATED BY', 'SIZE', 'COMMENT'], rows);
}

/** `varve inspect`: an array in the shape of Docker's image inspect (Engine API, ImageInspect). */
export function renderInspect(details: readonly ImageDetails[]): string {
  const shown = details.map(({ image, size }) => {
    const { config } = image;
    return {
      Id: image.configDigest,
      RepoTags: image.names.flatMap((name) => {
        const { repository, tag } = splitName(name);
        return tag === NONE ? [] : [`${repository}:${tag}`];
      }),
      RepoDigests: [
        ...new Set(
          image.names.map((name) => {
            const digest = image.indexDigests?.[name] ?? image.manifestDigest;
            return `${splitName(name).repository}@${digest}`;
          }),
        ),
      ],
      Created: config.created ?? '',
      Author: config.author ?? '',
      Config: config.config ?? {},
      Architecture: config.architecture,
      ...(config.variant === undefined ? {} : { Variant: config.variant }),
      Os: config.os,
      Size: size,
      RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
    };
  });
  return `${JSON.stringify(shown, null, 4)}\n`;
}
