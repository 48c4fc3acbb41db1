import {
  type ImagePath,
  imagePath,
  parentPath,
  ROOT_PATH,
  type Soon,
  soon,
  type TreeOp,
} from '../../core/index.ts';
import type { RecordingTree } from '../recording-tree.ts';

/** Operations on their way to a tree, which note what each of them meets there. */
export class ObservedOps implements AsyncIterable<TreeOp> {
  readonly #ops: AsyncIterable<TreeOp> | Iterable<TreeOp>;
  readonly #parent: RecordingTree;
  readonly #made = new Map<ImagePath, TreeOp['op']>();
  #isTraceable = true;

  constructor(ops: AsyncIterable<TreeOp> | Iterable<TreeOp>, parent: RecordingTree) {
    this.#ops = ops;
    this.#parent = parent;
  }

  /**
   * Whether all that the operations met is noted. It is not where a path leads through a symlink: the operation then happens
   * elsewhere than its path says.
   */
  get isTraceable(): boolean {
    return this.#isTraceable;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TreeOp> {
    for await (const op of this.#ops) {
      await this.see(op);
      yield op;
    }
  }

  /** Notes what one more operation meets. */
  see(op: TreeOp): Soon<void> {
    const path = imagePath(op.path);
    return soon(this.#note(path), () => {
      if (op.op === 'hardlink' && !this.#made.has(imagePath(op.target))) this.#isTraceable = false;
      this.#made.set(path, op.op);
    });
  }

  #note(path: ImagePath): Soon<void> {
    if (!this.#isTraceable) return;
    // A folder that an earlier operation went through was judged then.
    return isFolder(this.#made.get(parentPath(path))) ? this.#parent.touch(path) : this.#judge(path);
  }

  async #judge(path: ImagePath): Promise<void> {
    for (let at = parentPath(path); at !== ROOT_PATH; at = parentPath(at)) {
      const made = this.#made.get(at);
      const isLink =
        made === undefined ? (await this.#parent.lstat(at))?.type === 'symlink' : made === 'symlink';
      if (isLink) this.#isTraceable = false;
      if (isFolder(made)) break;
    }
    await this.#parent.touch(path);
  }
}

function isFolder(made: TreeOp['op'] | undefined): boolean {
  return made === 'dir' || made === 'ensureDir';
}
