/** Latest state only: the queue against an array, in which a newer datagram takes the place of the one with its key. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endpoint } from '../../src/index.ts';
import { AF_INET, SOCKADDR_IN_SIZE } from '../../src/kernel/abi.ts';
import { Arena } from '../../src/kernel/libc.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { sockaddrBytes, sockaddrOfAddress } from '../../src/message/sockaddr.ts';
import { attempt, datagramsOf, messagesOf, queueAndBatch, tosOf } from '../support/lower.ts';

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
  { weight: 2, arbitrary: fc.record({ take: fc.constantFrom(0, 0.3, 0.3, 0.5, 0.5, 0.7, 1) }) },
  { weight: 1, arbitrary: fc.record({ drop: fc.constantFrom(0, 1, 2) }) },
  { weight: 2, arbitrary: fc.constant('fly' as const) },
);
interface Queued {
  readonly key: unknown;
  readonly payload: Buffer;
  readonly port: number;
  readonly dscp: number | undefined;
  readonly sequence: number;
  /** Whether the kernel may be reading it. */
  isFlying: boolean;
}
const bytesOf = (model: readonly Queued[]): number => model.reduce((sum, { payload }) => sum + payload.length, 0);

describe('a queue of the latest state', () => {
  it.each([1, 64])(
    'holds what an array holds, in order, byte for byte, to the right destinations; segments: %i',
    (maxSegments) => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 24 }),
          fc.oneof(fc.integer({ min: 1, max: 80 }), fc.integer({ min: 12, max: 25 }), fc.constant(1 << 20)),
          fc.array(operation, { maxLength: 80, size: 'max' }),
          (capacity, maxBytes, operations) => {
            const { queue, batch } = queueAndBatch(
              { capacity, maxBytes, byKey: true },
              { nameSize: SOCKADDR_IN_SIZE, maxSegments, maxSegmentedBytes: 99 },
            );
            const reader = new DatagramReader(AF_INET, false);
            let model: Queued[] = [];
            let sequence = 0;
            /** The messages as the kernel would read them: how many datagrams each has. */
            const agree = (count?: number): number[] => {
              const messages = messagesOf(batch, count);
              const held = messages.flatMap((message) =>
                datagramsOf(message).map((payload) => ({ payload, name: message.name, tos: tosOf(message) })),
              );
              expect(held).toEqual(
                model.slice(0, held.length).map(({ payload, port, dscp }) => ({
                  payload,
                  name: Buffer.from(sockaddrBytes({ sockaddr: sockaddrOfAddress('127.0.0.1'), port })),
                  tos: dscp && 4 * dscp,
                })),
              );
              return messages.map((message) => datagramsOf(message).length);
            };
            const land = (): void => {
              queue.isInFlight = false;
              for (const each of model) each.isFlying = false;
            };
            const push = (key: unknown, bytes: Buffer, port: number, dscp?: number): void => {
              reader.key = key;
              const before = queue.conflated;
              const outcome = attempt(() => queue.push(reader, sequence, 0));
              const queued = { key, payload: bytes, port, dscp, sequence, isFlying: false };
              const index = key === undefined ? -1 : model.findLastIndex((each) => each.key === key);
              const isFull = bytesOf(model) >= maxBytes;
              // The others alone decide: it takes the place of its own bytes, and may exceed the limit by one.
              const mayReplace =
                index >= 0 && !model[index]!.isFlying && bytesOf(model) - model[index]!.payload.length < maxBytes;
              if (bytes.length > maxBytes) expect(outcome).toBe('EMSGSIZE');
              else if (mayReplace) {
                expect([outcome, queue.conflated]).toEqual([true, before + 1]);
                model[index] = queued;
              } else {
                expect([outcome, queue.conflated]).toEqual([model.length < capacity && !isFull, before]);
                if (outcome === true) model.push(queued);
              }
              sequence++;
            };
            let flying: number | undefined;
            for (const operation of operations) {
              if (operation === 'fly') {
                if (flying !== undefined || model.length === 0) continue;
                const segments = agree();
                flying = segments.length;
                queue.isInFlight = true;
                for (const each of model.slice(
                  0,
                  segments.reduce((sum, each) => sum + each, 0),
                ))
                  each.isFlying = true;
              } else if ('take' in operation) {
                const segments = agree(flying);
                const count = Math.round(operation.take * segments.length);
                land();
                flying = undefined;
                batch.take(count);
                model = model.slice(segments.slice(0, count).reduce((sum, each) => sum + each, 0));
              } else if ('drop' in operation) {
                if (flying !== undefined) continue;
                const count = Math.min(operation.drop, model.length);
                queue.drop(count);
                model = model.slice(count);
              } else {
                const bytes = Buffer.concat([operation.payload].flat().map((part) => Buffer.from(part as string)));
                if ('peers' in operation) {
                  reader.readShared(operation.payload);
                  for (const { key, port } of operation.peers) {
                    reader.readPeer(endpoint('127.0.0.1', port));
                    push(key, bytes, port);
                  }
                  queue.endShared();
                  reader.clear();
                } else {
                  const { key, port, dscp } = operation;
                  reader.read({ payload: operation.payload, address: '127.0.0.1', port, dscp });
                  push(key, bytes, port, dscp);
                }
              }
              // What the kernel may be reading is what it was.
              agree(flying);
              expect([queue.datagrams, queue.bytes]).toEqual([model.length, bytesOf(model)]);
              if (model.length > 0) expect(queue.headSequence()).toBe(model[0]!.sequence);
            }
          },
        ),
        { numRuns: 400 },
      );
    },
  );

  /** A queue without GSO of a connected socket, and a push by key. */
  const keyed = (maxBytes: number) => {
    const { queue, batch } = queueAndBatch({ capacity: 500, maxBytes, byKey: true });
    const reader = new DatagramReader(AF_INET, true);
    const push = (key: string, payload: string | Buffer): boolean => {
      reader.read(payload);
      reader.key = key;
      return queue.push(reader, 0, 0);
    };
    return { queue, batch, push, held: () => messagesOf(batch).map(({ payload }) => String(payload)) };
  };

  it('keeps the newest of an almost empty queue, however often it grows, while an older one is in flight', () => {
    const { queue, batch, push, held } = keyed(70_000);
    expect(push('a', 'flying')).toBe(true);
    batch.plan();
    queue.isInFlight = true;
    for (let size = 60_000; size < 60_200; size++) expect(push('b', 'x'.repeat(size))).toBe(true);
    queue.isInFlight = false;
    expect(held()).toEqual(['flying']); // what is left of the plan goes first
    batch.take(1);
    expect(held()).toEqual(['x'.repeat(60_199)]);
    expect([queue.datagrams, queue.conflated]).toEqual([1, 199]);
  });

  it('takes no more memory than a few times what is queued, though a newer state is often longer than the older', () => {
    let allocated = 0;
    const { queue } = queueAndBatch({ capacity: 500, maxBytes: 1 << 20, byKey: true }, {}, (bytes) => {
      allocated += bytes;
      return new Arena(new ArrayBuffer(bytes), 0);
    });
    const reader = new DatagramReader(AF_INET, true);
    for (let round = 0; round < 400; round++) {
      for (const key of ['a', 'b', 'c']) {
        reader.read(Buffer.alloc(10_000 + 50 * round, key));
        reader.key = key;
        expect(queue.push(reader, 0, 0)).toBe(true);
      }
    }
    expect(queue.bytes).toBe(3 * (10_000 + 50 * 399));
    expect(allocated).toBeLessThan(8 << 20); // 24 MB were written
  });

  it('may exceed the limit of bytes by one that is rewritten, too; it is refused only if the others alone are as much', () => {
    const { queue, push, held } = keyed(100);
    push('a', 'a'.repeat(60));
    push('b', 'b'.repeat(30));
    expect(push('b', 'B'.repeat(100))).toBe(true);
    expect([queue.bytes, queue.datagrams, queue.conflated]).toEqual([160, 2, 1]);
    expect(push('a', 'A')).toBe(false); // the others are 100 bytes
    expect(push('c', '')).toBe(false);
    expect(push('b', 'b')).toBe(true);
    expect(push('a', 'A')).toBe(true);
    expect(held()).toEqual(['A', 'b']);
  });

  it('never writes to what the kernel may be reading', () => {
    const { queue, batch, push } = keyed(40);
    for (const key of ['a', 'b']) push(key, `${key} flies`);
    const flying = messagesOf(batch).map(({ payload }) => payload);
    queue.isInFlight = true;
    for (let round = 0; round < 20; round++) push('a', `${round}`.padEnd(1 + (round % 9)));
    expect(messagesOf(batch, 2).map(({ payload }) => payload)).toEqual(flying);
    expect([queue.datagrams, queue.conflated]).toEqual([3, 19]);
  });

  it('lets go of the keys of what is gone', async () => {
    const { queue, batch } = queueAndBatch({ capacity: 4, maxBytes: 400, byKey: true });
    const reader = new DatagramReader(AF_INET, true);
    const kept: WeakRef<object>[] = [];
    for (let round = 0; round < 1000; round++) {
      reader.read('state');
      reader.key = {};
      kept.push(new WeakRef(reader.key as object));
      queue.push(reader, round, 0);
      batch.take(batch.plan());
    }
    reader.clear();
    await new Promise((resolve) => setImmediate(resolve)); // a WeakRef holds its target until the turn is over
    setFlagsFromString('--expose-gc');
    (runInNewContext('gc') as () => void)();
    expect(kept.filter((key) => key.deref() !== undefined).length).toBeLessThan(20);
  });
});
