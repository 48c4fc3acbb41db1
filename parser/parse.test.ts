import { describe, expect, test } from 'vitest';
import {
  type Dockerfile,
  type FromInstruction,
  heredocsIn,
  type Instruction,
  isLoneHeredoc,
  parse,
  parseInstruction,
} from './index.ts';

function dockerfileOf(text: string): Dockerfile {
  const { dockerfile, diagnostics } = parse(text);
  if (dockerfile === undefined) throw new Error(diagnostics.map(({ message }) => message).join('; '));
  return dockerfile;
}

/** The first instruction after `FROM scratch`. */
function instructionOf(text: string, kind: Instruction['kind']): Instruction {
  const instruction = dockerfileOf(`FROM scratch\n${text}`).stages[0]?.instructions[0];
  expect(instruction?.kind).toBe(kind);
  if (instruction === undefined) throw new Error('there is no instruction');
  return instruction;
}

function codesOf(text: string): readonly string[] {
  return parse(text).diagnostics.map(({ code }) => code);
}

describe('FROM', () => {
  const fromOf = (text: string): FromInstruction | undefined => dockerfileOf(text).stages[0]?.from;

  test('keeps image, platform and name of the stage as written', () => {
    const from = fromOf('from --platform=linux/arm64 Debian:${V} aS Build\n');
    expect(from?.image.text).toBe('Debian:${V}');
    expect(from?.as?.text).toBe('Build');
    expect(from?.flags).toMatchObject([{ name: 'platform', value: 'linux/arm64' }]);
  });

  test('begins stages that are numbered from 0; ARGs before the first are global', () => {
    const { globalArgs, stages } = dockerfileOf('ARG A\nARG B=1\nFROM a\nARG C\nFROM b\nRUN x\n');
    expect(globalArgs.map(({ args }) => args[0]?.name.text)).toEqual(['A', 'B']);
    expect(stages.map(({ index, instructions }) => [index, instructions.length])).toEqual([
      [0, 1],
      [1, 1],
    ]);
  });
});

describe('RUN, CMD and ENTRYPOINT', () => {
  test('take a JSON array for a list and all else for shell text', () => {
    const exec = ['["a","b c"]', ' [ "a" , "b c" ] '];
    for (const text of exec) {
      expect(instructionOf(`CMD ${text}`, 'CMD')).toMatchObject({
        command: { form: 'exec', args: ['a', 'b c'] },
      });
    }
    const shell = ['["a",]', "['a']", '["a"] b', '[a]', '{"a": "b"}', '"a"', '[ -d x ]'];
    for (const text of shell) {
      expect(instructionOf(`ENTRYPOINT ${text}`, 'ENTRYPOINT')).toMatchObject({
        command: { form: 'shell', text },
      });
    }
  });

  test('take an empty list, RUN does not', () => {
    expect(instructionOf('CMD []', 'CMD')).toMatchObject({ command: { form: 'exec', args: [] } });
    expect(codesOf('FROM a\nRUN []\n')).toEqual(['missing-argument']);
  });

  test('decode the escapes of JSON', () => {
    expect(instructionOf('RUN ["\\u00e9\\n\\"\\\\", "\\ud83d\\udc33"]', 'RUN')).toMatchObject({
      command: { args: ['é\n"\\', '🐳'] },
    });
  });

  test('join continued lines and drop comments between them', () => {
    const run = instructionOf('RUN a \\\n  # comment\n\n && b \\  \n && c\n', 'RUN');
    expect(run).toMatchObject({ source: 'RUN a  && b  && c', command: { text: 'a  && b  && c' } });
  });

  test('have ranges in the source as written', () => {
    const run = instructionOf('RUN --network=none \\\n  --mount=a b \\\n c\nCMD x', 'RUN');
    expect(run.range).toEqual({
      start: { line: 2, column: 1, offset: 13 },
      end: { line: 4, column: 3, offset: 52 },
    });
    expect(run).toMatchObject({
      flags: [
        { range: { start: { line: 2, column: 5 }, end: { line: 2, column: 19 } } },
        { range: { start: { line: 3, column: 3 }, end: { line: 3, column: 12 } } },
      ],
    });
  });
});

describe('heredocs', () => {
  test('keep body, name and how it is to be read', () => {
    const run = instructionOf('RUN 4<<-"E"OF cat\n\ta $x\n\t\tb\n\tEOF\n', 'RUN');
    expect(heredocsIn(run)).toMatchObject([
      { name: 'EOF', expand: false, chomp: true, fileDescriptor: 4, body: 'a $x\nb\n' },
    ]);
    expect(run.range.end).toMatchObject({ line: 5, column: 5 });
  });

  test('have the range of their word and that of their body', () => {
    const [heredoc] = heredocsIn(instructionOf('RUN cat <<EOF\na\nb\nEOF\n', 'RUN'));
    expect(heredoc?.range).toMatchObject({ start: { line: 2, column: 9 }, end: { line: 2, column: 14 } });
    expect(heredoc?.bodyRange).toMatchObject({ start: { line: 3, column: 1 }, end: { line: 5, column: 1 } });
  });

  test('of one line follow each other; COPY takes them among its sources', () => {
    const copy = instructionOf('COPY <<a file <<b /d/\n1\na\n2\nb\n', 'COPY');
    expect(copy).toMatchObject({
      sources: [
        { kind: 'heredoc', heredoc: { name: 'a', body: '1\n' } },
        { kind: 'path', word: { text: 'file' } },
        { kind: 'heredoc', heredoc: { name: 'b', body: '2\n' } },
      ],
      destination: { text: '/d/' },
    });
  });

  test('of one name are all the last one, as in BuildKit', () => {
    expect(instructionOf('COPY <<a <<a /d/\n1\na\n2\na\n', 'COPY')).toMatchObject({
      sources: [
        { kind: 'heredoc', heredoc: { name: 'a', body: '2\n' } },
        { kind: 'heredoc', heredoc: { name: 'a', body: '2\n' } },
      ],
    });
  });

  test.each([
    ['RUN <<EOF\r\na\r\nb\n\r\nEOF\r\nRUN x\n', 'a\r\nb\n\r\n'],
    ['COPY <<-EOF /x\n\t\ta\tb\r\n \tc\n\t\tEOF\r\nRUN x\n', 'a\tb\r\n \tc\n'],
    ['ADD <<EOF /x\n# c\nRUN y \\\n<<EOF\nEOF \n EOF\nEOF\nRUN x\n', '# c\nRUN y \\\n<<EOF\nEOF \n EOF\n'],
    ['RUN <<-EOF\n\ta\r\tb\u2028\tc\n\t\n\t\td\n\tEOF\n', 'a\r\tb\u2028\tc\n\nd\n'],
    ['RUN <<EOF\nEOF', ''],
  ])('of %j keep every character of their lines', (text, body) => {
    const instruction = dockerfileOf(`FROM a\n${text}`).stages[0]?.instructions[0];
    expect(instruction && heredocsIn(instruction)[0]?.body).toBe(body);
  });

  test.each([
    'RUN ["<<EOF"]',
    'RUN "<<EOF"',
    "RUN '<<EOF'",
    'RUN cat <<<EOF',
    'RUN echo $((1<<2))',
    "RUN it's <<EOF",
    'RUN cat <',
    'RUN \\<<EOF',
    'RUN <<\u00a0EOF',
    'RUN cat <<- EOF',
  ])('are not seen in %s', (text) => {
    expect(heredocsIn(instructionOf(`${text}\n`, 'RUN'))).toEqual([]);
  });

  test('are taken only by RUN, COPY and ADD, behind ONBUILD too', () => {
    expect(codesOf('FROM a\nCMD <<EOF\nEOF\n')).toEqual(['unknown-instruction']);
    expect(instructionOf('ONBUILD COPY <<F /f\nbody\nF\n', 'ONBUILD')).toMatchObject({
      trigger: 'COPY <<F /f\nbody\nF',
    });
    expect(instructionOf('ONBUILD RUN <<-F cat\n\tbody\n\tF\n', 'ONBUILD')).toMatchObject({
      trigger: 'RUN <<-F cat\n\tbody\nF',
    });
  });

  test.each([
    ['<<EOF', true],
    ['3<<-"E"OF', true],
    ["<<'one two'", true],
    ['<<  EOF', true],
    ['<<EOF cat', false],
    ['cat <<EOF', false],
    ['<<A <<B', false],
    ['<<', false],
    ["<<'open", false],
  ])('in %j alone: %s', (text, alone) => {
    expect(isLoneHeredoc(text)).toBe(alone);
  });

  test('are not continued, and hold no comments', () => {
    const [heredoc] = heredocsIn(instructionOf('RUN <<EOF\na \\\n# b\n\nEOF\n', 'RUN'));
    expect(heredoc?.body).toBe('a \\\n# b\n\n');
  });
});

describe('COPY and ADD', () => {
  test('split at blanks; JSON is for names with blanks', () => {
    expect(instructionOf('ADD a b/* c /d/', 'ADD')).toMatchObject({
      sources: [{ word: { text: 'a' } }, { word: { text: 'b/*' } }, { word: { text: 'c' } }],
      destination: { text: '/d/' },
    });
    expect(instructionOf('COPY ["a b", "c d"]', 'COPY')).toMatchObject({
      sources: [{ word: { text: 'a b' } }],
      destination: { text: 'c d' },
    });
  });

  test('take flags with quotes, alone and several times', () => {
    const text = 'COPY --link --from="a b" --exclude=x --exclude=\'y z\' --chown=a\\ b s d';
    expect(instructionOf(text, 'COPY')).toMatchObject({
      flags: [
        { name: 'link' },
        { name: 'from', value: 'a b' },
        { name: 'exclude', value: 'x' },
        { name: 'exclude', value: 'y z' },
        { name: 'chown', value: 'a b' },
      ],
    });
  });

  test('take -- for the end of the flags', () => {
    expect(instructionOf('COPY -- --from=x d', 'COPY')).toMatchObject({
      flags: [],
      sources: [{ word: { text: '--from=x' } }],
    });
  });
});

describe('ENV, LABEL and ARG', () => {
  test('keep quotes and escapes of values', () => {
    const env = instructionOf('ENV A="x y" B=\'$z\' C=d\\ e F= G=h=i "J"=k', 'ENV');
    expect(env).toMatchObject({
      legacy: false,
      pairs: [
        { key: { text: 'A' }, value: { text: '"x y"' } },
        { key: { text: 'B' }, value: { text: "'$z'" } },
        { key: { text: 'C' }, value: { text: 'd\\ e' } },
        { key: { text: 'F' }, value: { text: '' } },
        { key: { text: 'G' }, value: { text: 'h=i' } },
        { key: { text: '"J"' }, value: { text: 'k' } },
      ],
    });
  });

  test('take a name and the rest of the line for the legacy form', () => {
    const { dockerfile, diagnostics } = parse('FROM a\nENV K  v="w"  x\nLABEL "a b" c\n');
    expect(dockerfile?.stages[0]?.instructions).toMatchObject([
      { kind: 'ENV', legacy: true, pairs: [{ key: { text: 'K' }, value: { text: 'v="w"  x' } }] },
      { kind: 'LABEL', legacy: true, pairs: [{ key: { text: '"a' }, value: { text: 'b" c' } }] },
    ]);
    expect(diagnostics).toEqual([]);
  });

  test('ARG takes several names, with and without defaults', () => {
    expect(instructionOf('ARG A B=1 C= D="x y"', 'ARG')).toMatchObject({
      args: [
        { name: { text: 'A' } },
        { name: { text: 'B' }, defaultValue: { text: '1' } },
        { name: { text: 'C' }, defaultValue: { text: '' } },
        { name: { text: 'D' }, defaultValue: { text: '"x y"' } },
      ],
    });
    expect(instructionOf('ARG A', 'ARG')).not.toHaveProperty('args.0.defaultValue');
  });

  test('split at every blank that Unicode knows; paths split at plain ones', () => {
    expect(instructionOf('ENV A=b\u00a0C=d', 'ENV')).toMatchObject({
      pairs: [{ value: { text: 'b' } }, { key: { text: 'C' } }],
    });
    expect(instructionOf('COPY a\u00a0b c', 'COPY')).toMatchObject({
      sources: [{ word: { text: 'a\u00a0b' } }],
    });
  });

  test('escape with the character of the directive', () => {
    const { stages } = dockerfileOf('# escape=`\nFROM a\nENV A=b` c D="`"" E=c:\\\nRUN a `\n b\n');
    expect(stages[0]?.instructions).toMatchObject([
      { pairs: [{ value: { text: 'b` c' } }, { value: { text: '"`""' } }, { value: { text: 'c:\\' } }] },
      { source: 'RUN a  b' },
    ]);
  });
});

describe('WORKDIR, USER, STOPSIGNAL, MAINTAINER, EXPOSE, VOLUME and SHELL', () => {
  test('take the rest of the line, words, or a list', () => {
    const { stages } = dockerfileOf(
      'FROM a\nWORKDIR /a b\nUSER u:g\nSTOPSIGNAL 9\nMAINTAINER m <m@x>\nEXPOSE 1 2/udp\nVOLUME /a /b\nVOLUME ["/c d"]\nSHELL ["s", "-c"]\n',
    );
    expect(stages[0]?.instructions).toMatchObject([
      { kind: 'WORKDIR', word: { text: '/a b' } },
      { kind: 'USER', word: { text: 'u:g' } },
      { kind: 'STOPSIGNAL', word: { text: '9' } },
      { kind: 'MAINTAINER', word: { text: 'm <m@x>' } },
      { kind: 'EXPOSE', words: [{ text: '1' }, { text: '2/udp' }] },
      { kind: 'VOLUME', words: [{ text: '/a' }, { text: '/b' }] },
      { kind: 'VOLUME', words: [{ text: '/c d' }] },
      { kind: 'SHELL', args: ['s', '-c'] },
    ]);
  });
});

describe('HEALTHCHECK', () => {
  test('takes NONE, or a command with flags', () => {
    expect(instructionOf('HEALTHCHECK NONE', 'HEALTHCHECK')).not.toHaveProperty('command');
    expect(instructionOf('HEALTHCHECK --retries=3 CMD a || b', 'HEALTHCHECK')).toMatchObject({
      flags: [{ name: 'retries', value: '3' }],
      command: { form: 'shell', text: 'a || b' },
    });
    expect(instructionOf('HEALTHCHECK cmd ["a"]', 'HEALTHCHECK')).toMatchObject({
      command: { form: 'exec', args: ['a'] },
    });
  });
});

describe('ONBUILD', () => {
  test('keeps the trigger as text and as a node', () => {
    expect(instructionOf('# mine\nonbuild  run \\\n a', 'ONBUILD')).toMatchObject({
      trigger: 'run  a',
      comments: [{ text: 'mine' }],
      instruction: { kind: 'RUN', source: 'run  a', comments: [], range: { start: { line: 3, column: 10 } } },
    });
  });
});

describe('a faulty trigger of ONBUILD', () => {
  test.each([
    ['ONBUILD COPY a', 'COPY a'],
    ['onbuild RNU  x <<EOF', 'RNU  x <<EOF'],
    ['ONBUILD RUN', 'RUN'],
    ['ONBUILD ADD --from=x a b', 'ADD --from=x a b'],
    ['ONBUILD HEALTHCHECK x', 'HEALTHCHECK x'],
    ['ONBUILD COPY a <<EOF\nbody\nEOF', 'COPY a <<EOF\nbody\nEOF'],
  ])('%j is kept, with a warning', (text, trigger) => {
    const { dockerfile, diagnostics } = parse(`FROM a\n${text}\nUSER u\n`);
    expect(dockerfile?.stages[0]?.instructions).toMatchObject([
      { kind: 'ONBUILD', trigger },
      { kind: 'USER' },
    ]);
    expect(dockerfile?.stages[0]?.instructions[0]).not.toHaveProperty('instruction');
    expect(diagnostics).toMatchObject([{ severity: 'warning' }]);
    expect(diagnostics[0]?.message).toMatch(/^this trigger will fail where it is carried out: /);
  });

  test.each([
    ['ONBUILD', 'missing-argument'],
    ['ONBUILD RUN [1]', 'json-not-strings'],
    ['ONBUILD ENV a', 'missing-equals'],
    ['ONBUILD LABEL a=b c', 'missing-equals'],
    ['ONBUILD RUN <<EOF', 'unterminated-heredoc'],
    ['ONBUILD --x RUN y', 'unknown-flag'],
  ])('%j is an error, where BuildKit finds it too', (text, code) => {
    const { dockerfile, diagnostics } = parse(`FROM a\n${text}\n`);
    expect(dockerfile).toBeUndefined();
    expect(diagnostics).toMatchObject([{ severity: 'error', code }]);
  });
});

describe('directives', () => {
  test.each([
    ['docker/dockerfile', false],
    ['docker/dockerfile:1.26', false],
    ['docker/dockerfile:1-labs', false],
    ['docker/dockerfile-upstream:master', false],
    ['mirror.example:5000/docker/dockerfile:1@sha256:abc', false],
    ['docker/dockerfile:1 // why', false],
    ['docker/dockerfilex', true],
    ['example/frontend:1', true],
    ['mirror.example/docker/dockerfile-plus', true],
  ])('syntax=%s warns: %s', (value, warns) => {
    const { dockerfile, diagnostics } = parse(`# syntax=${value}\nFROM a\n`);
    expect(dockerfile?.directives.syntax?.value).toBe(value);
    expect(diagnostics.map(({ severity, code }) => [severity, code])).toEqual(
      warns ? [['warning', 'unknown-frontend']] : [],
    );
  });

  test('are read at the top only, in any case, with blanks', () => {
    const { directives } = dockerfileOf('#Syntax=a/b:1\n  # ESCAPE = `  \n# check=skip=all\nFROM a\n');
    expect(directives).toMatchObject({
      syntax: { value: 'a/b:1' },
      escape: '`',
      check: { value: 'skip=all' },
    });
    for (const before of ['\n', '# comment\n', '# unknown=x\n']) {
      expect(dockerfileOf(`${before}# escape=\`\nFROM a\n`).directives.escape).toBe('\\');
    }
  });
});

describe('parse', () => {
  test('of a byte order mark and CRLF counts columns as an editor does', () => {
    const { dockerfile } = parse('\ufeffFROM a\r\nRUN b \\\r\n c\r\n');
    expect(dockerfile?.stages[0]?.from.range.start).toEqual({ line: 1, column: 1, offset: 1 });
    expect(dockerfile?.stages[0]?.instructions[0]).toMatchObject({
      source: 'RUN b  c',
      range: { end: { line: 3, column: 3 } },
    });
  });

  test('takes comments directly above, without blanks and #', () => {
    const { stages } = dockerfileOf('# a\n\n#  varve: x  \n# b\nFROM a\n# c\n#\n# d\nRUN x\n');
    expect(stages[0]?.from.comments).toMatchObject([
      { text: 'varve: x', range: { start: { line: 3, column: 4 }, end: { line: 3, column: 12 } } },
      { text: 'b', range: { start: { line: 4, column: 3 }, end: { line: 4, column: 4 } } },
    ]);
    expect(stages[0]?.instructions[0]?.comments).toMatchObject([{ text: 'd' }]);
  });

  test('reports all faulty instructions and goes on behind each', () => {
    expect(codesOf('FRM a\nRUN x\nCPY a\nENV\nWORKDIR\n')).toEqual([
      'unknown-instruction',
      'unknown-instruction',
      'missing-argument',
      'missing-argument',
    ]);
  });

  test('tells where empty lines part the lines of an instruction', () => {
    const { dockerfile, diagnostics } = parse('FROM a\nRUN x \\\n\n  \n  y\nRUN z\n');
    expect(diagnostics).toEqual([]);
    expect(dockerfile?.stages[0]?.instructions.map((one) => one.emptyContinuationRange)).toEqual([
      {
        start: { line: 3, column: 1, offset: 15 },
        end: { line: 4, column: 3, offset: 18 },
      },
      undefined,
    ]);
  });

  test('keeps what could be read beside what could not', () => {
    const { dockerfile, partial } = parse('FROM a AS b\nMAINTAINER m\nBAD\nRUN x\n');
    expect(dockerfile).toBeUndefined();
    expect(partial?.stages.map(({ from }) => from.as?.text)).toEqual(['b']);
    expect(partial?.stages[0]?.instructions.map(({ kind }) => kind)).toEqual(['MAINTAINER', 'RUN']);
  });
});

describe('parseInstruction', () => {
  test('reads the trigger of an image, heredocs too', () => {
    expect(parseInstruction('COPY . /app').instruction).toMatchObject({
      kind: 'COPY',
      source: 'COPY . /app',
    });
    const { instruction } = parseInstruction('RUN <<EOF\nx\nEOF');
    expect(instruction && heredocsIn(instruction)).toMatchObject([{ body: 'x\n' }]);
  });

  test('reads again what ONBUILD keeps as its trigger', () => {
    const onbuild = instructionOf('ONBUILD RUN <<-A cat <<B \\\n && x\n\t1\nA\n2\nB\n', 'ONBUILD');
    if (onbuild.kind !== 'ONBUILD') throw new Error('not an ONBUILD');
    const { instruction } = parseInstruction(onbuild.trigger);
    expect(instruction && heredocsIn(instruction).map(({ body }) => body)).toEqual(['1\n', '2\n']);
    expect(instruction?.source).toBe(onbuild.instruction?.source);
  });

  test.each(['', '# c', 'RUN a\nRUN b', 'FROM a', 'MAINTAINER a', 'ONBUILD RUN a'])('refuses %j', (text) => {
    const { instruction, diagnostics } = parseInstruction(text);
    expect(instruction).toBeUndefined();
    expect(diagnostics.map(({ code }) => code)).toContain('onbuild-trigger');
  });

  test('gives the diagnostics of a faulty one', () => {
    expect(parseInstruction('CPY a b').diagnostics).toMatchObject([
      { code: 'unknown-instruction', hint: 'did you mean COPY?' },
    ]);
  });
});
