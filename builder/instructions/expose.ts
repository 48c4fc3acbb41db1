import { isIP } from 'node:net';
import { err, ok, type Result } from '../../core/index.ts';
import type { Word, WordsInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

/**
 * `EXPOSE port[-last][/protocol] …`: ranges name each port; the protocol is TCP where none is given. An address and ports of
 * the host in front (`127.0.0.1:80:80`) mean nothing, but BuildKit takes them. It tells of the words in order of their text.
 */
export function planExpose(instruction: WordsInstruction, stage: StageDraft): void {
  const ports: string[] = [];
  for (const word of instruction.words.toSorted(byText)) {
    for (const text of stage.expandAll(word)) {
      const read = readPorts(text);
      if (!read.ok) {
        stop('invalid-port', read.error, {
          range: word.range,
          hint: 'Write a port from 0 to 65535, or a range, with an optional protocol: 80, 8000-8010, 53/udp.',
        });
      }
      ports.push(...read.value);
    }
  }
  stage.config.ExposedPorts = {
    ...stage.config.ExposedPorts,
    ...Object.fromEntries(ports.map((port) => [port, {}])),
  };
  stage.note(`EXPOSE [${ports.join(' ')}]`);
}

function byText(one: Word, other: Word): number {
  return one.text < other.text ? -1 : Number(one.text > other.text);
}

/** @returns every port with its protocol, `80/tcp`; or what is wrong, in BuildKit's words. */
function readPorts(text: string): Result<readonly string[], string> {
  const parts = text.split(':');
  const container = parts.pop() ?? '';
  const host = parts.pop() ?? '';
  const address = parts.join(':').replace(/^\[(.*)\]$/, '$1');
  const slash = container.indexOf('/');
  const port = slash === -1 ? container : container.slice(0, slash);
  const protocol = (slash === -1 ? '' : container.slice(slash + 1).toLowerCase()) || 'tcp';
  if (port === '') return err(`invalid port: ${JSON.stringify(text)}: no port specified`);
  if (!['tcp', 'udp', 'sctp'].includes(protocol)) {
    return err(`invalid port: ${JSON.stringify(text)}: invalid proto: ${container.slice(slash + 1)}`);
  }
  if (address !== '' && isIP(address) === 0) return err(`invalid IP address: ${address}`);
  const range = readRange(port);
  if (range === undefined) return err(`invalid containerPort: ${port}`);
  const outside = host === '' ? undefined : readRange(host);
  if (host !== '' && outside === undefined) return err(`invalid hostPort: ${host}`);
  const [first, last] = range;
  if (outside !== undefined && last !== first && outside[1] - outside[0] !== last - first) {
    return err(`invalid ranges specified for container and host Ports: ${port} and ${host}`);
  }
  return ok(Array.from({ length: last - first + 1 }, (_, index) => `${first + index}/${protocol}`));
}

function readRange(text: string): readonly [first: number, last: number] | undefined {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  return match === null || first > last || last > 65535 ? undefined : [first, last];
}
