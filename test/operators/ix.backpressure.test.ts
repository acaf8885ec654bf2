/** The Ix operator: how it pulls its source, and how it is pulled. */
import { setImmediate as turn } from 'node:timers/promises';
import { toArray } from 'ix/asynciterable';
import { beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/ix/sendmmsg.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { numbered, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { NEVER, PullSource, quiet, upTo } from '../support/pull-source.ts';
import { blocked, Receiver, roomy } from '../support/receiver.ts';

const keep = keeper();
let socket: DatagramSocket;
let receiver: Receiver;
beforeEach(() => {
  ({ receiver, socket } = roomy(keep));
});

describe('backpressure', () => {
  it.each([
    ['by count', { highWaterMark: 20 }, 12, 20],
    ['by bytes', { highWaterMarkBytes: 1200 }, 100, 12],
  ])(
    '%s: the source is not pulled while the queue is full, and again when there is room',
    async (_how, options, size, room) => {
      const { receiver, socket } = blocked(keep);
      const source = new PullSource((index) => (index < 500 ? numbered(index, size) : null));
      const output = toArray(sendmmsg(socket, { batchSize: 8, ...options })(source));
      await quiet();
      const kernel = receiver.drain();
      // One more is pulled by bytes: it is looked at before it is queued.
      expect(source.pulled).toBeGreaterThanOrEqual(room);
      expect(source.pulled).toBeLessThanOrEqual(kernel.length + room + 1);
      const { pulled } = source;
      const rest = await receiver.receive(Number.POSITIVE_INFINITY, 5, output);
      expect(pulled).toBeLessThan(60);
      expect(numbersOf([...kernel, ...rest])).toEqual(range(500));
      expect((await output).reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
      expect([source.mostInFlight, source.returned]).toEqual([1, 0]);
    },
  );

  /** Small ones, until the queue is nearly full by bytes, then large ones. */
  const growing = (index: number): string | null => (index < 120 ? numbered(index, index < 80 ? 12 : 400) : null);

  it('datagrams that grow push nothing out of a queue that is full by bytes', async () => {
    const { receiver, socket } = blocked(keep);
    const output = toArray(sendmmsg(socket, { highWaterMarkBytes: 1000 })(new PullSource(growing)));
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, 1, output);
    expect(numbersOf(arrived)).toEqual(range(120));
    expect((await output).reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
  });

  it('datagrams that are too large for the ring to wrap around push nothing out', async () => {
    const { sender, receiver } = Receiver.pair(210_000); // doubled, socket(7)
    keep(receiver);
    const source = new PullSource((index) => (index < 12 ? Buffer.from(numbered(index, 400_000)) : null));
    const output = toArray(sendmmsg(keep(sender), { highWaterMarkBytes: 800_000 })(source));
    expect(numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, 1, output))).toEqual(range(12));
    expect((await output).reduce((sum, { sent }) => sum + sent, 0)).toBe(12);
  });

  it('a datagram whose size cannot be told confuses no one', async () => {
    const { receiver, socket } = blocked(keep);
    const odd = [
      Object.defineProperty(Buffer.from('0:aaaaaaaaaa'), 'byteLength', { value: Number.NaN }),
      Object.defineProperty(Buffer.from('1:bbbbbbbbbb'), 'byteLength', { value: -1e9 }),
      {
        get payload(): string {
          throw new Error('no bytes');
        },
      },
    ];
    const source = new PullSource((index) => odd[index] ?? growing(index));
    const output = toArray(sendmmsg(socket, { highWaterMarkBytes: 1000 })(source));
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, 1, output);
    expect(numbersOf(arrived)).toEqual(range(120, [2]));
    const reports = await output;
    expect(reports.flatMap(({ rejected }) => rejected)).toMatchObject([{ sequence: 2 }]);
    expect(reports.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
  });

  it('a full queue is made room in at once, whenever a flush is due: behind the one that exceeds it', async () => {
    const options = { highWaterMarkBytes: 1000, batchSize: 1000, flushAfterMs: 60_000 };
    const reports = await toArray(sendmmsg(socket, options)(new PullSource(growing)));
    expect(reports[0]).toMatchObject({ sent: 81 });
    expect(numbersOf(receiver.drain())).toEqual(range(120));
  });

  it('whatever the source: at most the high-water mark is between it and the reader', async () => {
    const { receiver, socket } = blocked(keep);
    const source = new PullSource(upTo(5000));
    const output = toArray(sendmmsg(socket, { highWaterMark: 64 })(source));
    let arrived = 0;
    let most = 0;
    let isDone = false;
    void output.finally(() => {
      isDone = true;
    });
    while (!isDone) {
      most = Math.max(most, source.pulled - arrived);
      arrived += receiver.drain(9).length;
      await turn();
    }
    arrived += receiver.drain().length;
    expect(arrived).toBe(5000);
    expect(most).toBeLessThan(64 + 20);
    expect(most).toBeGreaterThan(32);
  });

  it('between two pulls of the output only what is queued goes on, and the reports that wait are few', async () => {
    const { receiver, socket } = blocked(keep);
    const source = new PullSource();
    const iterator = sendmmsg(socket, { batchSize: 4, highWaterMark: 32 })(source)[Symbol.asyncIterator]();
    expect((await iterator.next()).done).toBe(false);
    await quiet();
    const { pulled } = source;
    expect(pulled).toBe(4);
    for (let turns = 0; turns < 50; turns++) {
      receiver.drain(1);
      await turn();
    }
    expect(source.pulled).toBe(pulled);
    await iterator.return?.();
    expect(source.returned).toBe(1);
  });

  it('a consumer that reads no report but the first has no more waiting than were queued', async () => {
    const { receiver, socket } = blocked(keep);
    const source = new PullSource(async (index) => {
      if (index === 40) await NEVER;
      return numbered(index);
    });
    const iterator = sendmmsg(socket, { batchSize: 2, highWaterMark: 8 })(source)[Symbol.asyncIterator]();
    let isFull = false;
    void iterator.next();
    for (let turns = 0; turns < 100 && !isFull; turns++) {
      await turn();
      isFull = source.pulled >= 8;
      if (!isFull) void iterator.next();
    }
    const { pulled } = source;
    const arrived: Buffer[] = [];
    for (let turns = 0; turns < 100; turns++) {
      arrived.push(...receiver.drain(1));
      await turn();
    }
    expect(source.pulled).toBeLessThanOrEqual(pulled + 1);
    expect(numbersOf(arrived)).toEqual(range(source.pulled));
    await iterator.return?.();
  });

  it('a slow consumer of the reports slows the source, and loses nothing', async () => {
    const source = new PullSource(upTo(40));
    const sent: number[] = [];
    for await (const report of sendmmsg(socket, { batchSize: 8 })(source)) {
      const { pulled } = source;
      await quiet();
      expect(source.pulled).toBe(pulled);
      sent.push(report.sent);
    }
    expect(sent).toEqual([8, 8, 8, 8, 8]);
    expect(numbersOf(receiver.drain())).toEqual(range(40));
  });

  it('concurrent next() calls are answered in order, by one next() of the source at a time', async () => {
    const source = new PullSource(async (index) => {
      await turn();
      return index < 6 ? numbered(index) : null;
    });
    const iterator = sendmmsg(socket, { batchSize: 2, flushAfterMs: 60_000 })(source)[Symbol.asyncIterator]();
    const results = await Promise.all(range(6).map(() => iterator.next()));
    expect(results.map(({ done, value }) => (done ? 'done' : value.sent))).toEqual([2, 2, 2, 'done', 'done', 'done']);
    expect(source.mostInFlight).toBe(1);
    expect(numbersOf(receiver.drain())).toEqual(range(6));
  });
});
