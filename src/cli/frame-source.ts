/**
 * A readable stream as an Observable of datagrams that never overfills the queue behind it.
 *
 * An Observable pushes, and the operator's queue is bounded: past its marks it would drop. So the source is told by `pressure` when the
 * queue is full, and stops (between two datagrams of a chunk, with the stream paused) until there is room. Memory is the queue and a
 * chunk, whatever the input's size.
 *
 * Where frames are kept, those that were emitted and did not get away can be taken back; they are the first that the next
 * subscriber gets.
 */
import type { Readable } from 'node:stream';
import { Observable, type Subscriber } from 'rxjs';
import type { BatchReport, DatagramLike, Endpoint } from '../message/datagram.ts';
import type { PressureObserver } from '../sender/batch-options.ts';
import type { Framer } from './framing.ts';
import { KeptFrames } from './kept-frames.ts';

export interface FrameSourceOptions {
  /** Where each frame goes; none: it is a datagram without a destination. */
  readonly peers?: readonly Endpoint[];
  /** Keeps frames that may have to be taken back; without `peers`. `separator`: bytes between two that share a datagram, or 0. */
  readonly kept?: { readonly separator: number } | undefined;
  /** Sees each frame as it is emitted for the first time. */
  readonly onFrame?: ((frame: Uint8Array) => void) | undefined;
}

export class FrameSource {
  /**
   * For one subscriber, and once they were taken back for another one. Completes at the end of the input, at its failure, and on
   * `stop`.
   */
  readonly datagrams: Observable<DatagramLike>;
  /** To be told by the sender behind it. */
  readonly pressure: PressureObserver;
  /** Frames emitted, each once, however often it was taken back. */
  emitted: number = 0;
  /** Why the input ended early: it could not be read, or it is truncated. */
  problem: Error | null = null;
  /** Whether all of the input was emitted. */
  isExhausted: boolean = false;

  readonly #input: Readable;
  readonly #framer: Framer;
  readonly #peers: readonly Endpoint[];
  readonly #onFrame: ((frame: Uint8Array) => void) | undefined;
  readonly #separator: number;
  readonly #kept: KeptFrames | null;
  #subscriber: Subscriber<DatagramLike> | null = null;
  /** Whether there is no room. */
  #isFull = false;
  /** The next frame, and how many of its peers have got it. */
  #held: Uint8Array | undefined;
  #copies = 0;
  /** Those that were taken back and not yet emitted again, from `#nextAgain` on. */
  #again: readonly Uint8Array[] = [];
  #nextAgain = 0;
  #isReading = false;
  #isStopped = false;
  #hasEnded = false;
  #isPumping = false;

  constructor(input: Readable, framer: Framer, { peers = [], kept, onFrame }: FrameSourceOptions = {}) {
    this.#input = input;
    this.#framer = framer;
    this.#peers = peers;
    this.#separator = kept?.separator ?? 0;
    this.#kept = kept === undefined ? null : new KeptFrames();
    this.#onFrame = onFrame;
    this.datagrams = new Observable((subscriber) => this.#start(subscriber));
    this.pressure = { next: (isFull) => this.#press(isFull) };
  }

  /** Lets go of the kept frames that a report tells of: they are the oldest. */
  forget(report: BatchReport): void {
    if (this.#kept === null) return;
    const done = report.sent + report.rejected.length;
    if (this.#separator === 0) return this.#kept.forget(done + report.dropped);
    let bytes = report.bytes + done * this.#separator;
    for (const { payload } of report.rejected) bytes += payload.length;
    this.#kept.forgetBytes(bytes, this.#separator);
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
  }

  /** Reads no further, and completes, once those that were taken back are emitted, and what one peer got is emitted to all. */
  stop(): void {
    this.#isStopped = true;
    if (this.takenBack === 0 && this.#copies === 0) this.#finish();
  }

  #press(isFull: boolean): void {
    this.#isFull = isFull;
    if (isFull || this.#isPumping) return;
    // Inside a report the operator only queues: it goes on in a turn of its own, where that sends.
    this.#isPumping = true;
    setImmediate(() => this.#pump());
  }

  #start(subscriber: Subscriber<DatagramLike>): () => void {
    this.#subscriber = subscriber;
    this.#isFull = false;
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
    while (!this.#isFull && subscriber !== null && !subscriber.closed && this.#subscriber === subscriber) {
      const again = this.#again[this.#nextAgain];
      const frame = again ?? this.#nextFrame();
      if (frame === undefined) break;
      if (again === undefined) this.#emit(subscriber, frame);
      else {
        this.#nextAgain++;
        this.#kept?.add(again);
        subscriber.next(again);
      }
    }
    this.#isPumping = false;
    if (subscriber === null || this.#subscriber !== subscriber) return; // it was taken back meanwhile
    if (this.#isFull) this.#input.pause();
    else if (this.#hasEnded || this.#isStopped) this.#finish();
    else this.#input.resume();
  }

  /** The next frame of the input, held until all have got it. */
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

  /** Emits a frame, to the next of its peers. */
  #emit(subscriber: Subscriber<DatagramLike>, frame: Uint8Array): void {
    const peers = this.#peers;
    if (this.#copies === 0) {
      this.emitted++;
      this.#kept?.add(frame);
      this.#onFrame?.(frame);
    }
    const to = peers[this.#copies++];
    if (this.#copies >= peers.length) {
      this.#held = undefined;
      this.#copies = 0;
    }
    subscriber.next(to === undefined ? frame : { payload: frame, to });
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
