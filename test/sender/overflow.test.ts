import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { BatchReport } from '../../src/message/datagram.ts';
import { laneOf, sockaddrOfPath } from '../../src/message/sockaddr.ts';
import { type BatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import { Sender } from '../../src/sender/sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { Transport } from '../../src/socket/transport.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { Receiver } from '../support/receiver.ts';
import { VirtualTime } from '../support/virtual-time.ts';
import { WholeSender } from '../support/whole-sender.ts';

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
  const sender = new WholeSender(socket, { scheduler: time, ...options }, observer);
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
    const sender = new WholeSender(socket, { highWaterMarkBytes: 100, flushAfterMs: 1000 });
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
    expect(sender.send(numbered(11, 100))).toBe(false); // it was not full: none has to go
    expect(sender.stats).toMatchObject({ queued: 8, queuedBytes: 195, droppedBy: { overflow: 4 } });
    sender.send(numbered(12, 5));
    expect(sender.stats).toMatchObject({ queued: 1, queuedBytes: 5, droppedBy: { overflow: 12 } });
    expect(await arrived(sender.close())).toEqual([12]);
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

describe('send() that returned true', () => {
  const sizes = [...new Array<number>(900).fill(100), 60_000];
  const limits = { highWaterMarkBytes: 100_000, batchSize: 1000 };
  const isWhole = (arrived: readonly Buffer[]): void => {
    expect(numbersOf(arrived)).toEqual(range(901));
    expect(arrived.map(({ length }) => length)).toEqual(sizes);
  };

  it('means that the next datagram is queued whole, though it is far larger than those before: blocked', async () => {
    const { sender, receiver } = blocked({ ...limits, scheduler: undefined });
    expect(sender.flush()).toMatchObject({ sent: 0 });
    const answers = sizes.map((size, index) => sender.send(numbered(index, size)));
    expect(answers).toEqual(sizes.map((size) => size === 100));
    expect(sender.stats).toMatchObject({ accepted: 901, dropped: 0, queuedBytes: 150_000 });
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, undefined, sender.close());
    isWhole(arrived.filter((each) => String(each) !== 'filler'));
    expectConservation(sender.stats);
  });

  it('means that the next datagram is queued whole, though it is far larger than those before: in flight', async () => {
    const { sender: socket, receiver } = Receiver.pair(1 << 20);
    open.push(socket, receiver);
    const sender = new WholeSender(socket, { ...limits, offload: true });
    const answers = sizes.map((size, index) => sender.send(numbered(index, size)));
    expect(answers).toEqual(sizes.map((size) => size === 100));
    expect(sender.stats).toMatchObject({ accepted: 901, dropped: 0, queuedBytes: 150_000 });
    isWhole(await receiver.receive(Number.POSITIVE_INFINITY, undefined, sender.close()));
    expectConservation(sender.stats);
  });

  it('holds for any sizes; what is full gives up as many of the oldest as the new one needs to fit within the limit', () => {
    fc.assert(
      fc.property(
        fc.record({
          highWaterMark: fc.integer({ min: 1, max: 12 }),
          highWaterMarkBytes: fc.integer({ min: 50, max: 400 }),
        }),
        fc.constantFrom('drop-oldest' as const, 'drop-newest' as const),
        fc.array(fc.oneof(fc.nat(60), fc.nat(400)), { maxLength: 60, size: 'max' }),
        (limits, overflow, sizes) => {
          const { sender } = blocked({ ...limits, overflow });
          sender.send('0'); // in vain: from here on it waits
          let model = [1];
          let dropped = 0;
          const bytes = (): number => model.reduce((sum, size) => sum + size, 0);
          const isFull = (): boolean => model.length >= limits.highWaterMark || bytes() >= limits.highWaterMarkBytes;
          for (const size of sizes) {
            const hasRoom = sender.send(Buffer.alloc(size));
            if (size <= limits.highWaterMarkBytes) {
              if (!isFull()) model.push(size);
              else if (overflow === 'drop-newest') dropped++;
              else {
                do {
                  model = model.slice(1);
                  dropped++;
                } while (model.length > 0 && bytes() + Math.max(size, 1) > limits.highWaterMarkBytes);
                model.push(size);
              }
            }
            expect(hasRoom).toBe(!isFull());
            const { queued, queuedBytes, droppedBy } = sender.stats;
            expect([queued, queuedBytes, droppedBy.overflow]).toEqual([model.length, bytes(), dropped]);
          }
          sender.destroy();
          for (const each of open.splice(0)) each.close();
        },
      ),
      { numRuns: 60 },
    );
  });

  it('an empty datagram is queued in the place of the oldest, where those that are left fill the limit to the byte', () => {
    const { sender } = blocked({ highWaterMark: 3, highWaterMarkBytes: 54 });
    sender.send('0'); // in vain: from here on it waits
    for (const size of [49, 5, 0]) sender.send(Buffer.alloc(size));
    expect(sender.stats).toMatchObject({ queued: 2, queuedBytes: 5, droppedBy: { overflow: 2 } });
  });

  it.each(['drop-oldest', 'drop-newest'] as const)(
    'holds for any sizes in flight and in several lanes, too: %s',
    async (overflow) => {
      const peers = range(8).map(() => Receiver.udp());
      const socket = DatagramSocket.open();
      open.push(...peers, socket);
      for (const options of [{ lanes: 1 }, { lanes: 4 }, { lanes: 4, gso: 'off' as const }]) {
        const limits = { highWaterMark: 50, highWaterMarkBytes: 20_000 };
        const sender = new WholeSender(socket, { ...options, ...limits, offload: true, batchSize: 8, overflow });
        let hadRoom = true;
        for (let index = 0; index < 3000; index++) {
          const before = sender.stats.dropped;
          const payload = Buffer.alloc((index * 7919) % (index % 50 === 0 ? 20_000 : 700), index);
          const hasRoom = sender.send({ payload, address: '127.0.0.1', port: peers[(index * 31) % 8]!.port });
          if (hadRoom) expect(sender.stats.dropped).toBe(before);
          expect(sender.stats.queued).toBeLessThanOrEqual(50);
          expect(sender.stats.queuedBytes).toBeLessThan(40_000);
          hadRoom = hasRoom;
          if (index % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
        }
        await sender.close();
        expect(sender.stats.dropped).toBeGreaterThan(0);
        expectConservation(sender.stats);
        const arrived = peers.flatMap((peer) => peer.drain());
        expect(arrived).toHaveLength(sender.stats.sent);
        expect(arrived.filter((each) => each.some((byte) => byte !== each[0]))).toEqual([]); // each is whole
      }
    },
  );

  it('drops none but those that are not in flight: if that is not enough, the limit is exceeded by one', async () => {
    const full = Receiver.unix();
    const live = range(9).map(() => Receiver.unix());
    const socket = DatagramSocket.open({ type: 'unix' });
    open.push(full, ...live, socket);
    const lane = (path: string): number => laneOf(sockaddrOfPath(path), 0, 2);
    const other = live.find(({ path }) => lane(path) !== lane(full.path))!;
    try {
      for (;;) socket.sendmmsg([{ payload: 'filler', path: full.path }]);
    } catch {
      // EAGAIN: it is full.
    }
    const options = { offload: true, lanes: 2, batchBytes: 1, highWaterMarkBytes: 1000, drainTimeoutMs: 20_000 };
    const sender = new WholeSender(socket, options);
    sender.send({ payload: Buffer.alloc(500), path: full.path });
    while (sender.stats.wouldBlocks === 0) await new Promise((resolve) => setImmediate(resolve));
    sender.send({ payload: Buffer.alloc(600, 1), path: other.path }); // in flight from here on
    expect(sender.stats).toMatchObject({ queued: 2, queuedBytes: 1100, dropped: 0 });
    sender.send({ payload: Buffer.alloc(600, 2), path: other.path });
    expect(sender.stats).toMatchObject({ queued: 2, queuedBytes: 1200, droppedBy: { overflow: 1 } });
    await sender.close();
    expect(other.drain().map((each) => each[0])).toEqual([1, 2]);
    expectConservation(sender.stats);
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
  it('gives up what one sender has in flight, where that is never answered, and leaves the flight of another alone', async () => {
    const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
    open.push(socket);
    const answers: ((answer: number) => void)[] = [];
    const transport = unanswering(DatagramSocket.transportOf(socket), answers);
    const first = new Sender(transport, resolveBatchOptions({ drainTimeoutMs: 1 }), {});
    const second = new Sender(transport, resolveBatchOptions({}), {});
    for (const sender of [first, second]) {
      sender.send('x');
      sender.flush();
    }
    expect(answers.length).toBe(2);
    await first.delivery.close();
    expect(first.delivery.counters.snapshot()).toMatchObject({ sent: 0, queued: 0, droppedBy: { drainTimeout: 1 } });
    expect(second.delivery.counters.snapshot()).toMatchObject({ queued: 1, dropped: 0 });
    for (const answer of answers) answer(1);
    await second.delivery.close();
    expect(first.delivery.counters.snapshot()).toMatchObject({ sent: 0, dropped: 1 });
    expect(second.delivery.counters.snapshot()).toMatchObject({ sent: 1, queued: 0, dropped: 0 });
  });

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

  it('begins anew whenever the kernel takes something, and is over that long after the last time', async () => {
    const { sender, time, receiver, completions } = blocked({ drainTimeoutMs: 500 });
    for (const text of numberedList(50)) sender.send(text);
    void sender.close();
    let sent = 0;
    for (const _ of range(6)) {
      time.advance(490);
      receiver.drain(1);
      time.advance(9); // it has waited in vain before: a timer looks, too, at the latest after 64 ms
      sender.flush();
      expect(sender.stats.sent).toBeGreaterThan(sent);
      sent = sender.stats.sent;
    }
    expect([completions(), sender.stats.dropped]).toEqual([0, 0]);
    time.advance(499);
    expect(completions()).toBe(0);
    time.advance(1);
    expect(completions()).toBe(1);
    expect(sender.stats).toMatchObject({ sent, droppedBy: { drainTimeout: 50 - sent } });
    expect(time.armed).toBe(0);
  });

  it('of 0 gives what is blocked up at the end of the turn', () => {
    const { sender, time, completions } = blocked({ drainTimeoutMs: 0 });
    for (const text of numberedList(5)) sender.send(text);
    void sender.close();
    expect(completions()).toBe(0);
    time.advance(0);
    expect(completions()).toBe(1);
    expect(sender.stats).toMatchObject({ sent: 0, droppedBy: { drainTimeout: 5 } });
  });
});

describe('backpressure', () => {
  it('ready() paces a producer to a slow reader: nothing is lost, and the queue stays bounded', async () => {
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const sender = new WholeSender(socket, { batchSize: 8, highWaterMark: 32 });
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

  it('ready() waits for room for one as large as any, be it more than half of the queue', async () => {
    const receiver = Receiver.unix();
    const socket = receiver.connected();
    open.push(receiver, socket);
    const sender = new WholeSender(socket, { highWaterMarkBytes: 100, drainTimeoutMs: 20_000 });
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

/** A transport that sends later, as node:dgram does, and answers when the test does. */
function unanswering(transport: Transport, answers: ((answer: number) => void)[]): Transport {
  const own: Partial<Transport> = {
    sendmmsg: null,
    sendmmsgLater: (_batch, _vlen, _flags, done) => void answers.push(done),
  };
  return new Proxy(transport, {
    get(target, key) {
      if (key in own) return own[key as keyof Transport];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
