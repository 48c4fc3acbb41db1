import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestOf, type SnapshotId } from '../core/index.ts';
import {
  actionDigest,
  encodeCanonical,
  keyPreimage,
  observedKey,
  observedPreimage,
  stepKey,
} from './canonical.ts';
import type { Canonical, StepQuery } from './contract.ts';
import { NO_FACTS } from './fact-list.ts';

const QUERY: StepQuery = {
  action: {
    version: 1,
    kind: 'RUN',
    definition: {
      command: ['/bin/sh', '-c', 'npm ci'],
      environment: { PATH: '/usr/bin', NODE_ENV: 'production' },
      user: '0:0',
      workdir: '/app',
      network: 'default',
    },
  },
  parent: `sha256:${'a'.repeat(64)}` as SnapshotId,
  inputs: [{ name: 'context', digest: digestOf('input'), facts: NO_FACTS }],
  slot: 'Dockerfile#3',
};

const canonical: fc.Arbitrary<Canonical> = fc.letrec<{ value: Canonical }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger().map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.string({ unit: 'binary' }),
    fc.constantFrom('', '\ud800', '\udc80', '\ufffd', '__proto__', '"', '\\', '\0', '1', 'null'),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string({ unit: 'binary', maxLength: 3 }), tie('value'), { maxKeys: 4 }),
  ),
})).value;

describe('encodeCanonical', () => {
  it('sorts keys by code unit and leaves out undefined', () => {
    expect(
      encodeCanonical({ b: 1, a: [true, null], Z: 'x', skipped: undefined, '\u{1f600}': 0, '\ufb01': 0 }),
    ).toBe('{"Z":"x","a":[true,null],"b":1,"\u{1f600}":0,"\ufb01":0}');
  });

  it('keeps lone surrogates apart from each other and from the replacement character', () => {
    const texts = ['\ud800', '\udc80', '\ufffd'].map((text) =>
      Buffer.from(encodeCanonical(text)).toString('hex'),
    );
    expect(new Set(texts).size).toBe(3);
  });

  it('refuses what has no one text', () => {
    for (const value of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      expect(() => encodeCanonical(value)).toThrow('no safe integer');
    }
    const holes: unknown = [1, undefined];
    expect(() => encodeCanonical(holes as Canonical)).toThrow('type undefined');
    expect(() => encodeCanonical(new Array(2) as Canonical)).toThrow('type undefined');
    const date: unknown = new Date(0);
    expect(() => encodeCanonical(date as Canonical)).toThrow('plain record');
  });

  it('has one text for a value, whatever the order of its keys, and can be read back', () => {
    fc.assert(
      fc.property(canonical, (value) => {
        const text = encodeCanonical(value);
        expect(text.isWellFormed()).toBe(true);
        expect(encodeCanonical(reversed(value))).toBe(text);
        // What is read back is the value itself, so two values cannot share a text.
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('has different texts for different values', () => {
    fc.assert(
      fc.property(canonical, canonical, (a, b) => {
        const same = encodeCanonical(a) === encodeCanonical(b);
        expect(same).toBe(encodeCanonical(reversed(a)) === encodeCanonical(reversed(b)));
        if (same) expect(a).toEqual(b);
      }),
    );
  });
});

describe('stepKey', () => {
  it('is pinned for a sample query', () => {
    expect(keyPreimage(QUERY)).toBe(
      `{"action":{"definition":{"command":["/bin/sh","-c","npm ci"],"environment":{"NODE_ENV":"production","PATH":"/usr/bin"},"network":"default","user":"0:0","workdir":"/app"},"kind":"RUN","version":1},"inputs":[{"digest":"${digestOf('input')}","name":"context"}],"parent":"sha256:${'a'.repeat(64)}","version":1}`,
    );
    expect(stepKey(QUERY)).toBe('sha256:3fcb5781d38ceb34e5abb669165792847a2a5d525a1bb537d6684c9c52344d50');
    expect(stepKey({ ...QUERY, parent: undefined, inputs: [] })).toBe(
      'sha256:18a9f4a7b6b22669170fd41146849589196d6cb486509d42ef7e4e4a0d21aad4',
    );
    expect(actionDigest(QUERY.action)).toBe(
      'sha256:c968c4a9327a8a493ee8b28bb64a8f2be3fedd8b15511da07fa7c9ed391b20cf',
    );
  });

  it('ignores the slot, the facts behind an input digest, and the order of definition fields', () => {
    const { definition } = QUERY.action;
    const shuffled = Object.fromEntries(Object.entries(definition).reverse());
    expect(stepKey({ ...QUERY, slot: 'elsewhere', action: { ...QUERY.action, definition: shuffled } })).toBe(
      stepKey(QUERY),
    );
  });

  it('changes with the version, kind, each field, the parent, and the name, digest and order of inputs', () => {
    const { action } = QUERY;
    const other = { name: 'stage build', digest: digestOf('other'), facts: NO_FACTS };
    const both = [...QUERY.inputs, other];
    const keys = [
      QUERY,
      { ...QUERY, action: { ...action, version: 2 } },
      { ...QUERY, action: { ...action, kind: 'COPY' as const } },
      { ...QUERY, action: { ...action, definition: { ...action.definition, user: '1:1' } } },
      { ...QUERY, action: { ...action, definition: { ...action.definition, extra: null } } },
      { ...QUERY, parent: undefined },
      { ...QUERY, inputs: [] },
      { ...QUERY, inputs: [{ ...other, name: 'context' }] },
      { ...QUERY, inputs: both },
      { ...QUERY, inputs: both.toReversed() },
    ].map(stepKey);
    expect(new Set(keys).size).toBe(keys.length);
  });
});

describe('observedKey', () => {
  it('is pinned for a sample query', () => {
    expect(observedPreimage(QUERY)).toBe(
      `{"action":{"definition":{"command":["/bin/sh","-c","npm ci"],"environment":{"NODE_ENV":"production","PATH":"/usr/bin"},"network":"default","user":"0:0","workdir":"/app"},"kind":"RUN","version":1},"inputs":[{"digest":"${digestOf('input')}","name":"context"}],"version":1}`,
    );
    expect(observedKey(QUERY)).toBe(
      'sha256:6a6cbbe39d2068de99213d26e67113bf5ac69de6defb7feb0f84770f11a980e9',
    );
  });

  it('changes with the version, kind, each field, and the name, digest and order of inputs, and is no key of a step', () => {
    const { action } = QUERY;
    const other = { name: 'stage build', digest: digestOf('other'), facts: NO_FACTS };
    const both = [...QUERY.inputs, other];
    const keys = [
      QUERY,
      { ...QUERY, action: { ...action, version: 2 } },
      { ...QUERY, action: { ...action, kind: 'COPY' as const } },
      { ...QUERY, action: { ...action, definition: { ...action.definition, user: '1:1' } } },
      { ...QUERY, inputs: [] },
      { ...QUERY, inputs: [{ ...other, name: 'context' }] },
      { ...QUERY, inputs: both },
      { ...QUERY, inputs: both.toReversed() },
    ].map(observedKey);
    expect(new Set([...keys, stepKey(QUERY), stepKey({ ...QUERY, parent: undefined })]).size).toBe(
      keys.length + 2,
    );
  });
});

function reversed(value: Canonical): Canonical {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map((item: Canonical) => reversed(item));
  const entries = Object.entries(value).reverse();
  return Object.fromEntries(
    entries.map(([key, item]) => [key, item === undefined ? undefined : reversed(item)]),
  );
}
