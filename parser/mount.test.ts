import { describe, expect, test } from 'vitest';
import { parse, parseBoolean, parseBytes, readMount } from './index.ts';

/** What `--mount=VALUE` means, or message and hint of what is wrong with it and the text to blame. */
function mountOf(value: string): unknown {
  const text = `FROM scratch\nRUN --mount=${value} x\n`;
  const instruction = parse(text).dockerfile?.stages[0]?.instructions[0];
  if (instruction?.kind !== 'RUN') throw new Error(`no RUN: ${JSON.stringify(parse(text).diagnostics)}`);
  const [flag] = instruction.options.mounts;
  if (flag === undefined) throw new Error('no mount');
  const mount = readMount(flag, (word) => word.text.replace('$v', 'value'));
  if (mount.ok)
    return JSON.parse(JSON.stringify(mount.value, (key, part) => (key === 'range' ? undefined : part)));
  const { message, hint, range } = mount.error;
  const blamed = text.slice(range.start.offset, range.end.offset);
  return [message, hint, blamed].filter((part) => part !== undefined).join('|');
}

describe('readMount', () => {
  test.each<[string, object]>([
    ['target=/t', { type: 'bind', target: '/t', readOnly: true }],
    [
      'type=bind,from=base,src=/a/$v,dst=/t,rw',
      { type: 'bind', from: { text: 'base' }, source: '/a/value', target: '/t', readOnly: false },
    ],
    ['TYPE=Bind,destination=/t,readwrite=false', { type: 'bind', target: '/t', readOnly: true }],
    ['type=bind,target=/t,readonly=0', { type: 'bind', target: '/t', readOnly: false }],
    ['type=bind,rw,ro', { type: 'bind', readOnly: true }],
    ['type=cache,target=/t', { type: 'cache', target: '/t', sharing: 'shared', readOnly: false }],
    [
      'type=cache,id=$v,target=/t,sharing=LOCKED,ro,from=b,source=/s,mode=0755,uid=1000,gid=2',
      {
        type: 'cache',
        id: 'value',
        from: { text: 'b' },
        source: '/s',
        target: '/t',
        sharing: 'locked',
        readOnly: true,
        mode: 0o755,
        uid: 1000,
        gid: 2,
      },
    ],
    ['type=tmpfs,target=/t,size=64m', { type: 'tmpfs', target: '/t', sizeBytes: 2 ** 26, readOnly: false }],
    ['type=secret,id=s', { type: 'secret', id: 's', required: false }],
    ['type=secret,source=s', { type: 'secret', id: 's', required: false }],
    [
      'type=secret,target=/root/.aws/credentials,required,env=KEY,mode=0400',
      {
        type: 'secret',
        id: 'credentials',
        target: '/root/.aws/credentials',
        required: true,
        env: 'KEY',
        mode: 0o400,
      },
    ],
    ['type=ssh', { type: 'ssh', required: false }],
    [
      'type=ssh,id=git,target=/s,required=true,uid=1',
      { type: 'ssh', id: 'git', target: '/s', uid: 1, required: true },
    ],
    ['type=bind,"target=/a b"', { type: 'bind', target: '/a b', readOnly: true }],
    ['type=bind,\\"target=/a,b\\"', { type: 'bind', target: '/a,b', readOnly: true }],
  ])('of %s', (value, mount) => {
    expect(mountOf(value)).toEqual(mount);
  });

  test.each([
    ['type=bnd', 'unsupported mount type "bnd"|did you mean bind?|bnd'],
    ['type=volume', 'unsupported mount type "volume"|known: bind, cache, tmpfs, secret, ssh|volume'],
    [
      'type=cache,sharing=exclusive',
      'unsupported sharing value "exclusive"|known: shared, private, locked|exclusive',
    ],
    ['type=cache,taget=/t', "unexpected key 'taget' in 'taget=/t'|did you mean target?|taget=/t"],
    [
      'type=cache,',
      "invalid field '' must be a key=value pair|write type=cache,target=/path, without blanks|",
    ],
    ['type=cache,target', "invalid field 'target' must be a key=value pair|target"],
    [
      'type=bind,required',
      "unexpected key 'required' for mount type 'bind'|only type=secret and type=ssh take it, and stand before it|required",
    ],
    [
      'type=bind,size=1',
      "unexpected key 'size' for mount type 'bind'|only type=tmpfs takes it, and stands before it|size=1",
    ],
    [
      'type=secret,id=a,sharing=shared',
      'invalid cache sharing set for secret mount|only type=cache is shared|sharing=shared',
    ],
    ['type=tmpfs,mode=1', 'mode not allowed for "tmpfs" type mounts|mode=1'],
    [
      'type=tmpfs,size=lots',
      'invalid value for size: "lots"|write bytes, or a number with a unit: size=64m|lots',
    ],
    ['type=cache,mode=0888', 'invalid value "0888" for mode|write octal digits: mode=0755|0888'],
    ['type=cache,uid=root', 'invalid value "root" for uid|write a number: uid=1000|root'],
    ['type=ssh,required=maybe', 'invalid value for required: maybe|write true or false|maybe'],
    ['type=bind,ro=$v', 'invalid value for ro: value|write true or false|$v'],
    [
      'type=secret',
      'invalid secret mount: one of id, source, target required|write id=NAME|--mount=type=secret',
    ],
    ['type=secret,id=a,source=b', "both source and id can't be set|source=b"],
    [
      'required,type=secret,id=s',
      "unexpected key 'required' for mount type 'bind'|only type=secret and type=ssh take it, and stand before it|required",
    ],
    ['type=secret,id=a,env=', 'env needs the name of a variable|env='],
    ['type=ssh,source=a', 'ssh does not support source|source=a'],
    ['type=secret,id=a,from=b', 'secret mount should not have a from|from=b'],
  ])('refuses %s', (value, fault) => {
    expect(mountOf(value)).toBe(fault);
  });
});

test.each([
  ['0', 0],
  ['10', 10],
  ['1k', 1024],
  ['1.5KB', 1536],
  ['2 MiB', 2 ** 21],
  ['1t', 2 ** 40],
  ['', undefined],
  ['-1', undefined],
  ['1x', undefined],
  ['1e3', undefined],
  ['99999p', undefined],
])('parseBytes of %j is %j', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each([
  ['1', true],
  ['T', true],
  ['true', true],
  ['False', false],
  ['0', false],
  ['yes', undefined],
  ['tRUE', undefined],
  ['', undefined],
])('parseBoolean of %j is %j', (text, truth) => {
  expect(parseBoolean(text)).toBe(truth);
});
