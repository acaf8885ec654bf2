/**
 * Pacing: a token bucket that says how much of a queue may go now. Time is injected; nothing here waits.
 *
 *     depth ─┬─ full: as much may go at once          A bucket is kept as what was taken out and has not flowed back:
 *            │                                        the rate is exact however late it is asked, for it flows back by
 *         0 ─┴─ empty: wait for the head's worth      elapsed time, and the depth may grow with the datagrams.
 *
 * Invariants: in any time t no more goes than `burst + rate × t`. But timers fire once a millisecond, and late while the
 * event loop is busy: what flows in after the head was due is not lost, up to what 20 ms are worth, even if `burst` is less;
 * so over a second the rate is kept within 2 %, and never exceeded by more. While the head waits for one rate, the bucket of
 * the other gets no fuller than `burst`. What is granted is paid at once, and paid back if the kernel does not take it:
 * lanes share one bucket.
 */
import type { Clock } from '../kernel/clock.ts';

/**
 * How fast to send at most: a token bucket. One of the rates has to be there; with both, both hold.
 *
 * @example
 * ```ts
 * import { from } from 'rxjs';
 * import { DatagramSocket, type PaceOptions, sendmmsg } from 'rx-sendmmsg';
 * const pace: PaceOptions = { datagramsPerSecond: 20_000, burst: 64 };
 * const socket = () => DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
 * from(['a', 'b', 'c']).pipe(sendmmsg(socket, { pace })).subscribe();
 * ```
 * @see {@link https://man7.org/linux/man-pages/man8/tc-fq.8.html | tc-fq(8)}, which paces in the kernel (SO_MAX_PACING_RATE)
 */
export interface PaceOptions {
  /** Most datagrams a second, above 0. */
  readonly datagramsPerSecond?: number | undefined;
  /** Most payload bytes a second, above 0; headers are not counted. */
  readonly bytesPerSecond?: number | undefined;
  /**
   * Most datagrams that leave at once, after a pause; in bytes, as many as so many of the largest datagram. Default: what
   * 10 ms are worth, at least one datagram.
   */
  readonly burst?: number | undefined;
}

/** The messages that are to go next, by their position. */
export interface Messages {
  /** Whether the first so many are all that is queued. */
  isAll(count: number): boolean;
  /** Bytes of the largest datagram so far. */
  readonly largest: number;
  /** Datagrams of a message. */
  segmentsAt(index: number): number;
  /** Payload bytes of a message. */
  lengthAt(index: number): number;
}

/** What a burst is worth where none is set: 1 % of a second. */
const BURST_MS = 10;
/** How late a timer may be without a loss: what a longer stall of the event loop costs must not go as one burst. */
const LATE_MS = 20;
/** What a segmented message may be worth at most: timers are no finer, and a bucket has room for many. */
const MESSAGE_MS = 1;
/** Longest wait before the bucket is looked at again. */
const MAX_WAIT_MS = 60_000;
/** Sums of fractions are a little off: what is missing by so little is there. */
const EPSILON = 1e-6;

export class Pace {
  /** Most datagrams and bytes of a segmented message: it must not be worth more than the bucket holds. */
  readonly maxSegments: number;
  readonly maxSegmentedBytes: number;
  readonly #clock: Clock;
  readonly #datagrams: Bucket;
  readonly #bytes: Bucket;
  #at: number;
  /** Milliseconds from the last look until the first who waits may go: what flows in later is kept for them. */
  #due = Infinity;
  #isLifted = false;
  /** Who waits, in the order in which they are served. */
  readonly #line: Messages[] = [];

  constructor({ datagramsPerSecond, bytesPerSecond, burst }: PaceOptions, clock: Clock) {
    this.#clock = clock;
    this.#at = clock.now();
    this.#datagrams = new Bucket(datagramsPerSecond, burst);
    this.#bytes = new Bucket(bytesPerSecond, burst);
    this.maxSegments = Math.max(1, Math.floor(Math.min(burst ?? Infinity, this.#datagrams.worthOf(MESSAGE_MS))));
    this.maxSegmentedBytes = this.#bytes.worthOf(MESSAGE_MS);
  }

  /** How many of the first `span` messages may go now: they are paid for. With 0, wait {@link msUntilNext}. */
  grant(messages: Messages, span: number): number {
    if (this.#isLifted) return span;
    this.#refill(messages.largest);
    const isTurn = this.#line.length === 0 || this.#line[0] === messages;
    const count = isTurn ? this.#pay(messages, span) : 0;
    if (count > 0) this.leave(messages);
    else if (!this.#line.includes(messages)) this.#line.push(messages);
    const [first] = this.#line;
    if (first !== undefined) this.#due = this.#msUntil(first, 0);
    else if (count < span) this.#due = this.#msUntil(messages, count);
    else this.#due = messages.isAll(count) ? Infinity : 0;
    return count;
  }

  /** Pays back what was granted and not taken: the messages from `taken` to `granted`. Before they move. */
  repay(messages: Messages, taken: number, granted: number): void {
    for (let index = taken; index < granted; index++) {
      this.#datagrams.take(-messages.segmentsAt(index));
      this.#bytes.take(-messages.lengthAt(index));
    }
  }

  /** Milliseconds until the head may go, at least 1: no timer is finer. */
  msUntilNext(messages: Messages): number {
    return Math.min(Math.ceil(Math.max(this.#msUntil(messages, 0), MESSAGE_MS) - EPSILON), MAX_WAIT_MS);
  }

  /** Someone who waited has nothing to send any more. */
  leave(messages: Messages): void {
    const place = this.#line.indexOf(messages);
    if (place >= 0) this.#line.splice(place, 1);
  }

  /** From here on everything may go: there is nobody left to be spared. */
  lift(): void {
    this.#isLifted = true;
  }

  #refill(largest: number): void {
    const now = this.#clock.now();
    const elapsed = Math.max(0, now - this.#at);
    this.#at = now;
    this.#bytes.unit = Math.max(this.#bytes.unit, largest);
    const onTime = Math.min(elapsed, this.#due);
    this.#datagrams.refill(onTime, elapsed - onTime);
    this.#bytes.refill(onTime, elapsed - onTime);
  }

  #msUntil(messages: Messages, index: number): number {
    const datagrams = this.#datagrams.msUntil(messages.segmentsAt(index));
    return Math.max(datagrams, this.#bytes.msUntil(messages.lengthAt(index)), 0);
  }

  #pay(messages: Messages, span: number): number {
    let count = 0;
    while (count < span) {
      const segments = messages.segmentsAt(count);
      const length = messages.lengthAt(count);
      if (!this.#datagrams.has(segments) || !this.#bytes.has(length)) break;
      this.#datagrams.take(segments);
      this.#bytes.take(length);
      count++;
    }
    return count;
  }
}

/** A bucket of datagrams or of bytes; without a rate it is never empty. */
class Bucket {
  /** The largest datagram: 1, or its bytes. A full bucket holds at least one. */
  unit = 1;
  /** What was taken out and has not flowed back; below 0 it holds more than `burst`, for those who waited. */
  #taken = 0;
  readonly #perMs: number;
  readonly #burst: number | undefined;

  constructor(perSecond: number | undefined, burst: number | undefined) {
    this.#perMs = perSecond === undefined ? Infinity : perSecond / 1000;
    this.#burst = burst;
  }

  worthOf(ms: number): number {
    return this.#perMs * ms;
  }

  has(amount: number): boolean {
    // A full bucket lets go even of what is more than it holds: it owes the rest.
    return this.#perMs === Infinity || Math.min(amount, this.#depth) + this.#taken <= this.#depth + EPSILON;
  }

  take(amount: number): void {
    if (this.#perMs !== Infinity) this.#taken += amount;
  }

  /** What flows in until the head was due, and what flows in later, in milliseconds. */
  refill(onTime: number, late: number): void {
    if (this.#perMs === Infinity) return;
    if (onTime > 0) this.#taken = Math.max(this.#taken - onTime * this.#perMs, 0);
    const spare = Math.max(0, this.unit + this.worthOf(LATE_MS) - this.#depth);
    if (late > 0) this.#taken = Math.max(this.#taken - late * this.#perMs, -spare);
  }

  msUntil(amount: number): number {
    if (this.#perMs === Infinity) return 0;
    return (Math.min(amount, this.#depth) + this.#taken - this.#depth) / this.#perMs;
  }

  get #depth(): number {
    return this.#burst === undefined ? Math.max(this.unit, this.worthOf(BURST_MS)) : this.#burst * this.unit;
  }
}
