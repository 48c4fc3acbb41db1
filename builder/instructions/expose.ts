import type { WordsInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

const PORT = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i;

/** `EXPOSE port[-last][/protocol] …`: ranges name each port; the protocol is TCP where none is given. */
export function planExpose(instruction: WordsInstruction, stage: StageDraft): void {
  const ports: string[] = [];
  for (const word of instruction.words) {
    for (const text of stage.expandAll(word)) {
      const match = PORT.exec(text);
      const first = Number(match?.[1]);
      const last = Number(match?.[2] ?? match?.[1]);
      if (match === null || first > last || last > 65535) {
        stop('invalid-port', `invalid containerPort: ${text}`, {
          range: word.range,
          hint: 'Write a port from 0 to 65535, or a range, with an optional protocol: 80, 8000-8010, 53/udp.',
        });
      }
      for (let port = first; port <= last; port += 1)
        ports.push(`${port}/${(match[3] ?? 'tcp').toLowerCase()}`);
    }
  }
  stage.config.ExposedPorts = {
    ...stage.config.ExposedPorts,
    ...Object.fromEntries(ports.map((port) => [port, {}])),
  };
  stage.note(`EXPOSE ${ports.join(' ')}`);
}
