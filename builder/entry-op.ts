import {
  type Attributes,
  type Entry,
  type FileContent,
  type ImagePath,
  type Soon,
  soon,
  type TreeOp,
} from '../core/index.ts';

/** The operation that makes `entry` anew at `path`. `content` is asked for regular files alone. */
export function entryOp(
  entry: Entry,
  to: { readonly path: ImagePath; readonly attributes: Attributes },
  content: () => Soon<FileContent>,
): Soon<TreeOp> {
  const { path, attributes } = to;
  switch (entry.type) {
    case 'dir':
      return { op: 'dir', path, attributes };
    case 'file':
      return soon(content(), (found): TreeOp => ({ op: 'file', path, attributes, content: found }));
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
