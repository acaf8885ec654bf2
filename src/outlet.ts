/**
 * The way out for the doors that hold their source back (Ix, streams): a sender that is never given more than fits, and
 * the socket that is closed with it where a factory opened it.
 *
 * The sender says after each datagram whether there is room for one like those before; a larger one would have to push
 * others out. So its size is looked at here before it is sent.
 */
import type { ResolvedBatchOptions } from './batch-options.ts';
import { type BatchObserver, BatchSender } from './batch-sender.ts';
import type { DatagramLike } from './datagram.ts';
import { DatagramSocket } from './datagram-socket.ts';
import { argumentTypeError } from './errors.ts';
import { WRAP_SLACK } from './mmsg-ring.ts';
import { MAX_UTF8 } from './payload.ts';

/** A socket that stays open, or a factory whose socket is closed with what sends through it. */
export type SocketSource = DatagramSocket | (() => DatagramSocket);

/** Datagrams after which the event loop has its turn, though the source never waits: timers, signals, other sockets. */
const DATAGRAMS_PER_TURN = 1024;

/** Throws SendmmsgError for what is neither a socket nor a function. */
export function checkSocketSource(socket: unknown): void {
  if (typeof socket === 'function' || socket instanceof DatagramSocket) return;
  throw argumentTypeError('"socket"', 'a DatagramSocket, or a function that opens one', socket);
}

export class Outlet {
  readonly sender: BatchSender;
  readonly #own: DatagramSocket | null;
  readonly #maxBytes: number;
  readonly #perTurn: number;
  /** Bytes that are free for certain: flushes since it was counted have only freed more. */
  #freeBytes: number;
  #untilTurn: number;
  /** Wakes the datagram that waits for its bytes to fit. */
  #wake: () => void = () => {};

  constructor(socket: SocketSource, options: ResolvedBatchOptions, observer: BatchObserver) {
    const { batchSize, highWaterMark, highWaterMarkBytes } = options;
    this.#maxBytes = highWaterMarkBytes;
    this.#freeBytes = highWaterMarkBytes;
    // Whole batches: a turn that came in the middle of one would flush it early.
    const batch = Math.min(batchSize, highWaterMark);
    this.#perTurn = Math.ceil(DATAGRAMS_PER_TURN / batch) * batch;
    this.#untilTurn = this.#perTurn;
    const own = typeof socket === 'function' ? socket() : null;
    this.#own = own;
    this.sender = new BatchSender(own ?? (socket as DatagramSocket), options, {
      next: (report) => {
        this.#wake();
        observer.next?.(report);
      },
      error: (error) => {
        this.#close();
        observer.error?.(error);
      },
      complete: () => {
        this.#close();
        observer.complete?.();
      },
    });
  }

  /**
   * Queues one datagram, at once if it fits.
   *
   * @returns a promise where something has to be waited for before the next one; it rejects if the sender has failed, or
   * was destroyed before the datagram fitted
   */
  send(datagram: DatagramLike): Promise<void> | undefined {
    const bound = sizeBound(datagram);
    // A larger one may find no room in a row where the ring wraps, though its bytes are free: it goes into an empty queue.
    const bytes = bound > WRAP_SLACK ? this.#maxBytes : Math.min(bound, this.#maxBytes);
    if (bytes > this.#freeBytes && !this.#hasRoomFor(bytes)) return this.#sendWhenItFits(datagram, bytes);
    return this.#sendNow(datagram, bytes);
  }

  /** Ends at once and in silence: nothing more is sent or told. */
  destroy(): void {
    this.sender.destroy();
    this.#close();
  }

  #sendNow(datagram: DatagramLike, bytes: number): Promise<void> | undefined {
    this.#freeBytes -= bytes;
    const hasRoom = this.sender.send(datagram);
    if (--this.#untilTurn === 0) return this.#nextTurn();
    return hasRoom && !this.sender.closed ? undefined : this.sender.ready();
  }

  async #sendWhenItFits(datagram: DatagramLike, bytes: number): Promise<void> {
    this.sender.flush(); // it may be waiting for its timer only
    while (!this.sender.closed && !this.#hasRoomFor(bytes)) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    await this.#sendNow(datagram, bytes);
  }

  #hasRoomFor(bytes: number): boolean {
    this.#freeBytes = this.#maxBytes - this.sender.stats.queuedBytes;
    return bytes <= this.#freeBytes;
  }

  async #nextTurn(): Promise<void> {
    this.#untilTurn = this.#perTurn;
    await new Promise((resolve) => setImmediate(resolve));
    await this.sender.ready();
  }

  #close(): void {
    this.#wake();
    this.#own?.close();
  }
}

/** The most bytes that a datagram may have; 0 if it is none. What it turns out to be is the sender's to say. */
function sizeBound(datagram: unknown): number {
  try {
    const isDatagram = typeof datagram === 'object' && !ArrayBuffer.isView(datagram) && !Array.isArray(datagram);
    const payload = isDatagram ? (datagram as { payload?: unknown } | null)?.payload : datagram;
    const parts: readonly unknown[] = Array.isArray(payload) ? payload : [payload];
    let bytes = 0;
    for (const part of parts) {
      if (typeof part === 'string') bytes += part.length * MAX_UTF8;
      else if (ArrayBuffer.isView(part)) bytes += part.byteLength;
    }
    return bytes >= 0 ? bytes : 0; // a view may have a byteLength of its own making
  } catch {
    return 0; // a getter that throws is a rejection, later
  }
}
