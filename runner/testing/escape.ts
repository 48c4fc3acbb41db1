import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

/** Results of escape.c by the names of its attempts: `ok`, or the name of an error. */
export type Attempts = ReadonlyMap<string, string>;

export function compileEscape(output: string): void {
  const source = fileURLToPath(new URL('./escape.c', import.meta.url));
  execFileSync('cc', ['-std=gnu11', '-O1', '-static', '-o', output, source]);
}

export function readAttempts(output: string): Attempts {
  const lines = output.trim().split('\n');
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]));
}

/** What is there to be reached: arguments of escape.c, valid until disposal. */
export interface Targets extends Disposable {
  readonly args: readonly string[];
}

/** @param file a file of the host that nothing shows to the sandbox. */
export async function openTargets(file: string): Promise<Targets> {
  const abstract = `varve-escape-${process.pid}-${Math.random()}`;
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen({ path: `\0${abstract}` }, resolve));
  const args = [`file=${file}`, `abstract=${abstract}`, `disk=${openableDisk()}`];
  return { args, [Symbol.dispose]: () => server.close() };
}

/** A block device that root can open here: some machines refuse their own disk to everybody. */
function openableDisk(): string {
  for (const name of readdirSync('/dev')) {
    const { rdev, mode } = statSync(`/dev/${name}`, { throwIfNoEntry: false }) ?? { rdev: 0, mode: 0 };
    if ((mode & 0o170000) !== 0o060000) continue;
    try {
      closeSync(openSync(`/dev/${name}`, 'r'));
    } catch {
      continue;
    }
    return `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
  }
  return '0:0';
}

/** Attempts of which seccomp cannot see what they are, as docs/security-boundary.md says. */
const KNOWN: ReadonlySet<string> = new Set(['i386-vsock']);

const isNotice = (name: string): boolean => name.startsWith('noticed-');

/** The attempts that succeeded and should not have. */
export function escapes(attempts: Attempts): readonly string[] {
  return [...attempts].flatMap(([name, result]) =>
    (result === 'ok' || result.startsWith('died')) && !isNotice(name) && !KNOWN.has(name) ? [name] : [],
  );
}

/** What an attempt needs of the machine; without it nothing is shown by its failing. */
const NEEDS: Readonly<Record<string, () => boolean>> = {
  'modprobe-path': () => existsSync('/proc/sys/kernel/modprobe'),
  sysrq: () => existsSync('/proc/sysrq-trigger'),
  'kernel-memory': () => existsSync('/proc/kcore'),
  disk: () => openableDisk() !== '0:0',
  // CAP_SYS_RESOURCE is kept from root in some virtual machines.
  'oom-shield': () => ((ownCapabilities() >> 24n) & 1n) === 1n,
  abstract: hasScopes,
};

function ownCapabilities(): bigint {
  return BigInt(`0x${/CapEff:\s(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
}

/** Landlock's scopes came with Linux 6.12. */
export function hasScopes(): boolean {
  const [major = 0, minor = 0] = readFileSync('/proc/sys/kernel/osrelease', 'utf8').split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 12);
}

/**
 * The attempts whose failing in the sandbox shows nothing, since they fail in the same way without its restrictions. Those of which
 * one that is called `noticed-` and the same succeeds need no such proof.
 */
export function unproven(inside: Attempts, unrestricted: Attempts): readonly string[] {
  return [...inside].flatMap(([name, result]) => {
    const isShown = isNotice(name) ? result === 'ok' : unrestricted.get(name) !== result;
    const likewise = unrestricted.get(`noticed-${name}`) === 'ok';
    return isShown || likewise || KNOWN.has(name) || NEEDS[name]?.() === false ? [] : [name];
  });
}
