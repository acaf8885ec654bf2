/** Pacing of a whole sender: marbles and virtual time, then real time and the kernel. */
import { stat } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { map, type Observable } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { describe, expect, it, vi } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { endpoint } from '../../src/index.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import type { PaceOptions } from '../../src/sender/pace.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { DOORS } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { blocked, Receiver, ReceiverProcess, roomy } from '../support/receiver.ts';
import { VirtualTime } from '../support/virtual-time.ts';
import { WholeSender } from '../support/whole-sender.ts';

const keep = keeper();

describe('in marbles', () => {
  /** Runs a source through the operator in virtual time; tells what arrived. */
  function marbles(options: BatchOptions, source: string, expected: string, unsubscribed?: string): string {
    const { sender: socket, receiver } = Receiver.pair(1 << 20);
    keep(socket);
    keep(receiver);
    const time = new TestScheduler((actual, wanted) => expect(actual).toEqual(wanted));
    const told = ({ sent, dropped }: BatchReport): string => (sent > 0 ? String(sent) : '') + 'x'.repeat(dropped);
    const paced = (input: Observable<DatagramLike>): Observable<string> =>
      input.pipe(sendmmsg(socket, { scheduler: time, ...options }), map(told));
    time.run(({ cold, expectObservable }) => {
      expectObservable(cold(source).pipe(paced), unsubscribed).toBe(expected, {
        1: '1',
        2: '2',
        3: '3',
        x: 'x',
        y: '1x',
        z: 'xx',
      });
    });
    expect(time.actions).toEqual([]);
    return receiver.drain().map(String).join('');
  }
  const EACH_5_MS: PaceOptions = { datagramsPerSecond: 200, burst: 1 };

  it.each<[name: string, options: BatchOptions, source: string, expected: string, arrived: string]>([
    ['a burst is spread', { pace: EACH_5_MS }, '(abc)----------|', '1----1----1----|', 'abc'],
    ['what is slower is left alone', { pace: EACH_5_MS }, 'a----b------c--|', '1----1------1--|', 'abc'],
    [
      'after a pause a burst may go',
      { pace: { datagramsPerSecond: 200, burst: 3 } },
      'a 50ms (bcdef)----------------|',
      '1 50ms 3----1----1------------|',
      'abcdef',
    ],
    [
      'the count trigger says when, the pace how much',
      { pace: EACH_5_MS, batchSize: 3, flushAfterMs: 99 },
      'a-b-c----------------|',
      '----1----1----1------|',
      'abc',
    ],
    [
      'so does the time trigger',
      { pace: { datagramsPerSecond: 200, burst: 2 }, flushAfterMs: 3 },
      'abc------------|',
      '---2----1------|',
      'abc',
    ],
    ['bytes a second', { pace: { bytesPerSecond: 400, burst: 2 } }, '(abcd)----|', '2--1-1----|', 'abcd'],
    [
      'of both rates the slower one',
      { pace: { bytesPerSecond: 100, datagramsPerSecond: 500, burst: 1 } },
      '(abc)-------------------------|',
      '1---------1---------1---------|',
      'abc',
    ],
    ['the end drains at the pace', { pace: EACH_5_MS }, '(abc|)', '1----1----(1|)', 'abc'],
    ['… which is no wait for the kernel', { pace: EACH_5_MS, drainTimeoutMs: 3 }, '(abc|)', '1----1----(1|)', 'abc'],
    ['… not even with no patience at all', { pace: EACH_5_MS, drainTimeoutMs: 0 }, '(abc|)', '1----1----(1|)', 'abc'],
    [
      'an error sends what may go at once, and drops the rest',
      { pace: EACH_5_MS, flushAfterMs: 99 },
      '(ab)--#',
      '------(y#)',
      'a',
    ],
    ['… which is nothing beside a wait', { pace: EACH_5_MS }, '(abcd)--#', '1----1--(z#)', 'ab'],
    [
      'what is too old by then is dropped',
      { pace: EACH_5_MS, maxAgeMs: 6 },
      '(abc)-----------|',
      '1----1----x-----|',
      'ab',
    ],
  ])('%s', (_name, options, source, expected, arrived) => {
    expect(marbles(options, source, expected)).toBe(arrived);
  });

  it('unsubscribed, nothing more is sent', () => {
    expect(marbles({ pace: EACH_5_MS }, '(abcd)----------|', '1----1', '^-----!')).toBe('ab');
  });
});

describe('in virtual time', () => {
  function fixture(options: BatchOptions, sendBufferSize: number = 1 << 20) {
    const { sender: socket, receiver } = Receiver.pair(sendBufferSize);
    keep(socket);
    keep(receiver);
    const time = new VirtualTime();
    const errors: unknown[] = [];
    const sender = new WholeSender(socket, { scheduler: time, ...options }, { error: (error) => errors.push(error) });
    return { socket, receiver, time, sender, errors };
  }

  it('flush() sends nothing beside a wait, and the overflow decides about what does not fit', () => {
    const pace = { datagramsPerSecond: 100, burst: 2 };
    const { sender, time, receiver } = fixture({ pace, highWaterMark: 4, batchSize: 2 });
    for (const text of numberedList(9)) sender.send(text);
    expect(sender.flush()).toMatchObject({ sent: 0, requeued: 4 });
    expect(sender.stats).toMatchObject({ sent: 2, queued: 4, droppedBy: { overflow: 3 } });
    time.advance(100);
    expect(numbersOf(receiver.drain())).toEqual([0, 1, 5, 6, 7, 8]);
    expectConservation(sender.stats);
    expect(time.armed).toBe(0);
  });

  it('what the kernel does not take costs nothing of the pace', () => {
    const { sender, time, receiver } = fixture({ pace: { datagramsPerSecond: 1000, burst: 1000 } }, 4608);
    for (const text of numberedList(1000)) sender.send(text);
    const arrived: number[] = [];
    for (let turn = 0; arrived.length < 1000 && turn < 1000; turn++) {
      sender.flush();
      arrived.push(...numbersOf(receiver.drain()));
    }
    expect(arrived).toEqual(range(1000));
    expect(sender.stats.wouldBlocks).toBeGreaterThan(1);
    expect(time.now()).toBe(0);
    expectConservation(sender.stats);
    sender.destroy();
  });

  it('a socket that is closed during the wait fails at once', () => {
    const { sender, socket, errors, time } = fixture({ pace: { datagramsPerSecond: 1 } });
    for (const text of numberedList(5)) sender.send(text);
    sender.flush();
    expect(errors).toEqual([]);
    socket.close();
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expect(sender.stats).toMatchObject({ sent: 1, queued: 0, droppedBy: { failure: 4 } });
    expect(time.armed).toBe(0);
  });
});

/**
 * What the reports tell: datagrams sent ahead of the pace, at each since the start; and the share by which it was behind, at each
 * later than 0.9 s after the first. The least of these counts: a late timer is caught up with.
 */
async function paceOf(
  socket: DatagramSocket,
  pace: PaceOptions,
  options: BatchOptions,
  datagrams: readonly DatagramLike[],
): Promise<{ stats: SenderStats; behind: number[]; ahead: number[] }> {
  const { datagramsPerSecond = 0, burst = 0 } = pace;
  const [behind, ahead]: [number[], number[]] = [[], []];
  let [started, first, last, lost] = [0, 0, 0, 0];
  let sum = 0;
  const sender = new WholeSender(
    socket,
    { pace, highWaterMark: 1 << 15, drainTimeoutMs: 20_000, ...options },
    {
      next({ sent }) {
        sum += sent;
        const now = performance.now();
        first ||= now;
        // The machine stood still for longer than the burst is worth: that is lost, as it should be.
        if (last > 0) lost += Math.max(0, now - last - (1000 * burst) / datagramsPerSecond);
        last = now;
        ahead.push(sum - burst - (datagramsPerSecond * (now - started)) / 1000);
        const worth = (datagramsPerSecond * (now - first - lost)) / 1000;
        if (now - first > 900) behind.push(1 - (sum - burst) / worth);
      },
    },
  );
  started = performance.now();
  for (const [index, datagram] of datagrams.entries()) {
    sender.send(datagram);
    if (index % 256 === 255) await turn(); // a source that holds the event loop holds the timers, too
  }
  await sender.close();
  expectConservation(sender.stats);
  return { stats: sender.stats, behind, ahead };
}

describe('what the pace holds back is not the kernel’s to take: it is waited for, at the end, too', () => {
  const paced = (time: VirtualTime, options: BatchOptions): BatchOptions => ({
    pace: { datagramsPerSecond: 100 },
    scheduler: time,
    ...options,
  });
  /** Lets time pass until it is done; how many timers that took. */
  const pass = async (time: VirtualTime, done: Promise<unknown>): Promise<number> => {
    const schedule = vi.spyOn(time, 'schedule');
    let [isDone, steps] = [false, 0];
    const end = (): void => {
      isDone = true;
    };
    done.then(end, end);
    for (; !isDone && steps < 3000; steps++) {
      time.advance(10);
      await turn();
      await stat('.'); // what is on the thread pool meanwhile takes real time
    }
    expect(isDone).toBe(true);
    return schedule.mock.calls.length - steps;
  };
  const modes: [name: string, options: BatchOptions][] = [
    ['with drainTimeoutMs by default', {}],
    ['on the thread pool', { offload: true }],
    ['with drainTimeoutMs 0', { drainTimeoutMs: 0 }],
  ];

  describe.each(modes)('%s', (_name, options) => {
    it.each(DOORS)(
      '1200 datagrams at 100/s take 12 s, and none is lost, nor is there a spin: $name',
      async ({ send }) => {
        const { socket, receiver } = roomy(keep);
        const time = new VirtualTime();
        const settled = send(socket, paced(time, options), numberedList(1200));
        const timers = await pass(time, settled);
        const { reports } = await settled;
        expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(1200);
        expect(reports.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
        expect(time.frame).toBeGreaterThan(11_900);
        expect(timers).toBeLessThan(4000);
        expect(numbersOf(receiver.drain())).toEqual(range(1200));
        expect(time.armed).toBe(0);
      },
    );

    it('so it is for a BatchSender', async () => {
      const { socket, receiver } = roomy(keep);
      const time = new VirtualTime();
      const sender = new WholeSender(socket, paced(time, options));
      for (const text of numberedList(1200)) sender.send(text);
      const timers = await pass(time, sender.close());
      expect(sender.stats).toMatchObject({ sent: 1200, dropped: 0 });
      expect(timers).toBeLessThan(4000);
      expect(numbersOf(receiver.drain())).toEqual(range(1200));
      expect(time.armed).toBe(0);
    });
  });

  it.each([5000, 700, 0])(
    'but what is blocked behind it is given up %i ms after the last progress',
    (drainTimeoutMs) => {
      const { socket } = blocked(keep);
      const time = new VirtualTime();
      const done: string[] = [];
      // A burst of one, which its queue has room for, then one in 100 ms until it is full.
      const pace = { datagramsPerSecond: 10, burst: 1 };
      const sender = new WholeSender(
        socket,
        { pace, scheduler: time, drainTimeoutMs },
        { complete: () => done.push('complete') },
      );
      for (const text of numberedList(100)) sender.send(text);
      sender.end();
      while (sender.stats.wouldBlocks === 0) time.advance(1);
      const { sent } = sender.stats;
      expect(sent).toBeGreaterThan(0);
      if (drainTimeoutMs > 0) {
        time.advance(drainTimeoutMs - 1);
        expect(done).toEqual([]);
        time.advance(1);
      }
      expect(done).toEqual(['complete']);
      expect(sender.stats).toMatchObject({ sent, droppedBy: { drainTimeout: 100 - sent } });
      expect(time.armed).toBe(0);
    },
  );
});

describe('in real time', () => {
  it.for<[name: string, rate: number, options: BatchOptions]>([
    ['20 000/s', 20_000, {}],
    ['20 000/s, gso off', 20_000, { gso: 'off' }],
    ['20 000/s, offload', 20_000, { offload: true }],
    ['500/s', 500, {}],
    ['500/s, offload', 500, { offload: true }],
  ])('%s over UDP within a fiftieth, and all arrive in order', async ([, rate, options]) => {
    const receiver = await ReceiverProcess.start('udp4');
    try {
      const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: receiver.address as number } }));
      // A burst worth 100 ms: so late may a timer be without a loss, on however busy a machine.
      const pace = { datagramsPerSecond: rate, burst: rate / 10 };
      const { behind, ahead, stats } = await paceOf(socket, pace, options, numberedList(rate * 1.2));
      expect(Math.max(...ahead)).toBeLessThanOrEqual(0);
      expect(Math.min(...behind)).toBeLessThan(0.02);
      expect(stats.sent).toBe(rate * 1.2);
      while ((await receiver.count()) < stats.sent);
      expect(numbersOf(await receiver.datagrams())).toEqual(range(stats.sent));
    } finally {
      receiver.stop();
    }
  });

  it('over a unix socket, too', async () => {
    const { sender: socket, receiver } = Receiver.pair();
    keep(socket);
    keep(receiver);
    const pace = { datagramsPerSecond: 2000, burst: 200 };
    const sending = paceOf(socket, pace, {}, numberedList(2400));
    const arrived = await receiver.receive(2400, undefined, sending);
    const { behind, ahead } = await sending;
    expect(numbersOf(arrived)).toEqual(range(2400));
    expect(Math.max(...ahead)).toBeLessThanOrEqual(0);
    expect(Math.min(...behind)).toBeLessThan(0.02);
  });

  it('several lanes share one pace, each has its turn, and each destination its order', async () => {
    const receivers = range(6).map(() => keep(Receiver.udp()));
    const to = receivers.map(({ port }) => endpoint('127.0.0.1', port));
    const lopsided = range(600).map((n) => ({ payload: String(n), to: to[n % 10 < 5 ? 0 : n % 6]! }));
    const pace = { datagramsPerSecond: 500, burst: 50 };
    const options = { offload: true, lanes: 4, batchSize: 8 };
    const { ahead, behind } = await paceOf(keep(DatagramSocket.open()), pace, options, lopsided);
    expect(Math.max(...ahead)).toBeLessThanOrEqual(0);
    expect(Math.min(...behind)).toBeLessThan(0.02);
    for (const [index, receiver] of receivers.entries()) {
      const sent = lopsided.filter((datagram) => datagram.to === to[index]).map(({ payload }) => payload);
      expect(receiver.drain().map(String)).toEqual(sent);
    }
  });
});
