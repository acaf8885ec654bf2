/** `conflateBy`: a congested socket sends the latest state, never a stale one. */
import { describe, expect, it } from 'vitest';
import { endpoint } from '../../src/index.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { DOORS } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { refusal } from '../support/lower.ts';
import { MODES } from '../support/modes.ts';
import { blocked, Receiver, roomy } from '../support/receiver.ts';
import { VirtualTime } from '../support/virtual-time.ts';

const keep = keeper();
const byName = (datagram: DatagramLike): unknown => String(datagram).split(':')[0];

function fixture(options: BatchOptions, sendBufferSize = 1 << 20) {
  const { sender: socket, receiver } = Receiver.pair(sendBufferSize);
  keep(socket);
  keep(receiver);
  const reports: BatchReport[] = [];
  const sender = new BatchSender(
    socket,
    { conflateBy: byName, ...options },
    { next: (report) => reports.push(report) },
  );
  return { sender, reports, receiver };
}

describe('conflateBy', () => {
  it('replaces what is queued under the same key, in its place, and tells how many', () => {
    const { sender, reports, receiver } = fixture({});
    for (const state of ['a:1', 'b:1', 'c:1', 'b:22', 'a:3', 'd', 'b:333333']) sender.send(state);
    expect(sender.stats).toMatchObject({ accepted: 7, queued: 4, conflated: 3 });
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['a:3', 'b:333333', 'c:1', 'd']);
    expect(reports).toMatchObject([{ sent: 4, conflated: 3 }]);
    sender.send('a:4');
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['a:4']);
    expect(reports[1]).toMatchObject({ sent: 1, conflated: 0 });
    expectConservation(sender.stats);
  });

  it('never replaces what has no key', () => {
    const { sender, receiver } = fixture({ conflateBy: () => undefined });
    for (const state of ['a', 'a', 'a']) sender.send(state);
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['a', 'a', 'a']);
  });

  it('keeps a full queue from overflowing while the keys are known', () => {
    const { sender } = fixture({ highWaterMark: 3, batchSize: 9 });
    for (const round of range(50)) for (const name of ['a', 'b']) sender.send(`${name}:${round}`);
    expect(sender.stats).toMatchObject({ accepted: 100, queued: 2, conflated: 98, dropped: 0 });
  });

  it.each(MODES)('with a reader that is behind, each key ends with its latest state: $name', async ({ options }) => {
    const receiver = keep(Receiver.unix());
    const sender = new BatchSender(keep(receiver.connected()), { ...options, conflateBy: byName });
    const keys = range(40);
    for (const round of range(200)) {
      for (const key of keys) sender.send(`${key}:${round}`.padEnd(8 + (round % 5)));
      if (round % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const closed = sender.close();
    const arrived = (await receiver.receive(Number.POSITIVE_INFINITY, 7, closed)).map(String);
    const rounds = new Map<string, number[]>();
    for (const state of arrived) {
      const [key, round] = state.trim().split(':') as [string, string];
      rounds.set(key, [...(rounds.get(key) ?? []), Number(round)]);
    }
    expect(rounds.size).toBe(40);
    for (const seen of rounds.values()) {
      expect(seen.at(-1)).toBe(199);
      expect(seen).toEqual([...seen].sort((a, b) => a - b));
    }
    expect(sender.stats.sent).toBe(arrived.length);
    expect(sender.stats.conflated).toBeGreaterThan(4000);
    expect(sender.stats.dropped).toBe(0);
    expectConservation(sender.stats);
  });

  // While a call is out nothing can be moved together: what had no place in the slab was dropped.
  it.each([
    ['small', 100, 70_000],
    ['large', 60_000, 70_000],
    ['so large that not two have a place', 69_000, 70_000],
  ])(
    'never drops the newest of an almost empty queue, however often it grows in one turn: %s',
    async (_what, size, highWaterMarkBytes) => {
      const states = ['a:', ...range(200).map((round) => 'b:'.padEnd(size + round, 'b'))];
      const options = { conflateBy: byName, offload: true, highWaterMarkBytes, batchSize: 1 };
      const { sender, receiver } = fixture(options);
      for (const state of states) sender.send(state);
      expect(sender.stats).toMatchObject({ accepted: 201, dropped: 0, queued: 2, conflated: 199 });
      const arrived = await receiver.receive(2, undefined, sender.close());
      expect(arrived.map(({ length }) => length)).toEqual([2, size + 199]);
      expectConservation(sender.stats);
      for (const door of DOORS) {
        const { receiver, socket } = roomy(keep);
        const settled = door.send(socket, options, states);
        const arrived = await receiver.receive(Number.POSITIVE_INFINITY, undefined, settled);
        const { reports } = await settled;
        expect(reports.reduce((sum, { dropped }) => sum + dropped, 0)).toBe(0);
        expect(String(arrived[0])).toBe('a:');
        expect(arrived.at(-1)!.length).toBe(size + 199);
        const taken = reports.reduce((sum, { sent, conflated }) => sum + sent + conflated, 0);
        expect(taken).toBe(201);
      }
    },
  );

  it('behind a head that is blocked a state may grow beyond the limit; a new key then makes the oldest give way', () => {
    const { socket } = blocked(keep);
    const sender = new BatchSender(socket, {
      conflateBy: byName,
      highWaterMarkBytes: 1000,
      scheduler: new VirtualTime(),
    });
    for (let filler = 0; sender.stats.wouldBlocks === 0; filler++) {
      sender.send(`${filler}`);
      sender.flush();
    }
    expect(sender.stats.queued).toBe(1);
    sender.send('a:'.padEnd(600));
    for (let size = 300; size <= 500; size++) sender.send('b:'.padEnd(size));
    expect(sender.stats).toMatchObject({ queued: 3, dropped: 0, conflated: 200 });
    expect(sender.stats.queuedBytes).toBeGreaterThan(1100);
    sender.send('c:new');
    expect(sender.stats).toMatchObject({ queued: 2, droppedBy: { overflow: 2 }, conflated: 200 });
    expect(sender.stats.queuedBytes).toBe(505);
    expectConservation(sender.stats);
    sender.destroy();
  });

  it('works for each peer of a broadcast', async () => {
    const receivers = range(3).map(() => keep(Receiver.udp()));
    const peers = receivers.map(({ port }) => endpoint('127.0.0.1', port));
    const conflateBy = (datagram: DatagramLike): unknown => (datagram as { to: unknown }).to;
    const sender = new BatchSender(keep(DatagramSocket.open()), { conflateBy });
    sender.broadcast('tick 1', peers);
    sender.broadcast('tick 2, which is longer', peers.slice(1));
    sender.broadcast('t3', peers.slice(2));
    expect(sender.stats).toMatchObject({ accepted: 6, queued: 3, conflated: 3 });
    await sender.close();
    const arrived = await Promise.all(receivers.map(async (receiver) => String((await receiver.receive(1))[0])));
    expect(arrived).toEqual(['tick 1', 'tick 2, which is longer', 't3']);
  });

  it('that throws is one rejection, of the datagram it was asked about', () => {
    const { sender, reports, receiver } = fixture({
      conflateBy: (datagram) => {
        if (datagram === 'bad') throw new Error('no key');
        return datagram;
      },
    });
    for (const state of ['good', 'bad', 'fine']) sender.send(state);
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['good', 'fine']);
    const [rejected] = reports[0]!.rejected;
    expect([rejected!.sequence, String(Buffer.from(rejected!.payload)), rejected!.error.code]).toEqual([
      1,
      'bad',
      'ERR_INVALID_ARG_VALUE',
    ]);
    expect(rejected!.error.cause).toBeInstanceOf(Error);
  });

  it('may send, and close: what it was asked about is accounted for', () => {
    let isNested = false;
    const { sender, receiver } = fixture({
      conflateBy: (datagram) => {
        if (!isNested) {
          isNested = true;
          sender.send('nested');
        }
        if (datagram === 'last') sender.destroy();
        return datagram;
      },
    });
    sender.send('outer');
    sender.flush();
    expect(receiver.drain().map(String)).toEqual(['nested', 'outer']);
    sender.send('last');
    expect(sender.stats).toMatchObject({ accepted: 3, sent: 2, dropped: 1 });
    expectConservation(sender.stats);
  });

  it.each([
    [{ conflateBy: 'key' }, 'ERR_INVALID_ARG_TYPE'],
    [{ conflateBy: () => 1, maxAgeMs: 5 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o throws %s', (options, code) => {
    expect(refusal(() => fixture(options as BatchOptions)).code).toBe(code);
  });
});
