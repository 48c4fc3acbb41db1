import type { Descriptor, Platform } from '../core/index.ts';

/** Other words for architectures: containerd/platforms, database.go. */
const ARCHITECTURES: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  i386: ['386'],
  i686: ['386'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
};

/** One word for each platform: `arm64` is `arm64/v8`, `arm` is `arm/v7`, `amd64` is `amd64/v1`. */
export function normalizePlatform(
  platform: Platform,
): Required<Pick<Platform, 'os' | 'architecture' | 'variant'>> {
  const os = platform.os.toLowerCase() === 'macos' ? 'darwin' : platform.os.toLowerCase();
  const written = platform.architecture.toLowerCase();
  const [architecture, implied] = ARCHITECTURES[written] ?? [written];
  const variant = platform.variant?.toLowerCase() ?? implied ?? '';
  const usual: Readonly<Record<string, string>> = { arm64: 'v8', arm: 'v7', amd64: 'v1' };
  const numbered = /^[0-9]+$/.test(variant) ? `v${variant}` : variant;
  return { os, architecture, variant: numbered === '' ? (usual[architecture] ?? '') : numbered };
}

export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = platform;
  return [os, architecture, ...(variant === undefined || variant === '' ? [] : [variant])].join('/');
}

/**
 * What runs on `platform`, best first, as containerd chooses: itself, lower variants, then 32-bit kinds of the same family
 * (containerd/platforms, compare.go, `platformVector`).
 */
function runsOn(platform: Platform): readonly string[] {
  const { os, architecture, variant } = normalizePlatform(platform);
  const level = /^v([0-9])$/.exec(variant)?.[1];
  const lower = (name: string, from: number, least: number): string[] =>
    Array.from({ length: Math.max(0, from - least + 1) }, (_, at) => `${os}/${name}/v${from - at}`);
  if (architecture === 'amd64' && level !== undefined)
    return [...lower('amd64', Number(level), 1), `${os}/386/`];
  if (architecture === 'arm64' && level !== undefined)
    return [...lower('arm64', Number(level), 8), ...lower('arm', 8, 5)];
  if (architecture === 'arm' && level !== undefined) return lower('arm', Number(level), 5);
  return [`${os}/${architecture}/${variant}`];
}

/** Lower is better; undefined: `candidate` does not run on `wanted`. */
export function platformRank(wanted: Platform, candidate: Platform): number | undefined {
  const { os, architecture, variant } = normalizePlatform(candidate);
  const rank = runsOn(wanted).indexOf(`${os}/${architecture}/${variant}`);
  return rank === -1 ? undefined : rank;
}

/** Attestations of BuildKit stand in an index beside the images that they are about; they are no images. */
export function isAttestation(descriptor: Descriptor): boolean {
  const { platform, annotations } = descriptor;
  return (
    annotations?.['vnd.docker.reference.type'] === 'attestation-manifest' ||
    (platform?.os === 'unknown' && platform.architecture === 'unknown')
  );
}

/**
 * The manifest of an index that fits `platform` best; of equally good ones the first. An entry without a platform fits
 * where it is the only one.
 */
export function selectManifest(manifests: readonly Descriptor[], platform: Platform): Descriptor | undefined {
  const images = manifests.filter((descriptor) => !isAttestation(descriptor));
  let best: { readonly descriptor: Descriptor; readonly rank: number } | undefined;
  for (const descriptor of images) {
    const rank = descriptor.platform === undefined ? undefined : platformRank(platform, descriptor.platform);
    if (rank !== undefined && (best === undefined || rank < best.rank)) best = { descriptor, rank };
  }
  const [only] = images;
  return best?.descriptor ?? (images.length === 1 && only?.platform === undefined ? only : undefined);
}
