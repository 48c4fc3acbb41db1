import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Digest, digestOf, type ImagePath, type SnapshotId, type StepKey } from '../core/index.ts';
import type { FileFact, MissReason, StepQuery, TreeInput } from './contract.ts';
import {
  fileDifference as differenceOf,
  explainHit,
  explainMiss,
  explainObserved,
  firstDifference,
  type PastQuery,
} from './explain.ts';
import { FactList } from './fact-list.ts';

function fact(path: string, more: Partial<FileFact> = {}): FileFact {
  return {
    path: path as ImagePath,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    digest: digestOf('x'),
    ...more,
  };
}

function input(name: string, facts: readonly FileFact[]): TreeInput {
  const list = FactList.of(facts);
  return { name, digest: list.digest, facts: list };
}

const BASE: StepQuery = {
  action: {
    version: 1,
    kind: 'RUN',
    definition: {
      command: ['/bin/sh', '-c', 'npm ci'],
      environment: { NODE_ENV: 'production', PATH: '/bin' },
      buildArgs: { TOKEN: 'hunter2' },
      network: 'default',
      user: '0:0',
    },
  },
  parent: digestOf('parent') as string as SnapshotId,
  inputs: [input('context', [fact('a'), fact('b')]), input('stage build', [fact('out')])],
  slot: 's',
};

function fileDifference(
  name: string,
  before: readonly FileFact[],
  after: readonly FileFact[],
): MissReason | undefined {
  return differenceOf(name, FactList.of(before), FactList.of(after));
}

function difference(before: StepQuery, after: StepQuery): MissReason | undefined {
  const listings = new Map<Digest, FactList>(before.inputs.map(({ digest, facts }) => [digest, facts]));
  const past: PastQuery = {
    action: before.action,
    parent: before.parent ?? null,
    inputs: before.inputs.map(({ name, digest }) => ({ name, digest })),
  };
  return firstDifference(past, after, (digest) => listings.get(digest));
}

function told(before: StepQuery, after: StepQuery): string {
  const why = difference(before, after);
  return why === undefined ? 'no difference' : explainMiss(why);
}

function defined(change: StepQuery['action']['definition']): StepQuery {
  return { ...BASE, action: { ...BASE.action, definition: { ...BASE.action.definition, ...change } } };
}

describe('firstDifference', () => {
  it('finds none between a query and itself', () => {
    expect(difference(BASE, structuredClone(BASE))).toBeUndefined();
  });

  it('names the field or flag with its values', () => {
    expect(told(BASE, defined({ network: 'none' }))).toBe('flag --network changed from default to none');
    expect(told(BASE, defined({ user: '1:1' }))).toBe('user changed from 0:0 to 1:1');
    expect(told(BASE, defined({ command: ['/bin/sh', '-c', 'npm i'] }))).toBe(
      'command changed from /bin/sh -c npm ci to /bin/sh -c npm i',
    );
    expect(told(BASE, defined({ mounts: [{ type: 'cache' }] }))).toBe('flag --mount changed');
    expect(told(defined({ script: { text: 'a' } }), defined({ script: { text: 'b' } }))).toBe(
      'its heredoc changed',
    );
    expect(told(defined({ workdir: '/app' }), BASE)).toBe('the working directory was removed');
    expect(told(BASE, { ...BASE, action: { ...BASE.action, version: 2 } })).toBe(
      'the format of its key changed from 1 to 2',
    );
    expect(told(BASE, { ...BASE, action: { ...BASE.action, kind: 'COPY' } })).toBe(
      'the instruction changed from RUN to COPY',
    );
  });

  it('names variables, and never shows their values', () => {
    const edits = [
      [{ environment: { NODE_ENV: 'test', PATH: '/bin' } }, 'variable NODE_ENV changed'],
      [{ environment: { NODE_ENV: 'production' } }, 'variable PATH was removed'],
      [{ environment: undefined }, 'variable NODE_ENV was removed'],
      [{ buildArgs: { TOKEN: 'other-secret' } }, 'variable TOKEN changed'],
      [{ buildArgs: { TOKEN: 'hunter2', NEW: 'secret' } }, 'variable NEW was added'],
      [{ buildArgs: 'TOKEN=secret' }, 'buildArgs changed'],
      [{ buildArgs: ['TOKEN=secret'] }, 'buildArgs changed'],
    ] as const;
    for (const [change, sentence] of edits) {
      expect(told(BASE, defined(change))).toBe(sentence);
      expect(JSON.stringify(difference(BASE, defined(change)))).not.toMatch(/secret|hunter2|production/);
    }
  });

  it('looks at fields, then variables, then files, then the parent', () => {
    const parent = digestOf('other') as string as SnapshotId;
    const inputs = [input('context', [fact('a')]), input('stage build', [fact('out', { mode: 0o755 })])];
    const environment = { NODE_ENV: 'test' };
    expect(told(BASE, { ...BASE, parent })).toBe('the step before it changed');
    expect(told(BASE, { ...BASE, parent: undefined })).toBe('the step before it changed');
    expect(told(BASE, { ...BASE, parent, inputs })).toBe('b was removed');
    expect(told(BASE, { ...defined({ environment }), parent, inputs })).toBe('variable NODE_ENV changed');
    expect(told(BASE, { ...defined({ environment, user: '1' }), parent, inputs })).toBe(
      'user changed from 0:0 to 1',
    );
  });

  it('names the input other than the context, and inputs that came or went', () => {
    const [context] = BASE.inputs;
    if (context === undefined) throw new Error('no input');
    const inputs = [context, input('stage build', [fact('out', { mode: 0o755 })])];
    expect(told(BASE, { ...BASE, inputs })).toBe('out in stage build changed (mode)');
    expect(told(BASE, { ...BASE, inputs: [context] })).toBe(
      'inputs changed from context, stage build to context',
    );
  });

  it('still tells which input changed where the old listing is gone', () => {
    const past: PastQuery = { action: BASE.action, parent: BASE.parent ?? null, inputs: BASE.inputs };
    const why = firstDifference(
      past,
      { ...BASE, inputs: BASE.inputs.map((i) => ({ ...i, digest: digestOf(i.name) })) },
      () => undefined,
    );
    expect(why === undefined ? '' : explainMiss(why)).toBe('context changed');
  });
});

describe('fileDifference', () => {
  const edits: readonly (readonly [string, readonly FileFact[]])[] = [
    ['b was added', [fact('a'), fact('b'), fact('c')]],
    ['a was removed', [fact('c')]],
    ['a changed (content)', [fact('a', { digest: digestOf('y') }), fact('c')]],
    ['a changed (mode)', [fact('a', { mode: 0o755 }), fact('c')]],
    ['a changed (owner)', [fact('a', { uid: 1 }), fact('c')]],
    ['a changed (owner)', [fact('a', { gid: 1 }), fact('c')]],
    ['a changed (type)', [{ path: 'a' as ImagePath, type: 'dir', mode: 0o755, uid: 0, gid: 0 }, fact('c')]],
    ['a changed (xattrs)', [fact('a', { xattrs: { 'user.x': '00' } }), fact('c')]],
  ];

  it.each(edits)('finds: %s', (sentence, after) => {
    const why = fileDifference('context', [fact('a'), fact('c')], after);
    expect(why === undefined ? '' : explainMiss(why)).toBe(sentence);
    expect(FactList.of(after).digest).not.toBe(FactList.of([fact('a'), fact('c')]).digest);
  });

  it('finds another link target and another device', () => {
    const link = (linkTarget: string): FileFact => ({
      path: 'l' as ImagePath,
      type: 'symlink',
      mode: 0o777,
      uid: 0,
      gid: 0,
      linkTarget,
    });
    const node = (device: string): FileFact => ({
      path: 'n' as ImagePath,
      type: 'char',
      mode: 0o600,
      uid: 0,
      gid: 0,
      device,
    });
    expect(fileDifference('context', [link('a')], [link('b')])).toMatchObject({ change: 'link-target' });
    expect(fileDifference('context', [node('1:3')], [node('1:5')])).toMatchObject({ change: 'type' });
    const linked = { ...fact('b'), hardlinkTo: 'a' as ImagePath };
    expect(fileDifference('context', [fact('b')], [linked])).toMatchObject({ change: 'hard-link' });
  });

  it('counts every other file that differs', () => {
    const why = fileDifference(
      'context',
      [fact('a'), fact('b')],
      [fact('b', { mode: 0 }), fact('c'), fact('d')],
    );
    expect(why).toMatchObject({ path: 'a', change: 'removed', others: 3 });
    expect(why === undefined ? '' : explainMiss(why)).toBe('a was removed, 3 more files differ');
  });

  it('finds the same in long lists, wherever the differences lie, as line by line', () => {
    const all = Array.from({ length: 2500 }, (_, at) => fact(`file-${String(at).padStart(4, '0')}`));
    const place = fc.nat(all.length - 1);
    const edit = fc.tuple(place, fc.constantFrom('keep', 'remove', 'change', 'lengthen'));
    const edited = fc.array(edit, { maxLength: 3 }).map((edits) => {
      const of = new Map(edits);
      return all.flatMap((one, at) => {
        const how = of.get(at);
        if (how === 'remove') return [];
        if (how === 'change') return [{ ...one, digest: digestOf('y') }];
        return how === 'lengthen' ? [{ ...one, xattrs: { 'user.x': '', 'user.y': 'z' } }] : [one];
      });
    });
    fc.assert(
      fc.property(edited, edited, (a, b) => {
        const [before, after] = [FactList.of(a), FactList.of(b)];
        const whole = FactList.read(after.bytes());
        if (whole === undefined) throw new Error('what was written cannot be read');
        expect(differenceOf('context', before, after)).toEqual(differenceOf('context', before, whole));
      }),
      { numRuns: 30 },
    );
  });

  it('finds a difference exactly where the digests differ, at a path that differs', () => {
    const facts = fc
      .uniqueArray(fc.constantFrom('a', 'b', 'a/b', 'é', '\u{1f600}', '\ufb01', '\udc80'), { maxLength: 5 })
      .chain((paths) =>
        fc.tuple(
          ...paths.map((path) => fc.record({ path: fc.constant(path), mode: fc.constantFrom(0o644, 0o755) })),
        ),
      )
      .map((list) =>
        list.map(({ path, mode }) => fact(path, { mode })).sort((x, y) => Buffer.compare(bytes(x), bytes(y))),
      );
    fc.assert(
      fc.property(facts, facts, (before, after) => {
        const why = fileDifference('context', before, after);
        expect(why === undefined).toBe(FactList.of(before).digest === FactList.of(after).digest);
        if (why?.reason !== 'file-changed') return;
        const find = (list: readonly FileFact[]) => list.find(({ path }) => path === why.path);
        expect(find(before)).not.toEqual(find(after));
      }),
    );
  });
});

function bytes(entry: FileFact): Buffer {
  return entry.path === '\udc80' ? Buffer.of(0x80) : Buffer.from(entry.path);
}

describe('explainMiss', () => {
  it('has a sentence for reasons without details', () => {
    expect(explainMiss({ reason: 'never-ran' })).toBe('never ran before');
    expect(explainMiss({ reason: 'evicted' })).toBe('its layer was evicted');
    expect(explainMiss({ reason: 'no-cache' })).toBe('the cache was switched off for it');
  });

  it('keeps control characters and text direction marks of names and values from the terminal', () => {
    const why = { reason: 'file-changed', input: 'context', change: 'content', others: 0 } as const;
    for (const path of ['a\x1b[2Jb', 'line\nbreak', 'bad\udcff', 'dir\u202etxt', 'c1\u009b2J']) {
      const sentence = explainMiss({ ...why, path: path as ImagePath });
      expect(sentence).not.toMatch(/[\0-\x1f\u007f-\u009f\u202e\ud800-\udfff]/);
    }
    expect(
      explainMiss({ reason: 'field-changed', field: 'command', before: 'a', after: '\x1b]0;x\x07' }),
    ).not.toContain('\x1b');
  });

  it('shortens long values', () => {
    const after = '\u{1f600}'.repeat(500);
    const sentence = explainMiss({ reason: 'field-changed', field: 'command', before: 'x', after });
    expect(sentence.length).toBeLessThan(200);
    expect(sentence.isWellFormed()).toBe(true);
  });
});

describe('explainHit', () => {
  it('tells how old the record is and what it saved', () => {
    const record = {
      key: 'k' as StepKey,
      origin: 'ran' as const,
      createdAtMs: 5,
      ranAtMs: 1_000_000,
      durationMs: 83_000,
    };
    expect(explainHit(record, 1_000_000 + 2 * 3_600_000)).toBe(
      'same action, parent and inputs as 2 hours ago, saved 1m23s',
    );
    expect(explainHit({ ...record, durationMs: 3210 }, 1_060_000)).toBe(
      'same action, parent and inputs as 1 minute ago, saved 3.2s',
    );
    expect(explainHit({ ...record, durationMs: 5 }, 0)).toBe(
      'same action, parent and inputs as a moment ago',
    );
  });
});

describe('explainMiss of observations', () => {
  const path = 'app/src' as ImagePath;

  it('tells the path as the step saw it, what happened to it, who depended on that, and how many more differ', () => {
    const changes = {
      content: '/app/src changed (read by npm)',
      listing: 'a name in /app/src came or went (listed by npm)',
      added: '/app/src appeared (looked up by npm)',
      removed: '/app/src is gone (looked up by npm)',
      metadata: 'mode, owner or attributes of /app/src changed (looked up by npm)',
      attributes: 'size or time of /app/src changed (looked up by npm)',
      'link-target': '/app/src leads elsewhere (followed by npm)',
      type: '/app/src is of another type (looked up by npm)',
    } as const;
    for (const [change, sentence] of Object.entries(changes)) {
      const why = { reason: 'observed-changed', path, by: 'npm', others: 0 } as const;
      expect(explainMiss({ ...why, change: change as keyof typeof changes })).toBe(sentence);
    }
  });

  it('counts other paths, leaves out an unknown program, names the root, and escapes what is not for a terminal', () => {
    const why = { reason: 'observed-changed', path, change: 'content' } as const;
    expect(explainMiss({ ...why, others: 1 })).toBe('/app/src changed, 1 more path differs');
    expect(explainMiss({ ...why, by: 'sh', others: 7 })).toBe(
      '/app/src changed (read by sh), 7 more paths differ',
    );
    expect(explainMiss({ ...why, path: '' as ImagePath, change: 'listing', others: 0 })).toBe(
      'a name in / came or went',
    );
    const hostile = explainMiss({ ...why, path: 'a\x1b[2J' as ImagePath, by: 'b\nc', others: 0 });
    expect(hostile).not.toContain('\x1b');
    expect(hostile).not.toContain('\n');
  });

  it('tells how old a result is that is older than its ttl', () => {
    expect(explainMiss({ reason: 'too-old', ageMs: 3 * 86_400_000 + 5 })).toBe(
      'its result is 3 days old, older than its ttl',
    );
    expect(explainMiss({ reason: 'too-old', ageMs: 0 })).toBe(
      'its result is a moment old, older than its ttl',
    );
  });
});

describe('explainObserved', () => {
  it('tells how much changed below that the step had not looked at', () => {
    const record = {
      key: 'k' as StepKey,
      origin: 'ran' as const,
      createdAtMs: 5,
      ranAtMs: 1_000_000,
      durationMs: 12_000,
    };
    const tell = (paths: number, changed?: number): string =>
      explainObserved({ paths, changed }, record, 1_000_000);
    expect(tell(412, 3)).toBe(
      '3 files changed below, none of the 412 observed paths among them, saved 12.0s',
    );
    expect(tell(1, 1)).toBe('1 file changed below, not the 1 observed path, saved 12.0s');
    expect(tell(2)).toBe('files changed below, none of the 2 observed paths among them, saved 12.0s');
    expect(tell(0, 2)).toBe('2 files changed below, the step looked at none, saved 12.0s');
    expect(tell(2, 0)).toMatch(/^no files changed below/);
    expect(explainObserved({ paths: 2 }, { ...record, durationMs: 5 }, 1_000_000 + 2 * 86_400_000)).toBe(
      'files changed below, none of the 2 observed paths among them, ran 2 days ago',
    );
  });
});
