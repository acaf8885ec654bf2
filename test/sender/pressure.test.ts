/** `pressure`: a push source is told when to pause and when to go on. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { BehaviorSubject, interval, map, NEVER, Subject, switchMap, takeUntil, tap, timer } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { endpoint } from '../../src/index.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { run } from '../support/child.ts';
import { expectConservation, numberedList, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { blocked, freshPath, Receiver } from '../support/receiver.ts';
import { VirtualTime } from '../support/virtual-time.ts';
import { WholeSender } from '../support/whole-sender.ts';

const keep = keeper();

function pair() {
  const { sender, receiver } = Receiver.pair(1 << 20);
  return { socket: keep(sender), receiver: keep(receiver) };
}

/** A sender with room for four, which sends one in 10 ms; and what its pressure and its observer were told, in order. */
function fixture(options: BatchOptions = {}, onPressure?: (isFull: boolean) => void, next?: () => void) {
  const { socket, receiver } = pair();
  const time = new VirtualTime();
  const told: unknown[] = [];
  const pressure = {
    next(isFull: boolean): void {
      told.push(isFull);
      onPressure?.(isFull);
    },
  };
  const sender: WholeSender = new WholeSender(
    socket,
    { scheduler: time, highWaterMark: 4, pace: { datagramsPerSecond: 100, burst: 1 }, pressure, ...options },
    { ...(next && { next }), complete: () => told.push('complete'), error: () => told.push('error') },
  );
  return { sender, socket, receiver, time, told };
}

describe('in marbles', () => {
  it.each<
    [name: string, options: BatchOptions, source: string, output: string, pressure: string, unsubscribed?: string]
  >([
    ['never full, nothing is told', {}, '(abcd)-----------------|', '1----1----1----1-------|', '-'],
    ['full, then half empty', {}, '(abcde)--------------------|', '1----1----1----1----1------|', 't---------f'],
    ['full twice', {}, '(abcde)----(fg)----------------|', '1----1----1----1----1----1----1|', 't---------ft--------f'],
    [
      'more than full is told once',
      { overflow: 'drop-newest' },
      '(abcdefg)------------------|',
      '1----x----1----1----1------|',
      't---------f',
    ],
    ['the end: told while it drains', {}, '(abcde|)', '1----1----1----1----(1|)', 't---------f'],
    [
      'the end, with no patience: the pace is waited for',
      { drainTimeoutMs: 0 },
      '(abcde|)',
      '1----1----1----1----(1|)',
      't---------f',
    ],
    ['an error: taken back', {}, '(abcde)#', '1----1-(y#)', 't------f'],
    ['unsubscribed: silence', {}, '(abcde)-----', '1----1', 't', '^------!'],
  ])('%s', (_name, options, source, output, pressure, unsubscribed) => {
    const { socket } = pair();
    const time = new TestScheduler((actual, wanted) => expect(actual).toEqual(wanted));
    time.run(({ cold, expectObservable }) => {
      const told = new Subject<boolean>();
      const pace = { datagramsPerSecond: 200, burst: 1 };
      const sent = cold(source).pipe(
        sendmmsg(socket, { pace, highWaterMark: 4, scheduler: time, pressure: told, ...options }),
        map(({ sent, dropped }) => `${sent || ''}${'x'.repeat(dropped)}`),
      );
      expectObservable(told).toBe(pressure, { t: true, f: false });
      expectObservable(sent, unsubscribed).toBe(output, { 1: '1', x: '1xx', y: 'xxx' });
    });
    expect(time.actions).toEqual([]);
  });
});

describe('what is told', () => {
  it('of an end that is given up: taken back', () => {
    const { receiver, socket } = blocked(keep);
    const time = new VirtualTime();
    const told: unknown[] = [];
    const sender = new WholeSender(
      socket,
      { scheduler: time, highWaterMark: 4, drainTimeoutMs: 7, pressure: { next: (isFull) => told.push(isFull) } },
      { complete: () => told.push('complete') },
    );
    while (sender.send('x'));
    sender.end();
    expect(told).toEqual([true]);
    time.advance(6);
    expect(told).toEqual([true]);
    time.advance(1);
    expect(told).toEqual([true, false, 'complete']);
    expect(sender.stats.droppedBy.drainTimeout).toBeGreaterThan(0);
    receiver.drain();
  });

  it('true is told where send() returns false, and false where it is half empty', () => {
    const { sender, time, told } = fixture();
    const answers = numberedList(6).map((text) => [sender.send(text), told.length]);
    expect(answers).toEqual([
      [true, 0],
      [true, 0],
      [true, 0],
      [true, 0],
      [false, 1],
      [false, 1],
    ]);
    time.advance(10);
    expect([sender.stats.queued, told]).toEqual([3, [true]]);
    time.advance(10);
    expect([sender.stats.queued, told]).toEqual([2, [true, false]]);
    sender.destroy();
  });

  it('by bytes, too', () => {
    const { sender, time, told } = fixture({ highWaterMarkBytes: 100, highWaterMark: 1000, flushAfterMs: 1 });
    for (const text of numberedList(5, 20)) sender.send(text);
    expect(told).toEqual([]);
    sender.send('x'.repeat(20));
    expect(told).toEqual([true]);
    time.advance(31);
    expect(told).toEqual([true, false]);
    sender.destroy();
  });

  it('by a broadcast, and with several lanes', async () => {
    const told: boolean[] = [];
    const pressure = { next: (isFull: boolean) => told.push(isFull) };
    const receiver = keep(Receiver.udp());
    const peers = range(8).map(() => endpoint('127.0.0.1', receiver.port));
    const socket = keep(DatagramSocket.open());
    const sender = new WholeSender(socket, { highWaterMark: 8, offload: true, lanes: 2, pressure });
    expect(sender.broadcast('x', peers)).toBe(false);
    expect(told).toEqual([true]);
    await sender.close();
    expect(told).toEqual([true, false]);
    expectConservation(sender.stats);
  });

  it('nothing after destroy(), and nothing new after close()', async () => {
    const destroyed = fixture();
    for (const text of numberedList(5)) destroyed.sender.send(text);
    destroyed.sender.destroy();
    const closed = fixture();
    for (const text of numberedList(5)) closed.sender.send(text);
    const end = closed.sender.close();
    for (const { time } of [destroyed, closed]) time.advance(1000);
    await end;
    expect(destroyed.told).toEqual([true]);
    expect(closed.told).toEqual([true, false, 'complete']);
  });

  it('false comes before the error of a socket that fails', () => {
    const { sender, socket, told } = fixture();
    for (const text of numberedList(5)) sender.send(text);
    socket.close();
    expect(told).toEqual([true, false, 'error']);
  });
});

describe('what it does in turn', () => {
  it('what it throws is thrown outside, and stops nothing', async () => {
    const thrown: unknown[] = [];
    const listeners = process.rawListeners('uncaughtException') as NodeJS.UncaughtExceptionListener[];
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => thrown.push(error));
    const { sender, time, told } = fixture({}, (isFull) => {
      throw isFull;
    });
    for (const text of numberedList(5)) sender.send(text);
    time.advance(1000);
    await turn();
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect([thrown, told]).toEqual([
      [true, false],
      [true, false],
    ]);
    expect(sender.stats).toMatchObject({ sent: 5, queued: 0 });
  });

  it('a source that starts and stops in it sends all, in order, and the event loop turns meanwhile', () => {
    let next = 0;
    const produce = (): void => {
      while (next < 50 && sender.send(String(next))) next++;
      if (next < 50) next++; // it was the one that filled the queue
    };
    const { sender, time, told, receiver } = fixture({ pace: undefined, highWaterMark: 4, batchSize: 64 }, (isFull) => {
      if (!isFull) produce();
    });
    produce();
    for (let turns = 0; turns < 100; turns++) time.advance(1);
    expect(receiver.drain().map(String)).toEqual(range(50).map(String));
    expect(told).toEqual(told.map((_, index) => index % 2 === 0));
    expect(sender.stats.dropped).toBe(0);
    sender.destroy();
  });

  it.each<[name: string, act: (sender: WholeSender) => void, told: unknown[]]>([
    ['flush()', (sender) => sender.flush(), [true, false]],
    ['close()', (sender) => void sender.close(), [true, false, 'complete']],
    ['abort()', (sender) => sender.abort(new Error('enough')), [true, false, 'error']],
    ['destroy()', (sender) => sender.destroy(), [true]],
  ])('%s from within', (_name, act, expected) => {
    const { socket, receiver } = pair();
    const told: unknown[] = [];
    const time = new VirtualTime();
    const pressure = {
      next(isFull: boolean): void {
        told.push(isFull);
        if (isFull) act(own);
      },
    };
    let isBusy = true;
    const own: WholeSender = new WholeSender(
      socket,
      { scheduler: time, highWaterMark: 4, batchSize: 1, pressure },
      {
        // Inside a report nothing is flushed: here the queue becomes full.
        next() {
          for (let n = 0; isBusy && n < 4; n++) own.send(String(n));
          isBusy = false;
        },
        error: () => told.push('error'),
        complete: () => told.push('complete'),
      },
    );
    own.send('first');
    time.advance(100);
    expect(told).toEqual(expected);
    expectConservation(own.stats);
    expect(own.stats.queued).toBe(0);
    expect(time.armed).toBe(0);
    receiver.drain();
    own.destroy();
  });
});

describe('outside of a report', () => {
  it('an abort from within is told when it is done', () => {
    const { sender, told } = fixture({}, (isFull) => {
      if (isFull) sender.abort(new Error('enough'));
    });
    for (const text of numberedList(5)) sender.send(text);
    expect(told).toEqual([true, false, 'error']);
    expectConservation(sender.stats);
  });

  it('a queue that is filled and emptied within the call is told in the next turn', () => {
    const fill = (): void => {
      for (const text of numberedList(4)) sender.send(text);
    };
    let rounds = 3;
    let reports = 0;
    const onPressure = (isFull: boolean): void => {
      if (isFull) sender.flush();
      else if (rounds-- > 0) fill();
    };
    const { sender, time, told } = fixture({ pace: undefined }, onPressure, () => {
      if (reports++ === 0) fill(); // nothing is flushed in here
    });
    sender.send('x');
    time.advance(20);
    expect(told).toEqual([true, false, true, false, true, false, true, false]);
    expect(sender.stats).toMatchObject({ sent: 17, queued: 0 });
    expect(time.armed).toBe(0);
  });
});

describe('the recipes of the README', () => {
  it('a Node stream is paused: every byte arrives, in order', async () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    const recipe = /## Backpressure[\s\S]*?```js\n([\s\S]*?)```/.exec(readme)![1]!;
    const receiver = keep(Receiver.udp());
    const file = freshPath();
    const content = randomBytes(300 * 1316 + 7);
    writeFileSync(file, content);
    const code = recipe
      .replace("'media.ts'", JSON.stringify(file))
      .replace('5004', String(receiver.port))
      // A queue of 20 to fill again and again, and told apart from luck.
      .replace('pressure,', 'pressure, highWaterMark: 20,')
      .replace('media.pause()', "(console.log('pause'), media.pause())");
    const child = run([process.execPath, '--input-type=module', '-e', code]);
    const arrived = Buffer.concat(await receiver.receive(301, undefined, child));
    const { stdout, stderr, code: status } = await child;
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(arrived.equals(content)).toBe(true);
    expect(stdout.match(/pause/g)!.length).toBeGreaterThan(5);
    expect(stdout).toMatch(/sent\n$/);
  });

  it('a BehaviorSubject stops a source that may be subscribed to anew: nothing is dropped', () => {
    const { socket, receiver } = pair();
    const time = new VirtualTime();
    const emitted: string[] = [];
    const source = interval(1, time).pipe(
      map((n) => String(n)),
      tap((text) => emitted.push(text)),
    );
    const pressure = new BehaviorSubject(false);
    const pace = { datagramsPerSecond: 100, burst: 1 };
    let dropped = 0;
    pressure
      .pipe(
        switchMap((isFull) => (isFull ? NEVER : source)),
        takeUntil(timer(2000, time)),
        sendmmsg(socket, { pressure, pace, highWaterMark: 16, scheduler: time }),
      )
      .subscribe((report) => {
        dropped += report.dropped;
      });
    time.advance(3000);
    expect(dropped).toBe(0);
    expect(receiver.drain().map(String)).toEqual(emitted);
    expect(emitted.length).toBeGreaterThan(190);
    expect(emitted.length).toBeLessThan(230);
  });
});
