import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { range } from './support/datagrams.ts';
import { type Call, flushFixture } from './support/scripted-kernel.ts';

const EINTR = 4;
const EBADF = 9;
const EAGAIN = 11;
const EMSGSIZE = 90;
const ENOBUFS = 105;
const ECONNREFUSED = 111;
const PENDING = [ECONNREFUSED, 101];
const BACKOFF = [ENOBUFS, 12];
const REFUSED = [EMSGSIZE, 1, 22];

/** How a kernel may answer: a short count, everything, or an errno. */
const answer = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 9 }) },
  { weight: 2, arbitrary: fc.constant(1024) },
  { weight: 5, arbitrary: fc.constantFrom(EAGAIN, EINTR, ...PENDING, ...BACKOFF, ...REFUSED).map((errno) => -errno) },
);

/** What the loop must have rejected, told from the log of the calls alone. */
function rejectedBy(calls: readonly Call[]): number[] {
  const rejected: number[] = [];
  const pending = new Map<number, number>();
  for (const { head, answer } of calls) {
    if (answer > 0) continue;
    if (REFUSED.includes(-answer)) rejected.push(head);
    if (!PENDING.includes(-answer)) continue;
    pending.set(head, (pending.get(head) ?? 0) + 1);
    if (pending.get(head) === 2) rejected.push(head);
  }
  return rejected;
}

describe('any kernel, told by a script', () => {
  it('conserves, sends exactly once, keeps the order, and ends in a bounded number of calls', () => {
    fc.assert(
      fc.property(
        fc.array(answer, { maxLength: 60 }),
        fc.integer({ min: 1, max: 80 }),
        fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 20 }),
        (script, count, arrivals) => {
          const fixture = flushFixture(
            count,
            (_head, vlen, call) => {
              const next = script[call] ?? 1024;
              return next > 0 ? Math.min(next, vlen) : next;
            },
            97, // the ring wraps at a number that nothing else divides
          );
          const { loop, kernel, ring } = fixture;
          let accepted = count;
          for (let turn = 0; ; turn++) {
            const verdict = loop.run();
            expect(loop.sent + loop.rejected.length + ring.datagrams).toBe(accepted);
            for (let arrival = arrivals[turn] ?? 0; arrival > 0; arrival--) if (fixture.push()) accepted++;
            if (verdict === 'drained' && ring.datagrams === 0) break;
            expect(turn).toBeLessThan(200);
          }
          const rejected = loop.rejected.map(({ sequence }) => sequence);
          expect(kernel.taken).toEqual(range(accepted, rejected));
          const patient = starved(kernel.calls);
          const isTold = (number: number): boolean => !patient.includes(number);
          expect(rejected.filter(isTold)).toEqual(rejectedBy(kernel.calls).filter(isTold));
          expect(loop.sent).toBe(kernel.taken.length);
          expect(loop.bytes).toBe(kernel.taken.reduce((sum, number) => sum + String(number).length, 0));
          expect(loop.syscalls).toBe(kernel.calls.length);
          expect(kernel.calls.length).toBeLessThanOrEqual(script.length + accepted + 20);
        },
      ),
      { numRuns: 600 },
    );
  });

  it('a fatal errno at any call stops the loop there, with every datagram on one side of it', () => {
    fc.assert(
      fc.property(fc.array(answer, { maxLength: 30 }), fc.integer({ min: 1, max: 60 }), (script, count) => {
        const { loop, kernel, ring } = flushFixture(count, (_head, vlen, call) => {
          const next = script[call];
          if (next === undefined) return -EBADF;
          return next > 0 ? Math.min(next, vlen) : next;
        });
        let verdict = loop.run();
        for (let turn = 0; verdict !== 'fatal' && verdict !== 'drained'; turn++) {
          expect(turn).toBeLessThan(200);
          verdict = loop.run();
        }
        expect(loop.sent + loop.rejected.length + ring.datagrams).toBe(count);
        if (verdict === 'drained') return;
        expect(kernel.calls).toHaveLength(script.length + 1);
        expect(loop.fatalError?.code).toBe('EBADF');
        expect(ring.datagrams).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});

/** Heads that the kernel was short of memory for as often as the loop is patient. */
function starved(calls: readonly Call[]): number[] {
  const count = new Map<number, number>();
  for (const { head, answer } of calls) {
    if (BACKOFF.includes(-answer)) count.set(head, (count.get(head) ?? 0) + 1);
  }
  return [...count].filter(([, times]) => times >= 3).map(([head]) => head);
}
