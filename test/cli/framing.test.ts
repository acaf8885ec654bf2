import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createFramer, type Framing } from '../../src/cli/framing.ts';

const LIMIT = 40;
const NO_LIMIT = 2 ** 30;

/** Feeds the chunks; every frame is copied as it comes, as the queue does. */
function framesOf(framing: Framing, chunks: readonly Uint8Array[], limit = LIMIT, skipEmpty = false): string[] {
  const framer = createFramer(framing, limit, { skipEmpty });
  const frames: string[] = [];
  for (const chunk of chunks) {
    framer.feed(chunk);
    for (let frame = framer.next(); frame !== undefined; frame = framer.next())
      frames.push(Buffer.from(frame).toString('latin1'));
    chunk.fill(0xee); // nothing may be kept of a chunk that is used up
  }
  const last = framer.end();
  if (last !== undefined) frames.push(Buffer.from(last).toString('latin1'));
  return frames;
}

/** Cuts bytes at the given places. */
function chunked(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, index) => bytes.slice(from, places[index] ?? bytes.length));
}

const cut = (frame: string): string => frame.slice(0, LIMIT + 1);
const cuts = fc.array(fc.nat(2000), { maxLength: 30 });
// Bytes in which newlines are frequent, and lines on both sides of the limit.
const bytes = fc
  .array(fc.oneof(fc.constant(10), fc.constant(13), fc.integer({ min: 0, max: 255 }), fc.constant(65)), {
    maxLength: 400,
  })
  .map((values) => Uint8Array.from(values.filter((value, index) => value !== 10 || index % 3 === 0)));

describe('framing', () => {
  it('cuts lines alike however the input is chunked', () => {
    fc.assert(
      fc.property(bytes, cuts, fc.boolean(), (input, places, skipEmpty) => {
        const lines = Buffer.from(input).toString('latin1').split('\n');
        if (lines.at(-1) === '') lines.pop(); // what follows the last newline is a line only if it is something
        const expected = lines.filter((line) => !skipEmpty || line !== '').map(cut);
        expect(framesOf({ kind: 'lines' }, chunked(input, places), LIMIT, skipEmpty)).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('cuts length-prefixed datagrams alike however the input is chunked', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 20 }), cuts, (datagrams, places) => {
        const input = Buffer.concat(datagrams.flatMap((datagram) => [prefix(datagram.length), datagram]));
        const expected = datagrams.map((datagram) => cut(Buffer.from(datagram).toString('latin1')));
        expect(framesOf({ kind: 'length-prefixed' }, chunked(input, places))).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('cuts fixed sizes alike however the input is chunked', () => {
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 60 }), cuts, (input, size, places) => {
        const text = Buffer.from(input).toString('latin1');
        const expected = Array.from({ length: Math.ceil(text.length / size) }, (_, index) =>
          cut(text.slice(index * size, (index + 1) * size)),
        );
        expect(framesOf({ kind: 'fixed', size }, chunked(input, places))).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('says where a length-prefixed input is truncated', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.nat(), cuts, (datagram, at, places) => {
        const whole = Buffer.concat([prefix(2), Buffer.from('ok'), prefix(datagram.length), datagram]);
        const kept = 7 + (at % (whole.length - 7)); // at least a byte of the second prefix, not all of its datagram
        const message =
          kept < 10
            ? `the input is truncated: it ends ${kept - 6} bytes into a 4-byte length`
            : `the input is truncated: it ends ${kept - 10} bytes into a datagram of ${datagram.length}`;
        expect(() => framesOf({ kind: 'length-prefixed' }, chunked(whole.subarray(0, kept), places))).toThrow(message);
      }),
    );
  });

  it('keeps a carriage return, an empty line and a last line without newline', () => {
    expect(framesOf({ kind: 'lines' }, [Buffer.from('a\r\n\nb')])).toEqual(['a\r', '', 'b']);
    expect(framesOf({ kind: 'lines' }, [Buffer.from('\n')])).toEqual(['']);
    expect(framesOf({ kind: 'lines' }, [Buffer.from('')])).toEqual([]);
  });

  it('gives views of the chunk, not copies', () => {
    const chunk = new Uint8Array(Buffer.from('\0\0\0\x02ab\0\0\0\x01c'));
    for (const framing of [{ kind: 'length-prefixed' }, { kind: 'fixed', size: 3 }] satisfies Framing[]) {
      const framer = createFramer(framing, NO_LIMIT);
      framer.feed(chunk);
      expect(framer.next()?.buffer).toBe(chunk.buffer);
    }
    const lines = createFramer({ kind: 'lines' }, NO_LIMIT);
    const text = new Uint8Array(Buffer.from('ab\nc'));
    lines.feed(text);
    expect(lines.next()?.buffer).toBe(text.buffer);
  });

  it('keeps no more of an endless frame than shows that it is too long', () => {
    for (const framing of [{ kind: 'lines' }, { kind: 'fixed', size: NO_LIMIT }] satisfies Framing[]) {
      const framer = createFramer(framing, LIMIT);
      for (let index = 0; index < 1000; index++) {
        framer.feed(new Uint8Array(1000).fill(65));
        expect(framer.next()).toBeUndefined();
      }
      const frame = framer.end()!;
      expect(frame.length).toBe(LIMIT + 1);
      expect(frame.buffer.byteLength).toBeLessThanOrEqual(256);
    }
  });
});

function prefix(length: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(length);
  return buffer;
}
