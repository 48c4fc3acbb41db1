// Bundles the command line for start-up time: dist/varve.mjs, which runs the program, one script, with code that was compiled before.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, parse, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type BuildOptions, build, type OutputFile, type Plugin } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** CommonJS packages (react, tar-stream) ask for `require`, which an ES module does not have. */
const REQUIRE =
  "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);";

/** The program is a function of what cli/bundled.ts gives it. */
const FUNCTION = { begin: '(function(require,module,__url){', end: '})' };

/** Ink asks for its development tools only when DEV=true; the package is not installed. */
const STUBS = { 'react-devtools-core': 'export default { initialize() {}, connectToDevTools() {} };' };

/** Modules beside the program: threads, what cannot be a part of a script (Ink waits while it is loaded), and what is large and rare. */
const MODULES: Readonly<Record<string, string>> = {
  'pack-worker': 'image/pack-worker.ts',
  tty: 'cli/progress/tty.ts',
  yaml: 'yaml',
};

/**
 * Modules of ours, and of Node, do nothing by being loaded. Told so, esbuild leaves out what is not used: else `varve version`
 * would load `node:crypto`, which alone takes 10 ms.
 */
const SIDE_EFFECTS: Plugin = {
  name: 'side-effects',
  setup(host) {
    host.onResolve({ filter: /^node:/ }, ({ path }) => ({ path, external: true, sideEffects: false }));
    host.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, resolveDir }) => ({
      path: resolve(resolveDir, path),
      sideEffects: false,
    }));
  },
};

const STUBBED: Plugin = {
  name: 'stubs',
  setup(host) {
    const names = new RegExp(`^(?:${Object.keys(STUBS).join('|')})$`);
    host.onResolve({ filter: names }, ({ path }) => ({ path, namespace: 'stub' }));
    host.onLoad({ filter: /.*/, namespace: 'stub' }, ({ path }) => ({
      contents: Object.entries(STUBS).find(([name]) => name === path)?.[1] ?? '',
    }));
  },
};

/** The program takes a module that lies beside it from there. */
const BESIDE: Plugin = {
  name: 'beside',
  setup(host) {
    host.onResolve({ filter: /(?:\/tty\.ts|^yaml)$/ }, ({ path }) => ({
      path: `./${parse(path).name}.mjs`,
      external: true,
    }));
  },
};

/** What `build-native.mjs` would put into the program. */
function nativeSources(): string {
  const script = join(import.meta.dirname, 'build-native.mjs');
  return execFileSync(process.execPath, [script, '--number'], { encoding: 'utf8' }).trim();
}

const COMMON = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  sourcemap: false,
  write: false,
  define: {
    'process.env.NODE_ENV': '"production"',
    'process.env.DEV': '"false"',
    VARVE_NATIVE_SOURCES: nativeSources(),
  },
  logLevel: 'warning',
} as const satisfies BuildOptions;

/** Writes dist/varve.mjs, the program and the modules beside it. The program's name holds its hash: old ones are removed. */
export async function bundle(outdir = join(root, 'dist')): Promise<void> {
  const program = await bundleProgram();
  const name = `program-${createHash('sha256').update(program).digest('hex').slice(0, 16)}.js`;
  const modules = await bundleModules(outdir, { PROGRAM: JSON.stringify(name) });
  mkdirSync(outdir, { recursive: true });
  writeFileSync(join(outdir, name), program);
  for (const { path, text } of modules) writeFileSync(path, withPlainBuiltins(text));
  const written = new Set([join(outdir, name), ...modules.map(({ path }) => path)]);
  for (const other of readdirSync(outdir)) {
    const file = join(outdir, other);
    if (/^(?:chunk-.*\.mjs|program-.*\.js)$/.test(other) && !written.has(file)) rmSync(file);
  }
}

async function bundleProgram(): Promise<string> {
  const { outputFiles } = await build({
    ...COMMON,
    stdin: { contents: "import { start } from './cli/start.ts'; void start();", resolveDir: root },
    format: 'cjs',
    define: { ...COMMON.define, 'import.meta.url': '__url' },
    banner: { js: FUNCTION.begin },
    footer: { js: FUNCTION.end },
    plugins: [BESIDE, SIDE_EFFECTS],
    write: false,
  });
  return outputFiles.map(({ text }) => text).join('');
}

async function bundleModules(
  outdir: string,
  define: Readonly<Record<string, string>>,
): Promise<readonly OutputFile[]> {
  const { outputFiles } = await build({
    ...COMMON,
    entryPoints: { varve: 'cli/bundled.ts', ...MODULES },
    outdir,
    outExtension: { '.js': '.mjs' },
    format: 'esm',
    define: { ...COMMON.define, ...define },
    banner: { js: REQUIRE },
    plugins: [SIDE_EFFECTS, STUBBED],
    write: false,
  });
  return outputFiles;
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
