import { readFileSync, realpathSync, statSync } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import {
  type BuildFailure,
  type Diagnostic,
  type DockerfileSource,
  decodePath,
  errnoOf,
  type HostPath,
  imagePath,
  joinHost,
  MachineError,
  resolvePath,
  withoutCredentials,
} from '../core/index.ts';
import { type Dockerfile, parse } from '../parser/index.ts';
import { type IgnoreRules, NO_IGNORE_RULES, parseIgnoreFile } from './ignore.ts';
import { folderTree } from './sources/index.ts';
import { stop } from './stop.ts';

/** The folder of a context. */
export interface ContextFolder {
  readonly path: HostPath;
  /** The user's own; else one that was made of what came from elsewhere, and whose symlinks lead nowhere outside of it. */
  readonly isLocal: boolean;
  /** Told of each of the machine's files before it is read. */
  readonly look?: (path: string) => void;
}

/** A Dockerfile's text and the name to call it by in messages. */
export interface LoadedDockerfile {
  readonly file: string;
  /** Bytes that are not UTF-8 are kept as in paths. */
  readonly text: string;
}

/** Larger files are no Dockerfiles; BuildKit has a similar bound on what it reads as one. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * Reads the Dockerfile that a request names. `context` is the folder of the context; undefined for an empty one. `fetch` gets a
 * file from a web server.
 */
export async function loadDockerfile(
  source: DockerfileSource,
  context: ContextFolder | undefined,
  fetch: (url: string) => Promise<{ readonly path: HostPath; readonly size: number }>,
): Promise<LoadedDockerfile> {
  if (source.kind === 'inline') return { file: 'Dockerfile', text: source.text };
  if (source.kind === 'remote') {
    const name = withoutCredentials(source.url);
    const file = await fetch(source.url);
    return file.size > MAX_BYTES ? tooLarge(name, file.size) : textOf(name, await readFile(file.path));
  }
  const path = await pathInContext(source.path, context);
  context?.look?.(path);
  try {
    return textOf(source.path, await readText(path, context));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') {
      // BuildKit takes the lower case name too, where it was not told another one.
      if (basename(path) === 'Dockerfile') {
        const lower = join(dirname(source.path), 'dockerfile');
        const at = await pathInContext(lower, context);
        context?.look?.(at);
        const bytes = await readText(at, context).catch(() => undefined);
        if (bytes !== undefined) return textOf(lower, bytes);
      }
      const place = context?.isLocal === false ? source.path : path;
      stop('dockerfile-missing', `failed to read dockerfile: open ${place}: no such file or directory`, {
        hint: 'Name it with -f, or run varve build in the folder that holds it.',
      });
    }
    if (errno === 'EISDIR')
      stop('dockerfile-is-folder', `failed to read dockerfile: ${path} is a folder`, {
        hint: 'Name a file with -f.',
      });
    if (errno === undefined) throw error;
    throw new MachineError('dockerfile-unreadable', `failed to read dockerfile: ${path}: ${errno}`, {
      cause: error,
    });
  }
}

/** What a Dockerfile's text says, or why it cannot be read. */
export type ReadDockerfile = { readonly warnings: readonly Diagnostic[] } & (
  | { readonly dockerfile: Dockerfile; readonly partial?: undefined; readonly failure?: undefined }
  | { readonly dockerfile?: undefined; readonly partial?: Dockerfile; readonly failure: BuildFailure }
);

/** Parses; the failure names all errors. */
export function readDockerfile({ file, text }: LoadedDockerfile): ReadDockerfile {
  const failed = { kind: 'build-failure' } as const;
  if (text.trim() === '') {
    const hint = 'A Dockerfile begins with FROM.';
    const failure = { ...failed, code: 'dockerfile-empty', message: `${file} is empty`, hint };
    return { warnings: [], failure };
  }
  const { dockerfile, partial, diagnostics } = parse(text);
  const warnings = diagnostics.filter((diagnostic) => diagnostic.severity === 'warning');
  if (dockerfile !== undefined) return { dockerfile, warnings };
  const errors = diagnostics.filter((diagnostic) => diagnostic.severity === 'error');
  const [first] = errors;
  return {
    warnings,
    ...(partial === undefined ? {} : { partial }),
    failure: {
      ...failed,
      code: first?.code ?? 'dockerfile-invalid',
      message: first?.message ?? `${file} cannot be read`,
      ...(first === undefined ? {} : { range: first.range }),
      diagnostics: errors,
    },
  };
}

/** Reads a file. What came from elsewhere may be anything: a pipe that nobody writes to, or a file that fills the memory. */
async function readText(path: string, context: ContextFolder | undefined): Promise<Uint8Array> {
  if (context?.isLocal === false && path.startsWith(`${context.path}/`)) {
    const found = await lstat(path);
    if (!found.isFile() && !found.isDirectory())
      stop('dockerfile-is-no-file', 'failed to read dockerfile: it is no regular file', {
        hint: 'Name a file with -f.',
      });
    if (found.size > MAX_BYTES) tooLarge(basename(path), found.size);
  }
  return readNow(path);
}

/** At once where it is a file: to hand that over to another thread takes longer than it does. Whoever writes to a pipe is waited for. */
async function readNow(path: string): Promise<Buffer> {
  return statSync(path).isFile() ? readFileSync(path) : readFile(path);
}

function tooLarge(file: string, bytes: number): never {
  stop('dockerfile-too-large', `${file} has ${bytes} bytes, more than ${MAX_BYTES}`);
}

function textOf(file: string, bytes: Uint8Array): LoadedDockerfile {
  if (bytes.length > MAX_BYTES) tooLarge(file, bytes.length);
  return { file, text: decodePath(bytes) };
}

/** In a context that came from elsewhere, symlinks and `..` are kept inside of it: they could name this machine's files. */
async function pathInContext(path: string, context: ContextFolder | undefined): Promise<string> {
  if (isAbsolute(path) || context === undefined) return path;
  if (context.isLocal) return join(context.path, path);
  const found = await resolvePath(folderTree(context.path), imagePath(path), { followLast: true });
  return joinHost(context.path, found?.path ?? imagePath(path));
}

function pathOf(path: string, context: HostPath): string {
  return isAbsolute(path) ? path : join(context, path);
}

/** The rules of `<dockerfile>.dockerignore` beside the Dockerfile, else of the context's `.dockerignore`. */
export async function loadIgnoreRules(
  source: DockerfileSource,
  context: HostPath,
  look?: (path: string) => void,
): Promise<IgnoreRules> {
  const candidates = [join(context, '.dockerignore')];
  if (source.kind === 'file') candidates.unshift(`${pathOf(source.path, context)}.dockerignore`);
  for (const path of candidates) {
    look?.(path);
    const text = await readOptional(path);
    if (text === undefined) continue;
    const rules = parseIgnoreFile(text);
    if (!rules.ok)
      stop('bad-dockerignore', `${basename(path)}: ${rules.error}`, { hint: `Mend the pattern in ${path}.` });
    return rules.value;
  }
  return NO_IGNORE_RULES;
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return (await readNow(path)).toString();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new MachineError('dockerignore-unreadable', `cannot read ${path}`, { cause: error });
  }
}

/** The context folder with its symlinks resolved. Ends the build where it is no folder. */
export function openContextFolder(path: HostPath): HostPath {
  try {
    return realpathSync.native(path) as HostPath;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    stop('context-missing', `unable to prepare context: path ${JSON.stringify(path)} not found`, {
      hint: 'Give the folder that holds the files to build from.',
    });
  }
}
