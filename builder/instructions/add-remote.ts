import {
  type GitSource,
  isDigest,
  isHttpUrl,
  parseGitUrl,
  type SourceRange,
  withoutCredentials,
} from '../../core/index.ts';
import type { CopyInstruction } from '../../parser/index.ts';
import type { CopySourcePlan } from '../graph.ts';
import { stop } from '../stop.ts';

export interface RemotePlace {
  readonly instruction: CopyInstruction;
  /** The value of `--checksum`. */
  readonly checksum: string | undefined;
  /** With its slash, where it asks for a folder. */
  readonly destination: string;
  readonly range: SourceRange;
}

/**
 * What a source of ADD means that names another machine: a Git repository or a file on a web server. Undefined where it names none.
 * Ends the build where COPY names one, or where flags and address contradict each other.
 */
export function planRemote(text: string, place: RemotePlace): CopySourcePlan | undefined {
  const { instruction, range } = place;
  const git = parseGitUrl(text);
  if (!git.ok) stop('bad-git-address', `${withoutCredentials(text)}: ${git.error}`, { range });
  const isGit = git.value !== undefined && !git.value.likeAPath;
  if (!isGit && !isHttpUrl(text)) return undefined;
  if (instruction.kind === 'COPY') {
    const what = isGit ? 'git ref' : 'URL';
    stop('copy-source-not-local', `source can't be a ${what} for COPY: ${withoutCredentials(text)}`, {
      range,
      hint: 'ADD takes addresses.',
    });
  }
  return git.value !== undefined && isGit
    ? { kind: 'git', source: withFlags(git.value, place), range }
    : httpSource(text, place);
}

/** Flags and the address's query say the same, or one of them says nothing. */
function withFlags(source: GitSource, { instruction, checksum, range }: RemotePlace): GitSource {
  const { keepGitDir } = instruction.options;
  if (keepGitDir !== undefined && source.keepGitDir !== undefined && keepGitDir !== source.keepGitDir) {
    stop('bad-git-address', 'inconsistent keep-git-dir configuration: flag and address differ', { range });
  }
  if (checksum !== undefined && !/^[0-9a-f]{1,64}$/.test(checksum)) {
    stop(
      'bad-checksum',
      `invalid checksum ${JSON.stringify(checksum)} for a Git source, expected hex commit hash`,
      {
        range: instruction.options.checksum?.range ?? range,
        hint: 'Give a commit, or the first digits of one.',
      },
    );
  }
  if (checksum !== undefined && source.checksum !== undefined && checksum !== source.checksum) {
    stop('bad-checksum', `checksum mismatch: the flag says ${checksum}, the address ${source.checksum}`, {
      range,
    });
  }
  return {
    ...source,
    ...(keepGitDir === undefined ? {} : { keepGitDir }),
    ...(checksum === undefined ? {} : { checksum }),
  };
}

function httpSource(url: string, { instruction, checksum, destination, range }: RemotePlace): CopySourcePlan {
  const address = URL.parse(url);
  if (address === null) {
    stop('bad-url', `${withoutCredentials(url)} is no address`, { range, hint: 'Check host and port.' });
  }
  if (checksum !== undefined && !isDigest(checksum)) {
    stop('bad-checksum', `invalid checksum ${JSON.stringify(checksum)}: only sha256 digests are supported`, {
      range: instruction.options.checksum?.range ?? range,
      hint: 'Write sha256: and 64 hexadecimal digits.',
    });
  }
  const name = fileName(address.pathname);
  if (name === undefined && destination.endsWith('/')) {
    stop('no-file-name', `cannot determine filename for source URL: ${withoutCredentials(url)}`, {
      range,
      hint: 'Name the file in the destination: /folder/name instead of /folder/.',
    });
  }
  return {
    kind: 'http',
    url,
    name: name ?? UNNAMED,
    range,
    ...(checksum === undefined ? {} : { checksum }),
  };
}

/** BuildKit's name for a file whose address has none. */
const UNNAMED = '__unnamed__';

/** The last part of an address's path, without its escapes; undefined where there is none that can name a file. */
function fileName(pathname: string): string | undefined {
  let path = pathname;
  try {
    path = decodeURIComponent(pathname);
  } catch {
    // Kept as it is written.
  }
  const name = path
    .split('/')
    .filter((part) => part !== '')
    .at(-1);
  return name === undefined || name === '.' || name === '..' || name.includes('\0') ? undefined : name;
}
