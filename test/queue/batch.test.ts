import { describe, expect, it } from 'vitest';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  IP_PKTINFO,
  IP_TOS,
  MMSGHDR_SIZE,
  MSG_LEN,
  SOCKADDR_IN_SIZE,
  SOCKADDR_IN6_SIZE,
  SOCKADDR_UN_SIZE,
} from '../../src/kernel/abi.ts';
import { EIO, EMSGSIZE } from '../../src/kernel/errno.ts';
import type { Datagram, DatagramLike } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { describeName, endpoint } from '../../src/message/sockaddr.ts';
import { Batch, nameSizeOf } from '../../src/queue/batch.ts';
import { GsoLatch } from '../../src/queue/gso.ts';
import { DatagramQueue, type QueueOptions } from '../../src/queue/queue.ts';
import { allocateApart, datagramsOf, messageAt, messagesOf, tosOf } from '../support/lower.ts';

const GSO = { nameSize: SOCKADDR_IN_SIZE, maxSegments: 64, maxSegmentedBytes: 65_507 };
const PLAIN = { ...GSO, maxSegments: 1 };
const A = { address: '127.0.0.1', port: 1 };
const B = { address: '127.0.0.2', port: 2 };

interface Options extends Partial<QueueOptions> {
  readonly layout?: typeof GSO;
  readonly family?: number;
  readonly isConnected?: boolean;
}

/** A queue and its batch, and a push that reads the datagram first and numbers it. */
function fixture({ layout = GSO, family = AF_INET, isConnected = false, ...options }: Options = {}) {
  const queue = new DatagramQueue({ capacity: 4096, maxBytes: 4 << 20, ...options }, allocateApart);
  const latch = new GsoLatch();
  const batch = new Batch(queue, layout, latch, allocateApart);
  const reader = new DatagramReader(family, isConnected);
  let sequence = 0;
  const add = (payload: DatagramLike | Datagram['payload'], to: object = A, now = 0): void => {
    reader.read({ payload, ...to } as Datagram);
    expect(queue.push(reader, sequence++, now)).toBe(true);
  };
  /** Planned anew, all of it: message by message, the lengths of its datagrams. */
  const runs = (): number[][] => {
    queue.changes++;
    return messagesOf(batch).map((message) => datagramsOf(message).map(({ length }) => length));
  };
  const texts = (): string[] => {
    queue.changes++;
    return messagesOf(batch).flatMap((message) => datagramsOf(message).map(String));
  };
  return { queue, latch, batch, reader, add, runs, texts };
}

const sized = (all: ReturnType<typeof fixture>, sizes: readonly number[], to: object = A): typeof all => {
  for (const size of sizes) all.add(Buffer.alloc(size, size), to);
  return all;
};

describe('nameSizeOf', () => {
  it('is the sockaddr of the family, and nothing on a connected socket', () => {
    expect([2, 10, 1].map((family) => nameSizeOf(family, false))).toEqual([
      SOCKADDR_IN_SIZE,
      SOCKADDR_IN6_SIZE,
      SOCKADDR_UN_SIZE,
    ]);
    expect([2, 10, 1].map((family) => nameSizeOf(family, true))).toEqual([0, 0, 0]);
  });
});

describe('a header that is used again', () => {
  it('never keeps the destination of the datagram before it', () => {
    const { batch, add } = fixture({ layout: PLAIN });
    const targets = [A, B, { ...A, port: 3 }, { to: endpoint('127.0.0.2', 4) }, B, A];
    const names = targets.map((target) => {
      add('x', target);
      const [message] = messagesOf(batch);
      batch.take(1);
      return describeName(message!.name);
    });
    expect(names).toEqual([A, B, { ...A, port: 3 }, { address: '127.0.0.2', port: 4 }, B, A]);
  });

  it('never keeps the end of a longer path', () => {
    const { batch, add } = fixture({ layout: { ...PLAIN, nameSize: SOCKADDR_UN_SIZE }, family: AF_UNIX });
    for (const path of ['/a/long/path/to/a/socket', '/b', '\0name', `/${'c'.repeat(106)}`, '/b']) {
      add('x', { path });
      expect(describeName(messagesOf(batch)[0]!.name)).toEqual({ path });
      expect(describeName(batch.headName())).toEqual({ path });
      batch.take(1);
    }
  });

  it('never keeps the segment size of several datagrams', () => {
    const { batch, add } = fixture();
    for (const payload of ['aaaa', 'bbbb', 'cc']) add(payload);
    expect(messagesOf(batch)[0]).toMatchObject({ controlLength: 24, segmentSize: 4 });
    batch.take(1);
    add('alone');
    expect(messagesOf(batch)[0]).toMatchObject({ controlLength: 0, segmentSize: 0 });
  });

  it('holds no destination at all on a connected socket', () => {
    const { batch, add } = fixture({ layout: { ...PLAIN, nameSize: 0 }, isConnected: true });
    add('x', {});
    expect(messagesOf(batch)[0]!.name.length).toBe(0);
    expect(batch.headName().length).toBe(0);
  });
});

describe('a plan', () => {
  it('has at most 1024 messages, and none for an empty queue', () => {
    const { batch, add } = fixture({ layout: PLAIN });
    expect(batch.plan()).toBe(0);
    for (let count = 0; count < 2000; count++) add('x');
    expect(batch.plan()).toBe(1024);
    batch.take(1024);
    expect(batch.plan()).toBe(976);
  });

  it('of 64 datagrams a message takes a row apart where the headers end', () => {
    const { queue, batch, add } = fixture({ capacity: 1 << 17, maxBytes: 1 << 20 });
    for (let count = 0; count < 64 * 1024 + 10; count++) add('x');
    expect(batch.plan()).toBe(1024);
    batch.take(1024);
    expect([queue.datagrams, batch.plan(), batch.segmentsAt(0)]).toEqual([10, 1, 10]);
  });

  it('is used again as far as it is left, and made anew where the queue says so', () => {
    const { queue, batch, add } = fixture({ layout: PLAIN });
    for (const text of ['a', 'b', 'c']) add(text);
    expect(batch.plan()).toBe(3);
    add('d');
    expect(batch.plan()).toBe(3); // what comes later is no reason
    batch.take(1);
    expect([batch.plan(), batch.headAt]).toEqual([2, MMSGHDR_SIZE]);
    queue.drop(1);
    expect([batch.plan(), batch.headAt]).toEqual([2, 0]);
    expect(messagesOf(batch).map(({ payload }) => String(payload))).toEqual(['c', 'd']);
  });

  it('tells msg_len of the messages that are left', () => {
    const { batch, add } = fixture({ layout: PLAIN });
    for (const text of ['a', 'b', 'c']) add(text);
    batch.plan();
    batch.take(1);
    batch.arena.u32[(MMSGHDR_SIZE + MSG_LEN) / 4] = 7;
    batch.arena.u32[(2 * MMSGHDR_SIZE + MSG_LEN) / 4] = 8;
    expect([batch.sentLengthAt(0), batch.sentLengthAt(1)]).toEqual([7, 8]);
  });

  it('closes what it holds: a datagram that comes later joins no message of it', () => {
    const all = sized(fixture(), [4, 4]);
    const { batch, runs } = all;
    expect(batch.plan()).toBe(1);
    sized(all, [4, 4]);
    expect(messagesOf(batch).map((message) => datagramsOf(message).length)).toEqual([2]);
    expect(runs()).toEqual([[4, 4, 4, 4]]);
  });
});

describe('a message with GSO', () => {
  it.each([
    ['equal sizes join', [5, 5, 5], [[5, 5, 5]]],
    [
      'a shorter one is the last',
      [5, 5, 3, 5, 5],
      [
        [5, 5, 3],
        [5, 5],
      ],
    ],
    ['a shorter one right behind the first is the last, too', [5, 3, 3], [[5, 3], [3]]],
    [
      'a longer one begins another',
      [5, 5, 6, 6],
      [
        [5, 5],
        [6, 6],
      ],
    ],
    ['an empty one never joins', [5, 0, 5, 5], [[5], [0], [5, 5]]],
    ['empty ones never join each other', [0, 0, 0], [[0], [0], [0]]],
    ['64 are the most', new Array<number>(130).fill(2), [new Array(64).fill(2), new Array(64).fill(2), [2, 2]]],
    ['65 507 bytes are the most', [30_000, 30_000, 30_000], [[30_000, 30_000], [30_000]]],
    ['65 507 bytes are not too many', [32_753, 32_753, 1], [[32_753, 32_753], [1]]],
    ['not even a short one goes past 65 507 bytes', [32_754, 32_754], [[32_754], [32_754]]],
    ['wherever their bytes lie', new Array<number>(64).fill(1000), [new Array(64).fill(1000)]],
  ])('%s', (_rule, sizes, expected) => {
    const { queue, batch, runs } = sized(fixture(), sizes);
    expect(runs()).toEqual(expected);
    expect(queue.datagrams).toBe(sizes.length);
    expect(queue.bytes).toBe(sizes.reduce((sum, size) => sum + size, 0));
    expect(batch.isAll(expected.length)).toBe(true);
  });

  it('goes to one destination', () => {
    const { batch, add, runs } = fixture();
    for (const to of [A, A, B, A, { ...A, port: 9 }, { ...A, port: 9 }, { to: endpoint('127.0.0.1', 9) }]) add('x', to);
    expect(runs()).toEqual([[1, 1], [1], [1], [1, 1, 1]]);
    expect(messagesOf(batch).map(({ name }) => describeName(name))).toEqual([A, B, A, { ...A, port: 9 }]);
  });

  it('has one control', () => {
    const { batch, add, runs } = fixture();
    const voice = { ...A, dscp: 46 };
    const other = { ...A, from: '127.0.0.2' };
    for (const to of [A, A, voice, voice, voice, { ...voice, ecn: 1 }, other, { ...other }, A]) add('x', to);
    expect(runs()).toEqual([[1, 1], [1, 1, 1], [1], [1, 1], [1]]);
    expect(messagesOf(batch).map(({ control }) => control.map(({ type }) => type))).toEqual([
      [],
      [IP_TOS],
      [IP_TOS],
      [IP_PKTINFO],
      [],
    ]);
  });

  it('may hold datagrams of several times, and with others of the input between them', () => {
    const { add, runs } = fixture();
    for (const now of [0, 0, 1, 5]) add('x', A, now);
    expect(runs()).toEqual([[1, 1, 1, 1]]);
  });

  it('gathers lists: as few messages as flat ones, each datagram in one piece', () => {
    const { batch, add, texts } = fixture();
    for (let n = 0; n < 100; n++) add([Buffer.from(`header ${n}`.padEnd(12)), 'x'.repeat(188)]);
    expect(batch.plan()).toBe(2);
    for (const { iovecs } of messagesOf(batch)) expect(iovecs).toBeLessThan(8);
    expect(texts()[99]).toBe(`header 99   ${'x'.repeat(188)}`);
  });

  it('gathers what was packed, and what newer state has replaced', () => {
    const packing = { maxBytes: 9, separator: '\n', oversize: 'alone' } as const;
    const packed = fixture({ packing });
    for (let n = 0; n < 10; n++) packed.add('line');
    expect(packed.runs()).toEqual([[9, 9, 9, 9, 9]]);
    const keyed = fixture({ byKey: true });
    for (const payload of ['one', 'two', 'ONE', 'TWO']) {
      keyed.reader.key = payload.toLowerCase();
      keyed.add(payload);
    }
    expect(keyed.texts()).toEqual(['ONE', 'TWO']);
    expect(keyed.batch.plan()).toBe(1);
  });

  it('of strings that are not all ASCII keeps its control when they are taken apart', () => {
    const { batch, add, runs } = fixture();
    for (const text of ['aaaa', 'bbbb', 'éééé', 'öööö']) add(text, { ...A, dscp: 46 });
    expect(runs()).toEqual([
      [4, 4],
      [8, 8],
    ]);
    expect(messagesOf(batch).map(tosOf)).toEqual([184, 184]);
  });

  it('of strings that are not all ASCII falls apart into what each of them is', () => {
    const { queue, add, texts, runs } = fixture();
    const all = ['aaaa', 'bbbb', 'éééé', 'öööö', 'c\ud83d', '\ude00d', 'eeee', 'ffff'];
    for (const text of all) add(text);
    expect(texts()).toEqual(all.map((text) => Buffer.from(text).toString()));
    expect(runs()).toEqual([
      [4, 4],
      [8, 8, 4],
      [4, 4, 4],
    ]);
    expect(queue.bytes).toBe(40);
  });

  it.each([
    ['bytes', Buffer.from('cccc')],
    ['a shorter string', 'cc'],
  ])('is not joined by %s where the strings before have turned out to end it', (_what, next) => {
    const { add, texts, runs } = fixture();
    for (const payload of ['aaaa', 'éééé', 'bbbb', next, 'dddd']) add(payload);
    expect(texts()).toEqual(['aaaa', 'éééé', 'bbbb', String(next), 'dddd']);
    expect(runs().slice(0, 2)).toEqual([[4], [8, 4]]);
  });

  it('counts in datagrams across messages', () => {
    const { queue, batch } = sized(fixture(), [4, 4, 4, 0, 6, 6]);
    batch.plan();
    expect([0, 1, 2, 3].map((messages) => batch.datagramsIn(messages))).toEqual([0, 3, 4, 6]);
    expect([batch.take(1), batch.take(1)]).toEqual([12, 0]);
    expect([queue.datagrams, queue.bytes]).toEqual([2, 12]);
  });

  it('is planned anew without those of its datagrams that were dropped: the rest keeps its sizes, order and sequence', () => {
    const { queue, batch, runs } = sized(fixture(), [4, 4, 4, 3]);
    batch.plan();
    queue.drop(2);
    expect(runs()).toEqual([[4, 3]]);
    expect([queue.datagrams, queue.bytes, batch.headSequence, batch.isHeadSegmented]).toEqual([2, 7, 2, true]);
    queue.drop(1);
    expect(messagesOf(batch)[0]).toMatchObject({ controlLength: 0, payload: Buffer.alloc(3, 3) });
    expect([batch.isHeadSegmented, batch.headSize, batch.headSequence]).toEqual([false, 3, 3]);
  });

  it('is not made where the latch says so, from the moment on that it does', () => {
    const { latch, batch, add } = fixture();
    for (const to of [A, A, A, B, B]) add('xxxx', to);
    expect(batch.plan()).toBe(2);
    latch.refuse(EMSGSIZE, batch.headSockaddr, 4, 0);
    expect(batch.plan()).toBe(4);
    latch.expire(1e9);
    expect(batch.plan()).toBe(2);
    latch.refuse(EIO, null, 4, 0);
    expect(batch.plan()).toBe(5);
  });
});

describe('segmentSize', () => {
  it.each([
    ['less than a datagram', 3, 5, [3]],
    ['one whole datagram', 5, 5, [5]],
    ['a datagram and a shorter one', 6, 5, [5, 1]],
    ['several', 15, 5, [5, 5, 5]],
    ['nothing: one empty datagram', 0, 5, [0]],
  ])('cuts %s', (_what, length, segmentSize, sizes) => {
    for (const payload of [Buffer.alloc(length, 'x'), 'x'.repeat(length), ['x'.repeat(length), '']]) {
      const { queue, add, runs } = fixture();
      add(payload, { ...A, segmentSize });
      expect(runs()).toEqual([sizes]);
      expect([queue.datagrams, queue.bytes, queue.tail - queue.head]).toEqual([sizes.length, length, 1]);
    }
  });

  it('copies once, takes as few messages as possible, and joins what is around it', () => {
    const { queue, batch, add, runs } = fixture();
    add(Buffer.alloc(10), A);
    add(Buffer.alloc(1000), { ...A, segmentSize: 10 });
    add(Buffer.alloc(25), { ...A, segmentSize: 10 });
    add(Buffer.alloc(10), A);
    expect(runs().map(({ length }) => length)).toEqual([64, 40, 1]);
    expect([queue.datagrams, queue.tail - queue.head]).toEqual([105, 4]);
    expect(messagesOf(batch)[0]!.iovecs).toBe(1); // they lie one behind the other
  });

  it('gives all its datagrams the sequence of their input, and lets go of them one by one', () => {
    const { queue, batch, add } = fixture({ layout: PLAIN });
    add('a');
    add('bbccd', { ...A, segmentSize: 2 });
    add('e');
    const seen: unknown[] = [];
    for (; queue.datagrams > 0; batch.takeOne()) {
      batch.plan();
      seen.push([batch.headSequence, String(batch.headPayload()), batch.headLeft]);
    }
    expect(seen).toEqual([
      [0, 'a', 1],
      [1, 'bb', 3],
      [1, 'cc', 2],
      [1, 'd', 1],
      [2, 'e', 1],
    ]);
  });
});

describe("order: 'destination'", () => {
  const C = { address: '127.0.0.3', port: 3 };
  const rounds = (count: number) => {
    const all = fixture({ byDestination: true });
    for (let round = 0; round < count; round++) for (const to of [A, B, C]) all.add(`${round}`, to);
    return all;
  };

  it('gathers the datagrams of each destination, though others came between', () => {
    const { queue, batch } = rounds(8);
    const messages = messagesOf(batch);
    expect(messages.map(({ name, payload, iovecs }) => [describeName(name), String(payload), iovecs])).toEqual([
      [A, '01234567', 8],
      [B, '01234567', 8],
      [C, '01234567', 8],
    ]);
    expect(batch.take(1)).toBe(8);
    expect([queue.datagrams, queue.headSequence()]).toEqual([16, 1]);
    batch.take(2);
    expect(queue).toMatchObject({ datagrams: 0, head: 0, tail: 0 });
  });

  it('shares what is shared: one payload for a thousand peers, and a second one behind it, lie in memory once', () => {
    const { queue, batch, reader } = fixture({ byDestination: true });
    const peers = Array.from({ length: 1000 }, (_, n) => endpoint(`10.0.${n >> 8}.${n & 255}`, 9));
    for (const letter of ['a', 'b']) {
      reader.readShared(Buffer.alloc(100, letter));
      for (const [index, peer] of peers.entries()) {
        reader.readPeer(peer);
        queue.push(reader, index, 0);
      }
      queue.endShared();
      reader.clear();
    }
    expect(batch.plan()).toBe(1000);
    expect(queue.slab.tail).toBe(200);
    expect(messagesOf(batch)[999]!.payload.toString()).toBe('a'.repeat(100) + 'b'.repeat(100));
  });

  it('keeps the order of each destination, whatever of it cannot share a message', () => {
    const { batch, add } = fixture({ byDestination: true });
    const voice = { ...A, dscp: 46 };
    const all: [string, object][] = [
      ['1', A],
      ['x', B],
      ['22', A],
      ['3', A],
      ['4', voice],
      ['y', B],
      ['5', A],
      ['', A],
      ['6', A],
    ];
    for (const [payload, to] of all) add(payload, to);
    const order = messagesOf(batch).map(({ name, payload }) => [describeName(name).port, String(payload)]);
    expect(order.filter(([port]) => port === 1).map(([, payload]) => payload)).toEqual(['1', '223', '4', '5', '', '6']);
    expect(order.filter(([port]) => port === 2)).toEqual([[2, 'xy']]);
  });

  it('finds a destination by what it is, not by the object that says it', () => {
    const { add, batch } = fixture({ byDestination: true });
    add('1', { to: endpoint('127.0.0.1', 1) });
    add('x', B);
    add('2', { address: '127.0.0.1', port: 1 });
    add('y', B);
    add('3', { to: endpoint('127.0.0.1', 1) });
    expect(messagesOf(batch).map(({ payload }) => String(payload))).toEqual(['123', 'xy']);
  });

  it('with more destinations than a call takes, plans each row once, and all of them', () => {
    const { queue, batch, add } = fixture({ byDestination: true, capacity: 1 << 16 });
    const peers = Array.from({ length: 3000 }, (_, n) => ({ to: endpoint(`10.${n >> 8}.0.${n & 255}`, 9) }));
    for (const round of ['a', 'b', 'c']) for (const to of peers) add(round, to);
    const calls: number[] = [];
    while (queue.datagrams > 0) {
      const messages = batch.plan();
      expect(batch.datagramsIn(messages)).toBe(3 * messages);
      calls.push(messages);
      batch.take(messages);
    }
    expect(calls).toEqual([1024, 1024, 952]);
  });

  it('gathers what is queued behind the place of a row that is gone', () => {
    const { queue, batch, add } = fixture({ byDestination: true });
    add('a', A);
    for (let count = 0; count < 7; count++) add('c', C); // one row
    add('b', B);
    batch.plan();
    batch.take(1); // the first row
    // The columns have eight places: round to the one of the row that is gone.
    for (const port of [11, 12, 13, 14, 15]) add('x', { ...A, port });
    add('b', B);
    expect(queue.rows.capacity).toBe(8);
    add('a', A);
    add('b', B);
    queue.changes++;
    const messages = messagesOf(batch).map(({ name, payload }) => [describeName(name).port, String(payload)]);
    expect(messages.filter(([port]) => port === 2)).toEqual([[2, 'bbb']]);
  });

  it('moves no rows together while a call is out: what is taken then is what was sent', () => {
    const { queue, batch, add } = fixture({ byDestination: true });
    for (const port of [1, 2, 3, 4, 5, 6]) add(`${port}`, { ...A, port });
    batch.plan();
    batch.waitForHead();
    expect(batch.plan()).toBe(5);
    batch.take(4); // most rows between the first and the last are gone
    queue.isInFlight = true;
    for (const port of [7, 8, 9, 10]) add(`${port}`, { ...A, port });
    queue.isInFlight = false;
    batch.take(1);
    batch.tryFull();
    expect(messagesOf(batch).map(({ payload }) => String(payload))).toEqual(['1', '7', '8', '9', '10']);
  });

  it('lets the rows of a destination that is full wait, and the others go, until it is tried again', () => {
    const { queue, batch } = rounds(2);
    expect(batch.plan()).toBe(3);
    batch.waitForHead();
    expect(messagesOf(batch).map(({ name }) => describeName(name))).toEqual([B, C]);
    batch.take(2);
    expect([batch.plan(), batch.hasFull, queue.datagrams]).toEqual([0, true, 2]);
    batch.tryFull();
    expect(messagesOf(batch).map(({ payload }) => String(payload))).toEqual(['01']);
  });
});

describe('split', () => {
  const VOICE = { ...A, dscp: 46 };
  const FROM = { ...A, dscp: 46, from: '127.0.0.2' };

  it.each([
    ['none', A, 0],
    ['one', VOICE, 1],
    ['two', FROM, 2],
  ])(
    'gives each datagram of the first message a header, with its control, without the segment size: %s',
    (_what, to, count) => {
      const { queue, batch, add } = fixture();
      for (const text of ['aaaa', 'bbbb', 'cc']) add(text, to);
      add('dddd', B);
      batch.plan();
      batch.split();
      expect(batch.plan()).toBe(3);
      for (const text of ['aaaa', 'bbbb', 'cc']) {
        const message = messageAt(batch.arena, batch.headAt);
        expect([String(message.payload), message.segmentSize, message.control.length]).toEqual([text, 0, count]);
        expect(batch.isSplit).toBe(true);
        batch.take(1);
      }
      expect([batch.isSplit, queue.datagrams]).toEqual([false, 1]);
      expect(messagesOf(batch).map(({ controlLength }) => controlLength)).toEqual([0]);
    },
  );
});

describe('the control of a message', () => {
  const VOICE = { ...A, dscp: 46 };
  const FROM = { ...A, dscp: 46, from: '127.0.0.2' };
  const [TOS, PKTINFO, SEGMENT] = [24, 32, 24];

  it('is not left over from what the header held before, in any order', () => {
    const kinds = [A, VOICE, FROM];
    for (const layout of [PLAIN, GSO]) {
      for (const before of kinds) {
        for (const after of kinds) {
          const { batch, add } = fixture({ layout });
          const lengths = (): number[] => messagesOf(batch).map(({ controlLength }) => controlLength);
          // Two that make one message, where there is GSO.
          add('aaaa', before);
          add('bbbb', before);
          batch.take(batch.plan());
          add('cccc', after);
          const size = { [0]: 0, [1]: TOS, [2]: TOS + PKTINFO }[kinds.indexOf(after)]!;
          expect(lengths()).toEqual([size]);
          expect(messagesOf(batch)[0]!.control.length).toBe(kinds.indexOf(after));
          batch.take(1);
          add('dddd', after);
          add('eeee', after);
          expect(lengths()).toEqual(layout === GSO ? [size + SEGMENT] : [size, size]);
          expect(messagesOf(batch)[0]!.control.length).toBe(kinds.indexOf(after));
        }
      }
    }
  });

  it('leaves the neighbours alone, where both are as large as can be', () => {
    const to = { address: '::1', port: 1, dscp: 46, from: 'fe80::1%3' };
    const layout = { ...GSO, maxSegments: 2, nameSize: SOCKADDR_IN6_SIZE };
    const { batch, add } = fixture({ layout, family: AF_INET6 });
    for (let lap = 0; lap < 2; lap++) {
      for (const text of ['aaaa', 'bbbb', 'cccc', 'dddd', 'eeee', 'ffff']) add(text, to);
      const messages = messagesOf(batch);
      expect(messages.map(({ segmentSize, controlLength }) => [segmentSize, controlLength])).toEqual([
        [4, 112],
        [4, 112],
        [4, 112],
      ]);
      for (const { control } of messages) expect(control).toEqual(messages[0]!.control);
      expect(messages.map(tosOf)).toEqual([184, 184, 184]);
      batch.take(3);
    }
  });

  it('is that of the datagram, not of a broadcast after it', () => {
    const { queue, batch, reader, add } = fixture();
    add('x', FROM);
    reader.readShared('shared');
    reader.readPeer(endpoint(A.address, A.port));
    queue.push(reader, 1, 0);
    queue.endShared();
    reader.clear();
    add('y', FROM);
    const lengths = messagesOf(batch).map(({ controlLength }) => controlLength);
    expect(lengths).toEqual([TOS + PKTINFO, 0, TOS + PKTINFO]);
  });
});
