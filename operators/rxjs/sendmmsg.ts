import type { OperatorFunction } from 'rxjs';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import { type BatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { SenderSubscriber, senderOperator } from './sender-subscriber.ts';

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
 * @returns an operator; its output errors only if the socket itself fails (`EBADF`, `ENOTSOCK`, …;
 * `ERR_SOCKET_DGRAM_NOT_RUNNING` if it was closed before) or if the queue is full with `overflow: 'error'` (`ENOBUFS`)
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
  return senderOperator(socket, resolveBatchOptions(options), (sender) => new DatagramSubscriber(sender));
}

class DatagramSubscriber extends SenderSubscriber<DatagramLike> {
  protected override _next(datagram: DatagramLike): void {
    if (this.sender.delivery.isOpen) this.sender.send(datagram);
  }
}
