/** The Ix operator: how it pulls, and how it ends. What it does with datagrams is in doors.test.ts. */
import { getEventListeners } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { AbortError } from 'ix/aborterror';
import { AsyncIterableX, empty, from, never, of, throwError, toArray } from 'ix/asynciterable';
import { flatMap, map, take, tap, withAbort } from 'ix/asynciterable/operators';
import { beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../operators/ix/sendmmsg.ts';
import type { BatchReport, DatagramLike } from '../src/datagram.ts';
import type { DatagramSocket } from '../src/datagram-socket.ts';
import { numbered, numberedList, numbersOf, range } from './support/datagrams.ts';
import { keeper } from './support/keep.ts';
import { Receiver } from './support/receiver.ts';

const keep = keeper();
let socket: DatagramSocket;
let receiver: Receiver;
beforeEach(() => {
  ({ sender: socket, receiver } = Receiver.pair(1 << 20));
  keep(socket);
  keep(receiver);
});

/** An iterable that is no Ix object, which counts what is asked of it. `answer` says what each `next()` gives. */
class Source implements AsyncIterable<DatagramLike> {
  iterators = 0;
  pulled = 0;
  returned = 0;
  inFlight = 0;
  mostInFlight = 0;
  signal: AbortSignal | undefined;
  readonly #answer: (index: number) => DatagramLike | null | Promise<DatagramLike | null>;

  constructor(answer: (index: number) => DatagramLike | null | Promise<DatagramLike | null> = numbered) {
    this.#answer = answer;
  }

  [Symbol.asyncIterator](signal?: AbortSignal): AsyncIterator<DatagramLike> {
    this.iterators++;
    this.signal = signal;
    return {
      next: async () => {
        this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
        try {
          const value = await this.#answer(this.pulled++);
          return value === null ? { done: true, value: undefined } : { done: false, value };
        } finally {
          this.inFlight--;
        }
      },
      return: async () => {
        this.returned++;
        return { done: true, value: undefined };
      },
    };
  }
}

const NEVER = new Promise<never>(() => {});
/** `count` datagrams, then the end. */
const upTo =
  (count: number) =>
  (index: number): string | null =>
    index < count ? numbered(index) : null;

/** 'first', and then what `release` gives it, as soon as it does. */
function held(): { source: Source; release(datagram: DatagramLike): void } {
  let release!: (datagram: DatagramLike) => void;
  const second = new Promise<DatagramLike>((resolve) => {
    release = resolve;
  });
  return { source: new Source((index) => (index === 0 ? 'first' : index === 1 ? second : NEVER)), release };
}

/** A receiver that reads nothing until told to, and a socket connected to it: the kernel takes some 11 datagrams. */
function blocked(): { receiver: Receiver; socket: DatagramSocket } {
  const receiver = keep(Receiver.unix());
  return { receiver, socket: keep(receiver.connected()) };
}

/** Turns enough for all that can go on to have gone on. */
async function quiet(): Promise<void> {
  for (let turns = 0; turns < 30; turns++) await turn();
}

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
    const source = new Source();
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
    const source = new Source((index) => {
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
    const { receiver, socket } = blocked();
    const source = new Source((index) => {
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
    const { receiver, socket } = blocked();
    let fail!: (error: Error) => void;
    const failure = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    const source = new Source((index) => (index < 40 ? numbered(index) : failure));
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
      made.push(blocked().socket);
      return made[0]!;
    };
    await expect(toArray(sendmmsg(factory)(throws))).rejects.toThrow('no iterator');
    expect(made.map(({ closed }) => closed)).toEqual([true]);
    await expect(toArray(sendmmsg(socket)([] as never))).rejects.toThrow(TypeError);
  });

  it('that ends is not returned, and is not asked again', async () => {
    const source = new Source(upTo(5));
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
    const source = new Source(() => {
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
    const source = new Source((index) => (index < 3 ? numbered(index) : NEVER));
    const iterator = sendmmsg(socket)(source)[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toMatchObject({ sent: 3 });
    expect(source.inFlight).toBe(1);
  });
});

describe('backpressure', () => {
  it.each([
    ['by count', { highWaterMark: 20 }, 12, 20],
    ['by bytes', { highWaterMarkBytes: 1200 }, 100, 12],
  ])(
    '%s: the source is not pulled while the queue is full, and again when there is room',
    async (_how, options, size, room) => {
      const { receiver, socket } = blocked();
      const source = new Source((index) => (index < 500 ? numbered(index, size) : null));
      const output = toArray(sendmmsg(socket, { batchSize: 8, ...options })(source));
      await quiet();
      const kernel = receiver.drain();
      // One more is pulled by bytes: it is looked at before it is queued.
      expect(source.pulled).toBeGreaterThanOrEqual(room);
      expect(source.pulled).toBeLessThanOrEqual(kernel.length + room + 1);
      const { pulled } = source;
      const rest = await receiver.receive(Number.POSITIVE_INFINITY, 5, output);
      expect(pulled).toBeLessThan(60);
      expect(numbersOf([...kernel, ...rest])).toEqual(range(500));
      expect((await output).reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
      expect([source.mostInFlight, source.returned]).toEqual([1, 0]);
    },
  );

  /** Small ones, until the queue is nearly full by bytes, then large ones. */
  const growing = (index: number): string | null => (index < 120 ? numbered(index, index < 80 ? 12 : 400) : null);

  it('datagrams that grow push nothing out of a queue that is full by bytes', async () => {
    const { receiver, socket } = blocked();
    const output = toArray(sendmmsg(socket, { highWaterMarkBytes: 1000 })(new Source(growing)));
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, 1, output);
    expect(numbersOf(arrived)).toEqual(range(120));
    expect((await output).reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
  });

  it('datagrams that are too large for the ring to wrap around push nothing out', async () => {
    const { sender, receiver } = Receiver.pair(210_000); // doubled, socket(7)
    keep(receiver);
    const source = new Source((index) => (index < 12 ? Buffer.from(numbered(index, 400_000)) : null));
    const output = toArray(sendmmsg(keep(sender), { highWaterMarkBytes: 800_000 })(source));
    expect(numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, 1, output))).toEqual(range(12));
    expect((await output).reduce((sum, { sent }) => sum + sent, 0)).toBe(12);
  });

  it('a datagram whose size cannot be told confuses no one', async () => {
    const { receiver, socket } = blocked();
    const odd = [
      Object.defineProperty(Buffer.from('0:aaaaaaaaaa'), 'byteLength', { value: Number.NaN }),
      Object.defineProperty(Buffer.from('1:bbbbbbbbbb'), 'byteLength', { value: -1e9 }),
      {
        get payload(): string {
          throw new Error('no bytes');
        },
      },
    ];
    const source = new Source((index) => odd[index] ?? growing(index));
    const output = toArray(sendmmsg(socket, { highWaterMarkBytes: 1000 })(source));
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, 1, output);
    expect(numbersOf(arrived)).toEqual(range(120, [2]));
    const reports = await output;
    expect(reports.flatMap(({ rejected }) => rejected)).toMatchObject([{ sequence: 2 }]);
    expect(reports.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
  });

  it('one that does not fit is made room for at once, whenever a flush is due', async () => {
    const options = { highWaterMarkBytes: 1000, batchSize: 1000, flushAfterMs: 60_000 };
    const reports = await toArray(sendmmsg(socket, options)(new Source(growing)));
    expect(reports[0]).toMatchObject({ sent: 80 });
    expect(numbersOf(receiver.drain())).toEqual(range(120));
  });

  it('whatever the source: at most the high-water mark is between it and the reader', async () => {
    const { receiver, socket } = blocked();
    const source = new Source(upTo(5000));
    const output = toArray(sendmmsg(socket, { highWaterMark: 64 })(source));
    let arrived = 0;
    let most = 0;
    let isDone = false;
    void output.finally(() => {
      isDone = true;
    });
    while (!isDone) {
      most = Math.max(most, source.pulled - arrived);
      arrived += receiver.drain(9).length;
      await turn();
    }
    arrived += receiver.drain().length;
    expect(arrived).toBe(5000);
    expect(most).toBeLessThan(64 + 20);
    expect(most).toBeGreaterThan(32);
  });

  it('between two pulls of the output only what is queued goes on, and the reports that wait are few', async () => {
    const { receiver, socket } = blocked();
    const source = new Source();
    const iterator = sendmmsg(socket, { batchSize: 4, highWaterMark: 32 })(source)[Symbol.asyncIterator]();
    expect((await iterator.next()).done).toBe(false);
    await quiet();
    const { pulled } = source;
    expect(pulled).toBe(4);
    for (let turns = 0; turns < 50; turns++) {
      receiver.drain(1);
      await turn();
    }
    expect(source.pulled).toBe(pulled);
    await iterator.return?.();
    expect(source.returned).toBe(1);
  });

  it('a consumer that reads no report but the first has no more waiting than were queued', async () => {
    const { receiver, socket } = blocked();
    const source = new Source(async (index) => {
      if (index === 40) await NEVER;
      return numbered(index);
    });
    const iterator = sendmmsg(socket, { batchSize: 2, highWaterMark: 8 })(source)[Symbol.asyncIterator]();
    let isFull = false;
    void iterator.next();
    for (let turns = 0; turns < 100 && !isFull; turns++) {
      await turn();
      isFull = source.pulled >= 8;
      if (!isFull) void iterator.next();
    }
    const { pulled } = source;
    const arrived: Buffer[] = [];
    for (let turns = 0; turns < 100; turns++) {
      arrived.push(...receiver.drain(1));
      await turn();
    }
    expect(source.pulled).toBeLessThanOrEqual(pulled + 1);
    expect(numbersOf(arrived)).toEqual(range(source.pulled));
    await iterator.return?.();
  });

  it('a slow consumer of the reports slows the source, and loses nothing', async () => {
    const source = new Source(upTo(40));
    const sent: number[] = [];
    for await (const report of sendmmsg(socket, { batchSize: 8 })(source)) {
      const { pulled } = source;
      await quiet();
      expect(source.pulled).toBe(pulled);
      sent.push(report.sent);
    }
    expect(sent).toEqual([8, 8, 8, 8, 8]);
    expect(numbersOf(receiver.drain())).toEqual(range(40));
  });

  it('concurrent next() calls are answered in order, by one next() of the source at a time', async () => {
    const source = new Source(async (index) => {
      await turn();
      return index < 6 ? numbered(index) : null;
    });
    const iterator = sendmmsg(socket, { batchSize: 2, flushAfterMs: 60_000 })(source)[Symbol.asyncIterator]();
    const results = await Promise.all(range(6).map(() => iterator.next()));
    expect(results.map(({ done, value }) => (done ? 'done' : value.sent))).toEqual([2, 2, 2, 'done', 'done', 'done']);
    expect(source.mostInFlight).toBe(1);
    expect(numbersOf(receiver.drain())).toEqual(range(6));
  });
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
    const { receiver } = blocked();
    const made: DatagramSocket[] = [];
    const factory = (): DatagramSocket => {
      made.push(keep(receiver.connected()));
      return made[0]!;
    };
    const source = new Source();
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
    const { receiver, socket } = blocked();
    const source = new Source();
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
    const source = new Source();
    const controller = new AbortController();
    controller.abort();
    const iterator = abortable(source, controller);
    await expect(iterator.next()).rejects.toBeInstanceOf(AbortError);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect([source.iterators, source.returned]).toEqual([0, 0]);
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  });

  it('rejects who waits, once, returns the source once, sends nothing more', async () => {
    const { receiver, socket } = blocked();
    const source = new Source();
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
    const source = new Source(answer);
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

describe('a socket', () => {
  it('that fails: the error, with the source returned once, though it is busy', async () => {
    const source = new Source((index) => (index < 100 ? numbered(index) : NEVER));
    const { socket } = blocked();
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
    const source = new Source();
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

describe('re-entrance', () => {
  it('a source may be fed by the handling of the reports', async () => {
    const queue = [numbered(0), numbered(1)];
    let next = 2;
    const source = new Source(() => queue.shift() ?? null);
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
      const counted = new Source((index) => {
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
          made.push(blocked().socket);
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
