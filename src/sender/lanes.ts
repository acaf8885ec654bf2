/**
 * All lanes of a sender together: which lane a datagram takes, and whether there is room for one more.
 */
import type { Arena } from '../kernel/libc.ts';
import type { DatagramReader } from '../message/datagram-reader.ts';
import { laneOf } from '../message/sockaddr.ts';
import { Batch, nameSizeOf } from '../queue/batch.ts';
import { MAX_SEGMENTED_BYTES, MAX_SEGMENTS } from '../queue/gso.ts';
import { DatagramQueue } from '../queue/queue.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import { FlushLoop, type FlushOptions } from './flush.ts';
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
    for (const { queue } of this.all) sum += queue.datagrams;
    return sum;
  }

  /** Datagrams, of those, that wait for destinations which are full. */
  get heldBack(): number {
    let sum = 0;
    for (const { queue } of this.all) sum += queue.heldBack;
    return sum;
  }

  /** Payload bytes queued. */
  get queuedBytes(): number {
    let sum = 0;
    for (const { queue } of this.all) {
      queue.commit();
      sum += queue.bytes;
    }
    return sum;
  }

  /** Datagrams that went into an earlier one, ever; of a line that waits unwritten, this is not certain yet. */
  get packed(): number {
    let sum = 0;
    for (const { queue } of this.all) sum += queue.packed;
    return sum;
  }

  /** Datagrams that were replaced, ever. */
  get conflated(): number {
    let sum = 0;
    for (const { queue } of this.all) sum += queue.conflated;
    return sum;
  }

  /** Whether the next datagram will be queued whole, whatever its size: the bytes may be exceeded by one. */
  get hasRoom(): boolean {
    return this.queued < this.#highWaterMark && this.queuedBytes < this.#highWaterMarkBytes;
  }

  /** Whether so many datagrams, of so many bytes in all, fit within the limits; where not one byte would, no empty one goes in, either. */
  hasRoomFor(datagrams: number, bytes: number): boolean {
    return (
      this.queued + datagrams <= this.#highWaterMark &&
      this.queuedBytes + Math.max(bytes, 1) <= this.#highWaterMarkBytes
    );
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
      const { queue } = this.all[lane]!;
      datagrams += queue.datagrams;
      bytes += queue.bytes;
    }
    // Of texts these bytes are upper bounds, and mostly enough.
    return (datagrams < this.#highWaterMark && bytes < this.#highWaterMarkBytes) || this.hasRoom;
  }

  /** The queue with the oldest datagram that can be dropped. */
  oldest(): DatagramQueue | undefined {
    let oldest: DatagramQueue | undefined;
    for (const { queue, hold } of this.all) {
      if (hold === IN_FLIGHT || queue.datagrams === 0) continue;
      if (oldest === undefined || queue.headSequence() < oldest.headSequence()) oldest = queue;
    }
    return oldest;
  }
}

function newLane(options: ResolvedBatchOptions, usesGso: boolean, context: LaneContext): Lane {
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
  const loop = new FlushLoop(queue, batch, transport, { flags, mostRejectedBytes, mostInFlight, pace, clock });
  return new Lane(queue, batch, loop, context);
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
