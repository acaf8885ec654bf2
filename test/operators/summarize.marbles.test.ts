import { concat, from, map, NEVER, type Observable, of, type SchedulerLike, take, takeUntil, timer } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BatchSummary, summarize } from '../../operators/rxjs/summarize.ts';
import type { BatchReport, RejectedDatagram } from '../../src/message/datagram.ts';
import { VirtualTime } from '../support/virtual-time.ts';

let time: TestScheduler;
beforeEach(() => {
  time = new TestScheduler((actual, expected) => expect(actual).toEqual(expected));
});

function report(parts: Partial<BatchReport> = {}): BatchReport {
  return {
    sent: 0,
    bytes: 0,
    syscalls: 0,
    requeued: 0,
    dropped: 0,
    conflated: 0,
    pendingErrors: 0,
    rejected: [],
    ...parts,
  };
}
/** A marble is a report of one datagram, or, as a capital letter, of ten in one call that left one behind. */
const reports = (marbles: Observable<string>): Observable<BatchReport> =>
  marbles.pipe(
    map((letter) =>
      letter < 'a'
        ? report({ sent: 10, bytes: 1000, syscalls: 1, requeued: 1 })
        : report({ sent: 1, bytes: 10, syscalls: 1 }),
    ),
  );
/** Intervals of 5 ms, each told as `datagrams in ms`. */
const told = (source: Observable<string>): Observable<string> =>
  reports(source).pipe(
    summarize(5, time),
    map(({ sent, durationMs }) => `${sent} in ${durationMs}`),
  );
const VALUES = { q: '0 in 5', s: '1 in 5', t: '2 in 5', f: '10 in 5', l: '1 in 2', n: '1 in 0', m: '1 in 1' };

describe('every interval', () => {
  it('is summed up at its end, quiet ones too', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a-a---A-----------|');
      const expected = '    -----t----f----q---|';
      expectObservable(told(source)).toBe(expected, VALUES);
      expectSubscriptions(source.subscriptions).toBe('^------------------!');
    });
  });

  it('starts anew for each subscriber', () => {
    time.run(({ hot, expectObservable }) => {
      const output = told(hot('   -a--a------a-|'));
      const first = '             -----t----q--(r|)';
      expectObservable(output).toBe(first, { ...VALUES, r: '1 in 3' });
      expectObservable(output, '---^').toBe('--------s----(r|)', { ...VALUES, r: '1 in 5' });
    });
  });
});

describe('the ends of a source', () => {
  it('never: quiet summaries, until unsubscribed', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-');
      expectObservable(told(source), '^-----------!').toBe('-----q----q-', VALUES);
      expectSubscriptions(source.subscriptions).toBe('     ^-----------!');
    });
    expect(time.actions).toEqual([]);
  });

  it('empty: completes, with nothing to tell', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(told(cold('|'))).toBe('|');
      expectObservable(told(cold('---|'))).toBe('---|');
      expectObservable(told(cold('-------|'))).toBe('-----q-|', VALUES);
    });
  });

  it('completion: the interval under way is told, shorter than the others', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(told(cold('-a---a-|'))).toBe('-----s-(l|)', VALUES);
      expectObservable(told(cold('(a|)'))).toBe('(n|)', VALUES);
    });
  });

  it('error: the interval under way is told, then the error', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a----a#');
      expectObservable(told(source)).toBe('-----s-(l#)', VALUES);
      expectObservable(told(cold('#'))).toBe('#');
      expectObservable(told(cold('------#'))).toBe('-----q#', VALUES);
      expectSubscriptions(source.subscriptions).toBe('^------!');
    });
  });

  it('early unsubscribe: nothing more is told, the source is let go of, no timer stays', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a-a--a-|');
      const unsubscribed = '^------!';
      expectObservable(told(source), unsubscribed).toBe('-----t--', VALUES);
      expectSubscriptions(source.subscriptions).toBe(unsubscribed);
    });
    expect(time.actions).toEqual([]);
  });

  it('take(n) completes with the n-th summary, and unsubscribes from the source in the same frame', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a----a----a-|');
      const subscription = '^---------!';
      expectObservable(told(source).pipe(take(2))).toBe('-----s----(s|)', VALUES);
      expectSubscriptions(source.subscriptions).toBe(subscription);
    });
    expect(time.actions).toEqual([]);
  });

  it('a synchronous source is one summary', () => {
    time.run(({ expectObservable }) => {
      const output = told(from(['a', 'A', 'a']));
      expectObservable(output).toBe('(x|)', { x: '12 in 0' });
      expectObservable(output.pipe(take(1))).toBe('(x|)', { x: '12 in 0' });
    });
  });
});

describe('a summary', () => {
  const summaries = (source: Observable<BatchReport>, until: Observable<unknown> = NEVER): BatchSummary[] => {
    const all: BatchSummary[] = [];
    time.run(({ flush }) => {
      source.pipe(summarize(500, time), takeUntil(until)).subscribe((summary) => all.push(summary));
      flush();
    });
    return all;
  };

  it('has sums, rates per second and the queue at its end; the queue lasts through a quiet interval', () => {
    const values = {
      a: report({ sent: 30, bytes: 3000, syscalls: 2, requeued: 9, dropped: 4, conflated: 3, pendingErrors: 2 }),
      b: report({
        sent: 10,
        bytes: 500,
        syscalls: 2,
        requeued: 7,
        pendingErrors: 3,
        rejected: [{}, {}] as RejectedDatagram[],
      }),
    };
    const all = summaries(concat(from([values.a, values.b]), NEVER), timer(1200, time));
    expect(all).toEqual([
      {
        durationMs: 500,
        reports: 2,
        sent: 40,
        bytes: 3500,
        syscalls: 4,
        dropped: 4,
        conflated: 3,
        rejected: 2,
        pendingErrors: 5,
        datagramsPerSecond: 80,
        bytesPerSecond: 7000,
        syscallsPerSecond: 8,
        meanBatch: 10,
        queued: 7,
      },
      {
        durationMs: 500,
        reports: 0,
        sent: 0,
        bytes: 0,
        syscalls: 0,
        dropped: 0,
        conflated: 0,
        rejected: 0,
        pendingErrors: 0,
        datagramsPerSecond: 0,
        bytesPerSecond: 0,
        syscallsPerSecond: 0,
        meanBatch: 0,
        queued: 7,
      },
    ]);
    expect(all.every((summary) => Object.isFrozen(summary))).toBe(true);
  });

  it('of no time at all has no rates, and of no calls no mean: zeros, never NaN', () => {
    const [summary] = summaries(of(report({ sent: 5, bytes: 50, syscalls: 1 })));
    expect(summary).toMatchObject({ durationMs: 0, sent: 5, datagramsPerSecond: 0, bytesPerSecond: 0, meanBatch: 5 });
    expect(summaries(of(report({ dropped: 3 })))).toMatchObject([{ dropped: 3, syscallsPerSecond: 0, meanBatch: 0 }]);
  });

  it('goes by the time that has passed: where the timer was late, and where the clock was set back', () => {
    let now = 0;
    const clock: SchedulerLike = { now: () => now, schedule: time.schedule.bind(time) };
    const all: BatchSummary[] = [];
    time.run(({ cold, flush }) => {
      reports(cold('A--|'))
        .pipe(summarize(1000, clock))
        .subscribe((summary) => all.push(summary));
      reports(cold('A--|'))
        .pipe(summarize(1, clock), take(1))
        .subscribe((summary) => {
          all.push(summary);
          now = -60_000;
        });
      now = 2000;
      flush();
    });
    expect(all).toMatchObject([
      { durationMs: 2000, sent: 10, datagramsPerSecond: 5 },
      { durationMs: 0, sent: 10, datagramsPerSecond: 0 },
    ]);
  });
});

it('takes all its time from the scheduler', () => {
  const virtual = new VirtualTime();
  const all: BatchSummary[] = [];
  const subscription = NEVER.pipe(summarize(1000, virtual)).subscribe((summary) => all.push(summary));
  virtual.advance(3500);
  expect(all.map(({ durationMs }) => durationMs)).toEqual([1000, 1000, 1000]);
  subscription.unsubscribe();
  expect(virtual.armed).toBe(0);
});

describe('by default', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('time is that of asyncScheduler, and no timer outlives the subscription', () => {
    const all: BatchSummary[] = [];
    const collect = (summary: BatchSummary): void => void all.push(summary);
    const subscription = reports(concat(from('aA'), NEVER))
      .pipe(summarize(1000))
      .subscribe(collect);
    vi.advanceTimersByTime(2500);
    expect(all.map(({ sent, durationMs }) => `${sent} in ${durationMs}`)).toEqual(['11 in 1000', '0 in 1000']);
    subscription.unsubscribe();
    reports(from('aaa')).pipe(summarize(1000)).subscribe(collect);
    expect(all).toHaveLength(3);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('bad arguments throw at once', () => {
  it.each([
    ['1000' as unknown as number, 'ERR_INVALID_ARG_TYPE', '"intervalMs"'],
    [undefined as unknown as number, 'ERR_INVALID_ARG_TYPE', '"intervalMs"'],
    [0, 'ERR_OUT_OF_RANGE', '"intervalMs"'],
    [0.5, 'ERR_OUT_OF_RANGE', '"intervalMs"'],
    [-1, 'ERR_OUT_OF_RANGE', '"intervalMs"'],
    [Number.NaN, 'ERR_OUT_OF_RANGE', '"intervalMs"'],
    [Number.POSITIVE_INFINITY, 'ERR_OUT_OF_RANGE', '"intervalMs"'],
    [2 ** 31, 'ERR_OUT_OF_RANGE', '"intervalMs"'],
  ])('an interval of %s: %s', (intervalMs, code, name) => {
    expect(() => summarize(intervalMs)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(name) }),
    );
  });

  it.each([null, {}, { now: () => 0 }, 5])('a scheduler that is none: %s', (scheduler) => {
    expect(() => summarize(1000, scheduler as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', message: expect.stringContaining('"scheduler"') }),
    );
  });

  it('the longest interval is accepted', () => {
    expect(summarize(2 ** 31 - 1)).toBeTypeOf('function');
  });
});
