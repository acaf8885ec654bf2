/** The ring against a plain array: whatever is pushed, sealed and released, the kernel sees what the array holds. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AF_INET, AF_INET6, AF_UNIX } from '../../src/kernel/abi.ts';
import { controlOf } from '../../src/message/cmsg.ts';
import type { Datagram } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { endpoint, sockaddrBytes, sockaddrOfAddress, sockaddrOfPath } from '../../src/message/sockaddr.ts';
import type { MmsgRing } from '../../src/queue/mmsg-ring.ts';
import { nameSizeOf } from '../../src/queue/mmsg-table.ts';
import { SegmentingRing } from '../../src/queue/segmenting-ring.ts';
import {
  allocateApart,
  attempt,
  type ControlMessage,
  controlMessages,
  datagramsOf,
  slotsOf,
} from '../support/lower.ts';

/** A datagram as the model holds it. */
interface Queued {
  readonly sequence: number;
  readonly queuedAt: number;
  readonly payload: Buffer;
  readonly name: Buffer;
  readonly control: readonly ControlMessage[];
  /** Calls of span() before it was pushed: two of different epochs never share a slot. */
  readonly epoch: number;
}

type Target = Omit<Datagram, 'payload'>;
type Marks = Pick<Datagram, 'dscp' | 'ecn' | 'from'>;
const IP = (address: string, port: number) => ({
  target: { address, port } as Target,
  name: Buffer.from(sockaddrBytes({ sockaddr: sockaddrOfAddress(address), port })),
});
const UNIX = (path: string) => ({
  target: { path },
  name: Buffer.from(sockaddrBytes({ sockaddr: sockaddrOfPath(path) })),
});

const NO_MARKS: readonly Marks[] = [{}];
// Of several lengths, so that one that is left over shows.
const MARKS: readonly Marks[] = [{}, { dscp: 46 }, { ecn: 2 }];
const MARKS_IPV4: readonly Marks[] = [...MARKS, { from: '127.0.0.2' }, { dscp: 46, from: '127.0.0.2' }];
const MARKS_IPV6: readonly Marks[] = [...MARKS, { from: 'fe80::2%3' }, { dscp: 46, from: 'fe80::2%3' }];

const SOCKETS = {
  udp4: {
    marks: MARKS_IPV4,
    family: AF_INET,
    isConnected: false,
    targets: [IP('127.0.0.1', 1), IP('127.0.0.1', 2), IP('10.0.0.9', 1)],
  },
  udp6: {
    marks: MARKS_IPV6,
    family: AF_INET6,
    isConnected: false,
    targets: [IP('::1', 1), IP('fe80::1%3', 1), IP('fe80::1%4', 1)],
  },
  unix: {
    marks: NO_MARKS,
    family: AF_UNIX,
    isConnected: false,
    targets: [UNIX('/a'), UNIX(`/${'b'.repeat(100)}`), UNIX('\0abstract')],
  },
  'a connected udp4': {
    marks: MARKS_IPV4,
    family: AF_INET,
    isConnected: true,
    targets: [{ target: {}, name: Buffer.alloc(0) }],
  },
};

// Few sizes, so that runs of equal ones come about by themselves.
const bytes = fc
  .constantFrom(0, 1, 4, 4, 4, 4, 4, 7, 7, 7, 30, 50)
  .chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
const text = fc.string({ unit: fc.constantFrom('a', 'é', '€', '😀', '\ud800'), maxLength: 8 });
// Strings of four characters, which are joined as a rope; some are not of four bytes, some are halves of one character.
const line = fc.constantFrom('aaaa', 'bbbb', 'cccc', 'dddd', 'eeee', 'ffff', 'g', 'hééh', 'iii\ud83d', '\ude00jjj');
const payload = fc.oneof(
  { arbitrary: bytes, weight: 4 },
  { arbitrary: line, weight: 8 },
  text,
  fc.array(fc.oneof(bytes, text), { maxLength: 3 }),
);
const operation = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      payload,
      target: fc.constantFrom(0, 0, 0, 0, 1, 2),
      marks: fc.constantFrom(0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('release' as const),
      share: fc.constantFrom(0, 0.3, 0.3, 0.5, 0.5, 0.7, 1),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'look' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('share' as const),
      payload,
      among: fc.array(fc.constantFrom(0, 1, 2), { maxLength: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom({ do: 'span' as const }, { do: 'tick' as const }, { do: 'skip' as const }) },
);
const layout = fc.record({
  slots: fc.integer({ min: 1, max: 12 }),
  // Little, so that the slab often has no place in one piece.
  maxBytes: fc.oneof(fc.integer({ min: 1, max: 90 }), fc.integer({ min: 7, max: 12 })),
  maxSegments: fc.constantFrom(1, 2, 3, 64),
  maxSegmentedBytes: fc.constantFrom(8, 17, 65_507),
});

describe.each(Object.entries(SOCKETS))('the ring of %s socket', (_name, { family, isConnected, targets, marks }) => {
  it('holds what an array holds, in order, byte for byte, to the right destinations, with the right control', () => {
    let annexesEver = 0;
    fc.assert(
      fc.property(layout, fc.array(operation, { maxLength: 70, size: 'max' }), (layout, operations) => {
        let annexes = -1;
        const ring = new SegmentingRing({ ...layout, nameSize: nameSizeOf(family, isConnected) }, (bytes) => {
          annexes++;
          return allocateApart(bytes);
        });
        const reader = new DatagramReader(family, isConnected);
        let model: Queued[] = [];
        let [sequence, now, epoch] = [0, 0, 0];
        const bytesOf = (): number => model.reduce((sum, { payload }) => sum + payload.length, 0);
        /** Pushes what was read: a ring that is not full takes it, whatever its size, and so exceeds its bytes by one at most. */
        const push = (payload: Buffer, name: Buffer, control: readonly ControlMessage[]): void => {
          const isTooLong = payload.length > layout.maxBytes;
          const isRoom = !isTooLong && model.length < layout.slots && bytesOf() < layout.maxBytes;
          // Looking writes what is pending: only where nothing may change.
          const before = isRoom ? undefined : picture(ring);
          const outcome = attempt(() => ring.push(reader, sequence, now));
          expect(outcome).toBe(isTooLong ? 'EMSGSIZE' : isRoom);
          if (outcome === true) model.push({ sequence, queuedAt: now, payload, name, control, epoch });
          else expect(picture(ring)).toEqual(before);
          expect(ring.datagrams).toBe(model.length);
          expect(ring.bytes).toBeGreaterThanOrEqual(bytesOf());
          sequence++;
        };
        for (const operation of operations) {
          switch (operation.do) {
            case 'push': {
              const { target, name } = targets[operation.target % targets.length]!;
              const { dscp, ecn, from } = marks[operation.marks % marks.length]!;
              reader.read({ payload: operation.payload, ...target, dscp, ecn, from });
              const control = controlMessages(
                Buffer.from(controlOf(family, dscp, ecn, from)?.words.buffer ?? new ArrayBuffer(0)),
              );
              push(encodedOf(operation.payload), name, control);
              break;
            }
            case 'share': {
              reader.readShared(operation.payload);
              for (const each of operation.among) {
                const { target, name }: { target: Target; name: Buffer } = targets[each % targets.length]!;
                if (target.address === undefined) continue; // endpoints are of IP, and of a socket that is not connected
                reader.readPeer(endpoint(target.address, target.port!));
                push(encodedOf(operation.payload), name, []);
              }
              ring.endShared();
              reader.clear();
              break;
            }
            case 'release': {
              const count = Math.round(operation.share * model.length);
              const gone = model.slice(0, count).reduce((sum, { payload }) => sum + payload.length, 0);
              expect(ring.release(count)).toBe(gone);
              model = model.slice(count);
              break;
            }
            case 'span': {
              const span = ring.span();
              expect(span).toBeLessThanOrEqual(ring.slots);
              expect(span > 0).toBe(ring.slots > 0);
              epoch++;
              break;
            }
            case 'tick':
              now++;
              break;
            case 'skip':
              sequence++;
              break;
            case 'look':
              agree(ring, model, layout);
          }
        }
        agree(ring, model, layout);
        ring.release(model.length);
        annexesEver += annexes;
      }),
      { numRuns: 200 },
    );
    expect(annexesEver).toBeGreaterThan(0);
  });
});

function encodedOf(payload: Datagram['payload']): Buffer {
  return Buffer.concat([payload].flat().map((part) => Buffer.from(part as string)));
}

function picture(ring: MmsgRing): unknown {
  return { slots: slotsOf(ring), datagrams: ring.datagrams, bytes: ring.bytes };
}

/** Holds the ring to the model: counts, then slot by slot as the kernel would read them. */
function agree(ring: MmsgRing, model: Queued[], layout: { maxSegments: number; maxSegmentedBytes: number }): void {
  const slots = slotsOf(ring);
  expect(ring.datagrams).toBe(model.length);
  expect(ring.bytes).toBe(model.reduce((sum, { payload }) => sum + payload.length, 0));
  expect(ring.largest).toBeGreaterThanOrEqual(Math.max(0, ...model.map(({ payload }) => payload.length)));
  const split = slots.map(datagramsOf);
  expect(split.flat()).toEqual(model.map(({ payload }) => payload));
  let from = 0;
  for (const [index, slot] of slots.entries()) {
    const held = model.slice(from, from + split[index]!.length);
    from += held.length;
    expect(ring.datagramsIn(index + 1)).toBe(from);
    const [first] = held;
    expect(held.map(({ name }) => name)).toEqual(held.map(() => slot.name));
    expect(held.map(({ control }) => control)).toEqual(held.map(() => slot.control));
    expect(held.map(({ epoch, queuedAt }) => [epoch, queuedAt])).toEqual(
      held.map(() => [first!.epoch, first!.queuedAt]),
    );
    expect(held.map(({ sequence }) => sequence)).toEqual(held.map((_, offset) => first!.sequence + offset));
    expect(held.length).toBeLessThanOrEqual(layout.maxSegments);
    const size = slot.control.reduce((sum, { data }) => sum + 16 + ((data.length + 7) & ~7), 0);
    expect(slot.controlLength).toBe(size + (held.length > 1 ? 24 : 0));
    if (held.length > 1) {
      expect(slot.payload.length).toBeLessThanOrEqual(layout.maxSegmentedBytes);
      expect(held.slice(0, -1).every(({ payload }) => payload.length === slot.segmentSize)).toBe(true);
      expect(held.at(-1)!.payload.length).toBeGreaterThan(0);
    }
    expect(Buffer.from(ring.payloadAt(index))).toEqual(first!.payload);
    expect(Buffer.from(ring.nameAt(index))).toEqual(first!.name);
  }
  if (model.length > 0) {
    expect(ring.headSequence()).toBe(model[0]!.sequence);
    expect(ring.headQueuedAt()).toBe(model[0]!.queuedAt);
    expect(ring.isHeadSegmented()).toBe(split[0]!.length > 1);
  }
}
