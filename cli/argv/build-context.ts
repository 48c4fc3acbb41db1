import { isAbsolute, resolve } from 'node:path';
import {
  type BuildContext,
  contextName,
  type DockerfileSource,
  type HostPath,
  isDigest,
  isHttpUrl,
  type NamedContext,
  parseGitUrl,
  parseReference,
  type RemoteContext,
  UsageError,
  withoutCredentials,
} from '../../core/index.ts';
import type { BuildOptions, RequestSurroundings } from './build-options.ts';

/** What `PATH | URL | -` means. A folder comes before an address that is called like it. */
export function contextOf(options: BuildOptions, around: RequestSurroundings): BuildContext {
  const { context } = options;
  if (context === '') throw new UsageError('the build context is empty', 'Give a folder, "." for this one.');
  if (context === '-') {
    return around.stdin?.kind === 'archive'
      ? { kind: 'archive', path: around.stdin.path }
      : { kind: 'empty' };
  }
  const path = resolve(around.cwd, context) as HostPath;
  if (around.isFolder(path)) return { kind: 'directory', path };
  return remoteOf(context) ?? { kind: 'directory', path };
}

/** A Git repository or a file on a web server; undefined where `text` is the name of something local. */
function remoteOf(text: string): RemoteContext | undefined {
  const git = parseGitUrl(text);
  if (!git.ok) throw new UsageError(`the context ${withoutCredentials(text)}: ${git.error}`);
  if (git.value !== undefined) return { kind: 'git', url: text };
  return isHttpUrl(text) ? { kind: 'http', url: text } : undefined;
}

/** Where the Dockerfile lies: `-f`, or what comes with the context. */
export function dockerfileOf(options: BuildOptions, around: RequestSurroundings): DockerfileSource {
  const { stdin } = around;
  const file = options.flags.file;
  if (file === '-') {
    if (options.context === '-') {
      throw new UsageError(
        'both the context and the Dockerfile are "-": standard input can be only one of them',
      );
    }
    if (stdin?.kind !== 'text')
      throw new UsageError('--file=-: standard input holds an archive, not a Dockerfile');
    return { kind: 'inline', text: stdin.text };
  }
  if (options.context === '-' && stdin?.kind === 'text') {
    if (file !== undefined) {
      throw new UsageError('standard input holds a Dockerfile, and --file names another one');
    }
    return { kind: 'inline', text: stdin.text };
  }
  if (file === undefined || file === '') return { kind: 'file', path: 'Dockerfile' };
  if (isHttpUrl(file)) return { kind: 'remote', url: file };
  // Beside a folder a path is taken from the working folder, as Docker does; in an archive or a repository from its root.
  const isLocal = contextOf(options, around).kind === 'directory';
  return { kind: 'file', path: isLocal || isAbsolute(file) ? resolve(around.cwd, file) : file };
}

/** The contexts that `--build-context NAME=VALUE` names; the last one of a name counts. */
export function namedContextsOf(
  options: BuildOptions,
  around: RequestSurroundings,
): { readonly namedContexts?: Readonly<Record<string, NamedContext>> } {
  const given = options.flags['build-context'];
  if (given.length === 0) return {};
  const contexts = new Map<string, NamedContext>();
  for (const text of given) {
    const equals = text.indexOf('=');
    if (equals === -1) {
      throw new UsageError(
        `--build-context: ${JSON.stringify(text)} has no "="`,
        'Write name=path, or name=docker-image://image.',
      );
    }
    const name = contextName(text.slice(0, equals));
    if (name === undefined) {
      throw new UsageError(
        `--build-context: ${JSON.stringify(text.slice(0, equals))} is no name`,
        'Name it like a stage or an image: lower case letters, digits, and . _ - / between them.',
      );
    }
    contexts.set(name, namedContextOf(name, text.slice(equals + 1), around));
  }
  return { namedContexts: Object.fromEntries(contexts) };
}

function namedContextOf(name: string, value: string, around: RequestSurroundings): NamedContext {
  if (value === '') throw new UsageError(`--build-context: ${name} has no value`, 'Write name=path.');
  if (value.startsWith('docker-image://')) return imageContext(name, value.slice('docker-image://'.length));
  if (value.startsWith('oci-layout://')) {
    return layoutContext(name, value.slice('oci-layout://'.length), around.cwd);
  }
  if (value.startsWith('target:')) {
    throw new UsageError(
      `--build-context: ${name}=${value}: targets of other builds are not to be had in a single build`,
      'Give a folder, an image or an address.',
    );
  }
  const remote = remoteOf(value);
  if (remote !== undefined) return remote;
  const path = resolve(around.cwd, value) as HostPath;
  if (around.isFolder(path)) return { kind: 'directory', path };
  throw new UsageError(
    `--build-context: failed to get build context ${name}: ${value} is no folder`,
    'Give a folder, docker-image://IMAGE, oci-layout://FOLDER, or the address of a repository or a file.',
  );
}

function imageContext(name: string, image: string): NamedContext {
  const parsed = parseReference(image);
  if (image === 'scratch' || parsed.ok) return { kind: 'image', name: image };
  throw new UsageError(`--build-context: ${name}: ${parsed.error}`);
}

/** `FOLDER[:TAG][@DIGEST]` */
function layoutContext(name: string, text: string, cwd: string): NamedContext {
  const [beforeDigest = '', digest] = text.split('@');
  const [folder = '', tag] = beforeDigest.split(':');
  if (folder === '') throw new UsageError(`--build-context: ${name}: oci-layout:// names no folder`);
  if (digest !== undefined && !isDigest(digest)) {
    throw new UsageError(
      `--build-context: ${name}: ${JSON.stringify(digest)} is no digest`,
      'Write sha256: and 64 hexadecimal digits.',
    );
  }
  return {
    kind: 'oci-layout',
    path: resolve(cwd, folder) as HostPath,
    ...(tag === undefined || tag === '' ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}
