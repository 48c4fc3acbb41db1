import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { asDigest, type Digest, type Entry, fsPath, type HostPath, joinHost } from '../../core/index.ts';
import { ContextTree } from '../context.ts';
import { NO_IGNORE_RULES } from '../ignore.ts';

/**
 * The files of a folder that this process made for itself, all of them. No digest is kept from one build to the next: the folder
 * is another one then.
 */
export function folderTree(folder: HostPath, present?: (entry: Entry) => Entry): ContextTree {
  return new ContextTree({
    folder,
    ignore: NO_IGNORE_RULES,
    digestFiles: async (files) => {
      const digests: Digest[] = [];
      for (const { path } of files) digests.push(await digestFile(joinHost(folder, path)));
      return digests;
    },
    ...(present === undefined ? {} : { present }),
  });
}

async function digestFile(path: HostPath): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(fsPath(path))) hash.update(chunk);
  return asDigest(`sha256:${hash.digest('hex')}`);
}
