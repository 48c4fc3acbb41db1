import { readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import fastGlob from 'fast-glob';
import { beforeAll, expect, test } from 'vitest';

/** Which rooms a room may import, beside itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  parser: ['core'],
  cache: ['core'],
  snapshotter: ['core'],
  runner: ['core'],
  image: ['core'],
  builder: ['parser', 'cache', 'snapshotter', 'runner', 'image', 'core'],
  cli: ['builder', 'parser', 'cache', 'snapshotter', 'runner', 'image', 'core'],
};

/** Packages that belong to one place: behind the part that owns them they can be exchanged. */
const OWNERS: Readonly<Record<string, RegExp>> = {
  ink: /^cli\/progress\/tty/,
  react: /^cli\/progress\/tty/,
  'node:sqlite': /^cache\//,
  moo: /^parser\//,
  nearley: /^parser\//,
  'tar-stream': /^image\//,
};

/** What only the composition root may touch; elsewhere it comes in as an option. */
const SURROUNDINGS = /\bprocess\.env\b|\bconsole\.|\bDate\.now\b|\bperformance\.now\b|\bnew Date\(\)/;

/** Files that help tests or write sources are no part of the product. */
const NO_PRODUCT =
  /\.test\.ts$|\.generated\.ts$|\/testing\.ts$|\/testing\/|\/fixtures\/|\/test-rig\.ts$|\/contract-suite\.ts$/;

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly dynamic: boolean;
  /** The file that a relative specifier leads to. */
  readonly target: string | undefined;
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sources = new Map<string, string>();
let imports: readonly Import[] = [];

beforeAll(async () => {
  const rooms = Object.keys(MAY_IMPORT);
  const files = await fastGlob(`{${rooms.join(',')}}/**/*.ts`, { cwd: root, ignore: ['**/node_modules/**'] });
  for (const file of files)
    if (!NO_PRODUCT.test(file)) sources.set(file, await readFile(join(root, file), 'utf8'));
  imports = [...sources].flatMap(([file, text]) => importsOf(file, text));
});

function importsOf(file: string, text: string): readonly Import[] {
  const code = withoutComments(text);
  const found: Import[] = [];
  const add = (specifier: string | undefined, dynamic: boolean): void => {
    if (specifier === undefined) return;
    const target = specifier.startsWith('.') ? normalize(join(dirname(file), specifier)) : undefined;
    found.push({ file, specifier, dynamic, target });
  };
  for (const match of code.matchAll(/^\s*(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]/gm))
    add(match[1], false);
  for (const match of code.matchAll(/^\s*import\s*['"]([^'"]+)['"]/gm)) add(match[1], false);
  for (const match of code.matchAll(/\bimport\s*\(\s*['"]([^'"]+)['"]/g)) add(match[1], true);
  return found;
}

function withoutComments(text: string): string {
  return text.replace(/^\s*\/?\*.*$|^\s*\/\/.*$/gm, '');
}

function roomOf(path: string): string {
  return path.slice(0, path.indexOf('/'));
}

function packageOf(specifier: string): string {
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? '');
}

const shown = ({ file, specifier }: Import): string => `${file} imports ${specifier}`;

/** Imports that lead from one room into another file of the checkout. */
function crossings(): readonly (Import & { readonly target: string })[] {
  return imports.flatMap((one) =>
    one.target !== undefined && roomOf(one.target) !== roomOf(one.file)
      ? [{ ...one, target: one.target }]
      : [],
  );
}

test('the sources and their imports are found', () => {
  for (const room of Object.keys(MAY_IMPORT)) {
    expect(sources.has(`${room}/index.ts`) || room === 'cli', room).toBe(true);
  }
  expect(
    importsOf(
      'a/b/c.ts',
      "import {\n  x,\n} from '../d.ts';\nexport * from 'e';\nimport 'f';\nawait import('./g.ts');",
    ),
  ).toEqual([
    { file: 'a/b/c.ts', specifier: '../d.ts', dynamic: false, target: 'a/d.ts' },
    { file: 'a/b/c.ts', specifier: 'e', dynamic: false, target: undefined },
    { file: 'a/b/c.ts', specifier: 'f', dynamic: false, target: undefined },
    { file: 'a/b/c.ts', specifier: './g.ts', dynamic: true, target: 'a/b/g.ts' },
  ]);
  expect(imports.length).toBeGreaterThan(300);
});

test('rooms import only what lies below them: cli -> builder -> its parts -> core', () => {
  const wrong = crossings().filter(({ file, target }) => {
    const toPackage = roomOf(file) === 'cli' && target === 'package.json';
    return !toPackage && !(MAY_IMPORT[roomOf(file)] ?? []).includes(roomOf(target));
  });
  expect(wrong.map(shown)).toEqual([]);
});

test('rooms are entered through their index.ts', () => {
  const wrong = crossings().filter(({ target }) => {
    const inRoom = Object.hasOwn(MAY_IMPORT, roomOf(target));
    return inRoom && target !== `${roomOf(target)}/index.ts`;
  });
  expect(wrong.map(shown)).toEqual([]);
});

test('core imports nothing but itself and Node', () => {
  const wrong = imports.filter(({ file, specifier, target }) => {
    return roomOf(file) === 'core' && target === undefined && !specifier.startsWith('node:');
  });
  expect(wrong.map(shown)).toEqual([]);
});

test.each(Object.entries(OWNERS))('%s is imported only where %s', (name, owner) => {
  const users = imports.filter(({ specifier }) => specifier === name || packageOf(specifier) === name);
  expect(users.filter(({ file }) => !owner.test(file)).map(shown)).toEqual([]);
  expect(users.length, `somebody imports ${name}`).toBeGreaterThan(0);
});

test('the terminal view is reached by dynamic import alone', () => {
  const isView = (file: string): boolean => /^cli\/progress\/tty/.test(file);
  const entries = imports.filter(
    ({ file, target }) => target !== undefined && isView(target) && !isView(file),
  );
  expect(entries.filter(({ dynamic }) => !dynamic).map(shown)).toEqual([]);
  expect(entries.length).toBeGreaterThan(0);
});

test('environment, console and clock are touched in cli alone', () => {
  const wrong = [...sources].filter(
    ([file, text]) => roomOf(file) !== 'cli' && SURROUNDINGS.test(withoutComments(text)),
  );
  expect(wrong.map(([file]) => file)).toEqual([]);
});
