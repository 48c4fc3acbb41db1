import type { Word } from '../../parser/index.ts';
import { isCheckComment } from './options.ts';

const VARVE_COMMENT = /^varve:/;

/** The comments above an instruction that are meant for people. */
export function descriptionComments(node: { readonly comments: readonly Word[] }): readonly string[] {
  const texts = node.comments.map(({ text }) => text);
  return texts.filter((text) => !isCheckComment(text) && !VARVE_COMMENT.test(text));
}

/** What `# <name> <description>` above an ARG or a FROM says of it; undefined where nothing does. */
export function describe(name: string, node: { readonly comments: readonly Word[] }): string | undefined {
  const prefix = `${name} `;
  return node.comments.find(({ text }) => text.startsWith(prefix))?.text.slice(prefix.length);
}
