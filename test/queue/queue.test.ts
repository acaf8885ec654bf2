import { describe, expect, it } from 'vitest';
import { AF_INET } from '../../src/kernel/abi.ts';
import { Arena } from '../../src/kernel/libc.ts';
import type { Datagram, DatagramLike } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { describeName, endpoint } from '../../src/message/sockaddr.ts';
import type { QueueOptions } from '../../src/queue/queue.ts';
import { allocateApart, messagesOf, queueAndBatch, read, refusal } from '../support/lower.ts';

const A = { address: '127.0.0.1', port: 1 };
const SMALL: QueueOptions = { capacity: 4, maxBytes: 100 };

/** A queue, its batch, and a push that reads the datagram first and numbers it. */
function fixture(options: QueueOptions = SMALL, allocate = allocateApart) {
  const { queue, batch } = queueAndBatch(options, { nameSize: 16 }, allocate);
  const reader = new DatagramReader(AF_INET, false);
  let sequence = 0;
  const add = (payload: DatagramLike | Datagram['payload'], to: object = A): boolean => {
    reader.read({ payload, ...to } as Datagram);
    return queue.push(reader, sequence++, 0);
  };
  const texts = (): string[] => {
    queue.changes++; // planned anew, and all of it
    return messagesOf(batch).map(({ payload }) => String(payload));
  };
  return { queue, batch, reader, add, texts };
}

describe('push', () => {
  it('copies: what the caller does to its buffer afterwards does not show', () => {
    const { add, texts } = fixture();
    const mine = Buffer.from('before');
    add(mine);
    add([mine, 'x']);
    mine.fill('!');
    expect(texts()).toEqual(['before', 'beforex']);
  });

  it('answers false, with nothing changed, at the count and at the bytes', () => {
    const { queue, add, texts } = fixture();
    for (const text of ['a', 'b', 'c', 'd']) expect(add(text)).toBe(true);
    expect(add('e')).toBe(false);
    expect(add('')).toBe(false);
    expect(texts()).toEqual(['a', 'b', 'c', 'd']);
    expect(queue.datagrams).toBe(4);
    const wide = fixture({ capacity: 4, maxBytes: 10 });
    for (const text of ['123456', '789', '0abcdefghi']) expect(wide.add(text)).toBe(true);
    expect(wide.add('x')).toBe(false);
    expect(wide.add('')).toBe(false);
    expect([wide.queue.datagrams, wide.queue.bytes, wide.queue.largest]).toEqual([3, 19, 10]);
    expect(wide.texts()).toEqual(['123456', '789', '0abcdefghi']);
    const exact = fixture({ capacity: 4, maxBytes: 10 });
    expect(exact.add('1234567890')).toBe(true);
    expect(exact.add('')).toBe(false);
    expect([exact.queue.datagrams, exact.queue.bytes]).toEqual([1, 10]);
  });

  it.each([
    ['an empty queue', 0],
    ['a queue with some', 2],
    ['a full queue', 4],
  ])('throws EMSGSIZE into %s for a datagram larger than any queue may hold, with nothing changed', (_what, queued) => {
    const { queue, add, texts } = fixture();
    for (let count = 0; count < queued; count++) add('x');
    for (const payload of [
      Buffer.alloc(101),
      'x'.repeat(101),
      '€'.repeat(34),
      ['x'.repeat(100), 'y'],
      Buffer.alloc(500),
    ]) {
      expect(refusal(() => add(payload))).toMatchObject({ code: 'EMSGSIZE', errno: 90, syscall: 'sendmmsg' });
    }
    expect(texts()).toEqual(new Array(queued).fill('x'));
    expect([queue.datagrams, queue.bytes]).toEqual([queued, queued]);
  });

  it('counts the bytes of a text, not three for every character of it', () => {
    const { queue, add } = fixture();
    expect(add('x'.repeat(100))).toBe(true);
    expect(queue.bytes).toBe(100);
    queue.drop(1);
    expect(add('€'.repeat(33))).toBe(true);
    expect(queue.bytes).toBe(99);
  });

  it('of strings that are kept counts, until they are written, the most bytes that they may have', () => {
    const { queue, add, texts } = fixture();
    for (const text of ['aaaa', 'bbbb', 'cccc']) add(text);
    expect([queue.datagrams, queue.bytes]).toEqual([3, 4 + 2 * 4 * 3]);
    queue.commit();
    expect([queue.datagrams, queue.bytes]).toEqual([3, 12]);
    expect(texts()).toEqual(['aaaa', 'bbbb', 'cccc']);
  });

  it('that finds no memory is refused, and nothing has changed', () => {
    let isOver = false;
    const { queue, add, texts } = fixture({ capacity: 9, maxBytes: 1 << 20 }, (bytes) => {
      if (isOver) throw new Error('ENOMEM');
      return allocateApart(bytes);
    });
    add(Buffer.alloc(700, 'a'));
    texts(); // so that the batch has its memory
    isOver = true;
    expect(() => add(Buffer.alloc(700, 'b'))).toThrow('ENOMEM');
    expect([queue.bytes, queue.datagrams]).toEqual([700, 1]);
    expect(add('behind')).toBe(true);
    expect(texts()).toEqual(['a'.repeat(700), 'behind']);
  });
});

describe('a payload that is shared', () => {
  it('is written once, and stays until the last row that has it is gone, and the sharing over', () => {
    const { queue, batch, reader, add } = fixture({ capacity: 9, maxBytes: 1 << 16 });
    reader.readShared(Buffer.alloc(1000, 's'));
    const push = (port: number): void => {
      reader.readPeer(endpoint(A.address, port));
      expect(queue.push(reader, port, 0)).toBe(true);
    };
    push(1);
    const { tail } = queue.slab;
    for (const port of [2, 3]) push(port);
    expect(queue.slab.tail).toBe(tail);
    expect(queue.bytes).toBe(3000);
    batch.take(batch.plan()); // all rows are gone
    queue.push(read({ payload: 'between', ...A }), 5, 0);
    push(4);
    queue.endShared();
    reader.clear();
    add('behind');
    expect(messagesOf(batch).map(({ payload, name }) => [String(payload), describeName(name)])).toEqual([
      ['between', A],
      ['s'.repeat(1000), { ...A, port: 4 }],
      ['behind', A],
    ]);
  });
});

describe('memory', () => {
  /** A queue that counts the bytes that are allocated for it. */
  function counting(options: QueueOptions) {
    let bytes = 0;
    const all = fixture(options, (size) => {
      bytes += size;
      return new Arena(new ArrayBuffer(size), 0);
    });
    return { ...all, allocated: () => bytes };
  }

  it('is little for a queue that has hardly been used', () => {
    const { add, batch, allocated } = counting({ capacity: 1 << 20, maxBytes: 1 << 30 });
    for (let round = 0; round < 1000; round++) {
      add('state');
      batch.take(batch.plan());
    }
    expect(allocated()).toBeLessThan(8 << 10);
  });

  it('is used again by a source that is kept up with, and by one that fills the queue each time', () => {
    for (const datagrams of [64, 4000]) {
      const { queue, add, batch, allocated } = counting({ capacity: 4096, maxBytes: 8 << 20 });
      const payload = Buffer.alloc(1200);
      const round = (): void => {
        for (let count = 0; count < datagrams; count++) add(payload);
        while (queue.datagrams > 0) batch.take(batch.plan());
      };
      for (let count = 0; count < 5; count++) round();
      const before = allocated();
      for (let count = 0; count < 200; count++) round();
      expect(allocated()).toBe(before);
    }
  });

  it('is given back when it has not been needed for long', () => {
    const { queue, add, batch } = counting({ capacity: 4096, maxBytes: 8 << 20 });
    for (let count = 0; count < 4000; count++) add(Buffer.alloc(1200));
    while (queue.datagrams > 0) batch.take(batch.plan());
    expect(queue.slab.end).toBe(1 << 20);
    for (let count = 0; count < 200; count++) {
      add('state');
      batch.take(batch.plan());
    }
    expect(queue.slab.end).toBe(1024);
  });

  it.each([
    ['many small ones', 100, 3000],
    ['large ones', 60_000, 100],
  ])(
    'and rows stay within bounds where one datagram stays and others come and go behind it: %s',
    (_what, size, most) => {
      let allocated = 0;
      const { queue } = queueAndBatch({ capacity: 4096, maxBytes: 4 << 20, byDestination: true }, {}, (bytes) => {
        allocated += bytes;
        return new Arena(new ArrayBuffer(bytes), 0);
      });
      const reader = new DatagramReader(AF_INET, true);
      const push = (payload: Buffer): void => {
        reader.read(payload);
        expect(queue.push(reader, 0, 0)).toBe(true);
        queue.close();
      };
      push(Buffer.from('stays'));
      for (let round = 0; round < 200; round++) {
        for (let count = 0; count < most / 10; count++) push(Buffer.alloc(size));
        for (let row = queue.head + 1; row !== queue.tail; row++) {
          const place = row & queue.rows.mask;
          if (queue.rows.segments[place] === 1) queue.release(row, 1);
        }
        expect(queue.datagrams).toBe(1);
      }
      expect(queue.rows.capacity).toBeLessThan(most);
      expect(allocated).toBeLessThan(6 << 20); // of 120 MB, and 6 MB, that were written
      const place = queue.head & queue.rows.mask;
      const at = queue.rows.at[place]!;
      expect(String(queue.slab.arenaOf(queue.rows.chunk[place]!).u8.subarray(at, at + 5))).toBe('stays');
    },
  );
});
