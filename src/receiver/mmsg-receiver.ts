/**
 * Receiving: recvmmsg(2) into an arena of its own, with UDP_GRO undone, for the command line and the benchmarks. Where a seccomp
 * filter forbids that, recvmsg(2), slot by slot.
 *
 *     arena | mmsghdr × slots | iovec × slots | control × slots | payload × slots ............ |
 *
 * A slot's payload buffer is large and hardly ever full: its pages cost memory only once they are touched.
 */
import {
  AF_UNIX,
  IOV_LEN,
  IOVEC_SIZE,
  MMSGHDR_SIZE,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_DONTWAIT,
  MSG_FLAGS,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_LEN,
  MSG_TRUNC,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from '../kernel/abi.ts';
import { EAGAIN, EBADF } from '../kernel/errno.ts';
import { systemError } from '../kernel/errors.ts';
import type { Arena } from '../kernel/libc.ts';
import { type StopWaiting, watchReadable } from '../kernel/readiness.ts';
import { CONTROL_SIZE, groSegmentSize } from '../message/cmsg.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import type { NativeTransport } from '../socket/transport.ts';

/** How to receive; everything is optional. */
export interface ReceiverOptions {
  /** Most `mmsghdr`s a call; default 64. */
  readonly batchSize?: number;
  /** Most bytes of a datagram, the rest is cut off and told; default 65 536, which every UDP datagram fits into. */
  readonly maxSize?: number;
  /** Let the kernel merge the datagrams of a flow (UDP_GRO); default true. They come out one by one all the same. */
  readonly gro?: boolean;
  /** SO_RCVBUF, past `net.core.rmem_max` where that is allowed (SO_RCVBUFFORCE); default: as it is. */
  readonly recvBufferSize?: number;
}

/** Is given one datagram, bytes `start` to `end` of `bytes`, which are overwritten by the next call. */
export type DatagramSink = (bytes: Buffer, start: number, end: number) => void;

/** What the command line and the benchmarks receive with, whatever does the receiving. */
export interface DatagramReceiver {
  readonly backend: 'recvmmsg' | 'recvmsg' | 'node:dgram';
  /** System calls that brought something; `null` where node:dgram makes them, which does not tell. */
  readonly calls: number | null;
  /** Datagrams that were larger than `maxSize`; they are handed over as far as they fit. */
  readonly truncated: number;
  /** Datagrams that the kernel had handed over, and for which there was no room here. */
  readonly dropped: number;
  /** SO_RCVBUF as the kernel has it (on Linux twice what was asked for, or what it allows). */
  readonly recvBufferSize: number;
  /** Calls `ready` each time there is something to receive, until stopped. Keeps the process alive. */
  poll(ready: () => void): StopWaiting;
  /**
   * Hands over what there is, without waiting.
   *
   * @param most - datagrams, or what the kernel has merged of them
   * @returns whether there may be more to receive
   */
  receive(sink: DatagramSink, most?: number): boolean;
  /** Resolves when what the kernel holds by now is there to be received. */
  caughtUp(): Promise<void>;
}

/** Errors that speak of something else than the receiving socket: late ICMP answers, an interrupted call. */
const PASSING: ReadonlySet<string> = new Set(['EINTR', 'ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN']);

export class MmsgReceiver implements DatagramReceiver {
  readonly backend: 'recvmmsg' | 'recvmsg';
  calls: number = 0;
  datagrams: number = 0;
  bytes: number = 0;
  truncated: number = 0;
  /** None: they stay with the kernel until they are received. */
  readonly dropped: number = 0;

  readonly #transport: NativeTransport;
  readonly #arena: Arena;
  readonly #slots: number;
  readonly #slotSize: number;
  readonly #controls: number;
  readonly #payloads: number;

  /**
   * @param socket - stays the caller's
   * @throws SendmmsgError `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` where there is no recvmmsg(2), `EBADF` on a closed socket
   */
  constructor(socket: DatagramSocket, options: ReceiverOptions = {}) {
    const { batchSize = 64, maxSize = 65_536, gro = true, recvBufferSize } = options;
    this.#transport = DatagramSocket.nativeOf(socket);
    this.#slots = batchSize;
    this.#slotSize = (maxSize + 7) & ~7;
    this.#controls = batchSize * (MMSGHDR_SIZE + IOVEC_SIZE);
    this.#payloads = this.#controls + batchSize * CONTROL_SIZE;
    this.#arena = this.#transport.allocate(this.#payloads + batchSize * this.#slotSize);
    for (let slot = 0; slot < batchSize; slot++) this.#wire(slot, maxSize);
    const { libc, fd, family } = this.#transport;
    // A seccomp filter answers before the kernel looks at the descriptor; the kernel itself with EBADF.
    this.backend = libc.recvmmsg(-1, this.#arena, 0, 0, MSG_DONTWAIT) === -EBADF ? 'recvmmsg' : 'recvmsg';
    // Both are asked for, not insisted on: an older kernel knows no GRO, and a container forbids SO_RCVBUFFORCE.
    if (gro && family !== AF_UNIX) libc.setsockopt(fd, SOL_UDP, UDP_GRO, 1);
    if (recvBufferSize !== undefined && libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, recvBufferSize) < 0) {
      libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, recvBufferSize);
    }
  }

  get recvBufferSize(): number {
    return this.#transport.libc.getsockopt(this.#transport.fd, SOL_SOCKET, SO_RCVBUF);
  }

  poll(ready: () => void): StopWaiting {
    return watchReadable(this.#transport.fd, ready);
  }

  /** At once: the kernel is asked. */
  async caughtUp(): Promise<void> {}

  /**
   * One call of recvmmsg(2), or one of recvmsg(2) for each datagram; never blocks.
   *
   * @param most - most `mmsghdr`s to take; with GRO each may hold several datagrams
   * @returns whether there may be more to receive
   * @throws SendmmsgError with the errno, if the socket itself failed
   */
  receive(sink: DatagramSink, most: number = this.#slots): boolean {
    const vlen = Math.min(most, this.#slots);
    const u32 = this.#arena.u32;
    // The kernel writes back how much control data there was, and takes that for the room there is the next time.
    for (let slot = 0; slot < vlen; slot++) u32[(slot * MMSGHDR_SIZE + MSG_CONTROLLEN) >>> 2] = CONTROL_SIZE;
    const taken = this.backend === 'recvmmsg' ? this.#receiveMany(vlen) : this.#receiveEach(vlen);
    if (taken === -EAGAIN) return false;
    if (taken < 0) {
      const error = systemError(-taken, this.backend);
      if (!PASSING.has(error.code)) throw error;
      return true;
    }
    this.calls += this.backend === 'recvmmsg' ? 1 : taken;
    for (let slot = 0; slot < taken; slot++) this.#split(slot, sink);
    return taken === vlen;
  }

  #receiveMany(vlen: number): number {
    const { libc, fd } = this.#transport;
    return libc.recvmmsg(fd, this.#arena, 0, vlen, MSG_DONTWAIT);
  }

  /** recvmmsg(2) as its page tells it: a count, or `-errno` only if there was none. */
  #receiveEach(vlen: number): number {
    const { libc, fd } = this.#transport;
    for (let slot = 0; slot < vlen; slot++) {
      const header = slot * MMSGHDR_SIZE;
      const length = libc.recvmsg(fd, this.#arena, header, MSG_DONTWAIT);
      if (length < 0) return slot > 0 ? slot : length;
      this.#arena.u32[(header + MSG_LEN) >>> 2] = length;
    }
    return vlen;
  }

  #wire(slot: number, maxSize: number): void {
    const header = slot * MMSGHDR_SIZE;
    const iovec = this.#slots * MMSGHDR_SIZE + slot * IOVEC_SIZE;
    const { u32 } = this.#arena;
    this.#arena.writePointer(header + MSG_IOV, iovec);
    u32[(header + MSG_IOVLEN) >>> 2] = 1;
    this.#arena.writePointer(header + MSG_CONTROL, this.#controls + slot * CONTROL_SIZE);
    this.#arena.writePointer(iovec, this.#payloads + slot * this.#slotSize);
    u32[(iovec + IOV_LEN) >>> 2] = maxSize;
  }

  /** Hands over the datagrams of a slot: one, or those that GRO has merged. */
  #split(slot: number, sink: DatagramSink): void {
    const { u8, u32 } = this.#arena;
    const header = slot * MMSGHDR_SIZE;
    const length = u32[(header + MSG_LEN) >>> 2]!;
    const control = this.#controls + slot * CONTROL_SIZE;
    const segment = groSegmentSize(u32, control, u32[(header + MSG_CONTROLLEN) >>> 2]!) || length;
    const start = this.#payloads + slot * this.#slotSize;
    const end = start + length;
    if ((u32[(header + MSG_FLAGS) >>> 2]! & MSG_TRUNC) !== 0) this.truncated++;
    this.bytes += length;
    let from = start;
    do {
      const to = Math.min(from + segment, end);
      this.datagrams++;
      sink(u8, from, to);
      from = to;
    } while (from < end);
  }
}
