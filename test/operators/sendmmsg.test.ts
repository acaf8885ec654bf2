import {
  concat,
  defer,
  EMPTY,
  from,
  generate,
  lastValueFrom,
  mergeMap,
  NEVER,
  range as numbers,
  of,
  reduce,
  Subject,
  take,
  tap,
  throwError,
  toArray,
} from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { Receiver } from '../support/receiver.ts';

let socket: DatagramSocket;
let receiver: Receiver;
beforeEach(() => {
  ({ sender: socket, receiver } = Receiver.pair(1 << 20));
});
afterEach(() => {
  socket.close();
  receiver.close();
});

describe('a source that emits while it is being subscribed to', () => {
  it('and never ends is stopped by take(1)', async () => {
    let generated = 0;
    const endless = generate({ initialState: 0, iterate: (index) => index + 1 });
    const source = endless.pipe(
      tap(() => {
        if (++generated > 1000) throw new Error('It was not stopped');
      }),
      mergeMap((index) => of(numbered(index))),
    );
    const report = await lastValueFrom(source.pipe(sendmmsg(socket, { batchSize: 10 }), take(1)));
    expect(report.sent).toBe(10);
    expect(generated).toBe(10);
    expect(numbersOf(receiver.drain())).toEqual(range(10));
  });

  it('and is larger than the queue loses nothing', async () => {
    const reports = await lastValueFrom(
      numbers(0, 1000).pipe(
        mergeMap((index) => of(numbered(index))),
        sendmmsg(socket, { batchSize: 64, highWaterMark: 100 }),
        toArray(),
      ),
    );
    expect(reports.map(({ sent }) => sent)).toEqual([...new Array(15).fill(64), 40]);
    expect(numbersOf(receiver.drain())).toEqual(range(1000));
  });
});

describe('re-entrance', () => {
  it('a report handler may feed the source: in order, an echo a turn', async () => {
    const source = new Subject<string>();
    let next = 0;
    let depth = 0;
    const done = lastValueFrom(
      source.pipe(
        sendmmsg(socket, { batchSize: 2 }),
        tap(() => {
          expect(++depth).toBe(1);
          if (next === 20) source.complete();
          for (let index = 0; index < 2 && next < 20; index++) source.next(numbered(next++));
          depth--;
        }),
        reduce((sum, report) => sum + report.sent, 0),
      ),
    );
    source.next(numbered(next++));
    source.next(numbered(next++));
    expect(await done).toBe(20);
    expect(numbersOf(receiver.drain())).toEqual(range(20));
  });

  it.each([
    ['completes', (source: Subject<string>) => source.complete(), ['2', '1', 'complete']],
    ['errors', (source: Subject<string>) => source.error('why'), ['2', '1', 'why']],
  ])('a source that %s inside a report handler still has its tail sent and told', (_how, end, expected) => {
    const source = new Subject<string>();
    const told: string[] = [];
    source.pipe(sendmmsg(socket, { batchSize: 2 })).subscribe({
      next(report) {
        told.push(String(report.sent));
        if (told.length > 1) return;
        source.next('c');
        end(source);
      },
      error: (error) => told.push(String(error)),
      complete: () => told.push('complete'),
    });
    source.next('a');
    source.next('b');
    expect(told).toEqual(expected);
    expect(receiver.drain().join('')).toBe('abc');
  });

  it('unsubscribing inside a report handler is the end: nothing more is sent or told', async () => {
    const source = new Subject<string>();
    let reports = 0;
    const subscription = source.pipe(sendmmsg(socket, { batchSize: 2 })).subscribe({
      next() {
        reports++;
        source.next('late');
        subscription.unsubscribe();
      },
      complete: () => reports++,
    });
    for (const text of ['a', 'b', 'c', 'd']) source.next(text);
    source.complete();
    await new Promise(setImmediate);
    expect(reports).toBe(1);
    expect(receiver.drain().join('')).toBe('ab');
    expect(source.observed).toBe(false);
  });
});

describe('a socket that fails inside a report handler', () => {
  it('errors after a last report, and what the handler still feeds the source goes nowhere', () => {
    const source = new Subject<string>();
    const told: unknown[] = [];
    source.pipe(sendmmsg(socket, { batchSize: 2 })).subscribe({
      next({ sent, dropped }) {
        told.push([sent, dropped]);
        source.next('into the void');
        if (!socket.closed) socket.close();
        expect(() => source.next('into the void')).not.toThrow();
      },
      error: ({ code }) => told.push(code),
    });
    source.next('a');
    source.next('b');
    expect(told).toEqual([[2, 0], [0, 1], 'EBADF']);
    expect(source.observed).toBe(false);
    expect(receiver.drain().join('')).toBe('ab');
  });
});

describe('a factory', () => {
  const opened: DatagramSocket[] = [];
  const factory = (): DatagramSocket => {
    const made = DatagramSocket.open({ type: 'unix', connect: { path: receiver.path } });
    opened.push(made);
    return made;
  };
  beforeEach(() => {
    // The receiver of a pair hears its peer only.
    receiver.close();
    receiver = Receiver.unix();
    opened.length = 0;
  });

  it.each([
    ['complete', of('x')],
    ['empty', EMPTY],
    [
      'error',
      concat(
        of('x'),
        throwError(() => 'why'),
      ),
    ],
  ])('its socket is closed on %s', (_how, source) => {
    let isEnded = false;
    const end = (): void => {
      isEnded = true;
    };
    source.pipe(sendmmsg(factory)).subscribe({ error: end, complete: end });
    expect(isEnded).toBe(true);
    expect(opened.map(({ closed }) => closed)).toEqual([true]);
  });

  it('its socket is open as long as the tail is waited for, and closed on unsubscribe', () => {
    const subscription = from(numberedList(100)).pipe(sendmmsg(factory)).subscribe();
    expect(opened.map(({ closed }) => closed)).toEqual([false]);
    subscription.unsubscribe();
    expect(opened.map(({ closed }) => closed)).toEqual([true]);
    const arrived = numbersOf(receiver.drain());
    expect(arrived).toEqual(range(arrived.length));
    expect(arrived.length).toBeLessThan(100);
  });

  it('is called for each subscriber, and not before', () => {
    const output = NEVER.pipe(sendmmsg(factory));
    expect(opened).toHaveLength(0);
    const subscriptions = [output.subscribe(), output.subscribe()];
    expect(new Set(opened).size).toBe(2);
    for (const subscription of subscriptions) subscription.unsubscribe();
  });

  it('that throws, or makes something else, is an error notification', async () => {
    const failing = (): DatagramSocket => DatagramSocket.open({ type: 'unix', connect: { path: '/does/not/exist' } });
    await expect(lastValueFrom(of('x').pipe(sendmmsg(failing)))).rejects.toMatchObject({ code: 'ENOENT' });
    const wrong = (() => ({})) as unknown as () => DatagramSocket;
    await expect(lastValueFrom(of('x').pipe(sendmmsg(wrong)))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });
});

describe('subscribers', () => {
  it('have rings of their own: each numbers from 0, and the end of one is not the end of the other', async () => {
    const source = new Subject<string>();
    const output = source.pipe(sendmmsg(socket, { batchSize: 3 }));
    const heard: BatchReport[][] = [[], []];
    const first = output.subscribe((report) => heard[0]!.push(report));
    source.next('a');
    output.subscribe((report) => heard[1]!.push(report));
    source.next('b');
    source.next(null as never);
    source.next('c');
    first.unsubscribe();
    source.next('d');
    await new Promise(setImmediate);
    expect(heard[0]).toMatchObject([{ sent: 3, rejected: [{ sequence: 2 }] }]);
    expect(heard[1]).toMatchObject([{ sent: 3, rejected: [{ sequence: 1 }] }]);
    expect(receiver.drain().join('')).toBe('abcbcd');
  });

  it('a given socket stays open', async () => {
    for (let round = 0; round < 2; round++) await lastValueFrom(of('x').pipe(sendmmsg(socket)));
    expect(socket.closed).toBe(false);
    expect(receiver.drain()).toHaveLength(2);
  });

  it('the operator can be used again: state lives in the subscription', async () => {
    const operator = sendmmsg(socket);
    const sequences = defer(() => of<DatagramLike>(null as never)).pipe(operator);
    for (let round = 0; round < 3; round++) {
      expect((await lastValueFrom(sequences)).rejected).toMatchObject([{ sequence: 0 }]);
    }
  });
});

describe('bad arguments throw at once, before anything is subscribed to', () => {
  it.each([
    ['options.batchSize', { batchSize: 0 }, 'ERR_OUT_OF_RANGE'],
    ['options.batchSize', { batchSize: '64' }, 'ERR_INVALID_ARG_TYPE'],
    ['options.overflow', { overflow: 'block' }, 'ERR_INVALID_ARG_VALUE'],
    ['options.scheduler', { scheduler: {} }, 'ERR_INVALID_ARG_TYPE'],
    ['options.offload', { offload: 1 }, 'ERR_INVALID_ARG_TYPE'],
    ['options.pressure', { pressure: {} }, 'ERR_INVALID_ARG_TYPE'],
    ['options.pressure', { pressure: null }, 'ERR_INVALID_ARG_TYPE'],
    ['options.pressure', { pressure: true }, 'ERR_INVALID_ARG_TYPE'],
    ['options.dontRoute', { dontRoute: 1 }, 'ERR_INVALID_ARG_TYPE'],
    ['options.confirm', { confirm: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
    ['options.warn', { warn: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
    ['options.warn', { warn: null }, 'ERR_INVALID_ARG_TYPE'],
    ['options.more', { more: true }, 'ERR_INVALID_ARG_VALUE'],
    ['options.oob', { oob: false }, 'ERR_INVALID_ARG_VALUE'],
    ['options.pace', { pace: 20_000 }, 'ERR_INVALID_ARG_TYPE'],
    ['options.pace', { pace: null }, 'ERR_INVALID_ARG_TYPE'],
    ['options.pace', { pace: {} }, 'ERR_INVALID_ARG_VALUE'],
    ['options.pace', { pace: { burst: 5 } }, 'ERR_INVALID_ARG_VALUE'],
    ['options.pace', { pace: { datagramsPerSecond: 1, bits: 1 } }, 'ERR_INVALID_ARG_VALUE'],
    ['options.pace.datagramsPerSecond', { pace: { datagramsPerSecond: 0 } }, 'ERR_OUT_OF_RANGE'],
    ['options.pace.datagramsPerSecond', { pace: { datagramsPerSecond: Number.NaN } }, 'ERR_OUT_OF_RANGE'],
    ['options.pace.datagramsPerSecond', { pace: { datagramsPerSecond: Number.POSITIVE_INFINITY } }, 'ERR_OUT_OF_RANGE'],
    ['options.pace.datagramsPerSecond', { pace: { datagramsPerSecond: '9' } }, 'ERR_INVALID_ARG_TYPE'],
    ['options.pace.bytesPerSecond', { pace: { bytesPerSecond: -1 } }, 'ERR_OUT_OF_RANGE'],
    ['options.pace.burst', { pace: { bytesPerSecond: 1, burst: 0.5 } }, 'ERR_OUT_OF_RANGE'],
    ['options.pace.burst', { pace: { bytesPerSecond: 1, burst: '5' } }, 'ERR_INVALID_ARG_TYPE'],
    ['options.drainTimeoutMs', { drainTimeoutMs: Number.POSITIVE_INFINITY }, 'ERR_OUT_OF_RANGE'],
  ])('%s %o', (name, options, code) => {
    expect(() => sendmmsg(socket, options as never)).toThrow(
      expect.objectContaining({ name: 'SendmmsgError', code, message: expect.stringContaining(name) }),
    );
  });

  it('no socket', () => {
    for (const wrong of [undefined, null, 5, {}]) {
      expect(() => sendmmsg(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    }
  });
});
