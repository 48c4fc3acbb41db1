/** Fewer edits than this make a name a likely slip of another, as BuildKit has it. */
const LIMIT = 3;
/** No person looks for a slip among more names than this, and nobody wants to wait for it. */
const MOST_NAMES = 1_000;

/** The name that `name` is most likely a slip of; undefined where none is near, or where it is one of them. */
export function didYouMean(name: string, known: Iterable<string>): string | undefined {
  let best: { readonly name: string; readonly edits: number } | undefined;
  let count = 0;
  for (const candidate of known) {
    count += 1;
    if (candidate === name || count > MOST_NAMES) return undefined;
    const edits = countEdits(name, candidate);
    if (edits < (best?.edits ?? LIMIT)) best = { name: candidate, edits };
  }
  return best?.name;
}

/** Insertions, deletions and replacements that make the one text of the other (Levenshtein). */
function countEdits(one: string, other: string): number {
  if (Math.abs(one.length - other.length) >= LIMIT) return LIMIT;
  let last = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let row = 1; row <= one.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= other.length; column += 1) {
      const replaced = (last[column - 1] ?? 0) + (one[row - 1] === other[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (last[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    last = current;
  }
  return last[other.length] ?? 0;
}
