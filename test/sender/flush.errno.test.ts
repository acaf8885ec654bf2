/** What the loop does with each errno of a plain datagram. */
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { AF_INET } from '../../src/kernel/abi.ts';
import { allocateDetached } from '../../src/kernel/libc.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { Batch } from '../../src/queue/batch.ts';
import { DatagramQueue } from '../../src/queue/queue.ts';
import { FlushLoop } from '../../src/sender/flush.ts';
import { Pace } from '../../src/sender/pace.ts';
import { range } from '../support/datagrams.ts';
import {
  type Behaviour,
  drive,
  flushFixture,
  refusing,
  ScriptedKernel,
  type Wait,
} from '../support/scripted-kernel.ts';

const ENOENT = 2;
const EPERM = 1;
const EINTR = 4;
const EBADF = 9;
const EAGAIN = 11;
const ENOMEM = 12;
const EACCES = 13;
const EPIPE = 32;
const ENOTSOCK = 88;
const EMSGSIZE = 90;
const ENETUNREACH = 101;
const ENOBUFS = 105;
const ENOTCONN = 107;
const ECONNREFUSED = 111;
const EHOSTUNREACH = 113;

describe('what an errno means', () => {
  it('a refused datagram is one rejection, with its bytes, its place and the errno as Node spells it', () => {
    const { loop } = flushFixture(3, refusing([1], EPERM));
    expect(loop.run()).toBe('drained');
    const [rejection, ...others] = loop.rejected;
    expect(others).toEqual([]);
    expect(rejection).toMatchObject({ sequence: 1, error: { code: 'EPERM', errno: 1, syscall: 'sendmmsg' } });
    expect(rejection).toMatchObject({ address: '192.0.2.1', port: 9 }); // whom the socket is connected to
    expect(rejection!.error).toMatchObject({ address: '192.0.2.1', port: 9 });
    expect(Buffer.from(rejection!.payload).toString()).toBe('1');
    expect(Object.isFrozen(rejection)).toBe(true);
  });

  it('EAGAIN is one call, then waiting', () => {
    const { loop, kernel, queue } = flushFixture(5, () => -EAGAIN);
    expect(loop.run()).toBe('blocked');
    expect(kernel.calls).toHaveLength(1);
    expect(queue.datagrams).toBe(5);
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

  it('ECONNREFUSED over IP never speaks of the head: it is counted, and the head goes on, whatever comes between', () => {
    const script = [-ECONNREFUSED, -EAGAIN, -ECONNREFUSED, 1];
    const { loop, kernel } = flushFixture(1, (_head, _vlen, call) => script[call]!);
    expect(drive(loop)).toEqual({ verdict: 'drained', waits: [['blocked']] });
    expect(kernel.calls.map(({ answer }) => answer)).toEqual(script);
    expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([[0], [], 2]);
  });

  describe.each([
    ['EINTR', EINTR, 0],
    ['ECONNREFUSED', ECONNREFUSED, 1],
  ])('%s, which says nothing of the head', (_code, errno, late) => {
    it('is called again at once 15 times in a row, then each after 1, 2, 4 … 100 ms', () => {
      const { loop, kernel } = flushFixture(2, (_head, vlen, call) => (call < 26 ? -errno : vlen));
      const { verdict, waits } = drive(loop);
      expect(verdict).toBe('drained');
      expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 100, 100, 100, 100].map((ms) => ['backoff', ms]));
      expect(kernel.calls).toHaveLength(27);
      expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([[0, 1], [], 26 * late]);
    });

    it('begins anew once something was taken', () => {
      const { loop, kernel } = flushFixture(4, (_head, _vlen, call) => (call % 16 === 15 ? 1 : -errno));
      expect(loop.run()).toBe('drained');
      expect(kernel.taken).toEqual(range(4));
    });

    it.each([
      ['', () => {}],
      [', though the oldest gives way to a newer one each time', (queue: { drop(n: number): void }) => queue.drop(1)],
    ])('for ever is less than 1000 calls a second%s', (_what, meanwhile) => {
      const { loop, kernel, queue, push } = flushFixture(4, () => -errno);
      let ms = 0;
      const wait = ([verdict, more]: Wait): void => {
        expect(verdict).toBe('backoff');
        ms += more!;
        meanwhile(queue);
        push();
      };
      while (ms < 60_000) wait([loop.run(), loop.backoffMs]);
      expect(kernel.calls.length).toBeLessThan(1000);
      expect([loop.sent, loop.rejected]).toEqual([0, []]);
    });
  });

  it.each([ENETUNREACH, EHOSTUNREACH, EACCES, EMSGSIZE])(
    'errno %i may be that of an earlier datagram: the socket is cleared, and it is tried once more and counted',
    (errno) => {
      for (const pendingError of [0, errno]) {
        const { loop, kernel } = flushFixture(3, (_head, vlen, call) => {
          if (call > 0) expect(kernel.errorsRead).toBe(1); // before the second try
          return call === 0 ? -errno : vlen;
        });
        kernel.pendingError = pendingError;
        expect(loop.run()).toBe('drained');
        expect([kernel.taken, loop.rejected]).toEqual([[0, 1, 2], []]);
        expect(loop.pendingErrors).toBe(pendingError === 0 ? 1 : 2);
      }
    },
  );

  it.each([ENETUNREACH, EHOSTUNREACH, EACCES, EMSGSIZE])(
    'errno %i twice in a row is its own: it is rejected, and is no late error',
    (errno) => {
      const { loop, kernel } = flushFixture(3, refusing([1], errno));
      expect(loop.run()).toBe('drained');
      expect(kernel.taken).toEqual([0, 2]);
      expect(loop.rejected.map(({ sequence }) => sequence)).toEqual([1]);
      expect(kernel.calls.filter(({ head }) => head === 1)).toHaveLength(2);
      expect(loop.pendingErrors).toBe(0);
    },
  );

  describe('the second try is renewed after each wait, when the error may be another datagram’s again', () => {
    it.each([
      ['blocked', -EAGAIN, [['blocked']]],
      ['backoff', -ENOBUFS, [['backoff', 1]]],
      ['nothing to wait for', 1, []],
    ] satisfies [string, number, Wait[]][])('%s', (_what, between, waits) => {
      const script = [-ENETUNREACH, between, -ENETUNREACH, 3];
      const { loop, kernel } = flushFixture(3, (_head, vlen, call) => Math.min(script[call]!, vlen));
      expect(drive(loop)).toEqual({ verdict: 'drained', waits });
      expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([[0, 1, 2], [], 2]);
    });

    it('yield', () => {
      const script = [-ENETUNREACH, -ENETUNREACH, 3];
      const { loop, kernel } = flushFixture(3, (_head, _vlen, call) => script[call]!);
      expect(drive(loop, { budget: 1 })).toEqual({ verdict: 'drained', waits: [['yield'], ['yield']] });
      expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([[0, 1, 2], [], 2]);
    });

    it('paced', () => {
      let ms = 0;
      const pace = new Pace({ datagramsPerSecond: 1000, burst: 1 }, { now: () => ms, after: () => () => {} });
      // Another lane of the same pace has taken what was paid back.
      const other = { isAll: () => true, largest: 1, segmentsAt: () => 1, lengthAt: () => 1 };
      const script = [-ENETUNREACH, -ENETUNREACH, 1, 1, 1];
      const { loop, kernel } = flushFixture(
        3,
        (_head, _vlen, call) => {
          if (call === 0) setOther = true;
          return script[call]!;
        },
        { pace },
      );
      let setOther = false;
      const ask = loop.ask.bind(loop);
      loop.ask = () => {
        if (setOther) pace.grant(other, 1);
        setOther = false;
        return ask();
      };
      drive(loop, {
        meanwhile: ([verdict]) => {
          expect(verdict).toBe('paced');
          ms++;
        },
      });
      expect([kernel.taken, loop.rejected, loop.pendingErrors]).toEqual([[0, 1, 2], [], 2]);
    });
  });

  it('on a unix socket a destination that is gone is rejected at the second try, and is no late error', () => {
    const { loop, kernel } = flushFixture(3, () => -ECONNREFUSED, { isUnix: true });
    expect(loop.run()).toBe('drained');
    expect(loop.rejected.map(({ error }) => [error.code, error.syscall])).toEqual(
      range(3).map(() => ['ECONNREFUSED', 'sendmmsg']),
    );
    expect([kernel.calls.length, kernel.reconnects, kernel.errorsRead, loop.pendingErrors]).toEqual([6, 3, 0, 0]);
  });

  it.each([ECONNREFUSED, ENOTCONN])(
    'on a unix socket errno %i connects again first: what that answers is the reason of the rejection',
    (errno) => {
      const { loop, kernel } = flushFixture(3, (head) => (head < 2 ? -errno : 1), { isUnix: true });
      kernel.reconnectAnswer = -ENOENT;
      expect(loop.run()).toBe('drained');
      expect(loop.rejected.map(({ error }) => [error.code, error.errno, error.syscall])).toEqual(
        range(2).map(() => ['ENOENT', ENOENT, 'connect']),
      );
      expect([kernel.taken, kernel.calls.length, loop.pendingErrors]).toEqual([[2], 3, 0]);
    },
  );

  it('on a unix socket EMSGSIZE is certain: it is rejected at the first try', () => {
    const { loop, kernel } = flushFixture(3, refusing([1], EMSGSIZE), { isUnix: true });
    expect(loop.run()).toBe('drained');
    expect(kernel.calls.filter(({ head }) => head === 1)).toHaveLength(1);
    expect([kernel.taken, loop.rejected.length, loop.pendingErrors]).toEqual([[0, 2], 1, 0]);
  });

  it.each([
    [false, 'drained', 1],
    [true, 'fatal', 0],
  ])('EPIPE where the socket says of itself that it was shut down: %s', (isDown, verdict, rejections) => {
    const { loop, kernel, queue } = flushFixture(3, refusing([1], EPIPE), { isUnix: true });
    kernel.isDown = isDown;
    expect(loop.run()).toBe(verdict);
    expect(kernel.taken).toEqual(isDown ? [0] : [0, 2]);
    expect(loop.rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual(isDown ? [] : [[1, 'EPIPE']]);
    expect(loop.rejected).toHaveLength(rejections);
    if (isDown) expect(loop.fatalError).toMatchObject({ code: 'EPIPE', address: '192.0.2.1', port: 9 });
    expect(queue.datagrams + loop.sent + loop.rejected.length).toBe(3);
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
    const { loop, kernel, queue } = flushFixture(4, (head) => (head === 0 ? 1 : -errno));
    expect(loop.run()).toBe('fatal');
    expect(loop.fatalError).toMatchObject({ code, errno, syscall: 'sendmmsg' });
    expect(kernel.taken).toEqual([0]);
    expect(kernel.calls).toHaveLength(2);
    expect(queue.datagrams + loop.sent).toBe(4);
  });
});

describe('EPERM, of a firewall that may decide anew', () => {
  /** A firewall that asks `refuses` for each message that a call tries, the one whose error is discarded, too. */
  const firewall = (refuses: (evaluation: number) => boolean): Behaviour => {
    let evaluation = 0;
    return (_head, vlen) => {
      let taken = 0;
      while (taken < vlen && !refuses(evaluation++)) taken++;
      return taken > 0 ? taken : -EPERM;
    };
  };
  const rejectedWith = (vlen: number, count: number, refuses: (evaluation: number) => boolean): number[] => {
    const mostInFlight = { datagrams: vlen, bytes: Number.POSITIVE_INFINITY };
    const { loop, kernel } = flushFixture(count, firewall(refuses), { mostInFlight });
    drive(loop);
    const rejected = loop.rejected.map(({ sequence }) => sequence);
    expect(kernel.taken).toEqual(range(count, rejected));
    return rejected;
  };

  it.each(range(64).map((index) => index + 1))(
    'every second message: the share that gets through is that of one by one, %i a call',
    (vlen) => {
      expect(rejectedWith(vlen, 500, (evaluation) => evaluation % 2 === 1)).toEqual([]);
      const everyThird = range(500).filter((number) => number % 2 === 1); // one passes, then two tries of the next do not
      expect(rejectedWith(vlen, 500, (evaluation) => evaluation % 3 > 0)).toEqual(everyThird);
    },
  );

  it('any firewall: each datagram has two tries, however many go in a call', () => {
    fc.assert(
      fc.property(
        fc.array(fc.boolean(), { minLength: 1, maxLength: 200, size: 'max' }),
        fc.integer({ min: 2, max: 64 }),
        (refusals, vlen) => {
          const refuses = (evaluation: number): boolean => refusals[evaluation % refusals.length]!;
          expect(rejectedWith(vlen, 120, refuses)).toEqual(rejectedWith(1, 120, refuses));
        },
      ),
    );
  });

  it.each([
    ['EAGAIN', EAGAIN],
    ['ENOBUFS', ENOBUFS],
    ['EHOSTUNREACH', EHOSTUNREACH],
    ['EINTR', EINTR],
  ])(
    'is not presumed where the call had stopped short for another reason, %s: two tries from there',
    (_code, errno) => {
      const answers = [1, -errno, -EPERM, 2];
      const { loop, kernel } = flushFixture(3, (_head, _vlen, call) => answers[call]!);
      drive(loop);
      expect([kernel.taken, loop.rejected]).toEqual([range(3), []]);
      const again = [1, -errno, -EPERM, -EPERM, 1];
      const refused = flushFixture(3, (_head, _vlen, call) => again[call]!);
      drive(refused.loop);
      expect(refused.loop.rejected.map(({ sequence }) => sequence)).toEqual([1]);
    },
  );

  it('at the head of a call is tried once more, and rejected at the second', () => {
    const { loop, kernel } = flushFixture(3, refusing([0], EPERM));
    expect(loop.run()).toBe('drained');
    expect(kernel.calls.map(({ head }) => head)).toEqual([0, 0, 1]);
    expect(loop.rejected).toHaveLength(1);
  });

  it('behind a call that stopped short there is the second try', () => {
    const { loop, kernel } = flushFixture(3, refusing([1], EPERM));
    expect(loop.run()).toBe('drained');
    expect(kernel.calls.map(({ head }) => head)).toEqual([0, 1, 2]);
    expect(loop.rejected).toHaveLength(1);
  });
});

describe('a loop that is detached', () => {
  it.each([
    ['ENETUNREACH', ENETUNREACH, false],
    ['ENOTCONN', ENOTCONN, true],
    ['EPIPE', EPIPE, true],
  ])('books %s, and asks nothing of the socket', (_code, errno, isUnix) => {
    const { loop, kernel } = flushFixture(3, () => 0, { isUnix });
    const isShutDown = vi.spyOn(kernel, 'isShutDown');
    const vlen = loop.ask();
    loop.detach();
    loop.book(vlen, -errno);
    loop.takeLateError();
    expect([kernel.errorsRead, kernel.reconnects, isShutDown.mock.calls.length]).toEqual([0, 0, 0]);
    expect(loop.syscalls).toBe(1);
  });
});

it('a head that is short of memory and rewritten again and again is rejected in the end, as the newest that it is', () => {
  const queue = new DatagramQueue({ capacity: 8, maxBytes: 64, byKey: true }, allocateDetached);
  const batch = new Batch(queue, { nameSize: 0, maxSegments: 1, maxSegmentedBytes: 0 }, null, allocateDetached);
  const reader = new DatagramReader(AF_INET, true);
  let sequence = 0;
  const push = (key: string): void => {
    reader.read(String(sequence));
    reader.key = key;
    queue.push(reader, sequence++, 0);
  };
  push('a');
  push('b');
  const kernel = new ScriptedKernel((head, vlen) => (head === 1 ? vlen : -ENOBUFS));
  const loop = new FlushLoop(queue, batch, kernel, { mostRejectedBytes: 1 << 20, clock: { now: () => 0 } });
  const { waits } = drive(loop, { turns: 100, meanwhile: () => push('a') });
  expect(waits.length).toBe(12);
  expect(loop.rejected.map((rejected) => rejected.sequence)).toEqual([13]);
  expect(kernel.taken).toEqual([1]);
});
