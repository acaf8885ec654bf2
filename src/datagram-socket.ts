/**
 * The socket's life: open, address, lend, close; and the bare system call for those who want no stream.
 */
import { createSocket, type Socket } from 'node:dgram';
import { unlinkSync } from 'node:fs';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  F_DUPFD_CLOEXEC,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  MAX_VLEN,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  SO_BROADCAST,
  SO_DOMAIN,
  SO_RCVBUF,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from './abi.ts';
import type { Datagram, DatagramLike } from './datagram.ts';
import { DatagramReader } from './datagram-reader.ts';
import { DgramTransport } from './dgram-transport.ts';
import { argumentTypeError, argumentValueError, SendmmsgError, systemError } from './errors.ts';
import { type Libc, libc } from './libc.ts';
import { MmsgRing } from './mmsg-ring.ts';
import { nameSizeOf } from './mmsg-table.ts';
import { decodeSockaddr, describeName, sockaddrBytes } from './sockaddr.ts';
import {
  type ResolvedSocketOptions,
  resolveSocketOptions,
  type SocketName,
  type SocketOptions,
} from './socket-options.ts';
import { NativeTransport, type Transport } from './transport.ts';

/** Payload bytes that one `socket.sendmmsg()` call takes; more are a short count, larger single datagrams grow it. */
const CALL_BYTES = 1 << 20;

/**
 * A datagram socket made for sending: UDP over IPv4 or IPv6, or a unix datagram socket.
 *
 * Everything is synchronous. The socket itself keeps no process alive; queued datagrams do.
 *
 * `D` is a matter of types only: what may be sent here. A socket that was opened without `connect` is a
 * `DatagramSocket<Datagram>`, and a bare payload for it does not compile. Any other is a plain `DatagramSocket`, which takes
 * all: one that was opened with `connect`, one made from a descriptor, and every variable that is declared so.
 *
 * @example
 * ```ts
 * import { DatagramSocket } from 'rx-sendmmsg';
 * const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 8125 } });
 * const { sent, lengths } = socket.sendmmsg(['one', ['t', 'wo']]);
 * console.log(sent, lengths); // 2 [ 3, 3 ]
 * socket.close();
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}, {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7)}, {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 */
export class DatagramSocket<D extends DatagramLike = DatagramLike> {
  readonly #transport: NativeTransport | DgramTransport;
  /** The path that bind(2) made, to be removed on close. */
  readonly #boundPath: string | undefined;
  #callRing: MmsgRing | null = null;

  private constructor(transport: NativeTransport | DgramTransport, boundPath?: string) {
    this.#transport = transport;
    this.#boundPath = boundPath;
  }

  /**
   * Opens a socket, binds and connects it, all before it returns.
   *
   * @throws SendmmsgError for bad options (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_SOCKET_BAD_TYPE`,
   * `ERR_SOCKET_BAD_PORT`, `ERR_INVALID_IP_ADDRESS`, …), or with the errno of the call that failed (`EADDRINUSE`, …)
   */
  static open(options?: SocketOptions & { readonly connect?: undefined }): DatagramSocket<Datagram>;
  /** Opens a socket that has a peer, or, as far as the type of its options tells, may have one. */
  static open(options?: SocketOptions): DatagramSocket;
  static open(options: SocketOptions = {}): DatagramSocket {
    const resolved = resolveSocketOptions(options);
    const calls = libc();
    return calls === undefined ? DatagramSocket.#openDgram(resolved) : DatagramSocket.#openNative(calls, resolved);
  }

  /**
   * Takes a duplicate of a descriptor that something else made (socket activation, a socketpair); close both.
   *
   * @param fd - a datagram socket (SOCK_DGRAM) over IPv4, IPv6 or unix; its flags and options are left as they are
   * @throws SendmmsgError `ERR_OUT_OF_RANGE`, `ERR_INVALID_FD_TYPE` for anything but such a socket, `EBADF`,
   * `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`
   */
  static fromFd(fd: number): DatagramSocket {
    if (typeof fd !== 'number') throw argumentTypeError('"fd"', 'a number', fd);
    if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
      throw new SendmmsgError(`"fd" must be a positive integer: ${fd}`, { code: 'ERR_OUT_OF_RANGE' });
    }
    const calls = libc();
    if (calls === undefined) throw unavailable('DatagramSocket.fromFd');
    const duplicate = calls.fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) throw systemError(-duplicate, 'fcntl');
    const family = calls.getsockopt(duplicate, SOL_SOCKET, SO_DOMAIN);
    const isDatagram = calls.getsockopt(duplicate, SOL_SOCKET, SO_TYPE) === SOCK_DGRAM;
    if (!isDatagram || (family !== AF_INET && family !== AF_INET6 && family !== AF_UNIX)) {
      calls.close(duplicate);
      throw new SendmmsgError(`Unsupported fd type: ${fd} is not a datagram socket`, { code: 'ERR_INVALID_FD_TYPE' });
    }
    const isConnected = typeof calls.getpeername(duplicate) !== 'number';
    return new DatagramSocket(new NativeTransport(calls, duplicate, family, isConnected));
  }

  /** @internal What a sender works with. */
  static transportOf(socket: DatagramSocket): Transport {
    return socket.#transport;
  }

  /** @internal What the receiver works with; the descriptor is -1 once closed. */
  static nativeOf(socket: DatagramSocket): NativeTransport {
    if (!(socket.#transport instanceof NativeTransport)) throw unavailable('recvmmsg');
    return socket.#transport;
  }

  /** Whether `close` was called. */
  get closed(): boolean {
    return this.#transport.isClosed;
  }

  /**
   * The system call as its page has it: one call, which never blocks and may send fewer than it was given.
   *
   * @param datagrams - at most 1024 are taken by one call (UIO_MAXIOV), and about 1 MiB
   * @param flags - `dontRoute` (MSG_DONTROUTE: only to hosts on a directly connected network), `confirm` (MSG_CONFIRM)
   * @returns how many were sent, from the front, and the bytes of each (`msg_len`)
   * @throws SendmmsgError only if none could be sent: the errno (`EAGAIN` where it would have blocked), or the code of the
   * first datagram if that is invalid
   */
  sendmmsg(
    datagrams: readonly D[],
    flags: { readonly dontRoute?: boolean; readonly confirm?: boolean } = {},
  ): { sent: number; lengths: readonly number[] } {
    if (!Array.isArray(datagrams)) throw argumentTypeError('"datagrams"', 'an array', datagrams);
    if (typeof flags !== 'object' || flags === null) throw argumentTypeError('"flags"', 'an object', flags);
    const bits = flagBits(flags);
    const transport = this.#transport;
    if (!(transport instanceof NativeTransport)) throw unavailable('socket.sendmmsg');
    const ring = this.#encode(datagrams, transport);
    const vlen = ring.span();
    const answer = transport.sendmmsgWith(ring, vlen, bits);
    const lengths = Array.from({ length: Math.max(0, answer) }, (_, index) => ring.sentLengthAt(index));
    const target = answer < 0 ? describeName(ring.nameAt(0)) : {};
    ring.release(ring.datagrams);
    if (answer < 0) throw systemError(-answer, 'sendmmsg', target);
    return { sent: answer, lengths };
  }

  /**
   * The local address, as `node:dgram` tells it, or the path of a unix socket (empty if it has none).
   *
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed
   */
  address(): { address: string; family: 'IPv4' | 'IPv6'; port: number } | { path: string } {
    this.#assertOpen();
    if (this.#transport instanceof DgramTransport) {
      const { address, family, port } = this.#transport.socket.address();
      return { address, family: family as 'IPv4' | 'IPv6', port };
    }
    const name = this.#transport.libc.getsockname(this.#transport.fd);
    if (typeof name === 'number') throw systemError(-name, 'getsockname');
    return decodeSockaddr(name);
  }

  /**
   * Lends the port to `node:dgram`, for receiving (replies, or a server that answers from the port it listens on).
   *
   * An unbound socket is bound to any port first. The lent socket holds a duplicate; close both.
   *
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed, `EAFNOSUPPORT` for a unix socket, which node:dgram
   * does not know
   */
  lend(): Socket {
    this.#assertOpen();
    const transport = this.#transport;
    if (transport instanceof DgramTransport) return transport.socket;
    if (transport.family === AF_UNIX) {
      throw new SendmmsgError('node:dgram knows no unix sockets', { code: 'EAFNOSUPPORT', syscall: 'lend' });
    }
    const type = transport.family === AF_INET ? 'udp4' : 'udp6';
    const local = this.address();
    if ('port' in local && local.port === 0) {
      const any = resolveSocketOptions({ type, bind: {} }).bind!;
      call('bind', any, transport.libc.bind(transport.fd, sockaddrBytes(any)));
    }
    // libuv sets O_NONBLOCK on what it gets; ours is non-blocking already, and a borrowed one is sent on with MSG_DONTWAIT.
    const duplicate = call('fcntl', undefined, transport.libc.fcntl(transport.fd, F_DUPFD_CLOEXEC, 0));
    return createSocket(type).bind({ fd: duplicate, exclusive: true });
  }

  /** Closes the socket; a sender that still has datagrams queued fails with `EBADF`. Does nothing the second time. */
  close(): void {
    if (this.#transport.isClosed) return;
    this.#transport.close();
    this.#callRing = null;
    removePath(this.#boundPath);
  }

  /** `using socket = DatagramSocket.open()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  static #openNative(calls: Libc, options: ResolvedSocketOptions): DatagramSocket {
    const fd = call('socket', undefined, calls.socket(options.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const { bind, connect, sendBufferSize, recvBufferSize } = options;
    const set = (level: number, name: number, value: number): number =>
      call('setsockopt', undefined, calls.setsockopt(fd, level, name, value));
    let boundPath: string | undefined;
    try {
      if (options.reuseAddr) set(SOL_SOCKET, SO_REUSEADDR, 1);
      if (options.reusePort) set(SOL_SOCKET, SO_REUSEPORT, 1);
      if (options.broadcast) set(SOL_SOCKET, SO_BROADCAST, 1);
      if (options.family === AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6Only ? 1 : 0);
      if (sendBufferSize !== undefined) set(SOL_SOCKET, SO_SNDBUF, sendBufferSize);
      if (recvBufferSize !== undefined) set(SOL_SOCKET, SO_RCVBUF, recvBufferSize);
      if (bind !== undefined) call('bind', bind, calls.bind(fd, sockaddrBytes(bind)));
      boundPath = bind?.path;
      if (connect !== undefined) call('connect', connect, calls.connect(fd, sockaddrBytes(connect)));
    } catch (error) {
      calls.close(fd);
      removePath(boundPath);
      throw error;
    }
    const peer = options.family === AF_UNIX && connect !== undefined ? sockaddrBytes(connect) : undefined;
    const transport = new NativeTransport(calls, fd, options.family, connect !== undefined, peer);
    return new DatagramSocket(transport, boundPath);
  }

  static #openDgram(options: ResolvedSocketOptions): DatagramSocket {
    const { type } = options;
    if (type === 'unix') throw unavailable('A unix datagram socket');
    try {
      const connect = options.connect as { address: string; port: number } | undefined;
      return new DatagramSocket(new DgramTransport({ ...options, type, connect }));
    } catch (cause) {
      const { code = 'EIO', syscall, message } = cause as NodeJS.ErrnoException;
      throw new SendmmsgError(message, { code, ...(syscall !== undefined && { syscall }), cause });
    }
  }

  /** The datagrams of one call, in a ring that is kept for the next. Stops before the first that is invalid or too much. */
  #encode(datagrams: readonly DatagramLike[], transport: NativeTransport): MmsgRing {
    const reader = new DatagramReader(transport.family, transport.isConnected);
    let ring = this.#callRing ?? callRing(transport, CALL_BYTES);
    this.#callRing = null; // a getter may call sendmmsg() again: it gets a ring of its own
    try {
      const count = Math.min(datagrams.length, MAX_VLEN);
      for (let index = 0; index < count; index++) {
        reader.read(datagrams[index]!);
        if (index === 0 && reader.byteLength > ring.maxBytes) ring = callRing(transport, reader.byteLength);
        if (!ring.push(reader, index, 0)) break;
      }
    } catch (error) {
      if (ring.datagrams === 0) throw error;
    } finally {
      this.#callRing = ring;
    }
    return ring;
  }

  #assertOpen(): void {
    if (this.closed) throw new SendmmsgError('Not running', { code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
  }
}

function callRing(transport: NativeTransport, maxBytes: number): MmsgRing {
  const nameSize = nameSizeOf(transport.family, transport.isConnected);
  const layout = { slots: MAX_VLEN, maxBytes, nameSize, maxSegments: 1, maxSegmentedBytes: 0 };
  return new MmsgRing(layout, (bytes) => transport.allocate(bytes));
}

function call(syscall: string, name: SocketName | undefined, result: number): number {
  if (result >= 0) return result;
  throw systemError(-result, syscall, name && { address: name.address, port: name.port, path: name.path });
}

/** Removes what bind(2) made; an abstract name goes by itself. */
function removePath(path: string | undefined): void {
  if (path === undefined || path.startsWith('\0')) return;
  try {
    unlinkSync(path);
  } catch {
    // It was moved or removed: nothing of ours is left.
  }
}

const FLAG_BITS: Readonly<Record<string, number>> = { dontRoute: MSG_DONTROUTE, confirm: MSG_CONFIRM };

/** The bits of a call's flags. MSG_MORE would merge a batch into one datagram, MSG_OOB means nothing here: both are refused. */
function flagBits(flags: object): number {
  let bits = 0;
  for (const [name, value] of Object.entries(flags)) {
    const bit = Object.hasOwn(FLAG_BITS, name) ? FLAG_BITS[name] : undefined;
    if (bit === undefined) throw argumentValueError('"flags"', 'may hold dontRoute and confirm only', name);
    if (value !== undefined && typeof value !== 'boolean')
      throw argumentTypeError(`"flags.${name}"`, 'a boolean', value);
    if (value === true) bits |= bit;
  }
  return bits;
}

function unavailable(what: string): SendmmsgError {
  return new SendmmsgError(`${what} is not available here: there is no sendmmsg(2) on this platform`, {
    code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM',
  });
}
