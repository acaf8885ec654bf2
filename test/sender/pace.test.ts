/** The token bucket by itself, in time that the test moves. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/kernel/clock.ts';
import { type Messages, Pace, type PaceOptions } from '../../src/sender/pace.ts';

class Hands implements Clock {
  ms = 0;
  now(): number {
    return this.ms;
  }
  after(): never {
    throw new Error('a bucket arms no timer');
  }
}

/** A queue of messages, each so many datagrams of so many bytes in all. */
class Queue implements Messages {
  readonly messages: (readonly [segments: number, bytes: number])[] = [];
  largest = 0;

  isAll(count: number): boolean {
    return count === this.messages.length;
  }
  push(segments: number, bytes: number): void {
    this.messages.push([segments, bytes]);
    this.largest = Math.max(this.largest, Math.ceil(bytes / segments));
  }
  segmentsAt(index: number): number {
    return this.messages[index]![0];
  }
  lengthAt(index: number): number {
    return this.messages[index]![1];
  }
}

/** A queue of equal single datagrams before a bucket. */
function fixture(options: PaceOptions, bytes: number = 100) {
  const clock = new Hands();
  const pace = new Pace(options, clock);
  const queue = new Queue();
  for (let n = 0; n < 1000; n++) queue.push(1, bytes);
  return { clock, pace, queue, grant: (span: number = 1000) => pace.grant(queue, span) };
}

describe('a burst', () => {
  it.each<[PaceOptions, number]>([
    [{ datagramsPerSecond: 1 }, 1],
    [{ datagramsPerSecond: 100 }, 1],
    [{ datagramsPerSecond: 20_000 }, 200],
    [{ datagramsPerSecond: 20_000, burst: 7 }, 7],
    [{ bytesPerSecond: 1 }, 1],
    [{ bytesPerSecond: 50_000 }, 5],
    [{ bytesPerSecond: 50_000, burst: 7 }, 7],
    [{ bytesPerSecond: 50_000, datagramsPerSecond: 300 }, 3],
    [{ bytesPerSecond: 50_000, datagramsPerSecond: 3000 }, 5],
  ])('%o lets %i datagrams of 100 bytes go at once, and no more', (options, burst) => {
    const { grant, clock } = fixture(options);
    expect([grant(), grant()]).toEqual([burst, 0]);
    // However long the pause; nobody waits meanwhile.
    const idle = fixture(options);
    idle.clock.ms = 1e7;
    expect([idle.grant(), idle.grant()]).toEqual([burst, 0]);
    expect(clock.ms).toBe(0);
  });

  it('a message that is more than a full bucket goes when it is full, and its debt is waited for', () => {
    const { clock, pace, grant } = fixture({ bytesPerSecond: 1000 }, 50);
    const large = new Queue();
    large.messages.push([1, 500]);
    expect(pace.grant(large, 1)).toBe(1);
    expect(grant()).toBe(0);
    expect(pace.msUntilNext(large)).toBe(500);
    clock.ms = 499;
    expect(grant()).toBe(0);
    clock.ms = 500;
    expect(grant()).toBe(1);
  });
});

describe('the wait', () => {
  it.each<[PaceOptions, number]>([
    [{ datagramsPerSecond: 1 }, 1000],
    [{ datagramsPerSecond: 3 }, 334],
    [{ datagramsPerSecond: 1000 }, 1],
    [{ datagramsPerSecond: 1e6, burst: 1 }, 1],
    [{ bytesPerSecond: 1000 }, 100],
    [{ bytesPerSecond: 0.001 }, 60_000],
  ])('%o: until the head may go, in whole milliseconds, %i', (options, ms) => {
    const { grant, pace, queue } = fixture(options);
    while (grant(1) > 0);
    expect(pace.msUntilNext(queue)).toBe(ms);
  });

  it.each([1, 3, 90, 500, 1000, 6400, 20_000, 1_000_000, 3_000_000])(
    '%i a second are that many in ten seconds, however late the timers',
    (datagramsPerSecond) => {
      for (const burst of [undefined, 1, 50]) {
        const { clock, pace, queue, grant } = fixture({ datagramsPerSecond, burst });
        let granted = 0;
        for (let turn = 0; clock.ms < 10_000; turn++) {
          for (let count = -1; count !== 0; granted += count) count = grant(700);
          clock.ms += pace.msUntilNext(queue) + (turn % 7) * 2.3;
        }
        const expected = (datagramsPerSecond * clock.ms) / 1000;
        const first = Math.max(burst ?? datagramsPerSecond / 100, 1);
        expect(granted).toBeGreaterThanOrEqual(expected - datagramsPerSecond * 0.02 - 1);
        expect(granted).toBeLessThanOrEqual(expected + first + 1);
      }
    },
  );

  it('a stall longer than 20 ms is a loss, not a burst', () => {
    const { clock, grant } = fixture({ datagramsPerSecond: 5000 });
    expect(grant()).toBe(50);
    clock.ms += 500;
    expect([grant(), grant()]).toEqual([101, 0]);
  });
});

it('while the head waits for bytes, no more datagrams gather than a burst', () => {
  const { clock, pace } = fixture({ datagramsPerSecond: 100, bytesPerSecond: 1000, burst: 2 });
  const queue = new Queue();
  for (const bytes of [1000, 1000, 1000, 0, 0, 0]) queue.push(1, bytes);
  expect(pace.grant(queue, 6)).toBe(2);
  queue.messages.splice(0, 2);
  clock.ms += pace.msUntilNext(queue);
  expect(clock.ms).toBe(1000);
  expect(pace.grant(queue, 4)).toBe(2);
});

describe('what was granted', () => {
  it('and not taken is paid back', () => {
    const { pace, queue, grant } = fixture({ datagramsPerSecond: 1000, bytesPerSecond: 1e6 });
    expect(grant()).toBe(10);
    pace.repay(queue, 4, 10);
    expect(grant()).toBe(6);
  });

  it('a lifted pace grants all', () => {
    const { pace, grant } = fixture({ datagramsPerSecond: 1 });
    grant();
    pace.lift();
    expect(grant(77)).toBe(77);
  });
});

describe('those who share a bucket', () => {
  it('are served in the order in which they began to wait; who has nothing to send leaves', () => {
    const { clock, pace, queue: a } = fixture({ datagramsPerSecond: 1000, burst: 1 });
    const [b, c] = [new Queue(), new Queue()];
    for (const queue of [b, c]) queue.push(1, 1);
    expect([a, b, c, a].map((queue) => pace.grant(queue, 1))).toEqual([1, 0, 0, 0]);
    clock.ms++;
    expect([a, c, b].map((queue) => pace.grant(queue, 1))).toEqual([0, 0, 1]);
    clock.ms++;
    pace.leave(c);
    expect([c, a].map((queue) => pace.grant(queue, 1))).toEqual([0, 1]);
  });
});

/** What is queued, and what is done with it: asked for, refused by the kernel, asked for again too late. */
const plan = fc.record({
  datagramsPerSecond: fc.option(fc.integer({ min: 1, max: 3_000_000 }), { nil: undefined }),
  bytesPerSecond: fc.integer({ min: 1, max: 1_000_000_000 }),
  burst: fc.option(fc.integer({ min: 1, max: 300 }), { nil: undefined }),
  messages: fc.array(fc.tuple(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 2000 })), {
    minLength: 1,
    maxLength: 60,
  }),
  steps: fc.array(
    fc.record({
      span: fc.integer({ min: 1, max: 64 }),
      refused: fc.integer({ min: 0, max: 3 }),
      late: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 100, noNaN: true })),
    }),
    { minLength: 1, maxLength: 60 },
  ),
});

it('in no stretch of time goes more than the burst and what the time is worth; in what is late, 20 ms more', () => {
  fc.assert(
    fc.property(plan, fc.boolean(), ({ datagramsPerSecond, bytesPerSecond, burst, messages, steps }, isLate) => {
      const clock = new Hands();
      const pace = new Pace({ datagramsPerSecond, bytesPerSecond, burst }, clock);
      const queue = new Queue();
      for (const [most, size] of messages) {
        const fitting = Math.min(most, pace.maxSegments, Math.floor(pace.maxSegmentedBytes / Math.max(size, 1)));
        queue.push(Math.max(1, fitting), Math.max(1, fitting) * size);
      }
      const rates = [datagramsPerSecond ?? Number.POSITIVE_INFINITY, bytesPerSecond];
      const taken: { at: number; amounts: [number, number] }[] = [];
      for (const { span, refused, late } of steps) {
        if (queue.messages.length === 0) break;
        const granted = pace.grant(queue, Math.min(span, queue.messages.length));
        const count = Math.max(0, granted - (isLate ? refused : 0));
        pace.repay(queue, count, granted);
        const amounts: [number, number] = [0, 0];
        for (const [segments, bytes] of queue.messages.splice(0, count)) {
          amounts[0] += segments;
          amounts[1] += bytes;
        }
        taken.push({ at: clock.ms, amounts });
        // Who was given all he asked for and has more asks again at once, as a flush does.
        const isHeld = granted < span || isLate;
        if (queue.messages.length > 0 && isHeld) clock.ms += pace.msUntilNext(queue) + (isLate ? late : 0);
      }
      for (const kind of [0, 1] as const) {
        if (rates[kind] === Number.POSITIVE_INFINITY) continue;
        const unit = kind === 0 ? 1 : queue.largest;
        const depth = burst === undefined ? Math.max(unit, rates[kind]! / 100) : burst * unit;
        // Waits are whole milliseconds: up to one of them is late by itself.
        const slack = Math.max(
          depth,
          Math.min(unit + rates[kind]! / 50, isLate ? Infinity : depth + rates[kind]! / 1000),
        );
        for (let from = 0; from < taken.length; from++) {
          let sum = 0;
          for (let to = from; to < taken.length; to++) {
            sum += taken[to]!.amounts[kind];
            const ms = taken[to]!.at - taken[from]!.at;
            expect(sum).toBeLessThanOrEqual(slack + (rates[kind]! * ms) / 1000 + 0.001);
          }
        }
      }
    }),
    { numRuns: 500 },
  );
});
