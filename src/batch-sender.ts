/**
 * The sender: when to flush (count, bytes, time), what to wait for when the kernel will not take more, what to do when
 * the queue is full, and how to end. The operators and streams are thin over it.
 *
 * Invariants: one flush at a time, and one thing waited for at a time (`#hold`). New datagrams only ever queue behind the
 * tail. User code runs at two call-outs, `reader.read` and the observer, and state is looked at anew after each.
 */

import { AF_INET } from './abi.ts';
import { type BatchOptions, type ResolvedBatchOptions, resolveBatchOptions } from './batch-options.ts';
import { type Clock, type Disarm, eventLoopClock, schedulerClock } from './clock.ts';
import type { BatchReport, DatagramLike } from './datagram.ts';
import { DatagramReader } from './datagram-reader.ts';
import { DatagramSocket } from './datagram-socket.ts';
import { type DropReason, SenderCounters, type SenderStats } from './diagnostics.ts';
import { ENOBUFS } from './errno.ts';
import { argumentTypeError, argumentValueError, SendmmsgError } from './errors.ts';
import { FlushLoop, type Verdict } from './flush.ts';
import { MmsgRing, nameSizeOf } from './mmsg-ring.ts';
import type { Transport } from './transport.ts';

/**
 * Who is told what a {@link BatchSender} does; an RxJS `Subscriber<BatchReport>` is one.
 *
 * @example
 * ```ts
 * import { BatchSender, DatagramSocket, type BatchObserver } from 'rx-sendmmsg';
 * const log: BatchObserver = { next: (report) => console.log(report.sent) };
 * const sender = new BatchSender(DatagramSocket.open(), {}, log);
 * ```
 * @see {@link https://rxjs.dev/guide/observer | RxJS Observer}
 */
export interface BatchObserver {
  /** A flush that did something. */
  next?(report: BatchReport): void;
  /** The socket failed, or the queue overflowed with `overflow: 'error'`; nothing follows. */
  error?(error: unknown): void;
  /** Everything is accounted for; nothing follows. */
  complete?(): void;
}

// What the sender waits for. Up to SOON it may flush at any time, BLOCKED only when it is told to; HELD and IN_FLIGHT it
// must not.
const IDLE = 0;
const TIMER = 1;
const SOON = 2;
const BLOCKED = 3;
const HELD = 4;
const IN_FLIGHT = 5;

const OPEN = 0;
const CLOSING = 1;
const CLOSED = 2;

/** Wake-ups by POLLOUT without a datagram taken, after which a timer is trusted more. */
const FALSE_WAKES = 2;
const MAX_BLOCKED_MS = 64;
const MAX_SEGMENTED_BYTES_V4 = 65_507;
const MAX_SEGMENTED_BYTES_V6 = 65_527;

/**
 * Queues datagrams and sends them in batches: what is behind the operators, for those who want no stream.
 *
 * The socket stays the caller's: close it after the sender.
 *
 * @example
 * ```ts
 * import { BatchSender, DatagramSocket } from 'rx-sendmmsg';
 * const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 8125 } });
 * const sender = new BatchSender(socket, { batchSize: 256 });
 * for (let i = 0; i < 10_000; i++) if (!sender.send(`requests:${i}|c`)) await sender.ready();
 * await sender.close();
 * socket.close();
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 */
export class BatchSender {
  readonly #options: ResolvedBatchOptions;
  readonly #observer: BatchObserver;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #ring: MmsgRing;
  readonly #reader: DatagramReader;
  readonly #loop: FlushLoop;
  readonly #counters: SenderCounters;
  readonly #flushAt: number;
  readonly #flushAtBytes: number;
  readonly #isTimed: boolean;
  readonly #leaveTransport: () => void;
  #state = OPEN;
  #hold = IDLE;
  #disarm: Disarm | null = null;
  #disarmDrain: Disarm | null = null;
  #isEmitting = false;
  #falseWakes = 0;
  #blockedMs = 1;
  /** What ends the stream with an error instead of a completion. */
  #failure: { readonly error: unknown } | null = null;
  /** Why what is in flight, if the kernel does not take it, is dropped. */
  #givenUpAs: DropReason | null = null;
  #readyWaiters: (() => void)[] = [];
  #closed: PromiseWithResolvers | null = null;

  /**
   * @param socket - stays open when the sender is closed
   * @param options - see {@link BatchOptions}
   * @param observer - told of each flush, of failure and of completion
   * @throws SendmmsgError for bad options (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`)
   */
  constructor(socket: DatagramSocket, options: BatchOptions = {}, observer: BatchObserver = {}) {
    if (!(socket instanceof DatagramSocket)) throw argumentTypeError('"socket"', 'a DatagramSocket', socket);
    const resolved = resolveBatchOptions(options);
    const transport = DatagramSocket.transportOf(socket);
    this.#options = resolved;
    this.#observer = observer;
    this.#transport = transport;
    this.#clock = resolved.scheduler === undefined ? eventLoopClock : schedulerClock(resolved.scheduler);
    this.#reader = new DatagramReader(transport.family, transport.isConnected);
    this.#ring = new MmsgRing(
      {
        slots: resolved.highWaterMark,
        maxBytes: resolved.highWaterMarkBytes,
        nameSize: nameSizeOf(transport.family, transport.isConnected),
        maxSegments: 1,
        maxSegmentedBytes: transport.family === AF_INET ? MAX_SEGMENTED_BYTES_V4 : MAX_SEGMENTED_BYTES_V6,
      },
      (bytes) => transport.allocate(bytes),
    );
    const sendmmsg = transport.sendmmsg;
    this.#loop = new FlushLoop(this.#ring, {
      sendmmsg: sendmmsg ?? (() => 0),
      takeError: () => transport.takeError(),
    });
    this.#counters = new SenderCounters(transport.backend, this.#ring, this.#loop);
    this.#flushAt = Math.min(resolved.batchSize, resolved.highWaterMark);
    this.#flushAtBytes = Math.min(resolved.batchBytes, resolved.highWaterMarkBytes);
    this.#isTimed = resolved.maxAgeMs !== Infinity;
    this.#leaveTransport = transport.onClose(() => this.#onTransportClosed());
  }

  /**
   * Queues one datagram. A bad one is a rejection in the next report, not an exception.
   *
   * @returns whether there is room for another; if not, wait for {@link ready}, or the `overflow` option decides
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed; after a failure, the error that ended it
   */
  send(datagram: DatagramLike): boolean {
    if (this.#state !== OPEN) throw this.#failure?.error ?? notRunning();
    const ring = this.#ring;
    let refusal: { readonly error: unknown } | null = null;
    try {
      this.#reader.read(datagram);
    } catch (error) {
      refusal = { error };
    }
    // Accepted only now: a getter of the datagram may have sent another one first, looked at the stats, or closed.
    const sequence = this.#counters.accepted++;
    const now = this.#isTimed ? this.#clock.now() : 0;
    if (refusal !== null) this.#reject(sequence, refusal.error);
    else if (this.#state !== OPEN) this.#counters.drop(1, 'teardown');
    else if (!this.#push(sequence, now)) this.#overflow(sequence, now);
    // Rejections wait in memory, too: no more of them than datagrams.
    if (this.#loop.rejected.length >= ring.capacity) this.#emit();
    if (this.#hold <= TIMER) {
      if (ring.datagrams >= this.#flushAt || ring.bytes >= this.#flushAtBytes) this.#flushOrSoon();
      else if (this.#hold === IDLE) this.#armFlush();
    }
    return this.#hasRoom;
  }

  /** Resolves when there is room for more: the queue is at most half full. Rejects if the sender fails. */
  ready(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure.error);
    if (this.#state !== OPEN || this.#hasRoom) return Promise.resolve();
    if (this.#hold <= TIMER) this.#flushOrSoon();
    if (this.#isHalfEmpty) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#readyWaiters.push(() => (this.#failure === null ? resolve() : reject(this.#failure.error)));
    });
  }

  /**
   * Sends what is queued, now, as far as the kernel takes it without waiting.
   *
   * @returns what this flush did; the observer gets the same report
   */
  flush(): BatchReport {
    const collected: BatchReport[] = [];
    if (this.#state !== CLOSED && this.#hold <= BLOCKED) this.#flush(collected);
    return collected[0] ?? nothingDone(this.#ring.datagrams);
  }

  /** Sends what is queued, waiting for the kernel up to `drainTimeoutMs`; then drops the rest. Rejects if it failed. */
  close(): Promise<void> {
    if (this.#closed === null) {
      this.#closed = withResolvers();
      if (this.#state === CLOSED) this.#settleClosed();
      else this.end();
    }
    return this.#closed.promise;
  }

  /** {@link close}, told by the observer's `complete` (in this very call, if nothing has to be waited for). */
  end(): void {
    if (this.#state !== OPEN) return;
    this.#state = CLOSING;
    const { drainTimeoutMs } = this.#options;
    if (this.#hold <= SOON) this.#flush();
    if ((this.#state as number) === CLOSED || this.#finishIfDrained()) return;
    this.#disarmDrain = this.#clock.after(drainTimeoutMs, () => this.#giveUpAs('drainTimeout'));
  }

  /** Ends with an error: one last flush, the rest is dropped and told in a last report, then the observer's `error`. */
  abort(error: unknown): void {
    if (this.#state === CLOSED || this.#failure !== null) return;
    this.#state = CLOSING;
    this.#failure = { error };
    if (this.#hold !== IN_FLIGHT) {
      this.#rest();
      if (this.#transport.sendmmsg === null) this.#launch();
      else this.#runLoop(Number.POSITIVE_INFINITY);
    }
    this.#giveUpAs('failure');
  }

  /** Ends at once and in silence: nothing more is sent or told; what was queued is counted in the diagnostics. */
  destroy(): void {
    if (this.#state === CLOSED) return;
    this.#state = CLOSED;
    this.#release();
    this.#dropQueued('teardown');
    this.#settleClosed();
  }

  /** Whether it was closed, or has failed: `send` throws then. */
  get closed(): boolean {
    return this.#state !== OPEN;
  }

  /** Totals since the sender was made. */
  get stats(): SenderStats {
    return this.#counters.snapshot();
  }

  /** `await using sender = new BatchSender(…)`: {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #hasRoom(): boolean {
    const ring = this.#ring;
    // Of the next datagram only its predecessors' sizes are known: room means room for one as large as the largest.
    return ring.datagrams < ring.capacity && ring.bytes + ring.largest <= ring.maxBytes;
  }

  get #isHalfEmpty(): boolean {
    const { datagrams, capacity, bytes, maxBytes } = this.#ring;
    // Half a queue may be less than one datagram as large as the largest.
    return datagrams <= capacity >>> 1 && bytes <= maxBytes / 2 && this.#hasRoom;
  }

  /** Queues what was read, or rejects it; `false` if there is no room. */
  #push(sequence: number, now: number): boolean {
    try {
      return this.#ring.push(this.#reader, sequence, now);
    } catch (error) {
      this.#reject(sequence, error);
      return true;
    }
  }

  #reject(sequence: number, error: unknown): void {
    const reason =
      error instanceof SendmmsgError ? error : argumentValueError('datagram', 'could not be read', undefined, error);
    this.#loop.rejected.push(Object.freeze({ sequence, ...this.#reader.identify(), error: reason }));
  }

  /** The queue is full: send if that is allowed, else do as the options say. */
  #overflow(sequence: number, now: number): void {
    if (this.#hold <= SOON && this.#transport.sendmmsg !== null) {
      this.#rest();
      this.#settle(this.#runLoop());
      if (this.#state !== OPEN) this.#counters.drop(1, 'failure');
      else if (!this.#push(sequence, now)) this.#makeRoom(sequence, now);
      this.#emit();
    } else this.#makeRoom(sequence, now);
  }

  #makeRoom(sequence: number, now: number): void {
    const { overflow, highWaterMark, highWaterMarkBytes } = this.#options;
    if (overflow === 'error') {
      this.#counters.drop(1, 'overflow');
      const limits = `highWaterMark ${highWaterMark}, highWaterMarkBytes ${highWaterMarkBytes}`;
      this.abort(new SendmmsgError(`The queue is full (${limits})`, { code: 'ENOBUFS', errno: ENOBUFS }));
    } else if (overflow === 'drop-newest' || this.#hold === IN_FLIGHT) {
      this.#counters.drop(1, 'overflow'); // what is in flight can no longer be taken back
    } else {
      do {
        this.#ring.release(1);
        this.#counters.drop(1, 'overflow');
      } while (!this.#push(sequence, now));
    }
  }

  /** A trigger fired: flush, or, inside an observer's call-out, at the end of this turn, so that no echo can spin. */
  #flushOrSoon(): void {
    if (!this.#isEmitting) return this.#flush();
    this.#rest();
    this.#arm(SOON, 0);
  }

  #flush(collected?: BatchReport[]): void {
    this.#rest();
    if (this.#transport.sendmmsg === null) this.#launch();
    else this.#settle(this.#runLoop());
    this.#emit(collected);
  }

  #runLoop(budget?: number): Verdict {
    if (this.#isTimed) this.#dropAged();
    return this.#loop.run(budget);
  }

  /** Where sending cannot be done inline: hand over a span and go on when the answer is there. */
  #launch(): void {
    if (this.#isTimed) this.#dropAged();
    if (this.#ring.slots === 0) return;
    const vlen = this.#loop.ask();
    this.#hold = IN_FLIGHT;
    this.#transport.sendmmsgLater(this.#ring, vlen, (answer) => this.#land(this.#loop.settle(vlen, answer)));
  }

  /** What was handed over has been answered. */
  #land(verdict: Verdict): void {
    this.#hold = IDLE;
    if (this.#state === CLOSED) return this.#dropQueued('teardown');
    // Of an error's last flush and of a drain, all that goes without waiting still goes.
    if (verdict === 'again' && this.#givenUpAs !== 'drainTimeout') {
      this.#launch();
      // A source that is never quite caught up with is told of its datagrams, too.
      if (this.#loop.syscalls >= this.#flushAt) this.#emit();
      return;
    }
    if (this.#givenUpAs !== null) return this.#giveUpAs(this.#givenUpAs);
    this.#settle(verdict);
    this.#emit();
  }

  /** Waits for what the loop wants. */
  #settle(verdict: Verdict): void {
    if (this.#loop.sent > 0) {
      this.#falseWakes = 0;
      this.#blockedMs = 1;
    }
    switch (verdict) {
      case 'again':
      case 'drained':
        return;
      case 'yield':
        return this.#arm(SOON, 0);
      case 'backoff':
        return this.#arm(HELD, this.#loop.backoffMs);
      case 'blocked':
        return this.#waitWritable();
      case 'fatal':
        return this.#die(this.#loop.fatalError);
    }
  }

  #waitWritable(): void {
    if (this.#falseWakes++ < FALSE_WAKES) {
      const stop = this.#transport.waitWritable(() => this.#resume());
      if (stop !== null) {
        this.#hold = BLOCKED;
        this.#disarm = stop;
        return;
      }
    }
    this.#arm(BLOCKED, this.#blockedMs);
    this.#blockedMs = Math.min(this.#blockedMs * 2, MAX_BLOCKED_MS);
  }

  #armFlush(): void {
    if (this.#state === OPEN && (this.#ring.datagrams > 0 || this.#counters.hasNews)) {
      this.#arm(TIMER, this.#options.flushAfterMs);
    }
  }

  #arm(hold: number, ms: number): void {
    this.#hold = hold;
    this.#disarm = this.#clock.after(ms, () => this.#resume());
  }

  #resume(): void {
    this.#disarm = null;
    this.#flush();
  }

  /** Waits for nothing any more. */
  #rest(): void {
    this.#disarm?.();
    this.#disarm = null;
    if (this.#hold !== IN_FLIGHT) this.#hold = IDLE;
  }

  /** Tells the observer what has happened, and then looks at what it has done in turn. */
  #emit(collected?: BatchReport[]): void {
    // An emission under way tells what happened inside it, unless the caller asked for the report.
    if (this.#isEmitting && collected === undefined) return;
    const isOutermost = !this.#isEmitting;
    this.#isEmitting = true;
    // One report: what the observer adds to it (a rejection, an overflow) is told by the next, so that no echo can spin.
    if (this.#counters.hasNews && this.#state !== CLOSED) this.#report(collected);
    if (!isOutermost) return;
    this.#isEmitting = false;
    if (this.#readyWaiters.length > 0 && this.#isHalfEmpty) this.#wakeReady();
    if (this.#finishIfDrained()) return;
    if (this.#hold === IDLE) this.#armFlush();
  }

  #report(collected?: BatchReport[]): void {
    const report = this.#counters.takeReport();
    collected?.push(report);
    // A subscriber of the diagnostics may have destroyed the sender.
    if (this.#state !== CLOSED) callOut(() => this.#observer.next?.(report));
  }

  #dropAged(): void {
    const ring = this.#ring;
    const oldest = this.#clock.now() - this.#options.maxAgeMs;
    while (ring.datagrams > 0 && ring.headQueuedAt() < oldest) {
      ring.release(1);
      this.#counters.drop(1, 'age');
    }
  }

  /** Drops all that is queued, and ends; what is in flight is waited for first. */
  #giveUpAs(reason: DropReason): void {
    this.#givenUpAs = reason;
    if (this.#hold === IN_FLIGHT) return;
    this.#dropQueued(reason);
    this.#finishIfDrained();
  }

  #dropQueued(reason: DropReason): void {
    if (this.#hold === IN_FLIGHT) return;
    const { datagrams } = this.#ring;
    if (datagrams > 0) {
      this.#ring.release(datagrams);
      this.#counters.drop(datagrams, reason);
    }
    if (reason === 'teardown') this.#counters.publishClose();
  }

  #onTransportClosed(): void {
    if (this.#state === CLOSED || (this.#ring.datagrams === 0 && this.#state === OPEN)) return;
    if (this.#hold !== IN_FLIGHT) this.#flush(); // its answer is EBADF
  }

  #die(error: unknown): void {
    this.#state = CLOSING;
    this.#failure = { error };
    this.#dropQueued('failure');
  }

  /** Ends, if closing and nothing is left to wait for (an emission under way does it when it is done). */
  #finishIfDrained(): boolean {
    if (this.#state !== CLOSING || this.#isEmitting || this.#hold === IN_FLIGHT || this.#ring.datagrams > 0)
      return false;
    this.#finish();
    return true;
  }

  #finish(): void {
    if (this.#state === CLOSED) return;
    this.#rest();
    if (this.#counters.hasNews && !this.#isEmitting) {
      this.#isEmitting = true;
      this.#report();
      this.#isEmitting = false;
      if ((this.#state as number) === CLOSED) return; // unsubscribed by that report
    }
    this.#state = CLOSED;
    this.#release();
    this.#counters.publishClose();
    this.#settleClosed();
    const failure = this.#failure;
    callOut(() => (failure === null ? this.#observer.complete?.() : this.#observer.error?.(failure.error)));
  }

  /** Lets go of every timer, poll and listener. */
  #release(): void {
    this.#rest();
    this.#disarmDrain?.();
    this.#disarmDrain = null;
    this.#leaveTransport();
    this.#reader.clear();
  }

  #wakeReady(): void {
    const waiters = this.#readyWaiters;
    this.#readyWaiters = [];
    for (const wake of waiters) wake();
  }

  #settleClosed(): void {
    this.#wakeReady();
    if (this.#closed === null) return;
    if (this.#failure === null) this.#closed.resolve();
    else this.#closed.reject(this.#failure.error);
  }
}

interface PromiseWithResolvers {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** `Promise.withResolvers`, which Node 20 has not. */
function withResolvers(): PromiseWithResolvers {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** Calls the observer. What it throws is thrown outside, as RxJS does it: no flush and no end may stop half-way. */
function callOut(call: () => void): void {
  try {
    call();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

function nothingDone(requeued: number): BatchReport {
  return Object.freeze({ sent: 0, bytes: 0, syscalls: 0, requeued, dropped: 0, rejected: Object.freeze([]) });
}

function notRunning(): SendmmsgError {
  return new SendmmsgError('Not running', { code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
}
