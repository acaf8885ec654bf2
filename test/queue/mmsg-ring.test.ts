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
import type { Datagram, DatagramLike } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { describeName, endpoint } from '../../src/message/sockaddr.ts';
import type { RingLayout } from '../../src/queue/mmsg-ring.ts';
import { nameSizeOf } from '../../src/queue/mmsg-table.ts';
import { SegmentingRing } from '../../src/queue/segmenting-ring.ts';
import { allocateApart, datagramsOf, refusal, slotAt, slotsOf, tosOf } from '../support/lower.ts';

const PLAIN: RingLayout = { slots: 4, maxBytes: 100, nameSize: SOCKADDR_IN_SIZE, maxSegments: 1, maxSegmentedBytes: 0 };
const GSO: RingLayout = {
  slots: 200,
  maxBytes: 1 << 18,
  nameSize: SOCKADDR_IN_SIZE,
  maxSegments: 64,
  maxSegmentedBytes: 65_507,
};
const A = { address: '127.0.0.1', port: 1 };
const B = { address: '127.0.0.2', port: 2 };

/** A ring, and a push that reads the datagram first and numbers it. */
class Ring extends SegmentingRing {
  readonly reader: DatagramReader;
  sequence = 0;

  constructor(layout: RingLayout, family: number = AF_INET, isConnected = false, allocate = allocateApart) {
    super(layout, allocate);
    this.reader = new DatagramReader(family, isConnected);
  }

  add(payload: DatagramLike | Datagram['payload'], to: object = A, now = 0): boolean {
    this.reader.read({ payload, ...to } as Datagram);
    return this.push(this.reader, this.sequence++, now);
  }

  /** Slot by slot, the lengths of its datagrams. */
  get runs(): number[][] {
    return slotsOf(this).map((slot) => datagramsOf(slot).map(({ length }) => length));
  }

  get texts(): string[] {
    return slotsOf(this).flatMap((slot) => datagramsOf(slot).map(String));
  }
}

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

describe('push', () => {
  it('copies: what the caller does to its buffer afterwards does not show', () => {
    const ring = new Ring(PLAIN);
    const mine = Buffer.from('before');
    ring.add(mine);
    ring.add([mine, 'x']);
    mine.fill('!');
    expect(ring.texts).toEqual(['before', 'beforex']);
  });

  it('answers false, with nothing changed, at the count and at the bytes', () => {
    const ring = new Ring(PLAIN);
    for (const text of ['a', 'b', 'c', 'd']) expect(ring.add(text)).toBe(true);
    expect(ring.add('e')).toBe(false);
    expect(ring.add('')).toBe(false);
    expect(ring.texts).toEqual(['a', 'b', 'c', 'd']);
    const wide = new Ring({ ...PLAIN, maxBytes: 10 });
    expect(wide.add('123456')).toBe(true);
    expect(wide.add('789')).toBe(true);
    expect(wide.add('0abcdefghi')).toBe(true);
    expect(wide.add('x')).toBe(false);
    expect(wide.add('')).toBe(false);
    expect([wide.datagrams, wide.slots, wide.bytes, wide.largest]).toEqual([3, 3, 19, 10]);
    expect(wide.texts).toEqual(['123456', '789', '0abcdefghi']);
    const exact = new Ring({ ...PLAIN, maxBytes: 10 });
    expect(exact.add('1234567890')).toBe(true);
    expect(exact.add('')).toBe(false);
    expect([exact.datagrams, exact.bytes]).toEqual([1, 10]);
  });

  it.each([
    ['an empty ring', 0],
    ['a ring with some queued', 2],
    ['a full ring', 4],
  ])('throws EMSGSIZE into %s for a datagram larger than any ring may hold, with nothing changed', (_what, queued) => {
    const ring = new Ring(PLAIN);
    for (let count = 0; count < queued; count++) ring.add('x');
    const before = slotsOf(ring);
    for (const payload of [
      Buffer.alloc(101),
      'x'.repeat(101),
      '€'.repeat(34),
      ['x'.repeat(100), 'y'],
      Buffer.alloc(500),
    ]) {
      expect(refusal(() => ring.add(payload))).toMatchObject({ code: 'EMSGSIZE', errno: 90, syscall: 'sendmmsg' });
    }
    expect(slotsOf(ring)).toEqual(before);
    expect([ring.datagrams, ring.bytes]).toEqual([queued, queued]);
  });

  it('counts the bytes of a text, not three for every character of it', () => {
    const ring = new Ring(PLAIN);
    expect(ring.add('x'.repeat(100))).toBe(true);
    expect(ring.bytes).toBe(100);
    ring.release(1);
    expect(ring.add('€'.repeat(33))).toBe(true);
    expect(ring.bytes).toBe(99);
  });

  it('loses no room where the slab wraps: a ring below its limits takes a datagram of any size', () => {
    for (let size = 1; size <= 100; size++) {
      const ring = new Ring({ ...PLAIN, slots: 3 });
      for (let turn = 0; turn < 60; turn++) {
        const payload = Buffer.alloc(1 + ((turn * 31 + size) % size), turn);
        while (ring.bytes >= ring.maxBytes || ring.datagrams === ring.capacity) ring.release(1);
        expect(ring.add(payload)).toBe(true);
        expect(slotsOf(ring).at(-1)!.payload).toEqual(payload);
      }
    }
  });

  // Above 256 KiB the slab may have no room in one piece although the limit is not reached.
  it.each([
    ['from the front', [600_000, 90_000]],
    ['behind others', [500_000, 100_000, 90_000]],
    ['from the front with what is smaller behind', [600_000, 1]],
  ])('never fills the slab up to the head, %s, where full would look like empty', (_what, sizes) => {
    const ring = new Ring({ ...PLAIN, slots: 9, maxBytes: 1 << 20 });
    const payloads = [600_000, 300_000, ...sizes].map((size, index) => Buffer.alloc(size, index + 1));
    const add = (payload: Buffer): void => expect(ring.add(payload)).toBe(true);
    payloads.slice(0, 2).forEach(add);
    ring.release(1);
    payloads.slice(2).forEach(add);
    const isSame = slotsOf(ring).map(({ payload }, index) => payload.equals(payloads[index + 1]!));
    expect(isSame).toEqual(payloads.slice(1).map(() => true));
  });

  describe('where the slab has no place in one piece', () => {
    const layout = { ...GSO, slots: 9, maxBytes: 100 };
    /** A ring whose slab of 200 bytes is free in two pieces of 60 bytes. */
    const split = (): Ring => {
      const ring = new Ring(layout);
      for (const size of [60, 80]) ring.add(Buffer.alloc(size, '.'));
      ring.release(1);
      return ring;
    };

    it.each([
      ['bytes', Buffer.alloc(61, 'b')],
      ['a text', 'é'.repeat(31)],
      ['a list', ['a'.repeat(40), Buffer.alloc(21)]],
    ])('%s has memory of its own, is whole, and lies between its neighbours', (_what, payload) => {
      const ring = split();
      expect(ring.add(payload)).toBe(true);
      const whole = Buffer.concat([payload].flat().map((part) => Buffer.from(part)));
      expect(slotsOf(ring)[1]!.payload).toEqual(whole);
      expect(Buffer.from(ring.payloadAt(1))).toEqual(whole);
      expect(ring.bytes).toBe(80 + whole.length);
      expect(ring.release(1)).toBe(80);
      expect([ring.headSize(), ring.headPayload()]).toEqual([whole.length, whole]);
      expect(ring.add('behind')).toBe(true);
      expect(slotsOf(ring).map(({ payload }) => payload)).toEqual([whole, Buffer.from('behind')]);
      expect(ring.release(2)).toBe(whole.length + 6);
      // The same slots again, in the slab.
      for (const text of ['one', 'two!', 'three', 'four!!', 'five']) ring.add(text);
      expect(ring.texts).toEqual(['one', 'two!', 'three', 'four!!', 'five']);
    });

    it('and there is no memory either, it is refused, and nothing has changed', () => {
      let left = 1;
      const ring = new Ring(layout, AF_INET, false, (bytes) => {
        if (left-- === 0) throw new Error('ENOMEM');
        return allocateApart(bytes);
      });
      for (const size of [60, 80]) ring.add(Buffer.alloc(size, '.'));
      ring.release(1);
      expect(() => ring.add(Buffer.alloc(61))).toThrow('ENOMEM');
      expect([ring.bytes, ring.datagrams, ring.runs]).toEqual([80, 1, [[80]]]);
      expect(ring.add('behind')).toBe(true);
      expect(slotsOf(ring).map(({ payload }) => payload.length)).toEqual([80, 6]);
    });

    it('nothing joins it, not even an equal one', () => {
      const ring = new Ring({ ...layout, maxBytes: 200 });
      for (const size of [150, 80]) ring.add(Buffer.alloc(size, '.'));
      ring.release(1);
      for (const letter of ['a', 'b', 'c']) ring.add(Buffer.alloc(170, letter));
      expect(ring.runs).toEqual([[80], [170]]);
      ring.release(1);
      ring.add('x');
      expect(ring.texts.map((text) => text[0])).toEqual(['a', 'x']);
    });

    it('a shared payload has it once, and its last slot frees it', () => {
      const ring = split();
      ring.reader.readShared(Buffer.alloc(70, 's'));
      for (const port of [1, 2, 3]) {
        ring.reader.readPeer(endpoint(A.address, port));
        expect(ring.push(ring.reader, ring.sequence++, 0)).toBe(port === 1);
      }
      ring.release(1); // 70 bytes left
      ring.reader.readPeer(endpoint(A.address, 4));
      expect(ring.push(ring.reader, ring.sequence++, 0)).toBe(true);
      ring.endShared();
      ring.reader.clear();
      const pointers = slotsOf(ring).map(({ payload, name }) => [String(payload), describeName(name)]);
      expect(pointers).toEqual([1, 4].map((port) => ['s'.repeat(70), { ...A, port }]));
      expect(ring.bytes).toBe(140);
      ring.release(1);
      expect(ring.texts).toEqual(['s'.repeat(70)]);
      ring.release(1);
      ring.add('next');
      expect(ring.texts).toEqual(['next']);
    });
  });
});

describe('a recycled header', () => {
  it('never keeps the destination of the datagram before it', () => {
    const ring = new Ring({ ...PLAIN, slots: 2 });
    const targets = [A, B, { ...A, port: 3 }, { to: endpoint('127.0.0.2', 4) }, B, A];
    const names: object[] = [];
    for (const target of targets) {
      if (ring.datagrams === 2) ring.release(1);
      ring.add('x', target);
      names.push(describeName(slotsOf(ring).at(-1)!.name));
    }
    expect(names).toEqual([A, B, { ...A, port: 3 }, { address: '127.0.0.2', port: 4 }, B, A]);
  });

  it('never keeps the end of a longer path', () => {
    const ring = new Ring({ ...PLAIN, slots: 1, nameSize: SOCKADDR_UN_SIZE }, AF_UNIX);
    for (const path of ['/a/long/path/to/a/socket', '/b', '\0name', `/${'c'.repeat(106)}`, '/b']) {
      ring.add('x', { path });
      expect(describeName(slotsOf(ring)[0]!.name)).toEqual({ path });
      expect(describeName(ring.nameAt(0))).toEqual({ path });
      ring.release(1);
    }
  });

  it('never keeps the control message of a GSO run', () => {
    const ring = new Ring({ ...GSO, slots: 3 });
    for (const payload of ['aaaa', 'bbbb', 'cc']) ring.add(payload);
    expect(slotsOf(ring)[0]).toMatchObject({ controlLength: 24, segmentSize: 4 });
    ring.release(3);
    ring.add('alone');
    expect(slotsOf(ring)[0]).toMatchObject({ controlLength: 0, segmentSize: 0 });
  });

  it('holds no destination at all on a connected socket', () => {
    const ring = new Ring({ ...PLAIN, nameSize: 0 }, AF_INET, true);
    ring.add('x', {});
    expect(slotsOf(ring)[0]!.name.length).toBe(0);
    expect(ring.nameAt(0).length).toBe(0);
  });
});

describe('span', () => {
  it('is what lies in a row from the head: never across the end of the ring', () => {
    const ring = new Ring(PLAIN);
    for (const text of ['a', 'b', 'c', 'd']) ring.add(text);
    expect([ring.span(), ring.headAt]).toEqual([4, 0]);
    ring.release(3);
    expect([ring.span(), ring.headAt]).toEqual([1, 3 * MMSGHDR_SIZE]);
    ring.add('e');
    ring.add('f');
    expect([ring.span(), ring.slots]).toEqual([1, 3]);
    ring.release(1);
    expect([ring.span(), ring.headAt]).toEqual([2, 0]);
    expect(ring.texts).toEqual(['e', 'f']);
  });

  it('is at most 1024, and 0 for an empty ring', () => {
    const ring = new Ring({ ...PLAIN, slots: 3000, maxBytes: 1 << 16 });
    expect(ring.span()).toBe(0);
    for (let count = 0; count < 2000; count++) ring.add('x');
    expect(ring.span()).toBe(1024);
    ring.release(1024);
    expect(ring.span()).toBe(976);
  });

  it('reads msg_len of the slots counted from the head', () => {
    const ring = new Ring(PLAIN);
    for (const text of ['a', 'b', 'c']) ring.add(text);
    ring.release(1);
    ring.arena.u32[(MMSGHDR_SIZE + MSG_LEN) / 4] = 7;
    ring.arena.u32[(2 * MMSGHDR_SIZE + MSG_LEN) / 4] = 8;
    expect([ring.sentLengthAt(0), ring.sentLengthAt(1)]).toEqual([7, 8]);
  });
});

describe('a run with GSO', () => {
  const sized = (ring: Ring, sizes: readonly number[], to: object = A): Ring => {
    for (const size of sizes) expect(ring.add(Buffer.alloc(size, size), to)).toBe(true);
    return ring;
  };

  it.each([
    ['equal sizes join', [5, 5, 5], [[5, 5, 5]]],
    [
      'a shorter one ends the run',
      [5, 5, 3, 5, 5],
      [
        [5, 5, 3],
        [5, 5],
      ],
    ],
    ['a shorter one right behind the first ends it, too', [5, 3, 3], [[5, 3], [3]]],
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
    ['65 507 bytes are not too many', [32_754, 32_753, 1], [[32_754, 32_753], [1]]],
    ['not even a short one goes past 65 507 bytes', [32_754, 32_754], [[32_754], [32_754]]],
  ])('%s', (_rule, sizes, runs) => {
    const ring = sized(new Ring(GSO), sizes);
    expect(ring.runs).toEqual(runs);
    expect([ring.datagrams, ring.slots]).toEqual([sizes.length, runs.length]);
    expect(ring.bytes).toBe(sizes.reduce((sum, size) => sum + size, 0));
  });

  it('goes to one destination', () => {
    const ring = new Ring(GSO);
    for (const to of [A, A, B, A, { ...A, port: 9 }, { ...A, port: 9 }, { to: endpoint('127.0.0.1', 9) }])
      ring.add('x', to);
    expect(ring.runs).toEqual([[1, 1], [1], [1], [1, 1, 1]]);
    expect(slotsOf(ring).map(({ name }) => describeName(name))).toEqual([A, B, A, { ...A, port: 9 }]);
  });

  it('has one control', () => {
    const ring = new Ring(GSO);
    const voice = { ...A, dscp: 46 };
    const other = { ...A, from: '127.0.0.2' };
    for (const to of [A, A, voice, voice, voice, { ...voice, ecn: 1 }, other, { ...other }, A]) ring.add('x', to);
    expect(ring.runs).toEqual([[1, 1], [1, 1, 1], [1], [1, 1], [1]]);
    expect(slotsOf(ring).map(({ control }) => control.map(({ type }) => type))).toEqual([
      [],
      [IP_TOS],
      [IP_TOS],
      [IP_PKTINFO],
      [],
    ]);
  });

  it('of strings that are not all ASCII keeps its control when it falls apart', () => {
    const ring = new Ring(GSO);
    for (const text of ['aaaa', 'bbbb', 'éééé', 'öööö']) ring.add(text, { ...A, dscp: 46 });
    expect(ring.runs).toEqual([
      [4, 4],
      [8, 8],
    ]);
    expect(slotsOf(ring).map(tosOf)).toEqual([184, 184]);
  });

  it('has neighbours in the input and of one time', () => {
    const ring = new Ring(GSO);
    ring.add('x');
    ring.sequence++; // one that was rejected
    ring.add('x');
    ring.add('x', A, 1);
    ring.add('x', A, 1);
    expect(ring.runs).toEqual([[1], [1], [1, 1]]);
  });

  it('of strings counts, until it is looked at, the most bytes that they may have', () => {
    const ring = new Ring(GSO);
    for (const text of ['aaaa', 'bbbb', 'cccc']) ring.add(text);
    expect([ring.datagrams, ring.bytes]).toEqual([3, 4 + 2 * 4 * 3]);
    ring.commit();
    expect([ring.datagrams, ring.bytes]).toEqual([3, 12]);
    expect(ring.texts).toEqual(['aaaa', 'bbbb', 'cccc']);
  });

  it('of strings that are not all ASCII falls apart into what each of them is', () => {
    const ring = new Ring(GSO);
    const texts = ['aaaa', 'bbbb', 'éééé', 'öööö', 'c\ud83d', '\ude00d', 'eeee', 'ffff'];
    for (const text of texts) ring.add(text);
    expect(ring.texts).toEqual(texts.map((text) => Buffer.from(text).toString()));
    expect(ring.runs).toEqual([
      [4, 4],
      [8, 8, 4],
      [4, 4, 4],
    ]);
    expect(ring.bytes).toBe(40);
  });

  it.each([
    ['bytes', Buffer.from('cccc')],
    ['a shorter string', 'cc'],
  ])('is not joined by %s where the strings before have turned out to end it', (_what, next) => {
    const ring = new Ring(GSO);
    for (const payload of ['aaaa', 'éééé', 'bbbb', next, 'dddd']) ring.add(payload);
    expect(ring.texts).toEqual(['aaaa', 'éééé', 'bbbb', String(next), 'dddd']);
    expect(ring.runs.slice(0, 2)).toEqual([[4], [8, 4]]);
  });

  it('of strings keeps within what a message, the queue and the slab hold', () => {
    const ring = new Ring({ ...GSO, maxSegmentedBytes: 17 });
    for (let n = 0; n < 12; n++) ring.add('aaaa');
    expect(ring.texts).toHaveLength(12);
    expect(Math.max(...ring.runs.map((run) => run.length * 4))).toBeLessThanOrEqual(17);
    const small = new Ring({ ...GSO, maxBytes: 18 });
    for (let n = 0; n < 5; n++) expect(small.add('aaaa')).toBe(true);
    expect(small.add('aaaa')).toBe(false);
    expect(small.bytes).toBe(20);
    expect(Math.max(...small.runs.map((run) => run.length * 4))).toBeLessThanOrEqual(18);
  });

  it('of strings ends with a shorter one, with bytes, and where the queue is full', () => {
    const ring = new Ring({ ...GSO, slots: 6, maxBytes: 22 });
    for (const text of ['aaaa', 'bbbb', 'cccc']) ring.add(text);
    ring.add(Buffer.from('dddd'));
    ring.add('ee');
    expect(ring.runs).toEqual([[4, 4, 4, 4, 2]]);
    expect(ring.add('fffff')).toBe(true);
    expect(ring.add('')).toBe(false);
    expect(ring.texts).toEqual(['aaaa', 'bbbb', 'cccc', 'dddd', 'ee', 'fffff']);
  });

  it('is sealed once it was handed over', () => {
    const ring = sized(new Ring(GSO), [4, 4]);
    expect(ring.span()).toBe(1);
    expect(sized(ring, [4, 4]).runs).toEqual([
      [4, 4],
      [4, 4],
    ]);
  });

  it('does not reach over the end of the slab', () => {
    const ring = new Ring({ ...GSO, maxBytes: 20 }); // a slab of 40 bytes
    sized(ring, [8, 8]);
    ring.release(1);
    sized(ring, [8]);
    ring.release(1);
    sized(ring, [8]);
    ring.release(1);
    sized(ring, [8]);
    ring.release(1);
    sized(ring, [8]);
    expect(ring.runs).toEqual([[8], [8]]);
  });

  it('is trimmed by a partial release: the rest keeps its sizes, order and sequence', () => {
    const ring = sized(new Ring(GSO), [4, 4, 4, 3]);
    ring.release(2);
    expect(ring.runs).toEqual([[4, 3]]);
    expect([ring.datagrams, ring.slots, ring.bytes, ring.headSequence()]).toEqual([2, 1, 7, 2]);
    expect(ring.isHeadSegmented()).toBe(true);
    ring.release(1);
    expect(slotsOf(ring)[0]).toMatchObject({ controlLength: 0, payload: Buffer.alloc(3, 3) });
    expect(ring.isHeadSegmented()).toBe(false);
    expect(Buffer.from(ring.payloadAt(0))).toEqual(Buffer.alloc(3, 3));
    ring.release(1);
    expect([ring.datagrams, ring.slots, ring.bytes]).toEqual([0, 0, 0]);
  });

  it('that was trimmed is sealed', () => {
    const ring = sized(new Ring(GSO), [4, 4]);
    ring.release(1);
    expect(sized(ring, [4, 2]).runs).toEqual([[4], [4, 2]]);
  });

  it('counts in datagrams across slots', () => {
    const ring = sized(new Ring(GSO), [4, 4, 4, 0, 6, 6]);
    ring.span();
    expect([0, 1, 2, 3].map((slots) => ring.datagramsIn(slots))).toEqual([0, 3, 4, 6]);
    ring.release(5);
    expect([ring.datagrams, ring.slots, ring.bytes]).toEqual([1, 1, 6]);
  });
});

describe('the control of a slot', () => {
  const VOICE = { ...A, dscp: 46 };
  const FROM = { ...A, dscp: 46, from: '127.0.0.2' };
  const lengths = (ring: Ring): number[] => slotsOf(ring).map(({ controlLength }) => controlLength);
  const [TOS, PKTINFO, SEGMENT] = [24, 32, 24];

  it('is not left over from what the slot held before, in any order', () => {
    const kinds = [A, VOICE, FROM];
    for (const layout of [PLAIN, GSO]) {
      for (const before of kinds) {
        for (const after of kinds) {
          const ring = new Ring({ ...layout, slots: 2 });
          // Two that make a run, where there is GSO.
          ring.add('aaaa', before);
          ring.add('bbbb', before);
          slotsOf(ring);
          ring.release(2);
          ring.add('cccc', after);
          const size = { [0]: 0, [1]: TOS, [2]: TOS + PKTINFO }[kinds.indexOf(after)]!;
          expect(lengths(ring)).toEqual([size]);
          expect(slotsOf(ring)[0]!.control.length).toBe(kinds.indexOf(after));
          ring.add('dddd', after);
          if (layout === GSO) {
            expect(lengths(ring)).toEqual([size + SEGMENT]);
            expect(ring.runs).toEqual([[4, 4]]);
          } else expect(lengths(ring)).toEqual([size, size]);
          expect(slotsOf(ring)[0]!.control.length).toBe(kinds.indexOf(after));
        }
      }
    }
  });

  it('stays when the slot is trimmed; the segment size goes with the last but one', () => {
    const ring = new Ring(GSO);
    for (const text of ['aaaa', 'bbbb', 'cccc']) ring.add(text, FROM);
    expect(lengths(ring)).toEqual([TOS + PKTINFO + SEGMENT]);
    ring.release(1);
    expect(ring.runs).toEqual([[4, 4]]);
    expect(lengths(ring)).toEqual([TOS + PKTINFO + SEGMENT]);
    ring.release(1);
    expect(ring.texts).toEqual(['cccc']);
    expect(lengths(ring)).toEqual([TOS + PKTINFO]);
    expect(slotsOf(ring).map(tosOf)).toEqual([184]);
  });

  it.each([
    ['none', A, 0],
    ['one', VOICE, 1],
    ['two', FROM, 2],
  ])('stays with each datagram of a slot that is spilled, without the segment size: %s', (_what, to, messages) => {
    const ring = new Ring(GSO);
    for (const text of ['aaaa', 'bbbb', 'cc']) ring.add(text, to);
    ring.add('dddd', B);
    ring.span();
    ring.spillHead();
    expect(ring.span()).toBe(3);
    for (const text of ['aaaa', 'bbbb', 'cc']) {
      const slot = slotAt(ring.arena, ring.headAt);
      expect(String(slot.payload)).toBe(text);
      expect(slot.segmentSize).toBe(0);
      expect(slot.control.length).toBe(messages);
      ring.release(1);
    }
    expect(slotsOf(ring).map(({ controlLength }) => controlLength)).toEqual([0]);
  });

  it('leaves the neighbours alone, where both are as large as can be', () => {
    const to = { address: '::1', port: 1, dscp: 46, from: 'fe80::1%3' };
    const ring = new Ring({ ...GSO, slots: 6, maxSegments: 2, nameSize: SOCKADDR_IN6_SIZE }, AF_INET6);
    for (let lap = 0; lap < 2; lap++) {
      for (const text of ['aaaa', 'bbbb', 'cccc', 'dddd', 'eeee', 'ffff']) ring.add(text, to);
      const slots = slotsOf(ring);
      expect(slots.map(({ segmentSize, controlLength }) => [segmentSize, controlLength])).toEqual([
        [4, 112],
        [4, 112],
        [4, 112],
      ]);
      for (const { control } of slots) expect(control).toEqual(slots[0]!.control);
      expect(slots.map(tosOf)).toEqual([184, 184, 184]);
      ring.release(6);
    }
  });

  it('is that of the datagram, not of a broadcast after it', () => {
    const ring = new Ring(GSO);
    ring.add('x', FROM);
    ring.reader.readShared('shared');
    ring.reader.readPeer(endpoint(A.address, A.port));
    ring.push(ring.reader, ring.sequence++, 0);
    ring.endShared();
    ring.reader.clear();
    ring.add('y', FROM);
    expect(lengths(ring)).toEqual([TOS + PKTINFO, 0, TOS + PKTINFO]);
  });
});
