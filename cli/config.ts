import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { errnoOf, MachineError, UsageError } from '../core/index.ts';
import { nearest } from './argv/nearest.ts';
import type { Environment } from './argv/pairs.ts';
import { parseSize } from './argv/size.ts';
import type { RegistryConfig, VarveConfig } from './engine-contract.ts';

export const DEFAULT_CONFIG: VarveConfig = { registries: {}, cache: {}, build: {} };

const SYSTEM_CONFIG = '/etc/varve/config.toml';

/**
 * The configuration: `$VARVE_CONFIG` alone where it is set (and then it must exist), else `/etc/varve/config.toml` with
 * the user's `$XDG_CONFIG_HOME/varve/config.toml` on top, key by key.
 *
 * @throws MachineError `config-invalid` that names file and line; `config-unreadable`.
 */
export function loadConfig(env: Environment): VarveConfig {
  const only = env['VARVE_CONFIG'] ?? '';
  if (only !== '') return readConfig(only, true) ?? DEFAULT_CONFIG;
  const [system, own] = [readConfig(SYSTEM_CONFIG, false), readConfig(userConfig(env), false)];
  return mergeConfigs(system ?? DEFAULT_CONFIG, own ?? DEFAULT_CONFIG);
}

/** `above` over `below`; a registry that both name is taken from `above` as a whole. */
function mergeConfigs(below: VarveConfig, above: VarveConfig): VarveConfig {
  return {
    registries: { ...below.registries, ...above.registries },
    cache: { ...below.cache, ...above.cache },
    build: { ...below.build, ...above.build },
  };
}

/** Where {@link loadConfig} looks. */
export function configFiles(env: Environment): readonly string[] {
  const only = env['VARVE_CONFIG'] ?? '';
  return only === '' ? [SYSTEM_CONFIG, userConfig(env)] : [only];
}

function userConfig(env: Environment): string {
  return join(xdgFolder(env, 'XDG_CONFIG_HOME', '.config'), 'varve', 'config.toml');
}

function readConfig(file: string, required: boolean): VarveConfig | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const missing = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR';
    if (missing && !required) return undefined;
    throw new MachineError('config-unreadable', `cannot read the configuration ${file}: ${errnoOf(error)}`, {
      hint: 'Correct $VARVE_CONFIG or the file, or unset it.',
      cause: error,
    });
  }
  return parseConfig(text, file);
}

/**
 * Reads `config.toml`:
 *
 *     [registry."docker.io"]          # as in BuildKit's buildkitd.toml
 *     mirrors = ["mirror.example.com"]
 *     http = true                     # plain HTTP
 *     insecure = true                 # the certificate is not checked
 *
 *     [cache]
 *     max-size = "20GB"
 *
 *     [build]
 *     parallelism = 4
 *
 * @throws MachineError `config-invalid` with `file` and line: bad syntax, an unknown key, a value of the wrong kind.
 */
export function parseConfig(text: string, file: string): VarveConfig {
  const reader = new ConfigReader(text, file);
  const top = reader.table([], parseToml(text, file), ['registry', 'cache', 'build']);
  const registries: Record<string, RegistryConfig> = {};
  for (const [host, value] of Object.entries(reader.table(['registry'], top['registry'] ?? {}))) {
    registries[host] = readRegistry(reader, ['registry', host], value);
  }
  const cache = reader.table(['cache'], top['cache'] ?? {}, ['max-size']);
  const build = reader.table(['build'], top['build'] ?? {}, ['parallelism']);
  const maxBytes = cache['max-size'];
  const parallelism = build['parallelism'];
  return {
    registries,
    cache: maxBytes === undefined ? {} : { maxBytes: reader.size(['cache', 'max-size'], maxBytes) },
    build:
      parallelism === undefined ? {} : { parallelism: reader.count(['build', 'parallelism'], parallelism) },
  };
}

function readRegistry(reader: ConfigReader, path: readonly string[], value: unknown): RegistryConfig {
  const table = reader.table(path, value, ['mirrors', 'http', 'insecure']);
  const { mirrors, http, insecure } = table;
  return {
    mirrors: mirrors === undefined ? [] : reader.strings([...path, 'mirrors'], mirrors),
    ...(http === undefined ? {} : { http: reader.bool([...path, 'http'], http) }),
    ...(insecure === undefined ? {} : { insecure: reader.bool([...path, 'insecure'], insecure) }),
  };
}

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [what = 'invalid TOML'] = error.message.split('\n');
    throw invalid(
      `${file}:${error.line}:${error.column}`,
      what.replace(/^Invalid TOML document: /, ''),
      error,
    );
  }
}

/** Checks values against what a key takes; errors name the line of the key. */
class ConfigReader {
  readonly #text: string;
  readonly #file: string;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
  }

  /** `known` absent: any key. */
  table(path: readonly string[], value: unknown, known?: readonly string[]): Record<string, unknown> {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Date) {
      throw this.#wrong(path, 'must be a table');
    }
    const table: Record<string, unknown> = { ...value };
    for (const key of Object.keys(table)) {
      if (known === undefined || known.includes(key)) continue;
      const guess = nearest(key, known);
      const also = guess === undefined ? `; known are ${known.join(', ')}` : `; did you mean ${guess}?`;
      throw this.#wrong([...path, key], `is not a known key${also}`);
    }
    return table;
  }

  strings(path: readonly string[], value: unknown): readonly string[] {
    if (!Array.isArray(value)) throw this.#wrong(path, 'must be a list of strings');
    return value.map((one: unknown) => {
      if (typeof one !== 'string' || one === '') throw this.#wrong(path, 'must be a list of strings');
      return one;
    });
  }

  bool(path: readonly string[], value: unknown): boolean {
    if (typeof value !== 'boolean') throw this.#wrong(path, 'must be true or false');
    return value;
  }

  count(path: readonly string[], value: unknown): number {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1) {
      throw this.#wrong(path, 'must be a whole number above 0');
    }
    return value;
  }

  /** Bytes as a number, or as a string with a unit. */
  size(path: readonly string[], value: unknown): number {
    const text = typeof value === 'number' ? String(value) : value;
    try {
      if (typeof text === 'string' && !text.startsWith('-')) return parseSize(text, path.join('.'));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
    }
    throw this.#wrong(path, 'must be a size, as "20GB"');
  }

  #wrong(path: readonly string[], what: string): MachineError {
    const line = lineOf(this.#text, path);
    return invalid(
      `${this.#file}${line === undefined ? '' : `:${line}`}`,
      `${JSON.stringify(path.join('.'))} ${what}`,
    );
  }
}

/** The line, from 1, on which the key at `path` (or a table that lies below it) first stands. */
function lineOf(text: string, path: readonly string[]): number | undefined {
  let table: readonly string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const header = /^\s*\[{1,2}([^\]]+)\]{1,2}/.exec(line);
    if (header !== null) table = keyParts(header[1] ?? '');
    const key = header === null ? /^\s*((?:"[^"]*"|'[^']*'|[\w.-]|\s*\.\s*)+?)\s*=/.exec(line) : undefined;
    if (header === null && key === null) continue;
    const here = [...table, ...keyParts(key?.[1] ?? '')];
    if (path.every((part, at) => here[at] === part)) return index + 1;
  }
  return undefined;
}

/** Parts of a dotted TOML key. */
function keyParts(text: string): string[] {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'|([\w-]+)/g)].map(
    (match) => match[1] ?? match[2] ?? match[3] ?? '',
  );
}

function invalid(where: string, what: string, cause?: unknown): MachineError {
  return new MachineError('config-invalid', `${where}: ${what}`, {
    hint: 'Keys are [registry."HOST"] mirrors, http, insecure; [cache] max-size; [build] parallelism.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The state folder: `--root`, else `$VARVE_ROOT`, else `/var/lib/varve` for root and `$XDG_DATA_HOME/varve` for others. */
export function stateFolder(options: {
  readonly root: string | undefined;
  readonly env: Environment;
  readonly cwd: string;
  readonly uid: number;
}): string {
  const { root, env, cwd, uid } = options;
  const given = root ?? env['VARVE_ROOT'] ?? '';
  if (given !== '') return resolve(cwd, given);
  return uid === 0 ? '/var/lib/varve' : join(xdgFolder(env, 'XDG_DATA_HOME', '.local/share'), 'varve');
}

/** Where Docker's `config.json` lies: `--config`, else `$DOCKER_CONFIG`, else `~/.docker`. */
export function dockerConfigFolder(config: string | undefined, env: Environment, cwd: string): string {
  const given = config ?? env['DOCKER_CONFIG'] ?? '';
  return given === '' ? join(homeOf(env), '.docker') : resolve(cwd, given);
}

/** A base folder (XDG Base Directory Specification): a relative value counts as not set. */
function xdgFolder(env: Environment, name: string, fallback: string): string {
  const value = env[name] ?? '';
  return value.startsWith('/') ? value : join(homeOf(env), fallback);
}

function homeOf(env: Environment): string {
  const home = env['HOME'] ?? '';
  return home === '' ? homedir() : home;
}
