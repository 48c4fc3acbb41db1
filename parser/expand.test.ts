import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expandBody, expandWord, expandWords } from './expand.ts';

const VARIABLES: Readonly<Record<string, string>> = {
  v: 'value',
  empty: '',
  PWD: '/home/user',
  words: 'one  two',
  path: '/a/b/c.tar.gz',
  stars: 'a**',
  k한국: '한국어',
};

function lookup(name: string): string | undefined {
  return Object.hasOwn(VARIABLES, name) ? VARIABLES[name] : undefined;
}

function expand(text: string, escapeCharacter: '\\' | '`' = '\\'): string {
  const result = expandWord(text, { escape: escapeCharacter, lookup });
  return result.ok ? result.value.text : `error: ${result.error.message}`;
}

function split(text: string): readonly string[] | string {
  const result = expandWords(text, { escape: '\\', lookup });
  return result.ok ? result.value.words : `error: ${result.error.message}`;
}

describe('expandWord', () => {
  test.each([
    ['', ''],
    ['plain text', 'plain text'],
    ['$v', 'value'],
    ['${v}', 'value'],
    ['$vx', ''],
    ['${v}x', 'valuex'],
    ['$v.x', 'value.x'],
    ['a$', 'a$'],
    ['a$.b', 'a$.b'],
    ['$ v', '$ v'],
    ['$missing.', '.'],
    ['$k한국', '한국어'],
    // Special and numbered parameters are names of one or of digits only.
    ['$1a', 'a'],
    ['$@x', 'x'],
    ['$$v', 'v'],
    // Quotes.
    ["'$v'", '$v'],
    ['"$v"', 'value'],
    ['"it\'s $v"', "it's value"],
    ['\'say "$v"\'', 'say "$v"'],
    ['a\'b\'c"d"', 'abcd'],
    ["''", ''],
    // Escapes.
    ['\\$v', '$v'],
    ['\\\\$v', '\\value'],
    ['a\\b', 'ab'],
    ['a\\', 'a'],
    ['"a\\b"', 'a\\b'],
    ['"\\$v \\" \\\\"', '$v " \\'],
    ["'a\\b'", 'a\\b'],
    ["\\'", "'"],
    ['"\\\'"', "\\'"],
    // A byte order mark at the start is no character of a word or a pattern.
    ['\ufeff$v', 'value'],
    ['\ufeff\ufeff', '\ufeff'],
    ['${v#\ufeffva}', 'lue'],
  ])('of %j is %j', (text, expected) => {
    expect(expand(text)).toBe(expected);
  });

  test.each([
    ['${v:-w}', 'value'],
    ['${empty:-w}', 'w'],
    ['${missing:-w}', 'w'],
    ['${v-w}', 'value'],
    ['${empty-w}', ''],
    ['${missing-w}', 'w'],
    ['${v:+w}', 'w'],
    ['${empty:+w}', ''],
    ['${missing:+w}', ''],
    ['${v+w}', 'w'],
    ['${empty+w}', 'w'],
    ['${missing+w}', ''],
    ['${v:?m}', 'value'],
    ['${v?m}', 'value'],
    ['${empty?m}', ''],
    ['${missing:-}', ''],
    ['${missing:-$v}', 'value'],
    ['${missing:-${none:-${v}}}', 'value'],
    ['${missing:-"a } b"}', 'a } b'],
    ["${missing:-'$v'}", '$v'],
    ['${missing:-a\\}b}', 'a}b'],
    ['"${missing:-a b}"', 'a b'],
    ['${v:+${missing:-x}}', 'x'],
  ])('of %j with a default or an alternative is %j', (text, expected) => {
    expect(expand(text)).toBe(expected);
  });

  test.each([
    ['${path#*/}', 'a/b/c.tar.gz'],
    ['${path##*/}', 'c.tar.gz'],
    ['${path%.*}', '/a/b/c.tar'],
    ['${path%%.*}', '/a/b/c'],
    ['${path#x}', '/a/b/c.tar.gz'],
    ['${path#}', '/a/b/c.tar.gz'],
    ['${path##}', '/a/b/c.tar.gz'],
    ['${path#/?}', '/b/c.tar.gz'],
    ['${path%?}', '/a/b/c.tar.g'],
    ['${path%%*}', ''],
    ['${path#*}', '/a/b/c.tar.gz'],
    ['${stars%\\*}', 'a*'],
    ['${stars%%\\**}', 'a'],
    ['${path#/$missing}', 'a/b/c.tar.gz'],
    ['${missing#x}', ''],
    ['${path/b/x}', '/a/x/c.tar.gz'],
    ['${path//\\//-}', '-a-b-c.tar.gz'],
    ['${path/\\//-}', '-a/b/c.tar.gz'],
    ['${path//[/x}', '/a/b/c.tar.gz'],
    ['${path/.*/}', '/a/b/c'],
    ['${path//?/x}', 'xxxxxxxxxxxxx'],
    ['${path/$v/x}', '/a/b/c.tar.gz'],
    ['${v/a/$PWD}', 'v/home/userlue'],
    ['${v///}', 'value'],
    ['${empty/*/x}', 'x'],
    ['${v//l/[\\$0]}', 'va[\\l]ue'],
    ['${v//l/\\$x\\$\\$}', 'va\\\\$\\$ue'],
    ['${v/l/\\$0}', 'va\\$0ue'],
    ['${v#x\\*}\\a', 'valuea'],
    ['${missing:-${v%\\*}\\a}', 'valuea'],
  ])('of %j with a pattern is %j', (text, expected) => {
    expect(expand(text)).toBe(expected);
  });

  test.each([
    ['${v', "syntax error: missing '}'"],
    ['${', "syntax error: missing '}'"],
    ['${v:', "syntax error: missing '}'"],
    ['${v:-x', "syntax error: missing '}'"],
    ['${v:-${x}', "syntax error: missing '}'"],
    ['${}', 'syntax error: bad substitution'],
    ['${:-x}', 'syntax error: bad substitution'],
    ['${{v}}', 'syntax error: bad substitution'],
    ['${v=x}', 'unsupported modifier (=) in substitution'],
    ['${v:=x}', 'unsupported modifier (:=) in substitution'],
    ['${v^}', 'unsupported modifier (^) in substitution'],
    ['${v/x}', "syntax error: missing '/' in ${}"],
    ['${v//x}', "syntax error: missing '/' in ${}"],
    ['${v/x/y', "syntax error: missing '}'"],
    ['${v#\\x}', "invalid pattern (\\x) in substitution: invalid escape '\\x'"],
    ['${missing?}', 'missing: is not allowed to be unset'],
    ['${missing:?}', 'missing: is not allowed to be unset'],
    ['${empty:?}', 'empty: is not allowed to be empty'],
    ['${missing?needs $v}', 'missing: needs value'],
    ["'open", 'unexpected end of statement while looking for matching single-quote'],
    ['"open', 'unexpected end of statement while looking for matching double-quote'],
  ])('of %j fails: %s', (text, message) => {
    expect(expand(text)).toBe(`error: ${message}`);
  });

  test('takes a backtick for the escape where told so, and a backslash for itself', () => {
    expect(expand('c:\\dir\\`$v', '`')).toBe('c:\\dir\\$v');
    expect(expand('"c:\\$v `"x`""', '`')).toBe('c:\\value "x"');
    expect(expand('a`b', '\\')).toBe('a`b');
  });

  test('names every variable that was looked up, set or not, and no other', () => {
    const text = "$v ${missing:-$empty} ${v:+$words} '$quoted' \\$escaped ${path#$pattern}";
    const result = expandWord(text, { escape: '\\', lookup });
    expect(result.ok && [...result.value.used].sort()).toEqual(
      ['v', 'missing', 'empty', 'words', 'path', 'pattern'].sort(),
    );
  });

  test('tells where the fault is', () => {
    const result = expandWord('ab ${v:-${', { escape: '\\', lookup });
    expect(result).toEqual({
      ok: false,
      error: { message: "syntax error: missing '}'", offset: 8 },
    });
  });

  test('of nesting that would exhaust the stack is an error', () => {
    const text = '${a:-'.repeat(100_000) + '}'.repeat(100_000);
    expect(expand(text)).toBe('error: substitutions are nested too deeply');
  });

  test('of a pattern with many stars takes no exponential time', () => {
    const stars = `\${long##${'*a'.repeat(40)}b}`;
    const long = (name: string): string | undefined => (name === 'long' ? 'a'.repeat(2000) : undefined);
    const result = expandWord(stars, { escape: '\\', lookup: long });
    expect(result.ok && result.value.text.length).toBe(2000);
  });
});

describe('expandWords', () => {
  test.each([
    ['', []],
    ['a  b\tc', ['a', 'b', 'c']],
    ['  a  ', ['a']],
    ['"a b" c', ['a b', 'c']],
    ["a' 'b c", ['a b', 'c']],
    ['a\\ b', ['a b']],
    ['$words', ['one', 'two']],
    ['"$words"', ['one  two']],
    ['x$words/y', ['xone', 'two/y']],
    ['$empty a $missing', ['a']],
    ['"" a', ['a']],
    ['${missing:-a b}', ['a', 'b']],
  ])('of %j is %j', (text, expected) => {
    expect(split(text)).toEqual(expected);
  });

  test('of a bad word fails', () => {
    expect(split('a "b')).toBe('error: unexpected end of statement while looking for matching double-quote');
  });
});

describe('expandBody', () => {
  test.each([
    ["it's $v", "it's value"],
    ['"$v" \'$v\'', '"value" \'value\''],
    ['\\\n', '\n'],
    ['\\\\\n', '\\\n'],
    ['\\$v\n', '$v\n'],
    ['a  <<b\n\tc\n', 'a  <<b\n\tc\n'],
    ['${missing:-"}', '"'],
  ])('of %j is %j', (text, expected) => {
    for (const escapeCharacter of ['\\', '`'] as const) {
      expect(expandBody(text, { escape: escapeCharacter, lookup })).toEqual({ ok: true, value: expected });
    }
  });

  test('of a bad substitution fails', () => {
    expect(expandBody('a\n${v', { escape: '\\', lookup })).toMatchObject({ ok: false, error: { offset: 2 } });
  });
});

describe('for any text', () => {
  const texts = fc.string({
    unit: fc.constantFrom(...'$${{}}:-+?#%/\\`\'" <ab*|é🐳'),
    maxLength: 40,
  });

  test('expandWord gives a text or an error within the text, and never throws', () => {
    fc.assert(
      fc.property(texts, fc.constantFrom('\\', '`'), (text, escapeCharacter) => {
        const result = expandWord(text, { escape: escapeCharacter, lookup });
        if (!result.ok) {
          expect(result.error.offset).toBeGreaterThanOrEqual(0);
          expect(result.error.offset).toBeLessThanOrEqual(text.length);
        }
      }),
      { numRuns: 1500 },
    );
  });

  test('expandWord of text in single quotes is that text', () => {
    fc.assert(
      fc.property(texts, (text) => {
        const quotable = text.replaceAll("'", '');
        expect(expand(`'${quotable}'`)).toBe(quotable);
      }),
    );
  });
});
