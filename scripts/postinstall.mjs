// Runs after `npm ci` and `npm install`, under whatever Node npm runs on (20 or newer): plain JavaScript.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

await buildNativeProgram();
bundleSources();

/** Without a compiler varve copies trees of files and needs runc or crun: the install goes on, and says what is missing. */
async function buildNativeProgram() {
  const { buildNative, nativeProgram } = await import('./build-native.mjs');
  // The published package brings the program for this architecture; a checkout compiles its own.
  if (!existsSync(join(root, 'cli/entry.ts')) && existsSync(nativeProgram())) return;
  const problem = buildNative();
  if (problem === undefined) return;
  process.stderr.write(`varve: the native program was not built: ${problem}\n`);
  process.stderr.write(
    "hint: install gcc and libc6-dev, then run 'npm rebuild varve' (in a checkout: npm run build).\n",
  );
}

/** In a checkout the sources and esbuild are there; in an installed package dist/ is already bundled. */
function bundleSources() {
  const script = join(root, 'scripts/bundle.ts');
  const node = join(root, 'node_modules/node/bin/node');
  if (!existsSync(script) || !existsSync(join(root, 'cli/entry.ts'))) return;
  if (!canResolve('esbuild') || !existsSync(node)) return;
  const run = spawnSync(node, [script], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (run.status === 0) return;
  process.stderr.write(
    'varve: the sources were not bundled: varve runs from them, and starts more slowly.\n',
  );
}

function canResolve(name) {
  try {
    createRequire(join(root, 'package.json')).resolve(name);
    return true;
  } catch {
    return false;
  }
}
