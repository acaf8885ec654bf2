/** What the operators have in common: a sender of its own for each subscription, whose reports are the output. */
import { Observable, type OperatorFunction, Subscriber } from 'rxjs';
import type { BatchReport } from '../../src/message/datagram.ts';
import type { ResolvedBatchOptions } from '../../src/sender/batch-options.ts';
import { checkSocketSource, openSender, type SocketSource } from '../../src/sender/outlet.ts';
import type { Sender } from '../../src/sender/sender.ts';

/** The sender as a Subscriber of the source: overriding `_next` costs half of what an observer costs behind one. */
export abstract class SenderSubscriber<T> extends Subscriber<T> {
  protected readonly sender: Sender;

  constructor(sender: Sender) {
    super();
    this.sender = sender;
  }

  protected abstract override _next(value: T): void;

  protected override _error(error: unknown): void {
    this.sender.delivery.abort(error);
    this.unsubscribe();
  }

  protected override _complete(): void {
    this.sender.delivery.end();
    this.unsubscribe();
  }
}

/**
 * An operator around a sender.
 *
 * @param socket - a socket that stays open, or a factory whose socket is closed with the subscription
 * @param subscriberOf - makes what subscribes to the source; it is unsubscribed with the output
 */
export function senderOperator<T>(
  socket: SocketSource,
  options: ResolvedBatchOptions,
  subscriberOf: (sender: Sender) => SenderSubscriber<T>,
): OperatorFunction<T, BatchReport> {
  checkSocketSource(socket);
  return (source) =>
    new Observable<BatchReport>((subscriber) => {
      // All state lives in here: every subscriber has a queue of its own.
      const { sender, own } = openSender(socket, options, subscriber);
      subscriber.add(() => {
        sender.delivery.destroy();
        own?.close();
      });
      // Made before the source is subscribed to, so that one which emits inside subscribe() can be stopped from downstream.
      const input = subscriberOf(sender);
      subscriber.add(input);
      if (!input.closed) source.subscribe(input);
    });
}
