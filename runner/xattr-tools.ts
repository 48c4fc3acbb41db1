import { spawn } from 'node:child_process';
import { decodePath, encodePath, type HostPath, MachineError } from '../core/index.ts';
import { GET_NATIVE } from './native-program.ts';

type Xattrs = Record<string, Uint8Array>;

interface ToolRun {
  readonly tool: 'getfattr' | 'setfattr';
  readonly args: readonly string[];
  readonly input: Uint8Array;
}

/** Runs a program of the package attr; undefined where it is not installed. */
async function runTool({ tool, args, input }: ToolRun): Promise<Buffer | undefined> {
  const child = spawn(tool, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  const log: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => log.push(chunk));
  // A tool that ends before it has read everything is told by its exit code.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const ending = await new Promise<number | 'absent' | null>((resolve) => {
    child.once('error', () => resolve('absent'));
    child.once('close', resolve);
  });
  if (ending === 'absent') return undefined;
  if (ending === 0) return Buffer.concat(output);
  throw new MachineError('tree-io', `${tool} failed: ${Buffer.concat(log).toString().trim()}`);
}

/** `\\ooo` for what getfattr(1) and setfattr(1) escape in names: control characters, backslashes and bytes beyond ASCII. */
function escapeName(path: string): string {
  return [...encodePath(path)]
    .map((byte) =>
      byte < 0x21 || byte > 0x7e || byte === 0x5c || byte === 0x3d
        ? `\\${byte.toString(8).padStart(3, '0')}`
        : String.fromCharCode(byte),
    )
    .join('');
}

function unescapeName(text: string): string {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const octal = /^\\([0-7]{3})/.exec(text.slice(at, at + 4))?.[1];
    bytes.push(octal === undefined ? text.charCodeAt(at) : Number.parseInt(octal, 8));
    if (octal !== undefined) at += 3;
  }
  return decodePath(Buffer.from(bytes));
}

/** The extended attributes of everything in `folder`, by path on the host. Empty where attr is not installed. */
export async function readXattrs(folder: HostPath): Promise<ReadonlyMap<string, Xattrs>> {
  const args = ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', '--', folder];
  const output = await runTool({ tool: 'getfattr', args, input: Buffer.alloc(0) });
  const found = new Map<string, Xattrs>();
  let current: Xattrs = {};
  for (const line of (output ?? Buffer.alloc(0)).toString('latin1').split('\n')) {
    if (line.startsWith('# file: ')) {
      current = {};
      found.set(unescapeName(line.slice('# file: '.length)), current);
      continue;
    }
    const equals = line.indexOf('=0x');
    const name = unescapeName(equals === -1 ? line : line.slice(0, equals));
    if (name !== '') current[name] = Buffer.from(equals === -1 ? '' : line.slice(equals + 3), 'hex');
  }
  return found;
}

/**
 * Gives files extended attributes, symlinks themselves included, in one call.
 * @throws MachineError `xattr-tools-missing` where attr is not installed.
 */
export async function writeXattrs(files: ReadonlyMap<string, Readonly<Xattrs>>): Promise<void> {
  if (files.size === 0) return;
  let input = '';
  for (const [path, xattrs] of files) {
    input += `# file: ${escapeName(path)}\n`;
    for (const [name, value] of Object.entries(xattrs)) {
      input += `${escapeName(name)}=0x${Buffer.from(value).toString('hex')}\n`;
    }
    input += '\n';
  }
  const done = await runTool({ tool: 'setfattr', args: ['-h', '--restore=-'], input: Buffer.from(input) });
  if (done !== undefined) return;
  throw new MachineError(
    'xattr-tools-missing',
    'files here have extended attributes, and setfattr is not installed',
    {
      hint: `install the package attr, or ${GET_NATIVE}`,
    },
  );
}

/** Takes extended attributes away from those of `files` (below `folder`) that have others than `wanted` names for them. */
export async function dropXattrs(
  folder: HostPath,
  files: ReadonlySet<string>,
  wanted: ReadonlyMap<string, Readonly<Xattrs>>,
): Promise<void> {
  if (files.size === 0) return;
  for (const [file, xattrs] of await readXattrs(folder)) {
    if (!files.has(file)) continue;
    const names = Object.keys(xattrs).filter((name) => wanted.get(file)?.[name] === undefined);
    for (const name of names) {
      await runTool({ tool: 'setfattr', args: ['-h', '-x', name, '--', file], input: Buffer.alloc(0) });
    }
  }
}
