/**
 * Control messages: what a datagram says about itself (IP_TOS, IP_PKTINFO, and those of IPv6), the UDP_SEGMENT one that a GSO
 * message carries, and the reading of UDP_GRO. See cmsg(3), ip(7), ipv6(7), udp(7).
 *
 * A datagram's control messages are encoded once and interned, so that comparing two datagrams is comparing two pointers.
 */
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  CMSG_LEVEL,
  CMSG_TYPE,
  CMSGHDR_SIZE,
  IN6_PKTINFO_SIZE,
  IP_PKTINFO,
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from '../kernel/abi.ts';
import { EAFNOSUPPORT } from '../kernel/errno.ts';
import { argumentTypeError, outOfRangeError, SendmmsgError, shortened } from '../kernel/errors.ts';
import type { Sockaddr } from './datagram.ts';
import { familyRemedy } from './destination-errors.ts';
import { addressRemedy, sockaddrOfAddress } from './sockaddr.ts';

/** CMSG_SPACE: bytes of a control message whose data has `size`. */
const spaceOf = (size: number): number => (CMSGHDR_SIZE + size + 7) & ~7;

/** Bytes of a control buffer that holds one integer: CMSG_SPACE(2) = CMSG_SPACE(4) = 24. */
export const CONTROL_SIZE: number = spaceOf(4);
/** Most bytes of a {@link Control}: to leave whole, the traffic class twice, and an IPv6 source. */
export const MAX_CONTROL_SIZE: number = CONTROL_SIZE + 2 * spaceOf(4) + spaceOf(IN6_PKTINFO_SIZE);
/** Offset of the data behind a cmsghdr: CMSG_DATA. */
export const CMSG_DATA: number = CMSGHDR_SIZE;

/** The control messages of a datagram, in the kernel's own form. Immutable; equal ones are mostly the same object. */
export interface Control {
  /** `msg_controllen`, bytes. */
  readonly length: number;
  /** The control messages one behind the other, as native 32-bit words. */
  readonly words: Uint32Array;
}

/** Most controls remembered; the cache starts anew past it. */
const CACHE_SIZE = 16_384;
/** By source address (with the zone's index), then by traffic class. */
type Interned = Map<string | undefined, Map<number, Control>>;
const interned = { size: 0, ipv4: new Map() as Interned, ipv6: new Map() as Interned };
/** A traffic class that is left to the socket. */
const NONE = -1;

/**
 * The control messages of a datagram on a socket of `family`; `null` where it says nothing. Runs no user code.
 *
 * @throws SendmmsgError `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_INVALID_IP_ADDRESS`, and `EAFNOSUPPORT` on a unix
 * socket, or for a source of the other family
 */
export function controlOf(family: number, dscp: unknown, ecn: unknown, from: unknown): Control | null {
  if (dscp === undefined && ecn === undefined && from === undefined) return null;
  const tos =
    dscp === undefined && ecn === undefined ? NONE : (checkedBits('dscp', dscp, 63) << 2) | checkedBits('ecn', ecn, 3);
  const source = from === undefined ? null : sourceOf(from);
  if (family === AF_UNIX) throw unsupported('"dscp", "ecn" and "from" are of IP, and this is a unix socket');
  if (source !== null && source.family !== family) {
    throw unsupported(`"from" is ${from}, ${familyRemedy(family, { address: from as string })}`);
  }
  return intern(family, tos, source, from as string | undefined);
}

/**
 * The same control, and that the datagram leaves whole where the socket itself has UDP_SEGMENT set: of the message the kernel takes
 * the last one, so the segment size of a run may stand behind it.
 */
export function keepingWhole(control: Control | null): Control {
  if (control === null) return LEAVES_WHOLE;
  const known = whole.get(control);
  if (known !== undefined) return known;
  const words = Uint32Array.from([...LEAVES_WHOLE.words, ...control.words]);
  const keeping = Object.freeze({ length: words.byteLength, words });
  whole.set(control, keeping);
  return keeping;
}

/** Writes a UDP_SEGMENT message, whose data, at {@link CMSG_DATA}, is a u16: datagrams of `size` bytes. */
export function writeSegmentSize(u32: Uint32Array, at: number, size: number): void {
  u32[at >>> 2] = CMSGHDR_SIZE + 2; // cmsg_len = CMSG_LEN(sizeof(u16)): an int is EINVAL
  u32[(at >>> 2) + 1] = 0;
  u32[(at + CMSG_LEVEL) >>> 2] = SOL_UDP;
  u32[(at + CMSG_TYPE) >>> 2] = UDP_SEGMENT;
  u32[(at + CMSG_DATA) >>> 2] = size;
}

/** The segment size that UDP_GRO reports in a received control buffer, bytes; 0 where the datagram was not merged. */
export function groSegmentSize(u32: Uint32Array, at: number, controlLength: number): number {
  if (controlLength < CMSGHDR_SIZE + 4) return 0;
  const isGro = u32[(at + CMSG_LEVEL) >>> 2] === SOL_UDP && u32[(at + CMSG_TYPE) >>> 2] === UDP_GRO;
  return isGro ? u32[(at + CMSG_DATA) >>> 2]! : 0;
}

/** A UDP_SEGMENT of 0. */
const LEAVES_WHOLE: Control = (() => {
  const words = new Uint32Array(CONTROL_SIZE / 4);
  writeSegmentSize(words, 0, 0);
  return Object.freeze({ length: CONTROL_SIZE, words });
})();
const whole = new WeakMap<Control, Control>();

function intern(family: number, tos: number, source: Sockaddr | null, from: string | undefined): Control {
  // A zone's name may come to mean another interface: it is remembered by its index.
  const key = from?.includes('%') ? `${from.slice(0, from.indexOf('%'))}%${source!.words[SCOPE]}` : from;
  const bySource = family === AF_INET ? interned.ipv4 : interned.ipv6;
  const known = bySource.get(key)?.get(tos);
  if (known !== undefined) return known;
  const words = Uint32Array.from([
    ...(tos === NONE ? [] : trafficClass(family, tos)),
    ...(source === null ? [] : packetInfo(source)),
  ]);
  const control = Object.freeze({ length: words.byteLength, words });
  if (interned.size++ >= CACHE_SIZE) {
    interned.size = 1;
    interned.ipv4.clear();
    interned.ipv6.clear();
  }
  const byClass = bySource.get(key);
  if (byClass === undefined) bySource.set(key, new Map([[tos, control]]));
  else byClass.set(tos, control);
  return control;
}

/**
 * To an IPv4-mapped address an IPv6 socket sends IPv4, and the kernel reads IP_TOS there and skips IPV6_TCLASS without a
 * word; to any other it is the other way round. So both are given.
 */
function trafficClass(family: number, tos: number): number[] {
  const ofIPv4 = message(IPPROTO_IP, IP_TOS, [tos]);
  return family === AF_INET6 ? [...message(IPPROTO_IPV6, IPV6_TCLASS, [tos]), ...ofIPv4] : ofIPv4;
}

/** Words of a `sockaddr_in` and a `sockaddr_in6`. */
const IPV4_ADDRESS = 1;
const IPV6_ADDRESS = 2;
const SCOPE = 6;

function packetInfo({ family, words }: Sockaddr): number[] {
  if (family === AF_INET) return message(IPPROTO_IP, IP_PKTINFO, [0, words[IPV4_ADDRESS]!, 0]); // ipi_spec_dst
  return message(IPPROTO_IPV6, IPV6_PKTINFO, [...words.subarray(IPV6_ADDRESS, SCOPE + 1)]);
}

/** A cmsghdr and its data, padded to CMSG_SPACE. */
function message(level: number, type: number, data: readonly number[]): number[] {
  const words = [CMSGHDR_SIZE + 4 * data.length, 0, level, type, ...data];
  return words.length % 2 === 0 ? words : [...words, 0];
}

function checkedBits(name: string, value: unknown, highest: number): number {
  if (value === undefined) return 0;
  if (typeof value !== 'number') throw argumentTypeError(`"${name}"`, 'a number', value);
  if (!Number.isInteger(value) || value < 0 || value > highest) {
    throw outOfRangeError(`"${name}"`, `an integer >= 0 and <= ${highest}`, value);
  }
  return value;
}

function sourceOf(from: unknown): Sockaddr {
  if (typeof from !== 'string') throw argumentTypeError('"from"', 'a string', from);
  try {
    return sockaddrOfAddress(from);
  } catch (cause) {
    // Said anew: the address of an error is a destination.
    const message = `Invalid IP address: "from" is ${shortened(from)} (${addressRemedy(from)})`;
    throw new SendmmsgError(message, { code: 'ERR_INVALID_IP_ADDRESS', cause });
  }
}

function unsupported(why: string): SendmmsgError {
  const code = 'EAFNOSUPPORT';
  return new SendmmsgError(`sendmmsg ${code}: ${why}`, { code, errno: EAFNOSUPPORT, syscall: 'sendmmsg' });
}
