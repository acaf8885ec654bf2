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
  /** Possibly the late answer to an earlier datagram: count it and try this one once more, then reject it. */
  | 'pendingSocketError'
  /** This datagram, and no other, is refused. */
  | 'rejectDatagram'
  /** A GSO slot is refused where plain datagrams may pass: send the same datagrams one by one. */
  | 'segmentationRefused'
  /** The socket itself is unusable. */
  | 'fatal';

const ERRNO_TABLE: readonly (readonly [name: string, errno: number, disposition: Disposition])[] = [
  ['EPERM', 1, 'rejectDatagram'], // a firewall rule, for this destination only
  ['EINTR', 4, 'retryNow'],
  ['EIO', 5, 'rejectDatagram'],
  ['EBADF', 9, 'fatal'],
  ['EAGAIN', 11, 'wouldBlock'],
  ['ENOMEM', 12, 'backoff'],
  ['EACCES', 13, 'rejectDatagram'], // broadcast without SO_BROADCAST; a unix path without write permission
  ['EFAULT', 14, 'fatal'],
  ['EINVAL', 22, 'rejectDatagram'],
  ['EPIPE', 32, 'fatal'], // shutdown(SHUT_WR): no datagram will ever pass
  ['ENOSYS', 38, 'fatal'],
  ['EPROTO', 71, 'pendingSocketError'],
  ['ENOTSOCK', 88, 'fatal'],
  ['EDESTADDRREQ', 89, 'rejectDatagram'],
  ['EMSGSIZE', 90, 'rejectDatagram'],
  ['ENOPROTOOPT', 92, 'pendingSocketError'],
  ['EOPNOTSUPP', 95, 'fatal'],
  ['EAFNOSUPPORT', 97, 'rejectDatagram'],
  ['EADDRNOTAVAIL', 99, 'rejectDatagram'],
  ['ENETDOWN', 100, 'pendingSocketError'],
  ['ENETUNREACH', 101, 'pendingSocketError'],
  ['ECONNRESET', 104, 'pendingSocketError'],
  ['ENOBUFS', 105, 'backoff'],
  ['EISCONN', 106, 'rejectDatagram'],
  ['ENOTCONN', 107, 'pendingSocketError'], // a unix peer that is gone: it may be back, to be connected to again
  ['ECONNREFUSED', 111, 'pendingSocketError'], // ICMP for an earlier datagram, or a unix peer that is gone
  ['EHOSTDOWN', 112, 'pendingSocketError'],
  ['EHOSTUNREACH', 113, 'pendingSocketError'],
];

const byErrno: ReadonlyMap<number, (typeof ERRNO_TABLE)[number]> = new Map(ERRNO_TABLE.map((row) => [row[1], row]));
const byName: ReadonlyMap<string, number> = new Map(ERRNO_TABLE.map((row) => [row[0], row[1]]));

/** On EIO (no checksum offload), EINVAL or EMSGSIZE (over the MTU, by kernel version) plain datagrams may still pass. */
const REFUSES_SEGMENTATION: ReadonlySet<number> = new Set([5, 22, 90]);

export const EBADF = 9;
export const EAGAIN = 11;
export const ENODEV = 19;
export const EINVAL = 22;
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
 * @param segmented - whether the head is a GSO slot of several datagrams
 */
export function dispositionOf(errno: number, segmented: boolean): Disposition {
  if (segmented && REFUSES_SEGMENTATION.has(errno)) return 'segmentationRefused';
  // An errno nobody expects says nothing about the socket: refuse the datagram and let the stream live on.
  return byErrno.get(errno)?.[2] ?? 'rejectDatagram';
}

/** The name of a positive Linux errno, `'EMSGSIZE'`. */
export function errnoName(errno: number): string {
  return byErrno.get(errno)?.[0] ?? getSystemErrorName(-errno);
}

/** The Linux errno of a code as Node spells it, or 0 for a code that is not in the table. */
export function errnoOf(code: string): number {
  return byName.get(code) ?? 0;
}
