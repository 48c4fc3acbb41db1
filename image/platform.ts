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

const USUAL_VARIANT: Readonly<Record<string, string>> = { arm64: 'v8', arm: 'v7', amd64: 'v1' };

/** One word for each platform: `arm64` is `arm64/v8`, `arm` is `arm/v7`, `amd64` is `amd64/v1`. */
export function normalizePlatform(
  platform: Platform,
): Required<Pick<Platform, 'os' | 'architecture' | 'variant'>> {
  const os = platform.os.toLowerCase() === 'macos' ? 'darwin' : platform.os.toLowerCase();
  const written = platform.architecture.toLowerCase();
  const [architecture, implied] = ARCHITECTURES[written] ?? [written];
  const variant = platform.variant?.toLowerCase() ?? implied ?? '';
  const numbered = /^[0-9]+$/.test(variant) ? `v${variant}` : variant;
  return { os, architecture, variant: numbered === '' ? (USUAL_VARIANT[architecture] ?? '') : numbered };
}

const SYSTEMS: ReadonlySet<string> = new Set([
  'aix',
  'android',
  'darwin',
  'dragonfly',
  'freebsd',
  'illumos',
  'ios',
  'js',
  'linux',
  'netbsd',
  'openbsd',
  'plan9',
  'solaris',
  'wasip1',
  'windows',
]);
const KNOWN_ARCHITECTURES: ReadonlySet<string> = new Set([
  '386',
  'amd64',
  'arm',
  'arm64',
  'loong64',
  'mips',
  'mips64',
  'mips64le',
  'mipsle',
  'ppc64',
  'ppc64le',
  'riscv64',
  's390x',
  'wasm',
]);

/**
 * Reads `os`, `architecture`, `os/architecture` or `os/architecture/variant` in the words that containerd takes
 * (containerd/platforms, `Parse` and `Normalize`): `aarch64` is `arm64`, `arm` is `arm/v7`, and a variant that says nothing
 * (`arm64/v8`, `amd64/v1`) is left out. What one word alone leaves open is that of `local`.
 *
 * @returns undefined where it is no platform.
 */
export function parsePlatform(text: string, local: Platform): Platform | undefined {
  const parts = text.split('/');
  if (parts.length > 3 || !parts.every((part) => /^[A-Za-z0-9_.-]+$/.test(part))) return undefined;
  const [first = '', second, variant] = parts;
  if (second !== undefined) {
    return shortPlatform({ os: first, architecture: second, ...(variant === undefined ? {} : { variant }) });
  }
  const os = normalizePlatform({ ...local, os: first }).os;
  if (SYSTEMS.has(os)) return shortPlatform({ ...local, os });
  const alone = shortPlatform({ os: local.os, architecture: first });
  return KNOWN_ARCHITECTURES.has(alone.architecture) ? alone : undefined;
}

/** The one way to write a platform: a variant that every machine of the architecture has is left out. */
export function shortPlatform(platform: Platform): Platform {
  const { os, architecture, variant } = normalizePlatform(platform);
  const isUsual = architecture !== 'arm' && variant === USUAL_VARIANT[architecture];
  return { os, architecture, ...(variant === '' || isUsual ? {} : { variant }) };
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
