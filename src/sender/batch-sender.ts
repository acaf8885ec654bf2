/** The sender for those who want no stream. */
import { argumentTypeError } from '../kernel/errors.ts';
import type { BatchReport, DatagramLike, Endpoint, Payload } from '../message/datagram.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import { type BatchOptions, resolveBatchOptions } from './batch-options.ts';
import type { BatchObserver } from './delivery.ts';
import type { SenderStats } from './diagnostics.ts';
import { Sender } from './sender.ts';

export type { BatchObserver } from './delivery.ts';

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
  readonly #sender: Sender;

  /**
   * @param socket - stays open when the sender is closed
   * @param options - see {@link BatchOptions}
   * @param observer - told of each flush, of failure and of completion
   * @throws SendmmsgError for bad options (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`), and
   * `ERR_SOCKET_DGRAM_NOT_RUNNING` if the socket is closed
   */
  constructor(socket: DatagramSocket<D>, options: BatchOptions = {}, observer: BatchObserver = {}) {
    if (!(socket instanceof DatagramSocket)) throw argumentTypeError('"socket"', 'a DatagramSocket', socket);
    this.#sender = new Sender(DatagramSocket.transportOf(socket), resolveBatchOptions(options), observer);
  }

  /**
   * Queues one datagram. A bad one is a rejection in the next report, not an exception.
   *
   * @returns whether there is room for another: `true` means that the next one will be queued whole, whatever its size (it may
   * exceed `highWaterMarkBytes`); if not, wait for {@link ready}, or the `overflow` option decides
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed; after a failure, the error that ended it
   */
  send(datagram: D): boolean {
    return this.#sender.send(datagram);
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
    return this.#sender.broadcast(payload, to);
  }

  /** Resolves when there is room for more: a quarter of the queue. Rejects if the sender fails. */
  ready(): Promise<void> {
    return this.#sender.delivery.ready();
  }

  /**
   * Sends what is queued, now, as far as the kernel takes it without waiting. With `offload` and through node:dgram that is only
   * begun: what is on its way is `requeued` here, and its end is told to the observer.
   *
   * @returns what this flush did; the observer gets the same report, if it did anything
   */
  flush(): BatchReport {
    return this.#sender.flush();
  }

  /** Sends what is queued, waiting for the kernel up to `drainTimeoutMs`; then drops the rest. Rejects if it failed. */
  close(): Promise<void> {
    return this.#sender.delivery.close();
  }

  /** Ends at once and in silence: nothing more is sent or told; what was queued is counted in the diagnostics. */
  destroy(): void {
    this.#sender.delivery.destroy();
  }

  /** Whether it was closed, or has failed: `send` throws then. */
  get closed(): boolean {
    return !this.#sender.delivery.isOpen;
  }

  /** Totals since the sender was made. */
  get stats(): SenderStats {
    return this.#sender.delivery.counters.snapshot();
  }

  /** `await using sender = new BatchSender(…)`: {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
