import { randomBytes } from 'node:crypto';
import { open, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import {
  type Diagnostic,
  encodePath,
  errnoOf,
  formatReference,
  MachineError,
  parseReference,
} from '../core/index.ts';
import type { BuildSuccess, FailedBuild } from './engine-contract.ts';

/**
 * What `--metadata-file` holds: buildx's keys and `varve.steps`. Of a failed build only the steps, so that a script can
 * see which one failed. `image.name` is a comma-separated list of full references, as buildx writes it, who also writes `warnings` where
 * they are asked for.
 */
export function metadataContent(
  result: BuildSuccess | FailedBuild,
  warnings?: readonly Diagnostic[],
): string {
  const metadata: Record<string, unknown> = {};
  if ('image' in result && result.image !== undefined) {
    const { configDigest, descriptor } = result.image;
    if (configDigest !== undefined) metadata['containerimage.config.digest'] = configDigest;
    if (descriptor !== undefined) metadata['containerimage.descriptor'] = descriptor;
    metadata['containerimage.digest'] = result.image.manifestDigest;
    if (result.image.names.length > 0) metadata['image.name'] = result.image.names.map(fullName).join(',');
  }
  if (warnings !== undefined && warnings.length > 0)
    metadata['buildx.build.warnings'] = warnings.map((warning) => vertexWarning(warning, result.dockerfile));
  metadata['varve.steps'] = result.steps;
  return `${JSON.stringify(metadata, null, 2)}\n`;
}

/** A warning in the shape of BuildKit's `VertexWarning`, as Go writes it: texts are bytes in base64. */
function vertexWarning(
  { code, message, range, hint, url }: Diagnostic,
  dockerfile: BuildSuccess['dockerfile'],
): Readonly<Record<string, unknown>> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const at = ({ line }: { readonly line: number }) => ({ line });
  return {
    level: 1,
    short: base64(`${code}: ${message} (line ${range.start.line})`),
    ...(hint === undefined ? {} : { detail: [base64(hint)] }),
    ...(url === undefined ? {} : { url }),
    ...(dockerfile === undefined
      ? {}
      : {
          sourceInfo: {
            filename: dockerfile.file,
            data: encodePath(dockerfile.text).toString('base64'),
            language: 'Dockerfile',
          },
        }),
    range: [{ start: at(range.start), end: at(range.end) }],
  };
}

function fullName(name: string): string {
  const parsed = parseReference(name);
  return parsed.ok ? formatReference(parsed.value) : name;
}

/**
 * Writes `content` under a temporary name beside `file`, then renames it: a reader never sees half of it. A symlink is
 * followed; what is no regular file (`/dev/stdout`, a pipe) is written to as it is.
 *
 * @throws MachineError `file-unwritable` that names the file and `what` it is.
 */
export async function writeAtomically(file: string, content: string, what: string): Promise<void> {
  try {
    const place = await placeOf(file);
    if (!place.regular) await writeFile(file, content);
    else await replaceFile(place.path, content);
  } catch (error) {
    const code = errnoOf(error);
    if (code === undefined) throw error;
    throw new MachineError('file-unwritable', `cannot write ${what} ${file}: ${code}`, {
      hint: 'The build itself is done. Make the folder writable, or name another file.',
      cause: error,
    });
  }
}

async function placeOf(file: string): Promise<{ readonly path: string; readonly regular: boolean }> {
  try {
    return { path: await realpath(file), regular: (await stat(file)).isFile() };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { path: file, regular: true };
    throw error;
  }
}

async function replaceFile(file: string, content: string): Promise<void> {
  const temporary = `${file}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx', 0o644);
  try {
    await handle.writeFile(content);
    await handle.sync();
    await handle.close();
    await rename(temporary, file);
  } catch (error) {
    await handle.close();
    await rm(temporary, { force: true });
    throw error;
  }
}
