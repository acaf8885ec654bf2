/** The Node.js stream: how it holds back, and how it ends. What it does with datagrams is in doors.test.ts. */
import { getEventListeners, once } from 'node:events';
import { Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import type { BatchReport } from '../../src/message/datagram.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { createDatagramWritable, type DatagramWritable } from '../../src/streams.ts';
import { callsFor } from '../support/backend.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { numbers, quiet, readSlowly } from '../support/pull-source.ts';
import { blocked, factory, Receiver } from '../support/receiver.ts';

const keep = keeper();
let receiver: Receiver;
let socket: DatagramSocket;
beforeEach(() => {
  ({ receiver, socket } = blocked(keep));
});

describe('createDatagramWritable', () => {
  /** Writes numbered datagrams until told to stop; how many. */
  function fill(writable: DatagramWritable): number {
    let count = 0;
    while (writable.write(numbered(count++))) if (count > 1000) throw new Error('It is never full');
    return count;
  }

  it('is an object-mode Writable, with the high-water mark and the stats of its queue', () => {
    const writable = createDatagramWritable(socket, { highWaterMark: 30 });
    expect([writable.writableObjectMode, writable.writableHighWaterMark, writable.writableLength]).toEqual([
      true,
      30,
      0,
    ]);
    expect(createDatagramWritable(socket).writableHighWaterMark).toBe(4096);
    expect(writable._writev).toBeTypeOf('function');
    writable.write('x');
    expect(writable.stats).toMatchObject({ accepted: 1, queued: 1 });
    writable.destroy();
  });

  it('copies the bytes before the callback of write()', async () => {
    const writable = createDatagramWritable(socket);
    const buffer = Buffer.from('aa');
    await new Promise((resolve) => writable.write(buffer, resolve));
    buffer.fill('b');
    writable.end(buffer);
    await finished(writable);
    expect(receiver.drain().map(String)).toEqual(['aa', 'bb']);
  });

  it('sends what was corked in one go', async () => {
    const writable = createDatagramWritable(socket);
    writable.cork();
    for (const text of numberedList(8)) writable.write(text);
    expect(writable.writableLength).toBe(8);
    await quiet();
    expect(receiver.drain()).toEqual([]);
    writable.uncork();
    await quiet();
    expect(numbersOf(receiver.drain())).toEqual(range(8));
    expect(writable.stats.syscalls).toBe(callsFor(1, 8));
    expect(writable.writableLength).toBe(0);
  });

  it('write() is false when it is full, `drain` comes when it has room, and nothing is lost', async () => {
    const writable = createDatagramWritable(socket, { highWaterMark: 20, batchSize: 8 });
    const written = fill(writable);
    expect(written).toBeGreaterThanOrEqual(20);
    expect(written).toBeLessThanOrEqual(11 + 2 * 20);
    expect([writable.writableNeedDrain, writable.writableLength]).toEqual([true, 20]);
    expect(writable.stats.queued).toBe(20);
    let isDrained = false;
    writable.once('drain', () => {
      isDrained = true;
    });
    await quiet();
    expect(isDrained).toBe(false);
    const arrived = receiver.drain();
    while (!isDrained) {
      arrived.push(...receiver.drain(1));
      await turn();
    }
    expect([writable.writableNeedDrain, writable.writableLength]).toEqual([false, 0]);
    writable.end();
    arrived.push(...(await receiver.receive(Number.POSITIVE_INFINITY, 3, finished(writable))));
    expect(numbersOf(arrived)).toEqual(range(written));
    expect(writable.stats).toMatchObject({ sent: written, dropped: 0 });
  });

  it.each([64, 5])(
    'pipeline: whatever the source, memory is bounded by a highWaterMark of %i',
    async (highWaterMark) => {
      const source = numbers(4000);
      const writable = createDatagramWritable(socket, { highWaterMark });
      const done = pipeline(Readable.from(source), writable);
      const { arrived, most } = await readSlowly(receiver, done, () => source.pulled);
      await done;
      expect(numbersOf(arrived)).toEqual(range(4000));
      // The two queues, the kernel's, what Readable.from holds, and what is read in the turn.
      expect(most).toBeLessThanOrEqual(2 * highWaterMark + 11 + 16 + 9);
      expect(most).toBeGreaterThan(highWaterMark);
      expect(writable.stats).toMatchObject({ sent: 4000, dropped: 0 });
    },
  );

  it.each([{ gso: 'off' }, { offload: true }] as const)('datagrams that grow push nothing out: %o', async (options) => {
    const writable = createDatagramWritable(socket, { highWaterMarkBytes: 1000, ...options });
    const datagrams = range(120).map((index) => numbered(index, index < 80 ? 12 : 400));
    const done = pipeline(Readable.from(datagrams), writable);
    const { arrived } = await readSlowly(receiver, done, () => 0);
    await done;
    expect(numbersOf(arrived)).toEqual(range(120));
    expect(writable.stats.dropped).toBe(0);
  });

  it('a source that never waits still lets timers and signals have their turn', async () => {
    const endless = numbers();
    const reading = setInterval(() => receiver.drain(), 1);
    const { sender, receiver: fast } = Receiver.pair(1 << 20);
    keep(fast);
    const writable = createDatagramWritable(keep(sender), { onReport: () => fast.drain() });
    const done = pipeline(Readable.from(endless), writable, { signal: AbortSignal.timeout(20) });
    await expect(done).rejects.toMatchObject({ name: 'AbortError' });
    clearInterval(reading);
    expect(endless.pulled).toBeLessThan(1e6);
    expectConservation(writable.stats);
  });

  it('`finish` waits for the tail, `close` closes the socket of a factory, and a given one stays open', async () => {
    const { make, made } = factory(receiver, keep);
    const writable = createDatagramWritable(make);
    for (const text of numberedList(100)) writable.write(text);
    writable.end();
    await quiet();
    expect([writable.writableFinished, made[0]!.closed]).toEqual([false, false]);
    const closed = once(writable, 'close');
    expect(numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, undefined, closed))).toEqual(range(100));
    expect([writable.writableFinished, made[0]!.closed]).toEqual([true, true]);
    const onGiven = createDatagramWritable(socket);
    onGiven.end();
    await finished(onGiven);
    expect(socket.closed).toBe(false);
  });

  it('a bad datagram is told by onReport, and is not the end; neither is null, which Node.js itself refuses', async () => {
    const reports: BatchReport[] = [];
    const writable = createDatagramWritable(socket, { onReport: (report) => reports.push(report) });
    for (const datagram of ['a', 42, 'x'.repeat(400_000), { payload: 'x', port: 9 }]) writable.write(datagram);
    expect(() => writable.write(null)).toThrow(expect.objectContaining({ code: 'ERR_STREAM_NULL_VALUES' }));
    writable.end('b');
    await finished(writable);
    expect(receiver.drain().map(String)).toEqual(['a', 'b']);
    const codes = reports.flatMap(({ rejected }) => rejected.map(({ sequence, error }) => [sequence, error.code]));
    expect(codes.sort()).toEqual([
      [1, 'ERR_INVALID_ARG_TYPE'],
      [2, 'EMSGSIZE'],
      [3, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
    ]);
    expect(writable.stats).toMatchObject({ accepted: 5, sent: 2, rejected: 3 });
  });

  it.each([
    ['destroy()', (writable: DatagramWritable) => writable.destroy()],
    ['destroy(error)', (writable: DatagramWritable) => writable.destroy(new Error('why'))],
  ])('%s: nothing more is sent or told, and the socket of a factory is closed', async (_how, destroy) => {
    const { make, made } = factory(receiver, keep);
    let reports = 0;
    const writable = createDatagramWritable(make, { highWaterMark: 20, onReport: () => reports++ });
    writable.on('error', (error) => expect(error.message).toBe('why'));
    fill(writable);
    await quiet();
    const told = reports;
    destroy(writable);
    const taken = receiver.drain();
    await quiet();
    expect(receiver.drain()).toEqual([]);
    expect(taken.length).toBeLessThan(20);
    expect([reports, made[0]!.closed, writable.closed]).toEqual([told, true, true]);
    expect(writable.stats).toMatchObject({ queued: 0, sent: taken.length });
    expectConservation(writable.stats);
  });

  it('destroy() while end() waits: it did not finish, and what was queued is accounted for', async () => {
    const writable = createDatagramWritable(socket);
    const heard: string[] = [];
    writable.on('finish', () => heard.push('finish'));
    for (const text of numberedList(60)) writable.write(text);
    writable.end((error?: Error | null) => heard.push((error as { code?: string } | null)?.code ?? 'no error'));
    await quiet();
    writable.destroy();
    await quiet();
    expect(heard).toEqual(['ERR_STREAM_DESTROYED']);
    const taken = receiver.drain().length;
    expect(writable.stats).toMatchObject({ sent: taken, queued: 0, droppedBy: { teardown: 60 - taken } });
    expectConservation(writable.stats);
  });

  it('a source that errors: pipeline rejects with that, and nothing more is sent', async () => {
    const { make, made } = factory(receiver, keep);
    const writable = createDatagramWritable(make);
    const fails = function* (): Generator<string> {
      yield* numberedList(50);
      throw new Error('why');
    };
    await expect(pipeline(Readable.from(fails()), writable)).rejects.toThrow('why');
    const taken = receiver.drain();
    await quiet();
    expect(receiver.drain()).toEqual([]);
    expect(taken.length).toBeLessThan(50);
    expect(made[0]!.closed).toBe(true);
  });

  it('a signal destroys it, before, meanwhile, and leaves no listener behind', async () => {
    const before = createDatagramWritable(socket, { signal: AbortSignal.abort() });
    await expect(finished(before)).rejects.toMatchObject({ name: 'AbortError' });
    const controller = new AbortController();
    const { make, made } = factory(receiver, keep);
    const writable = createDatagramWritable(make, { highWaterMark: 20, signal: controller.signal });
    fill(writable);
    const failed = expect(finished(writable)).rejects.toMatchObject({ name: 'AbortError' });
    controller.abort();
    await failed;
    expect(made[0]!.closed).toBe(true);
    const done = new AbortController();
    const ended = createDatagramWritable(socket, { signal: done.signal });
    ended.end();
    await once(ended, 'close');
    await quiet();
    expect(getEventListeners(done.signal, 'abort')).toEqual([]);
  });

  it('a socket that fails destroys it, and every callback hears of it', async () => {
    const writable = createDatagramWritable(socket, { highWaterMark: 20 });
    const written = fill(writable);
    const heard: unknown[] = [];
    writable.write('last', (error) => heard.push((error as { code?: string } | null)?.code));
    const failed = expect(finished(writable)).rejects.toMatchObject({ code: 'EBADF', syscall: 'sendmmsg' });
    socket.close();
    await failed;
    writable.write('late', (error) => heard.push((error as { code?: string } | null)?.code));
    await quiet();
    expect(heard).toEqual(['EBADF', 'ERR_STREAM_DESTROYED']);
    expect(writable.stats.droppedBy.failure).toBe(20);
    expect(written).toBeGreaterThan(20);
  });

  it.each([1, 64])('the write that finds the socket failed hears it: batchSize %i', async (batchSize) => {
    const writable = createDatagramWritable(socket, { batchSize });
    writable.on('error', () => {});
    socket.close();
    const heard = new Promise((resolve) => writable.write('x', resolve));
    if (batchSize === 1) expect(await heard).toMatchObject({ code: 'EBADF' });
    else await expect(finished(writable)).rejects.toMatchObject({ code: 'EBADF' });
  });

  it('onReport may write, end and destroy', async () => {
    let next = 0;
    const writable: DatagramWritable = createDatagramWritable(socket, {
      batchSize: 2,
      onReport() {
        if (writable.writableEnded) return;
        for (let echoes = 0; echoes < 2 && next < 20; echoes++) writable.write(numbered(next++));
        if (next === 20) writable.end();
      },
    });
    for (let first = 0; first < 2; first++) writable.write(numbered(next++));
    expect(numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, undefined, finished(writable)))).toEqual(
      range(20),
    );
    let reports = 0;
    const destroyed: DatagramWritable = createDatagramWritable(socket, {
      batchSize: 2,
      onReport() {
        reports++;
        destroyed.destroy();
      },
    });
    for (const text of ['a', 'b', 'c', 'd']) destroyed.write(text);
    await quiet();
    expect(reports).toBe(1);
    expect(receiver.drain().join('')).toBe('ab');
  });

  it('what a callback of write() throws is an uncaught exception, as with any stream', async () => {
    const writable = createDatagramWritable(socket, { highWaterMark: 2 });
    for (let index = 0; index < 14; index++) writable.write('x');
    writable.write('y', () => {
      throw new Error('why');
    });
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const uncaught = once(process, 'uncaughtException');
    receiver.drain();
    const arrived = receiver.receive(4);
    const [error, origin] = await uncaught;
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect([(error as Error).message, origin]).toEqual(['why', 'uncaughtException']);
    await arrived;
    writable.destroy();
  });
});
