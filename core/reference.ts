import { type Digest, isDigest } from './digest.ts';
import { err, ok, type Result } from './result.ts';

/** An image's name in full: `docker.io/library/debian:12` for `debian:12`. Grammar of the distribution project's reference package. */
export interface Reference {
  /** Registry host with optional port: `docker.io`, `localhost:5000`. */
  readonly host: string;
  /** Path below the host: `library/debian`. */
  readonly repository: string;
  /** Absent only when a digest is given. */
  readonly tag?: string;
  readonly digest?: Digest;
}

const DEFAULT_HOST = 'docker.io';
const HOST =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/;
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/** Reads a name as Docker does: no host means Docker Hub, no tag and no digest means `latest`. */
export function parseReference(text: string): Result<Reference, string> {
  const [beforeDigest = '', digest, ...more] = text.split('@');
  if (more.length > 0 || (digest !== undefined && !isDigest(digest))) {
    return err(`invalid reference format: ${JSON.stringify(text)} has a malformed digest`);
  }
  const lastSlash = beforeDigest.lastIndexOf('/');
  const colon = beforeDigest.indexOf(':', lastSlash + 1);
  const path = colon === -1 ? beforeDigest : beforeDigest.slice(0, colon);
  const tag = colon === -1 ? undefined : beforeDigest.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag)) {
    return err(`invalid reference format: ${JSON.stringify(tag)} is no valid tag`);
  }
  const { host, repository } = splitHost(path);
  if (!HOST.test(host)) return err(`invalid reference format: ${JSON.stringify(host)} is no valid host`);
  const components = repository.split('/');
  if (repository.length > 255) return err('invalid reference format: the name is longer than 255 characters');
  const bad = components.find((component) => !COMPONENT.test(component));
  if (bad !== undefined) {
    const upper = /[A-Z]/.test(bad) ? ': repository names must be lowercase' : '';
    return err(`invalid reference format: ${JSON.stringify(text)}${upper}`);
  }
  const withTag = tag ?? (digest === undefined ? 'latest' : undefined);
  return ok({
    host,
    repository,
    ...(withTag === undefined ? {} : { tag: withTag }),
    ...(digest === undefined ? {} : { digest }),
  });
}

function splitHost(path: string): { readonly host: string; readonly repository: string } {
  const slash = path.indexOf('/');
  const first = slash === -1 ? '' : path.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost' || /[A-Z]/.test(first);
  if (!isHost) return { host: DEFAULT_HOST, repository: path.includes('/') ? path : `library/${path}` };
  const rest = path.slice(slash + 1);
  const host = first === 'index.docker.io' ? DEFAULT_HOST : first;
  return { host, repository: host === DEFAULT_HOST && !rest.includes('/') ? `library/${rest}` : rest };
}

/** The full form, which names the same image wherever it is read. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${reference.host}/${reference.repository}${tag}${digest}`;
}

/** The short form that Docker shows: without `docker.io/` and `library/`. */
export function familiarName(reference: Reference): string {
  const full = formatReference(reference);
  if (reference.host !== DEFAULT_HOST) return full;
  return full.slice('docker.io/'.length).replace(/^library\//, '');
}

/**
 * The form in which names of contexts and of images are compared (BuildKit's): short, and without `:latest`. Undefined where
 * `text` is no name.
 */
export function contextName(text: string): string | undefined {
  const parsed = parseReference(text);
  return parsed.ok ? familiarName(parsed.value).replace(/:latest$/, '') : undefined;
}
