import { isObservable, type Observable, type OperatorFunction } from 'rxjs';
import type { BatchReport, Endpoint, Payload } from '../../src/message/datagram.ts';
import { lastingPeersError, type Peers } from '../../src/message/peers.ts';
import { type BatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import type { Sender } from '../../src/sender/sender.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { SenderSubscriber, senderOperator } from './sender-subscriber.ts';

/**
 * Sends each payload that the source emits to all current peers, in batches, and emits a report for each flush.
 *
 * A payload is encoded once, however many peers there are; each peer is one datagram. With several payloads a tick, `order:
 * 'destination'` sends each peer all of them as one message. Peers may come and go between two
 * payloads: of an iterable (a `Set` that is kept up to date) those count that it holds when the payload is emitted, of
 * a `Map` the values, of an Observable those of its last set; before its first there are none. An iterator
 * (`players.values()`), which could be walked for one payload only, is refused: pass the `Set`, `Map` or array itself.
 * A dead or bad peer is its own business: it neither stops nor slows the others. With `conflateBy: ({ to }) => to` a
 * congested socket sends each peer its latest state only.
 *
 * @param socket - an unconnected socket that stays open, or a factory whose socket is closed with the subscription
 * @param peers - the endpoints (an iterable, or a Map whose values they are), or an Observable of the current ones
 * @param options - see {@link BatchOptions}; `highWaterMark` should hold a payload for every peer
 * @returns an operator; its output errors only if the socket itself fails (or was closed before), if the queue is full
 * with `overflow: 'error'` (`ENOBUFS`), or if the Observable of peers errors or emits what is not iterable
 * (`ERR_INVALID_ARG_TYPE`) or is an iterator (`ERR_INVALID_ARG_VALUE`)
 * @throws SendmmsgError for bad arguments: `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`
 * @example
 * ```ts
 * import { interval, map, take } from 'rxjs';
 * import { broadcast, DatagramSocket, type Endpoint, endpoint } from 'rx-sendmmsg';
 * const clients = new Set<Endpoint>([endpoint('127.0.0.1', 4000), endpoint('127.0.0.1', 4001)]);
 * interval(50)
 *   .pipe(
 *     take(20),
 *     map((tick) => JSON.stringify({ tick })),
 *     broadcast(() => DatagramSocket.open(), clients),
 *   )
 *   .subscribe(({ sent, syscalls }) => console.log(`${sent} datagrams in ${syscalls} calls`));
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 */
export function broadcast(
  socket: DatagramSocket | (() => DatagramSocket),
  peers:
    | Iterable<Endpoint>
    | ReadonlyMap<unknown, Endpoint>
    | Observable<Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>>,
  options: BatchOptions = {},
): OperatorFunction<Payload, BatchReport> {
  if (!isObservable(peers)) {
    const error = lastingPeersError(peers, 'an iterable, or a Map, of endpoints, or an Observable of such');
    if (error !== undefined) throw error;
  }
  return senderOperator(socket, resolveBatchOptions(options), (sender) => new BroadcastSubscriber(sender, peers));
}

class BroadcastSubscriber extends SenderSubscriber<Payload> {
  #peers: Peers = [];

  constructor(sender: Sender, peers: Peers | Observable<Peers>) {
    super(sender);
    if (!isObservable(peers)) this.#peers = peers;
    else
      this.add(
        peers.subscribe({
          next: (current) => {
            const error = lastingPeersError(current, 'an Observable of iterables, or of Maps, of endpoints');
            if (error === undefined) this.#peers = current;
            else sender.delivery.abort(error);
          },
          error: (error: unknown) => sender.delivery.abort(error),
        }),
      );
  }

  protected override _next(payload: Payload): void {
    if (!this.sender.delivery.isOpen) return;
    try {
      this.sender.broadcast(payload, this.#peers);
    } catch (error) {
      this.sender.delivery.abort(error); // the peers' own iterator threw
    }
  }
}
