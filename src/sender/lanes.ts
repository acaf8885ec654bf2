/**
 * All lanes of a sender together: which lane a datagram takes, and whether there is room for one more.
 */
import { AF_UNIX } from '../kernel/abi.ts';
import type { Arena } from '../kernel/libc.ts';
import type { DatagramReader } from '../message/datagram-reader.ts';
import { laneOf } from '../message/sockaddr.ts';
import { ConflatingRing } from '../queue/conflating-ring.ts';
import { MAX_SEGMENTED_BYTES, MAX_SEGMENTS } from '../queue/gso.ts';
import { MmsgRing, type RingLayout } from '../queue/mmsg-ring.ts';
import { nameSizeOf } from '../queue/mmsg-table.ts';
import { PackingRing } from '../queue/packing-ring.ts';
import { SegmentingRing } from '../queue/segmenting-ring.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import { FlushLoop, type Wire } from './flush.ts';
import { FREE, IN_FLIGHT, Lane, type LaneContext } from './lane.ts';

export class Lanes {
  readonly all: readonly Lane[];
  readonly #highWaterMark: number;
  readonly #highWaterMarkBytes: number;

  constructor(options: ResolvedBatchOptions, usesGso: boolean, context: LaneContext) {
    this.#highWaterMark = options.highWaterMark;
    this.#highWaterMarkBytes = options.highWaterMarkBytes;
    this.all = Array.from({ length: options.lanes }, () => newLane(options, usesGso, context));
  }

  /** Datagrams queued. */
  get queued(): number {
    let sum = 0;
    for (const { ring } of this.all) sum += ring.datagrams;
    return sum;
  }

  /** Payload bytes queued. */
  get queuedBytes(): number {
    let sum = 0;
    for (const { ring } of this.all) {
      ring.commit();
      sum += ring.bytes;
    }
    return sum;
  }

  /** Datagrams that went into an earlier one, ever; of a line that waits unwritten, this is not certain yet. */
  get packed(): number {
    let sum = 0;
    for (const { ring } of this.all) sum += ring.packed;
    return sum;
  }

  /** Datagrams that were replaced, ever. */
  get conflated(): number {
    let sum = 0;
    for (const { ring } of this.all) sum += ring.conflated;
    return sum;
  }

  /** Whether the next datagram will be queued whole, whatever its size: the bytes may be exceeded by one. */
  get hasRoom(): boolean {
    return this.queued < this.#highWaterMark && this.queuedBytes < this.#highWaterMarkBytes;
  }

  /** Whether so many bytes fit within the limits; where not one byte would, no empty datagram goes in, either. */
  hasRoomFor(bytes: number): boolean {
    return this.queued < this.#highWaterMark && this.queuedBytes + Math.max(bytes, 1) <= this.#highWaterMarkBytes;
  }

  /** Whether at most this share of the queue is full. */
  isFullTo(share: number): boolean {
    const isDown = this.queued <= this.#highWaterMark * share && this.queuedBytes <= this.#highWaterMarkBytes * share;
    return isDown && this.hasRoom;
  }

  /** Whether any lane waits for nothing. */
  get isAnyFree(): boolean {
    return this.all.some(({ hold }) => hold === FREE);
  }

  /** The lane of what the reader holds: a destination always has the same one. */
  of({ sockaddr, port }: DatagramReader): Lane {
    const { length } = this.all;
    if (length === 1) return this.all[0]!;
    return this.all[laneOf(sockaddr, port, length)]!;
  }

  /** Whether all together have room for one more; one lane alone looks after itself. */
  get fits(): boolean {
    const { length } = this.all;
    if (length === 1) return true;
    let datagrams = 0;
    let bytes = 0;
    for (let lane = 0; lane < length; lane++) {
      const { ring } = this.all[lane]!;
      datagrams += ring.datagrams;
      bytes += ring.bytes;
    }
    // Of texts these bytes are upper bounds, and mostly enough.
    return (datagrams < this.#highWaterMark && bytes < this.#highWaterMarkBytes) || this.hasRoom;
  }

  /** The ring with the oldest datagram that can be dropped. */
  oldest(): MmsgRing | undefined {
    let oldest: MmsgRing | undefined;
    for (const { ring, hold } of this.all) {
      if (hold === IN_FLIGHT || ring.datagrams === 0) continue;
      if (oldest === undefined || ring.headSequence() < oldest.headSequence()) oldest = ring;
    }
    return oldest;
  }
}

function newLane(options: ResolvedBatchOptions, usesGso: boolean, context: LaneContext): Lane {
  const { transport, clock, pace, flags } = context;
  const { sendmmsg } = transport;
  const layout = {
    slots: options.highWaterMark,
    maxBytes: options.highWaterMarkBytes,
    nameSize: nameSizeOf(transport.family, transport.isConnected),
    maxSegments: usesGso ? Math.min(MAX_SEGMENTS, pace?.maxSegments ?? MAX_SEGMENTS) : 1,
    maxSegmentedBytes: Math.min(MAX_SEGMENTED_BYTES, pace?.maxSegmentedBytes ?? MAX_SEGMENTED_BYTES),
    latch: transport.latch,
  };
  const ring = newRing(options, layout, (bytes) => transport.allocate(bytes));
  const wire = {
    sendmmsg: (messages: MmsgRing, vlen: number) => sendmmsg?.(messages, vlen, flags) ?? 0,
    isOneByOne: transport.backend === 'sendmsg',
    isUnix: transport.family === AF_UNIX,
    peer: transport.peer,
    takeError: () => transport.takeError(),
    reconnect: () => transport.reconnect(),
    isShutDown: () => transport.isShutDown(),
    mostRejectedBytes: options.highWaterMarkBytes,
    now: () => clock.now(),
    ...(sendmmsg === null && { mostInFlight: ONE_BY_ONE }),
    ...(sendmmsg !== null && options.offload && { mostInFlight: halfOf(options) }),
  };
  return new Lane(ring, new FlushLoop(ring, wire, transport.latch, pace), context);
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
}: ResolvedBatchOptions): NonNullable<Wire['mostInFlight']> {
  return { datagrams: Math.max(batchSize, highWaterMark / 2), bytes: highWaterMarkBytes / 2 };
}

function newRing(
  { pack, conflateBy }: ResolvedBatchOptions,
  layout: RingLayout,
  allocate: (bytes: number) => Arena,
): MmsgRing {
  if (pack !== undefined) return new PackingRing(layout, pack, allocate);
  if (conflateBy !== undefined) return new ConflatingRing(layout, allocate);
  return layout.maxSegments > 1 ? new SegmentingRing(layout, allocate) : new MmsgRing(layout, allocate);
}
