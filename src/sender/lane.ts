/**
 * A lane: one queue on its way to the kernel, the loop that flushes it, and the one thing that it waits for.
 *
 * A sender has one lane, or, on the thread pool, several, each with a flush in flight of its own; a destination always
 * takes the same lane, so its order holds. What a lane does when it may go on again is its owner's business.
 */
import type { Clock, Disarm } from '../kernel/clock.ts';
import { EAGAIN } from '../kernel/errno.ts';
import type { Arena } from '../kernel/libc.ts';
import { Batch, nameSizeOf } from '../queue/batch.ts';
import { MAX_SEGMENTED_BYTES, MAX_SEGMENTS } from '../queue/gso.ts';
import { DatagramQueue } from '../queue/queue.ts';
import type { Transport } from '../socket/transport.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import { FlushLoop, type FlushOptions, type Verdict } from './flush.ts';
import type { Pace } from './pace.ts';

/** Free to flush at any time. */
export const FREE = 0;
/** The kernel is full: only when it is writable, or when told to. */
export const BLOCKED = 1;
/** The kernel is short of memory, or the pace is kept: not before the timer. */
export const DELAYED = 2;
/** Handed over, and not answered yet: nothing of it can be taken back. */
export const IN_FLIGHT = 3;

/** Wake-ups by POLLOUT without a datagram taken, after which a timer is trusted more. */
const FALSE_WAKES = 2;
const MAX_BLOCKED_MS = 64;

/** Who is told when a lane has something to say. */
export interface LaneOwner {
  /** Datagrams may be dropped for their age first. */
  beforeFlush(lane: Lane): void;
  /** A wait is over: flush, and tell. */
  onWaitOver(lane: Lane): void;
  /** What was in flight has been answered, and some of it taken or not; `verdict` has not been acted upon. */
  onAnswered(lane: Lane, verdict: Verdict, hasTaken: boolean): void;
  /** The budget of this turn is spent. */
  onBudgetSpent(): void;
  /** The socket itself has failed. */
  onFailed(error: unknown): void;
}

/** What the lanes of a sender share. */
export interface LaneContext {
  readonly transport: Transport;
  readonly clock: Clock;
  /** How fast all lanes together may send; `null`: as fast as they can. */
  readonly pace: Pace | null;
  /** Of every call: MSG_DONTROUTE, MSG_CONFIRM. */
  readonly flags: number;
  /** Whether a flush is done when the call returns; not on the thread pool, nor through node:dgram. */
  readonly isInline: boolean;
  readonly owner: LaneOwner;
}

export class Lane {
  readonly queue: DatagramQueue;
  readonly batch: Batch;
  readonly loop: FlushLoop;
  /** What it waits for: {@link FREE}, {@link BLOCKED}, {@link DELAYED} or {@link IN_FLIGHT}. */
  state: number = FREE;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #pace: Pace | null;
  readonly #flags: number;
  readonly #isInline: boolean;
  readonly #owner: LaneOwner;
  /** Whether it is the pace that holds it back, and not the kernel. */
  isPaced: boolean = false;
  #disarm: Disarm | null = null;
  /** The timer of destinations that are full. */
  #disarmFull: Disarm | null = null;
  #fullMs = 1;
  #falseWakes = 0;
  #blockedMs = 1;
  #waitedMs = 0;
  /** Books the answer to what is in flight. */
  #answer: ((answer: number) => void) | null = null;
  #isAbandoned = false;
  readonly #isWanted = (): boolean => !this.#isAbandoned;
  /** When the wait for the kernel began; `null` where there is none. */
  #waitingSince: number | null = null;

  constructor(options: ResolvedBatchOptions, usesGso: boolean, context: LaneContext) {
    const { transport, clock, pace, flags } = context;
    const allocate = (bytes: number): Arena => transport.allocate(bytes);
    const queue = new DatagramQueue(
      {
        capacity: options.highWaterMark,
        maxBytes: options.highWaterMarkBytes,
        packing: options.pack,
        byKey: options.conflateBy !== undefined,
        byDestination: options.order === 'destination',
      },
      allocate,
    );
    const layout = {
      nameSize: nameSizeOf(transport.family, transport.isConnected),
      maxSegments: usesGso ? Math.min(MAX_SEGMENTS, pace?.maxSegments ?? MAX_SEGMENTS) : 1,
      maxSegmentedBytes: Math.min(MAX_SEGMENTED_BYTES, pace?.maxSegmentedBytes ?? MAX_SEGMENTED_BYTES),
    };
    const batch = new Batch(queue, layout, usesGso ? transport.latch : null, allocate);
    const mostInFlight = transport.sendmmsg === null ? ONE_BY_ONE : options.offload ? halfOf(options) : undefined;
    const mostRejectedBytes = options.highWaterMarkBytes;
    this.queue = queue;
    this.batch = batch;
    this.loop = new FlushLoop(queue, batch, transport, { flags, mostRejectedBytes, mostInFlight, pace, clock });
    this.#transport = transport;
    this.#clock = clock;
    this.#pace = pace;
    this.#flags = flags;
    this.#isInline = context.isInline;
    this.#owner = context.owner;
  }

  /** Milliseconds, ever, that it has waited for the kernel; of a wait under way, up to now. */
  get waitedMs(): number {
    return this.#waitingSince === null ? this.#waitedMs : this.#waitedMs + this.#clock.now() - this.#waitingSince;
  }

  /** Sends what is queued as far as it goes; inline, or by handing over the first span. */
  flush(budget?: number): void {
    this.stopWaiting();
    this.#owner.beforeFlush(this);
    if (this.#isInline) this.waitFor(this.loop.run(budget));
    else this.#handOver();
  }

  /** Waits for what the loop wants. */
  waitFor(verdict: Verdict): void {
    if (this.loop.sent > 0) this.#hasMoved();
    switch (verdict) {
      case 'drained':
        this.#fullMs = 1;
        return;
      case 'again':
        return;
      case 'yield':
        return this.#owner.onBudgetSpent();
      case 'backoff':
        this.#waitingSince = this.#clock.now();
        return this.#wait(DELAYED, this.loop.backoffMs);
      case 'paced':
        this.isPaced = true;
        return this.#wait(DELAYED, this.loop.paceMs);
      case 'blocked':
        if (this.batch.hasFull) return this.#waitForFull();
        this.#waitingSince = this.#clock.now();
        return this.#waitWritable();
      case 'fatal':
        return this.#owner.onFailed(this.loop.fatalError);
    }
  }

  /** Waits for nothing any more, unless something is in flight: that cannot be called back. */
  stopWaiting(): void {
    this.#disarm?.();
    this.#disarm = null;
    if (this.#disarmFull === null) this.#endWait();
    this.isPaced = false;
    if (this.state !== IN_FLIGHT) this.state = FREE;
  }

  /**
   * Books what is in flight as not taken, where that may never be answered: libuv tries a datagram again and again that the kernel
   * never has memory for (ENOBUFS). It may still go out, as long as the socket is open; nothing may be sent in its place.
   */
  giveUpFlight(): void {
    this.#answer?.(-EAGAIN);
  }

  /** Destinations that were full are tried again with the next flush. */
  tryFull(): void {
    this.#disarmFull?.();
    this.#disarmFull = null;
    this.batch.tryFull();
    this.#endWait();
  }

  /** The end: waits for nothing, and of what is in flight nothing more is sent than cannot be called back. */
  abandon(): void {
    this.stopWaiting();
    this.#disarmFull?.();
    this.#disarmFull = null;
    this.#isAbandoned = true;
    this.loop.detach();
  }

  /** The kernel took something: the next time that it is full, what was learnt by waiting is forgotten. */
  #hasMoved(): void {
    this.#falseWakes = 0;
    this.#blockedMs = 1;
  }

  #handOver(): void {
    if (this.queue.datagrams === 0) return this.#pace?.leave(this.batch);
    const vlen = this.loop.ask();
    if (vlen === 0) return this.waitFor(this.loop.whyNone);
    this.state = IN_FLIGHT;
    this.queue.isInFlight = true;
    const answered = (answer: number): void => {
      if (this.#answer !== answered) return; // it was given up
      this.#answer = null;
      this.state = FREE;
      this.queue.isInFlight = false;
      if (answer > 0) this.#hasMoved();
      this.#owner.onAnswered(this, this.loop.book(vlen, answer), answer > 0);
    };
    this.#answer = answered;
    this.#transport.sendmmsgLater(this.batch, vlen, this.#flags, answered, this.#isWanted);
  }

  #endWait(): void {
    if (this.#waitingSince === null) return;
    this.#waitedMs = this.waitedMs;
    this.#waitingSince = null;
  }

  /** Some destinations are full, which only a timer tells the end of; the lane itself is free for all others. */
  #waitForFull(): void {
    if (this.#disarmFull !== null) return;
    this.#waitingSince ??= this.#clock.now();
    this.#disarmFull = this.#clock.after(this.#fullMs, () => {
      this.tryFull();
      this.#resume();
    });
    this.#fullMs = Math.min(this.#fullMs * 2, MAX_BLOCKED_MS);
  }

  #waitWritable(): void {
    if (this.#falseWakes++ < FALSE_WAKES) {
      const stop = this.#transport.waitWritable(() => this.#resume());
      if (stop !== null) {
        this.state = BLOCKED;
        this.#disarm = stop;
        return;
      }
    }
    this.#wait(BLOCKED, this.#blockedMs);
    this.#blockedMs = Math.min(this.#blockedMs * 2, MAX_BLOCKED_MS);
  }

  #wait(state: number, ms: number): void {
    this.state = state;
    this.#disarm = this.#clock.after(ms, () => this.#resume());
  }

  #resume(): void {
    this.#disarm = null;
    this.#owner.onWaitOver(this);
  }
}

/** What node:dgram can do: asked for more, each call would stop short, as if something were wrong with the next datagram. */
const ONE_BY_ONE = { datagrams: 1, bytes: Number.POSITIVE_INFINITY } as const;

/**
 * While a call is out on half of the queue, the source fills the other half. Were the whole queue in flight, source and kernel
 * would wait for each other in turn.
 */
function halfOf({
  batchSize,
  highWaterMark,
  highWaterMarkBytes,
}: ResolvedBatchOptions): NonNullable<FlushOptions['mostInFlight']> {
  return { datagrams: Math.max(batchSize, highWaterMark / 2), bytes: highWaterMarkBytes / 2 };
}
