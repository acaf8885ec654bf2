import { afterEach, describe, expect, it } from 'vitest';
import type { BatchReport } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { BatchObserver } from '../../src/sender/batch-sender.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { Receiver } from '../support/receiver.ts';
import { VirtualTime } from '../support/virtual-time.ts';
import { WholeSender } from '../support/whole-sender.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

function fixture(options: BatchOptions = {}, observer: BatchObserver = {}) {
  const { sender: socket, receiver } = Receiver.pair(1 << 20);
  open.push(socket, receiver);
  const time = new VirtualTime();
  const sender = new WholeSender(socket, { scheduler: time, ...options }, observer);
  return { socket, receiver, time, sender };
}

describe('send', () => {
  it('copies: the buffer may be reused at once', () => {
    const { sender, receiver } = fixture();
    const buffer = Buffer.from('aa');
    sender.send(buffer);
    buffer.fill('b');
    sender.send(buffer);
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['aa', 'bb']);
  });

  it('flushes at batchSize, at batchBytes, and at flushAfterMs, whichever comes first', () => {
    const { sender, receiver, time } = fixture({ batchSize: 3, batchBytes: 10, flushAfterMs: 50 });
    for (const text of ['1', '2', '3', '12345678', '90', 'late']) sender.send(text);
    expect(receiver.drain().map(String)).toEqual(['1', '2', '3', '12345678', '90']);
    time.advance(49);
    expect(receiver.drain()).toEqual([]);
    time.advance(1);
    expect(receiver.drain().map(String)).toEqual(['late']);
    expect(sender.stats.syscalls).toBe(3);
  });

  it('flushes at highWaterMark where batchSize is larger', () => {
    const { sender, receiver } = fixture({ batchSize: 100, highWaterMark: 4, flushAfterMs: 1000 });
    for (let index = 0; index < 9; index++) sender.send(numbered(index));
    expect(numbersOf(receiver.drain())).toEqual(range(8));
    expect(sender.stats).toMatchObject({ queued: 1, dropped: 0 });
  });

  it('sends at the end of the turn by default', async () => {
    const { sender, receiver } = fixture({ scheduler: undefined });
    sender.send('a');
    sender.send('b');
    expect(receiver.drain()).toEqual([]);
    expect((await receiver.receive(2)).map(String)).toEqual(['a', 'b']);
    expect(sender.stats.syscalls).toBe(1);
  });

  it('rejects a bad datagram in the next report, and goes on', () => {
    const reports: BatchReport[] = [];
    const { sender, receiver } = fixture({}, { next: (report) => reports.push(report) });
    sender.send('good');
    sender.send(42 as never);
    sender.send({ payload: 'addressed', address: '127.0.0.1', port: 9 });
    sender.send('good again');
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['good', 'good again']);
    expect(reports).toHaveLength(1);
    expect(reports[0]).toMatchObject({ sent: 2, bytes: 14, syscalls: 1, requeued: 0, dropped: 0 });
    expect(reports[0]!.rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual([
      [1, 'ERR_INVALID_ARG_TYPE'],
      [2, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
    ]);
    expect(Object.isFrozen(reports[0]) && Object.isFrozen(reports[0]!.rejected)).toBe(true);
    expectConservation(sender.stats);
  });

  it('tells of rejections though nothing is sent, when the time is up', () => {
    const reports: BatchReport[] = [];
    const { sender, time } = fixture({ flushAfterMs: 5 }, { next: (report) => reports.push(report) });
    sender.send(null as never);
    time.advance(5);
    expect(reports).toMatchObject([{ sent: 0, syscalls: 0, rejected: [{ sequence: 0 }] }]);
  });

  it('holds no more rejections in memory than it queues datagrams', () => {
    const sizes: number[] = [];
    const { sender } = fixture(
      { highWaterMark: 10, flushAfterMs: 1000 },
      { next: (r) => sizes.push(r.rejected.length) },
    );
    for (let index = 0; index < 95; index++) sender.send(undefined as never);
    expect(sizes).toEqual(new Array(9).fill(10));
    expect(sender.stats.rejected).toBe(95);
  });

  it('refuses a datagram larger than highWaterMarkBytes, also when the queue is full', () => {
    const { sender, receiver } = fixture({
      highWaterMark: 2,
      highWaterMarkBytes: 100,
      batchSize: 2,
      flushAfterMs: 1000,
    });
    while (socketTakes(sender)) sender.flush();
    const before = sender.stats;
    expect(sender.stats.queued).toBe(2);
    for (const payload of [new Uint8Array(101), 'x'.repeat(101), ['x'.repeat(50), new Uint8Array(51)]]) {
      expect(() => sender.send(payload)).not.toThrow();
    }
    expect(sender.stats).toMatchObject({ rejected: before.rejected + 3, queued: 2, dropped: before.dropped });
    expectConservation(sender.stats);
    sender.destroy();
    expect(receiver.drain()).toHaveLength(before.sent);
  });
});

/** Sends one; `false` once the kernel has had enough and the queue is full. */
function socketTakes(sender: WholeSender): boolean {
  sender.send('fill');
  return sender.stats.queued < 2;
}

describe('flush', () => {
  it('returns what the observer is told', () => {
    const reports: BatchReport[] = [];
    const { sender } = fixture({}, { next: (report) => reports.push(report) });
    for (const text of numberedList(5)) sender.send(text);
    const report = sender.flush();
    expect(report).toMatchObject({ sent: 5, syscalls: 1, requeued: 0 });
    expect(reports).toEqual([report]);
  });

  it('of an empty queue does nothing, makes no call, and tells nobody', () => {
    const reports: BatchReport[] = [];
    const { sender } = fixture({}, { next: (report) => reports.push(report) });
    expect(sender.flush()).toEqual({
      sent: 0,
      bytes: 0,
      syscalls: 0,
      requeued: 0,
      dropped: 0,
      conflated: 0,
      pendingErrors: 0,
      rejected: [],
    });
    expect(reports).toEqual([]);
    expect(sender.stats.syscalls).toBe(0);
  });

  it('leaves what the kernel does not take at the head, and tries again when it is told to', () => {
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const sender = new WholeSender(socket, { batchSize: 1000 });
    for (const text of numberedList(30)) sender.send(text);
    const first = sender.flush();
    expect(first.sent).toBeGreaterThan(0);
    expect(first).toMatchObject({ requeued: 30 - first.sent });
    expect(sender.flush()).toMatchObject({ sent: 0, requeued: 30 - first.sent });
    const read = receiver.drain();
    const second = sender.flush();
    expect(second.sent).toBeGreaterThan(0);
    sender.destroy();
    expect(numbersOf([...read, ...receiver.drain()])).toEqual(range(first.sent + second.sent));
  });
});

describe('ends', () => {
  it('close drains a blocked tail, resolves when all is sent, and leaves the socket open', async () => {
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const sender = new WholeSender(socket);
    for (const text of numberedList(200)) sender.send(text);
    const closed = sender.close();
    const datagrams = await receiver.receive(200, 3, closed);
    await closed;
    expect(numbersOf(datagrams)).toEqual(range(200));
    expect(sender.stats).toMatchObject({ sent: 200, queued: 0 });
    expect(sender.closed).toBe(true);
    expect(socket.closed).toBe(false);
  });

  it('close twice is one end, told once; `await using` is close', async () => {
    let completions = 0;
    const { sender, receiver } = fixture({}, { complete: () => completions++ });
    sender.send('x');
    await Promise.all([sender.close(), sender.close(), sender[Symbol.asyncDispose]()]);
    expect(completions).toBe(1);
    expect(receiver.drain()).toHaveLength(1);
  });

  it('after any end, send throws ERR_SOCKET_DGRAM_NOT_RUNNING, ready resolves, flush does nothing', async () => {
    for (const end of ['close', 'destroy', 'end'] as const) {
      const { sender, receiver } = fixture();
      sender[end]();
      expect(() => sender.send('x')).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' }));
      await sender.ready();
      expect(sender.flush().sent).toBe(0);
      await sender.close();
      expect(receiver.drain()).toEqual([]);
      expectConservation(sender.stats);
    }
  });

  it('destroy sends nothing more, tells nobody, and counts what was queued', () => {
    const told: string[] = [];
    const observer = {
      next: () => told.push('next'),
      error: () => told.push('error'),
      complete: () => told.push('end'),
    };
    const { sender, receiver, time } = fixture({ flushAfterMs: 10 }, observer);
    for (const text of numberedList(7)) sender.send(text);
    sender.destroy();
    time.advance(100);
    expect(receiver.drain()).toEqual([]);
    expect(told).toEqual([]);
    expect(time.armed).toBe(0);
    expect(sender.stats).toMatchObject({ accepted: 7, queued: 0, syscalls: 0, droppedBy: { teardown: 7 } });
  });

  it('abort makes one last flush, drops the rest with a last report, then tells the error', () => {
    const told: unknown[] = [];
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const observer = { next: (r: BatchReport) => told.push([r.sent, r.dropped]), error: (e: unknown) => told.push(e) };
    const sender = new WholeSender(socket, {}, observer);
    for (const text of numberedList(30)) sender.send(text);
    sender.abort('why');
    const arrived = receiver.drain();
    expect(numbersOf(arrived)).toEqual(range(arrived.length));
    expect(told).toEqual([[arrived.length, 30 - arrived.length], 'why']);
    expect(sender.stats.droppedBy.failure).toBe(30 - arrived.length);
    expect(() => sender.send('x')).toThrow('why');
    expectConservation(sender.stats);
  });

  it('a socket closed under a queue is EBADF: told at once, the rest counted, ready and close reject', async () => {
    const errors: unknown[] = [];
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver);
    const sender = new WholeSender(socket, { highWaterMark: 20 }, { error: (error) => errors.push(error) });
    while (sender.send('x'));
    sender.flush();
    while (sender.send('x'));
    const ready = sender.ready();
    socket.close();
    const ebadf = expect.objectContaining({ code: 'EBADF', syscall: 'sendmmsg' });
    expect(errors).toEqual([ebadf]);
    await expect(ready).rejects.toEqual(ebadf);
    await expect(sender.ready()).rejects.toEqual(ebadf);
    await expect(sender.close()).rejects.toEqual(ebadf);
    expect(() => sender.send('x')).toThrow(ebadf);
    expect(sender.stats).toMatchObject({ queued: 0, droppedBy: { failure: 20 } });
    expectConservation(sender.stats);
  });

  it('a socket closed while nothing is queued fails the next flush, not before', () => {
    const errors: unknown[] = [];
    const { sender, socket } = fixture({ batchSize: 1 }, { error: (error) => errors.push(error) });
    socket.close();
    expect(errors).toEqual([]);
    sender.send('x');
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expect(sender.stats.droppedBy.failure).toBe(1);
  });

  it('needs a DatagramSocket, and good options', () => {
    expect(() => new BatchSender({} as DatagramSocket)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
    );
    const socket = DatagramSocket.open();
    open.push(socket);
    for (const [name, value] of Object.entries({
      batchSize: 0,
      highWaterMark: 1.5,
      flushAfterMs: -1,
      maxAgeMs: Number.NaN,
    })) {
      expect(() => new BatchSender(socket, { [name]: value })).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', message: expect.stringContaining(name) }),
      );
    }
  });
});
