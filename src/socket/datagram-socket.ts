/**
 * The socket's life: open, connect, address, lend, close; and the bare system call for those who want no stream.
 */
// Its declarations name node:dgram and Symbol.dispose; TypeScript 6 includes no types that nothing asks for.
/// <reference types="node" preserve="true" />
import { createSocket, type Socket } from 'node:dgram';
import { unlinkSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  F_DUPFD_CLOEXEC,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
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
} from '../kernel/abi.ts';
import { type Backend, chooseBackend } from '../kernel/backend.ts';
import { adopt } from '../kernel/descriptor.ts';
import {
  argumentTypeError,
  dgramError,
  missingArgumentError,
  notConnectedError,
  notRunningError,
  SendmmsgError,
  systemError,
  unavailableError,
} from '../kernel/errors.ts';
import type { SendingLibc } from '../kernel/libc.ts';
import type { Datagram, DatagramLike } from '../message/datagram.ts';
import { decodeSockaddr, sockaddrBytes } from '../message/sockaddr.ts';
import { checkFlag, checkSize, checkText, checkTtl, located } from './control-arguments.ts';
import { DgramTransport } from './dgram-transport.ts';
import { flagBits, SendmmsgCall } from './sendmmsg-call.ts';
import { NativeControls, type SocketControls } from './socket-controls.ts';
import {
  type ResolvedSocketOptions,
  resolvePeer,
  resolveSocketOptions,
  type SocketName,
  type SocketOptions,
} from './socket-options.ts';
import { NativeTransport } from './transport.ts';

/**
 * A datagram socket made for sending: UDP over IPv4 or IPv6, or a unix datagram socket.
 *
 * Everything is synchronous. The socket itself keeps no process alive; queued datagrams do.
 *
 * `D` is a matter of types only: what may be sent here. A socket that was opened without `connect` is a
 * `DatagramSocket<Datagram>`, and a bare payload for it does not compile. Any other is a plain `DatagramSocket`, which takes
 * all: one that was opened with `connect`, one made from a descriptor, and every variable that is declared so.
 *
 * Its knobs are named and answer as those of a `node:dgram` socket, at any time until it is closed. All of them throw
 * `ERR_SOCKET_DGRAM_NOT_RUNNING` once it is, `ERR_INVALID_ARG_TYPE` for an argument of the wrong type, and the errno of setsockopt(2) with
 * the method as `syscall`. On a unix socket, which has none of this but buffer sizes, they throw `EOPNOTSUPP`. An interface is told by one of
 * its addresses for IPv4 (`'192.0.2.2'`), by its zone for IPv6 (`'::%eth0'` or `'::%2'`), and is the one that the routes lead to if it is
 * left out.
 *
 * @example
 * ```ts
 * import { DatagramSocket } from 'rx-sendmmsg';
 * const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 8125 } });
 * const { sent, lengths } = socket.sendmmsg(['one', ['t', 'wo']]);
 * console.log(sent, lengths); // 2 [ 3, 3 ]
 * console.log(socket.setTTL(4)); // 4
 * socket.close();
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}, {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7)}, {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 */
export class DatagramSocket<D extends DatagramLike = DatagramLike> {
  readonly #transport: NativeTransport | DgramTransport;
  /** The path that bind(2) made, to be removed on close. */
  readonly #boundPath: string | undefined;
  readonly #fallbackReason: string | undefined;
  readonly #call = new SendmmsgCall();

  private constructor(transport: NativeTransport | DgramTransport, fallbackReason?: string, boundPath?: string) {
    this.#transport = transport;
    this.#fallbackReason = fallbackReason;
    this.#boundPath = boundPath;
  }

  /**
   * Opens a socket, binds and connects it, all before it returns.
   *
   * @throws SendmmsgError for bad options (`ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_SOCKET_BAD_TYPE`,
   * `ERR_SOCKET_BAD_PORT`, `ERR_INVALID_IP_ADDRESS`, …) or a bad `RX_SENDMMSG_BACKEND` in the environment
   * (`ERR_INVALID_ARG_VALUE`), with the errno of the call that failed (`EADDRINUSE`, …), or with
   * `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` for what node:dgram cannot do where that does the sending
   */
  static open(options?: SocketOptions & { readonly connect?: undefined }): DatagramSocket<Datagram>;
  /** Opens a socket that has a peer, or, as far as the type of its options tells, may have one. */
  static open(options?: SocketOptions): DatagramSocket;
  static open(options: SocketOptions = {}): DatagramSocket {
    const resolved = resolveSocketOptions(options);
    const { libc, fallbackReason } = chooseBackend();
    if (libc !== undefined) return DatagramSocket.#openNative(libc, resolved, fallbackReason);
    if (resolved.isNativeRequired) throw unavailableError('"options.native": \'required\'', fallbackReason);
    return DatagramSocket.#openDgram(resolved, fallbackReason);
  }

  /**
   * Takes a duplicate of a descriptor that something else made (socket activation, a socketpair); close both.
   *
   * @param fd - a datagram socket (SOCK_DGRAM) over IPv4, IPv6 or unix; its flags and options are left as they are
   * @throws SendmmsgError `ERR_OUT_OF_RANGE`, `ERR_INVALID_FD_TYPE` for anything but such a socket, `EBADF`,
   * `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` where node:dgram does the sending, `ERR_INVALID_ARG_VALUE` for a bad
   * `RX_SENDMMSG_BACKEND` in the environment
   */
  static fromFd(fd: number): DatagramSocket {
    if (typeof fd !== 'number') throw argumentTypeError('"fd"', 'a number', fd);
    if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
      throw new SendmmsgError(`"fd" must be a positive integer: ${fd}`, { code: 'ERR_OUT_OF_RANGE' });
    }
    const { libc: calls, fallbackReason } = chooseBackend();
    if (calls === undefined) throw unavailableError('DatagramSocket.fromFd', fallbackReason);
    const duplicate = calls.fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) throw systemError(-duplicate, 'fcntl');
    const family = calls.getsockopt(duplicate, SOL_SOCKET, SO_DOMAIN);
    const isDatagram = calls.getsockopt(duplicate, SOL_SOCKET, SO_TYPE) === SOCK_DGRAM;
    if (!isDatagram || (family !== AF_INET && family !== AF_INET6 && family !== AF_UNIX)) {
      calls.close(duplicate);
      throw new SendmmsgError(`Unsupported fd type: ${fd} is not a datagram socket`, { code: 'ERR_INVALID_FD_TYPE' });
    }
    return new DatagramSocket(new NativeTransport(calls, adopt(calls, duplicate), family), fallbackReason);
  }

  /** @internal What a sender works with. */
  static transportOf(socket: DatagramSocket): NativeTransport | DgramTransport {
    return socket.#transport;
  }

  /** @internal What the receiver works with; the descriptor is -1 once closed. */
  static nativeOf(socket: DatagramSocket): NativeTransport {
    if (!(socket.#transport instanceof NativeTransport)) throw unavailableError('recvmmsg');
    return socket.#transport;
  }

  /**
   * What does the sending: sendmmsg(2), or where that is not to be had sendmsg(2), or node:dgram, one call a datagram.
   *
   * @example
   * ```ts
   * import { DatagramSocket } from 'rx-sendmmsg';
   * using socket = DatagramSocket.open();
   * if (socket.backend !== 'sendmmsg') console.warn(`slow: ${socket.fallbackReason}`);
   * ```
   */
  get backend(): Backend {
    return this.#transport.backend;
  }

  /** Why {@link backend} is not `'sendmmsg'`; `undefined` where it is. */
  get fallbackReason(): string | undefined {
    return this.#fallbackReason;
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
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed; else only if none could be sent: the errno
   * (`EAGAIN` where it would have blocked), or the code of the first datagram if that is invalid
   */
  sendmmsg(
    datagrams: readonly D[],
    flags: { readonly dontRoute?: boolean; readonly confirm?: boolean } = {},
  ): { sent: number; lengths: readonly number[] } {
    if (!Array.isArray(datagrams)) throw argumentTypeError('"datagrams"', 'an array', datagrams);
    if (typeof flags !== 'object' || flags === null) throw argumentTypeError('"flags"', 'an object', flags);
    const bits = flagBits(flags);
    const transport = this.#openTransport();
    if (!(transport instanceof NativeTransport)) throw unavailableError('socket.sendmmsg');
    return this.#call.send(transport, datagrams, bits);
  }

  /**
   * Connects to a peer: bare payloads may be sent then, and addressed datagrams are rejected. Done when it returns.
   *
   * Types do not follow: declare the variable, `const socket: DatagramSocket = DatagramSocket.open()`.
   *
   * @param port - 1 to 65535
   * @param address - a literal address; default the local host, as in node:dgram
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed, `ERR_SOCKET_BAD_PORT`, `ERR_INVALID_IP_ADDRESS`,
   * `ERR_SOCKET_DGRAM_IS_CONNECTED` if it has a peer, `EBUSY` while a sender uses it (close that first), or with the errno of
   * connect(2); through node:dgram that is `ERR_SOCKET_DGRAM_NOT_CONNECTED` instead
   */
  connect(port: number, address?: string): void;
  /** Connects a unix socket to the path, or the abstract name (leading NUL byte), of its peer. */
  connect(path: string): void;
  connect(where: number | string, address?: string, ...rest: unknown[]): void {
    refuseCallback('connect', where, address, ...rest);
    this.#setPeer(resolvePeer(this.#openTransport().family, where, address));
  }

  /**
   * Undoes {@link connect}. The kernel takes back the address and the port that it had chosen for the socket.
   *
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed, `ERR_SOCKET_DGRAM_NOT_CONNECTED` without a peer, `EBUSY`
   * while a sender uses it
   */
  disconnect(): void;
  disconnect(...rest: unknown[]): void {
    refuseCallback('disconnect', ...rest);
    this.#setPeer(null);
  }

  /**
   * The address of the peer, as `node:dgram` tells it, or its path (empty if it has none).
   *
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed, `ERR_SOCKET_DGRAM_NOT_CONNECTED` without a peer,
   * `ENOTCONN` for a unix peer that is gone
   */
  remoteAddress(): { address: string; family: 'IPv4' | 'IPv6'; port: number } | { path: string } {
    const transport = this.#openTransport();
    if (!transport.isConnected) throw notConnectedError();
    if (transport instanceof DgramTransport) return named(transport.socket.remoteAddress());
    const name = transport.libc.getpeername(transport.fd);
    if (typeof name === 'number') throw systemError(-name, 'getpeername');
    return decodeSockaddr(name);
  }

  /**
   * The local address, as `node:dgram` tells it, or the path of a unix socket (empty if it has none).
   *
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed
   */
  address(): { address: string; family: 'IPv4' | 'IPv6'; port: number } | { path: string } {
    const transport = this.#openTransport();
    if (transport instanceof DgramTransport) return named(transport.socket.address());
    const name = transport.libc.getsockname(transport.fd);
    if (typeof name === 'number') throw systemError(-name, 'getsockname');
    return decodeSockaddr(name);
  }

  /**
   * Lends the port to `node:dgram`, for receiving (replies, or a server that answers from the port it listens on).
   *
   * An unbound socket is bound to any port first. What is lent is a duplicate with a life of its own: close both, in any order. Until
   * it is closed it keeps the process alive, as any of `node:dgram` (`lent.unref()`). It is bound when this returns, and no
   * `'listening'` follows: do not wait for one. (On Bun it is bound in a later turn: there do.) It makes the socket
   * non-blocking for all who share it, those that {@link fromFd} took it from included.
   *
   * Through node:dgram, where `backend` says so, it is the socket itself that is lent, any number of times, and it is closed with the last
   * who has it. Each has listeners of its own, and each hears every datagram, where of duplicates one or the other does.
   *
   * @throws SendmmsgError `ERR_SOCKET_DGRAM_NOT_RUNNING` once closed, `EAFNOSUPPORT` for a unix socket, which node:dgram
   * does not know, `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` on Deno, whose node:dgram takes no descriptor
   * @example
   * ```ts
   * import { DatagramSocket } from 'rx-sendmmsg';
   * const socket = DatagramSocket.open({ bind: { address: '127.0.0.1' } });
   * const lent = socket.lend().on('message', (message, { port }) => console.log(port, String(message)));
   * socket.close(); // `lent` still receives
   * lent.close();
   * ```
   * @see {@link https://nodejs.org/api/dgram.html#socketbindoptions-callback | socket.bind({ fd })}
   */
  lend(): Socket {
    const transport = this.#openTransport();
    if (transport instanceof DgramTransport) return transport.lend();
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
    // Not 0, where stdin was closed: node:dgram takes that for no descriptor.
    const duplicate = call('fcntl', undefined, transport.libc.fcntl(transport.fd, F_DUPFD_CLOEXEC, 1));
    const lent = createSocket(type);
    try {
      return lent.bind({ fd: duplicate, exclusive: true });
    } catch (error) {
      transport.libc.close(duplicate);
      lent.close();
      const remedy = 'receive on a socket of node:dgram on a port of its own';
      throw unavailableError(
        'socket.lend',
        `node:dgram takes no descriptor here (${(error as Error).message}); ${remedy}`,
      );
    }
  }

  /** Closes the socket; a sender that still has datagrams queued fails with `EBADF`. Does nothing the second time. */
  close(): void;
  close(...rest: unknown[]): void {
    refuseCallback('close', ...rest);
    if (this.#transport.isClosed) return;
    this.#transport.close();
    this.#call.forget();
    removePath(this.#boundPath);
  }

  /** `using socket = DatagramSocket.open()`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * SO_BROADCAST: whether datagrams may go to broadcast addresses; without it they are refused with `EACCES`.
   *
   * @throws SendmmsgError as all knobs, see {@link DatagramSocket}
   */
  setBroadcast(flag: boolean): void {
    checkFlag(flag);
    this.#control((controls) => controls.setBroadcast(flag));
  }

  /**
   * IP_TTL, for `'udp6'` IPV6_UNICAST_HOPS: how many routers a datagram may pass.
   *
   * @param ttl - 1 to 255
   * @returns `ttl`
   * @throws SendmmsgError `EINVAL` out of that range; as all knobs, see {@link DatagramSocket}
   */
  setTTL(ttl: number): number {
    checkTtl('setTTL', ttl, 1);
    return this.#control((controls) => controls.setTTL(ttl));
  }

  /**
   * IP_MULTICAST_TTL, for `'udp6'` IPV6_MULTICAST_HOPS: how many routers a multicast datagram may pass; 1 at first.
   *
   * @param ttl - 0 (not beyond this host) to 255
   * @returns `ttl`
   * @throws SendmmsgError `EINVAL` out of that range; as all knobs, see {@link DatagramSocket}
   */
  setMulticastTTL(ttl: number): number {
    checkTtl('setMulticastTTL', ttl, 0);
    return this.#control((controls) => controls.setMulticastTTL(ttl));
  }

  /**
   * IP_MULTICAST_LOOP or IPV6_MULTICAST_LOOP: whether this host receives what it sends to a group; it does at first.
   *
   * @returns `flag`
   * @throws SendmmsgError as all knobs, see {@link DatagramSocket}
   */
  setMulticastLoopback(flag: boolean): boolean {
    checkFlag(flag);
    return this.#control((controls) => controls.setMulticastLoopback(flag));
  }

  /**
   * IP_MULTICAST_IF or IPV6_MULTICAST_IF: the interface that multicast datagrams leave by; `'0.0.0.0'` or `'::'` is any.
   *
   * @throws SendmmsgError `EINVAL` for what is no literal address, `EADDRNOTAVAIL` (IPv4) or `ENODEV` (IPv6) for no
   * interface of this host, `ENOPROTOOPT` for an IPv6 one on a `'udp4'` socket; as all knobs, see {@link DatagramSocket}
   */
  setMulticastInterface(multicastInterface: string): void {
    this.#assertOpen();
    checkText('multicastInterface', multicastInterface);
    const at = located('setMulticastInterface', multicastInterface)!;
    this.#control((controls) => controls.setMulticastInterface(at));
  }

  /**
   * IP_ADD_MEMBERSHIP or IPV6_ADD_MEMBERSHIP: joins a group, to receive what is sent to it.
   *
   * @throws SendmmsgError `ERR_MISSING_ARGS` without a group, `EINVAL` if it is none or of another family than the
   * interface, `ENODEV` if there is no such interface, `EADDRINUSE` if it was joined already; as all knobs, see {@link DatagramSocket}
   */
  addMembership(multicastAddress: string, multicastInterface?: string): void {
    const at = this.#group('addMembership', multicastAddress, multicastInterface);
    this.#control((controls) => controls.addMembership(at.group, at.multicastInterface));
  }

  /**
   * IP_DROP_MEMBERSHIP or IPV6_DROP_MEMBERSHIP: leaves a group. Closing the socket leaves all.
   *
   * @throws SendmmsgError as {@link addMembership}; `EADDRNOTAVAIL` if it was not joined
   */
  dropMembership(multicastAddress: string, multicastInterface?: string): void {
    const at = this.#group('dropMembership', multicastAddress, multicastInterface);
    this.#control((controls) => controls.dropMembership(at.group, at.multicastInterface));
  }

  /**
   * IP_ADD_SOURCE_MEMBERSHIP or MCAST_JOIN_SOURCE_GROUP: joins a group, to receive what one source sends to it.
   *
   * @throws SendmmsgError `EINVAL` if there is no such group or the addresses are not of one family, `ENODEV` if there is no
   * such interface, `EADDRNOTAVAIL` if it was joined already; as all knobs, see {@link DatagramSocket}
   */
  addSourceSpecificMembership(sourceAddress: string, groupAddress: string, multicastInterface?: string): void {
    const at = this.#source('addSourceSpecificMembership', sourceAddress, groupAddress, multicastInterface);
    this.#control((controls) => controls.addSourceSpecificMembership(at.source, at.group, at.multicastInterface));
  }

  /**
   * IP_DROP_SOURCE_MEMBERSHIP or MCAST_LEAVE_SOURCE_GROUP: no more of what this source sends to the group.
   *
   * @throws SendmmsgError as {@link addSourceSpecificMembership}; `EINVAL` or `EADDRNOTAVAIL` if it was not joined
   */
  dropSourceSpecificMembership(sourceAddress: string, groupAddress: string, multicastInterface?: string): void {
    const at = this.#source('dropSourceSpecificMembership', sourceAddress, groupAddress, multicastInterface);
    this.#control((controls) => controls.dropSourceSpecificMembership(at.source, at.group, at.multicastInterface));
  }

  /** SO_SNDBUF, bytes, as the kernel has it: on Linux twice what was asked for. */
  getSendBufferSize(): number {
    return this.#control((controls) => controls.getSendBufferSize());
  }

  /**
   * SO_SNDBUF, bytes; Linux doubles it, and takes no more than `net.core.wmem_max`.
   *
   * @throws SendmmsgError `ERR_SOCKET_BAD_BUFFER_SIZE`, `ERR_SOCKET_BUFFER_SIZE`; as all knobs, see {@link DatagramSocket}
   */
  setSendBufferSize(size: number): void {
    checkSize(size);
    this.#control((controls) => controls.setSendBufferSize(size));
  }

  /** SO_RCVBUF, bytes, as the kernel has it: on Linux twice what was asked for. */
  getRecvBufferSize(): number {
    return this.#control((controls) => controls.getRecvBufferSize());
  }

  /**
   * SO_RCVBUF, bytes; Linux doubles it, and takes no more than `net.core.rmem_max`.
   *
   * @throws SendmmsgError `ERR_SOCKET_BAD_BUFFER_SIZE`, `ERR_SOCKET_BUFFER_SIZE`; as all knobs, see {@link DatagramSocket}
   */
  setRecvBufferSize(size: number): void {
    checkSize(size);
    this.#control((controls) => controls.setRecvBufferSize(size));
  }

  /**
   * Whether datagrams leave with the Don't Fragment bit: IP_MTU_DISCOVER, or IPV6_MTU_DISCOVER, for those who probe the path.
   *
   * With it nobody on the way may fragment them, and one that is larger than the interface takes is refused with `EMSGSIZE`; what the
   * kernel has learnt of the path ({@link mtu}) is not applied, so that a larger one may go as a probe (IP_PMTUDISC_PROBE). Without it
   * (IP_PMTUDISC_DONT) all that is too large is fragmented. At first the kernel decides: the bit is set on what fits the path. Linux only.
   *
   * @throws SendmmsgError `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` through node:dgram; as all knobs
   * @example
   * ```ts
   * import { DatagramSocket } from 'rx-sendmmsg';
   * const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
   * socket.setDontFragment(true);
   * const { sent } = socket.sendmmsg([Buffer.alloc(1400)]); // EMSGSIZE is thrown where the interface takes less
   * socket.close();
   * ```
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7), IP_MTU_DISCOVER}, {@link https://www.rfc-editor.org/rfc/rfc8899 | RFC 8899}
   */
  setDontFragment(flag: boolean): void {
    checkFlag(flag);
    this.#assertOpen();
    this.#transport.setDontFragment(flag);
  }

  /**
   * The MTU of the path to the peer as the kernel knows it, bytes with all headers: IP_MTU, or IPV6_MTU. A datagram may have 28 bytes less
   * over IPv4, 48 less over IPv6. Linux only.
   *
   * @throws SendmmsgError `ENOTCONN` without a peer, `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` through node:dgram; as all knobs
   * @example
   * ```ts
   * import { DatagramSocket } from 'rx-sendmmsg';
   * const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
   * console.log(socket.mtu - 28); // 65507
   * socket.close();
   * ```
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7), IP_MTU}
   */
  get mtu(): number {
    this.#assertOpen();
    return this.#transport.mtu();
  }

  /**
   * SO_BINDTODEVICE: all datagrams leave by this interface and come in by it, whatever the routes say. Linux only.
   *
   * @param device - its name; `''` for any again, which needs CAP_NET_RAW
   * @throws SendmmsgError `ENODEV`, `EPERM`, `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`; as all knobs, see {@link DatagramSocket}
   * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7), SO_BINDTODEVICE}
   */
  bindToDevice(device: string): void {
    this.#assertOpen();
    checkText('device', device);
    this.#transport.bindToDevice(device);
  }

  /** Undoes {@link unref}. Does nothing on a closed socket. */
  ref(): this {
    this.#transport.keepAlive.ref();
    return this;
  }

  /**
   * Lets the process end while senders of this socket wait: for room, for `flushAfterMs`, for a retry or a drain.
   *
   * What is queued then is lost. A socket by itself, and a sender with nothing queued, keep no process alive anyway. An RxJS
   * `scheduler` has timers of its own, which this does not reach.
   */
  unref(): this {
    this.#transport.keepAlive.unref();
    return this;
  }

  #assertOpen(): void {
    if (this.#transport.isClosed) throw notRunningError('socket');
  }

  #control<Result>(call: (controls: SocketControls) => Result): Result {
    this.#assertOpen();
    try {
      return call(this.#transport.controls);
    } catch (error) {
      throw error instanceof SendmmsgError ? error : dgramError(error);
    }
  }

  #group(call: string, group: unknown, at: unknown): { group: string; multicastInterface: string | undefined } {
    this.#assertOpen();
    if (group === undefined || group === null || group === '') throw missingArgumentError('multicastAddress');
    checkText('multicastAddress', group);
    return { group: located(call, group)!, multicastInterface: located(call, at) };
  }

  #source(
    call: string,
    source: unknown,
    group: unknown,
    at: unknown,
  ): { source: string; group: string; multicastInterface: string | undefined } {
    this.#assertOpen();
    checkText('sourceAddress', source);
    checkText('groupAddress', group);
    return { source: located(call, source)!, group: located(call, group)!, multicastInterface: located(call, at) };
  }

  static #openNative(
    calls: SendingLibc,
    options: ResolvedSocketOptions,
    fallbackReason: string | undefined,
  ): DatagramSocket {
    const { family, bind, connect, bindToDevice, sendBufferSize, recvBufferSize } = options;
    const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const descriptor = adopt(calls, call('socket', undefined, calls.socket(family, type, 0)));
    const { fd } = descriptor;
    const set = (level: number, name: number, value: number): number =>
      call('setsockopt', undefined, calls.setsockopt(fd, level, name, value));
    let boundPath: string | undefined;
    try {
      if (options.reuseAddr) set(SOL_SOCKET, SO_REUSEADDR, 1);
      if (options.reusePort) set(SOL_SOCKET, SO_REUSEPORT, 1);
      if (options.broadcast) set(SOL_SOCKET, SO_BROADCAST, 1);
      if (family === AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6Only ? 1 : 0);
      if (bindToDevice !== undefined) new NativeControls({ libc: calls, fd, family }).bindToDevice(bindToDevice);
      if (sendBufferSize !== undefined) set(SOL_SOCKET, SO_SNDBUF, sendBufferSize);
      if (recvBufferSize !== undefined) set(SOL_SOCKET, SO_RCVBUF, recvBufferSize);
      if (bind !== undefined) call('bind', bind, calls.bind(fd, sockaddrBytes(bind)));
      boundPath = bind?.path;
      const transport = new NativeTransport(calls, descriptor, family);
      if (connect !== undefined) transport.setPeer(connect);
      return new DatagramSocket(transport, fallbackReason, boundPath);
    } catch (error) {
      descriptor.close();
      removePath(boundPath);
      throw error;
    }
  }

  static #openDgram(options: ResolvedSocketOptions, fallbackReason: string | undefined): DatagramSocket {
    const { type } = options;
    if (type === 'unix') throw unavailableError('A unix datagram socket', fallbackReason);
    try {
      const connect = options.connect as { address: string; port: number } | undefined;
      return new DatagramSocket(new DgramTransport({ ...options, type, connect }), fallbackReason);
    } catch (cause) {
      throw cause instanceof SendmmsgError ? cause : dgramError(cause);
    }
  }

  #setPeer(peer: SocketName | null): void {
    this.#openTransport().setPeer(peer);
    this.#call.forget();
  }

  #openTransport(): NativeTransport | DgramTransport {
    if (this.closed) throw notRunningError('socket');
    return this.#transport;
  }
}

/** An address of node:dgram. */
function named({ address, family, port }: AddressInfo): { address: string; family: 'IPv4' | 'IPv6'; port: number } {
  return { address, family: family as 'IPv4' | 'IPv6', port };
}

function call(syscall: string, name: SocketName | undefined, result: number): number {
  if (result >= 0) return result;
  throw systemError(-result, syscall, name && { address: name.address, port: name.port, path: name.path });
}

/** node:dgram calls back when it is done; here a callback would never be called. */
function refuseCallback(method: string, ...given: readonly unknown[]): void {
  const callback = given.find((argument) => typeof argument === 'function');
  if (callback === undefined) return;
  throw argumentTypeError(
    '"callback"',
    `left out: socket.${method}() takes no callback, it is done when it returns`,
    callback,
  );
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
