import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  errnoOf,
  type HostPath,
  hasNoRoom,
  type ImagePath,
  imagePath,
  MachineError,
  type Mount,
  type SandboxSpec,
} from '../core/index.ts';

/** The files that Docker gives every container: on the host, one set per sandbox, and where they are mounted. */
export interface EtcFiles {
  readonly folder: string;
  readonly files: readonly string[];
  /** Read-write, as Docker has them. Targets that the spec's own mounts take are left to these. */
  readonly mounts: readonly Mount[];
  remove(): void;
}

export interface EtcFilesOptions {
  readonly tempFolder: string;
  /** The machine's own resolv.conf. */
  readonly resolvConf: string;
  /** The one name server that the sandbox reaches; absent: those of the machine. */
  readonly nameserver?: string | undefined;
}

/** The head of /etc/hosts as Docker writes it (moby libnetwork, etchosts). */
const USUAL_HOSTS: readonly (readonly [address: string, names: string])[] = [
  ['127.0.0.1', 'localhost'],
  ['::1', 'localhost ip6-localhost ip6-loopback'],
  ['fe00::', 'ip6-localnet'],
  ['ff00::', 'ip6-mcastprefix'],
  ['ff02::1', 'ip6-allnodes'],
  ['ff02::2', 'ip6-allrouters'],
];

/** Text of /etc/hosts. The sandbox's own name leads to loopback, which it has on every network. */
export function hostsFile(spec: Pick<SandboxSpec, 'hostname' | 'extraHosts'>): string {
  const extra = spec.extraHosts.map(({ name, address }) => [address, name] as const);
  const lines = [...USUAL_HOSTS, ...extra, ['127.0.0.1', spec.hostname] as const];
  return `${lines.map(([address, names]) => `${address}\t${names}`).join('\n')}\n`;
}

/**
 * Writes the files of one sandbox into a fresh folder under `tempFolder`.
 *
 * @throws MachineError `disk-full` or `sandbox-setup`.
 */
export function writeEtcFiles(spec: SandboxSpec, options: EtcFilesOptions): EtcFiles {
  const contents: Readonly<Record<string, string>> = {
    'resolv.conf': spec.network === 'none' ? '' : resolvConf(options),
    hosts: hostsFile(spec),
    hostname: `${spec.hostname}\n`,
  };
  const taken = new Set<ImagePath>(spec.mounts.map((mount) => mount.target));
  // What covers the whole folder and cannot be written to has no places for them.
  const isCovered = spec.mounts.some(
    (mount) => mount.target === 'etc' && mount.type !== 'file' && mount.readonly === true,
  );
  const wanted = Object.entries(contents).filter(
    ([name]) => !isCovered && !taken.has(imagePath(`etc/${name}`)),
  );
  const folder = makeFolder(options.tempFolder);
  const remove = () => rmSync(folder, { recursive: true, force: true });
  const files: string[] = [];
  const mounts: Mount[] = [];
  try {
    for (const [name, text] of wanted) {
      const file = join(folder, name);
      writeFileSync(file, text, { mode: 0o644 });
      files.push(file);
      const target = imagePath(`etc/${name}`);
      mounts.push({ type: 'bind', source: file as HostPath, target, readonly: false });
    }
  } catch (cause) {
    remove();
    throw cannotWrite(folder, cause);
  }
  return { folder, files, mounts, remove };
}

function makeFolder(tempFolder: string): string {
  try {
    return mkdtempSync(join(tempFolder, 'varve-sandbox-'));
  } catch (cause) {
    throw cannotWrite(tempFolder, cause);
  }
}

function cannotWrite(folder: string, cause: unknown): MachineError {
  const full = hasNoRoom(cause);
  return new MachineError(
    full ? 'disk-full' : 'sandbox-setup',
    `cannot write a sandbox's files to ${folder}`,
    {
      hint: full
        ? 'free some space, or set TMPDIR to another file system'
        : 'set TMPDIR to a folder that can be written to',
      cause,
    },
  );
}

function resolvConf({ resolvConf: path, nameserver }: EtcFilesOptions): string {
  const text = readResolvConf(path);
  if (nameserver === undefined) return text;
  const others = text.split('\n').filter((line) => /^(search|domain|options)\s/.test(line));
  return [`nameserver ${nameserver}`, ...others, ''].join('\n');
}

/** A machine without the file has no name servers to pass on. */
function readResolvConf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw new MachineError('sandbox-setup', `cannot read ${path}`, { cause: error });
  }
}
