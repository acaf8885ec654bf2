/** The Ix operator: what it takes and gives. What it does with datagrams is in doors.test.ts. */
import { getEventListeners } from 'node:events';
import { AbortError } from 'ix/aborterror';
import { AsyncIterableX, empty, from, never, of, throwError, toArray } from 'ix/asynciterable';
import { flatMap, map, take, tap, withAbort } from 'ix/asynciterable/operators';
import { beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/ix/sendmmsg.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { NEVER, PullSource, quiet, upTo } from '../support/pull-source.ts';
import { blocked, Receiver, roomy } from '../support/receiver.ts';

const keep = keeper();
let socket: DatagramSocket;
let receiver: Receiver;
beforeEach(() => {
  ({ receiver, socket } = roomy(keep));
});

describe('as an Ix operator', () => {
  it('is used in pipe(), and gives an AsyncIterableX that pipes on', async () => {
    const output = from(numberedList(10)).pipe(
      sendmmsg(socket, { batchSize: 5 }),
      map(({ sent }) => sent),
    );
    expect(output).toBeInstanceOf(AsyncIterableX);
    expect(await toArray(output)).toEqual([5, 5]);
    expect(numbersOf(receiver.drain())).toEqual(range(10));
  });

  it('takes any AsyncIterable, and gives one', async () => {
    async function* generate(): AsyncGenerator<string> {
      for (const text of numberedList(10)) yield text;
    }
    const sent: number[] = [];
    for await (const report of sendmmsg(socket)(generate())) sent.push(report.sent);
    expect(sent).toEqual([10]);
    expect(numbersOf(receiver.drain())).toEqual(range(10));
  });

  it('does nothing before the first next(): no socket, no pull, no listener', async () => {
    const source = new PullSource();
    const { signal } = new AbortController();
    const output = sendmmsg(() => expect.unreachable())(source);
    const iterator = output[Symbol.asyncIterator](signal);
    await quiet();
    expect([source.iterators, source.pulled]).toEqual([0, 0]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect([source.iterators, source.returned]).toEqual([0, 0]);
  });

  it('iterations have rings and sockets of their own', async () => {
    receiver.close();
    const shared = keep(Receiver.unix());
    const made: DatagramSocket[] = [];
    const output = from<DatagramLike>(['a', null as never]).pipe(
      sendmmsg(() => {
        made.push(keep(shared.connected()));
        return made.at(-1)!;
      }),
    );
    for (let round = 0; round < 2; round++) {
      expect((await toArray(output)).flatMap(({ rejected }) => rejected)).toMatchObject([{ sequence: 1 }]);
    }
    expect(made.map(({ closed }) => closed)).toEqual([true, true]);
    expect(shared.drain()).toHaveLength(2);
  });

  it.each([
    ['options.batchSize', { batchSize: 0 }, 'ERR_OUT_OF_RANGE'],
    ['options.highWaterMark', { highWaterMark: '1' }, 'ERR_INVALID_ARG_TYPE'],
    ['options.gso', { gso: 'on' }, 'ERR_INVALID_ARG_VALUE'],
  ])('bad options throw at once: %s %o', (name, options, code) => {
    expect(() => sendmmsg(socket, options as never)).toThrow(
      expect.objectContaining({ name: 'SendmmsgError', code, message: expect.stringContaining(name) }),
    );
  });

  it('no socket throws at once', () => {
    for (const wrong of [undefined, null, 5, {}]) {
      expect(() => sendmmsg(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    }
  });
});

describe('a source', () => {
  it('that is empty: no report, and the end', async () => {
    expect(await toArray(empty().pipe(sendmmsg(socket)))).toEqual([]);
  });

  it('that never emits: next() waits, and an abort ends it', async () => {
    const controller = new AbortController();
    const iterator = never().pipe(sendmmsg(socket), withAbort(controller.signal))[Symbol.asyncIterator]();
    const next = iterator.next();
    expect(await Promise.race([next, quiet()])).toBeUndefined();
    controller.abort();
    await expect(next).rejects.toBeInstanceOf(AbortError);
  });

  it('that throws: one last flush, its report, then the error, once; its return() is not called', async () => {
    const source = new PullSource((index) => {
      if (index === 3) throw new Error('why');
      return numbered(index);
    });
    const iterator = sendmmsg(socket, { flushAfterMs: 60_000 })(source)[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toMatchObject({ sent: 3 });
    await expect(iterator.next()).rejects.toThrow('why');
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(source.returned).toBe(0);
    expect(numbersOf(receiver.drain())).toEqual(range(3));
  });

  it('that throws while the kernel is full: what did not go is dropped and told, then the error', async () => {
    const { receiver, socket } = blocked(keep);
    const source = new PullSource((index) => {
      if (index === 40) throw new Error('why');
      return numbered(index);
    });
    const told: BatchReport[] = [];
    const run = async (): Promise<void> => {
      for await (const report of sendmmsg(socket)(source)) told.push(report);
    };
    await expect(run()).rejects.toThrow('why');
    const arrived = numbersOf(receiver.drain());
    expect(arrived).toEqual(range(arrived.length));
    expect(told).toMatchObject([{ sent: arrived.length, dropped: 40 - arrived.length }]);
  });

  it('that throws while nobody waits: the reports first, then the error', async () => {
    const { receiver, socket } = blocked(keep);
    let fail!: (error: Error) => void;
    const failure = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    const source = new PullSource((index) => (index < 40 ? numbered(index) : failure));
    const iterator = sendmmsg(socket, { batchSize: 40 })(source)[Symbol.asyncIterator]();
    const first = await iterator.next();
    const next = iterator.next();
    receiver.drain(1);
    const second = await next;
    fail(new Error('why'));
    await quiet();
    const told = [first, second, await iterator.next()].map(({ value }) => value as BatchReport);
    expect(told[2]!.dropped).toBeGreaterThan(20);
    expect(told.reduce((sum, { sent, dropped }) => sum + sent + dropped, 0)).toBe(40);
    await expect(iterator.next()).rejects.toThrow('why');
  });

  it('that throws at once, and one that is none', async () => {
    await expect(toArray(throwError(new Error('why')).pipe(sendmmsg(socket)))).rejects.toThrow('why');
    const throws = {
      [Symbol.asyncIterator](): never {
        throw new Error('no iterator');
      },
    };
    const made: DatagramSocket[] = [];
    const factory = (): DatagramSocket => {
      made.push(blocked(keep).socket);
      return made[0]!;
    };
    await expect(toArray(sendmmsg(factory)(throws))).rejects.toThrow('no iterator');
    expect(made.map(({ closed }) => closed)).toEqual([true]);
    await expect(toArray(sendmmsg(socket)([] as never))).rejects.toThrow(TypeError);
  });

  it('that ends is not returned, and is not asked again', async () => {
    const source = new PullSource(upTo(5));
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toMatchObject({ sent: 5 });
    for (let times = 0; times < 3; times++) expect((await iterator.next()).done).toBe(true);
    await iterator.return?.();
    expect([source.pulled, source.returned]).toEqual([6, 0]);
  });

  it('that never waits still lets timers and signals have their turn', async () => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 20);
    let pulled = 0;
    const source = new PullSource(() => {
      if (++pulled > 5e5) throw new Error('It was never stopped');
      receiver.drain(2);
      return 'x';
    });
    const output = sendmmsg(socket)(source);
    const run = async (): Promise<void> => {
      for await (const _report of { [Symbol.asyncIterator]: () => output[Symbol.asyncIterator](controller.signal) });
    };
    await expect(run()).rejects.toBeInstanceOf(AbortError);
  });

  it('that is slow is flushed on time, not waited for', async () => {
    const source = new PullSource((index) => (index < 3 ? numbered(index) : NEVER));
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toMatchObject({ sent: 3 });
    expect(source.inFlight).toBe(1);
  });
});

describe('re-entrance', () => {
  it('a source may be fed by the handling of the reports', async () => {
    const queue = [numbered(0), numbered(1)];
    let next = 2;
    const source = new PullSource(() => queue.shift() ?? null);
    const output = AsyncIterableX.as(sendmmsg(socket, { batchSize: 2 })(source)).pipe(
      tap(() => {
        for (let echoes = 0; echoes < 2 && next < 20; echoes++) queue.push(numbered(next++));
      }),
    );
    expect((await toArray(output)).map(({ sent }) => sent)).toEqual(new Array(10).fill(2));
    expect(numbersOf(receiver.drain())).toEqual(range(20));
  });

  it.each(['return', 'abort'] as const)('a source, a factory and a getter may %s the iteration', async (how) => {
    for (const where of ['factory', 'iterator', 'next', 'getter']) {
      const controller = new AbortController();
      const made: DatagramSocket[] = [];
      const end = (at: string): void => {
        if (at !== where) return;
        if (how === 'abort') controller.abort();
        else void iterator.return?.();
      };
      const counted = new PullSource((index) => {
        if (index === 2) end('next');
        if (index > 5) return null;
        return {
          get payload() {
            if (index === 2) end('getter');
            return 'x';
          },
        };
      });
      const source = {
        [Symbol.asyncIterator](signal?: AbortSignal) {
          end('iterator');
          return counted[Symbol.asyncIterator](signal);
        },
      };
      const output = sendmmsg(
        () => {
          end('factory');
          made.push(blocked(keep).socket);
          return made[0]!;
        },
        { flushAfterMs: 60_000 },
      )(source);
      const iterator = output[Symbol.asyncIterator](controller.signal);
      const [result] = await Promise.allSettled([iterator.next()]);
      if (how === 'abort') expect(result).toMatchObject({ status: 'rejected', reason: { name: 'AbortError' } });
      else expect(result).toMatchObject({ status: 'fulfilled', value: { done: true } });
      await quiet();
      expect([where, counted.returned]).toEqual([where, 1]);
      expect(made.map(({ closed }) => closed)).toEqual([true]);
      expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
      expect(counted.pulled).toBeLessThanOrEqual(3);
    }
  });

  it('flatMap and other operators of Ix may stand on both sides', async () => {
    const output = of(0, 10).pipe(
      flatMap((base) => from(range(10).map((index) => numbered(base + index)))),
      sendmmsg(socket, { batchSize: 4 }),
      map(({ sent }) => sent),
      take(5),
    );
    expect(await toArray(output)).toEqual([4, 4, 4, 4, 4]);
    expect(numbersOf(receiver.drain()).sort((a, b) => a - b)).toEqual(range(20));
  });
});
