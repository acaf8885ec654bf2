/** What only UDP has: several destinations; and what any backend can, so that node:dgram is tried with it, too. */
import { asyncScheduler, Subject } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { broadcast, endpoint } from '../../src/index.ts';
import type { BatchReport } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { BACKEND } from '../support/backend.ts';
import { expectConservation, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { CASES, DOORS, totals } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { openDescriptors } from '../support/lower.ts';
import { MODES } from '../support/modes.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();
const LOCAL = '127.0.0.1';
const open = (options?: SocketOptions): DatagramSocket => keep(DatagramSocket.open(options));
const connectedTo = ({ port }: Receiver): DatagramSocket => open({ connect: { address: LOCAL, port } });

describe.each(CASES)('$name', ({ door, options }) => {
  it('over UDP: all arrive, in order, boundaries kept', async () => {
    const receiver = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open());
    const payloads = numberedList(1000).map((text, index) => (index % 100 === 99 ? '' : text));
    const datagrams = payloads.map((payload) => ({ payload, address: '127.0.0.1', port: receiver.port }));
    const done = door.send(socket, options, datagrams);
    expect((await receiver.receive(1000)).map(String)).toEqual(payloads);
    expect(totals(await done)).toMatchObject({ sent: 1000, dropped: 0, rejected: [] });
  });

  it('to several destinations: each has its own, in order', async () => {
    const receivers = range(3).map(() => keep(Receiver.udp()));
    const datagrams = range(300).map((index) => ({
      payload: String(index),
      address: LOCAL,
      port: receivers[index % 3]!.port,
    }));
    const { reports } = await door.send(open(), options, datagrams);
    expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(300);
    for (const [at, receiver] of receivers.entries()) {
      const expected = range(300).filter((index) => index % 3 === at);
      expect((await receiver.receive(100)).map(String)).toEqual(expected.map(String));
    }
  });
});

describe.each(MODES)('BatchSender, $name', ({ options }) => {
  it('flush() sends, or begins to: what is on its way is told by the next report', async () => {
    const receiver = keep(Receiver.udp());
    const reports: BatchReport[] = [];
    const sender = new BatchSender(connectedTo(receiver), options, { next: (report) => reports.push(report) });
    for (const text of numberedList(40)) sender.send(text);
    const { sent, requeued } = sender.flush();
    const isAtOnce = BACKEND !== 'node:dgram' && options.offload !== true;
    expect([sent, requeued]).toEqual(isAtOnce ? [40, 0] : [0, 40]);
    await sender.close();
    expect(reports.reduce((sum, report) => sum + report.sent, 0)).toBe(40);
    expect(sender.flush()).toMatchObject({ sent: 0, requeued: 0 });
    expect(numbersOf(await receiver.receive(40))).toEqual(range(40));
  });

  it('pack, conflateBy and maxAgeMs hold as they do everywhere', async () => {
    const receiver = keep(Receiver.udp());
    const packing = new BatchSender(connectedTo(receiver), { ...options, pack: { maxBytes: 10, separator: '|' } });
    for (const line of ['one', 'two', 'three', 'four']) packing.send(line);
    await packing.close();
    expect(packing.stats).toMatchObject({ sent: 2, queued: 0 });
    const conflating = new BatchSender(connectedTo(receiver), {
      ...options,
      conflateBy: (datagram) => String(datagram)[0],
    });
    for (const state of ['a1', 'b1', 'a2', 'b2']) conflating.send(state);
    await conflating.close();
    expect(conflating.stats).toMatchObject({ conflated: 2, sent: 2 });
    expectConservation(conflating.stats);
    let now = 0;
    const scheduler = { now: () => now, schedule: asyncScheduler.schedule.bind(asyncScheduler) };
    const aging = new BatchSender(connectedTo(receiver), { ...options, maxAgeMs: 10, scheduler, warn: false });
    aging.send('old');
    now = 20;
    aging.send('young');
    await aging.close();
    expect(aging.stats).toMatchObject({ sent: 1, droppedBy: { age: 1 } });
    expectConservation(aging.stats);
    expect((await receiver.receive(5)).map(String)).toEqual(['one|two', 'three|four', 'a2', 'b2', 'young']);
  });
});

describe('where the sender cannot be made', () => {
  /** As if there were no memory for anything larger. */
  function exhaust(most = 1 << 9): void {
    const Plenty = ArrayBuffer;
    vi.stubGlobal(
      'ArrayBuffer',
      class extends Plenty {
        constructor(bytes: number) {
          if (bytes > most) throw new RangeError('Array buffer allocation failed');
          super(bytes);
        }
      },
    );
  }
  afterEach(() => vi.unstubAllGlobals());
  const NO_MEMORY = {
    name: 'SendmmsgError',
    code: 'ENOMEM',
    errno: 12,
    message: expect.stringMatching(/^There is no memory for \d+ bytes of a queue: lower "highWaterMark"/),
    cause: expect.any(RangeError),
  };

  const WAYS = [
    ...DOORS.map(({ name, send }) => [name, (factory: () => DatagramSocket) => send(factory, {}, ['x'])] as const),
    [
      'broadcast',
      (factory: () => DatagramSocket) =>
        new Promise((resolve, reject) => {
          new Subject<string>()
            .pipe(broadcast(factory, [endpoint(LOCAL, 9)]))
            .subscribe({ error: reject, complete: () => resolve(undefined) });
        }),
    ],
  ] as const;
  it.each(WAYS)('for want of memory, %s closes the socket of its factory, and says what to do', async (_name, send) => {
    const made: DatagramSocket[] = [];
    const before = openDescriptors();
    exhaust();
    const sent = send(() => {
      made.push(open({ bind: { address: LOCAL } }));
      return made.at(-1)!;
    });
    await expect(sent).rejects.toMatchObject(NO_MEMORY);
    expect(made.map(({ closed }) => closed)).toEqual([true]);
    await expect.poll(() => openDescriptors()).toBe(before);
  });

  it('BatchSender throws, and the socket stays open: the next one may be made', () => {
    const socket = open();
    exhaust();
    expect(() => new BatchSender(socket)).toThrow(expect.objectContaining(NO_MEMORY));
    vi.unstubAllGlobals();
    expect(new BatchSender(socket).closed).toBe(false);
  });

  it('and where the memory ends later, what finds none is rejected, and the others go', async () => {
    const sender = new BatchSender(open({ connect: { address: LOCAL, port: 9 } }), { batchSize: 100, warn: false });
    exhaust(1 << 17);
    for (const letter of ['a', 'b', 'c', 'd', 'e']) sender.send(Buffer.alloc(40_000, letter));
    vi.unstubAllGlobals();
    sender.send('f');
    await sender.close();
    const { sent, rejected, rejectedBy } = sender.stats;
    expect(rejected).toBeGreaterThan(0);
    expect(rejectedBy).toEqual({ ENOMEM: rejected });
    expect(sent).toBe(6 - rejected);
  });
});
