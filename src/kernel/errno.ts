/**
 * errno → disposition: what the flush loop does with the datagram at the head when the kernel answers `-errno`.
 *
 * A table, so that the policy can be read in one place. The numbers are Linux's: the fallback over node:dgram
 * translates its error codes to them. Sources: sendmsg(2), udp(7), unix(7), and the kernel at the lines noted.
 */
import { getSystemErrorName } from 'node:util';

/** What the flush loop does next; see the table below. */
export type Disposition =
  /** The send buffer (or the unix peer's queue) is full: wait until the socket is writable. */
  | 'wouldBlock'
  /** The kernel is short of memory: wait on a timer (never on POLLOUT, which is true), a bounded number of times. */
  | 'backoff'
  /** A signal came first: call again. */
  | 'retryNow'
  /** The late answer to an earlier datagram, and never about this one: count it and call again. */
  | 'lateError'
  /** Possibly the late answer to an earlier datagram: try this one once more, then reject it, or count the error if it passes. */
  | 'pendingSocketError'
  /** A firewall may decide anew the next time: two tries in all. */
  | 'rejectSecondTime'
  /** This datagram, and no other, is refused. */
  | 'rejectDatagram'
  /** A GSO message is refused where plain datagrams may pass: send the same datagrams one by one. */
  | 'segmentationRefused'
  /** One destination reads no more, or the socket itself was shut down: the socket knows. */
  | 'shutDown'
  /** The socket itself is unusable. */
  | 'fatal';

/**
 * Over IP, an ICMP or ICMPv6 answer to a datagram that was sent is kept in the socket, if that is connected, and the next call is
 * answered with it: `icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in net/ipv6/icmp.c. To a unix socket nobody answers, but
 * ECONNRESET is kept, when its peer has turned to somebody else.
 */
const ERRNO_TABLE: readonly (readonly [name: string, errno: number, overIp: Disposition, overUnix?: Disposition])[] = [
  ['EPERM', 1, 'rejectSecondTime'], // a firewall rule, for this destination only
  ['EINTR', 4, 'retryNow'],
  ['EIO', 5, 'rejectDatagram'],
  ['EBADF', 9, 'fatal'],
  ['EAGAIN', 11, 'wouldBlock'],
  ['ENOMEM', 12, 'backoff'],
  // Broadcast without SO_BROADCAST, or ICMPv6 admin-prohibited, policy-fail, reject-route; a path without write permission.
  ['EACCES', 13, 'pendingSocketError'],
  ['EFAULT', 14, 'fatal'],
  ['EINVAL', 22, 'rejectDatagram'],
  ['EPIPE', 32, 'shutDown'], // shutdown(SHUT_WR) here, or SHUT_RD by one unix destination
  ['ENOSYS', 38, 'fatal'],
  ['ENONET', 64, 'pendingSocketError'], // ICMP host-isolated
  ['EPROTO', 71, 'pendingSocketError'], // ICMP parameter-problem
  ['ENOTSOCK', 88, 'fatal'],
  ['EDESTADDRREQ', 89, 'rejectDatagram'],
  ['EMSGSIZE', 90, 'pendingSocketError', 'rejectDatagram'], // too long, or ICMP fragmentation-needed
  ['ENOPROTOOPT', 92, 'pendingSocketError'], // ICMP protocol-unreachable
  // Of a flag that no datagram socket knows: none such is ever passed. What is left is ICMP source-route-failed.
  ['EOPNOTSUPP', 95, 'pendingSocketError'],
  ['EAFNOSUPPORT', 97, 'rejectDatagram'],
  ['EADDRNOTAVAIL', 99, 'rejectDatagram'],
  ['ENETDOWN', 100, 'pendingSocketError'],
  ['ENETUNREACH', 101, 'pendingSocketError'],
  ['ECONNRESET', 104, 'pendingSocketError'],
  ['ENOBUFS', 105, 'backoff'],
  ['EISCONN', 106, 'rejectDatagram'],
  ['ENOTCONN', 107, 'pendingSocketError'], // a unix peer that is gone: it may be back, to be connected to again
  // ICMP port-unreachable; a unix destination that is gone, which may be back.
  ['ECONNREFUSED', 111, 'lateError', 'pendingSocketError'],
  ['EHOSTDOWN', 112, 'pendingSocketError'],
  ['EHOSTUNREACH', 113, 'pendingSocketError'],
];

const byErrno: ReadonlyMap<number, (typeof ERRNO_TABLE)[number]> = new Map(ERRNO_TABLE.map((row) => [row[1], row]));
const byName: ReadonlyMap<string, number> = new Map([
  ...ERRNO_TABLE.map((row) => [row[0], row[1]] as const),
  ['ENOTSUP', 95], // what libuv calls EOPNOTSUPP
]);

/** On EIO (no checksum offload), EINVAL or EMSGSIZE (over the MTU, by kernel version) plain datagrams may still pass. */
const REFUSES_SEGMENTATION: ReadonlySet<number> = new Set([5, 22, 90]);

export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EFAULT = 14;
export const ENODEV = 19;
export const EINVAL = 22;
export const EPIPE = 32;
export const EDESTADDRREQ = 89;
export const EMSGSIZE = 90;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const ENOBUFS = 105;
export const EIO = 5;

/**
 * What to do with the datagram at the head of a call that answered `-errno`.
 *
 * @param errno - positive, as in `<errno.h>` of Linux
 * @param isSegmented - whether the head is a GSO message of several datagrams
 * @param isUnix - whether the socket is a unix socket
 */
export function dispositionOf(errno: number, isSegmented: boolean, isUnix: boolean): Disposition {
  if (isSegmented && REFUSES_SEGMENTATION.has(errno)) return 'segmentationRefused';
  const row = byErrno.get(errno);
  // An errno nobody expects says nothing about the socket: refuse the datagram and let the stream live on.
  if (row === undefined) return 'rejectDatagram';
  return (isUnix ? row[3] : undefined) ?? row[2];
}

/** The name of a positive Linux errno, `'EMSGSIZE'`. */
export function errnoName(errno: number): string {
  return byErrno.get(errno)?.[0] ?? getSystemErrorName(-errno);
}

/** The Linux errno of a code as Node spells it, or 0 for a code that is not in the table. */
export function errnoOf(code: string): number {
  return byName.get(code) ?? 0;
}
