// Bundles the command line for start-up time: dist/varve.mjs, with one chunk for each part that is loaded on demand.
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** CommonJS packages (moo, nearley, react, tar-stream) ask for `require`, which an ES module does not have. */
const BANNER =
  "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);";

/** Ink asks for its development tools only when DEV=true; the package is not installed. */
const STUBS = { 'react-devtools-core': 'export default { initialize() {}, connectToDevTools() {} };' };

/** Worker threads: each is a file of its own beside the bundle. */
const WORKERS: Readonly<Record<string, string>> = { 'pack-worker': 'image/pack-worker.ts' };

/** Writes dist/varve.mjs, its chunks and the workers. Chunk names hold their content's hash: old ones are removed. */
export async function bundle(outdir = join(root, 'dist')): Promise<void> {
  const workers = Object.entries(WORKERS).filter(([, file]) => existsSync(join(root, file)));
  const result = await build({
    absWorkingDir: root,
    entryPoints: { varve: 'cli/entry.ts', ...Object.fromEntries(workers) },
    outdir,
    outExtension: { '.js': '.mjs' },
    chunkNames: 'chunk-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    sourcemap: false,
    metafile: true,
    write: false,
    define: { 'process.env.NODE_ENV': '"production"', 'process.env.DEV': '"false"' },
    banner: { js: BANNER },
    logLevel: 'warning',
    plugins: [
      {
        // Modules of ours, and of Node, do nothing by being loaded. Told so, esbuild leaves out of a chunk what it does
        // not use: else `varve version` would load `node:crypto`, which alone takes 10 ms.
        name: 'side-effects',
        setup(host) {
          host.onResolve({ filter: /^node:/ }, ({ path }) => ({ path, external: true, sideEffects: false }));
          host.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, resolveDir }) => ({
            path: resolve(resolveDir, path),
            sideEffects: false,
          }));
        },
      },
      {
        name: 'stubs',
        setup(host) {
          const names = new RegExp(`^(?:${Object.keys(STUBS).join('|')})$`);
          host.onResolve({ filter: names }, ({ path }) => ({ path, namespace: 'stub' }));
          host.onLoad({ filter: /.*/, namespace: 'stub' }, ({ path }) => ({
            contents: Object.entries(STUBS).find(([name]) => name === path)?.[1] ?? '',
          }));
        },
      },
    ],
  });
  mkdirSync(outdir, { recursive: true });
  for (const { path, text } of result.outputFiles) writeFileSync(path, withPlainBuiltins(text));
  const written = new Set(result.outputFiles.map(({ path }) => path));
  for (const name of readdirSync(outdir)) {
    const file = join(outdir, name);
    if (/^chunk-.*\.mjs$/.test(name) && !written.has(file)) rmSync(file);
  }
}

/**
 * To import a module of Node makes a facade of it, for which each of its properties is read: that of `node:http` loads a whole
 * HTTP client and WebSocket. Taken by `process.getBuiltinModule` it is what it is, and only the names in use are read.
 */
function withPlainBuiltins(text: string): string {
  return text.replaceAll(
    /(?<![\w$.])import\s*([\w$]*\s*,?\s*(?:\{[^}]*\}|\*\s*as\s+[\w$]+)?)\s*from\s*["'](node:[a-z_/]+)["'];?/g,
    importOfBuiltin,
  );
}

function importOfBuiltin(_all: string, clause: string, name: string): string {
  const taken = `process.getBuiltinModule(${JSON.stringify(name)})`;
  const parts = /^(?:([\w$]+)\s*,?\s*)?(?:\*\s*as\s+([\w$]+)|\{([^}]*)\})?$/.exec(clause.trim());
  if (parts === null) throw new Error(`an import that was not foreseen: ${clause} from ${name}`);
  const [, whole, space, names] = parts;
  const declared = [whole, space].flatMap((one) => (one === undefined ? [] : [`${one}=${taken}`]));
  if (names !== undefined) declared.push(`{${names.replaceAll(/\s+as\s+/g, ':')}}=${taken}`);
  return `const ${declared.join(',')};`;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) await bundle();
