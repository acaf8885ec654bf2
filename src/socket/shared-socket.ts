/**
 * A node:dgram socket that is lent, where no duplicate of it can be had: to each borrower as a socket of its own.
 *
 * What is lent inherits from the socket itself, and so is bound, sends and has its knobs as that; its listeners, its `close` and
 * its `ref` are its own. The socket is closed when the last who has it closes it. As a duplicate would, it keeps the process alive as
 * long as it is lent.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { EventEmitter } from 'node:events';

export class SharedSocket {
  readonly #socket: Socket;
  readonly #type: 'udp4' | 'udp6';
  #isOwned = true;
  readonly #lent = new Set<Socket>();
  /** Those among them that keep the process alive. */
  readonly #keepers = new Set<Socket>();

  /** @param socket - bound, with a listener for its errors; does not keep the process alive */
  constructor(socket: Socket, type: 'udp4' | 'udp6') {
    this.#socket = socket;
    this.#type = type;
    socket.setMaxListeners(0); // each that is lent listens
  }

  lend(): Socket {
    const socket = this.#socket;
    const lent = Object.create(socket) as Socket;
    // Finds the listeners of its prototype, and makes a set of its own.
    (EventEmitter as unknown as (this: EventEmitter) => void).call(lent);
    const onMessage = (message: Buffer, remote: RemoteInfo): void => void lent.emit('message', message, remote);
    const onError = (error: Error): void => {
      if (lent.listenerCount('error') > 0) lent.emit('error', error);
    };
    socket.on('message', onMessage).on('error', onError);
    const own = {
      close: (callback?: () => void): Socket => {
        if (typeof callback === 'function') lent.once('close', callback);
        socket.off('message', onMessage).off('error', onError);
        for (const name of Object.keys(own)) Reflect.deleteProperty(lent, name);
        // From here on it answers as any that was closed.
        const closed = createSocket(this.#type);
        closed.close();
        Object.setPrototypeOf(lent, closed);
        this.#takeBack(lent);
        process.nextTick(() => lent.emit('close'));
        return lent;
      },
      ref: (): Socket => this.#keep(lent, true),
      unref: (): Socket => this.#keep(lent, false),
    };
    Object.assign(lent, own);
    this.#lent.add(lent);
    return this.#keep(lent, true);
  }

  /** Its owner needs it no more: it is closed, or else with the last that is lent. */
  close(): void {
    this.#isOwned = false;
    this.#closeIfLast();
  }

  #takeBack(lent: Socket): void {
    this.#lent.delete(lent);
    this.#keep(lent, false);
    this.#closeIfLast();
  }

  #keep(lent: Socket, isKept: boolean): Socket {
    if (isKept) this.#keepers.add(lent);
    else this.#keepers.delete(lent);
    if (this.#keepers.size > 0) this.#socket.ref();
    else this.#socket.unref();
    return lent;
  }

  #closeIfLast(): void {
    if (!this.#isOwned && this.#lent.size === 0) this.#socket.close();
  }
}
