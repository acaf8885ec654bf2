/** Lines packed into datagrams: the queue against an array, whatever the lines are. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AF_INET, SOCKADDR_IN_SIZE } from '../../src/kernel/abi.ts';
import type { Payload } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { attempt, datagramsOf, messagesOf, queueAndBatch, tosOf } from '../support/lower.ts';

interface Packed {
  readonly port: number;
  readonly dscp: number | undefined;
  readonly lines: Buffer[];
  isOpen: boolean;
}

const ascii = fc.constantFrom('a', 'bb', 'cccc', 'dddddd', '', 'longer than most');
/** Halves of a surrogate pair at the edges: beside a separator that is the other half they must not become one. */
const halves = fc.constantFrom('\udc00', '\udc00a', 'a\ud800');
const text = fc.string({ unit: fc.constantFrom('a', 'é', '€', '😀', '\ud800', '\udc00'), maxLength: 8 });
const bytes = fc.uint8Array({ maxLength: 9 });
const payload: fc.Arbitrary<Payload> = fc.oneof(
  { arbitrary: ascii, weight: 8 },
  halves,
  text,
  bytes,
  fc.array(fc.oneof(ascii, bytes), { maxLength: 3 }),
);
const dscp = fc.constantFrom(undefined, undefined, undefined, undefined, 46);
const operation = fc.oneof(
  { weight: 14, arbitrary: fc.record({ payload, port: fc.constantFrom(1, 1, 1, 1, 2), dscp }) },
  { weight: 1, arbitrary: fc.constantFrom('look' as const, 'span' as const, 'skip' as const, 'tick' as const) },
  { weight: 1, arbitrary: fc.record({ release: fc.double({ min: 0, max: 1, noNaN: true }) }) },
);
const pack = fc.record({
  maxBytes: fc.integer({ min: 1, max: 30 }),
  separator: fc.constantFrom('\n', '', ', ', '→', '\ud800', '\udc00', '😀'),
  oversize: fc.constantFrom('alone' as const, 'reject' as const),
});

// With nothing between the lines, all that arrives is all the lines. Short ones are kept; some turn out to be longer.
const tight = fc.record({
  maxBytes: fc.integer({ min: 6, max: 14 }),
  separator: fc.constant(''),
  oversize: fc.constant('alone' as const),
});
const short = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({
      payload: fc.constantFrom('a', 'bc', 'éé', '€', 'xyz', '€€'),
      port: fc.constantFrom(1, 1, 1, 2),
    }),
  },
  { weight: 1, arbitrary: fc.constant('look' as const) },
  { weight: 3, arbitrary: fc.record({ release: fc.double({ min: 0, max: 1, noNaN: true }) }) },
);

const sizeOf = ({ lines }: Packed, separator: string): number =>
  lines.reduce((sum, { length }) => sum + length, (lines.length - 1) * Buffer.byteLength(separator));
const joined = ({ lines }: Packed, separator: string): Buffer =>
  Buffer.concat(lines.flatMap((line, index) => (index === 0 ? [line] : [Buffer.from(separator), line])));

describe('a queue that packs', () => {
  it('holds what lines greedily joined would be, byte for byte, and counts what it joined', () => {
    fc.assert(
      fc.property(
        pack,
        fc.integer({ min: 1, max: 30 }),
        fc.array(operation, { maxLength: 80, size: 'max' }),
        (pack, capacity, operations) => {
          const { queue, batch } = queueAndBatch(
            { capacity, maxBytes: 1 << 16, packing: pack },
            { nameSize: SOCKADDR_IN_SIZE, maxSegments: 64, maxSegmentedBytes: 99 },
          );
          const reader = new DatagramReader(AF_INET, false);
          let model: Packed[] = [];
          let [accepted, gone, sequence, now] = [0, 0, 0, 0];
          const close = (): void => {
            for (const each of model) each.isOpen = false;
          };
          const agree = (): void => {
            queue.changes++; // planned anew, and all of it
            const held = messagesOf(batch).flatMap((message) =>
              datagramsOf(message).map((payload) => ({ payload, tos: tosOf(message) })),
            );
            expect(held).toEqual(
              model.map((each) => ({ payload: joined(each, pack.separator), tos: each.dscp && 4 * each.dscp })),
            );
            close();
            expect(queue.datagrams).toBe(model.length);
            expect(queue.bytes).toBe(model.reduce((sum, each) => sum + sizeOf(each, pack.separator), 0));
            expect(accepted).toBe(queue.packed + queue.datagrams + gone);
          };
          for (const operation of operations) {
            if (operation === 'look') agree();
            else if (operation === 'skip') sequence++;
            else if (operation === 'tick') now++;
            else if (operation === 'span') {
              queue.close();
              close();
            } else if ('release' in operation) {
              agree();
              const count = Math.round(operation.release * model.length);
              queue.drop(count);
              gone += count;
              model = model.slice(count);
            } else {
              const line = Buffer.concat([operation.payload].flat().map((part) => Buffer.from(part as string)));
              const { port, dscp } = operation;
              reader.read({ payload: operation.payload, address: '127.0.0.1', port, dscp });
              const outcome = attempt(() => queue.push(reader, sequence++, now));
              const last = model.at(-1);
              const size = last === undefined ? 0 : sizeOf(last, pack.separator) + Buffer.byteLength(pack.separator);
              const isForLast = last?.isOpen && last.port === port && last.dscp === dscp;
              if (isForLast && size + line.length <= pack.maxBytes) {
                expect(outcome).toBe(true);
                last.lines.push(line);
                accepted++;
              } else if (pack.oversize === 'reject' && line.length > pack.maxBytes) {
                expect(outcome).toBe('EMSGSIZE');
              } else {
                expect(outcome).toBe(model.length < capacity);
                if (outcome !== true) continue;
                if (last !== undefined) last.isOpen = false;
                model.push({ port, dscp, lines: [line], isOpen: true });
                accepted++;
              }
            }
          }
          agree();
        },
      ),
      { numRuns: 400 },
    );
  });

  it('gives the control of a line to each datagram that it turns out to take', () => {
    const packing = { maxBytes: 12, separator: '', oversize: 'alone' } as const;
    const { queue, batch } = queueAndBatch({ capacity: 40, maxBytes: 1 << 16, packing });
    const reader = new DatagramReader(AF_INET, true);
    let sequence = 0;
    for (const dscp of [46, undefined, 46]) {
      for (const payload of ['a', '€€', '€€', '€€', '€€']) {
        reader.read({ payload, dscp });
        queue.push(reader, sequence++, 0);
      }
    }
    const messages = messagesOf(batch);
    expect(messages.map(({ payload }) => String(payload)).join('')).toBe('a€€€€€€€€'.repeat(3));
    expect(messages.map(tosOf)).toEqual([184, 184, 184, undefined, undefined, undefined, 184, 184, 184]);
  });

  it('loses no line and keeps the order where the queue is small', () => {
    fc.assert(
      fc.property(tight, fc.array(short, { minLength: 100, maxLength: 300 }), (pack, operations) => {
        const { queue, batch } = queueAndBatch(
          { capacity: 40, maxBytes: 120, packing: pack },
          { nameSize: SOCKADDR_IN_SIZE },
        );
        const reader = new DatagramReader(AF_INET, false);
        let [lines, received] = [[] as Buffer[], [] as Buffer[]];
        const take = (count: number): void => {
          queue.changes++;
          received.push(
            ...messagesOf(batch)
              .slice(0, count)
              .map(({ payload }) => payload),
          );
          queue.drop(count);
        };
        for (const [sequence, operation] of operations.entries()) {
          if (typeof operation === 'string') queue.commit();
          else if ('release' in operation) {
            queue.commit();
            take(Math.round(operation.release * queue.datagrams));
          } else {
            reader.read({ payload: operation.payload, address: '127.0.0.1', port: operation.port });
            if (attempt(() => queue.push(reader, sequence, 0)) !== true) continue;
            lines.push(Buffer.concat([operation.payload].flat().map((part) => Buffer.from(part as string))));
            expect(queue.datagrams).toBeLessThanOrEqual(40);
          }
        }
        queue.commit();
        // But for the last datagram they are less than the limit, and that one is appended to only below it.
        queue.changes++;
        const last = messagesOf(batch).at(-1)?.payload.length ?? 0;
        expect(queue.bytes - last).toBeLessThan(120);
        take(queue.datagrams);
        expect(Buffer.concat(received)).toEqual(Buffer.concat(lines));
        [lines, received] = [[], []];
      }),
      { numRuns: 400 },
    );
  });
});
