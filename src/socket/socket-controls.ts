/**
 * The knobs of a socket under the names that node:dgram has for them, over setsockopt(2).
 *
 * A `dgram.Socket` has them already, so the fallback needs none of this. Arguments are of the right type and range here;
 * what they mean is said by the kernel, as it says it to node:dgram: `setTTL EINVAL`, `addMembership ENODEV`, …
 */
import type { Socket } from 'node:dgram';
import {
  AF_INET6,
  AF_UNIX,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IP_PMTUDISC_DONT,
  IP_PMTUDISC_PROBE,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_LOOP,
  IPV6_UNICAST_HOPS,
  SO_BINDTODEVICE,
  SO_BROADCAST,
  SO_RCVBUF,
  SO_SNDBUF,
  SOL_SOCKET,
} from '../kernel/abi.ts';
import { EINVAL, ENODEV, EOPNOTSUPP } from '../kernel/errno.ts';
import { SendmmsgError, systemError } from '../kernel/errors.ts';
import type { Libc } from '../kernel/libc.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { sockaddrOfAddress } from '../message/sockaddr.ts';
import { isInterfaceName } from '../message/zone.ts';
import { membership, multicastInterface, type SocketOption, sourceMembership } from './multicast.ts';

/** What node:dgram lets one set. */
export type SocketControls = Pick<
  Socket,
  | 'setBroadcast'
  | 'setTTL'
  | 'setMulticastTTL'
  | 'setMulticastLoopback'
  | 'setMulticastInterface'
  | 'addMembership'
  | 'dropMembership'
  | 'addSourceSpecificMembership'
  | 'dropSourceSpecificMembership'
  | 'getSendBufferSize'
  | 'setSendBufferSize'
  | 'getRecvBufferSize'
  | 'setRecvBufferSize'
>;

/** A descriptor; -1 once closed. */
interface Descriptor {
  readonly libc: Libc;
  readonly fd: number;
  readonly family: number;
}

export class NativeControls implements SocketControls {
  readonly #socket: Descriptor;

  constructor(socket: Descriptor) {
    this.#socket = socket;
  }

  setBroadcast(flag: boolean): void {
    this.#set('setBroadcast', { level: SOL_SOCKET, name: SO_BROADCAST, value: Number(flag) });
  }

  setTTL(ttl: number): number {
    this.#setIp('setTTL', IP_TTL, IPV6_UNICAST_HOPS, ttl);
    return ttl;
  }

  setMulticastTTL(ttl: number): number {
    this.#setIp('setMulticastTTL', IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, ttl);
    return ttl;
  }

  setMulticastLoopback(flag: boolean): boolean {
    this.#setIp('setMulticastLoopback', IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, Number(flag));
    return flag;
  }

  setMulticastInterface(at: string): void {
    const call = 'setMulticastInterface';
    this.#set(call, multicastInterface(parsed(call, at)));
  }

  addMembership(group: string, at?: string): void {
    this.#join('addMembership', 'add', group, at);
  }

  dropMembership(group: string, at?: string): void {
    this.#join('dropMembership', 'drop', group, at);
  }

  addSourceSpecificMembership(source: string, group: string, at?: string): void {
    this.#joinSource('addSourceSpecificMembership', 'add', source, group, at);
  }

  dropSourceSpecificMembership(source: string, group: string, at?: string): void {
    this.#joinSource('dropSourceSpecificMembership', 'drop', source, group, at);
  }

  getSendBufferSize(): number {
    return bufferSize('getSendBufferSize', this.#getInt(SO_SNDBUF));
  }

  setSendBufferSize(size: number): void {
    bufferSize('setSendBufferSize', this.#setBufferSize(SO_SNDBUF, size));
  }

  getRecvBufferSize(): number {
    return bufferSize('getRecvBufferSize', this.#getInt(SO_RCVBUF));
  }

  setRecvBufferSize(size: number): void {
    bufferSize('setRecvBufferSize', this.#setBufferSize(SO_RCVBUF, size));
  }

  /** SO_BINDTODEVICE; `''` unbinds. */
  bindToDevice(device: string): void {
    if (device !== '' && !isInterfaceName(device)) throw systemError(ENODEV, 'bindToDevice');
    this.#set('bindToDevice', { level: SOL_SOCKET, name: SO_BINDTODEVICE, value: Buffer.from(`${device}\0`) });
  }

  /** IP_MTU_DISCOVER; on an IPv6 socket for IPv4-mapped destinations, too. */
  setDontFragment(flag: boolean): void {
    const call = 'setDontFragment';
    const value = flag ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT;
    this.#setIp(call, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, value);
    if (this.#socket.family !== AF_INET6) return;
    try {
      this.#set(call, { level: IPPROTO_IP, name: IP_MTU_DISCOVER, value });
    } catch {
      // A kernel without IPv4 has none.
    }
  }

  /** IP_MTU. */
  mtu(): number {
    const { libc, fd, family } = this.#socket;
    if (family === AF_UNIX) throw systemError(EOPNOTSUPP, 'mtu');
    const isV6 = family === AF_INET6;
    const answer = libc.getsockopt(fd, isV6 ? IPPROTO_IPV6 : IPPROTO_IP, isV6 ? IPV6_MTU : IP_MTU);
    if (answer < 0) throw systemError(-answer, 'mtu');
    return answer;
  }

  #join(call: string, action: 'add' | 'drop', group: string, at: string | undefined): void {
    const option = membership(action, parsed(call, group), at === undefined ? undefined : parsed(call, at));
    this.#set(call, option);
  }

  #joinSource(call: string, action: 'add' | 'drop', source: string, group: string, at: string | undefined): void {
    const interfaceAt = at === undefined ? undefined : parsed(call, at);
    this.#set(call, sourceMembership(action, parsed(call, source), parsed(call, group), interfaceAt));
  }

  #setIp(call: string, name4: number, name6: number, value: number): void {
    const isV6 = this.#socket.family === AF_INET6;
    this.#set(call, { level: isV6 ? IPPROTO_IPV6 : IPPROTO_IP, name: isV6 ? name6 : name4, value });
  }

  #set(call: string, option: SocketOption | null): void {
    // The kernel would take SO_BROADCAST and SO_BINDTODEVICE of a unix socket, and do nothing.
    if (this.#socket.family === AF_UNIX) throw systemError(EOPNOTSUPP, call);
    if (option === null) throw systemError(EINVAL, call);
    const { libc, fd } = this.#socket;
    const answer = libc.setsockopt(fd, option.level, option.name, option.value);
    if (answer < 0) throw systemError(-answer, call);
  }

  #getInt(name: number): number {
    return this.#socket.libc.getsockopt(this.#socket.fd, SOL_SOCKET, name);
  }

  #setBufferSize(name: number, size: number): number {
    return size > 0x7fffffff ? -EINVAL : this.#socket.libc.setsockopt(this.#socket.fd, SOL_SOCKET, name, size);
  }
}

/** A literal address; node:dgram says `EINVAL` of anything else. */
function parsed(call: string, address: string): Sockaddr {
  try {
    return sockaddrOfAddress(address);
  } catch {
    throw systemError(EINVAL, call);
  }
}

/** What node:dgram says where the size of a buffer cannot be had. */
function bufferSize(call: string, answer: number): number {
  if (answer >= 0) return answer;
  const { message, errno } = systemError(-answer, call);
  const code = 'ERR_SOCKET_BUFFER_SIZE';
  throw new SendmmsgError(`Could not get or set buffer size: ${message}`, { code, errno: errno!, syscall: call });
}
