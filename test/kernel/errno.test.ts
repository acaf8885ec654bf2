import { constants } from 'node:os';
import { getSystemErrorMap, getSystemErrorName } from 'node:util';
import { describe, expect, it } from 'vitest';
import * as table from '../../src/kernel/errno.ts';
import { type Disposition, dispositionOf, errnoName, errnoOf } from '../../src/kernel/errno.ts';

const known = Object.entries(constants.errno);
const { EAGAIN, EBADF, EPIPE, EDESTADDRREQ, EMSGSIZE, EAFNOSUPPORT, ENOBUFS, EIO } = table;

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

  it.each(Object.entries({ EAGAIN, EBADF, EPIPE, EDESTADDRREQ, EMSGSIZE, EAFNOSUPPORT, ENOBUFS, EIO }))(
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

type Name = keyof typeof constants.errno | 'EHOSTDOWN' | 'ENONET';

describe('dispositions', () => {
  /** Of a plain datagram, over IP and on a unix socket; those of one name only are the same on both. */
  const expected: Record<Disposition, { both?: readonly Name[]; ip?: readonly Name[]; unix?: readonly Name[] }> = {
    wouldBlock: { both: ['EAGAIN'] },
    backoff: { both: ['ENOBUFS', 'ENOMEM'] },
    retryNow: { both: ['EINTR'] },
    // Only an ICMP answer to an earlier datagram says it, over IP.
    lateError: { ip: ['ECONNREFUSED'] },
    pendingSocketError: {
      // icmp_err_convert and tab_unreach: each of these may be an answer to an earlier datagram.
      both: [
        ...(['EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'ECONNRESET', 'EHOSTDOWN', 'ENOTCONN'] as const),
        ...(['EACCES', 'EOPNOTSUPP', 'EPROTO', 'ENOPROTOOPT', 'ENONET'] as const),
      ],
      ip: ['EMSGSIZE'],
      unix: ['ECONNREFUSED'],
    },
    rejectSecondTime: { both: ['EPERM'] },
    rejectDatagram: {
      both: ['EINVAL', 'EDESTADDRREQ', 'EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EISCONN', 'EIO'],
      unix: ['EMSGSIZE'],
    },
    segmentationRefused: {},
    shutDown: { both: ['EPIPE'] },
    fatal: { both: ['EBADF', 'ENOTSOCK', 'EFAULT', 'ENOSYS'] },
  };
  const rows = (Object.keys(expected) as Disposition[]).flatMap((disposition) => {
    const { both = [], ip = [], unix = [] } = expected[disposition];
    return [
      ...[...both, ...ip].map((name) => [name, 'over IP', disposition] as const),
      ...[...both, ...unix].map((name) => [name, 'on a unix socket', disposition] as const),
    ];
  });

  it.each(rows)('of a plain datagram: %s %s is %s', (name, where, disposition) => {
    expect(errnoOf(name)).toBeGreaterThan(0);
    expect(dispositionOf(errnoOf(name), false, where === 'on a unix socket')).toBe(disposition);
  });

  it('of every errno in the table one is expected, over IP and on a unix socket', () => {
    const told = (place: string): string[] => rows.filter(([, where]) => where === place).map(([name]) => name);
    const inTable = Array.from({ length: 140 }, (_, index) => errnoName(index + 1)).filter((name) => errnoOf(name) > 0);
    expect(inTable.length).toBeGreaterThan(20);
    for (const place of ['over IP', 'on a unix socket']) expect(told(place).sort()).toEqual([...inTable].sort());
  });

  it.each(['EIO', 'EINVAL', 'EMSGSIZE'])('of a segmented slot: %s asks for the same datagrams one by one', (name) => {
    for (const isUnix of [false, true]) expect(dispositionOf(errnoOf(name), true, isUnix)).toBe('segmentationRefused');
  });

  it.each(['EAGAIN', 'ENOBUFS', 'EPERM', 'EBADF', 'ECONNREFUSED', 'EACCES', 'EPIPE', 'EINTR', 'EOPNOTSUPP'])(
    'of a segmented slot: %s is as for a plain one',
    (name) => {
      expect(dispositionOf(errnoOf(name), true, false)).toBe(dispositionOf(errnoOf(name), false, false));
    },
  );

  it('an errno that nobody expects costs the datagram, not the stream', () => {
    for (const errno of [2, 77, 126, 4000]) {
      for (const isUnix of [false, true]) expect(dispositionOf(errno, false, isUnix)).toBe('rejectDatagram');
    }
  });
});
