/**
 * When the queues of a sender are flushed (by count, bytes, time), what the observer is told of it, and how it all ends.
 * What goes into the queues is `sender.ts`; what a lane of them waits for is `lane.ts`.
 *
 * Invariants: nothing is flushed beside a flush in flight or a wait, and a retry timer and the flush timer never run side by
 * side, but for that of destinations that are full, which the others do not wait for. The observer is user code: state is looked at anew after each call-out.
 */
import { MSG_CONFIRM, MSG_DONTROUTE } from '../kernel/abi.ts';
import { callOut, type PromiseWithResolvers, withResolvers } from '../kernel/call-out.ts';
import { type Clock, type Disarm, schedulerClock } from '../kernel/clock.ts';
import { unavailableError } from '../kernel/errors.ts';
import type { BatchReport } from '../message/datagram.ts';
import type { DatagramReader } from '../message/datagram-reader.ts';
import { laneOf as numberOfLane } from '../message/sockaddr.ts';
import { isGsoAllowed } from '../queue/gso.ts';
import type { DatagramQueue } from '../queue/queue.ts';
import type { Transport } from '../socket/transport.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import { type DropReason, SenderCounters } from './diagnostics.ts';
import type { Verdict } from './flush.ts';
import { BLOCKED, DELAYED, FREE, IN_FLIGHT, Lane, type LaneOwner } from './lane.ts';
import { Pace } from './pace.ts';

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

// The flush timer: not armed; armed for `flushAfterMs`; armed for the end of this turn, whatever comes until then.
export const NONE = 0;
const TIMER = 1;
const SOON = 2;

// How full the queue may be, as a share, when those who wait for room are woken, and when `pressure` is taken back. With half of
// the queue in flight, waking at half would leave the source idle until all of that is answered.
const READY = 0.75;
const RELIEVED = 0.5;

export const OPEN = 0;
const CLOSING = 1;
export const CLOSED = 2;

const datagramsOf = (queue: DatagramQueue): number => queue.datagrams;
const heldBackOf = (queue: DatagramQueue): number => queue.heldBack;
const packedOf = (queue: DatagramQueue): number => queue.packed;
const conflatedOf = (queue: DatagramQueue): number => queue.conflated;
const exactBytesOf = (queue: DatagramQueue): number => {
  queue.commit();
  return queue.bytes;
};

function sumOf(lanes: readonly Lane[], of: (queue: DatagramQueue) => number): number {
  let sum = 0;
  for (const { queue } of lanes) sum += of(queue);
  return sum;
}

export class Delivery {
  readonly lanes: readonly Lane[];
  readonly counters: SenderCounters;
  readonly clock: Clock;
  /** Whether a flush is done when the call returns; not on the thread pool, nor through node:dgram. */
  readonly isInline: boolean;
  /** The triggers: datagrams and bytes. */
  readonly flushAt: number;
  readonly flushAtBytes: number;
  /** {@link OPEN}, or on its way to the end. */
  state: number = OPEN;
  /** The flush timer: {@link NONE} if it is not armed. */
  timer: number = NONE;
  /** What ends the stream with an error instead of a completion. */
  failure: { readonly error: unknown } | null = null;
  readonly #options: ResolvedBatchOptions;
  readonly #observer: BatchObserver;
  readonly #transport: Transport;
  readonly #onlyLane: Lane | null;
  readonly #pace: Pace | null;
  readonly #leaveTransport: () => void;
  readonly #onReleased: () => void;
  #disarm: Disarm | null = null;
  #disarmDrain: Disarm | null = null;
  /** When the kernel last took something, or the pace let something go, once it is closing. */
  #movedAt = 0;
  #isEmitting = false;
  /** Whether the socket has failed: nothing more is sent then. */
  #isFatal = false;
  /** Why what is in flight, if the kernel does not take it, is dropped. */
  #givenUpAs: DropReason | null = null;
  /** What `pressure` was told last. */
  #isToldFull = false;
  #readyWaiters: (() => void)[] = [];
  #closed: PromiseWithResolvers | null = null;

  /** @param onReleased - called at the end, when nothing is queued any more */
  constructor(transport: Transport, options: ResolvedBatchOptions, observer: BatchObserver, onReleased: () => void) {
    this.#options = options;
    this.#observer = observer;
    this.#transport = transport;
    this.#onReleased = onReleased;
    this.clock = options.scheduler === undefined ? transport.clock : schedulerClock(options.scheduler);
    this.isInline = transport.sendmmsg !== null && !options.offload;
    const pace = options.pace === undefined ? null : new Pace(options.pace, this.clock);
    this.#pace = pace;
    const usesGso = options.gso === 'auto' && transport.supportsGso && isGsoAllowed() && pace?.maxSegments !== 1;
    const flags = (options.dontRoute ? MSG_DONTROUTE : 0) | (options.confirm ? MSG_CONFIRM : 0);
    if (flags !== 0 && !transport.takesFlags) throw unavailableError('"options.dontRoute" or "options.confirm"');
    const context = { transport, clock: this.clock, pace, flags, isInline: this.isInline, owner: this.#laneOwner() };
    this.lanes = Array.from({ length: options.lanes }, () => new Lane(options, usesGso, context));
    this.#onlyLane = options.lanes === 1 ? this.lanes[0]! : null;
    this.counters = new SenderCounters(transport, usesGso, this, options);
    this.flushAt = Math.min(options.batchSize, options.highWaterMark);
    this.flushAtBytes = Math.min(options.batchBytes, options.highWaterMarkBytes);
    this.#leaveTransport = transport.onClose(() => this.#onTransportClosed());
  }

  /** Whether it takes datagrams. */
  get isOpen(): boolean {
    return this.state === OPEN;
  }

  /** Datagrams queued. */
  get queued(): number {
    return sumOf(this.lanes, datagramsOf);
  }

  /** Datagrams, of those, that wait for destinations which are full. */
  get heldBack(): number {
    return sumOf(this.lanes, heldBackOf);
  }

  /** Payload bytes queued. */
  get queuedBytes(): number {
    return sumOf(this.lanes, exactBytesOf);
  }

  /** Datagrams that went into an earlier one, ever; of a line that waits unwritten, this is not certain yet. */
  get packed(): number {
    return sumOf(this.lanes, packedOf);
  }

  /** Datagrams that were replaced, ever. */
  get conflated(): number {
    return sumOf(this.lanes, conflatedOf);
  }

  /** Whether the next datagram will be queued whole, whatever its size: the bytes may be exceeded by one. */
  get hasRoom(): boolean {
    return this.queued < this.#options.highWaterMark && this.queuedBytes < this.#options.highWaterMarkBytes;
  }

  /** Whether so many datagrams, of so many bytes in all, fit within the limits; where not one byte would, no empty one goes in, either. */
  hasRoomFor(datagrams: number, bytes: number): boolean {
    return (
      this.queued + datagrams <= this.#options.highWaterMark &&
      this.queuedBytes + Math.max(bytes, 1) <= this.#options.highWaterMarkBytes
    );
  }

  /** Whether at most this share of the queue is full. */
  isFullTo(share: number): boolean {
    const isDown =
      this.queued <= this.#options.highWaterMark * share &&
      this.queuedBytes <= this.#options.highWaterMarkBytes * share;
    return isDown && this.hasRoom;
  }

  /** Whether any lane waits for nothing. */
  get isAnyFree(): boolean {
    return this.lanes.some(({ state }) => state === FREE);
  }

  /** The lane of what the reader holds: a destination always has the same one. */
  laneOf({ sockaddr, port }: DatagramReader): Lane {
    const { length } = this.lanes;
    if (length === 1) return this.lanes[0]!;
    return this.lanes[numberOfLane(sockaddr, port, length)]!;
  }

  /** Whether all together have room for one more; one lane alone looks after itself. */
  get fits(): boolean {
    const { length } = this.lanes;
    if (length === 1) return true;
    let datagrams = 0;
    let bytes = 0;
    for (let lane = 0; lane < length; lane++) {
      const { queue } = this.lanes[lane]!;
      datagrams += queue.datagrams;
      bytes += queue.bytes;
    }
    // Of texts these bytes are upper bounds, and mostly enough.
    return (datagrams < this.#options.highWaterMark && bytes < this.#options.highWaterMarkBytes) || this.hasRoom;
  }

  /** The queue with the oldest datagram that can be dropped. */
  oldest(): DatagramQueue | undefined {
    let oldest: DatagramQueue | undefined;
    for (const { queue, state } of this.lanes) {
      if (state === IN_FLIGHT || queue.datagrams === 0) continue;
      if (oldest === undefined || queue.headSequence() < oldest.headSequence()) oldest = queue;
    }
    return oldest;
  }

  /** Resolves when there is room for more: a quarter of the queue. Rejects if the sender fails. */
  ready(): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure.error);
    if (this.state !== OPEN || this.hasRoom) return Promise.resolve();
    if (this.timer !== SOON) this.#flushOrSoon();
    if (this.failure !== null) return Promise.reject((this.failure as { error: unknown }).error);
    if (this.isFullTo(READY)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#readyWaiters.push(() => (this.failure === null ? resolve() : reject(this.failure.error)));
    });
  }

  /** Sends what is queued, waiting for the kernel up to `drainTimeoutMs`; then drops the rest. Rejects if it failed. */
  close(): Promise<void> {
    if (this.#closed === null) {
      this.#closed = withResolvers();
      if (this.state === CLOSED) this.#resolveClosed();
      else this.end();
    }
    return this.#closed.promise;
  }

  /** {@link close}, told by the observer's `complete` (in this very call, if nothing has to be waited for). */
  end(): void {
    if (this.state !== OPEN) return;
    this.state = CLOSING;
    this.flush(FREE);
    if ((this.state as number) === CLOSED || this.#finishIfDrained()) return;
    this.#movedAt = this.clock.now();
    this.#watchDrain(this.#options.drainTimeoutMs);
  }

  /** Gives up when the kernel has taken nothing for `drainTimeoutMs`; what the pace holds back is not the kernel's to take. */
  #watchDrain(ms: number, isLastLook: boolean = false): void {
    this.#disarmDrain = this.clock.after(ms, () => {
      const { drainTimeoutMs } = this.#options;
      const paced = this.lanes.filter(({ isPaced }) => isPaced);
      const left = this.#movedAt + drainTimeoutMs - this.clock.now();
      const isInFlight = this.lanes.some(({ state }) => state === IN_FLIGHT);
      if (left > 0) this.#watchDrain(left);
      else if (paced.length > 0) this.#watchDrain(Math.max(...paced.map(({ loop }) => loop.paceMs)) + drainTimeoutMs);
      // The thread pool answers at once, as a rule, and until then nobody can say that the kernel has not taken it. node:dgram waits
      // for room; but its answer may be there already, and come to us in this turn of the event loop, behind the timers.
      else if (isInFlight && !(isLastLook && this.#transport.sendmmsg === null)) this.#watchDrain(1, true);
      else {
        this.#giveUpAs('drainTimeout');
        if (this.state === CLOSING) this.#watchFlights();
      }
    });
  }

  /** What is still in flight then, through node:dgram, has as long again to be answered. */
  #watchFlights(): void {
    this.#disarmDrain = this.clock.after(this.#options.drainTimeoutMs, () => {
      for (const lane of this.lanes) lane.giveUpFlight();
    });
  }

  /** Ends with an error: one last flush, the rest is dropped and told in a last report, then the observer's `error`. */
  abort(error: unknown): void {
    if (this.state === CLOSED || this.failure !== null) return;
    this.state = CLOSING;
    this.failure = { error };
    this.disarmTimer();
    for (const lane of this.lanes) {
      if (lane.state === IN_FLIGHT) continue;
      lane.tryFull();
      lane.flush(Number.POSITIVE_INFINITY);
      lane.stopWaiting();
    }
    this.#giveUpAs('failure');
  }

  /** Ends at once and in silence: nothing more is sent or told; what was queued is counted in the diagnostics. */
  destroy(): void {
    if (this.state === CLOSED) return;
    this.state = CLOSED;
    this.#release();
    this.#dropQueued('teardown');
    this.#resolveClosed();
  }

  /** Does something during which the observer is told nothing. */
  withoutTelling(task: () => void): void {
    const wasEmitting = this.#isEmitting;
    this.#isEmitting = true;
    try {
      task();
    } finally {
      this.#isEmitting = wasEmitting;
    }
  }

  /** The queue is full: asks the source to pause, if it has not been asked already. */
  tellFull(): void {
    if (this.#options.pressure === undefined || this.#isToldFull || this.state === CLOSED) return;
    this.#tellPressure(true);
    // What happened in there was kept quiet.
    this.emit();
  }

  /** Whether somebody waits for room, and there is. */
  #hasRoomToTell(): boolean {
    return (this.#readyWaiters.length > 0 && this.isFullTo(READY)) || this.#isRelieved;
  }

  /** Whether a source that was asked to pause is to go on. */
  get #isRelieved(): boolean {
    return this.#isToldFull && this.state !== CLOSED && this.isFullTo(RELIEVED);
  }

  #tellPressure(isFull: boolean): void {
    this.#isToldFull = isFull;
    // As in any call-out, what it sends is flushed at the end of this turn: a source that starts and stops cannot spin.
    this.withoutTelling(() => callOut(() => this.#options.pressure?.next(isFull)));
  }

  #laneOwner(): LaneOwner {
    return {
      beforeFlush: (lane) => {
        const { latch } = this.#transport;
        if (!latch.isOpen) latch.expire(this.clock.now());
        if (this.#options.maxAgeMs !== Number.POSITIVE_INFINITY) this.#dropAged(lane.queue);
      },
      onWaitOver: (lane) => {
        if (lane.isPaced) this.#movedAt = this.clock.now();
        lane.flush();
        this.emit();
      },
      onAnswered: (lane, verdict, hasTaken) => {
        if (hasTaken && this.state === CLOSING) this.#movedAt = this.clock.now();
        this.#goOn(lane, verdict);
      },
      onBudgetSpent: () => {
        this.disarmTimer();
        this.#arm(SOON, 0);
      },
      onFailed: (error) => this.#die(error),
    };
  }

  /** Flushes if enough is queued, else sees to it that the timer is armed. */
  trigger(): void {
    if (this.timer === SOON || this.state !== OPEN) return;
    if (this.#onlyLane !== null && this.#onlyLane.state !== FREE) return;
    const fresh = this.queued - this.heldBack;
    if (fresh >= this.flushAt || (fresh > 0 && this.queuedBytes >= this.flushAtBytes)) this.#flushOrSoon();
    else if (this.timer === NONE) this.#armFlush();
  }

  /** A trigger fired: flush, or, inside an observer's call-out, at the end of this turn, so that no echo can spin. */
  #flushOrSoon(): void {
    if (!this.#isEmitting) return this.flush(FREE);
    if (!this.isAnyFree) return;
    this.disarmTimer();
    this.#arm(SOON, 0);
  }

  /** Flushes the lanes that wait for nothing, or for nothing more than `wait`. */
  flush(wait: number, collected?: BatchReport[]): void {
    // The end of this turn stays what it is, whatever comes until then: one timer for all batches of a turn.
    if (this.timer !== TIMER || this.#options.flushAfterMs > 0) this.disarmTimer();
    for (const lane of this.lanes) {
      if (wait >= BLOCKED) lane.tryFull();
      if (lane.state <= wait && (lane.queue.datagrams > 0 || lane.state > FREE)) lane.flush();
      if (this.failure !== null) break;
    }
    if (this.timer !== NONE && !this.isAnyFree) this.disarmTimer();
    this.emit(collected);
  }

  /** What was in flight has been answered. */
  #goOn(lane: Lane, verdict: Verdict): void {
    if (this.state === CLOSED) return this.#dropQueued('teardown');
    if (verdict === 'fatal') {
      this.#isFatal = true;
      this.failure ??= { error: lane.loop.fatalError };
    }
    // Of an error's last flush and of a drain, all that goes without waiting still goes.
    if (verdict === 'again' && this.#givenUpAs !== 'drainTimeout' && !this.#isFatal) {
      lane.flush();
      // What the pace holds back would have to be waited for.
      if (lane.state === DELAYED && this.#givenUpAs !== null) return this.#giveUpAs(this.#givenUpAs);
      // A source that is never quite caught up with is told of its datagrams, too, and one that waits for room of that.
      const { sent, rejected, hasRejectedMuch } = lane.loop;
      const isMuch = sent + rejected.length >= this.flushAt || hasRejectedMuch;
      if (lane.state !== IN_FLIGHT || isMuch || this.#hasRoomToTell()) this.emit();
      return;
    }
    if (this.#givenUpAs !== null) return this.#giveUpAs(this.#givenUpAs);
    lane.waitFor(verdict);
    this.emit();
  }

  #armFlush(): void {
    if (this.state !== OPEN) return;
    const hasNews = this.counters.hasNews;
    if (!this.lanes.some(({ state, queue }) => state === FREE && (hasNews || queue.datagrams > queue.heldBack))) return;
    this.#arm(TIMER, this.#options.flushAfterMs);
  }

  #arm(timer: number, ms: number): void {
    this.timer = timer;
    this.#disarm = this.clock.after(ms, () => {
      this.#disarm = null;
      this.timer = NONE;
      this.flush(FREE);
    });
  }

  disarmTimer(): void {
    this.#disarm?.();
    this.#disarm = null;
    this.timer = NONE;
  }

  /** Tells the observer what has happened, and then looks at what it has done in turn. */
  emit(collected?: BatchReport[]): void {
    // An emission under way tells what happened inside it, unless the caller asked for the report.
    if (this.#isEmitting && collected === undefined) return;
    const isOutermost = !this.#isEmitting;
    this.#isEmitting = true;
    // One report: what the observer adds to it (a rejection, an overflow) is told by the next, so that no echo can spin.
    if (this.counters.hasNews && this.state !== CLOSED) this.#report(collected);
    if (!isOutermost) return;
    this.#isEmitting = false;
    if (this.#readyWaiters.length > 0 && this.isFullTo(READY)) this.#wakeReady();
    if (this.#isRelieved) this.#tellPressure(false);
    if (this.#finishIfDrained()) return;
    if (this.timer !== NONE) return;
    // Filled and emptied again in that very call-out: told in the next turn, so that no echo can spin.
    if (this.#isRelieved) this.#arm(SOON, 0);
    else this.#armFlush();
  }

  #report(collected?: BatchReport[]): void {
    const report = this.counters.takeReport();
    if (report.sent > 0 && this.state === CLOSING) this.#movedAt = this.clock.now();
    collected?.push(report);
    // A subscriber of the diagnostics may have destroyed the sender.
    if (this.state !== CLOSED) callOut(() => this.#observer.next?.(report));
  }

  #dropAged(queue: DatagramQueue): void {
    // Queued in whole milliseconds, so up to one later than it says: none is dropped before its time.
    const oldest = this.clock.now() - this.#options.maxAgeMs - 1;
    while (queue.datagrams > 0 && queue.headQueuedAt() <= oldest) {
      queue.drop(1);
      this.counters.drop(1, 'age');
    }
  }

  /** Drops all that is queued, and ends; what is in flight is waited for first. */
  #giveUpAs(reason: DropReason): void {
    this.#givenUpAs = reason;
    this.#dropQueued(reason);
    this.#finishIfDrained();
  }

  #dropQueued(reason: DropReason): void {
    for (const { queue, state } of this.lanes) {
      if (state === IN_FLIGHT) continue;
      queue.commit(); // lines that waited unwritten may turn out to need datagrams of their own
      this.counters.drop(queue.datagrams, reason);
      queue.drop(queue.datagrams);
    }
    if (reason === 'teardown' && this.queued === 0) this.counters.publishClose();
  }

  #onTransportClosed(): void {
    if (this.state === CLOSED || (this.queued === 0 && this.state === OPEN)) return;
    this.#pace?.lift();
    this.flush(DELAYED); // the answer is EBADF
  }

  #die(error: unknown): void {
    this.state = CLOSING;
    this.#isFatal = true;
    this.failure ??= { error };
    this.#givenUpAs ??= 'failure';
    this.#dropQueued('failure');
  }

  /** Ends, if closing and nothing is left to wait for (an emission under way does it when it is done). */
  #finishIfDrained(): boolean {
    if (this.state !== CLOSING || this.#isEmitting || this.queued > 0) return false;
    this.#finish();
    return true;
  }

  #finish(): void {
    if (this.state === CLOSED) return;
    this.disarmTimer();
    // The answer to the last datagram that was sent: after this nobody asks.
    if (!this.#isFatal) this.lanes[0]!.loop.takeLateError();
    if (this.counters.hasNews && !this.#isEmitting) {
      this.#isEmitting = true;
      this.#report();
      this.#isEmitting = false;
      if ((this.state as number) === CLOSED) return; // unsubscribed by that report
    }
    if (this.#isToldFull) {
      this.#tellPressure(false);
      if ((this.state as number) === CLOSED) return;
    }
    this.state = CLOSED;
    this.#release();
    this.counters.publishClose();
    this.#resolveClosed();
    const failure = this.failure;
    callOut(() => (failure === null ? this.#observer.complete?.() : this.#observer.error?.(failure.error)));
  }

  /** Lets go of every timer, poll and listener. */
  #release(): void {
    this.disarmTimer();
    for (const lane of this.lanes) lane.abandon();
    this.#disarmDrain?.();
    this.#disarmDrain = null;
    this.#leaveTransport();
    this.#onReleased();
  }

  #wakeReady(): void {
    const waiters = this.#readyWaiters;
    this.#readyWaiters = [];
    for (const wake of waiters) wake();
  }

  #resolveClosed(): void {
    this.#wakeReady();
    if (this.#closed === null) return;
    if (this.failure === null) this.#closed.resolve();
    else this.#closed.reject(this.failure.error);
  }
}
