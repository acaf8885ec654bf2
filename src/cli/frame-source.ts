/**
 * A readable stream as an Observable of datagrams that never overfills the queue behind it.
 *
 * An Observable pushes, and the operator's queue is bounded: past its marks it would drop. So the source keeps account of
 * what it has emitted against what the reports say is done with, and stops (between two datagrams of a chunk, with the
 * stream paused) while there is no room. Memory is the queue and a chunk, whatever the input's size.
 *
 * Where frames are kept, those that were emitted and did not get away can be taken back; they are the first that the next
 * subscriber gets.
 */
import type { Readable } from 'node:stream';
import { Observable, type Subscriber } from 'rxjs';
import type { BatchReport } from '../message/datagram.ts';
import type { Framer } from './framing.ts';
import { KeptFrames } from './kept-frames.ts';

/** The marks of the queue that the frames go to, and what becomes of a frame there. */
export interface QueueLimits {
  readonly highWaterMark: number;
  readonly highWaterMarkBytes: number;
  /** Most datagrams that may be emitted and not done with, where that is less than the queue takes. */
  readonly readAhead?: number | undefined;
  /** How many destinations a frame has, each a datagram; default 1. */
  readonly copies?: number;
  /** Where frames share datagrams: most bytes of one; a newline stands between two frames. */
  readonly packBytes?: number | undefined;
  /** Where a frame may take the place of one that is queued: then nothing is held back. */
  readonly isLatestOnly?: boolean;
  /** Whether frames may have to be taken back; only with one destination, and where all of them count. */
  readonly isKept?: boolean;
}

export class FrameSource {
  /**
   * The datagrams, for one subscriber, and once they were taken back for another one. Completes at the end of the input, at its
   * failure, and on `stop`.
   */
  readonly frames: Observable<Uint8Array>;
  /** Datagrams emitted, each once, however often it was taken back. */
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
  readonly #kept: KeptFrames | null;
  #subscriber: Subscriber<Uint8Array> | null = null;
  // Emitted and not yet done with, by the reports.
  #queued = 0;
  #queuedBytes = 0;
  #largest = 0;
  /** The frame that there was no room for. */
  #held: Uint8Array | undefined;
  /** Those that were taken back and not yet emitted again, from `#nextAgain` on. */
  #again: readonly Uint8Array[] = [];
  #nextAgain = 0;
  #isReading = false;
  #isStopped = false;
  #hasEnded = false;
  #isPumping = false;

  /** @param onFrame - sees each frame as it is emitted */
  constructor(input: Readable, framer: Framer, limits: QueueLimits, onFrame: (frame: Uint8Array) => void = () => {}) {
    this.#input = input;
    this.#framer = framer;
    const {
      highWaterMark,
      highWaterMarkBytes,
      copies = 1,
      packBytes,
      readAhead = highWaterMark,
      isLatestOnly = false,
      isKept,
    } = limits;
    this.#kept = isKept === true ? new KeptFrames() : null;
    this.#copies = copies;
    this.#separator = packBytes === undefined ? 0 : 1;
    this.#isLatestOnly = isLatestOnly;
    const most = Math.min(highWaterMark, Math.max(readAhead, copies));
    // Of packed frames only the bytes can be booked. Two neighbours are more than one datagram holds, so that is the most
    // bytes that are sure to fit into the datagrams of the queue.
    this.#highWaterMark = packBytes === undefined ? most : Number.POSITIVE_INFINITY;
    const packedBytes =
      packBytes === undefined
        ? Number.POSITIVE_INFINITY
        : Math.min(((highWaterMark - 1) * packBytes) / 2, (most + 1) * packBytes);
    this.#highWaterMarkBytes = Math.min(highWaterMarkBytes, packedBytes);
    this.#onFrame = onFrame;
    this.frames = new Observable((subscriber) => this.#start(subscriber));
  }

  /** Datagrams that were emitted and are not done with; of packed frames, none that it could tell of. */
  get queued(): number {
    return this.#queued;
  }

  /** Must be told every report about the datagrams that were emitted: room is made by nothing else. */
  account(report: BatchReport): void {
    const done = report.sent + report.rejected.length;
    this.#queued -= this.#separator === 0 ? done + report.dropped + report.conflated : 0;
    this.#queuedBytes -= report.bytes + done * this.#separator;
    for (const { payload } of report.rejected) this.#queuedBytes -= payload.length;
    this.#forget(report, done);
    const isHalfEmpty = this.#queued <= this.#highWaterMark / 2 && this.#queuedBytes <= this.#highWaterMarkBytes / 2;
    // Inside a report the operator only queues: go on in a turn of its own, where it sends. And not for a datagram or two.
    if ((this.#held !== undefined || this.takenBack > 0) && !this.#isPumping && isHalfEmpty) {
      this.#isPumping = true;
      setImmediate(() => this.#pump());
    }
  }

  /** Frames that were taken back and wait for the next subscriber, or for room in its queue. */
  get takenBack(): number {
    return this.#again.length - this.#nextAgain;
  }

  /**
   * Takes back what is queued, and reads no further until there is a next subscriber. The present one is left without another word.
   *
   * @param rejected - the last ones that the reports told of, and are to be emitted again, too
   */
  takeBack(rejected: readonly Uint8Array[]): void {
    this.#subscriber = null;
    this.#input.pause();
    this.#again = [...rejected, ...(this.#kept?.takeAll() ?? []), ...this.#again.slice(this.#nextAgain)];
    this.#nextAgain = 0;
    this.#queued = 0;
    this.#queuedBytes = 0;
  }

  /** Reads no further, and completes, once those that were taken back are emitted. */
  stop(): void {
    this.#isStopped = true;
    if (this.takenBack === 0) this.#finish();
  }

  /** Of the frames that are kept, those that a report tells of are the oldest. */
  #forget(report: BatchReport, done: number): void {
    if (this.#kept === null) return;
    if (this.#separator === 0) return this.#kept.forget(done + report.dropped);
    let bytes = report.bytes + done * this.#separator;
    for (const { payload } of report.rejected) bytes += payload.length;
    this.#kept.forgetBytes(bytes, this.#separator);
  }

  #start(subscriber: Subscriber<Uint8Array>): () => void {
    this.#subscriber = subscriber;
    if (this.#isReading) setImmediate(() => this.#pump());
    else this.#read();
    return () => {
      if (this.#subscriber === subscriber) this.#finish();
    };
  }

  #read(): void {
    this.#isReading = true;
    const input = this.#input;
    input.on('data', (chunk: Buffer) => {
      this.#framer.feed(chunk);
      this.#pump();
    });
    input.on('end', () => {
      this.#hasEnded = true;
      this.#pump();
    });
    input.on('error', (error) => {
      this.problem ??= error;
      this.stop();
    });
  }

  /** Emits what there is, as long as there is room. */
  #pump(): void {
    this.#isPumping = true;
    const subscriber = this.#subscriber;
    for (;;) {
      const isAgain = this.takenBack > 0;
      const frame = isAgain ? this.#again[this.#nextAgain] : this.#nextFrame();
      if (frame === undefined || subscriber === null || subscriber.closed) break;
      if (!this.#hasRoom(frame.length)) {
        this.#input.pause();
        this.#isPumping = false;
        return;
      }
      if (isAgain) this.#nextAgain++;
      else this.#held = undefined;
      this.#emit(subscriber, frame, isAgain);
      if (this.#subscriber !== subscriber) break; // it was taken back meanwhile
    }
    this.#isPumping = false;
    if (this.#hasEnded || this.#isStopped) this.#finish();
    else if (this.#subscriber !== null) this.#input.resume();
  }

  /** The next frame of the input, held until it is emitted. */
  #nextFrame(): Uint8Array | undefined {
    if (!this.#isStopped) this.#held ??= this.#readFrame();
    return this.#held;
  }

  #readFrame(): Uint8Array | undefined {
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

  /** Short of the mark by the largest so far: a frame that is in the way may be as long. */
  #hasRoom(length: number): boolean {
    if (this.#isLatestOnly || this.#queuedBytes + this.#queued === 0) return true;
    const bytes = this.#queuedBytes + length * this.#copies + this.#separator + Math.max(length, this.#largest);
    return this.#queued + this.#copies <= this.#highWaterMark && bytes <= this.#highWaterMarkBytes;
  }

  #emit(subscriber: Subscriber<Uint8Array>, frame: Uint8Array, isAgain: boolean): void {
    if (!isAgain) this.datagrams++;
    this.#queued += this.#separator === 0 ? this.#copies : 0;
    this.#queuedBytes += frame.length * this.#copies + this.#separator;
    if (frame.length > this.#largest) this.#largest = frame.length;
    this.#kept?.add(frame);
    if (!isAgain) this.#onFrame(frame);
    subscriber.next(frame);
  }

  #finish(): void {
    const subscriber = this.#subscriber;
    if (subscriber === null) return;
    this.#subscriber = null;
    this.#held = undefined;
    this.#input.destroy();
    subscriber.complete();
  }
}
