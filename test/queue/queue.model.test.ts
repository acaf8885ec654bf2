/**
 * The queue and its batch against a plain array: whatever is pushed, planned, taken, split, refused and dropped, the kernel sees what the
 * array holds, in its order, or in that of each destination.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AF_INET, AF_INET6, AF_UNIX } from '../../src/kernel/abi.ts';
import { controlOf } from '../../src/message/cmsg.ts';
import type { Datagram } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { endpoint, sockaddrBytes, sockaddrOfAddress, sockaddrOfPath } from '../../src/message/sockaddr.ts';
import { nameSizeOf } from '../../src/queue/batch.ts';
import {
  attempt,
  type ControlMessage,
  controlMessages,
  datagramsOf,
  type MessageView,
  messagesOf,
  queueAndBatch,
} from '../support/lower.ts';

/** A datagram as the model holds it. */
interface Queued {
  readonly sequence: number;
  readonly queuedAt: number;
  readonly payload: Buffer;
  readonly name: Buffer;
  readonly control: readonly ControlMessage[];
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
// Strings of four characters, which are kept and written as one; some are not of four bytes, some are halves of one character.
const line = fc.constantFrom('aaaa', 'bbbb', 'cccc', 'dddd', 'eeee', 'ffff', 'g', 'hééh', 'iii\ud83d', '\ude00jjj');
const payload = fc.oneof(
  { arbitrary: bytes, weight: 4 },
  { arbitrary: line, weight: 8 },
  text,
  { arbitrary: fc.array(fc.oneof(bytes, line, text), { maxLength: 3 }), weight: 2 },
  { arbitrary: fc.array(fc.constantFrom(new Uint8Array(2), 'cd'), { minLength: 2, maxLength: 2 }), weight: 2 },
);
const share = fc.constantFrom(0, 0.3, 0.3, 0.5, 0.5, 0.7, 1);
const operation = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      payload,
      target: fc.constantFrom(0, 0, 0, 0, 1, 2),
      marks: fc.constantFrom(0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4),
      segmentSize: fc.constantFrom(undefined, undefined, undefined, undefined, undefined, undefined, 1, 4, 4, 7, 100),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('take' as const), share }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fly' as const), share }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drop' as const), share: fc.constantFrom(0, 0.2, 0.5, 1) }) },
  {
    weight: 2,
    arbitrary: fc.constantFrom({ do: 'look' as const }, { do: 'split' as const }, { do: 'refuse' as const }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('share' as const),
      payload,
      among: fc.array(fc.constantFrom(0, 1, 2), { maxLength: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom({ do: 'commit' as const }, { do: 'tick' as const }, { do: 'skip' as const }),
  },
);
const limits = fc.record({
  capacity: fc.integer({ min: 1, max: 40 }),
  maxBytes: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 7, max: 12 }), fc.constant(1 << 16)),
});
const layout = fc.record({
  maxSegments: fc.constantFrom(1, 2, 3, 64),
  maxSegmentedBytes: fc.constantFrom(8, 17, 65_507),
});

describe.each(Object.entries(SOCKETS))('the queue of %s socket', (_name, { family, isConnected, targets, marks }) => {
  it.each([
    ['in order', false],
    ['in the order of each destination', true],
  ])(
    'holds what an array holds, %s, byte for byte, to the right destinations, with the right control',
    (_order, byDestination) => {
      fc.assert(
        fc.property(
          limits,
          layout,
          fc.array(operation, { maxLength: 80, size: 'max' }),
          (limits, layout, operations) => {
            const { queue, batch } = queueAndBatch(
              { ...limits, byDestination },
              { ...layout, nameSize: nameSizeOf(family, isConnected) },
            );
            const reader = new DatagramReader(family, isConnected);
            let model: Queued[] = [];
            let [sequence, now] = [0, 0];
            const bytesOf = (datagrams: readonly Queued[]): number =>
              datagrams.reduce((sum, { payload }) => sum + payload.length, 0);
            const counts = (): void => {
              queue.commit();
              expect([queue.datagrams, queue.bytes]).toEqual([model.length, bytesOf(model)]);
            };
            /** The datagrams of the messages that are planned, as the model has them. */
            const planned = (): Queued[][] => agree(messagesOf(batch), model, layout, byDestination);
            const forget = (gone: readonly Queued[]): void => {
              model = model.filter((each) => !gone.includes(each));
              counts();
            };
            /** Pushes what was read: a queue that is not full takes it, whatever its size, and so exceeds its limits by one at most. */
            const push = (
              payload: Buffer,
              name: Buffer,
              control: readonly ControlMessage[],
              segmentSize?: number,
            ): void => {
              const isTooLong = payload.length > limits.maxBytes;
              const isRoom = !isTooLong && model.length < limits.capacity && bytesOf(model) < limits.maxBytes;
              const outcome = attempt(() => queue.push(reader, sequence, now));
              expect(outcome).toBe(isTooLong ? 'EMSGSIZE' : isRoom);
              if (isRoom) {
                const size = segmentSize ?? Math.max(payload.length, 1);
                for (let at = 0; at === 0 || at < payload.length; at += size) {
                  model.push({ sequence, queuedAt: now, payload: payload.subarray(at, at + size), name, control });
                }
              } else counts();
              expect(queue.datagrams).toBe(model.length);
              expect(queue.bytes).toBeGreaterThanOrEqual(bytesOf(model));
              sequence++;
            };
            for (const operation of operations) {
              switch (operation.do) {
                case 'push': {
                  const { target, name } = targets[operation.target % targets.length]!;
                  const { dscp, ecn, from } = marks[operation.marks % marks.length]!;
                  const { payload, segmentSize } = operation;
                  reader.read({ payload, ...target, dscp, ecn, from, segmentSize });
                  const control = controlMessages(
                    Buffer.from(controlOf(family, dscp, ecn, from)?.words.buffer ?? new ArrayBuffer(0)),
                  );
                  push(encodedOf(payload), name, control, segmentSize);
                  break;
                }
                case 'share': {
                  reader.readShared(operation.payload);
                  for (const each of operation.among) {
                    const { target, name }: { target: Target; name: Buffer } = targets[each % targets.length]!;
                    if (target.address === undefined) continue; // endpoints are of IP, and of a socket that is not connected
                    reader.readPeer(endpoint(target.address, target.port!));
                    push(encodedOf(operation.payload), name, []);
                    // What was sent meanwhile leaves the payload to those that still come.
                    if (sequence % 3 === 0 && model.length > 0) {
                      const gone = planned()[0]!;
                      batch.take(1);
                      forget(gone);
                    }
                  }
                  queue.endShared();
                  reader.clear();
                  break;
                }
                case 'take': {
                  const messages = planned();
                  const count = Math.round(operation.share * messages.length);
                  const gone = messages.slice(0, count).flat();
                  expect(batch.datagramsIn(count)).toBe(gone.length);
                  expect(batch.unsegmentedIn(count)).toBe(
                    messages.slice(0, count).filter(({ length }) => length === 1).length,
                  );
                  expect(batch.take(count)).toBe(bytesOf(gone));
                  forget(gone);
                  // The rest of the plan is what it was.
                  if (messages.length > count) expect(planned()).toEqual(messages.slice(count));
                  break;
                }
                case 'fly': {
                  // What is pushed while a call is out leaves the batch alone, even where the queue grows.
                  const messages = planned();
                  const before = messagesOf(batch);
                  queue.isInFlight = true;
                  for (let count = 0; count < 30; count++) {
                    const { target, name } = targets[count % targets.length]!;
                    reader.read({ payload: 'flight', ...target });
                    push(Buffer.from('flight'), name, []);
                  }
                  queue.isInFlight = false;
                  expect(messagesOf(batch, messages.length)).toEqual(before);
                  const count = Math.round(operation.share * messages.length);
                  batch.take(count);
                  forget(messages.slice(0, count).flat());
                  break;
                }
                case 'drop': {
                  counts();
                  const count = Math.round(operation.share * model.length);
                  queue.drop(count);
                  forget(model.slice(0, count));
                  break;
                }
                case 'split': {
                  const [head = []] = planned();
                  if (head.length < 2) break;
                  expect(batch.isHeadSegmented).toBe(true);
                  batch.split();
                  const messages = planned();
                  expect(messages).toEqual(head.map((each) => [each]));
                  expect([batch.isSplit, batch.isHeadSegmented]).toEqual([true, false]);
                  break;
                }
                case 'refuse': {
                  if (model.length === 0) break;
                  const [first] = planned()[0]!;
                  expect([batch.headSequence, batch.headSize]).toEqual([first!.sequence, first!.payload.length]);
                  expect([Buffer.from(batch.headPayload()), Buffer.from(batch.headName())]).toEqual([
                    first!.payload,
                    first!.name,
                  ]);
                  batch.takeOne();
                  forget([first!]);
                  break;
                }
                case 'commit':
                  counts();
                  break;
                case 'tick':
                  now++;
                  break;
                case 'skip':
                  sequence++;
                  break;
                case 'look':
                  planned();
              }
              if (model.length > 0) {
                expect([queue.headSequence(), queue.headQueuedAt()]).toEqual([model[0]!.sequence, model[0]!.queuedAt]);
              }
            }
            while (model.length > 0) {
              const gone = planned();
              expect(gone.length).toBeGreaterThan(0);
              batch.take(gone.length);
              forget(gone.flat());
            }
            expect(batch.plan()).toBe(0);
          },
        ),
        { numRuns: 250 },
      );
    },
  );
});

function encodedOf(payload: Datagram['payload']): Buffer {
  return Buffer.concat([payload].flat().map((part) => Buffer.from(part as string)));
}

/** Holds messages, as the kernel would read them, to the model: which of its datagrams they are. */
function agree(
  messages: readonly MessageView[],
  model: readonly Queued[],
  layout: { maxSegments: number; maxSegmentedBytes: number },
  byDestination: boolean,
): Queued[][] {
  const left = [...model];
  return messages.map((message) => {
    const held = datagramsOf(message).map((payload) => {
      const index = byDestination ? left.findIndex(({ name }) => name.equals(message.name)) : 0;
      const [queued] = left.splice(index, 1);
      expect({ payload, name: message.name, control: message.control }).toEqual({
        payload: queued!.payload,
        name: queued!.name,
        control: queued!.control,
      });
      return queued!;
    });
    expect(held.length).toBeLessThanOrEqual(layout.maxSegments);
    const size = message.control.reduce((sum, { data }) => sum + 16 + ((data.length + 7) & ~7), 0);
    expect(message.controlLength).toBe(size + (held.length > 1 ? 24 : 0));
    expect(message.iovecs).toBeLessThanOrEqual(held.length);
    if (held.length > 1) {
      expect(message.payload.length).toBeLessThanOrEqual(layout.maxSegmentedBytes);
      expect(held.at(-1)!.payload.length).toBeGreaterThan(0);
    }
    return held;
  });
}
