/** Latest state only: the ring against an array, in which a newer datagram takes the place of the one with its key. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AF_INET, SOCKADDR_IN_SIZE } from '../src/abi.ts';
import { ConflatingRing } from '../src/conflating-ring.ts';
import { DatagramReader } from '../src/datagram-reader.ts';
import { endpoint } from '../src/index.ts';
import { allocateDetached } from '../src/libc.ts';
import { sockaddrBytes, sockaddrOfAddress } from '../src/sockaddr.ts';
import { attempt, slotsOf, tosOf } from './support/lower.ts';

const payload = fc.oneof(
  fc.integer({ min: 0, max: 20 }).map((length) => Buffer.alloc(length, length)),
  fc.constantFrom('', 'a', 'éé', 'abc', '€uro'),
  fc.constant(['x', new Uint8Array([1, 2])] as const),
);
const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', undefined);
const port = fc.integer({ min: 1, max: 3 });
const dscp = fc.constantFrom(undefined, undefined, 46);
const operation = fc.oneof(
  { weight: 10, arbitrary: fc.record({ payload, key, port, dscp }) },
  { weight: 2, arbitrary: fc.record({ payload, peers: fc.array(fc.record({ key, port }), { maxLength: 5 }) }) },
  { weight: 2, arbitrary: fc.record({ release: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ inFlight: fc.double({ min: 0, max: 1, noNaN: true }) }) },
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
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 80 }),
        fc.array(operation, { maxLength: 150 }),
        (slots, maxBytes, operations) => {
          const layout = { slots, maxBytes, nameSize: SOCKADDR_IN_SIZE, maxSegments: 64, maxSegmentedBytes: 99 };
          const ring = new ConflatingRing(layout, allocateDetached);
          const reader = new DatagramReader(AF_INET, false);
          let model: Queued[] = [];
          let sequence = 0;
          const push = (key: unknown, bytes: Buffer, port: number, dscp?: number): void => {
            reader.key = key;
            const before = ring.conflated;
            const outcome = attempt(() => ring.push(reader, sequence, 0));
            const queued = { key, payload: bytes, port, dscp, sequence };
            const index = key === undefined ? -1 : model.findLastIndex((each) => each.key === key);
            const mayReplace = index >= ring.inFlight;
            const fits = mayReplace && bytesOf(model) - model[index]!.payload.length + bytes.length <= maxBytes;
            // While the kernel reads the slab, nothing is moved to make room: then a newer one may not fit.
            if (fits && ring.inFlight === 0) expect([outcome, ring.conflated]).toEqual([true, before + 1]);
            if (ring.conflated > before) {
              expect([fits, outcome]).toEqual([true, true]);
              model[index] = queued;
            } else if (outcome === true) model.push(queued);
            else if (outcome === false)
              expect(model.length < slots && bytesOf(model) + bytes.length <= maxBytes / 2).toBe(false);
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
        },
      ),
      { numRuns: 600 },
    );
  });

  it('never writes to what the kernel may be reading', () => {
    const layout = { slots: 8, maxBytes: 40, nameSize: 0, maxSegments: 1, maxSegmentedBytes: 0 };
    const ring = new ConflatingRing(layout, allocateDetached);
    const reader = new DatagramReader(AF_INET, true);
    const push = (key: string, text: string): boolean => {
      reader.read(text);
      reader.key = key;
      return ring.push(reader, 0, 0);
    };
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
    const ring = new ConflatingRing(layout, allocateDetached);
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
