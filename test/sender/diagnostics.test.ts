/** What a sender counts: the histogram, the time blocked, rejections by code; and the channels that tell of it. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { Subject } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { AF_INET } from '../../src/kernel/abi.ts';
import { schedulerClock } from '../../src/kernel/clock.ts';
import { SendmmsgError } from '../../src/kernel/errors.ts';
import { allocateDetached } from '../../src/kernel/libc.ts';
import { endpoint } from '../../src/message/sockaddr.ts';
import { type BatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import type { DiagnosticsMessages, SenderStats } from '../../src/sender/diagnostics.ts';
import { Lane, type LaneOwner } from '../../src/sender/lane.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { Transport } from '../../src/socket/transport.ts';
import { expectConservation, numberedList, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { read } from '../support/lower.ts';
import { Receiver } from '../support/receiver.ts';
import { type Behaviour, flushFixture, ScriptedKernel } from '../support/scripted-kernel.ts';
import { VirtualTime } from '../support/virtual-time.ts';

const EAGAIN = 11;
const ENOMEM = 12;
const EMSGSIZE = 90;
const ENOBUFS = 105;
const keep = keeper();

/** A sender over a pair of unix sockets that takes all at once. */
function fixture(options: BatchOptions = {}) {
  const { sender: socket, receiver } = Receiver.pair(1 << 20);
  keep(receiver);
  return { sender: new BatchSender(keep(socket), options), receiver };
}

describe('batchSizes', () => {
  /** The buckets that are not empty: `{ 2: 1 }` is one call that took 3 or 4. */
  const filled = (batchSizes: readonly number[]): Record<number, number> =>
    Object.fromEntries([...batchSizes.entries()].filter(([, calls]) => calls > 0));

  it.each([
    [1, 0],
    [2, 1],
    [3, 2],
    [4, 2],
    [5, 3],
    [8, 3],
    [9, 4],
    [512, 9],
    [513, 10],
    [1024, 10],
  ])('a call that takes %i datagrams is counted in bucket %i', (count, bucket) => {
    const { loop } = flushFixture(count, (_head, vlen) => vlen);
    expect(loop.run()).toBe('drained');
    expect(filled(loop.batchSizes)).toEqual({ [bucket]: 1 });
    expect(loop.batchSizes).toHaveLength(12);
  });

  it('a call that takes more than 1024, by GSO, is counted in the last bucket', () => {
    const receiver = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: receiver.port } }));
    const sender = new BatchSender(socket, { batchSize: 3000 });
    for (let count = 0; count < 3000; count++) sender.send('x');
    expect(sender.stats).toMatchObject({ sent: 3000, syscalls: 1, gso: { segments: 3000 } });
    expect(filled(sender.stats.batchSizes)).toEqual({ 11: 1 });
  });

  it('calls that take nothing are in none, whatever the kernel answers; calls that take some are each in one', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -1, max: 70 }), { maxLength: 40 }), (script) => {
        const answers = script.map((answer) => (answer > 0 ? answer : answer === 0 ? -EAGAIN : -EMSGSIZE));
        const { loop, kernel } = flushFixture(500, (_head, vlen, call) => Math.min(answers[call] ?? vlen, vlen));
        while (loop.run() !== 'drained');
        const expected = new Array<number>(12).fill(0);
        for (const { answer } of kernel.calls) if (answer > 0) expected[Math.ceil(Math.log2(answer))]!++;
        expect(loop.batchSizes).toEqual(expected);
      }),
    );
  });

  it('adds up over all lanes', async () => {
    const receiver = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open());
    const sender = new BatchSender(socket, { offload: true, lanes: 4, batchSize: 16, gso: 'off' });
    const peers = Array.from({ length: 8 }, (_, host) => endpoint(`127.0.0.${host + 1}`, receiver.port));
    for (let round = 0; round < 50; round++) for (const to of peers) sender.send({ payload: 'x', to });
    await sender.close();
    expect(sender.stats.batchSizes.reduce((sum, calls) => sum + calls)).toBe(sender.stats.syscalls);
    expectConservation(sender.stats);
  });
});

describe('blockedMs', () => {
  it('grows while the kernel is full, and stands still when it is not', async () => {
    const receiver = keep(Receiver.unix());
    const time = new VirtualTime();
    const options = { scheduler: time, batchSize: 5, maxAgeMs: 1e6, highWaterMark: 5000 };
    const sender = new BatchSender(keep(receiver.connected()), options);
    time.advance(100);
    for (const text of numberedList(2000)) sender.send(text); // far more than its queue holds
    expect(sender.stats).toMatchObject({ wouldBlocks: 1, blockedMs: 0 });
    time.advance(250);
    expect(sender.stats.blockedMs).toBe(250);
    time.advance(50);
    expect(sender.stats.blockedMs).toBe(300);
    sender.flush(); // tries, in vain: the next wait goes on from there
    time.advance(10);
    expect(sender.stats).toMatchObject({ wouldBlocks: 2, blockedMs: 310 });
    await receiver.receive(2000);
    expect(sender.stats).toMatchObject({ queued: 0, blockedMs: 310 });
    time.advance(100);
    expect(sender.stats.blockedMs).toBe(310);
    sender.destroy();
  });

  it('ends with the sender', () => {
    const receiver = keep(Receiver.unix());
    const time = new VirtualTime();
    const sender = new BatchSender(keep(receiver.connected()), { scheduler: time, batchSize: 5, highWaterMark: 5000 });
    for (const text of numberedList(2000)) sender.send(text);
    time.advance(40);
    sender.destroy();
    time.advance(40);
    expect(sender.stats.blockedMs).toBe(40);
  });

  /** A lane of its own before a scripted kernel, in virtual time. */
  function laneBefore(behaviour: Behaviour) {
    const time = new VirtualTime();
    const nothing = (): void => undefined;
    const owner: LaneOwner = {
      beforeFlush: nothing,
      onWaitOver: (lane) => lane.flush(),
      onAnswered: nothing,
      onBudgetSpent: nothing,
      onFailed: nothing,
    };
    const kernel = Object.assign(new ScriptedKernel(behaviour), {
      waitWritable: () => null,
      allocate: allocateDetached,
    });
    const transport = kernel as unknown as Transport;
    const context = { transport, clock: schedulerClock(time), pace: null, flags: 0, isInline: true, owner };
    const lane = new Lane(resolveBatchOptions({}), false, context);
    for (const number of range(10)) lane.queue.push(read(String(number), AF_INET, true), number, 0);
    return { lane, time };
  }

  it.each([
    ['ENOBUFS', ENOBUFS],
    ['ENOMEM', ENOMEM],
    ['EAGAIN, waited out on a timer', EAGAIN],
  ])('%s: three waits of 1, 2 and 4 ms', (_name, errno) => {
    const { lane, time } = laneBefore((_head, vlen, call) => (call < 3 ? -errno : vlen));
    lane.flush();
    time.advance(2);
    expect(lane.waitedMs).toBe(2);
    time.advance(50);
    expect(lane.waitedMs).toBe(7);
    expect(lane.queue.datagrams).toBe(0);
  });

  it('a kernel that takes all, or refuses, costs no time', () => {
    const { lane, time } = laneBefore((_head, vlen, call) => (call === 0 ? -EMSGSIZE : vlen));
    lane.flush();
    time.advance(50);
    expect(lane.waitedMs).toBe(0);
  });
});

describe('rejectedBy', () => {
  it('counts by code, what was told in a report and what was not yet, by validation and by the kernel', () => {
    const { sender } = fixture({ flushAfterMs: 1000 });
    expect(sender.stats.rejectedBy).toEqual({});
    sender.send(7 as never);
    sender.send({ payload: 'x', path: '/tmp/x' });
    sender.send('x'.repeat(4_000_000)); // the kernel's to refuse: more than SO_SNDBUF
    expect(sender.stats.rejectedBy).toEqual({ ERR_INVALID_ARG_TYPE: 1, ERR_SOCKET_DGRAM_IS_CONNECTED: 1 });
    expect(sender.flush().rejected).toHaveLength(3);
    const told = sender.stats;
    sender.send(8 as never);
    expect(sender.stats.rejectedBy).toEqual({
      ERR_INVALID_ARG_TYPE: 2,
      ERR_SOCKET_DGRAM_IS_CONNECTED: 1,
      EMSGSIZE: 1,
    });
    expect(told.rejectedBy).toMatchObject({ ERR_INVALID_ARG_TYPE: 1 });
    expectConservation(sender.stats);
    sender.destroy();
  });

  it('codes are few: what the code of the caller throws is one, whatever its own', () => {
    const { sender } = fixture();
    for (const code of ['A', 'B', '__proto__']) {
      sender.send({
        get payload(): string {
          throw new SendmmsgError('no bytes', { code });
        },
      });
    }
    expect(sender.stats.rejectedBy).toEqual({ ERR_INVALID_ARG_VALUE: 3 });
    sender.destroy();
  });
});

it('a snapshot is frozen to its leaves, survives JSON, and is not touched by what happens later', () => {
  const { sender } = fixture({ batchSize: 2 });
  for (const each of [7 as never, 'a', 'b', 'c']) sender.send(each);
  const { stats } = sender;
  const copy = structuredClone(stats);
  for (const each of [8 as never, 'd', 'e']) sender.send(each);
  sender.destroy();
  expect(stats).toEqual(copy);
  expect(JSON.parse(JSON.stringify(stats))).toEqual(copy);
  const objects = [stats, ...Object.values(stats).filter((value) => typeof value === 'object')];
  expect(objects).toHaveLength(5);
  expect(objects.every((each) => Object.isFrozen(each))).toBe(true);
});

describe('the channels', () => {
  type Channel = keyof DiagnosticsMessages;
  const subscriptions: [Channel, (message: unknown) => void][] = [];
  afterEach(() => {
    for (const [channel, listener] of subscriptions.splice(0)) unsubscribe(channel, listener);
  });
  function on<Name extends Channel>(channel: Name, listener: (message: DiagnosticsMessages[Name]) => void): void {
    const untyped = (message: unknown): void => listener(message as DiagnosticsMessages[Name]);
    subscriptions.push([channel, untyped]);
    subscribe(channel, untyped);
  }

  it('tell of each subscription by an object of its own, from open to close', () => {
    const log: string[] = [];
    const names = new Map<object, string>();
    on('rx-sendmmsg:open', ({ sender }) => {
      names.set(sender, 'ab'[names.size]!);
      log.push(`open ${names.get(sender)} ${sender.stats.accepted}`);
    });
    on('rx-sendmmsg:report', ({ sender, report, stats }) => {
      expect(sender.stats).toEqual(stats);
      log.push(`report ${names.get(sender)} ${report.sent} of ${stats.sent}`);
    });
    on('rx-sendmmsg:close', ({ sender, stats }) => {
      expect(sender.stats).toEqual(stats);
      log.push(`close ${names.get(sender)} ${stats.sent} ${stats.droppedBy.teardown}`);
    });
    const { sender: socket, receiver } = Receiver.pair(1 << 20);
    keep(receiver);
    const source = new Subject<string>();
    const output = source.pipe(sendmmsg(keep(socket), { batchSize: 2, flushAfterMs: 1000 }));
    const first = output.subscribe();
    output.subscribe();
    source.next('1');
    source.next('2');
    source.next('3');
    first.unsubscribe();
    source.complete();
    expect(log).toEqual([
      'open a 0',
      'open b 0',
      'report a 2 of 2',
      'report b 2 of 2',
      'close a 2 1',
      'report b 1 of 3',
      'close b 3 0',
    ]);
  });

  it('the totals of a sender may be asked for at any time, by who knows nothing but the channel', async () => {
    const senders: { readonly stats: SenderStats }[] = [];
    on('rx-sendmmsg:open', ({ sender }) => senders.push(sender));
    const { sender } = fixture();
    sender.send('a');
    expect(senders).toHaveLength(1);
    expect(senders[0]!.stats).toMatchObject({ accepted: 1, queued: 1 });
    expect(Object.isFrozen(senders[0])).toBe(true);
    await sender.close();
    expect(senders[0]!.stats).toEqual(sender.stats);
  });

  it.each([1, 4])(
    'an end with datagrams in flight in %i lanes is told once, when all are accounted for',
    async (lanes) => {
      const ends: SenderStats[] = [];
      on('rx-sendmmsg:close', ({ stats }) => ends.push(stats));
      const receiver = keep(Receiver.udp());
      const socket = keep(DatagramSocket.open());
      const sender = new BatchSender(socket, { offload: true, lanes, batchSize: 4 });
      for (let host = 1; host < 40; host++)
        sender.send({ payload: 'x', address: `127.0.0.${host}`, port: receiver.port });
      sender.destroy();
      for (let turns = 0; sender.stats.queued > 0 && turns < 1e5; turns++) await turn();
      expect(ends).toEqual([sender.stats]);
      expectConservation(sender.stats);
    },
  );

  it('a subscriber may close the socket of a sender that is being made', () => {
    const errors: unknown[] = [];
    const { sender: socket, receiver } = Receiver.pair();
    keep(receiver);
    on('rx-sendmmsg:open', () => socket.close());
    const sender = new BatchSender(socket, {}, { error: (error) => errors.push(error) });
    sender.send('x');
    sender.flush();
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expectConservation(sender.stats);
  });
});
