/**
 * The vocabulary of the public API: what a datagram is, and what is told about it afterwards.
 */
import { AF_INET } from '../kernel/abi.ts';
import type { SendmmsgError } from '../kernel/errors.ts';
import { formatIPv4, formatIPv6 } from './address-text.ts';

/**
 * The bytes of one datagram: a string (sent as UTF-8), a view of bytes, or a list that is gathered into one datagram.
 *
 * The bytes are copied when the datagram is accepted, so the buffer may be reused at once. 0 bytes are a datagram too.
 *
 * @example
 * ```ts
 * import type { Payload } from 'rx-sendmmsg';
 * const metric: Payload = 'requests:1|c';
 * const packet: Payload = [new Uint8Array([0x80, 0x60]), 'body']; // one datagram of 6 bytes
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}, whose example gathers two buffers
 */
export type Payload = string | ArrayBufferView | readonly (string | ArrayBufferView)[];

/**
 * One datagram and where it goes: `address` and `port` (IP), or `path` (unix), or `to` (an {@link Endpoint}), or none of
 * them on a connected socket. On a UDP socket also what is special about it: `dscp`, `ecn`, `from`. With
 * `segmentSize` the payload is cut into several datagrams.
 *
 * @example
 * ```ts
 * import type { Datagram } from 'rx-sendmmsg';
 * const toStatsd: Datagram = { payload: 'up:1|g', address: '127.0.0.1', port: 8125 };
 * const toSyslog: Datagram = { payload: '<14>hello', path: '/dev/log' };
 * const voice: Datagram = { payload: 'rtp', address: '127.0.0.1', port: 5004, dscp: 46, ecn: 2, from: '127.0.0.2' };
 * const video: Datagram = { payload: new Uint8Array(65_800), address: '127.0.0.1', port: 1234, segmentSize: 1316 }; // 50 datagrams
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmsg.2.html | sendmsg(2)}, `msg_name`
 */
export interface Datagram {
  /** The bytes. */
  readonly payload: Payload;
  /** A literal IPv4 or IPv6 address (`'fe80::1%eth0'` with a zone); a host name is rejected, resolve it once before. */
  readonly address?: string | undefined;
  /** 1 to 65535. */
  readonly port?: number | undefined;
  /** The path of a unix datagram socket; a leading NUL byte names an abstract one. */
  readonly path?: string | undefined;
  /** An endpoint parsed once with {@link endpoint}, for hot paths. */
  readonly to?: Endpoint | undefined;
  /**
   * The Differentiated Services code point, 0 to 63 (`46` is Expedited Forwarding), in place of the socket's own. UDP only.
   *
   * With `ecn` it is the traffic class byte (IP_TOS, IPV6_TCLASS): where one of them is given, the other counts as 0.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc2474#section-3 | RFC 2474, section 3}, {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7)}
   */
  readonly dscp?: number | undefined;
  /**
   * The Explicit Congestion Notification bits, 0 to 3: 0 is Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE. UDP only.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc3168#section-5 | RFC 3168, section 5}
   */
  readonly ecn?: number | undefined;
  /**
   * The source address, a literal one of the socket's family that is an address of this machine, whatever the socket is bound
   * to; the port is the socket's. UDP only.
   *
   * For IPv6 with a zone (`'fe80::1%eth0'`), which is then the interface to leave by; a name costs a look-up for each
   * datagram, a number (`'fe80::1%2'`) none. Another machine's address is refused by the kernel, with `EINVAL` or
   * `ENETUNREACH`. To an IPv4-mapped destination the source has to be an IPv4-mapped one, too.
   *
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7)}, IP_PKTINFO, {@link https://www.rfc-editor.org/rfc/rfc3542#section-6 | RFC 3542, section 6}
   */
  readonly from?: string | undefined;
  /**
   * Cuts the payload into datagrams of so many bytes, 1 or more; the last may be shorter, none is empty unless the payload is. It is copied
   * once, and leaves in as few messages as UDP GSO allows: for what comes in large pieces (MPEG-TS, RTP, QUIC, a file).
   *
   * Each counts as one datagram in limits, reports and stats, and is sent, rejected, dropped or queued again by itself; all of them have the
   * `sequence` of their input. They go to one destination. Rejected together with `pack` or a key of `conflateBy`
   * (`ERR_INVALID_ARG_VALUE`), and by {@link DatagramSocket.sendmmsg}.
   *
   * @see {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7), UDP_SEGMENT}
   */
  readonly segmentSize?: number | undefined;
}

/**
 * What may be sent: a datagram, or, on a connected socket, just a payload.
 *
 * @example
 * ```ts
 * import type { DatagramLike } from 'rx-sendmmsg';
 * const all: DatagramLike[] = ['bare', { payload: 'addressed', address: '::1', port: 9 }];
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/connect.2.html | connect(2)}, for SOCK_DGRAM
 */
export type DatagramLike = Payload | Datagram;

/** A destination in the kernel's own form: the words of a `sockaddr` and its length in bytes. */
export interface Sockaddr {
  /** AF_INET, AF_INET6 or AF_UNIX. */
  readonly family: number;
  /** `msg_namelen`, bytes. */
  readonly length: number;
  /** The struct as native 32-bit words; for IP the port is left 0 and filled in when written. */
  readonly words: Uint32Array;
  /** A number that spreads destinations over lanes; equal for equal addresses. */
  readonly hash: number;
}

/**
 * A destination that was parsed once; made by {@link endpoint}.
 *
 * A `Set` or a `Map` compares endpoints by identity: two calls of `endpoint()` give two objects, though of one address.
 * What is to be found again by its address is kept in a `Map` by {@link Endpoint.key}.
 *
 * @example
 * ```ts
 * import { endpoint, type Endpoint } from 'rx-sendmmsg';
 * const peers: Endpoint[] = [endpoint('127.0.0.1', 4000), endpoint('127.0.0.1', 4001)];
 * const byKey = new Map(peers.map((peer) => [peer.key, peer]));
 * console.log(byKey.has(endpoint('127.0.0.1', 4001).key)); // true
 * ```
 * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7)}, {@link https://man7.org/linux/man-pages/man7/ipv6.7.html | ipv6(7)}
 */
export class Endpoint {
  /** The literal address as it was given. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
  /** `'IPv4'` or `'IPv6'`. */
  readonly family: 'IPv4' | 'IPv6';
  readonly #sockaddr: Sockaddr;
  #key: string | undefined;

  /** @internal use {@link endpoint} */
  constructor(address: string, port: number, family: 'IPv4' | 'IPv6', sockaddr: Sockaddr) {
    this.address = address;
    this.port = port;
    this.family = family;
    this.#sockaddr = sockaddr;
    Object.freeze(this);
  }

  /**
   * The address and the port as canonical text, equal for all ways to write them: `'127.0.0.1:4000'`, `'[::1]:4000'`, a
   * zone by the number of its interface, `'[fe80::1%2]:4000'`.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc5952 | RFC 5952}
   */
  get key(): string {
    this.#key ??= keyOf(this.#sockaddr, this.port);
    return this.#key;
  }

  /** @internal The encoded address of a real endpoint; `undefined` for anything that merely looks like one. */
  static sockaddrOf(value: Endpoint): Sockaddr | undefined {
    return #sockaddr in value ? value.#sockaddr : undefined;
  }
}

function keyOf({ family, words }: Sockaddr, port: number): string {
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  if (family === AF_INET) return `${formatIPv4(bytes.subarray(4, 8))}:${port}`;
  const scope = words[6]!;
  return `[${formatIPv6(bytes.subarray(8, 24))}${scope === 0 ? '' : `%${scope}`}]:${port}`;
}

/**
 * A datagram that was not sent and never will be, and why.
 *
 * @example
 * ```ts
 * import { of } from 'rxjs';
 * import { DatagramSocket, sendmmsg } from 'rx-sendmmsg';
 * of({ payload: 'x', address: '127.0.0.1', port: 0 })
 *   .pipe(sendmmsg(() => DatagramSocket.open()))
 *   .subscribe(({ rejected }) => console.log(rejected[0]?.sequence, rejected[0]?.error.code)); // 0 ERR_SOCKET_BAD_PORT
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2), ERRORS}
 */
export interface RejectedDatagram {
  /** Its position in the input, from 0. */
  readonly sequence: number;
  /** Destination address, where it had one. */
  readonly address?: string;
  /** Destination port, where it had one. */
  readonly port?: number;
  /** Destination path, where it had one. */
  readonly path?: string;
  /** A copy of its bytes; empty where it had none that could be read. */
  readonly payload: Uint8Array;
  /** Why; see its `code`. */
  readonly error: SendmmsgError;
}

/** Where a datagram goes, for reports and errors; nothing where nobody has a name. */
export type Destination = Pick<RejectedDatagram, 'address' | 'port' | 'path'>;

/**
 * What one flush did, in datagrams (not in `mmsghdr`s). Frozen, never reused.
 *
 * @example
 * ```ts
 * import { scan } from 'rxjs';
 * import type { BatchReport } from 'rx-sendmmsg';
 * const totalSent = scan((total: number, report: BatchReport) => total + report.sent, 0);
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2), RETURN VALUE}
 */
export interface BatchReport {
  /** Datagrams taken by the kernel. */
  readonly sent: number;
  /** Payload bytes taken by the kernel. */
  readonly bytes: number;
  /** sendmmsg(2) calls made. */
  readonly syscalls: number;
  /** Datagrams that were still queued when it was over, the unsent tail included: what `queued` in the stats was then. */
  readonly requeued: number;
  /** Datagrams dropped since the last report: by overflow, age or drain timeout. */
  readonly dropped: number;
  /** Datagrams that a newer one with the same key has replaced since the last report: see `conflateBy`. */
  readonly conflated: number;
  /**
   * Errors that came in late since the last report (ICMP answers), for datagrams that count as sent: nobody listens there. Counted
   * when the datagram that met the error has passed after all, or where the socket itself told of it (SO_ERROR), which is asked
   * before completion, too.
   */
  readonly pendingErrors: number;
  /** Datagrams refused since the last report, by validation or by the kernel. */
  readonly rejected: readonly RejectedDatagram[];
}
