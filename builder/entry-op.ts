import type { Attributes, Entry, FileContent, ImagePath, TreeOp } from '../core/index.ts';

/** The operation that makes `entry` anew at `path`. `content` is asked for regular files alone. */
export async function entryOp(
  entry: Entry,
  to: { readonly path: ImagePath; readonly attributes: Attributes },
  content: () => Promise<FileContent>,
): Promise<TreeOp> {
  const { path, attributes } = to;
  switch (entry.type) {
    case 'dir':
      return { op: 'dir', path, attributes };
    case 'file':
      return { op: 'file', path, attributes, content: await content() };
    case 'symlink':
      // The kernel gives every symlink mode 0777 and never looks at it (symlink(7)).
      return {
        op: 'symlink',
        path,
        attributes: { ...attributes, mode: 0o777 },
        target: entry.linkTarget ?? '',
      };
    default:
      return {
        op: 'node',
        path,
        attributes,
        type: entry.type,
        device: entry.device ?? { major: 0, minor: 0 },
      };
  }
}
