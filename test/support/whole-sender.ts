/** A sender with all ways to end it: those of `BatchSender`, and those that an operator has when its source completes or errors. */
import type { BatchReport, DatagramLike, Endpoint, Payload } from '../../src/message/datagram.ts';
import { type BatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import type { BatchObserver } from '../../src/sender/delivery.ts';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import { Sender } from '../../src/sender/sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';

export class WholeSender<D extends DatagramLike = DatagramLike> {
  readonly inner: Sender;

  constructor(socket: DatagramSocket<D>, options: BatchOptions = {}, observer: BatchObserver = {}) {
    this.inner = new Sender(DatagramSocket.transportOf(socket), resolveBatchOptions(options), observer);
  }

  send(datagram: D): boolean {
    return this.inner.send(datagram);
  }

  broadcast(payload: Payload, to: Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>): boolean {
    return this.inner.broadcast(payload, to);
  }

  ready(): Promise<void> {
    return this.inner.delivery.ready();
  }

  flush(): BatchReport {
    return this.inner.flush();
  }

  close(): Promise<void> {
    return this.inner.delivery.close();
  }

  end(): void {
    this.inner.delivery.end();
  }

  abort(error: unknown): void {
    this.inner.delivery.abort(error);
  }

  destroy(): void {
    this.inner.delivery.destroy();
  }

  get closed(): boolean {
    return !this.inner.delivery.isOpen;
  }

  get stats(): SenderStats {
    return this.inner.delivery.counters.snapshot();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
