/** Sources that tell how they are pulled, and the slow reader at the other end. */
import { setImmediate as turn } from 'node:timers/promises';
import type { DatagramLike } from '../../src/message/datagram.ts';
import { numbered } from './datagrams.ts';
import type { Receiver } from './receiver.ts';

/** An iterable that is no Ix object, which counts what is asked of it. `answer` says what each `next()` gives. */
export class PullSource implements AsyncIterable<DatagramLike> {
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

/** What is never answered. */
export const NEVER: Promise<never> = new Promise<never>(() => {});
/** `count` datagrams, then the end. */
export const upTo =
  (count: number) =>
  (index: number): string | null =>
    index < count ? numbered(index) : null;

/** 'first', and then what `release` gives it, as soon as it does. */
export function held(): { source: PullSource; release(datagram: DatagramLike): void } {
  let release!: (datagram: DatagramLike) => void;
  const second = new Promise<DatagramLike>((resolve) => {
    release = resolve;
  });
  return { source: new PullSource((index) => (index === 0 ? 'first' : index === 1 ? second : NEVER)), release };
}

/** Turns enough for all that can go on to have gone on. */
export async function quiet(): Promise<void> {
  for (let turns = 0; turns < 30; turns++) await turn();
}

/** Numbered datagrams, endless or `count`, that remember how many were taken. */
export function numbers(count: number = Number.POSITIVE_INFINITY): Iterable<string> & { readonly pulled: number } {
  const source = {
    pulled: 0,
    *[Symbol.iterator](): Generator<string> {
      while (source.pulled < count) yield numbered(source.pulled++);
    },
  };
  return source;
}

/** Reads slowly until `done`; how many were at most under way, and what arrived. */
export async function readSlowly(
  receiver: Receiver,
  done: Promise<unknown>,
  pulled: () => number,
): Promise<{ arrived: Buffer[]; most: number }> {
  const arrived: Buffer[] = [];
  let most = 0;
  let isDone = false;
  const end = (): void => {
    isDone = true;
  };
  done.then(end, end);
  for (let wasDone = false; !wasDone; ) {
    wasDone = isDone;
    most = Math.max(most, pulled() - arrived.length);
    arrived.push(...receiver.drain(9));
    await turn();
  }
  arrived.push(...receiver.drain());
  return { arrived, most };
}
