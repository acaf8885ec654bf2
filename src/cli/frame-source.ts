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

/** The marks of the queue that the frames go to. */
export interface QueueLimits {
  readonly highWaterMark: number;
  readonly highWaterMarkBytes: number;
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
  readonly #limits: QueueLimits;
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
    this.#limits = limits;
    this.#onFrame = onFrame;
    this.frames = new Observable((subscriber) => this.#start(subscriber));
  }

  /** Datagrams that were emitted and are not done with. */
  get queued(): number {
    return this.#queued;
  }

  /** Must be told every report about the datagrams that were emitted: room is made by nothing else. */
  settle(report: BatchReport): void {
    this.#queued -= report.sent + report.dropped + report.rejected.length;
    this.#queuedBytes -= report.bytes;
    for (const { payload } of report.rejected) this.#queuedBytes -= payload.length;
    const { highWaterMark, highWaterMarkBytes } = this.#limits;
    const isHalfEmpty = this.#queued <= highWaterMark / 2 && this.#queuedBytes <= highWaterMarkBytes / 2;
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
    if (this.#queued === 0) return true;
    const { highWaterMark, highWaterMarkBytes } = this.#limits;
    const bytes = this.#queuedBytes + length + Math.max(length, this.#largest);
    return this.#queued < highWaterMark && bytes <= highWaterMarkBytes;
  }

  #emit(subscriber: Subscriber<Uint8Array>, frame: Uint8Array): void {
    this.datagrams++;
    this.#queued++;
    this.#queuedBytes += frame.length;
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
