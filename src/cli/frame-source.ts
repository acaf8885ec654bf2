/**
 * A readable stream as an Observable of datagrams that never overfills the queue behind it.
 *
 * An Observable pushes, and the operator's queue is bounded: past its marks it would drop. So the source keeps account of
 * what it has emitted against what the reports say is done with, and stops (between two datagrams of a chunk, with the
 * stream paused) while there is no room. Memory is the queue and a chunk, whatever the input's size.
 */
import type { Readable } from 'node:stream';
import { Observable, type Subscriber } from 'rxjs';
import type { BatchReport } from '../datagram.ts';
import type { Framer } from './framing.ts';

/** The marks of the queue that the frames go to, and what becomes of a frame there. */
export interface QueueLimits {
  readonly highWaterMark: number;
  readonly highWaterMarkBytes: number;
  /** How many destinations a frame has, each a datagram; default 1. */
  readonly copies?: number;
  /** Where frames share datagrams: most bytes of one; a newline stands between two frames. */
  readonly packBytes?: number | undefined;
  /** Where a frame may take the place of one that is queued: then nothing is held back. */
  readonly isLatestOnly?: boolean;
}

export class FrameSource {
  /** The datagrams, for one subscriber. Completes at the end of the input, at its failure, and on `stop`. */
  readonly frames: Observable<Uint8Array>;
  /** Datagrams emitted. */
  datagrams: number = 0;
  /** Why the input ended early: it could not be read, or it is truncated. */
  problem: Error | null = null;
  /** Whether all of the input was emitted. */
  isExhausted: boolean = false;

  readonly #input: Readable;
  readonly #framer: Framer;
  readonly #highWaterMark: number;
  readonly #highWaterMarkBytes: number;
  readonly #copies: number;
  /** Bytes of the separator, where frames are packed: each is booked with one, and so is each datagram. */
  readonly #separator: 0 | 1;
  readonly #isLatestOnly: boolean;
  readonly #onFrame: (frame: Uint8Array) => void;
  #subscriber: Subscriber<Uint8Array> | null = null;
  // Emitted and not yet done with, by the reports.
  #queued = 0;
  #queuedBytes = 0;
  #largest = 0;
  /** The frame that there was no room for. */
  #held: Uint8Array | undefined;
  #hasEnded = false;
  #isPumping = false;

  /** @param onFrame - sees each frame as it is emitted */
  constructor(input: Readable, framer: Framer, limits: QueueLimits, onFrame: (frame: Uint8Array) => void = () => {}) {
    this.#input = input;
    this.#framer = framer;
    const { highWaterMark, highWaterMarkBytes, copies = 1, packBytes, isLatestOnly = false } = limits;
    this.#copies = copies;
    this.#separator = packBytes === undefined ? 0 : 1;
    this.#isLatestOnly = isLatestOnly;
    // Of packed frames only the bytes can be booked. Two neighbours are more than one datagram holds, so that is the most
    // bytes that are sure to fit into the datagrams of the queue.
    this.#highWaterMark = packBytes === undefined ? highWaterMark : Number.POSITIVE_INFINITY;
    const packedBytes = packBytes === undefined ? Number.POSITIVE_INFINITY : ((highWaterMark - 1) * packBytes) / 2;
    this.#highWaterMarkBytes = Math.min(highWaterMarkBytes, packedBytes);
    this.#onFrame = onFrame;
    this.frames = new Observable((subscriber) => this.#start(subscriber));
  }

  /** Datagrams that were emitted and are not done with; of packed frames, none that it could tell of. */
  get queued(): number {
    return this.#queued;
  }

  /** Must be told every report about the datagrams that were emitted: room is made by nothing else. */
  settle(report: BatchReport): void {
    const done = report.sent + report.rejected.length;
    this.#queued -= this.#separator === 0 ? done + report.dropped + report.conflated : 0;
    this.#queuedBytes -= report.bytes + done * this.#separator;
    for (const { payload } of report.rejected) this.#queuedBytes -= payload.length;
    const isHalfEmpty = this.#queued <= this.#highWaterMark / 2 && this.#queuedBytes <= this.#highWaterMarkBytes / 2;
    // Inside a report the operator only queues: go on in a turn of its own, where it sends. And not for a datagram or two.
    if (this.#held !== undefined && !this.#isPumping && isHalfEmpty) {
      this.#isPumping = true;
      setImmediate(() => this.#pump());
    }
  }

  /** Reads no further, and completes. */
  stop(): void {
    this.#finish();
  }

  #start(subscriber: Subscriber<Uint8Array>): () => void {
    const input = this.#input;
    this.#subscriber = subscriber;
    input.on('data', (chunk: Buffer) => {
      this.#framer.feed(chunk);
      this.#pump();
    });
    input.on('end', () => {
      this.#hasEnded = true;
      this.#pump();
    });
    input.on('error', (error) => this.#finish(error));
    return () => this.#finish();
  }

  /** Emits what there is, as long as there is room. */
  #pump(): void {
    this.#isPumping = true;
    const subscriber = this.#subscriber;
    for (;;) {
      const frame = this.#held ?? this.#nextFrame();
      this.#held = frame;
      if (frame === undefined || subscriber === null || subscriber.closed) break;
      if (!this.#hasRoom(frame.length)) {
        this.#input.pause();
        this.#isPumping = false;
        return;
      }
      this.#held = undefined;
      this.#emit(subscriber, frame);
    }
    this.#isPumping = false;
    if (this.#hasEnded) this.#finish();
    else if (this.#subscriber !== null) this.#input.resume();
  }

  #nextFrame(): Uint8Array | undefined {
    const frame = this.#framer.next();
    if (frame !== undefined || !this.#hasEnded || this.isExhausted) return frame;
    this.isExhausted = true;
    try {
      return this.#framer.end();
    } catch (error) {
      this.problem = error as Error;
      return undefined;
    }
  }

  /** The queue is a ring: at its end up to one datagram's size is left unused, so room for the largest is kept free. */
  #hasRoom(length: number): boolean {
    if (this.#isLatestOnly || this.#queuedBytes + this.#queued === 0) return true;
    const bytes = this.#queuedBytes + length * this.#copies + this.#separator + Math.max(length, this.#largest);
    return this.#queued + this.#copies <= this.#highWaterMark && bytes <= this.#highWaterMarkBytes;
  }

  #emit(subscriber: Subscriber<Uint8Array>, frame: Uint8Array): void {
    this.datagrams++;
    this.#queued += this.#separator === 0 ? this.#copies : 0;
    this.#queuedBytes += frame.length * this.#copies + this.#separator;
    if (frame.length > this.#largest) this.#largest = frame.length;
    this.#onFrame(frame);
    subscriber.next(frame);
  }

  #finish(problem: Error | null = null): void {
    const subscriber = this.#subscriber;
    if (subscriber === null) return;
    this.#subscriber = null;
    this.problem ??= problem;
    this.#held = undefined;
    this.#input.destroy();
    subscriber.complete();
  }
}
