/**
 * Multicast memberships as setsockopt(2) takes them: the structs of ip(7), RFC 3493 and RFC 3678, from literal addresses.
 *
 * As in node:dgram, the family of the group decides, not that of the socket; an IPv4 interface is told by an address of
 * it, an IPv6 one by its zone (`'::%eth0'`). Pure functions.
 */
import {
  AF_INET,
  GROUP_SOURCE_REQ_SIZE,
  GSR_GROUP,
  GSR_SOURCE,
  IMR_INTERFACE,
  IMR_SOURCEADDR,
  IP_ADD_MEMBERSHIP,
  IP_ADD_SOURCE_MEMBERSHIP,
  IP_DROP_MEMBERSHIP,
  IP_DROP_SOURCE_MEMBERSHIP,
  IP_MREQ_SIZE,
  IP_MREQ_SOURCE_SIZE,
  IP_MULTICAST_IF,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_ADD_MEMBERSHIP,
  IPV6_DROP_MEMBERSHIP,
  IPV6_MREQ_SIZE,
  IPV6_MULTICAST_IF,
  IPV6MR_INTERFACE,
  MCAST_JOIN_SOURCE_GROUP,
  MCAST_LEAVE_SOURCE_GROUP,
} from '../kernel/abi.ts';
import type { Sockaddr } from '../message/datagram.ts';

/** What setsockopt(2) is to be called with. */
export interface SocketOption {
  readonly level: number;
  readonly name: number;
  readonly value: number | Uint8Array;
}

/** IP_ADD_MEMBERSHIP and its like. `null` if `at` is of another family than `group`. */
export function membership(action: 'add' | 'drop', group: Sockaddr, at: Sockaddr | undefined): SocketOption | null {
  if (at !== undefined && at.family !== group.family) return null;
  const isAdd = action === 'add';
  if (group.family === AF_INET) {
    const name = isAdd ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP;
    return { level: IPPROTO_IP, name, value: ipMreq(group, at) };
  }
  const name = isAdd ? IPV6_ADD_MEMBERSHIP : IPV6_DROP_MEMBERSHIP;
  return { level: IPPROTO_IPV6, name, value: ipv6Mreq(group, zoneOf(at ?? group)) };
}

/** IP_ADD_SOURCE_MEMBERSHIP and its like. `null` if the three are not of one family. */
export function sourceMembership(
  action: 'add' | 'drop',
  source: Sockaddr,
  group: Sockaddr,
  at: Sockaddr | undefined,
): SocketOption | null {
  if (source.family !== group.family || (at !== undefined && at.family !== group.family)) return null;
  const isAdd = action === 'add';
  if (group.family === AF_INET) {
    const name = isAdd ? IP_ADD_SOURCE_MEMBERSHIP : IP_DROP_SOURCE_MEMBERSHIP;
    return { level: IPPROTO_IP, name, value: ipMreqSource(source, group, at) };
  }
  const name = isAdd ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP;
  return { level: IPPROTO_IPV6, name, value: groupSourceReq(source, group, zoneOf(at ?? group)) };
}

/** IP_MULTICAST_IF by an address of the interface, or IPV6_MULTICAST_IF by its number. */
export function multicastInterface(at: Sockaddr): SocketOption {
  if (at.family === AF_INET) return { level: IPPROTO_IP, name: IP_MULTICAST_IF, value: inAddr(at) };
  return { level: IPPROTO_IPV6, name: IPV6_MULTICAST_IF, value: zoneOf(at) };
}

/** struct ip_mreq; without an interface (INADDR_ANY), the route to the group decides. */
export function ipMreq(group: Sockaddr, at: Sockaddr | undefined): Uint8Array {
  const bytes = new Uint8Array(IP_MREQ_SIZE);
  bytes.set(inAddr(group));
  if (at !== undefined) bytes.set(inAddr(at), IMR_INTERFACE);
  return bytes;
}

/** struct ip_mreq_source. */
export function ipMreqSource(source: Sockaddr, group: Sockaddr, at: Sockaddr | undefined): Uint8Array {
  const bytes = new Uint8Array(IP_MREQ_SOURCE_SIZE);
  bytes.set(ipMreq(group, at));
  bytes.set(inAddr(source), IMR_SOURCEADDR);
  return bytes;
}

/** struct ipv6_mreq; interface 0: the route to the group decides. */
export function ipv6Mreq(group: Sockaddr, zone: number): Uint8Array {
  const bytes = new Uint8Array(IPV6_MREQ_SIZE);
  bytes.set(bytesOf(group).subarray(8, 24));
  new DataView(bytes.buffer).setUint32(IPV6MR_INTERFACE, zone, true);
  return bytes;
}

/** struct group_source_req of 64-bit platforms, where `sockaddr_storage` is aligned to 8 bytes. */
export function groupSourceReq(source: Sockaddr, group: Sockaddr, zone: number): Uint8Array {
  const bytes = new Uint8Array(GROUP_SOURCE_REQ_SIZE);
  new DataView(bytes.buffer).setUint32(0, zone, true);
  bytes.set(bytesOf(group), GSR_GROUP);
  bytes.set(bytesOf(source), GSR_SOURCE);
  return bytes;
}

function bytesOf({ words, length }: Sockaddr): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, length);
}

/** struct in_addr, as it lies in a sockaddr_in. */
function inAddr(sockaddr: Sockaddr): Uint8Array {
  return bytesOf(sockaddr).subarray(4, 8);
}

/** `sin6_scope_id`. */
function zoneOf({ words }: Sockaddr): number {
  return words[6]!;
}
