/** What the loop does where a message of several datagrams is refused. */
import { describe, expect, it } from 'vitest';
import { range } from '../support/datagrams.ts';
import { type Behaviour, drive, flushFixture } from '../support/scripted-kernel.ts';

const EIO = 5;
const ENOMEM = 12;
const EINVAL = 22;
const EMSGSIZE = 90;
const ENETUNREACH = 101;
const ENOBUFS = 105;

describe('a segmented head', () => {
  /** Runs of ten in each message; `plain` is the answer for datagrams that go alone. */
  const runs = (count: number, behaviour: Behaviour) => flushFixture(count, behaviour, { maxSegments: 10 });
  const isSegmented = (segments: readonly number[]): boolean => segments[0]! > 1;

  it('that is refused with EMSGSIZE once is a late error: it passes segmented, and nothing is latched', () => {
    const { loop, kernel, latch } = runs(20, (_head, vlen, call) => (call === 0 ? -EMSGSIZE : vlen));
    expect(loop.run()).toBe('drained');
    expect(kernel.calls.map(({ head, answer }) => [head, answer])).toEqual([
      [0, -EMSGSIZE],
      [0, 2],
    ]);
    expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([range(20), [], 1]);
    expect(latch.isOpen).toBe(true);
  });

  it.each([
    ['EMSGSIZE', EMSGSIZE, 2],
    ['EINVAL', EINVAL, 1],
    ['EIO', EIO, 1],
  ])(
    'that is refused with %s goes plainly after its tries, is latched, and is no late error',
    (_code, errno, tries) => {
      const { loop, kernel, latch } = runs(20, (_head, vlen, _call, segments) =>
        isSegmented(segments) ? -errno : vlen,
      );
      expect(loop.run()).toBe('drained');
      expect([kernel.taken, loop.rejected]).toEqual([range(20), []]);
      expect(kernel.calls.filter(({ answer }) => answer < 0).map(({ head }) => head)).toEqual(
        range(tries).map(() => 0),
      );
      expect(latch.isOpen).toBe(false);
      expect([loop.pendingErrors, loop.gsoSegments]).toEqual([0, 0]);
    },
  );

  it('whose datagrams are refused plainly, too, is latched only where one has passed', () => {
    const none = runs(10, () => -EMSGSIZE);
    drive(none.loop);
    expect(none.loop.rejected).toHaveLength(10);
    expect([none.latch.isOpen, none.loop.pendingErrors]).toEqual([true, 0]);
    const some = runs(10, (head, _vlen, _call, segments) => (isSegmented(segments) || head === 0 ? -EINVAL : 1));
    drive(some.loop);
    expect([some.loop.rejected.length, some.loop.sent, some.latch.isOpen]).toEqual([1, 9, true]);
  });

  it('that goes plainly after two tries has two tries of what is not about segments, too', () => {
    const answers = [-EMSGSIZE, -EMSGSIZE, -ENETUNREACH];
    const { loop, kernel } = runs(10, (_head, vlen, call) => answers[call] ?? vlen);
    expect(loop.run()).toBe('drained');
    expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([range(10), [], 1]);
  });

  it('a late error before a refusal of segmentation is still one', () => {
    const { loop, kernel } = runs(10, (_head, vlen, call, segments) => {
      if (call === 0) return -ENETUNREACH;
      return isSegmented(segments) ? -EINVAL : vlen;
    });
    expect(loop.run()).toBe('drained');
    expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([range(10), [], 1]);
  });

  it.each([
    ['ENOBUFS', ENOBUFS],
    ['ENOMEM', ENOMEM],
  ])(
    'that the kernel has no memory for (%s) goes plainly when its patience is spent: none is rejected, and it is latched',
    (_code, errno) => {
      const { loop, kernel, latch } = runs(20, (_head, vlen, _call, segments) =>
        isSegmented(segments) ? -errno : vlen,
      );
      const { waits } = drive(loop);
      expect(waits.map(([, ms]) => ms)).toEqual([1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100, 100]);
      expect([kernel.taken, loop.rejected]).toEqual([range(20), []]);
      expect([latch.isSocketOff, latch.allows(null, 4), latch.allows(null, 3)]).toEqual([false, false, true]);
    },
  );

  it('whose datagrams find no memory plainly either are rejected one by one, and nothing is latched', () => {
    const { loop, kernel, latch } = runs(10, () => -ENOBUFS);
    drive(loop);
    expect(loop.rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual(
      range(10).map((number) => [number, 'ENOBUFS']),
    );
    expect([kernel.taken, latch.isOpen]).toEqual([[], true]);
  });
});
