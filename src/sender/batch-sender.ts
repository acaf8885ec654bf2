/**
 * The sender: what goes into the queue, and what to do when it is full. When it is flushed, and how it ends, is
 * `lane-driver.ts`; the operators and streams are thin over this.
 *
 * Invariants: new datagrams only ever queue behind the tail. User code runs where a datagram is read (getters, iterators,
 * `conflateBy`, the peers of a broadcast), and where something is told (the observer, `pressure`, subscribers of the diagnostics);
 * state is looked at anew after each.
 */

import { ENOBUFS } from '../kernel/errno.ts';
import { argumentTypeError, argumentValueError, notRunningError, SendmmsgError } from '../kernel/errors.ts';
import type { BatchReport, DatagramLike, Destination, Endpoint, Payload } from '../message/datagram.ts';
import { type DatagramIdentity, DatagramReader } from '../message/datagram-reader.ts';
import { isIterable, listPeers } from '../message/peers.ts';
import type { DatagramQueue } from '../queue/queue.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import { type BatchOptions, type ResolvedBatchOptions, resolveBatchOptions } from './batch-options.ts';
import type { DropReason, SenderCounters, SenderStats } from './diagnostics.ts';
import { BLOCKED, FREE, type Lane } from './lane.ts';
import { type BatchObserver, CLOSED, LaneDriver, NONE, OPEN } from './lane-driver.ts';
import type { Lanes } from './lanes.ts';

export type { BatchObserver } from './lane-driver.ts';

/**
 * Queues datagrams and sends them in batches: what is behind the operators, for those who want no stream.
 *
 * The socket stays the caller's: close it after the sender. `D`, what may be sent, follows from its type.
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
export class BatchSender<D extends DatagramLike = DatagramLike> {
  readonly #options: ResolvedBatchOptions;
  readonly #driver: LaneDriver;
  readonly #lanes: Lanes;
  readonly #counters: SenderCounters;
  readonly #reader: DatagramReader;
  /** The queue of the only lane, for the hot path; `null` where there are several. */
  readonly #onlyQueue: DatagramQueue | null;
  /** Whom all datagrams go to, on a connected socket. */
  readonly #peer: Destination;
  readonly #isTimed: boolean;
  readonly #conflateBy: ((datagram: DatagramLike) => unknown) | null;

  /**
   * @param socket - stays open when the sender is closed
   * @param options - see {@link BatchOptions}
   * @param observer - told of each flush, of failure and of completion
   * @throws SendmmsgError for bad options (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`), and
   * `ERR_SOCKET_DGRAM_NOT_RUNNING` if the socket is closed
   */
  constructor(socket: DatagramSocket<D>, options: BatchOptions = {}, observer: BatchObserver = {}) {
    if (!(socket instanceof DatagramSocket)) throw argumentTypeError('"socket"', 'a DatagramSocket', socket);
    const resolved = resolveBatchOptions(options);
    const transport = DatagramSocket.transportOf(socket);
    if (transport.isClosed) throw notRunningError('socket');
    const { family, isConnected, supportsControl, cutsDatagrams } = transport;
    const reader = new DatagramReader(family, isConnected, supportsControl, cutsDatagrams);
    this.#peer = transport.peer;
    this.#options = resolved;
    this.#reader = reader;
    this.#driver = new LaneDriver(transport, resolved, observer, () => reader.clear());
    this.#lanes = this.#driver.lanes;
    this.#counters = this.#driver.counters;
    this.#conflateBy = resolved.conflateBy ?? null;
    this.#onlyQueue = resolved.lanes === 1 ? this.#lanes.all[0]!.queue : null;
    this.#isTimed = resolved.maxAgeMs !== Number.POSITIVE_INFINITY;
  }

  /**
   * Queues one datagram. A bad one is a rejection in the next report, not an exception.
   *
   * @returns whether there is room for another: `true` means that the next one will be queued whole, whatever its size (it may
   * exceed `highWaterMarkBytes`); if not, wait for {@link ready}, or the `overflow` option decides
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed; after a failure, the error that ended it
   */
  send(datagram: D): boolean {
    const driver = this.#driver;
    if (driver.state !== OPEN) throw driver.failure?.error ?? notRunningError('sender');
    if (this.#conflateBy !== null) return this.#sendKeyed(datagram, this.#conflateBy);
    try {
      this.#reader.read(datagram);
    } catch (error) {
      return this.#refuse(error);
    }
    const queue = this.#onlyQueue;
    // A getter of the datagram may have sent another one first, looked at the stats, or closed.
    if (queue === null || (driver.state as number) !== OPEN) return this.#accept();
    const sequence = this.#counters.inputs++;
    if (!this.#push(queue, sequence, this.#now())) this.#overflow(this.#lanes.all[0]!, sequence);
    if (queue.datagrams >= driver.flushAt || queue.bytes >= driver.flushAtBytes || driver.timer === NONE)
      driver.trigger();
    return (queue.datagrams < queue.capacity && queue.bytes < queue.maxBytes) || this.#hasRoom();
  }

  /**
   * Queues one payload for many destinations: it is encoded once, and each destination is one datagram. Where several payloads go to the
   * same destinations, one after another, `order: 'destination'` makes one message of what each of them gets.
   *
   * @param to - the endpoints, or a Map whose values they are; those of the wrong family are rejected one by one
   * @returns whether there is room for another datagram, as {@link send}
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed; `ERR_INVALID_ARG_TYPE` if `to` is not iterable
   */
  broadcast(payload: Payload, to: Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>): boolean {
    const driver = this.#driver;
    if (driver.state !== OPEN) throw driver.failure?.error ?? notRunningError('sender');
    if (!isIterable(to)) throw argumentTypeError('"to"', 'an iterable, or a Map, of endpoints', to);
    // Both are user code: from here on there is none until the flush.
    const peers = listPeers(to);
    const keys = this.#conflateBy && peers.map((peer) => keyOf(this.#conflateBy!, { payload, to: peer }));
    const reader = this.#reader;
    let refusal: { readonly error: unknown; readonly identity: DatagramIdentity } | null = null;
    try {
      reader.readShared(payload);
    } catch (error) {
      refusal = { error, identity: reader.identify() };
    }
    // Told when all are queued: an observer that sends in turn must not come between the destinations.
    try {
      driver.quietly(() => {
        for (const [index, peer] of peers.entries()) this.#queueFor(peer, refusal, keys?.[index]);
      });
    } finally {
      for (const { queue } of this.#lanes.all) queue.endShared();
      reader.clear();
    }
    if ((driver.state as number) !== OPEN) driver.emit();
    driver.trigger();
    return this.#hasRoom();
  }

  /** Resolves when there is room for more: a quarter of the queue. Rejects if the sender fails. */
  ready(): Promise<void> {
    return this.#driver.ready();
  }

  /**
   * Sends what is queued, now, as far as the kernel takes it without waiting. With `offload` and through node:dgram that is only
   * begun: what is on its way is `requeued` here, and its end is told to the observer.
   *
   * @returns what this flush did; the observer gets the same report, if it did anything
   */
  flush(): BatchReport {
    const collected: BatchReport[] = [];
    if (this.#driver.state !== CLOSED) this.#driver.flush(BLOCKED, collected);
    return collected[0] ?? nothingDone(this.#lanes.queued);
  }

  /** Sends what is queued, waiting for the kernel up to `drainTimeoutMs`; then drops the rest. Rejects if it failed. */
  close(): Promise<void> {
    return this.#driver.close();
  }

  /** {@link close}, told by the observer's `complete` (in this very call, if nothing has to be waited for). */
  end(): void {
    this.#driver.end();
  }

  /** Ends with an error: one last flush, the rest is dropped and told in a last report, then the observer's `error`. */
  abort(error: unknown): void {
    this.#driver.abort(error);
  }

  /** Ends at once and in silence: nothing more is sent or told; what was queued is counted in the diagnostics. */
  destroy(): void {
    this.#driver.destroy();
  }

  /** Whether it was closed, or has failed: `send` throws then. */
  get closed(): boolean {
    return this.#driver.state !== OPEN;
  }

  /** Totals since the sender was made. */
  get stats(): SenderStats {
    return this.#counters.snapshot();
  }

  /** `await using sender = new BatchSender(…)`: {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // A method, since optimised code still calls the runtime for a private getter (V8 of Node 20).
  #now(): number {
    // Whole milliseconds: what was queued within one may share a segmented message.
    return this.#isTimed ? Math.floor(this.#driver.clock.now()) : 0;
  }

  /** The same where a newer datagram may replace a queued one. */
  #sendKeyed(datagram: DatagramLike, conflateBy: (datagram: DatagramLike) => unknown): boolean {
    // User code, which may send, and so read, another datagram: before this one is read.
    const { key, error } = keyOf(conflateBy, datagram);
    try {
      this.#reader.read(datagram);
      if (error !== undefined) throw error;
    } catch (refusal) {
      return this.#refuse(refusal);
    }
    this.#reader.key = key;
    return this.#accept();
  }

  /** A datagram that could not be read is accepted, too: as a rejection. */
  #refuse(error: unknown): boolean {
    this.#reject(this.#counters.inputs++, error);
    this.#driver.trigger();
    return this.#hasRoom();
  }

  /** Takes what was read where there are several lanes, or where reading it has ended the sender. */
  #accept(): boolean {
    const sequence = this.#counters.inputs++;
    if (this.#driver.state === OPEN) this.#queue(sequence);
    else this.#drop('teardown');
    this.#driver.trigger();
    return this.#hasRoom();
  }

  /** Whether there is room for another datagram; if not, the source is asked to pause. */
  #hasRoom(): boolean {
    if (this.#lanes.hasRoom) return true;
    this.#driver.press();
    return this.#lanes.hasRoom; // it may have made room
  }

  #queue(sequence: number): void {
    const lane = this.#lanes.of(this.#reader);
    if (!this.#pushIfFits(lane, sequence)) this.#overflow(lane, sequence);
  }

  /** Queues the shared payload for one of its destinations. */
  #queueFor(
    peer: Endpoint,
    refusal: { readonly error: unknown; readonly identity: DatagramIdentity } | null,
    { key, error }: Keyed = NO_KEY,
  ): void {
    const sequence = this.#counters.inputs++;
    if (refusal !== null) return this.#reject(sequence, refusal.error, refusal.identity);
    try {
      this.#reader.readPeer(peer);
      if (error !== undefined) throw error;
      this.#reader.key = key;
    } catch (error) {
      return this.#reject(sequence, error);
    }
    if (this.#driver.state === OPEN) this.#queue(sequence);
    else this.#drop(this.#driver.failure === null ? 'teardown' : 'failure');
  }

  /** Queues what was read, or rejects it; `false` if there is no room. */
  #push(queue: DatagramQueue, sequence: number, now: number): boolean {
    try {
      if (this.#reader.segmentSize > 0) return this.#pushCut(queue, sequence, now);
      return queue.push(this.#reader, sequence, now);
    } catch (error) {
      this.#reject(sequence, error);
      return true;
    }
  }

  /** The same with a payload that is several datagrams. */
  #pushCut(queue: DatagramQueue, sequence: number, now: number): boolean {
    const { segmentSize, key } = this.#reader;
    const other = this.#options.pack !== undefined ? 'pack' : key !== undefined ? 'a key of conflateBy' : null;
    if (other !== null) throw argumentValueError('"segmentSize"', `cannot be combined with ${other}`, segmentSize);
    const before = queue.datagrams;
    if (!queue.push(this.#reader, sequence, now)) return false;
    this.#counters.extra += queue.datagrams - before - 1;
    return true;
  }

  /** Drops what was read. */
  #drop(reason: DropReason): void {
    const datagrams = this.#datagrams;
    this.#counters.extra += datagrams - 1;
    this.#counters.drop(datagrams, reason);
  }

  /** How many datagrams the reader holds. */
  get #datagrams(): number {
    const { segmentSize } = this.#reader;
    return segmentSize === 0 ? 1 : Math.max(Math.ceil(this.#reader.exactLength() / segmentSize), 1);
  }

  #pushIfFits(lane: Lane, sequence: number): boolean {
    return this.#lanes.fits && this.#push(lane.queue, sequence, this.#now());
  }

  #reject(sequence: number, error: unknown, identity: DatagramIdentity = this.#reader.identify()): void {
    const reason =
      error instanceof SendmmsgError ? error : argumentValueError('datagram', 'could not be read', undefined, error);
    const isAddressed = 'address' in identity || 'port' in identity || 'path' in identity;
    this.#counters.refuse({ sequence, ...(isAddressed ? {} : this.#peer), ...identity, error: reason });
    // Rejections wait in memory, too: no more of them than datagrams.
    const { highWaterMark, highWaterMarkBytes } = this.#options;
    if (this.#counters.hasRefusedMuch(highWaterMark, highWaterMarkBytes)) this.#driver.emit();
  }

  /** The queue is full: send if that is allowed, else do as the options say. */
  #overflow(lane: Lane, sequence: number): void {
    if (lane.hold !== FREE || !this.#driver.isInline) return this.#makeRoom(lane, sequence);
    this.#driver.restTimer();
    lane.flush();
    if (this.#driver.state !== OPEN) this.#drop('failure');
    else if (!this.#pushIfFits(lane, sequence)) this.#makeRoom(lane, sequence);
    this.#driver.emit();
  }

  #makeRoom(lane: Lane, sequence: number): void {
    const { overflow, highWaterMark, highWaterMarkBytes } = this.#options;
    if (overflow === 'error') {
      this.#drop('overflow');
      const limits = `highWaterMark ${highWaterMark}, highWaterMarkBytes ${highWaterMarkBytes}`;
      this.#driver.abort(new SendmmsgError(`The queue is full (${limits})`, { code: 'ENOBUFS', errno: ENOBUFS }));
      return;
    }
    // What is in flight can no longer be taken back, and does not count as the oldest.
    const datagrams = this.#datagrams;
    const size = this.#reader.exactLength();
    for (let oldest = this.#oldest(); oldest !== undefined; oldest = this.#oldest()) {
      oldest.drop(1);
      this.#counters.drop(1, 'overflow');
      if (this.#lanes.hasRoomFor(datagrams, size)) break;
    }
    if (!this.#pushIfFits(lane, sequence)) this.#drop('overflow'); // this one gives way
  }

  /** The ring whose head is to give way. */
  #oldest(): DatagramQueue | undefined {
    return this.#options.overflow === 'drop-oldest' ? this.#lanes.oldest() : undefined;
  }
}

/** What `conflateBy` gave for a datagram, or what it threw. */
interface Keyed {
  readonly key?: unknown;
  readonly error?: SendmmsgError;
}

const NO_KEY: Keyed = {};

function keyOf(conflateBy: (datagram: DatagramLike) => unknown, datagram: DatagramLike): Keyed {
  try {
    return { key: conflateBy(datagram) };
  } catch (cause) {
    return { error: argumentValueError('"conflateBy"', 'threw', undefined, cause) };
  }
}

function nothingDone(requeued: number): BatchReport {
  return Object.freeze({
    sent: 0,
    bytes: 0,
    syscalls: 0,
    requeued,
    dropped: 0,
    conflated: 0,
    pendingErrors: 0,
    rejected: Object.freeze([]),
  });
}
