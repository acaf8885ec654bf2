/**
 * The part of a {@link DatagramSocket} that node:dgram has, too: broadcast, TTL, multicast, buffer sizes, ref and unref.
 *
 * Arguments are checked here, alike for both transports; where this is stricter than node:dgram, that would have taken
 * something else for what it was given (a TTL of 1.5 or NaN, a zone that there is not).
 */

import { EINVAL, ENODEV } from '../kernel/errno.ts';
import {
  argumentTypeError,
  badBufferSizeError,
  dgramError,
  missingArgumentError,
  notRunningError,
  SendmmsgError,
  systemError,
} from '../kernel/errors.ts';
import { unknownZone, withCanonicalZone } from '../message/zone.ts';
import type { DgramTransport } from './dgram-transport.ts';
import type { SocketControls } from './socket-controls.ts';
import type { NativeTransport } from './transport.ts';

/**
 * The knobs of a {@link DatagramSocket}, named and answered as those of a `node:dgram` socket, at any time until it is closed.
 *
 * All of them throw `ERR_SOCKET_DGRAM_NOT_RUNNING` once it is closed, `ERR_INVALID_ARG_TYPE` for an argument of the wrong
 * type, and the errno of setsockopt(2) with the method as `syscall`. On a unix socket, which has none of this but buffer
 * sizes, they throw `EOPNOTSUPP`. An interface is told by one of its addresses for IPv4 (`'192.0.2.2'`), by its zone for IPv6
 * (`'::%eth0'` or `'::%2'`), and is the one that the routes lead to if it is left out.
 *
 * @example
 * ```ts
 * import { BatchSender, DatagramSocket } from 'rx-sendmmsg';
 * const socket = DatagramSocket.open();
 * socket.setMulticastInterface('127.0.0.1');
 * console.log(socket.setMulticastTTL(4)); // 4
 * socket.connect(5000, '239.1.2.3');
 * const sender = new BatchSender(socket);
 * sender.send('to whoever has joined');
 * await sender.close();
 * socket.close();
 * ```
 * @see {@link https://nodejs.org/api/dgram.html#class-dgramsocket | dgram.Socket}, {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7)}, {@link https://man7.org/linux/man-pages/man7/ipv6.7.html | ipv6(7)}, {@link https://www.rfc-editor.org/rfc/rfc3678 | RFC 3678}
 */
export abstract class ConfigurableSocket {
  readonly #transport: NativeTransport | DgramTransport;

  /** @internal */
  protected constructor(transport: NativeTransport | DgramTransport) {
    this.#transport = transport;
  }

  /** @internal What a sender works with. */
  static transportOf(socket: ConfigurableSocket): NativeTransport | DgramTransport {
    return socket.#transport;
  }

  /**
   * SO_BROADCAST: whether datagrams may go to broadcast addresses; without it they are refused with `EACCES`.
   *
   * @throws SendmmsgError see {@link ConfigurableSocket}
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
   * @throws SendmmsgError `EINVAL` out of that range; see {@link ConfigurableSocket}
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
   * @throws SendmmsgError `EINVAL` out of that range; see {@link ConfigurableSocket}
   */
  setMulticastTTL(ttl: number): number {
    checkTtl('setMulticastTTL', ttl, 0);
    return this.#control((controls) => controls.setMulticastTTL(ttl));
  }

  /**
   * IP_MULTICAST_LOOP or IPV6_MULTICAST_LOOP: whether this host receives what it sends to a group; it does at first.
   *
   * @returns `flag`
   * @throws SendmmsgError see {@link ConfigurableSocket}
   */
  setMulticastLoopback(flag: boolean): boolean {
    checkFlag(flag);
    return this.#control((controls) => controls.setMulticastLoopback(flag));
  }

  /**
   * IP_MULTICAST_IF or IPV6_MULTICAST_IF: the interface that multicast datagrams leave by; `'0.0.0.0'` or `'::'` is any.
   *
   * @throws SendmmsgError `EINVAL` for what is no literal address, `EADDRNOTAVAIL` (IPv4) or `ENODEV` (IPv6) for no
   * interface of this host, `ENOPROTOOPT` for an IPv6 one on a `'udp4'` socket; see {@link ConfigurableSocket}
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
   * interface, `ENODEV` if there is no such interface, `EADDRINUSE` if it was joined already; see {@link ConfigurableSocket}
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
   * such interface, `EADDRNOTAVAIL` if it was joined already; see {@link ConfigurableSocket}
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
   * @throws SendmmsgError `ERR_SOCKET_BAD_BUFFER_SIZE`, `ERR_SOCKET_BUFFER_SIZE`; see {@link ConfigurableSocket}
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
   * @throws SendmmsgError `ERR_SOCKET_BAD_BUFFER_SIZE`, `ERR_SOCKET_BUFFER_SIZE`; see {@link ConfigurableSocket}
   */
  setRecvBufferSize(size: number): void {
    checkSize(size);
    this.#control((controls) => controls.setRecvBufferSize(size));
  }

  /**
   * SO_BINDTODEVICE: all datagrams leave by this interface and come in by it, whatever the routes say. Linux only.
   *
   * @param device - its name; `''` for any again, which needs CAP_NET_RAW
   * @throws SendmmsgError `ENODEV`, `EPERM`, `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`; see {@link ConfigurableSocket}
   * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7), SO_BINDTODEVICE}
   */
  bindToDevice(device: string): void {
    this.#assertOpen();
    checkText('device', device);
    this.#transport.bindToDevice(device);
  }

  /** Undoes {@link unref}. Does nothing on a closed socket. */
  ref(): this {
    this.#transport.waits.ref();
    return this;
  }

  /**
   * Lets the process end while senders of this socket wait: for room, for `flushAfterMs`, for a retry or a drain.
   *
   * What is queued then is lost. A socket by itself, and a sender with nothing queued, keep no process alive anyway. An RxJS
   * `scheduler` has timers of its own, which this does not reach.
   */
  unref(): this {
    this.#transport.waits.unref();
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
}

function checkText(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw argumentTypeError(`"${name}" argument`, 'of type string', value);
}

function checkFlag(value: unknown): void {
  if (typeof value !== 'boolean') throw argumentTypeError('"flag" argument', 'of type boolean', value);
}

function checkTtl(call: string, ttl: unknown, lowest: 0 | 1): void {
  if (typeof ttl !== 'number') throw argumentTypeError('"ttl" argument', 'of type number', ttl);
  if (!Number.isInteger(ttl) || ttl < lowest || ttl > 255) throw systemError(EINVAL, call);
}

function checkSize(size: unknown): void {
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 1 || size > 0xffffffff) {
    throw badBufferSizeError('size', size);
  }
}

/** An address with its zone as both transports read it. libuv would not see what stands behind a NUL. */
function located(call: string, at: unknown): string | undefined {
  if (at === undefined || at === null) return undefined;
  checkText('multicastInterface', at);
  if (at.includes('\0')) throw systemError(EINVAL, call);
  const canonical = withCanonicalZone(at);
  if (canonical === undefined) throw systemError(ENODEV, call, {}, unknownZone(at.slice(at.indexOf('%') + 1)));
  return canonical;
}
