/**
 * What a sender needs of a socket, whatever does the sending; and the native one: a descriptor and libc.
 *
 * A transport owns its descriptor. Every call checks `isClosed` first, and closing waits for calls on the thread pool, so
 * that no number is used after the kernel may have given it to someone else's file. Who lays out a batch by `isConnected`
 * listens to `onClose` as long as it has it, and so long the socket is neither connected nor disconnected.
 */
import { AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, SO_ERROR, SOL_SOCKET, SOL_UDP, UDP_SEGMENT } from '../kernel/abi.ts';
import type { Backend } from '../kernel/backend.ts';
import { inContext } from '../kernel/call-out.ts';
import { type Clock, eventLoopClockOf, KeepAlive } from '../kernel/clock.ts';
import type { Descriptor } from '../kernel/descriptor.ts';
import { EAGAIN, EBADF, EPIPE } from '../kernel/errno.ts';
import { notConnectedError, SendmmsgError, systemError } from '../kernel/errors.ts';
import type { Arena, NativeBackend, SendingLibc } from '../kernel/libc.ts';
import { type StopWaiting, whenWritable } from '../kernel/readiness.ts';
import type { Destination } from '../message/datagram.ts';
import { NO_BYTES } from '../message/payload.ts';
import { describeName, sockaddrBytes, sockaddrOfPath } from '../message/sockaddr.ts';
import type { Batch } from '../queue/batch.ts';
import { GsoLatch } from '../queue/gso.ts';
import { NativeControls } from './socket-controls.ts';
import type { SocketName } from './socket-options.ts';

/** A socket as the sender sees it. */
export interface Transport {
  readonly backend: Backend;
  /** AF_INET, AF_INET6 or AF_UNIX. */
  readonly family: number;
  readonly isConnected: boolean;
  readonly isClosed: boolean;
  /** Whether the kernel knows UDP_SEGMENT for this socket. */
  readonly supportsGso: boolean;
  /** Whether a datagram may carry control messages. */
  readonly supportsControl: boolean;
  /** Whether the socket itself has UDP_SEGMENT set, and each datagram has to say that it is to leave whole. */
  readonly cutsDatagrams: boolean;
  /** Whom it is connected to, for errors; empty where it is not, or where the peer has no name. */
  readonly peer: Destination;
  /** Where GSO was refused, for all senders of this socket. */
  readonly latch: GsoLatch;
  /** The event loop's timers, which keep the process alive or, after `socket.unref()`, do not. */
  readonly clock: Clock;
  /** Memory that this transport can send from. */
  allocate(bytes: number): Arena;
  /** Whether calls may have flags: MSG_DONTROUTE, MSG_CONFIRM. */
  readonly takesFlags: boolean;
  /** Sends the first `vlen` messages of a batch without blocking: the number taken, or `-errno`. `null` where it cannot be done inline. */
  readonly sendmmsg: ((batch: Batch, vlen: number, flags: number) => number) | null;
  /**
   * The same, answered in a later turn. The batch and the descriptor are held until then. Where that takes several calls, those that
   * are left are not made once `isWanted` says no.
   */
  sendmmsgLater(
    batch: Batch,
    vlen: number,
    flags: number,
    done: (answer: number) => void,
    isWanted?: () => boolean,
  ): void;
  /** Reads and clears SO_ERROR. */
  takeError(): number;
  /** Connects a unix socket again to the path it was connected to: 0 or `-errno`; does nothing for any other. */
  reconnect(): number;
  /** Whether EPIPE speaks of the socket, which was shut down for sending, shutdown(2), and not of one destination. */
  isShutDown(): boolean;
  /** Calls `ready` once when there may be room; `null` where POLLOUT lies and only a timer will do. */
  waitWritable(ready: () => void): StopWaiting | null;
  /** Calls `listener` when the transport is closed. Returns how to leave. */
  onClose(listener: () => void): () => void;
}

/** What every transport is: connected or not, closed or not, and waited for. */
export abstract class TransportState {
  latch: GsoLatch = new GsoLatch();
  readonly keepAlive: KeepAlive = new KeepAlive();
  readonly clock: Clock = eventLoopClockOf(this.keepAlive);
  #peer: Destination | null;
  #isClosed = false;
  readonly #closeListeners = new Set<() => void>();

  /** @param peer - `null`: it is not connected */
  constructor(peer: Destination | null) {
    this.#peer = peer;
  }

  get isConnected(): boolean {
    return this.#peer !== null;
  }

  get peer(): Destination {
    return this.#peer ?? NOBODY;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Connects, or without a peer disconnects. Throws SendmmsgError. */
  setPeer(peer: SocketName | null): void {
    if (peer !== null && this.isConnected)
      throw new SendmmsgError('Already connected: call disconnect() first', IS_CONNECTED);
    if (peer === null && !this.isConnected) throw notConnectedError();
    if (this.isInUse) throw new SendmmsgError('connect EBUSY: close the senders of this socket first', BUSY);
    this.applyPeer(peer);
    this.#peer = peer === null ? null : destinationOf(peer);
    this.latch = new GsoLatch(); // what was learnt was about another route
  }

  onClose(listener: () => void): () => void {
    this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.release();
    for (const listener of [...this.#closeListeners]) listener();
    this.#closeListeners.clear();
  }

  /** Whether there are batches that were laid out by `isConnected`. */
  protected get isInUse(): boolean {
    return this.#closeListeners.size > 0;
  }

  protected abstract applyPeer(peer: SocketName | null): void;
  protected abstract release(): void;
}

const NOBODY: Destination = {};

/** A name without its encoding. */
export function destinationOf({ address, port, path }: Destination): Destination {
  if (path !== undefined) return { path };
  return address === undefined || port === undefined ? NOBODY : { address, port };
}

const IS_CONNECTED = { code: 'ERR_SOCKET_DGRAM_IS_CONNECTED' } as const;
const BUSY = { code: 'EBUSY', syscall: 'connect' } as const;

/** A sockaddr of AF_UNSPEC, which dissolves the connection of a datagram socket, connect(2). */
const NO_PEER = new Uint8Array(16);

/** Nobody's: an abstract unix address that is never bound, unix(7). */
const NO_ONE = '\0rx-sendmmsg/nobody';

/** A descriptor, and the calls on it. */
export class NativeTransport extends TransportState implements Transport {
  readonly backend: NativeBackend;
  readonly family: number;
  readonly supportsGso: boolean;
  readonly cutsDatagrams: boolean;
  readonly libc: SendingLibc;
  readonly controls: NativeControls = new NativeControls(this);
  readonly supportsControl = true;
  readonly takesFlags = true;
  readonly sendmmsg: (batch: Batch, vlen: number, flags: number) => number;
  readonly #descriptor: Descriptor;
  readonly #fd: number;
  #callsInFlight = 0;
  /** Where a unix socket was connected to: when its owner goes, the kernel disconnects it. */
  #peerName: Uint8Array | undefined;

  /** The descriptor may be connected already. */
  constructor(libc: SendingLibc, descriptor: Descriptor, family: number) {
    const { fd } = descriptor;
    const peerName = libc.getpeername(fd);
    super(typeof peerName === 'number' ? null : namedPeer(peerName));
    this.libc = libc;
    this.backend = libc.backend;
    this.#descriptor = descriptor;
    this.#fd = fd;
    this.family = family;
    if (family === AF_UNIX && this.peer.path !== undefined) this.#peerName = peerName as Uint8Array;
    // Asking is not setting. An older kernel would ignore the control message and send a run as one datagram; so would
    // a unix socket.
    const segmentSize = family === AF_UNIX ? -1 : libc.getsockopt(fd, SOL_UDP, UDP_SEGMENT);
    this.supportsGso = segmentSize >= 0;
    this.cutsDatagrams = segmentSize > 0;
    this.sendmmsg = (batch, vlen, flags) => {
      if (this.isClosed) return -EBADF;
      return this.libc.sendmmsg(this.#fd, batch.arena, batch.headAt, vlen, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    };
  }

  /** The descriptor; -1 once closed. */
  get fd(): number {
    return this.isClosed ? -1 : this.#fd;
  }

  allocate(bytes: number): Arena {
    return this.libc.allocate(bytes);
  }

  sendmmsgLater(
    batch: Batch,
    vlen: number,
    flags: number,
    done: (answer: number) => void,
    isWanted?: () => boolean,
  ): void {
    if (this.isClosed) {
      setImmediate(done, -EBADF);
      return;
    }
    // Node.js 24 and later, Bun and Deno answer outside of the caller's async context.
    const land = inContext((answer: number): void => {
      this.#callsInFlight--;
      if (this.isClosed && this.#callsInFlight === 0) this.#descriptor.close();
      done(answer);
    });
    const goesOn = (): boolean => !this.isClosed && isWanted?.() !== false;
    const bits = flags | MSG_DONTWAIT | MSG_NOSIGNAL;
    this.#callsInFlight++;
    try {
      this.libc.sendmmsgAsync(this.#fd, batch.arena, batch.headAt, vlen, bits, land, goesOn);
    } catch {
      // koffi takes so many calls at once (`max_async_calls`) and no more: nothing was sent, as if the kernel were full.
      setImmediate(land, -EAGAIN);
    }
  }

  takeError(): number {
    return this.isClosed ? 0 : Math.max(0, this.libc.getsockopt(this.#fd, SOL_SOCKET, SO_ERROR));
  }

  reconnect(): number {
    return this.#peerName === undefined || this.isClosed ? 0 : this.libc.connect(this.#fd, this.#peerName);
  }

  isShutDown(): boolean {
    if (this.isClosed || this.family !== AF_UNIX || this.isConnected) return true;
    // The kernel looks at this side first, and only then finds nobody there: nothing is sent.
    const nobody = sockaddrBytes({ sockaddr: sockaddrOfPath(NO_ONE) });
    return this.libc.sendto(this.#fd, NO_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL, nobody) === -EPIPE;
  }

  waitWritable(ready: () => void): StopWaiting | null {
    // An unconnected unix socket is always writable, whether or not the peer of the next datagram is full.
    if (this.isClosed || (this.family === AF_UNIX && !this.isConnected)) return null;
    try {
      return whenWritable(this.#fd, this.keepAlive, ready);
    } catch {
      return null; // no descriptor left to poll on (EMFILE): a timer needs none
    }
  }

  bindToDevice(device: string): void {
    this.controls.bindToDevice(device);
  }

  setDontFragment(flag: boolean): void {
    this.controls.setDontFragment(flag);
  }

  mtu(): number {
    return this.controls.mtu();
  }

  /** With a call on the thread pool, its sender may be gone, but not its batch. */
  protected override get isInUse(): boolean {
    return super.isInUse || this.#callsInFlight > 0;
  }

  protected override applyPeer(name: SocketName | null): void {
    const peer = name === null ? NO_PEER : sockaddrBytes(name);
    const answer = this.libc.connect(this.#fd, peer);
    if (answer < 0) throw systemError(-answer, 'connect', name ?? {});
    this.#peerName = this.family === AF_UNIX && name !== null ? peer : undefined;
  }

  protected override release(): void {
    if (this.#callsInFlight === 0) this.#descriptor.close();
  }
}

/** Whom a descriptor was connected to when it came; one of a socketpair(2) has no name. */
function namedPeer(name: Uint8Array): Destination {
  const destination = describeName(name);
  return destination.path === '' ? NOBODY : destination;
}
