/** `pack`: lines share datagrams on their way through a sender, an operator, the kernel. */
import { from, lastValueFrom, map, toArray } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { SendmmsgError } from '../../src/kernel/errors.ts';
import type { BatchReport } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { refusal } from '../support/lower.ts';
import { MODES } from '../support/modes.ts';
import { blocked, Receiver } from '../support/receiver.ts';

const keep = keeper();

function fixture(options: BatchOptions): { sender: BatchSender; reports: BatchReport[]; arrived(): string[] } {
  const { sender: socket, receiver } = Receiver.pair(1 << 20);
  keep(socket);
  keep(receiver);
  const reports: BatchReport[] = [];
  const sender = new BatchSender(socket, options, { next: (report) => reports.push(report) });
  return { sender, reports, arrived: () => receiver.drain().map(String) };
}

describe('pack', () => {
  it('fills datagrams up to maxBytes with lines and separators, to the byte', () => {
    const { sender, arrived } = fixture({ pack: { maxBytes: 11 } });
    for (const line of ['aaa', 'bbb', 'ccc', 'ddd', 'é€', 'ff', 'g']) sender.send(line);
    sender.flush();
    expect(arrived()).toEqual(['aaa\nbbb\nccc', 'ddd\né€\nf'.slice(0, 6), 'ff\ng']);
    expect(sender.stats).toMatchObject({ accepted: 7, sent: 3, packed: 4, queued: 0, bytes: 11 + 9 + 4 });
  });

  it('counts datagrams, not lines, for batchSize, and bytes for batchBytes', () => {
    const byCount = fixture({ pack: { maxBytes: 7 }, batchSize: 2, flushAfterMs: 1000 });
    for (const line of ['aaa', 'bbb', 'ccc', 'ddd']) byCount.sender.send(line);
    expect(byCount.arrived()).toEqual(['aaa\nbbb', 'ccc']);
    byCount.sender.flush();
    expect(byCount.arrived()).toEqual(['ddd']);
    const byBytes = fixture({ batchBytes: 7, flushAfterMs: 1000, pack: {} });
    for (const line of ['aaa', 'bb', 'c', 'dd']) byBytes.sender.send(line);
    expect(byBytes.arrived()).toEqual(['aaa\nbb\nc']);
    byBytes.sender.destroy();
    expectConservation(byBytes.sender.stats);
  });

  it.each(['destroy', 'close'] as const)(
    'what %s drops is all there is: lines turn out to need more datagrams than was thought',
    async (end) => {
      const { receiver, socket } = blocked(keep);
      const sender = new BatchSender(socket, { pack: {}, drainTimeoutMs: 20 });
      while (sender.stats.wouldBlocks === 0) {
        sender.send('x'.repeat(1400));
        sender.flush();
      }
      const { sent } = sender.stats;
      for (const line of ['a', ...range(3).map(() => 'é'.repeat(470))]) sender.send(line);
      await sender[end]();
      expect(sender.stats).toMatchObject({
        sent,
        queued: 0,
        dropped: sender.stats.accepted - sent - sender.stats.packed,
      });
      expectConservation(sender.stats);
      receiver.drain();
    },
  );

  it('keeps destinations apart, and packs bytes and lists, too', async () => {
    const receivers = [keep(Receiver.udp()), keep(Receiver.udp())];
    const sender = new BatchSender(keep(DatagramSocket.open()), { pack: { separator: '|' } });
    const to = receivers.map(({ port }) => ({ address: '127.0.0.1', port }));
    const mine = Buffer.from('b');
    sender.send({ payload: 'a', ...to[0]! });
    sender.send({ payload: mine, ...to[0]! });
    mine.fill('!');
    sender.send({ payload: ['c', new Uint8Array([100])], ...to[0]! });
    sender.send({ payload: 'x', ...to[1]! });
    sender.send({ payload: 'y', ...to[0]! });
    await sender.close();
    expect((await receivers[0]!.receive(2)).map(String)).toEqual(['a|b|cd', 'y']);
    expect((await receivers[1]!.receive(1)).map(String)).toEqual(['x']);
  });

  it.each([
    ['alone', ['short', 'much too long', 'end'], []],
    ['reject', ['short\nend'], [[1, 'EMSGSIZE', 'much too long']]],
  ] as const)('a line longer than maxBytes: %s', (oversize, datagrams, rejected) => {
    const { sender, reports, arrived } = fixture({ pack: { maxBytes: 9, oversize } });
    for (const line of ['short', 'much too long', 'end']) sender.send(line);
    sender.flush();
    expect(arrived()).toEqual(datagrams);
    const told = reports.flatMap((report) => report.rejected);
    expect(told.map(({ sequence, error, payload }) => [sequence, error.code, String(Buffer.from(payload))])).toEqual(
      rejected,
    );
    expectConservation(sender.stats);
  });

  it('drops a datagram with all its lines when the queue is full, and counts it once', () => {
    const receiver = keep(Receiver.unix());
    const options = { pack: { maxBytes: 3 }, highWaterMark: 2, overflow: 'drop-newest' } as const;
    const sender = new BatchSender(keep(receiver.connected()), options);
    for (const _round of range(60)) for (const line of ['a', 'b']) sender.send(line);
    const { accepted, dropped } = sender.stats;
    expect(accepted).toBe(120);
    expect(dropped).toBeGreaterThan(50);
    expectConservation(sender.stats);
    sender.destroy();
    expectConservation(sender.stats);
    expect(receiver.drain().every((datagram) => ['a', 'b', 'a\nb', 'b\na'].includes(String(datagram)))).toBe(true);
  });

  it('is flushed by time, and never while another queue waits', () => {
    const { sender: socket, receiver } = Receiver.pair(1 << 20);
    const time = new TestScheduler((actual, expected) => expect(actual).toEqual(expected));
    time.run(({ cold, expectObservable }) => {
      const reports = cold('-a-b-c-----d-|').pipe(
        sendmmsg(socket, { pack: {}, flushAfterMs: 5, scheduler: time }),
        map(({ sent, bytes }) => `${sent}:${bytes}`),
      );
      expectObservable(reports).toBe('------a------(b|)', { a: '1:5', b: '1:1' });
    });
    expect(keep(receiver).drain().map(String)).toEqual(['a\nb\nc', 'd']);
    socket.close();
  });

  it.each(MODES)('loses no line to a slow reader: $name', async ({ options }) => {
    const receiver = keep(Receiver.unix());
    const lines = range(20_000).map((n) => (n % 97 === 0 ? `größe:${n}|g` : `requests.${n}:1|c`));
    const reports = lastValueFrom(
      from(lines).pipe(sendmmsg(keep(receiver.connected()), { ...options, pack: { maxBytes: 400 } }), toArray()),
    );
    const datagrams = await receiver.receive(Number.POSITIVE_INFINITY, 7, reports);
    expect(datagrams.flatMap((datagram) => String(datagram).split('\n'))).toEqual(lines);
    expect(Math.max(...datagrams.map(({ length }) => length))).toBeLessThanOrEqual(400);
    expect((await reports).reduce((sum, { sent }) => sum + sent, 0)).toBe(datagrams.length);
    expect(datagrams.length).toBeLessThan(1100);
  });

  it.each([
    [{ pack: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ pack: { maxBytes: 0 } }, 'ERR_OUT_OF_RANGE'],
    [{ pack: { maxBytes: 65_508 } }, 'ERR_OUT_OF_RANGE'],
    [{ pack: { maxBytes: Number.NaN } }, 'ERR_OUT_OF_RANGE'],
    [{ pack: { maxBytes: '1432' } }, 'ERR_INVALID_ARG_TYPE'],
    [{ pack: { separator: 10 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ pack: { oversize: 'drop' } }, 'ERR_INVALID_ARG_VALUE'],
    [{ pack: {}, conflateBy: () => 1 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o throws %s', (options, code) => {
    const error: SendmmsgError = refusal(() => sendmmsg(keep(DatagramSocket.open()), options as BatchOptions));
    expect(error.code).toBe(code);
    expect(error.message).toContain('options.');
  });
});
