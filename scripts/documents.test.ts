import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const CHECKOUT = join(import.meta.dirname, '..');
const DOCUMENTS = [
  'docs/dockerfile.md',
  'docs/security-boundary.md',
  'docs/cache-keys.md',
  'ARCHITECTURE.md',
];

/** `FILE.test.ts`, and what follows it: the title of a test, in backquotes or up to the next mark. */
const PROOF = /`?((?:[\w-]+\/)+[\w.-]+\.test\.ts)`?(?: › (?:`([^`]+)`|([^`|;]+?)(?= *[|;]|$)))?/gm;

/** The parts of a title that are said literally: `…` leaves something out, `%s` stands for values, a fixture has its own name. */
function literalParts(title: string): readonly string[] {
  return title.split(/…|%[sjdi]|"|'|’|[\w-]+\.Dockerfile,?/).map((part) => part.trim());
}

const proofs = DOCUMENTS.flatMap((document) =>
  [...readFileSync(join(CHECKOUT, document), 'utf8').matchAll(PROOF)].map(([, file = '', quoted, plain]) => ({
    document,
    file,
    title: (quoted ?? plain ?? '').trim(),
  })),
);

test('documents name many tests', () => {
  expect(proofs.length).toBeGreaterThan(150);
});

test('every test that a document names is there', () => {
  const wrong = proofs.filter(({ file, title }) => {
    const path = join(CHECKOUT, file);
    if (!existsSync(path)) return true;
    const source = readFileSync(path, 'utf8');
    return !literalParts(title).every((part) => source.includes(part));
  });
  expect(wrong.map(({ document, file, title }) => `${document}: ${file} › ${title}`)).toEqual([]);
});
