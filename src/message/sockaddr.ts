/**
 * Encoding of destinations: literal addresses and unix paths → `sockaddr` words, and back.
 *
 * Parsed addresses are cached, so that a string costs its parse once. Nothing here resolves host names: a DNS lookup for
 * every datagram is the mistake of node:dgram (nodejs/node#35130). See ip(7), ipv6(7), unix(7).
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  IS_LITTLE_ENDIAN,
  SOCKADDR_IN_SIZE,
  SOCKADDR_IN6_SIZE,
  SUN_PATH_SIZE,
} from '../kernel/abi.ts';
import { argumentTypeError, argumentValueError, badPortError, SendmmsgError, shortened } from '../kernel/errors.ts';
import { formatIPv4, formatIPv6 } from './address-text.ts';
import { type Destination, Endpoint, type Sockaddr } from './datagram.ts';
import { unknownZone, zoneIndex, zoneName } from './zone.ts';

/** Most addresses (and paths) remembered; the cache starts anew past it. */
const CACHE_SIZE = 65_536;
const addressCache = new Map<string, Sockaddr>();
const pathCache = new Map<string, Sockaddr>();

/**
 * Parses a destination once, for hot paths: a datagram with `to` costs no parsing and no look-up.
 *
 * @param address - a literal IPv4 or IPv6 address, with a zone where it needs one (`'fe80::1%eth0'`)
 * @param port - 1 to 65535
 * @throws SendmmsgError `ERR_INVALID_IP_ADDRESS` for anything but a literal address, `ERR_SOCKET_BAD_PORT`
 * @example
 * ```ts
 * import { endpoint } from 'rx-sendmmsg';
 * const statsd = endpoint('127.0.0.1', 8125);
 * console.log(statsd.family); // IPv4
 * ```
 * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7)}, {@link https://www.rfc-editor.org/rfc/rfc4007#section-11 | RFC 4007, section 11} (zones)
 */
export function endpoint(address: string, port: number): Endpoint {
  const sockaddr = sockaddrOfAddress(address);
  return new Endpoint(address, checkedPort(port), sockaddr.family === AF_INET ? 'IPv4' : 'IPv6', sockaddr);
}

/** A port to send to: an integer from 1 to 65535 (`lowest` 0 to bind to any). Never cut to 16 bits. */
export function checkedPort(port: unknown, lowest: 0 | 1 = 1): number {
  if (typeof port !== 'number' || !Number.isInteger(port) || port < lowest || port > 65_535) {
    throw badPortError(port, lowest);
  }
  return port;
}

/** The sockaddr of a literal IP address, its port left 0. Throws `ERR_INVALID_IP_ADDRESS`. */
export function sockaddrOfAddress(address: unknown): Sockaddr {
  if (typeof address !== 'string') throw argumentTypeError('"address"', 'a string', address);
  const cached = addressCache.get(address);
  if (cached !== undefined) return cached;
  const sockaddr = parseAddress(address);
  // An interface can be renamed or numbered anew, so a zone's name is looked up each time; `endpoint` pins it.
  return address.includes('%') ? sockaddr : remember(addressCache, address, sockaddr);
}

/** The sockaddr of a unix path, or of an abstract name (leading NUL). Throws `ENAMETOOLONG`, `ERR_INVALID_ARG_VALUE`. */
export function sockaddrOfPath(path: unknown): Sockaddr {
  if (typeof path !== 'string') throw argumentTypeError('"path"', 'a string', path);
  return pathCache.get(path) ?? remember(pathCache, path, encodePath(path));
}

/** The 16 port bits in network order, as they stand in the second half of a sockaddr's first word. */
export function portWord(port: number): number {
  return IS_LITTLE_ENDIAN ? ((port & 0xff) << 24) | ((port >>> 8) << 16) : port;
}

/** The bytes of a sockaddr with its port filled in, for bind(2) and connect(2). */
export function sockaddrBytes({ sockaddr, port = 0 }: { sockaddr: Sockaddr; port?: number }): Uint8Array {
  const words = sockaddr.words.slice();
  if (sockaddr.family !== AF_UNIX) words[0] = sockaddr.words[0]! | portWord(port);
  return new Uint8Array(words.buffer, 0, sockaddr.length);
}

/** Reads what getsockname(2) or recvmmsg(2) wrote. */
export function decodeSockaddr(
  bytes: Uint8Array,
): { address: string; family: 'IPv4' | 'IPv6'; port: number } | { path: string } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = bytes.byteLength >= 2 ? view.getUint16(0, true) : AF_UNIX;
  if (family === AF_INET) {
    return { address: formatIPv4(bytes.subarray(4, 8)), family: 'IPv4', port: view.getUint16(2) };
  }
  if (family === AF_INET6) {
    const scope = view.getUint32(24, IS_LITTLE_ENDIAN);
    const address = formatIPv6(bytes.subarray(8, 24)) + (scope === 0 ? '' : `%${zoneName(scope) ?? scope}`);
    return { address, family: 'IPv6', port: view.getUint16(2) };
  }
  if (bytes.byteLength <= 2) return { path: '' };
  const path = Buffer.from(bytes.buffer, bytes.byteOffset + 2, bytes.byteLength - 2);
  if (path[0] === 0) return { path: path.toString() };
  const end = path.indexOf(0);
  return { path: path.toString('utf8', 0, end < 0 ? path.length : end) };
}

/** Where a message goes, for errors and reports; nothing on a connected socket. */
export function describeName(name: Uint8Array): Destination {
  if (name.length === 0) return {};
  const decoded = decodeSockaddr(name);
  return 'path' in decoded ? { path: decoded.path } : { address: decoded.address, port: decoded.port };
}

/** Whether two addresses are the same: mostly they are the same object. Ports are not looked at. */
export function isSameAddress(one: Sockaddr | null, other: Sockaddr | null): boolean {
  if (one === other) return true;
  if (one === null || other === null || one.hash !== other.hash || one.length !== other.length) return false;
  return one.words.every((word, index) => word === other.words[index]);
}

/** Which of `lanes` lanes a destination takes: always the same one, and each about as many of them. */
export function laneOf(sockaddr: Sockaddr | null, port: number, lanes: number): number {
  return (hashOf(sockaddr, port) >>> 0) % lanes;
}

/** 32 bits, each of which depends on each of the address and the port. */
export function hashOf(sockaddr: Sockaddr | null, port: number): number {
  return mixed((sockaddr?.hash ?? 0) ^ port);
}

/**
 * Each bit of `word` on all bits of the result, or the hosts of a network, which differ in their last byte, would share a lane.
 *
 * @see {@link https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp | MurmurHash3, fmix32}
 */
function mixed(word: number): number {
  const once = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  const twice = Math.imul(once ^ (once >>> 13), 0xc2b2ae35);
  return twice ^ (twice >>> 16);
}

function remember(cache: Map<string, Sockaddr>, key: string, sockaddr: Sockaddr): Sockaddr {
  if (cache.size >= CACHE_SIZE) cache.clear();
  cache.set(key, sockaddr);
  return sockaddr;
}

function newSockaddr(family: number, length: number, words: Uint32Array): Sockaddr {
  return { family, length, words, hash: words.reduce((hash, word) => Math.imul(hash ^ word, 0x9e3779b1), 0) };
}

function parseAddress(address: string): Sockaddr {
  if (isIPv4(address)) {
    const bytes = new Uint8Array(SOCKADDR_IN_SIZE);
    bytes[0] = AF_INET;
    bytes.set(address.split('.').map(Number), 4);
    return newSockaddr(AF_INET, SOCKADDR_IN_SIZE, new Uint32Array(bytes.buffer));
  }
  // Looked at apart: isIPv6 knows fewer letters than the name of an interface may have ('br_lan').
  const percent = address.indexOf('%');
  const literal = percent < 0 ? address : address.slice(0, percent);
  if (!isIPv6(literal)) throw invalidAddress(address);
  const bytes = new Uint8Array(SOCKADDR_IN6_SIZE);
  bytes[0] = AF_INET6;
  bytes.set(parseIPv6(literal), 8);
  const words = new Uint32Array(bytes.buffer);
  if (percent >= 0) {
    const index = zoneIndex(address.slice(percent + 1));
    if (index === undefined) throw invalidAddress(address);
    words[6] = index;
  }
  return newSockaddr(AF_INET6, SOCKADDR_IN6_SIZE, words);
}

/** The 16 bytes of an address that `net.isIPv6` accepted, RFC 4291 section 2.2. */
function parseIPv6(literal: string): Uint8Array {
  const dotted = literal.lastIndexOf('.') < 0 ? '' : literal.slice(literal.lastIndexOf(':') + 1);
  const [a = 0, b = 0, c = 0, d = 0] = dotted.split('.').map(Number);
  const text =
    dotted === ''
      ? literal
      : `${literal.slice(0, -dotted.length)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  const [left = '', right] = text.split('::');
  const groups = (part: string): number[] => (part === '' ? [] : part.split(':').map((group) => parseInt(group, 16)));
  const head = groups(left);
  const tail = right === undefined ? [] : groups(right);
  const bytes = new Uint8Array(16);
  [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail].forEach((group, index) => {
    bytes[2 * index] = group >>> 8;
    bytes[2 * index + 1] = group & 0xff;
  });
  return bytes;
}

function encodePath(path: string): Sockaddr {
  const isAbstract = path.startsWith('\0');
  if (path === '' || path.indexOf('\0', 1) > 0) {
    throw argumentValueError('"path"', 'must be a path, or a NUL byte and an abstract name', path);
  }
  const size = Buffer.byteLength(path);
  // A path ends with a NUL byte that the kernel wants room for; an abstract name is as long as msg_namelen says, unix(7).
  if (size > (isAbstract ? SUN_PATH_SIZE : SUN_PATH_SIZE - 1)) {
    throw new SendmmsgError(`A unix socket path holds at most 107 bytes: ${shortened(path)}`, {
      code: 'ENAMETOOLONG',
      path,
    });
  }
  const bytes = Buffer.alloc(112);
  bytes[0] = AF_UNIX;
  bytes.write(path, 2);
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  return newSockaddr(AF_UNIX, 2 + size + (isAbstract ? 0 : 1), words);
}

function invalidAddress(address: string): SendmmsgError {
  const message = `Invalid IP address: ${shortened(address)} (${addressRemedy(address)})`;
  return new SendmmsgError(message, { code: 'ERR_INVALID_IP_ADDRESS', address });
}

/** What to do about a text that is no address: one that was meant to be one is seen in it. */
export function addressRemedy(text: string): string {
  const percent = text.indexOf('%');
  if (percent >= 0 && isIPv6(text.slice(0, percent))) return unknownZone(text.slice(percent + 1));
  const [, literal = '', port] = /^\[?([\da-f:.]{1,45}?(?:%[^\]]{1,16}?)?)\]?(?::(\d{1,5}))?$/i.exec(text) ?? [];
  const [address = '', zone] = literal.split('%');
  if (isIP(address) === 0) return 'host names are not resolved here: look it up first, with dns.lookup()';
  if (zone !== undefined && isIPv4(address)) return 'only an IPv6 address has a zone';
  if (port === undefined) return `an address is written without brackets here, '${literal}'`;
  return `give the address and the port apart: '${literal}', ${port}`;
}
