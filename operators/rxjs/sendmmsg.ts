import { Observable, type OperatorFunction, Subscriber } from 'rxjs';
import { type BatchOptions, resolveBatchOptions } from '../../src/batch-options.ts';
import { BatchSender } from '../../src/batch-sender.ts';
import type { BatchReport, DatagramLike } from '../../src/datagram.ts';
import { DatagramSocket } from '../../src/datagram-socket.ts';
import { argumentTypeError } from '../../src/errors.ts';

/**
 * Sends each datagram that the source emits, in batches, through sendmmsg(2), and emits a report for each flush.
 *
 * Datagrams are queued until `batchSize` (or `batchBytes`) is reached or `flushAfterMs` has passed; what the kernel does
 * not take stays at the head of the queue and is sent first when it can. A bad datagram is one rejection in a report; the
 * stream lives on. When the source completes, the queue is drained, then the output completes; when it errors, there is
 * one last flush, then the error; on unsubscribe nothing more is sent. Every subscription has a queue of its own.
 *
 * Where the type of the socket tells that it has no peer (`DatagramSocket.open()` without `connect`), a bare payload as input
 * does not compile.
 *
 * @param socket - a socket that stays open, or a factory whose socket is closed with the subscription
 * @param options - see {@link BatchOptions}; checked at once
 * @returns an operator; its output errors only if the socket itself fails (`EBADF`, `ENOTSOCK`, …) or if the queue is
 * full with `overflow: 'error'` (`ENOBUFS`)
 * @throws SendmmsgError for bad options: `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`
 * @example
 * ```ts
 * import { interval, map, take } from 'rxjs';
 * import { DatagramSocket, sendmmsg } from 'rx-sendmmsg';
 * interval(10)
 *   .pipe(
 *     take(100),
 *     map((n) => ({ payload: `uptime:${n}|g`, address: '127.0.0.1', port: 8125 })),
 *     sendmmsg(() => DatagramSocket.open(), { flushAfterMs: 100 }),
 *   )
 *   .subscribe(({ sent, syscalls }) => console.log(`${sent} datagrams in ${syscalls} calls`));
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 */
export function sendmmsg<D extends DatagramLike = DatagramLike>(
  socket: DatagramSocket<D> | (() => DatagramSocket<D>),
  options: BatchOptions = {},
): OperatorFunction<D, BatchReport> {
  if (typeof socket !== 'function' && !(socket instanceof DatagramSocket)) {
    throw argumentTypeError('"socket"', 'a DatagramSocket, or a function that opens one', socket);
  }
  const resolved = resolveBatchOptions(options);
  return (source) =>
    new Observable<BatchReport>((subscriber) => {
      // All state lives in here: every subscriber has a ring of its own.
      const own = typeof socket === 'function' ? socket() : null;
      const sender = new BatchSender(own ?? (socket as DatagramSocket), resolved, subscriber);
      subscriber.add(() => {
        sender.destroy();
        own?.close();
      });
      // Made before the source is subscribed to, so that one which emits inside subscribe() can be stopped from downstream.
      const input = new DatagramSubscriber(sender);
      subscriber.add(input);
      source.subscribe(input);
    });
}

/** The sender as a Subscriber: overriding `_next` costs half of what an observer costs behind one. */
class DatagramSubscriber extends Subscriber<DatagramLike> {
  readonly #sender: BatchSender;

  constructor(sender: BatchSender) {
    super();
    this.#sender = sender;
  }

  protected override _next(datagram: DatagramLike): void {
    if (!this.#sender.closed) this.#sender.send(datagram);
  }

  protected override _error(error: unknown): void {
    this.#sender.abort(error);
    this.unsubscribe();
  }

  protected override _complete(): void {
    this.#sender.end();
    this.unsubscribe();
  }
}
