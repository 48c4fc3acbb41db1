import { describe, expect, it } from 'vitest';
import { WireWriter } from './native-wire.ts';
import { StoryEnd } from './story-end.ts';

function story(write: (out: WireWriter) => void): Buffer {
  const out = new WireWriter();
  write(out);
  return out.take();
}

describe('StoryEnd', () => {
  const ended = story((out) => {
    out.tag('R');
    out.tag('O');
    out.bytes(Buffer.from('E....'));
    out.tag('M');
    out.text('E');
    out.tag('U');
    out.text('');
    out.tag('D');
    out.bytes(Buffer.alloc(300, 'E'));
    out.tag('E');
    out.u32(256);
  });
  const failed = story((out) => {
    out.tag('F');
    out.u32(2);
    for (const text of ['tree-io', '', 'cannot E']) out.text(text);
  });
  const refused = story((out) => {
    out.tag('N');
    out.u32(127);
    out.text('no such file');
  });

  it.each([
    ['an end', ended],
    ['a failure', failed],
    ['a program that cannot be started', refused],
  ])('finds %s, however it is cut, whatever follows', (_, bytes) => {
    const stream = Buffer.concat([bytes, Buffer.from('X\0\0\0\0')]);
    for (const size of [1, 2, 3, 7, 64, stream.length]) {
      const end = new StoryEnd();
      for (let at = 0; at < stream.length; at += size) {
        const found = end.add(stream.subarray(at, at + size));
        const isThere = at + size >= bytes.length;
        expect(found?.equals(bytes) ?? false).toBe(isThere);
        if (isThere) break;
      }
    }
  });

  it('finds none in what is cut short, or no story', () => {
    expect(new StoryEnd().add(ended.subarray(0, -1))).toBeUndefined();
    const other = new StoryEnd();
    expect(other.add(Buffer.from('?'))).toBeUndefined();
    expect(other.add(ended)).toBeUndefined();
  });
});
