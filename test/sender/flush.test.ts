import { describe, expect, it } from 'vitest';
import { CALLS_PER_RUN } from '../../src/sender/flush.ts';
import { Pace } from '../../src/sender/pace.ts';
import { range } from '../support/datagrams.ts';
import { drive, flushFixture, refusing } from '../support/scripted-kernel.ts';

const EINVAL = 22;
const EMSGSIZE = 90;
const ECONNREFUSED = 111;

describe.each([64, 1024])('a kernel that takes %i datagrams a call', (chunk) => {
  const counts = [1, chunk - 1, chunk, chunk + 1, 1023, 1024, 1025, 2000, 3 * chunk];

  it.each(counts)('gets %i datagrams exactly once, in order, in as few calls as it can', (count) => {
    const { loop, kernel, queue } = flushFixture(count, refusing([], 0, chunk));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual(range(count));
    expect(kernel.calls).toHaveLength(Math.ceil(count / chunk));
    expect(loop).toMatchObject({ sent: count, syscalls: kernel.calls.length });
    expect(queue).toMatchObject({ datagrams: 0, bytes: 0, head: 0, tail: 0 });
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
    const { loop, kernel, queue } = flushFixture(count, refusing(bad, EMSGSIZE, chunk));
    expect(loop.run()).toBe('drained');
    expect(kernel.taken).toEqual(range(count, bad));
    expect(loop.rejected.map(({ sequence }) => sequence)).toEqual(bad);
    expect(loop.sent).toBe(count - bad.length);
    expect(queue.datagrams).toBe(0);
    expect(kernel.calls.length).toBeLessThanOrEqual(count / chunk + 3 * bad.length + 1);
  });
});

describe('where the answer comes later', () => {
  it.each([
    ['of four datagrams', { datagrams: 4, bytes: 1000 }, [4, 4, 2]],
    ['of as many as there are', { datagrams: 10, bytes: 10 }, [10]],
    ['of seven bytes', { datagrams: 1000, bytes: 7 }, [7, 3]],
    ['less than a datagram: one at a time', { datagrams: 0.5, bytes: 0.5 }, new Array<number>(10).fill(1)],
  ])('a call gets no more than its share, %s', (_what, mostInFlight, vlens) => {
    const { loop, kernel } = flushFixture(10, (_head, vlen) => vlen, { mostInFlight });
    expect(loop.run()).toBe('drained');
    expect(kernel.calls.map(({ vlen }) => vlen)).toEqual(vlens);
    expect(kernel.taken).toEqual(range(10));
  });
});

describe('a pace that holds back', () => {
  it.each([
    ['that takes all', (vlen: number) => vlen],
    ['that takes one, as of a dead peer', () => 1],
    ['that takes half', (vlen: number) => Math.ceil(vlen / 2)],
  ])('lets as many datagrams go in a tick to a kernel %s', (_what, takes) => {
    let ms = 0;
    const pace = new Pace({ datagramsPerSecond: 5000, burst: 5 }, { now: () => ms, after: () => () => {} });
    const { loop, kernel } = flushFixture(100, (_head, vlen) => takes(vlen), { pace });
    for (const due of range(20)) {
      expect(loop.run()).toBe(due < 19 ? 'paced' : 'drained');
      expect(kernel.taken).toHaveLength(5 * (due + 1));
      expect(loop.paceMs).toBe(1);
      ms++;
    }
    expect(kernel.taken).toEqual(range(100));
  });
});

describe('bounds', () => {
  it('rejections are told when they hold as many bytes as they may', () => {
    // Ten of one byte, then five of two.
    const { loop, queue } = flushFixture(100, () => -EINVAL, { mostRejectedBytes: 10 });
    expect(loop.run()).toBe('yield');
    expect([loop.rejected.length, loop.hasRejectedMuch, queue.datagrams]).toEqual([10, true, 90]);
    loop.reset();
    expect([loop.hasRejectedMuch, loop.run(), loop.rejected.length]).toEqual([false, 'yield', 5]);
  });

  it('but not where an error leaves no time for that: with an infinite budget all go', () => {
    const { loop } = flushFixture(3000, () => -EINVAL, { mostRejectedBytes: 10 });
    expect(loop.run(Number.POSITIVE_INFINITY)).toBe('drained');
    expect(loop.rejected).toHaveLength(3000);
  });

  it('one run makes a bounded number of calls, then yields with the tail at the head', () => {
    const count = 2 * CALLS_PER_RUN + 5;
    const { loop, kernel, queue } = flushFixture(count, () => 1);
    expect(loop.run()).toBe('yield');
    expect(kernel.calls).toHaveLength(CALLS_PER_RUN);
    expect(queue.headSequence()).toBe(CALLS_PER_RUN);
    drive(loop);
    expect(kernel.taken).toEqual(range(count));
  });

  it('an empty queue is never handed over', () => {
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
