/** A stream of bytes, cut into datagrams of one size wherever its chunks end. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ReadableStream } from 'node:stream/web';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { createDatagramWritable, createDatagramWritableStream, type DatagramStreamOptions } from '../../src/streams.ts';
import { keeper } from '../support/keep.ts';
import { freshPath, Inbox } from '../support/lower.ts';

const keep = keeper();

function inbox(): Inbox & { path: string } {
  const path = freshPath();
  const made = new Inbox({ type: 'unix', bind: { path } });
  keep(made.socket);
  return Object.assign(made, { path });
}

/** Writes chunks to a stream of either kind, and ends it. Resolves with what has arrived, in datagrams. */
const WAYS = {
  Writable: async (path: string, chunks: readonly unknown[], options: DatagramStreamOptions) => {
    const writable = createDatagramWritable(() => DatagramSocket.open({ connect: { path } }), options);
    await pipeline(Readable.from(chunks), writable);
    return writable.stats;
  },
  'Writable, all at once': async (path: string, chunks: readonly unknown[], options: DatagramStreamOptions) => {
    const writable = createDatagramWritable(() => DatagramSocket.open({ connect: { path } }), options);
    writable.cork();
    for (const chunk of chunks) writable.write(chunk);
    await new Promise<void>((resolve, reject) => {
      writable.on('error', reject);
      writable.end(resolve);
    });
    return writable.stats;
  },
  WritableStream: async (path: string, chunks: readonly unknown[], options: DatagramStreamOptions) => {
    const stream = createDatagramWritableStream(() => DatagramSocket.open({ connect: { path } }), options);
    await ReadableStream.from(chunks as never[]).pipeTo(stream);
    return stream.stats;
  },
};

/** What arrives while `sending` goes on. */
async function arrivals(to: Inbox, sending: Promise<unknown>): Promise<Buffer[]> {
  const received: Buffer[] = [];
  let isOver = false;
  const over = sending.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    received.push(...to.take());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await over;
  return [...received, ...to.take()];
}

describe.each(Object.entries(WAYS))('%s', (_name, write) => {
  it('carries over what is left of a chunk, and ends with a shorter datagram', async () => {
    const to = inbox();
    const bytes = Buffer.from(Array.from({ length: 10_000 }, (_, n) => n * 3));
    const chunks = [bytes.subarray(0, 5), bytes.subarray(5, 1400), bytes.subarray(1400, 1401), bytes.subarray(1401)];
    const received = await arrivals(to, write(to.path, chunks, { segmentSize: 7 * 188 }));
    expect(received.map(({ length }) => length)).toEqual([...new Array<number>(7).fill(1316), 10_000 - 7 * 1316]);
    expect(Buffer.concat(received).equals(bytes)).toBe(true);
  });

  it('takes strings by their bytes, and lets other datagrams pass behind what was written before', async () => {
    const to = inbox();
    const chunks = ['ab', 'é', ['list', Buffer.from('ed')], new DataView(Uint8Array.from([65, 66, 67, 68]).buffer), ''];
    const received = await arrivals(to, write(to.path, chunks, { segmentSize: 3 }));
    expect(received).toEqual(['ab\xc3', '\xa9', 'listed', 'ABC', 'D'].map((text) => Buffer.from(text, 'latin1')));
  });

  it('sends nothing for no bytes', async () => {
    const to = inbox();
    expect(await arrivals(to, write(to.path, [Buffer.alloc(0)], { segmentSize: 3 }))).toEqual([]);
  });

  it('takes a chunk that is larger than the queue piece by piece, without a loss', async () => {
    const to = inbox();
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, n) => n * 7));
    const received = await arrivals(to, write(to.path, [bytes], { segmentSize: 1000, highWaterMarkBytes: 10_000 }));
    expect(received.map(({ length }) => length)).toEqual(new Array<number>(100).fill(1000));
    expect(Buffer.concat(received).equals(bytes)).toBe(true);
  });
});

it('any chunks, any size: all bytes arrive, in datagrams of that size but for the last', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 12 }),
      fc.integer({ min: 1, max: 120 }),
      fc.integer({ min: 1, max: 400 }),
      async (sizes, segmentSize, highWaterMarkBytes) => {
        const to = inbox();
        let next = 0;
        const chunks = sizes.map((size) => Buffer.from(Array.from({ length: size }, () => next++)));
        const all = Buffer.concat(chunks);
        const options = { segmentSize, highWaterMarkBytes: Math.max(highWaterMarkBytes, segmentSize) };
        const received = await arrivals(to, WAYS.Writable(to.path, chunks, options));
        expect(Buffer.concat(received).equals(all)).toBe(true);
        expect(received.length).toBe(Math.ceil(all.length / segmentSize));
        expect(received.slice(0, -1).every(({ length }) => length === segmentSize)).toBe(true);
      },
    ),
    { numRuns: 40 },
  );
});

it.each([
  [{ segmentSize: 0 }, 'ERR_OUT_OF_RANGE'],
  [{ segmentSize: '5' }, 'ERR_INVALID_ARG_TYPE'],
  [{ segmentSize: 5, pack: {} }, 'ERR_INVALID_ARG_VALUE'],
])('%o is refused', (options, code) => {
  const socket = keep(DatagramSocket.open());
  const expected = expect.objectContaining({ code });
  expect(() => createDatagramWritable(socket, options as never)).toThrow(expected);
  expect(() => createDatagramWritableStream(socket, options as never)).toThrow(expected);
});
