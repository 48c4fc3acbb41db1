import { readFile, realpath } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import { type DockerfileSource, errnoOf, type HostPath, MachineError } from '../core/index.ts';
import { type IgnoreRules, NO_IGNORE_RULES, parseIgnoreFile } from './ignore.ts';
import { stop } from './stop.ts';

/** A Dockerfile's text and the name to call it by in messages. */
export interface LoadedDockerfile {
  readonly file: string;
  readonly text: string;
}

/** Larger files are no Dockerfiles; BuildKit has a similar bound on what it reads as one. */
const MAX_BYTES = 16 * 1024 * 1024;

/** Reads the Dockerfile that a request names. `context` is the folder of the context; undefined for an empty one. */
export async function loadDockerfile(
  source: DockerfileSource,
  context: HostPath | undefined,
): Promise<LoadedDockerfile> {
  if (source.kind === 'inline') return { file: 'Dockerfile', text: source.text };
  const path = pathOf(source.path, context);
  const file = source.path;
  try {
    const bytes = await readFile(path);
    if (bytes.length > MAX_BYTES)
      stop('dockerfile-too-large', `${file} has ${bytes.length} bytes, more than ${MAX_BYTES}`);
    return { file, text: bytes.toString('utf8') };
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') {
      stop('dockerfile-missing', `failed to read dockerfile: open ${path}: no such file or directory`, {
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

function pathOf(path: string, context: HostPath | undefined): string {
  return isAbsolute(path) || context === undefined ? path : join(context, path);
}

/** The rules of `<dockerfile>.dockerignore` beside the Dockerfile, else of the context's `.dockerignore`. */
export async function loadIgnoreRules(source: DockerfileSource, context: HostPath): Promise<IgnoreRules> {
  const candidates = [join(context, '.dockerignore')];
  if (source.kind === 'file') candidates.unshift(`${pathOf(source.path, context)}.dockerignore`);
  for (const path of candidates) {
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
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new MachineError('dockerignore-unreadable', `cannot read ${path}`, { cause: error });
  }
}

/** The context folder with its symlinks resolved. Ends the build where it is no folder. */
export async function openContextFolder(path: HostPath): Promise<HostPath> {
  try {
    return (await realpath(path)) as HostPath;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    stop('context-missing', `unable to prepare context: path ${JSON.stringify(path)} not found`, {
      hint: 'Give the folder that holds the files to build from.',
    });
  }
}
