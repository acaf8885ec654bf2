/** `conflateBy`: a congested socket sends the latest state, never a stale one. */
import { describe, expect, it } from 'vitest';
import type { BatchOptions } from '../src/batch-options.ts';
import { BatchSender } from '../src/batch-sender.ts';
import type { BatchReport, DatagramLike } from '../src/datagram.ts';
import { DatagramSocket } from '../src/datagram-socket.ts';
import { endpoint } from '../src/index.ts';
import { expectConservation, range } from './support/datagrams.ts';
import { keeper } from './support/keep.ts';
import { refusal } from './support/lower.ts';
import { MODES } from './support/modes.ts';
import { Receiver } from './support/receiver.ts';

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
