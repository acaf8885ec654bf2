/** Latest state only: the ring against an array, in which a newer datagram takes the place of the one with its key. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endpoint } from '../../src/index.ts';
import { AF_INET, SOCKADDR_IN_SIZE } from '../../src/kernel/abi.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { sockaddrBytes, sockaddrOfAddress } from '../../src/message/sockaddr.ts';
import { ConflatingRing } from '../../src/queue/conflating-ring.ts';
import { allocateApart, attempt, slotsOf, tosOf } from '../support/lower.ts';

const payload = fc.oneof(
  fc.integer({ min: 0, max: 20 }).map((length) => Buffer.alloc(length, length)),
  fc.integer({ min: 10, max: 80 }).map((length) => Buffer.alloc(length, length)),
  fc.constantFrom('', 'a', 'éé', 'abc', '€uro'),
  fc.constant(['x', new Uint8Array([1, 2])] as const),
);
const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', undefined);
const port = fc.integer({ min: 1, max: 3 });
const dscp = fc.constantFrom(undefined, undefined, 46);
const operation = fc.oneof(
  { weight: 10, arbitrary: fc.record({ payload, key, port, dscp }) },
  { weight: 2, arbitrary: fc.record({ payload, peers: fc.array(fc.record({ key, port }), { maxLength: 5 }) }) },
  { weight: 2, arbitrary: fc.record({ release: fc.constantFrom(0, 0.3, 0.3, 0.5, 0.5, 0.7, 1) }) },
  { weight: 2, arbitrary: fc.record({ inFlight: fc.double({ min: 0, max: 1, noNaN: true }) }) },
);
interface Queued {
  readonly key: unknown;
  readonly payload: Buffer;
  readonly port: number;
  readonly dscp: number | undefined;
  readonly sequence: number;
}
const bytesOf = (model: readonly Queued[]): number => model.reduce((sum, { payload }) => sum + payload.length, 0);

describe('a conflating ring', () => {
  it('holds what an array holds, in order, byte for byte, to the right destinations', () => {
    let annexesEver = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.oneof(fc.integer({ min: 1, max: 80 }), fc.integer({ min: 12, max: 25 })),
        fc.array(operation, { maxLength: 60, size: 'max' }),
        (slots, maxBytes, operations) => {
          const layout = { slots, maxBytes, nameSize: SOCKADDR_IN_SIZE, maxSegments: 64, maxSegmentedBytes: 99 };
          let annexes = -1;
          const ring = new ConflatingRing(layout, (bytes) => {
            annexes++;
            return allocateApart(bytes);
          });
          const reader = new DatagramReader(AF_INET, false);
          let model: Queued[] = [];
          let sequence = 0;
          const push = (key: unknown, bytes: Buffer, port: number, dscp?: number): void => {
            reader.key = key;
            const before = ring.conflated;
            const outcome = attempt(() => ring.push(reader, sequence, 0));
            const queued = { key, payload: bytes, port, dscp, sequence };
            const index = key === undefined ? -1 : model.findLastIndex((each) => each.key === key);
            const isFull = bytesOf(model) >= maxBytes;
            // The others alone decide: it takes the place of its own bytes, and may exceed the limit by one.
            const mayReplace = index >= ring.inFlight && bytesOf(model) - model[index]!.payload.length < maxBytes;
            if (bytes.length > maxBytes) expect(outcome).toBe('EMSGSIZE');
            else if (index >= 0 && mayReplace) {
              expect([outcome, ring.conflated]).toEqual([true, before + 1]);
              model[index] = queued;
            } else {
              expect([outcome, ring.conflated]).toEqual([model.length < slots && !isFull, before]);
              if (outcome === true) model.push(queued);
            }
            sequence++;
          };
          for (const operation of operations) {
            if ('release' in operation) {
              const count = Math.max(ring.inFlight, Math.round(operation.release * model.length));
              ring.inFlight = 0;
              ring.release(count);
              model = model.slice(count);
            } else if ('inFlight' in operation) {
              ring.inFlight = Math.round(operation.inFlight * model.length);
            } else {
              const bytes = Buffer.concat([operation.payload].flat().map((part) => Buffer.from(part as string)));
              if ('peers' in operation) {
                reader.readShared(operation.payload);
                for (const { key, port } of operation.peers) {
                  reader.readPeer(endpoint('127.0.0.1', port));
                  push(key, bytes, port);
                }
                ring.endShared();
                reader.clear();
              } else {
                const { key, port, dscp } = operation;
                reader.read({ payload: operation.payload, address: '127.0.0.1', port, dscp });
                push(key, bytes, port, dscp);
              }
            }
            const held = slotsOf(ring);
            expect(held.map(({ payload }) => payload)).toEqual(model.map(({ payload }) => payload));
            expect(held.map(({ name }) => name)).toEqual(
              model.map(({ port }) => Buffer.from(sockaddrBytes({ sockaddr: sockaddrOfAddress('127.0.0.1'), port }))),
            );
            expect(held.map(tosOf)).toEqual(model.map(({ dscp }) => dscp && 4 * dscp));
            expect([ring.datagrams, ring.bytes]).toEqual([model.length, bytesOf(model)]);
            if (model.length > 0) expect(ring.headSequence()).toBe(model[0]!.sequence);
          }
          annexesEver += annexes;
        },
      ),
      { numRuns: 300 },
    );
    expect(annexesEver).toBeGreaterThan(0);
  });

  /** A ring without GSO of a connected socket, what it has allocated besides its own memory, and a push by key. */
  const keyed = (maxBytes: number) => {
    const allocated: number[] = [];
    const layout = { slots: 500, maxBytes, nameSize: 0, maxSegments: 1, maxSegmentedBytes: 0 };
    const ring = new ConflatingRing(layout, (bytes) => {
      allocated.push(bytes);
      return allocateApart(bytes);
    });
    allocated.length = 0;
    const reader = new DatagramReader(AF_INET, true);
    const push = (key: string, payload: string | Buffer): boolean => {
      reader.read(payload);
      reader.key = key;
      return ring.push(reader, 0, 0);
    };
    return { ring, push, allocated, held: () => slotsOf(ring).map(({ payload }) => String(payload)) };
  };

  it('keeps the newest of an almost empty queue, however often it grows, while an older one is in flight', () => {
    const { ring, push, held } = keyed(70_000);
    expect(push('a', 'flying')).toBe(true);
    ring.inFlight = 1;
    for (let size = 60_000; size < 60_200; size++) expect(push('b', 'x'.repeat(size))).toBe(true);
    expect(held()).toEqual(['flying', 'x'.repeat(60_199)]);
    expect([ring.datagrams, ring.conflated]).toEqual([2, 199]);
  });

  it.each([
    ['is moved together where at least half of the slab is gaps', 0, 0, []],
    ['but not while the kernel may be reading it: then it has memory of its own', 0, 1, [56]],
    ['nor for less than half', 14, 0, [56]],
  ])('what has no place in one piece %s', (_what, third, inFlight, expected) => {
    const { ring, push, held, allocated } = keyed(100);
    push('a', 'a'.repeat(45));
    for (const size of [46, 47, 48]) push('b', 'b'.repeat(size)); // up to 186 of 200 bytes
    push('c', Buffer.alloc(third, 'c'));
    ring.inFlight = inFlight;
    expect(push('b', 'B'.repeat(49))).toBe(true);
    expect(allocated).toEqual(expected); // in whole words
    expect(held()).toEqual(['a'.repeat(45), 'B'.repeat(49), 'c'.repeat(third)]);
    expect(ring.bytes).toBe(94 + third);
  });

  it('may exceed the limit of bytes by one that is rewritten, too; it is refused only if the others alone are as much', () => {
    const { ring, push, held } = keyed(100);
    push('a', 'a'.repeat(60));
    push('b', 'b'.repeat(30));
    expect(push('b', 'B'.repeat(100))).toBe(true);
    expect([ring.bytes, ring.datagrams, ring.conflated]).toEqual([160, 2, 1]);
    expect(push('a', 'A')).toBe(false); // the others are 100 bytes
    expect(push('c', '')).toBe(false);
    expect(push('b', 'b')).toBe(true);
    expect(push('a', 'A')).toBe(true);
    expect(held()).toEqual(['A', 'b']);
  });

  it('never writes to what the kernel may be reading', () => {
    const { ring, push } = keyed(40);
    for (const key of ['a', 'b']) push(key, `${key} flies`);
    ring.inFlight = 2;
    const flying = slotsOf(ring).map(({ payload }) => payload);
    for (let round = 0; round < 20; round++) push('a', `${round}`.padEnd(1 + (round % 9)));
    expect(
      slotsOf(ring)
        .slice(0, 2)
        .map(({ payload }) => payload),
    ).toEqual(flying);
    expect([ring.datagrams, ring.conflated]).toEqual([3, 19]);
  });

  it('remembers no more keys than twice what may be queued', async () => {
    const layout = { slots: 4, maxBytes: 400, nameSize: 0, maxSegments: 1, maxSegmentedBytes: 0 };
    const ring = new ConflatingRing(layout, allocateApart);
    const reader = new DatagramReader(AF_INET, true);
    const kept: WeakRef<object>[] = [];
    for (let round = 0; round < 1000; round++) {
      reader.read('state');
      reader.key = {};
      kept.push(new WeakRef(reader.key as object));
      ring.push(reader, round, 0);
      ring.release(1);
    }
    reader.clear();
    await new Promise((resolve) => setImmediate(resolve)); // a WeakRef holds its target until the turn is over
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as () => void)();
    expect(kept.filter((key) => key.deref() !== undefined).length).toBeLessThan(20);
  });
});
