/**
 * The errnos that are injected, and what the library owes to the datagram at the head of a call that is answered with one:
 * written down anew, from the contract and not from the library's own table.
 */

/** How a socket is addressed. */
export type Target = 'unix-connected' | 'unix' | 'udp-connected' | 'udp';

/** What may become of the datagram at the head. */
export type Duty =
  /** It waits, for as long as it takes, and is never rejected. */
  | 'wait'
  /** It waits on a timer, a bounded number of times; then it is rejected. */
  | 'waitBounded'
  /** It may be the late error of an earlier datagram: it is tried once more, and rejected if the same is said again. */
  | 'retryOnce'
  /** It has two tries; the first may have been one that the kernel did not tell of, where a call stopped short of it. */
  | 'twoTries'
  /** It may be rejected now, or tried once more first. */
  | 'rejectOrRetry'
  /** It alone is rejected. */
  | 'reject'
  /** The stream ends with this error. */
  | 'fatal';

export const ERRNOS = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EPIPE: 32,
  ENOSYS: 38,
  ENONET: 64,
  EPROTO: 71,
  ENOTSOCK: 88,
  EDESTADDRREQ: 89,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNRESET: 104,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
} as const;

export type ErrnoName = keyof typeof ERRNOS;
export const ERRNO_NAMES = Object.keys(ERRNOS) as readonly ErrnoName[];

const NAMES: ReadonlyMap<number, ErrnoName> = new Map(ERRNO_NAMES.map((name) => [ERRNOS[name], name]));

/** Said of a message of several segments, these three are about UDP GSO: the same datagrams are sent plainly. */
export const SEGMENTATION_ERRNOS: ReadonlySet<number> = new Set([ERRNOS.EIO, ERRNOS.EINVAL, ERRNOS.EMSGSIZE]);

export function nameOf(errno: number): string {
  return NAMES.get(errno) ?? String(errno);
}

/** What is owed to a datagram that is refused by itself, not in a message of several. */
export function dutyOf(errno: number, target: Target): Duty {
  const isUnix = target.startsWith('unix');
  switch (NAMES.get(errno)) {
    case 'EAGAIN':
    case 'EINTR':
      return 'wait';
    case 'ENOBUFS':
    case 'ENOMEM':
      return 'waitBounded';
    case 'EBADF':
    case 'EFAULT':
    case 'ENOTSOCK':
    case 'ENOSYS':
      return 'fatal';
    case 'EPIPE':
      return target === 'unix' ? 'reject' : 'fatal'; // one destination that reads no more; else the socket's own peer or side
    case 'ECONNREFUSED':
      return isUnix ? 'retryOnce' : 'wait'; // over UDP it is always an earlier datagram's, however often it comes
    case 'EMSGSIZE':
      return target === 'udp-connected' ? 'retryOnce' : 'rejectOrRetry'; // a late ICMP "fragmentation needed"
    case 'EPERM': // a firewall that drops some, not all
      return 'twoTries';
    case 'ENOTCONN': // a unix peer that is gone and may be back
    case 'EACCES':
    case 'ENONET':
    case 'EPROTO':
    case 'ENOPROTOOPT':
    case 'EOPNOTSUPP':
    case 'ENETDOWN':
    case 'ENETUNREACH':
    case 'ECONNRESET':
    case 'EHOSTDOWN':
    case 'EHOSTUNREACH':
      return 'retryOnce';
    default:
      return 'reject';
  }
}
