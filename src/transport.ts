/**
 * What a sender needs of a socket, whatever does the sending; and the native one: a descriptor and libc.
 *
 * A transport owns its descriptor. Every call checks `isClosed` first, and closing waits for calls on the thread pool, so
 * that no number is used after the kernel may have given it to someone else's file.
 */
import { AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, SO_ERROR, SOL_SOCKET, SOL_UDP, UDP_SEGMENT } from './abi.ts';
import { EAGAIN, EBADF } from './errno.ts';
import { GsoLatch } from './gso.ts';
import type { Arena, Libc, NativeBackend } from './libc.ts';
import type { MmsgRing } from './mmsg-ring.ts';
import { pollWritable, type StopPolling } from './writable-poller.ts';

/** What does the sending: the system call, its elder brother one by one, or node:dgram one by one. */
export type Backend = NativeBackend | 'node:dgram';

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
  /** Where GSO was refused, for all senders of this socket. */
  readonly latch: GsoLatch;
  /** Memory that this transport can send from. */
  allocate(bytes: number): Arena;
  /** Sends the first `vlen` slots without blocking: the number taken, or `-errno`. `null` where it cannot be done inline. */
  readonly sendmmsg: ((ring: MmsgRing, vlen: number) => number) | null;
  /** The same, answered in a later turn. The ring and the descriptor are held until then. */
  sendmmsgLater(ring: MmsgRing, vlen: number, done: (answer: number) => void): void;
  /** Reads and clears SO_ERROR. */
  takeError(): number;
  /** Connects a unix socket again to the path it was connected to; does nothing for any other. */
  reconnect(): void;
  /** Calls `ready` once when there may be room; `null` where POLLOUT lies and only a timer will do. */
  waitWritable(ready: () => void): StopPolling | null;
  /** Calls `listener` when the transport is closed. Returns how to leave. */
  onClose(listener: () => void): () => void;
}

/** A descriptor, and the calls on it. */
export class NativeTransport implements Transport {
  readonly backend: NativeBackend;
  readonly family: number;
  readonly isConnected: boolean;
  readonly supportsGso: boolean;
  readonly supportsControl = true;
  readonly latch: GsoLatch = new GsoLatch();
  readonly libc: Libc;
  readonly sendmmsg: (ring: MmsgRing, vlen: number) => number;
  #fd: number;
  #isClosed = false;
  #callsInFlight = 0;
  readonly #peer: Uint8Array | undefined;
  readonly #closeListeners = new Set<() => void>();

  /** @param peer - the sockaddr that a unix socket was connected to: when its owner goes, the kernel disconnects it */
  constructor(libc: Libc, fd: number, family: number, isConnected: boolean, peer?: Uint8Array) {
    this.#peer = peer;
    this.libc = libc;
    this.backend = libc.backend;
    this.#fd = fd;
    this.family = family;
    this.isConnected = isConnected;
    // Asking is not setting. An older kernel would ignore the control message and send a run as one datagram; so would
    // a unix socket. Where the option is set already, the datagrams are cut by whoever set it.
    this.supportsGso = family !== AF_UNIX && libc.getsockopt(fd, SOL_UDP, UDP_SEGMENT) === 0;
    this.sendmmsg = (ring, vlen) => this.sendmmsgWith(ring, vlen, 0);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** The descriptor; -1 once closed. */
  get fd(): number {
    return this.#isClosed ? -1 : this.#fd;
  }

  allocate(bytes: number): Arena {
    return this.libc.allocate(bytes);
  }

  /** sendmmsg(2) with more flags; it never blocks and never raises SIGPIPE. */
  sendmmsgWith(ring: MmsgRing, vlen: number, flags: number): number {
    if (this.#isClosed) return -EBADF;
    return this.libc.sendmmsg(this.#fd, ring.arena, ring.headAt, vlen, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  sendmmsgLater(ring: MmsgRing, vlen: number, done: (answer: number) => void): void {
    if (this.#isClosed) {
      setImmediate(done, -EBADF);
      return;
    }
    const land = (answer: number): void => {
      this.#callsInFlight--;
      if (this.#isClosed && this.#callsInFlight === 0) this.libc.close(this.#fd);
      done(answer);
    };
    this.#callsInFlight++;
    try {
      this.libc.sendmmsgAsync(this.#fd, ring.arena, ring.headAt, vlen, MSG_DONTWAIT | MSG_NOSIGNAL, land);
    } catch {
      // koffi takes so many calls at once (`max_async_calls`) and no more: nothing was sent, as if the kernel were full.
      setImmediate(land, -EAGAIN);
    }
  }

  takeError(): number {
    return this.#isClosed ? 0 : Math.max(0, this.libc.getsockopt(this.#fd, SOL_SOCKET, SO_ERROR));
  }

  reconnect(): void {
    // If nobody is there yet, the next datagram says so.
    if (this.#peer !== undefined && !this.#isClosed) this.libc.connect(this.#fd, this.#peer);
  }

  waitWritable(ready: () => void): StopPolling | null {
    // An unconnected unix socket is always writable, whether or not the peer of the next datagram is full.
    if (this.#isClosed || (this.family === AF_UNIX && !this.isConnected)) return null;
    try {
      return pollWritable(this.#fd, ready);
    } catch {
      return null; // no descriptor left to poll on (EMFILE): a timer needs none
    }
  }

  onClose(listener: () => void): () => void {
    this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#callsInFlight === 0) this.libc.close(this.#fd);
    for (const listener of [...this.#closeListeners]) listener();
    this.#closeListeners.clear();
  }
}
