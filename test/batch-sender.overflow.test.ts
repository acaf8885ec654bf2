import { afterEach, describe, expect, it } from 'vitest';
import type { BatchOptions } from '../src/batch-options.ts';
import { BatchSender } from '../src/batch-sender.ts';
import type { BatchReport } from '../src/datagram.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from './support/datagrams.ts';
import { Receiver } from './support/receiver.ts';
import { VirtualTime } from './support/virtual-time.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

/** A sender whose peer's queue is full already: what is sent from now on stays queued until the receiver reads. */
function blocked(options: BatchOptions = {}) {
  const receiver = Receiver.unix();
  const socket = receiver.connected();
  open.push(receiver, socket);
  const time = new VirtualTime();
  const reports: BatchReport[] = [];
  const errors: unknown[] = [];
  let completions = 0;
  const observer = {
    next: (report: BatchReport) => reports.push(report),
    error: (error: unknown) => errors.push(error),
    complete: () => completions++,
  };
  let filled = 0;
  try {
    for (;;) filled += socket.sendmmsg(new Array(20).fill('filler')).sent;
  } catch {
    // EAGAIN: it is full.
  }
  const sender = new BatchSender(socket, { scheduler: time, ...options }, observer);
  /** Reads all that there is and will be, without the filler. */
  const arrived = async (settled: Promise<unknown>): Promise<number[]> =>
    numbersOf((await receiver.receive(Number.POSITIVE_INFINITY, undefined, settled)).slice(filled));
  return { receiver, socket, sender, time, reports, errors, arrived, completions: () => completions };
}

describe('a full queue', () => {
  it.each([
    ['drop-oldest' as const, range(30).slice(20)],
    ['drop-newest' as const, range(10)],
  ])('%s keeps what it says, in order, and counts the others', async (overflow, kept) => {
    const { sender, arrived } = blocked({ highWaterMark: 10, batchSize: 5, overflow });
    const answers = numberedList(30).map((text) => sender.send(text));
    expect(answers).toEqual(range(30).map((number) => number < 9));
    expect(sender.stats).toMatchObject({ queued: 10, dropped: 20, droppedBy: { overflow: 20 } });
    expectConservation(sender.stats);
    const calls = sender.stats.syscalls;
    for (let index = 0; index < 1000; index++) sender.send(numbered(index));
    expect(sender.stats.syscalls).toBe(calls);
    if (overflow === 'drop-oldest') for (const text of numberedList(30)) sender.send(text);
    expect(await arrived(sender.close())).toEqual(kept);
    expectConservation(sender.stats);
  });

  it("'error' ends the stream with ENOBUFS, everything accounted for", async () => {
    const { sender, errors, reports } = blocked({ highWaterMark: 10, overflow: 'error' });
    for (const text of numberedList(10)) sender.send(text);
    expect(errors).toEqual([]);
    sender.send('one too many');
    expect(errors).toMatchObject([{ code: 'ENOBUFS' }]);
    expect(sender.stats).toMatchObject({ accepted: 11, queued: 0, droppedBy: { overflow: 1, failure: 10 } });
    expect(reports.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(11);
    await expect(sender.close()).rejects.toMatchObject({ code: 'ENOBUFS' });
  });

  it('is flushed before anything is dropped', () => {
    const { sender: socket, receiver } = Receiver.pair(1 << 20);
    open.push(socket, receiver);
    const sender = new BatchSender(socket, { highWaterMarkBytes: 100, flushAfterMs: 1000 });
    for (const text of numberedList(50, 30)) sender.send(text);
    sender.flush();
    expect(numbersOf(receiver.drain())).toEqual(range(50));
    expect(sender.stats.dropped).toBe(0);
    sender.destroy();
  });

  it('by bytes: as many of the oldest go as the new one needs room for', async () => {
    const { sender, arrived } = blocked({ highWaterMarkBytes: 100 });
    for (const text of numberedList(10, 10)) sender.send(text);
    expect(sender.stats.queuedBytes).toBe(100);
    sender.send(numbered(10, 35));
    expect(sender.stats).toMatchObject({ queued: 7, queuedBytes: 95, droppedBy: { overflow: 4 } });
    sender.send(numbered(11, 100));
    expect(sender.stats).toMatchObject({ queued: 1, queuedBytes: 100, droppedBy: { overflow: 11 } });
    expect(await arrived(sender.close())).toEqual([11]);
  });

  it('a datagram that could never fit is rejected, and drops no other', async () => {
    const { sender, arrived } = blocked({ highWaterMark: 10, highWaterMarkBytes: 200 });
    for (const text of numberedList(10)) sender.send(text);
    expect(() => sender.send('x'.repeat(201))).not.toThrow();
    expect(sender.stats).toMatchObject({ queued: 10, dropped: 0, rejected: 1 });
    expect(await arrived(sender.close())).toEqual(range(10));
  });

  it('with room for one: the newest is what is left', async () => {
    const { sender, arrived } = blocked({ highWaterMark: 1 });
    for (const text of numberedList(20)) sender.send(text);
    expect(await arrived(sender.close())).toEqual([19]);
  });
});

describe('maxAgeMs', () => {
  it('drops what has waited longer instead of sending it', async () => {
    const { sender, time, arrived, reports } = blocked({ maxAgeMs: 100 });
    sender.send(numbered(0));
    time.advance(80);
    sender.send(numbered(1));
    time.advance(80);
    expect(await arrived(sender.close())).toEqual([1]);
    expect(sender.stats.droppedBy.age).toBe(1);
    expect(reports.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(1);
    expectConservation(sender.stats);
  });

  it('holds for the last flush of a failing source, too', () => {
    const { sender, time, receiver } = blocked({ maxAgeMs: 100 });
    sender.send(numbered(0));
    time.advance(101);
    sender.send(numbered(1));
    const filler = receiver.drain().length;
    expect(filler).toBeGreaterThan(0);
    sender.abort(new Error('source'));
    expect(numbersOf(receiver.drain())).toEqual([1]);
    expect(sender.stats).toMatchObject({ sent: 1, droppedBy: { age: 1, failure: 0 } });
  });
});

describe('drainTimeoutMs', () => {
  it('gives a blocked tail that long, then drops it, reports it and completes', async () => {
    const { sender, time, reports, completions } = blocked({ drainTimeoutMs: 500 });
    for (const text of numberedList(5)) sender.send(text);
    const closed = sender.close();
    time.advance(499);
    expect(completions()).toBe(0);
    expect(sender.stats.queued).toBe(5);
    time.advance(1);
    await closed;
    expect(completions()).toBe(1);
    expect(reports.at(-1)).toMatchObject({ sent: 0, dropped: 5, requeued: 0 });
    expect(sender.stats).toMatchObject({ queued: 0, droppedBy: { drainTimeout: 5 } });
    expect(time.armed).toBe(0);
  });

  it('ends with the drain: nothing stays armed when the tail went before', async () => {
    const { sender, time, arrived } = blocked({ drainTimeoutMs: 500 });
    for (const text of numberedList(50)) sender.send(text);
    expect(await arrived(sender.close())).toEqual(range(50));
    expect(time.armed).toBe(0);
    expect(sender.stats).toMatchObject({ sent: 50, dropped: 0 });
  });
});

describe('backpressure', () => {
  it('ready() paces a producer to a slow reader: nothing is lost, and the queue stays bounded', async () => {
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const sender = new BatchSender(socket, { batchSize: 8, highWaterMark: 32 });
    let most = 0;
    const producing = (async () => {
      for (const text of numberedList(2000)) {
        const hasRoom = sender.send(text);
        most = Math.max(most, sender.stats.queued);
        expectConservation(sender.stats);
        if (!hasRoom) await sender.ready();
      }
      await sender.close();
    })();
    const datagrams = await receiver.receive(2000, 5, producing);
    await producing;
    expect(numbersOf(datagrams)).toEqual(range(2000));
    expect(sender.stats).toMatchObject({ sent: 2000, dropped: 0, rejected: 0 });
    expect(most).toBe(32);
  });

  it('ready() waits for room for one as large as the largest, be it more than half of the queue', async () => {
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const sender = new BatchSender(socket, { highWaterMarkBytes: 100, drainTimeoutMs: 20_000 });
    const sizes = range(300).map((number) => (number % 3 === 0 ? 80 : 22));
    const producing = (async () => {
      for (const [index, size] of sizes.entries()) {
        if (!sender.send(numbered(index, size))) await sender.ready();
      }
      await sender.close();
    })();
    const datagrams = await receiver.receive(300, 1, producing);
    await producing;
    expect(numbersOf(datagrams)).toEqual(range(300));
    expect(sender.stats.dropped).toBe(0);
  });
});
