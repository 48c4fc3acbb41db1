import type { Reference } from '../../core/index.ts';

/** How one registry is reached: BuildKit's `[registry."host"]` tables, by host. */
export type RegistryConfig = Readonly<Record<string, RegistrySettings>>;

export interface RegistrySettings {
  /** Hosts to ask first when pulling, `host[:port][/path]`. */
  readonly mirrors?: readonly string[];
  /** Plain HTTP. */
  readonly http?: boolean;
  /** Certificates are not verified; plain HTTP where HTTPS does not answer. */
  readonly insecure?: boolean;
}

/** One address under which a repository can be asked for. */
export interface Endpoint {
  /** What credentials are kept under. */
  readonly host: string;
  /** `https://host/v2`, or with the mirror's path. */
  readonly base: string;
  readonly insecure: boolean;
  readonly isMirror: boolean;
}

const HUB = 'docker.io';
const HUB_API = 'registry-1.docker.io';
const LOOPBACK = /^(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?$/;

export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host);
}

/** Where to pull `host`'s images from, in the order to try. */
export function pullEndpoints(host: string, config: RegistryConfig): readonly Endpoint[] {
  const mirrors = config[host]?.mirrors ?? [];
  return [...mirrors.flatMap((mirror) => mirrorEndpoints(mirror, config)), ...originEndpoints(host, config)];
}

/** The registry itself: HTTPS; plain HTTP for loopback and by setting. */
export function originEndpoints(host: string, config: RegistryConfig): readonly Endpoint[] {
  return endpointsOf(host, { path: '', isMirror: false, ...settingsOf(host, config) });
}

function mirrorEndpoints(mirror: string, config: RegistryConfig): readonly Endpoint[] {
  const plain = mirror.startsWith('http://');
  const [host = '', ...path] = mirror
    .replace(/^https?:\/\//, '')
    .replace(/\/+$/, '')
    .split('/');
  const settings = settingsOf(host, config);
  const suffix = path.length === 0 ? '' : `/${path.join('/')}`;
  return endpointsOf(host, { ...settings, http: settings.http || plain, path: suffix, isMirror: true });
}

function settingsOf(
  host: string,
  config: RegistryConfig,
): { readonly http: boolean; readonly insecure: boolean } {
  const settings = config[host];
  return { http: settings?.http ?? isLoopback(host), insecure: settings?.insecure ?? false };
}

function endpointsOf(
  host: string,
  options: {
    readonly http: boolean;
    readonly insecure: boolean;
    readonly path: string;
    readonly isMirror: boolean;
  },
): readonly Endpoint[] {
  const { http, insecure, path, isMirror } = options;
  const schemes = http ? ['http'] : insecure ? ['https', 'http'] : ['https'];
  const address = host === HUB ? HUB_API : host;
  return schemes.map((scheme) => ({ host, base: `${scheme}://${address}/v2${path}`, insecure, isMirror }));
}

export function manifestUrl(endpoint: Endpoint, { repository }: Reference, tagOrDigest: string): URL {
  return new URL(`${endpoint.base}/${repository}/manifests/${tagOrDigest}`);
}

export function blobUrl(endpoint: Endpoint, { repository }: Reference, digest: string): URL {
  return new URL(`${endpoint.base}/${repository}/blobs/${digest}`);
}
