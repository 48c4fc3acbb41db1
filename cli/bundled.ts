// The entry of the bundle: runs the program, which is one script beside this file, with the code that V8 made of it before.
// A script and not modules: of a script V8 gives out what it has compiled when the process ends, with each function that was
// called; of a module only what it has compiled before the module ran.
import { readFileSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { constants, Script } from 'node:vm';
import { keepCode, kindOf, readCode } from './code-cache.ts';
import { codeFolder } from './code-folder.ts';

/** The script's file name, with the hash of its content. Set by scripts/bundle.ts. */
declare const PROGRAM: string;

const LONG_MS = 10_000;

type Program = (require: (name: string) => object, module: { exports: object }, url: string) => void;

/** Modules of Node that take milliseconds to load, and that many commands go without. */
const SLOW = /^node:(?:child_process|crypto|http|https|net|readline|sqlite|tls|worker_threads)\b/;

/** A module of Node; a slow one is loaded when something of it is asked for. */
function builtin(name: string): object {
  if (!SLOW.test(name)) return load(name);
  let loaded: object | undefined;
  return new Proxy(
    {},
    {
      get: (_, property) => {
        loaded ??= load(name);
        return Reflect.get(loaded, property);
      },
    },
  );
}

function load(name: string): object {
  const module = process.getBuiltinModule(name);
  if (module === undefined) throw new Error(`Node has no module ${name}`);
  return module;
}

const filename = join(import.meta.dirname, PROGRAM);
const folder = codeFolder(process.env, process.geteuid?.());
const name = `${PROGRAM}-${process.version}-${process.arch}-${kindOf(process.argv.slice(2))}`;
const cachedData = folder === undefined ? undefined : readCode(folder, name);
const script = new Script(readFileSync(filename, 'latin1'), {
  filename,
  ...(cachedData === undefined ? {} : { cachedData }),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
if (folder !== undefined) {
  if (script.cachedDataRejected !== false)
    process.once('exit', (status) => {
      // V8 drops code that was not called for long: of a long run it would be half of what a start needs.
      if (status === 0 && performance.now() < LONG_MS) keepCode(folder, name, script.createCachedData());
    });
  // The view for terminals is made of modules.
  if (process.stderr.isTTY) enableCompileCache(folder);
}
const program: Program = script.runInThisContext();
program(builtin, { exports: {} }, pathToFileURL(filename).href);
