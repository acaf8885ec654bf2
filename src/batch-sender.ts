/**
 * The sender: when to flush (count, bytes, time), what to do when the queue is full, and how to end. What a lane waits for
 * is in `lane.ts`; the operators and streams are thin over this.
 *
 * Invariants: new datagrams only ever queue behind the tail, and nothing is flushed beside a flush in flight or a wait.
 * User code runs at two call-outs, `reader.read` and the observer, and state is looked at anew after each.
 */
import { AF_INET } from './abi.ts';
import { type BatchOptions, type ResolvedBatchOptions, resolveBatchOptions } from './batch-options.ts';
import { type Clock, type Disarm, eventLoopClock, schedulerClock } from './clock.ts';
import type { BatchReport, DatagramLike, Endpoint, Payload } from './datagram.ts';
import { type DatagramIdentity, DatagramReader } from './datagram-reader.ts';
import { DatagramSocket } from './datagram-socket.ts';
import { type DropReason, SenderCounters, type SenderStats } from './diagnostics.ts';
import { ENOBUFS } from './errno.ts';
import { argumentTypeError, argumentValueError, SendmmsgError } from './errors.ts';
import { FlushLoop, type Verdict } from './flush.ts';
import { isGsoAllowed, MAX_SEGMENTED_BYTES_IPV4, MAX_SEGMENTED_BYTES_IPV6, MAX_SEGMENTS } from './gso.ts';
import { BLOCKED, FREE, HELD, IN_FLIGHT, Lane, type LaneOwner } from './lane.ts';
import { MmsgRing } from './mmsg-ring.ts';
import { nameSizeOf } from './mmsg-table.ts';
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

// The flush timer: not armed; armed for `flushAfterMs`; armed for the end of this turn, whatever comes until then.
const NONE = 0;
const TIMER = 1;
const SOON = 2;

const OPEN = 0;
const CLOSING = 1;
const CLOSED = 2;

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
  readonly #reader: DatagramReader;
  readonly #lanes: readonly Lane[];
  /** The ring of the only lane, for the hot path; `null` where there are several. */
  readonly #onlyRing: MmsgRing | null;
  readonly #counters: SenderCounters;
  /** Whether a flush is done when the call returns; not on the thread pool, nor through node:dgram. */
  readonly #isInline: boolean;
  readonly #flushAt: number;
  readonly #flushAtBytes: number;
  readonly #isTimed: boolean;
  readonly #leaveTransport: () => void;
  #state = OPEN;
  #timer = NONE;
  #disarm: Disarm | null = null;
  #disarmDrain: Disarm | null = null;
  #isEmitting = false;
  /** What ends the stream with an error instead of a completion. */
  #failure: { readonly error: unknown } | null = null;
  /** Whether that was the socket: nothing more is sent then. */
  #isFatal = false;
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
    this.#isInline = transport.sendmmsg !== null && !resolved.offload;
    const usesGso = resolved.gso === 'auto' && transport.supportsGso && isGsoAllowed();
    const owner = this.#laneOwner();
    this.#lanes = Array.from({ length: resolved.lanes }, () => this.#newLane(usesGso, owner));
    this.#onlyRing = resolved.lanes === 1 ? this.#lanes[0]!.ring : null;
    this.#counters = new SenderCounters(transport, usesGso, this.#lanes);
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
    try {
      this.#reader.read(datagram);
    } catch (error) {
      return this.#refuse(error);
    }
    const ring = this.#onlyRing;
    // A getter of the datagram may have sent another one first, looked at the stats, or closed.
    if (ring === null || this.#state !== OPEN) return this.#accept();
    const sequence = this.#counters.accepted++;
    if (!this.#push(ring, sequence, this.#now)) this.#overflow(this.#lanes[0]!, sequence);
    if (ring.datagrams >= this.#flushAt || ring.bytes >= this.#flushAtBytes || this.#timer === NONE) this.#trigger();
    return (ring.datagrams < ring.capacity && ring.bytes + ring.largest <= ring.maxBytes) || this.#hasRoom;
  }

  /**
   * Queues one payload for many destinations: it is encoded once, and each destination is one datagram.
   *
   * @param to - the endpoints; those of the wrong family are rejected one by one
   * @returns whether there is room for another datagram, as {@link send}
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed; `ERR_INVALID_ARG_TYPE` if `to` is not iterable
   */
  broadcast(payload: Payload, to: Iterable<Endpoint>): boolean {
    if (this.#state !== OPEN) throw this.#failure?.error ?? notRunning();
    if (typeof (to as Partial<Iterable<Endpoint>> | null)?.[Symbol.iterator] !== 'function') {
      throw argumentTypeError('"to"', 'an iterable of endpoints', to);
    }
    // Both are user code: from here on there is none until the flush.
    const peers = [...to];
    const reader = this.#reader;
    let refusal: { readonly error: unknown; readonly identity: DatagramIdentity } | null = null;
    try {
      reader.readShared(payload);
    } catch (error) {
      refusal = { error, identity: reader.identify() };
    }
    // Told when all are queued: an observer that sends in turn must not come between the destinations.
    const wasEmitting = this.#isEmitting;
    this.#isEmitting = true;
    try {
      for (const peer of peers) this.#queueFor(peer, refusal);
    } finally {
      for (const { ring } of this.#lanes) ring.endShared();
      reader.clear();
      this.#isEmitting = wasEmitting;
    }
    if (this.#state !== OPEN) this.#emit();
    this.#trigger();
    return this.#hasRoom;
  }

  /** Resolves when there is room for more: the queue is at most half full. Rejects if the sender fails. */
  ready(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure.error);
    if (this.#state !== OPEN || this.#hasRoom) return Promise.resolve();
    if (this.#timer !== SOON) this.#flushOrSoon();
    if (this.#failure !== null) return Promise.reject((this.#failure as { error: unknown }).error);
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
    if (this.#state !== CLOSED) this.#flush(BLOCKED, collected);
    return collected[0] ?? nothingDone(this.#counters.queued);
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
    this.#flush(FREE);
    if ((this.#state as number) === CLOSED || this.#finishIfDrained()) return;
    this.#disarmDrain = this.#clock.after(drainTimeoutMs, () => this.#giveUpAs('drainTimeout'));
  }

  /** Ends with an error: one last flush, the rest is dropped and told in a last report, then the observer's `error`. */
  abort(error: unknown): void {
    if (this.#state === CLOSED || this.#failure !== null) return;
    this.#state = CLOSING;
    this.#failure = { error };
    this.#restTimer();
    for (const lane of this.#lanes) {
      if (lane.hold === IN_FLIGHT) continue;
      lane.flush(Number.POSITIVE_INFINITY);
      lane.rest();
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

  /** Datagrams queued, in all lanes. */
  get #queued(): number {
    return this.#onlyRing === null ? this.#counters.queued : this.#onlyRing.datagrams;
  }

  /** Payload bytes queued, in all lanes. */
  get #queuedBytes(): number {
    if (this.#onlyRing === null) return this.#counters.queuedBytes;
    this.#onlyRing.commit();
    return this.#onlyRing.bytes;
  }

  /** Bytes of the largest datagram so far. */
  get #largest(): number {
    if (this.#onlyRing !== null) return this.#onlyRing.largest;
    return Math.max(...this.#lanes.map(({ ring }) => ring.largest));
  }

  get #hasRoom(): boolean {
    const { highWaterMark, highWaterMarkBytes } = this.#options;
    // Of the next datagram only its predecessors' sizes are known: room means room for one as large as the largest.
    return this.#queued < highWaterMark && this.#queuedBytes + this.#largest <= highWaterMarkBytes;
  }

  get #isHalfEmpty(): boolean {
    const { highWaterMark, highWaterMarkBytes } = this.#options;
    const queued = this.#queued;
    const queuedBytes = this.#queuedBytes;
    // Half a queue may be less than one datagram as large as the largest.
    return queued <= highWaterMark >>> 1 && queuedBytes <= highWaterMarkBytes / 2 && this.#hasRoom;
  }

  get #now(): number {
    // Whole milliseconds: what was queued within one may share a segmented message.
    return this.#isTimed ? Math.floor(this.#clock.now()) : 0;
  }

  #newLane(usesGso: boolean, owner: LaneOwner): Lane {
    const transport = this.#transport;
    const { highWaterMark, highWaterMarkBytes } = this.#options;
    const layout = {
      slots: highWaterMark,
      maxBytes: highWaterMarkBytes,
      nameSize: nameSizeOf(transport.family, transport.isConnected),
      maxSegments: usesGso ? MAX_SEGMENTS : 1,
      maxSegmentedBytes: transport.family === AF_INET ? MAX_SEGMENTED_BYTES_IPV4 : MAX_SEGMENTED_BYTES_IPV6,
      latch: transport.latch,
    };
    const ring = new MmsgRing(layout, (bytes) => transport.allocate(bytes));
    const wire = {
      sendmmsg: transport.sendmmsg ?? (() => 0),
      takeError: () => transport.takeError(),
      reconnect: () => transport.reconnect(),
      now: () => this.#clock.now(),
    };
    const loop = new FlushLoop(ring, wire, transport.latch);
    return new Lane(ring, loop, { transport, clock: this.#clock, isInline: this.#isInline, owner });
  }

  #laneOwner(): LaneOwner {
    return {
      beforeFlush: (lane) => {
        const { latch } = this.#transport;
        if (!latch.isOpen) latch.expire(this.#clock.now());
        if (this.#isTimed) this.#dropAged(lane.ring);
      },
      onResume: (lane) => {
        lane.flush();
        this.#emit();
      },
      onLanded: (lane, verdict) => this.#land(lane, verdict),
      onYield: () => {
        this.#restTimer();
        this.#arm(SOON, 0);
      },
      onFatal: (error) => this.#die(error),
    };
  }

  /** The lane of what the reader holds: a destination always has the same one. */
  get #lane(): Lane {
    const { length } = this.#lanes;
    if (length === 1) return this.#lanes[0]!;
    const { sockaddr, port } = this.#reader;
    const hash = Math.imul((sockaddr?.hash ?? 0) ^ port, 0x9e3779b1) >>> 16;
    return this.#lanes[hash % length]!;
  }

  /** A datagram that could not be read is accepted, too: as a rejection. */
  #refuse(error: unknown): boolean {
    this.#reject(this.#counters.accepted++, error);
    this.#trigger();
    return this.#hasRoom;
  }

  /** Takes what was read where there are several lanes, or where reading it has ended the sender. */
  #accept(): boolean {
    const sequence = this.#counters.accepted++;
    if (this.#state === OPEN) this.#queue(sequence);
    else this.#counters.drop(1, 'teardown');
    this.#trigger();
    return this.#hasRoom;
  }

  #queue(sequence: number): void {
    const lane = this.#lane;
    if (!this.#pushIfFits(lane, sequence)) this.#overflow(lane, sequence);
  }

  /** Queues the shared payload for one of its destinations. */
  #queueFor(peer: Endpoint, refusal: { readonly error: unknown; readonly identity: DatagramIdentity } | null): void {
    const sequence = this.#counters.accepted++;
    if (refusal !== null) return this.#reject(sequence, refusal.error, refusal.identity);
    try {
      this.#reader.readPeer(peer);
    } catch (error) {
      return this.#reject(sequence, error);
    }
    if (this.#state === OPEN) this.#queue(sequence);
    else this.#counters.drop(1, this.#failure === null ? 'teardown' : 'failure');
  }

  /** Queues what was read, or rejects it; `false` if there is no room. */
  #push(ring: MmsgRing, sequence: number, now: number): boolean {
    try {
      return ring.push(this.#reader, sequence, now);
    } catch (error) {
      this.#reject(sequence, error);
      return true;
    }
  }

  #pushIfFits(lane: Lane, sequence: number): boolean {
    return this.#fits && this.#push(lane.ring, sequence, this.#now);
  }

  /** Whether all lanes together have room; one alone looks after itself. */
  get #fits(): boolean {
    if (this.#onlyRing !== null) return true;
    const { highWaterMark, highWaterMarkBytes } = this.#options;
    const length = this.#reader.exactLength();
    // What fits into no ring is the ring's to refuse.
    if (length > highWaterMarkBytes) return true;
    return this.#queued < highWaterMark && this.#queuedBytes + length <= highWaterMarkBytes;
  }

  #reject(sequence: number, error: unknown, identity: DatagramIdentity = this.#reader.identify()): void {
    const reason =
      error instanceof SendmmsgError ? error : argumentValueError('datagram', 'could not be read', undefined, error);
    const waiting = this.#counters.refuse({ sequence, ...identity, error: reason });
    // Rejections wait in memory, too: no more of them than datagrams.
    if (waiting >= this.#options.highWaterMark) this.#emit();
  }

  /** The queue is full: send if that is allowed, else do as the options say. */
  #overflow(lane: Lane, sequence: number): void {
    if (lane.hold !== FREE || !this.#isInline) return this.#makeRoom(lane, sequence);
    this.#restTimer();
    lane.flush();
    if (this.#state !== OPEN) this.#counters.drop(1, 'failure');
    else if (!this.#pushIfFits(lane, sequence)) this.#makeRoom(lane, sequence);
    this.#emit();
  }

  #makeRoom(lane: Lane, sequence: number): void {
    const { overflow, highWaterMark, highWaterMarkBytes } = this.#options;
    if (overflow === 'error') {
      this.#counters.drop(1, 'overflow');
      const limits = `highWaterMark ${highWaterMark}, highWaterMarkBytes ${highWaterMarkBytes}`;
      this.abort(new SendmmsgError(`The queue is full (${limits})`, { code: 'ENOBUFS', errno: ENOBUFS }));
      return;
    }
    do {
      const oldest = overflow === 'drop-oldest' ? this.#oldestRing() : undefined;
      oldest?.release(1);
      this.#counters.drop(1, 'overflow');
      if (oldest === undefined) return; // this one gives way: what is in flight can no longer be taken back
    } while (!this.#pushIfFits(lane, sequence));
  }

  /** The ring with the oldest datagram that can be dropped. */
  #oldestRing(): MmsgRing | undefined {
    let oldest: MmsgRing | undefined;
    for (const { ring, hold } of this.#lanes) {
      if (hold === IN_FLIGHT || ring.datagrams === 0) continue;
      if (oldest === undefined || ring.headSequence() < oldest.headSequence()) oldest = ring;
    }
    return oldest;
  }

  /** Flushes if enough is queued, else sees to it that the timer is armed. */
  #trigger(): void {
    if (this.#timer === SOON || this.#state !== OPEN) return;
    if (this.#onlyRing !== null && this.#lanes[0]!.hold !== FREE) return;
    if (this.#queued >= this.#flushAt || this.#queuedBytes >= this.#flushAtBytes) this.#flushOrSoon();
    else if (this.#timer === NONE) this.#armFlush();
  }

  /** A trigger fired: flush, or, inside an observer's call-out, at the end of this turn, so that no echo can spin. */
  #flushOrSoon(): void {
    if (!this.#isEmitting) return this.#flush(FREE);
    if (!this.#lanes.some(({ hold }) => hold === FREE)) return;
    this.#restTimer();
    this.#arm(SOON, 0);
  }

  /** Flushes the lanes that wait for nothing, or for nothing more than `hold`. */
  #flush(hold: number, collected?: BatchReport[]): void {
    this.#restTimer();
    for (const lane of this.#lanes) {
      if (lane.hold <= hold && (lane.ring.slots > 0 || lane.hold > FREE)) lane.flush();
      if (this.#failure !== null) break;
    }
    this.#emit(collected);
  }

  /** What was in flight has been answered. */
  #land(lane: Lane, verdict: Verdict): void {
    if (this.#state === CLOSED) return this.#dropQueued('teardown');
    if (verdict === 'fatal') {
      this.#isFatal = true;
      this.#failure ??= { error: lane.loop.fatalError };
    }
    // Of an error's last flush and of a drain, all that goes without waiting still goes.
    if (verdict === 'again' && this.#givenUpAs !== 'drainTimeout' && !this.#isFatal) {
      lane.flush();
      // A source that is never quite caught up with is told of its datagrams, too.
      const { sent, rejected } = lane.loop;
      if (lane.hold !== IN_FLIGHT || sent + rejected.length >= this.#flushAt) this.#emit();
      return;
    }
    if (this.#givenUpAs !== null) return this.#giveUpAs(this.#givenUpAs);
    lane.settle(verdict);
    this.#emit();
  }

  #armFlush(): void {
    if (this.#state !== OPEN) return;
    const hasNews = this.#counters.hasNews;
    if (!this.#lanes.some(({ hold, ring }) => hold === FREE && (hasNews || ring.datagrams > 0))) return;
    this.#arm(TIMER, this.#options.flushAfterMs);
  }

  #arm(timer: number, ms: number): void {
    this.#timer = timer;
    this.#disarm = this.#clock.after(ms, () => {
      this.#disarm = null;
      this.#flush(FREE);
    });
  }

  #restTimer(): void {
    this.#disarm?.();
    this.#disarm = null;
    this.#timer = NONE;
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
    if (this.#timer === NONE) this.#armFlush();
  }

  #report(collected?: BatchReport[]): void {
    const report = this.#counters.takeReport();
    collected?.push(report);
    // A subscriber of the diagnostics may have destroyed the sender.
    if (this.#state !== CLOSED) callOut(() => this.#observer.next?.(report));
  }

  #dropAged(ring: MmsgRing): void {
    // Queued in whole milliseconds, so up to one later than it says: none is dropped before its time.
    const oldest = this.#clock.now() - this.#options.maxAgeMs - 1;
    while (ring.datagrams > 0 && ring.headQueuedAt() <= oldest) {
      ring.release(1);
      this.#counters.drop(1, 'age');
    }
  }

  /** Drops all that is queued, and ends; what is in flight is waited for first. */
  #giveUpAs(reason: DropReason): void {
    this.#givenUpAs = reason;
    this.#dropQueued(reason);
    this.#finishIfDrained();
  }

  #dropQueued(reason: DropReason): void {
    for (const { ring, hold } of this.#lanes) {
      if (hold === IN_FLIGHT) continue;
      this.#counters.drop(ring.datagrams, reason);
      ring.release(ring.datagrams);
    }
    if (reason === 'teardown' && this.#counters.queued === 0) this.#counters.publishClose();
  }

  #onTransportClosed(): void {
    if (this.#state === CLOSED || (this.#counters.queued === 0 && this.#state === OPEN)) return;
    this.#flush(HELD); // the answer is EBADF
  }

  #die(error: unknown): void {
    this.#state = CLOSING;
    this.#isFatal = true;
    this.#failure ??= { error };
    this.#givenUpAs ??= 'failure';
    this.#dropQueued('failure');
  }

  /** Ends, if closing and nothing is left to wait for (an emission under way does it when it is done). */
  #finishIfDrained(): boolean {
    if (this.#state !== CLOSING || this.#isEmitting || this.#counters.queued > 0) return false;
    this.#finish();
    return true;
  }

  #finish(): void {
    if (this.#state === CLOSED) return;
    this.#restTimer();
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
    this.#restTimer();
    for (const lane of this.#lanes) lane.rest();
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
