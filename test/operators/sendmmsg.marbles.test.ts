import { catchError, map, NEVER, type Observable, take, throwError } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { SendmmsgError } from '../../src/kernel/errors.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { Receiver } from '../support/receiver.ts';

let socket: DatagramSocket;
let receiver: Receiver;
let time: TestScheduler;
beforeEach(() => {
  ({ sender: socket, receiver } = Receiver.pair(1 << 20));
  time = new TestScheduler((actual, expected) => expect(actual).toEqual(expected));
});
afterEach(() => {
  socket.close();
  receiver.close();
});

/** The operator in virtual time, each report told as the number sent, `-` a rejection, `x` a drop: `2`, `1-`, `x`. */
const sent =
  (options: BatchOptions = {}) =>
  (source: Observable<DatagramLike>): Observable<string> =>
    source.pipe(
      sendmmsg(socket, { scheduler: time, ...options }),
      map((report: BatchReport) => {
        const count = report.sent > 0 ? String(report.sent) : '';
        return count + '-'.repeat(report.rejected.length) + 'x'.repeat(report.dropped);
      }),
    );
const arrived = (): string => receiver.drain().map(String).join('');

describe('by count', () => {
  it('flushes at every batchSize-th datagram, the rest on completion', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a-b-c-d-e-|');
      const expected = '    ---2---2---(1|)';
      const subscription = '^----------!';
      expectObservable(source.pipe(sent({ batchSize: 2, flushAfterMs: 1000 }))).toBe(expected);
      expectSubscriptions(source.subscriptions).toBe(subscription);
    });
    expect(arrived()).toBe('abcde');
  });

  it('batchSize 1 sends each as it comes', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(cold('ab-(cd)|').pipe(sent({ batchSize: 1 }))).toBe('11-(11)|');
    });
    expect(arrived()).toBe('abcd');
  });
});

describe('by bytes', () => {
  it('flushes once batchBytes are queued', () => {
    time.run(({ cold, expectObservable }) => {
      const values = { a: 'aaa', b: 'bb', c: 'cccccc' };
      const source = cold('-a-b-c-a|', values);
      expectObservable(source.pipe(sent({ batchBytes: 5, flushAfterMs: 1000 }))).toBe('---2-1--(1|)');
    });
    expect(arrived()).toBe('aaabbccccccaaa');
  });
});

describe('by time', () => {
  it('flushes at the end of the turn by default', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(cold('-(abc)--d--|').pipe(sent())).toBe('-3------1--|');
    });
    expect(arrived()).toBe('abcd');
  });

  it('flushes flushAfterMs after the first queued one, not after the last', () => {
    time.run(({ cold, expectObservable }) => {
      const source = cold(' -a-b-c-----d---------|');
      const expected = '    ------3---------1----|';
      expectObservable(source.pipe(sent({ flushAfterMs: 5 }))).toBe(expected);
    });
    expect(arrived()).toBe('abcd');
  });

  it('a flush by count starts the time anew', () => {
    time.run(({ cold, expectObservable }) => {
      const source = cold(' -a-b-c---------|');
      const expected = '    ---2------1----|';
      expectObservable(source.pipe(sent({ batchSize: 2, flushAfterMs: 5 }))).toBe(expected);
    });
  });

  it('a time trigger that is due with the completion leaves one report, not two', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(cold('-a----|').pipe(sent({ flushAfterMs: 5 }))).toBe('------(1|)');
    });
    expect(arrived()).toBe('a');
  });
});

describe('the ends of a source', () => {
  it('never: nothing is told, and no timer is armed', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-');
      expectObservable(source.pipe(sent()), '^-----!').toBe('-');
      expectSubscriptions(source.subscriptions).toBe('^-----!');
    });
  });

  it('empty: completes at once, and makes no call', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(cold('|').pipe(sent())).toBe('|');
      expectObservable(cold('---|').pipe(sent())).toBe('---|');
    });
  });

  it('error: one last flush, then the error', () => {
    time.run(({ cold, expectObservable }) => {
      expectObservable(cold('-a-b-#').pipe(sent({ flushAfterMs: 100 }))).toBe('-----(2#)');
      expectObservable(cold('#').pipe(sent())).toBe('#');
    });
    expect(arrived()).toBe('ab');
  });

  it('early unsubscribe: nothing more is sent, and the source is let go of', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a-b-c-d-|');
      const unsubscribed = '^-----!   ';
      expectObservable(source.pipe(sent({ batchSize: 2, flushAfterMs: 100 })), unsubscribed).toBe('---2');
      expectSubscriptions(source.subscriptions).toBe(unsubscribed);
    });
    expect(arrived()).toBe('ab');
  });

  it('take(n) completes with the n-th report, and unsubscribes from the source in the same frame', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold(' -a-b-c-d-e-|');
      const subscription = '^------!';
      expectObservable(source.pipe(sent({ batchSize: 2, flushAfterMs: 100 }), take(2))).toBe('---2---(2|)');
      expectSubscriptions(source.subscriptions).toBe(subscription);
    });
    expect(arrived()).toBe('abcd');
  });
});

describe('bad datagrams', () => {
  it('are told with the next flush, and stop nothing', () => {
    time.run(({ cold, expectObservable }) => {
      const values = { a: 'a', b: 7 as unknown as string, c: 'c' };
      const source = cold(' -(abc)--b---(cb|)', values);
      const expected = '    --z------y--(x|)';
      expectObservable(source.pipe(sent({ flushAfterMs: 1 }))).toBe(expected, { z: '2-', y: '-', x: '1-' });
    });
    expect(arrived()).toBe('acc');
  });
});

describe('a socket that fails', () => {
  it('is an error notification; the source is unsubscribed', () => {
    time.run(({ cold, expectObservable, expectSubscriptions }) => {
      const source = cold('-a-b-c-|');
      cold('--z|').subscribe(() => socket.close());
      const codes = catchError((error: SendmmsgError) => throwError(() => error.code));
      expectObservable(source.pipe(sent({ batchSize: 1 }), codes)).toBe('-1-(x#)', undefined, 'EBADF');
      expectSubscriptions(source.subscriptions).toBe('^--!');
    });
  });
});

describe('maxAgeMs and time', () => {
  it('drops what waited longer than that for its flush', () => {
    time.run(({ cold, expectObservable }) => {
      const source = cold('a----b----|');
      expectObservable(source.pipe(sent({ flushAfterMs: 7, maxAgeMs: 4 }))).toBe('-------z--|', { z: '1x' });
    });
    expect(arrived()).toBe('b');
  });
});

it('NEVER keeps no timer of ours: virtual time has nothing left to run', () => {
  time.run(({ flush }) => {
    NEVER.pipe(sent({ flushAfterMs: 5 })).subscribe();
    flush();
  });
  expect(time.actions).toEqual([]);
});
