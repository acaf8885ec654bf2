import { describe, expect, it } from 'vitest';
import { CALLS_PER_RUN } from '../src/flush.ts';
import { range } from './support/datagrams.ts';
import { type Behaviour, drive, flushFixture } from './support/scripted-kernel.ts';

const EPERM = 1;
const EINTR = 4;
const EBADF = 9;
const EAGAIN = 11;
const ENOMEM = 12;
const ENOTSOCK = 88;
const EMSGSIZE = 90;
const ENETUNREACH = 101;
const ENOBUFS = 105;
const ECONNREFUSED = 111;

/** A kernel that takes at most `chunk` a call, and refuses some datagrams, as sendmmsg(2) does: the head, or a short count. */
function refusing(bad: readonly number[], errno: number, chunk = 1024): Behaviour {
  return (head, vlen) => {
    const first = bad.find((number) => number >= head && number < head + Math.min(vlen, chunk));
    if (first === head) return -errno;
    return first === undefined ? Math.min(vlen, chunk) : first - head;
  };
}

describe.each([64, 1024])('a kernel that takes %i datagrams a call', (chunk) => {
  const counts = [1, chunk - 1, chunk, chunk + 1, 1023, 1024, 1025, 2000, 3 * chunk];

  it.each(counts)('gets %i datagrams exactly once, in order, in as few calls as it can', (count) => {
    const { loop, kernel, ring } = flushFixture(count, refusing([], 0, chunk));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual(range(count));
    expect(kernel.calls).toHaveLength(Math.ceil(count / chunk));
    expect(loop).toMatchObject({ sent: count, syscalls: kernel.calls.length });
    expect(ring).toMatchObject({ datagrams: 0, bytes: 0, slots: 0 });
  });

  const count = 3 * chunk;
  it.each([
    ['first', [0]],
    ['in the middle', [chunk + chunk / 2]],
    ['before the boundary', [chunk - 1]],
    ['on the boundary', [chunk]],
    ['last', [count - 1]],
    ['all of these, and two in a row', [0, 1, chunk - 1, chunk, 2 * chunk, count - 2, count - 1]],
  ])('refuses the bad datagram %s, and gets all the others', (_where, bad) => {
    const { loop, kernel, ring } = flushFixture(count, refusing(bad, EMSGSIZE, chunk));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual(range(count, bad));
    expect(loop.rejected.map(({ sequence }) => sequence)).toEqual(bad);
    expect(loop.sent).toBe(count - bad.length);
    expect(ring.datagrams).toBe(0);
    expect(kernel.calls.length).toBeLessThanOrEqual(count / chunk + 2 * bad.length + 1);
  });
});

describe('where the answer comes later', () => {
  it.each([
    ['of four datagrams', { datagrams: 4, bytes: 1000 }, [4, 4, 2]],
    ['of as many as there are', { datagrams: 10, bytes: 10 }, [10]],
    ['of seven bytes', { datagrams: 1000, bytes: 7 }, [7, 3]],
    ['less than a datagram: one at a time', { datagrams: 0.5, bytes: 0.5 }, new Array<number>(10).fill(1)],
  ])('a call gets no more than its share, %s', (_what, mostInFlight, vlens) => {
    const { loop, kernel } = flushFixture(10, (_head, vlen) => vlen);
    kernel.mostInFlight = mostInFlight;
    expect(loop.run()).toBe('drained');
    expect(kernel.calls.map(({ vlen }) => vlen)).toEqual(vlens);
    expect(kernel.taken).toEqual(range(10));
  });
});

describe('what an errno means', () => {
  it('a refused datagram is one rejection, with its bytes, its place and the errno as Node spells it', () => {
    const { loop } = flushFixture(3, refusing([1], EPERM));
    expect(loop.run()).toBe('drained');
    const [rejection, ...others] = loop.rejected;
    expect(others).toEqual([]);
    expect(rejection).toMatchObject({ sequence: 1, error: { code: 'EPERM', errno: 1, syscall: 'sendmmsg' } });
    expect(Buffer.from(rejection!.payload).toString()).toBe('1');
    expect(Object.isFrozen(rejection)).toBe(true);
  });

  it('EAGAIN is one call, then waiting', () => {
    const { loop, kernel, ring } = flushFixture(5, () => -EAGAIN);
    expect(loop.run()).toBe('blocked');
    expect(kernel.calls).toHaveLength(1);
    expect(ring.datagrams).toBe(5);
    expect(loop.wouldBlocks).toBe(1);
  });

  it('0 taken, which sendmmsg(2) does not foresee, waits as EAGAIN does', () => {
    const { loop, kernel } = flushFixture(5, () => 0);
    expect(loop.run()).toBe('blocked');
    expect(kernel.calls).toHaveLength(1);
  });

  it('a short count is no reason to wait: the tail goes at once', () => {
    const { loop, kernel } = flushFixture(5, (head, vlen) => (head === 0 ? 2 : vlen));
    expect(loop.run()).toBe('drained');
    expect(kernel.calls).toEqual([
      { head: 0, vlen: 5, answer: 2 },
      { head: 2, vlen: 3, answer: 3 },
    ]);
    expect(loop.shortCounts).toBe(1);
  });

  it.each([
    ['ENOBUFS', ENOBUFS],
    ['ENOMEM', ENOMEM],
  ])(
    '%s backs off 1, 2, 4 … 100 ms, then rejects the head, and no longer waits long for those behind',
    (code, errno) => {
      const { loop, kernel } = flushFixture(3, refusing([0, 1], errno));
      const waits: number[] = [];
      let verdict = loop.run();
      while (verdict === 'backoff' && waits.length < 100) {
        waits.push(loop.backoffMs);
        verdict = loop.run();
      }
      expect(verdict).toBe('drained');
      expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100, 100, 100, 100]);
      expect(kernel.taken).toEqual([2]);
      expect(loop.rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual([
        [0, code],
        [1, code],
      ]);
    },
  );

  it('a datagram taken between two shortages gives the next one its full patience back', () => {
    const { loop } = flushFixture(3, refusing([0, 2], ENOBUFS));
    const { waits } = drive(loop);
    expect(waits).toHaveLength(24);
  });

  it('EINTR is called again at once, yet not for ever in one turn', () => {
    const { loop, kernel } = flushFixture(2, (_head, vlen, call) => (call < 20 ? -EINTR : vlen));
    expect(loop.run()).toBe('backoff');
    expect(kernel.calls.length).toBeLessThanOrEqual(16);
    expect(loop.backoffMs).toBe(1);
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual([0, 1]);
    expect(loop.rejected).toEqual([]);
  });

  it('ECONNREFUSED of an earlier datagram is counted, and the same datagram is tried once more', () => {
    const { loop, kernel } = flushFixture(3, (_head, vlen, call) => (call === 0 ? -ECONNREFUSED : vlen));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual([0, 1, 2]);
    expect(loop.pendingErrors).toBe(1);
    expect(loop.rejected).toEqual([]);
  });

  it.each([ECONNREFUSED, ENETUNREACH])('errno %i twice for the same datagram is its own: it is rejected', (errno) => {
    const { loop, kernel } = flushFixture(3, refusing([1], errno));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual([0, 2]);
    expect(loop.rejected.map(({ sequence }) => sequence)).toEqual([1]);
    expect(kernel.calls.filter(({ head }) => head === 1)).toHaveLength(2);
  });

  it('an errno that nobody expects refuses the datagram only', () => {
    const { loop, kernel } = flushFixture(3, refusing([1], 75));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual([0, 2]);
    expect(loop.rejected[0]!.error.code).toBe('EOVERFLOW');
  });

  it.each([
    ['EBADF', EBADF],
    ['ENOTSOCK', ENOTSOCK],
  ])('%s is the end: nothing is called again, and nothing is lost from the account', (code, errno) => {
    const { loop, kernel, ring } = flushFixture(4, (head) => (head === 0 ? 1 : -errno));
    expect(loop.run()).toBe('fatal');
    expect(loop.fatalError).toMatchObject({ code, errno, syscall: 'sendmmsg' });
    expect(kernel.taken).toEqual([0]);
    expect(kernel.calls).toHaveLength(2);
    expect(ring.datagrams + loop.sent).toBe(4);
  });
});

describe('bounds', () => {
  it('one run makes a bounded number of calls, then yields with the tail at the head', () => {
    const count = 2 * CALLS_PER_RUN + 5;
    const { loop, kernel, ring } = flushFixture(count, () => 1);
    expect(loop.run()).toBe('yield');
    expect(kernel.calls).toHaveLength(CALLS_PER_RUN);
    expect(ring.headSequence()).toBe(CALLS_PER_RUN);
    drive(loop);
    expect(kernel.taken).toEqual(range(count));
  });

  it('an empty ring is never handed over', () => {
    const { loop, kernel } = flushFixture(0, () => 1);
    expect(loop.run()).toBe('drained');
    expect(kernel.calls).toEqual([]);
  });

  it('a run of 1-counts, as a dead peer gives, is probed with one datagram, and SO_ERROR is read and counted', () => {
    const { loop, kernel } = flushFixture(100, () => 1);
    kernel.pendingError = ECONNREFUSED;
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual(range(100));
    expect(kernel.calls).toHaveLength(100);
    const probes = kernel.calls.filter(({ vlen, head }) => vlen === 1 && head < 99);
    expect(probes.length).toBe(kernel.errorsRead);
    expect(probes.length).toBeGreaterThan(5);
    expect(loop.pendingErrors).toBe(probes.length);
  });

  it('SO_ERROR is not read while the kernel takes batches', () => {
    const { loop, kernel } = flushFixture(5000, (_head, vlen) => Math.min(vlen, 2));
    drive(loop);
    expect(kernel.errorsRead).toBe(0);
    expect(loop.pendingErrors).toBe(0);
  });

  it('reset forgets the counts of a report, not those of a lifetime', () => {
    const { loop } = flushFixture(4, refusing([1], EMSGSIZE));
    loop.run();
    loop.reset();
    expect(loop).toMatchObject({ sent: 0, bytes: 0, syscalls: 0, rejected: [], shortCounts: 1 });
    expect(loop.rejected).toEqual([]);
  });
});
