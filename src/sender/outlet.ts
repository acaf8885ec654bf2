/**
 * The way out for the doors that hold their source back (Ix, streams): a sender that is never given more than fits, and
 * the socket that is closed with it where a factory opened it.
 *
 * The sender says after each datagram whether the next one will be queued whole, whatever its size; if not, this waits.
 */

import { argumentTypeError } from '../kernel/errors.ts';
import type { DatagramLike } from '../message/datagram.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import type { BatchObserver } from './delivery.ts';
import { Sender } from './sender.ts';

/** A socket that stays open, or a factory whose socket is closed with what sends through it. */
export type SocketSource = DatagramSocket | (() => DatagramSocket);

/** Datagrams after which the event loop has its turn, though the source never waits: timers, signals, other sockets. */
const DATAGRAMS_PER_TURN = 1024;

/** Throws SendmmsgError for what is neither a socket nor a function. */
export function checkSocketSource(socket: unknown): void {
  if (typeof socket === 'function' || socket instanceof DatagramSocket) return;
  throw argumentTypeError('"socket"', 'a DatagramSocket, or a function that opens one', socket);
}

/** Throws SendmmsgError for what is no AbortSignal, by its shape: it may be of another realm, or of a library. */
export function checkSignal(name: string, signal: unknown): void {
  const { aborted, addEventListener, removeEventListener } = Object(signal) as Partial<AbortSignal>;
  if (
    typeof aborted === 'boolean' &&
    typeof addEventListener === 'function' &&
    typeof removeEventListener === 'function'
  )
    return;
  throw argumentTypeError(name, 'an AbortSignal', signal);
}

/** A sender, and the socket that was opened for it and is to be closed after it: also here, where the sender cannot be made. */
export function openSender(
  socket: SocketSource,
  options: ResolvedBatchOptions,
  observer: BatchObserver,
): { sender: Sender; own: DatagramSocket | null } {
  const own = typeof socket === 'function' ? socket() : null;
  try {
    const opened = own ?? socket;
    if (!(opened instanceof DatagramSocket)) throw argumentTypeError('"socket"', 'a DatagramSocket', opened);
    return { sender: new Sender(DatagramSocket.transportOf(opened), options, observer), own };
  } catch (error) {
    if (own instanceof DatagramSocket) own.close();
    throw error;
  }
}

export class Outlet {
  readonly sender: Sender;
  readonly #own: DatagramSocket | null;
  readonly #perTurn: number;
  #untilTurn: number;

  constructor(socket: SocketSource, options: ResolvedBatchOptions, observer: BatchObserver) {
    const { batchSize, highWaterMark } = options;
    // Whole batches: a turn that came in the middle of one would flush it early.
    const batch = Math.min(batchSize, highWaterMark);
    this.#perTurn = Math.ceil(DATAGRAMS_PER_TURN / batch) * batch;
    this.#untilTurn = this.#perTurn;
    const { sender, own } = openSender(socket, options, {
      next: (report) => observer.next?.(report),
      error: (error) => {
        this.#close();
        observer.error?.(error);
      },
      complete: () => {
        this.#close();
        observer.complete?.();
      },
    });
    this.sender = sender;
    this.#own = own;
  }

  /**
   * Queues one datagram, at once.
   *
   * @returns a promise where something has to be waited for before the next one; it rejects if the sender has failed
   */
  send(datagram: DatagramLike): Promise<void> | undefined {
    const hasRoom = this.sender.send(datagram);
    if (--this.#untilTurn === 0) return this.#nextTurn();
    const { delivery } = this.sender;
    return hasRoom && delivery.isOpen ? undefined : delivery.ready();
  }

  /** Ends at once and in silence: nothing more is sent or told. */
  destroy(): void {
    this.sender.delivery.destroy();
    this.#close();
  }

  async #nextTurn(): Promise<void> {
    this.#untilTurn = this.#perTurn;
    await new Promise((resolve) => setImmediate(resolve));
    await this.sender.delivery.ready();
  }

  #close(): void {
    this.#own?.close();
  }
}
