/** The WHATWG stream: how it holds back, and how it ends. What it does with datagrams is in doors.test.ts. */
import { ReadableStream } from 'node:stream/web';
import { beforeEach, describe, expect, it } from 'vitest';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { createDatagramWritableStream, type DatagramWritableStream } from '../../src/streams.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { numbers, quiet, readSlowly } from '../support/pull-source.ts';
import { blocked, factory, type Receiver } from '../support/receiver.ts';

const keep = keeper();
let receiver: Receiver;
let socket: DatagramSocket;
beforeEach(() => {
  ({ receiver, socket } = blocked(keep));
});

describe('createDatagramWritableStream', () => {
  it('desiredSize and ready tell the truth', async () => {
    const stream = createDatagramWritableStream(socket, { highWaterMark: 10, batchSize: 4 });
    const writer = stream.getWriter();
    expect(writer.desiredSize).toBe(10);
    let written = 0;
    while (writer.desiredSize! > 0) {
      await writer.ready;
      void writer.write(numbered(written++));
      await Promise.resolve();
      if (written > 1000) throw new Error('It is never full');
    }
    await quiet();
    expect(writer.desiredSize).toBe(0);
    expect(stream.stats.queued).toBe(10);
    expect(written).toBeLessThanOrEqual(11 + 2 * 10);
    let isReady = false;
    const ready = writer.ready.then(() => {
      isReady = true;
    });
    await quiet();
    expect(isReady).toBe(false);
    const arrived = receiver.drain();
    await quiet();
    await ready;
    expect(writer.desiredSize).toBeGreaterThan(0);
    arrived.push(...(await receiver.receive(Number.POSITIVE_INFINITY, 3, writer.close())));
    expect(numbersOf(arrived)).toEqual(range(written));
    expect(stream.stats).toMatchObject({ sent: written, dropped: 0 });
  });

  it.each([64, 5])('pipeTo: whatever the source, memory is bounded by a highWaterMark of %i', async (highWaterMark) => {
    const source = numbers(4000);
    const iterator = source[Symbol.iterator]();
    const readable = new ReadableStream<DatagramLike>({
      pull(controller) {
        const { done, value } = iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
    const stream = createDatagramWritableStream(socket, { highWaterMark });
    const done = readable.pipeTo(stream);
    const { arrived, most } = await readSlowly(receiver, done, () => source.pulled);
    await done;
    expect(numbersOf(arrived)).toEqual(range(4000));
    expect(most).toBeLessThanOrEqual(2 * highWaterMark + 11 + 2 + 9);
    expect(most).toBeGreaterThan(highWaterMark);
    expect(stream.stats).toMatchObject({ sent: 4000, dropped: 0 });
  });

  it('close() waits for the tail, and closes the socket of a factory; a given one stays open', async () => {
    const { make, made } = factory(receiver, keep);
    const stream = createDatagramWritableStream(make);
    const writer = stream.getWriter();
    for (const text of numberedList(100)) void writer.write(text);
    let isClosed = false;
    const closed = writer.close().then(() => {
      isClosed = true;
    });
    await quiet();
    expect([isClosed, made[0]!.closed]).toEqual([false, false]);
    expect(numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, undefined, closed))).toEqual(range(100));
    expect(made[0]!.closed).toBe(true);
    await createDatagramWritableStream(socket).close();
    expect(socket.closed).toBe(false);
  });

  it('abort() while a write waits for room: the write rejects, nothing more is sent or told, its socket is closed', async () => {
    const { make, made } = factory(receiver, keep);
    let reports = 0;
    const stream = createDatagramWritableStream(make, { highWaterMark: 10, onReport: () => reports++ });
    const writer = stream.getWriter();
    const writes = numberedList(60).map((text) => writer.write(text));
    const settled = Promise.allSettled(writes);
    writer.closed.catch(() => {});
    await quiet();
    const told = reports;
    await writer.abort(new Error('why'));
    const statuses = (await settled).map(({ status }) => status);
    expect(statuses.filter((status) => status === 'fulfilled').length).toBeLessThan(40);
    expect(statuses.at(-1)).toBe('rejected');
    const taken = receiver.drain();
    await quiet();
    expect(receiver.drain()).toEqual([]);
    expect([reports, made[0]!.closed, stream.stats.queued, stream.stats.sent]).toEqual([told, true, 0, taken.length]);
    expectConservation(stream.stats);
  });

  it('abort() while close() waits: that does not succeed, what was queued is accounted for, its socket is closed', async () => {
    const { make, made } = factory(receiver, keep);
    const stream = createDatagramWritableStream(make);
    const writer = stream.getWriter();
    for (const text of numberedList(60)) void writer.write(text);
    const why = new Error('why');
    const closed = expect(writer.close()).rejects.toBe(why);
    const ended = expect(writer.closed).rejects.toBe(why);
    await quiet();
    await expect(writer.abort(why)).rejects.toBe(why);
    await closed;
    await ended;
    const taken = receiver.drain().length;
    expect(stream.stats).toMatchObject({ accepted: 60, sent: taken, queued: 0, droppedBy: { teardown: 60 - taken } });
    expect(made[0]!.closed).toBe(true);
    expectConservation(stream.stats);
  });

  it('abort() behind a close() that is done changes nothing', async () => {
    const stream = createDatagramWritableStream(socket);
    const writer = stream.getWriter();
    void writer.write('x');
    await writer.close();
    await writer.abort(new Error('why'));
    await writer.closed;
    expect(stream.stats.sent).toBe(1);
  });

  it.each([
    ['abort()', undefined, (stream: DatagramWritableStream) => stream.abort()],
    ['failure', 'EBADF', () => socket.close()],
  ])('%s while a write waits for room: what was queued is accounted for', async (_how, code, end) => {
    const stream = createDatagramWritableStream(socket, { highWaterMarkBytes: 300 });
    const writer = stream.getWriter();
    writer.closed.catch(() => {});
    for (let index = 0; index < 20; index++) void writer.write('x');
    const waiting = writer.write('y'.repeat(300));
    const last = writer.write('z').then(
      () => 'written',
      () => 'refused',
    );
    await quiet();
    expect(stream.stats).toMatchObject({ accepted: 21, queued: 10 }); // 309 bytes: z has to wait
    const settled =
      code === undefined ? expect(waiting).resolves.toBe(undefined) : expect(waiting).rejects.toMatchObject({ code });
    writer.releaseLock();
    await end(stream);
    await settled;
    expect(await last).toBe('refused');
    expect(stream.stats).toMatchObject({ accepted: 21, queued: 0 });
    expectConservation(stream.stats);
  });

  it('pipeTo with a signal, or from a source that errors, aborts it', async () => {
    const controller = new AbortController();
    const { make, made } = factory(receiver, keep);
    const endless = new ReadableStream<DatagramLike>({ pull: (to) => to.enqueue('x') });
    const to = createDatagramWritableStream(make, { highWaterMark: 10 });
    const aborted = endless.pipeTo(to, { signal: controller.signal });
    const failed = expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    await quiet();
    controller.abort();
    // What was read from the source is written first, says the standard.
    await receiver.receive(Number.POSITIVE_INFINITY, undefined, failed);
    const fails = new ReadableStream<DatagramLike>({ pull: (to) => to.error(new Error('why')) });
    await expect(fails.pipeTo(createDatagramWritableStream(make))).rejects.toThrow('why');
    expect(made.map(({ closed }) => closed)).toEqual([true, true]);
  });

  it('a bad datagram is told by onReport, and is not the end; null is one, too', async () => {
    const reports: BatchReport[] = [];
    const stream = createDatagramWritableStream(socket, { onReport: (report) => reports.push(report) });
    const writer = stream.getWriter();
    for (const datagram of ['a', null, undefined, 'b']) void writer.write(datagram as never);
    await writer.close();
    expect(receiver.drain().map(String)).toEqual(['a', 'b']);
    expect(reports.flatMap(({ rejected }) => rejected.map(({ sequence }) => sequence))).toEqual([1, 2]);
  });

  it('a socket that fails while no write waits errors it, too', async () => {
    const stream = createDatagramWritableStream(socket);
    const writer = stream.getWriter();
    await Promise.all(numberedList(30).map((text) => writer.write(text)));
    const closed = expect(writer.closed).rejects.toMatchObject({ code: 'EBADF' });
    socket.close();
    await closed;
  });

  it('a socket that fails errors it', async () => {
    const stream = createDatagramWritableStream(socket, { highWaterMark: 10 });
    const writer = stream.getWriter();
    const settled = Promise.allSettled(numberedList(40).map((text) => writer.write(text)));
    await quiet();
    const closed = expect(writer.closed).rejects.toMatchObject({ code: 'EBADF' });
    socket.close();
    await closed;
    expect((await settled).at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'EBADF' } });
    await expect(writer.write('late')).rejects.toMatchObject({ code: 'EBADF' });
    expectConservation(stream.stats);
  });

  it('onReport may abort', async () => {
    const { make, made } = factory(receiver, keep);
    const stream = createDatagramWritableStream(make, { batchSize: 2, onReport: () => void writer.abort() });
    const writer = stream.getWriter();
    writer.closed.catch(() => {});
    await Promise.allSettled(['a', 'b', 'c', 'd'].map((text) => writer.write(text)));
    await quiet();
    expect(receiver.drain().join('')).toBe('ab');
    expect(made[0]!.closed).toBe(true);
  });
});
