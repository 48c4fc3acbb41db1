import { execFileSync, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Box, CAN_SANDBOX } from './testing/box.ts';

const RUN_INHERITING = `
  const { createRunner } = await import(process.argv[1]);
  const [spec, folder] = JSON.parse(process.argv[2]);
  const started = await createRunner({ tempFolder: folder }).start(spec, { mode: 'inherit' });
  console.error(JSON.stringify(await started.outcome));
`;

const HAS_SCRIPT = spawnSync('script', ['--version']).status === 0;

describe.skipIf(!CAN_SANDBOX)('io mode inherit', () => {
  let box: Box;
  beforeAll(() => {
    box = Box.make({ attack: true });
  });
  afterAll(() => box.remove());

  const command = (script: string): string[] => {
    const spec = box.spec({ args: ['sh', '-c', script] });
    const module = join(import.meta.dirname, 'runner.ts');
    return [
      process.execPath,
      '--input-type=module',
      '-e',
      RUN_INHERITING,
      module,
      JSON.stringify([spec, box.folder]),
    ];
  };
  const run = (script: string, input?: string) => {
    const [program = '', ...args] = command(script);
    return spawnSync(program, args, {
      encoding: 'utf8',
      ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input }),
    });
  };

  it("the program has the caller's own streams", () => {
    const ran = run('cat; echo err >&2; exit 3', 'given');
    expect(ran.stdout).toBe('given');
    expect(ran.stderr).toBe('err\n{"kind":"exited","code":3}\n');
  });

  it("the host's /dev/null is not handed to the program, which could change its mode", () => {
    const before = statSync('/dev/null').mode;
    const ran = run('chmod 600 /proc/self/fd/0; stat -L -c %a /dev/null');
    expect(ran.stdout).toBe('600\n');
    expect(statSync('/dev/null').mode).toBe(before);
  });

  it.skipIf(!HAS_SCRIPT)("input cannot be put into the caller's terminal", () => {
    const quoted = command('tty; attack tiocsti').map((part) => `'${part.replaceAll("'", `'\\''`)}'`);
    const output = execFileSync('script', ['-qec', quoted.join(' '), '/dev/null'], {
      encoding: 'utf8',
      input: '',
    });
    expect(output).toContain('tiocsti EPERM');
  });

  it('many sandboxes at once do not disturb each other', async () => {
    const boxes = Array.from({ length: 8 }, () => Box.make());
    try {
      const outcomes = await Promise.all(
        boxes.map((one, number) => one.sh(`echo ${number} > /n; cat /n; exit ${number}`)),
      );
      expect(outcomes.map(({ stdout }) => stdout.trim())).toEqual(['0', '1', '2', '3', '4', '5', '6', '7']);
      expect(outcomes.map(({ outcome }) => outcome.kind === 'exited' && outcome.code)).toEqual([
        0, 1, 2, 3, 4, 5, 6, 7,
      ]);
    } finally {
      for (const one of boxes) one.remove();
    }
  });
});
