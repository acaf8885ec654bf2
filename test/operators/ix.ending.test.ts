/** The Ix operator: how it ends early. */
import { getEventListeners } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { AbortError } from 'ix/aborterror';
import { AsyncIterableX, from, toArray } from 'ix/asynciterable';
import { take, withAbort } from 'ix/asynciterable/operators';
import { beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/ix/sendmmsg.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { numbered } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { held, NEVER, PullSource, quiet, upTo } from '../support/pull-source.ts';
import { blocked, type Receiver, roomy } from '../support/receiver.ts';

const keep = keeper();
let socket: DatagramSocket;
let receiver: Receiver;
beforeEach(() => {
  ({ receiver, socket } = roomy(keep));
});

describe('an early end', () => {
  it.each([
    [
      'break',
      async (reports: AsyncIterable<BatchReport>) => {
        for await (const _report of reports) break;
      },
    ],
    [
      'throw',
      async (reports: AsyncIterable<BatchReport>) => {
        await expect(
          (async () => {
            for await (const _report of reports) throw new Error('why');
          })(),
        ).rejects.toThrow('why');
      },
    ],
    [
      'take(1)',
      async (reports: AsyncIterable<BatchReport>) => {
        expect(await toArray(AsyncIterableX.as(reports).pipe(take(1)))).toHaveLength(1);
      },
    ],
    [
      'return()',
      async (reports: AsyncIterable<BatchReport>) => {
        const iterator = reports[Symbol.asyncIterator]();
        await iterator.next();
        expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
        expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
        expect(await iterator.next()).toEqual({ done: true, value: undefined });
      },
    ],
    [
      'throw()',
      async (reports: AsyncIterable<BatchReport>) => {
        const iterator = reports[Symbol.asyncIterator]();
        await iterator.next();
        await expect(iterator.throw?.(new Error('why'))).rejects.toThrow('why');
        expect(await iterator.next()).toEqual({ done: true, value: undefined });
      },
    ],
  ])('by %s: return() of the source once, its socket closed, nothing more sent', async (_how, end) => {
    const { receiver } = blocked(keep);
    const made: DatagramSocket[] = [];
    const factory = (): DatagramSocket => {
      made.push(keep(receiver.connected()));
      return made[0]!;
    };
    const source = new PullSource();
    await end(sendmmsg(factory, { batchSize: 30 })(source));
    expect([source.pulled, source.returned, source.iterators]).toEqual([30, 1, 1]);
    expect(made.map(({ closed }) => closed)).toEqual([true]);
    const arrived = receiver.drain();
    expect(arrived.length).toBeLessThan(30);
    await quiet();
    expect(receiver.drain()).toEqual([]);
  });

  it('waits for the cleanup of the source, and tells its failure', async () => {
    const log: string[] = [];
    async function* generate(cleanUp: () => void): AsyncGenerator<string> {
      try {
        for (;;) yield 'x';
      } finally {
        await turn();
        cleanUp();
      }
    }
    for await (const _report of sendmmsg(socket)(generate(() => log.push('cleaned up')))) break;
    expect(log).toEqual(['cleaned up']);
    const fails = (): never => {
      throw new Error('cleanup');
    };
    const iterator = sendmmsg(socket)(generate(fails))[Symbol.asyncIterator]();
    await iterator.next();
    await expect(iterator.return?.()).rejects.toThrow('cleanup');
  });

  it('does not wait for a source that is busy and may never answer', async () => {
    async function* generate(): AsyncGenerator<string> {
      yield 'x';
      await NEVER;
    }
    expect(await toArray(from(generate()).pipe(sendmmsg(socket), take(1)))).toMatchObject([{ sent: 1 }]);
    const iterator = sendmmsg(socket)(generate())[Symbol.asyncIterator]();
    await iterator.next();
    const waiting = iterator.next();
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await waiting).toEqual({ done: true, value: undefined });
  });

  it('a datagram that the source still hands out after it goes nowhere, and is not even read', async () => {
    const { source, release } = held();
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator]();
    await iterator.next();
    await iterator.return?.();
    let reads = 0;
    release({
      get payload() {
        reads++;
        return 'late';
      },
    });
    await quiet();
    expect(reads).toBe(0);
    expect(receiver.drain().map(String)).toEqual(['first']);
    expect([source.pulled, source.returned]).toEqual([2, 1]);
  });

  it('a report that waits unread is gone', async () => {
    const { source, release } = held();
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator]();
    await iterator.next();
    release('second');
    await quiet();
    expect(receiver.drain().map(String)).toEqual(['first', 'second']);
    await iterator.return?.();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it('while the sender waits for room: silence, and no more pulls', async () => {
    const { receiver, socket } = blocked(keep);
    const source = new PullSource();
    const iterator = sendmmsg(socket, { batchSize: 8, highWaterMark: 8 })(source)[Symbol.asyncIterator]();
    await iterator.next();
    const waiting = [iterator.next(), iterator.next(), iterator.next()];
    await quiet();
    const { pulled } = source;
    await iterator.return?.();
    expect((await Promise.all(waiting)).at(-1)).toEqual({ done: true, value: undefined });
    const taken = receiver.drain();
    await quiet();
    expect(receiver.drain()).toEqual([]);
    expect(taken.length).toBeLessThan(pulled);
    expect([source.pulled, source.returned]).toEqual([pulled, 1]);
  });
});

describe('an abort', () => {
  const abortable = (
    source: AsyncIterable<DatagramLike>,
    controller: AbortController,
    options = {},
    to: DatagramSocket = socket,
  ): AsyncIterator<BatchReport> =>
    AsyncIterableX.as(sendmmsg(to, options)(source)).pipe(withAbort(controller.signal))[Symbol.asyncIterator]();

  it('before the first next(): AbortError, nothing opened, nothing pulled', async () => {
    const source = new PullSource();
    const controller = new AbortController();
    controller.abort();
    const iterator = abortable(source, controller);
    await expect(iterator.next()).rejects.toBeInstanceOf(AbortError);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect([source.iterators, source.returned]).toEqual([0, 0]);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  it('rejects who waits, once, returns the source once, sends nothing more', async () => {
    const { receiver, socket } = blocked(keep);
    const source = new PullSource();
    const controller = new AbortController();
    const iterator = abortable(source, controller, { highWaterMark: 30 }, socket);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    const first = iterator.next();
    await first;
    const waiting = [iterator.next(), iterator.next()];
    const settled = Promise.allSettled(waiting);
    await quiet();
    expect(source.signal).toBe(controller.signal);
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(1);
    controller.abort();
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    expect(await settled).toMatchObject([
      { status: 'rejected', reason: { name: 'AbortError' } },
      { status: 'fulfilled', value: { done: true } },
    ]);
    const taken = receiver.drain();
    await quiet();
    expect(receiver.drain()).toEqual([]);
    expect(taken.length).toBeGreaterThan(0);
    expect(source.returned).toBe(1);
  });

  it('while nobody waits is told by the next next(); a report that waits unread is not', async () => {
    const { source, release } = held();
    const controller = new AbortController();
    const iterator = abortable(source, controller);
    await iterator.next();
    release('second');
    await quiet();
    expect(receiver.drain().map(String)).toEqual(['first', 'second']);
    controller.abort();
    await expect(iterator.next()).rejects.toBeInstanceOf(AbortError);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(source.returned).toBe(1);
  });

  it.each([
    ['the end', upTo(3)],
    ['an error', (index: number) => (index < 3 ? numbered(index) : Promise.reject(new Error('why')))],
    ['a break', () => 'x'],
  ])('listener is gone after %s', async (how, answer) => {
    const source = new PullSource(answer);
    const { signal } = new AbortController();
    const output = AsyncIterableX.as(sendmmsg(socket)(source)).pipe(withAbort(signal));
    try {
      for await (const _report of output) if (how === 'a break') break;
    } catch (error) {
      expect(error).toMatchObject({ message: 'why' });
    }
    expect(source.signal).toBe(signal);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});

describe('a signal', () => {
  it.each([
    ['an object', {}],
    ['null', null],
    ['a text', 'abort'],
    ['half of one', { aborted: false, addEventListener() {} }],
    ['an AbortController', new AbortController()],
  ])('that is none (%s): next() rejects, nothing is opened or pulled, and it has ended', async (_what, signal) => {
    const source = new PullSource();
    let opened = 0;
    const open = (): DatagramSocket => {
      opened++;
      return socket;
    };
    const iterator = sendmmsg(open)(source)[Symbol.asyncIterator](signal as unknown as AbortSignal);
    await expect(iterator.next()).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(await iterator.return!()).toEqual({ done: true, value: undefined });
    expect([opened, source.iterators]).toEqual([0, 0]);
  });

  it('of another make aborts as well', async () => {
    const listeners: (() => void)[] = [];
    const signal = {
      aborted: false,
      addEventListener: (_name: string, listener: () => void) => void listeners.push(listener),
      removeEventListener: (_name: string, listener: () => void) => void listeners.splice(listeners.indexOf(listener)),
    };
    const source = new PullSource(() => NEVER);
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator](signal as unknown as AbortSignal);
    const waiting = expect(iterator.next()).rejects.toBeInstanceOf(AbortError);
    listeners[0]!();
    await waiting;
    expect(listeners).toEqual([]);
  });
});

describe('a socket', () => {
  it('that fails: the error, with the source returned once, though it is busy', async () => {
    const source = new PullSource((index) => (index < 100 ? numbered(index) : NEVER));
    const { socket } = blocked(keep);
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator]();
    const told: unknown[] = [];
    for (;;) {
      const next = iterator.next().catch((error: unknown) => error);
      await quiet();
      socket.close();
      const result = await next;
      if (result instanceof Error) {
        expect(result).toMatchObject({ code: 'EBADF' });
        break;
      }
      told.push(result);
    }
    expect(told.length).toBeLessThan(5);
    expect(source.returned).toBe(1);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it('factory that throws, or makes something else, is the error of the first next(); the source is not touched', async () => {
    const source = new PullSource();
    const throws = (): never => {
      throw new Error('no socket');
    };
    await expect(toArray(sendmmsg(throws)(source))).rejects.toThrow('no socket');
    await expect(toArray(sendmmsg(() => ({}) as never)(source))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
    });
    expect([source.iterators, source.returned]).toEqual([0, 0]);
  });
});
