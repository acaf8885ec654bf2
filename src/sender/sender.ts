/**
 * One sender: what goes into its queues, and what to do when they are full. When they are flushed, and how it all ends, is
 * `delivery.ts`; `BatchSender`, the operators and the streams are thin over both.
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
import type { Transport } from '../socket/transport.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import { type BatchObserver, CLOSED, Delivery, NONE, OPEN } from './delivery.ts';
import type { DropReason, SenderCounters } from './diagnostics.ts';
import { BLOCKED, FREE, type Lane } from './lane.ts';

export class Sender {
  /** When it is flushed, and how it ends. */
  readonly delivery: Delivery;
  readonly #options: ResolvedBatchOptions;
  readonly #counters: SenderCounters;
  readonly #reader: DatagramReader;
  /** The queue of the only lane, for the hot path; `null` where there are several. */
  readonly #onlyQueue: DatagramQueue | null;
  /** Whom all datagrams go to, on a connected socket. */
  readonly #peer: Destination;
  readonly #isTimed: boolean;
  readonly #conflateBy: ((datagram: DatagramLike) => unknown) | null;

  /**
   * @throws SendmmsgError for options that this socket cannot do, `ERR_SOCKET_DGRAM_NOT_RUNNING` if it is closed
   */
  constructor(transport: Transport, options: ResolvedBatchOptions, observer: BatchObserver) {
    if (transport.isClosed) throw notRunningError('socket');
    const { family, isConnected, supportsControl, cutsDatagrams } = transport;
    const reader = new DatagramReader(family, isConnected, supportsControl, cutsDatagrams);
    this.#peer = transport.peer;
    this.#options = options;
    this.#reader = reader;
    this.delivery = new Delivery(transport, options, observer, () => reader.clear());
    this.#counters = this.delivery.counters;
    this.#conflateBy = options.conflateBy ?? null;
    this.#onlyQueue = options.lanes === 1 ? this.delivery.lanes[0]!.queue : null;
    this.#isTimed = options.maxAgeMs !== Number.POSITIVE_INFINITY;
  }

  /** Queues one datagram: see {@link BatchSender.send}. */
  send(datagram: DatagramLike): boolean {
    const { delivery } = this;
    if (delivery.state !== OPEN) throw delivery.failure?.error ?? notRunningError('sender');
    if (this.#conflateBy !== null) return this.#sendKeyed(datagram, this.#conflateBy);
    try {
      this.#reader.read(datagram);
    } catch (error) {
      return this.#refuse(error);
    }
    const queue = this.#onlyQueue;
    // A getter of the datagram may have sent another one first, looked at the stats, or closed.
    if (queue === null || (delivery.state as number) !== OPEN) return this.#accept();
    const sequence = this.#counters.inputs++;
    if (!this.#push(queue, sequence, this.#now())) this.#overflow(this.delivery.lanes[0]!, sequence);
    if (queue.datagrams >= delivery.flushAt || queue.bytes >= delivery.flushAtBytes || delivery.timer === NONE)
      delivery.trigger();
    return (queue.datagrams < queue.capacity && queue.bytes < queue.maxBytes) || this.#hasRoom();
  }

  /** Queues one payload for many destinations: see {@link BatchSender.broadcast}. */
  broadcast(payload: Payload, to: Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>): boolean {
    const { delivery } = this;
    if (delivery.state !== OPEN) throw delivery.failure?.error ?? notRunningError('sender');
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
      delivery.withoutTelling(() => {
        for (const [index, peer] of peers.entries()) this.#queueFor(peer, refusal, keys?.[index]);
      });
    } finally {
      for (const { queue } of this.delivery.lanes) queue.endShared();
      reader.clear();
    }
    if ((delivery.state as number) !== OPEN) delivery.emit();
    delivery.trigger();
    return this.#hasRoom();
  }

  /** Sends what is queued, now: see {@link BatchSender.flush}. */
  flush(): BatchReport {
    const collected: BatchReport[] = [];
    if (this.delivery.state !== CLOSED) this.delivery.flush(BLOCKED, collected);
    return collected[0] ?? nothingDone(this.delivery.queued);
  }

  // A method, since optimised code still calls the runtime for a private getter (V8 of Node 20).
  #now(): number {
    // Whole milliseconds: what was queued within one may share a segmented message.
    return this.#isTimed ? Math.floor(this.delivery.clock.now()) : 0;
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
    this.delivery.trigger();
    return this.#hasRoom();
  }

  /** Takes what was read where there are several lanes, or where reading it has ended the sender. */
  #accept(): boolean {
    const sequence = this.#counters.inputs++;
    if (this.delivery.state === OPEN) this.#queue(sequence);
    else this.#drop('teardown');
    this.delivery.trigger();
    return this.#hasRoom();
  }

  /** Whether there is room for another datagram; if not, the source is asked to pause. */
  #hasRoom(): boolean {
    if (this.delivery.hasRoom) return true;
    this.delivery.tellFull();
    return this.delivery.hasRoom; // it may have made room
  }

  #queue(sequence: number): void {
    const lane = this.delivery.laneOf(this.#reader);
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
    if (this.delivery.state === OPEN) this.#queue(sequence);
    else this.#drop(this.delivery.failure === null ? 'teardown' : 'failure');
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
    return this.delivery.fits && this.#push(lane.queue, sequence, this.#now());
  }

  #reject(sequence: number, error: unknown, identity: DatagramIdentity = this.#reader.identify()): void {
    const reason =
      error instanceof SendmmsgError ? error : argumentValueError('datagram', 'could not be read', undefined, error);
    const isAddressed = 'address' in identity || 'port' in identity || 'path' in identity;
    this.#counters.refuse({ sequence, ...(isAddressed ? {} : this.#peer), ...identity, error: reason });
    // Rejections wait in memory, too: no more of them than datagrams.
    const { highWaterMark, highWaterMarkBytes } = this.#options;
    if (this.#counters.hasRefusedMuch(highWaterMark, highWaterMarkBytes)) this.delivery.emit();
  }

  /** The queue is full: send if that is allowed, else do as the options say. */
  #overflow(lane: Lane, sequence: number): void {
    if (lane.state !== FREE || !this.delivery.isInline) return this.#makeRoom(lane, sequence);
    this.delivery.disarmTimer();
    lane.flush();
    if (this.delivery.state !== OPEN) this.#drop('failure');
    else if (!this.#pushIfFits(lane, sequence)) this.#makeRoom(lane, sequence);
    this.delivery.emit();
  }

  #makeRoom(lane: Lane, sequence: number): void {
    const { overflow, highWaterMark, highWaterMarkBytes } = this.#options;
    if (overflow === 'error') {
      this.#drop('overflow');
      const limits = `highWaterMark ${highWaterMark}, highWaterMarkBytes ${highWaterMarkBytes}`;
      this.delivery.abort(new SendmmsgError(`The queue is full (${limits})`, { code: 'ENOBUFS', errno: ENOBUFS }));
      return;
    }
    // What is in flight can no longer be taken back, and does not count as the oldest.
    const datagrams = this.#datagrams;
    const size = this.#reader.exactLength();
    for (let oldest = this.#oldest(); oldest !== undefined; oldest = this.#oldest()) {
      oldest.drop(1);
      this.#counters.drop(1, 'overflow');
      if (this.delivery.hasRoomFor(datagrams, size)) break;
    }
    if (!this.#pushIfFits(lane, sequence)) this.#drop('overflow'); // this one gives way
  }

  /** The queue whose head is to give way. */
  #oldest(): DatagramQueue | undefined {
    return this.#options.overflow === 'drop-oldest' ? this.delivery.oldest() : undefined;
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
