import { runInNewContext } from 'node:vm';
import { type Observable, of, Subject, throwError } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { describe, expect, it } from 'vitest';
import { broadcast } from '../../operators/rxjs/broadcast.ts';
import { endpoint } from '../../src/index.ts';
import type { BatchReport, Endpoint, Payload } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { refusal } from '../support/lower.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();
const DEAD = endpoint('127.0.0.1', 9);

function setUp(count: number) {
  const receivers = range(count).map(() => keep(Receiver.udp()));
  const peers = receivers.map(({ port }) => endpoint('127.0.0.1', port));
  const texts = (index: number): string[] => receivers[index]!.drain().map(String);
  return { peers, texts, socket: keep(DatagramSocket.open()) };
}

/** What subscribers see of it, a frame a character. */
function marbles(
  peers:
    | Iterable<Endpoint>
    | ((time: {
        cold: (marbles: string, values?: object, error?: unknown) => Observable<never>;
      }) => Observable<Iterable<Endpoint>>),
  source: string,
  expected: string,
  error?: unknown,
): void {
  const time = new TestScheduler((actual, wanted) => expect(actual).toEqual(wanted));
  const socket = keep(DatagramSocket.open());
  time.run(({ cold, expectObservable }) => {
    const of = typeof peers === 'function' ? peers({ cold: cold as never }) : peers;
    const reports = new Map(range(10).map((sent) => [String(sent), expect.objectContaining({ sent })]));
    const operator = broadcast(socket, of, { scheduler: time });
    expectObservable(cold<Payload>(source).pipe(operator)).toBe(expected, Object.fromEntries(reports), error);
  });
}

describe('broadcast', () => {
  it('sends each payload to every peer that the iterable holds at that moment', () => {
    const { peers, texts, socket } = setUp(3);
    const current = new Set(peers.slice(0, 2));
    const payloads = new Subject<Payload>();
    const reports: BatchReport[] = [];
    payloads.pipe(broadcast(socket, current, { batchSize: 2 })).subscribe((report) => reports.push(report));
    payloads.next('one');
    current.delete(peers[0]!);
    current.add(peers[2]!);
    payloads.next('two');
    payloads.complete();
    expect([texts(0), texts(1), texts(2)]).toEqual([['one'], ['one', 'two'], ['two']]);
    expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(4);
  });

  it('follows an Observable of the current set; before its first there are no peers', () => {
    const { peers, texts, socket } = setUp(2);
    const sets = new Subject<Endpoint[]>();
    const payloads = new Subject<Payload>();
    payloads.pipe(broadcast(socket, sets, { batchSize: 1 })).subscribe();
    payloads.next('nobody');
    sets.next([peers[0]!]);
    payloads.next('one');
    sets.next(peers);
    payloads.next('both');
    sets.complete();
    payloads.next('still both');
    sets.next([]);
    payloads.complete();
    expect([texts(0), texts(1)]).toEqual([
      ['one', 'both', 'still both'],
      ['both', 'still both'],
    ]);
    expect(sets.observed).toBe(false);
  });

  it('a dead peer and one of another family harm nobody', () => {
    const { peers, texts, socket } = setUp(2);
    const rejected: string[] = [];
    const payloads = new Subject<Payload>();
    payloads
      .pipe(broadcast(socket, [peers[0]!, DEAD, endpoint('::1', 5), peers[1]!]))
      .subscribe((report) => rejected.push(...report.rejected.map(({ error }) => error.code)));
    for (const tick of range(50)) payloads.next(`tick ${tick}`);
    payloads.complete();
    for (const index of [0, 1]) expect(texts(index)).toEqual(range(50).map((tick) => `tick ${tick}`));
    expect(rejected).toEqual(range(50).map(() => 'EAFNOSUPPORT'));
  });

  it('lets go of the peers with the output, and closes the socket of a factory', () => {
    const { peers } = setUp(1);
    const sets = new Subject<Endpoint[]>();
    let own: DatagramSocket | undefined;
    const open = (): DatagramSocket => {
      own = DatagramSocket.open();
      return own;
    };
    const payloads = new Subject<Payload>();
    const subscription = payloads.pipe(broadcast(open, sets)).subscribe();
    sets.next(peers);
    payloads.next('unsent');
    subscription.unsubscribe();
    expect([sets.observed, payloads.observed, own!.closed]).toEqual([false, false, true]);
  });

  describe('in time', () => {
    it('empty completes', () => marbles([DEAD], '|', '|'));
    it('never never does', () => marbles([DEAD], '-', '-'));
    it('a payload for two is two', () => marbles([DEAD, DEAD], '-a-(bc)-|', '-2-4----|'));
    it('nobody there is no report', () => marbles([], '-a-b|', '----|'));
    it('an error comes behind a last flush', () => marbles([DEAD], '-(a#)', '-(1#)'));
    it('peers may come late', () => marbles(({ cold }) => cold('--p', { p: [DEAD, DEAD] }), '-a-b-|', '---2-|'));
    it('peers that fail are an error', () => marbles(({ cold }) => cold('--#', {}, 'gone'), '-a-b-|', '--#', 'gone'));
    it('peers that fail at once are an error before the source is asked', () => {
      const source = new Subject<Payload>();
      const errors: unknown[] = [];
      const failing: Observable<Endpoint[]> = throwError(() => 'gone');
      source.pipe(broadcast(keep(DatagramSocket.open()), failing)).subscribe({ error: (error) => errors.push(error) });
      expect([errors, source.observed]).toEqual([['gone'], false]);
    });
    it('peers that are no set are an error', () => {
      const errors: { code: string }[] = [];
      of('x')
        .pipe(broadcast(keep(DatagramSocket.open()), of(5) as never))
        .subscribe({ error: (error) => errors.push(error) });
      expect(errors.map(({ code }) => code)).toEqual(['ERR_INVALID_ARG_TYPE']);
    });
    it('an iterator that throws is an error', () => {
      const errors: unknown[] = [];
      const peers: Iterable<Endpoint> = {
        [Symbol.iterator]() {
          throw new Error('no peers');
        },
      };
      of('x')
        .pipe(broadcast(keep(DatagramSocket.open()), peers))
        .subscribe({ error: (error) => errors.push(error) });
      expect(errors.map(String)).toEqual(['Error: no peers']);
    });
  });

  describe('a Map of peers', () => {
    /** What a Map says of itself is not asked. */
    class Players extends Map<string, Endpoint> {
      override values(): never {
        throw new Error('not to be called');
      }
      override [Symbol.iterator](): never {
        throw new Error('not to be called');
      }
    }

    it.each<[what: string, make: () => Map<string, Endpoint>]>([
      ['a Map', () => new Map()],
      ['a subclass', () => new Players()],
      ['a Map of another realm', () => runInNewContext('new Map()') as Map<string, Endpoint>],
    ])('of any kind counts by its values, as they are at each payload: %s', (_what, make) => {
      const { peers, texts, socket } = setUp(3);
      const current = make();
      current.set('a', peers[0]!).set('b', peers[1]!);
      const payloads = new Subject<Payload>();
      const maps = new Subject<Map<string, Endpoint>>();
      payloads.pipe(broadcast(socket, current, { batchSize: 1 })).subscribe();
      payloads.next('one');
      current.delete('a');
      current.set('b', peers[2]!);
      payloads.next('two');
      payloads.complete();
      of('three')
        .pipe(broadcast(socket, of(current)))
        .subscribe();
      const ofMaps = new Subject<Payload>();
      ofMaps.pipe(broadcast(socket, maps, { batchSize: 1 })).subscribe();
      maps.next(current);
      ofMaps.next('four');
      current.set('a', peers[0]!);
      ofMaps.next('five');
      ofMaps.complete();
      const sender = new BatchSender(socket);
      sender.broadcast('six', current);
      sender.flush();
      sender.destroy();
      expect([texts(0), texts(1), texts(2)]).toEqual([
        ['one', 'five', 'six'],
        ['one'],
        ['two', 'three', 'four', 'five', 'six'],
      ]);
    });
  });

  describe('peers that can be walked only once', () => {
    const peers = [DEAD];
    const oneShots: [what: string, make: () => Iterable<Endpoint>][] = [
      ['the values of a Map', () => new Map([['a', DEAD]]).values()],
      ['the values of a Set', () => new Set(peers).values()],
      ['the values of an array', () => peers.values()],
      [
        'a generator',
        () =>
          (function* () {
            yield* peers;
          })(),
      ],
      [
        'an iterator of any kind',
        (): IterableIterator<Endpoint> => ({
          next: () => ({ done: true, value: undefined }),
          [Symbol.iterator]() {
            return this;
          },
        }),
      ],
    ];
    const remedy = {
      code: 'ERR_INVALID_ARG_VALUE',
      message: expect.stringContaining('pass the Set, Map or array itself'),
    };

    it.each(oneShots)('are refused at once: %s', (_what, make) => {
      expect(refusal(() => broadcast(keep(DatagramSocket.open()), make()))).toMatchObject(remedy);
    });

    it.each(oneShots)('are an error of the output where an Observable emits them: %s', (_what, make) => {
      const errors: unknown[] = [];
      const payloads = new Subject<Payload>();
      payloads
        .pipe(broadcast(keep(DatagramSocket.open()), of(make())))
        .subscribe({ error: (error) => errors.push(error) });
      expect(errors).toMatchObject([remedy]);
      expect(payloads.observed).toBe(false);
    });

    it('are welcome to BatchSender.broadcast, which walks them once', () => {
      const { peers, texts, socket } = setUp(2);
      const sender = new BatchSender(socket);
      sender.broadcast('x', new Set(peers).values());
      sender.flush();
      sender.destroy();
      expect([texts(0), texts(1)]).toEqual([['x'], ['x']]);
    });

    it('are not iterables that give an iterator of their own each time', () => {
      const { peers, texts, socket } = setUp(1);
      const generated = {
        *[Symbol.iterator]() {
          yield* peers;
        },
      };
      of('one', 'two').pipe(broadcast(socket, generated)).subscribe();
      expect(texts(0)).toEqual(['one', 'two']);
    });
  });

  it.each([
    ['socket', () => broadcast(5 as never, [])],
    ['peers', () => broadcast(keep(DatagramSocket.open()), 5 as never)],
  ])('a bad "%s" throws at once', (name, call) => {
    expect(refusal(call)).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      message: expect.stringContaining(`"${name}"`),
    });
  });
});
