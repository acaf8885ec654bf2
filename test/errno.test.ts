import { constants } from 'node:os';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';
import { describe, expect, it } from 'vitest';
import * as table from '../src/errno.ts';
import { type Disposition, dispositionOf, errnoName, errnoOf } from '../src/errno.ts';

const known = Object.entries(constants.errno);
const { EAGAIN, EBADF, EDESTADDRREQ, EMSGSIZE, EAFNOSUPPORT, ENOBUFS, EIO } = table;

describe('errno names', () => {
  it.each(known.filter(([name]) => name !== 'EWOULDBLOCK' && name !== 'EOPNOTSUPP' && name !== 'ENOTSUP'))(
    '%s is what Node calls errno %i',
    (name, errno) => {
      // Where libuv has no name for a number, there is nothing to agree with.
      if (getSystemErrorMap().has(-errno)) expect(errnoName(errno)).toBe(getSystemErrorName(-errno));
      if (errnoOf(name) !== 0) expect(errnoName(errno)).toBe(name);
    },
  );

  it.each(known)('%s, if it is in the table, has the number of this kernel', (name, errno) => {
    expect([0, errno]).toContain(errnoOf(name));
  });

  it.each(Object.entries({ EAGAIN, EBADF, EDESTADDRREQ, EMSGSIZE, EAFNOSUPPORT, ENOBUFS, EIO }))(
    'the constant %s is the number of this kernel',
    (name, errno) => {
      expect(errno).toBe(constants.errno[name as keyof typeof constants.errno]);
      expect(errnoOf(name)).toBe(errno);
    },
  );

  it('tells EAGAIN by that name, not EWOULDBLOCK', () => {
    expect(errnoName(constants.errno.EWOULDBLOCK)).toBe('EAGAIN');
  });

  it('answers 0 for a code that is not in the table', () => {
    expect(['', 'EWHATEVER', 'ERR_SOCKET_BAD_PORT', 'toString', '__proto__'].map(errnoOf)).toEqual([0, 0, 0, 0, 0]);
  });

  it('has a name even for a number that nobody knows', () => {
    expect(errnoName(4000)).toMatch(/4000/);
  });
});

describe('dispositions', () => {
  const expected: Record<Disposition, readonly (keyof typeof constants.errno | 'EHOSTDOWN')[]> = {
    wouldBlock: ['EAGAIN'],
    backoff: ['ENOBUFS', 'ENOMEM'],
    retryNow: ['EINTR'],
    pendingSocketError: ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'ECONNRESET', 'EHOSTDOWN'],
    rejectDatagram: ['EPERM', 'EACCES', 'EMSGSIZE', 'EINVAL', 'EDESTADDRREQ', 'EAFNOSUPPORT', 'EISCONN', 'EIO'],
    segmentationRefused: [],
    fatal: ['EBADF', 'ENOTSOCK', 'EPIPE', 'EFAULT', 'ENOSYS', 'EOPNOTSUPP'],
  };

  it.each(
    Object.entries(expected).flatMap(([disposition, names]) => names.map((name) => [name, disposition] as const)),
  )('of a plain datagram: %s is %s', (name, disposition) => {
    expect(errnoOf(name)).toBeGreaterThan(0);
    expect(dispositionOf(errnoOf(name), false)).toBe(disposition);
  });

  it.each(['EIO', 'EINVAL', 'EMSGSIZE'])('of a segmented slot: %s asks for the same datagrams one by one', (name) => {
    expect(dispositionOf(errnoOf(name), true)).toBe('segmentationRefused');
  });

  it.each(['EAGAIN', 'ENOBUFS', 'EPERM', 'EBADF', 'ECONNREFUSED'])(
    'of a segmented slot: %s is as for a plain one',
    (name) => {
      expect(dispositionOf(errnoOf(name), true)).toBe(dispositionOf(errnoOf(name), false));
    },
  );

  it('an errno that nobody expects costs the datagram, not the stream', () => {
    for (const errno of [2, 77, 126, 4000]) expect(dispositionOf(errno, false)).toBe('rejectDatagram');
  });
});
