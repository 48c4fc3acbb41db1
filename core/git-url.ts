import { err, ok, type Result } from './result.ts';

/** A Git repository as a Dockerfile or the command line names it, with what is wanted of it. */
export interface GitSource {
  /** What git is given: without query and fragment. May hold a user and a password. */
  readonly remote: string;
  /** Branch, tag, full ref or commit; absent: the remote's HEAD. */
  readonly ref?: string;
  /** Folder of the repository, as written. */
  readonly subdir?: string;
  /** The commit that `ref` must be, or the first digits of it. */
  readonly checksum?: string;
  readonly keepGitDir?: boolean;
  /** Absent: submodules are fetched. */
  readonly submodules?: boolean;
  /** Times of the files: when they were checked out, or the commit's own. Absent: the commit's. */
  readonly mtime?: 'checkout' | 'commit';
  /** `github.com/…` without a scheme: a folder could be called so, which only build contexts take for a repository. */
  readonly likeAPath: boolean;
}

const SCHEME = /^([a-zA-Z0-9]+):\/\//;
const GIT_SCHEMES = new Set(['http', 'https', 'ssh', 'git']);
/** `user@host:path`, as scp(1) has it. */
const SCP = /^[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:/;
const TRUE = /^(?:1|t|T|TRUE|true|True)$/;
const FALSE = /^(?:0|f|F|FALSE|false|False)$/;

/**
 * Reads BuildKit's forms of a repository's address: `https://host/x.git#ref:folder`, `git@host:x.git`, `ssh://`, `git://`, and
 * queries such as `?branch=main&subdir=docs` (https://docs.docker.com/build/concepts/context/#git-repositories).
 *
 * @returns undefined where the text names no repository (an `http` address does so only when its path ends in `.git`); a
 * message where it does, wrongly.
 */
export function parseGitUrl(text: string): Result<GitSource | undefined, string> {
  if (/^\.\.?\//.test(text)) return ok(undefined);
  const { base, query, fragment } = cut(text);
  const likeAPath = base.startsWith('github.com/');
  const address = likeAPath ? `https://${base}` : base;
  const scheme = SCHEME.exec(address)?.[1]?.toLowerCase();
  const isUrl = scheme !== undefined;
  if (isUrl ? !GIT_SCHEMES.has(scheme) : !SCP.test(address)) return ok(undefined);
  if (isUrl && !URL.canParse(address)) return ok(undefined);
  const isWeb = scheme === 'http' || scheme === 'https';
  if (isWeb && !likeAPath && !address.endsWith('.git')) return ok(undefined);
  const wrong = wrongAddress(address, isUrl);
  if (wrong !== undefined) return err(wrong);
  const [ref = '', ...folder] = (isUrl ? decoded(fragment) : fragment).split(':');
  const wanted: Wanted = { ref, subdir: folder.join(':') };
  const problem = readQuery(new URLSearchParams(query), wanted) ?? wrongRef(wanted.ref);
  if (problem !== undefined) return err(problem);
  return ok({ remote: address, likeAPath, ...given(wanted) });
}

interface Wanted {
  ref: string;
  subdir: string;
  checksum?: string;
  keepGitDir?: boolean;
  submodules?: boolean;
  mtime?: 'checkout' | 'commit';
}

function given({ ref, subdir, ...rest }: Wanted): Omit<GitSource, 'remote' | 'likeAPath'> {
  return { ...(ref === '' ? {} : { ref }), ...(subdir === '' ? {} : { subdir }), ...rest };
}

function cut(text: string): { readonly base: string; readonly query: string; readonly fragment: string } {
  const [beforeHash = '', ...afterHash] = text.split('#');
  const [base = '', ...query] = beforeHash.split('?');
  return { base, query: query.join('?'), fragment: afterHash.join('#') };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What git would read as an option of its own, or of ssh. */
function wrongAddress(address: string, isUrl: boolean): string | undefined {
  const host = isUrl ? new URL(address).hostname : address.slice(address.indexOf('@') + 1);
  const path = isUrl ? '' : address.slice(address.indexOf(':') + 1);
  if (host === '' || host.startsWith('-')) return `${JSON.stringify(address)} has no valid host`;
  if (path.startsWith('-')) return `${JSON.stringify(address)} has no valid path`;
  return undefined;
}

/** Names that git-check-ref-format(1) refuses, and those that git would take for an option or a pattern. */
function wrongRef(ref: string): string | undefined {
  if (ref === '') return undefined;
  const refused = ref.startsWith('-') || /[\0-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|\/$|\.lock(?:\/|$)/.test(ref);
  return refused ? `${JSON.stringify(ref)} is no valid name of a branch, tag or commit` : undefined;
}

/** Puts the query into `wanted`. @returns what is wrong with it. */
function readQuery(query: URLSearchParams, wanted: Wanted): string | undefined {
  let named: string | undefined;
  for (const key of new Set(query.keys())) {
    const [value = '', ...more] = query.getAll(key);
    if (more.length > 0) return `query ${JSON.stringify(key)} has multiple values`;
    if (key === 'tag' || key === 'branch') {
      if (value === '') return noValue(key);
      if (named !== undefined) return 'branch conflicts with tag';
      const prefix = key === 'tag' ? 'refs/tags/' : 'refs/heads/';
      named = value.startsWith(prefix) ? value : `${prefix}${value}`;
      continue;
    }
    const problem = readKey(key, value, wanted);
    if (problem !== undefined) return problem;
  }
  if (named !== undefined) {
    if (wanted.ref !== '' && wanted.ref !== named) return conflict('ref', wanted.ref, named);
    wanted.ref = named;
  }
  if (wanted.ref === '' && wanted.checksum !== undefined) wanted.ref = wanted.checksum;
  return undefined;
}

function readKey(key: string, value: string, wanted: Wanted): string | undefined {
  switch (key) {
    case 'ref':
    case 'subdir':
      if (value === '') return noValue(key);
      if (wanted[key] !== '' && wanted[key] !== value) return conflict(key, wanted[key], value);
      wanted[key] = value;
      return undefined;
    case 'checksum':
    case 'commit':
      if (value === '') return noValue(key);
      if (!/^[0-9a-f]{1,64}$/.test(value))
        return `invalid checksum ${JSON.stringify(value)}, expected hex commit hash`;
      if (wanted.checksum !== undefined && wanted.checksum !== value)
        return conflict('checksum', wanted.checksum, value);
      wanted.checksum = value;
      return undefined;
    case 'keep-git-dir':
    case 'submodules': {
      if (value !== '' && !TRUE.test(value) && !FALSE.test(value))
        return `invalid ${key} value: ${JSON.stringify(value)}`;
      wanted[key === 'submodules' ? 'submodules' : 'keepGitDir'] = !FALSE.test(value);
      return undefined;
    }
    case 'mtime':
      if (value !== 'checkout' && value !== 'commit') return `invalid mtime value: ${JSON.stringify(value)}`;
      wanted.mtime = value;
      return undefined;
    case 'fetch-by-commit':
      // Says how to fetch, not what: commits are asked for by their ids here wherever the server lets us.
      return value === '' || TRUE.test(value) || FALSE.test(value)
        ? undefined
        : `invalid fetch-by-commit value: ${JSON.stringify(value)}`;
    default:
      return `unexpected query ${JSON.stringify(key)}`;
  }
}

function noValue(key: string): string {
  return `query ${JSON.stringify(key)} has no value`;
}

function conflict(what: string, one: string, other: string): string {
  return `${what} conflicts: ${JSON.stringify(one)} vs ${JSON.stringify(other)}`;
}

/** Is `text` an address that is fetched over HTTP? */
export function isHttpUrl(text: string): boolean {
  return /^https?:\/\//.test(text);
}

/** An address for messages, records and keys: without the password, and for HTTP without the user too (it may be a token). */
export function withoutCredentials(address: string): string {
  return address.replace(/^(https?:\/\/)[^/@]*@/i, '$1').replace(/^([a-z]+:\/\/[^/:@]*):[^/@]*@/i, '$1@');
}
