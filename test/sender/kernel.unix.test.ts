import { setTimeout as sleep } from 'node:timers/promises';
import { from, lastValueFrom, type Observable, reduce } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { BatchReport, DatagramLike, RejectedDatagram } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { callsFor } from '../support/backend.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { MODES } from '../support/modes.ts';
import { freshPath, Receiver } from '../support/receiver.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});
function keep<T extends { close(): void }>(resource: T): T {
  open.push(resource);
  return resource;
}

const COUNTS = [1, 63, 64, 65, 1023, 1024, 1025, 2000, 3072];
/** Larger than the default SO_SNDBUF takes: EMSGSIZE. */
const TOO_LARGE = 'x'.repeat(400_000);

describe.each(MODES)('unix sockets, $name', ({ options }) => {
  function total(source: Observable<DatagramLike>, socket: DatagramSocket, more = {}) {
    const empty = { sent: 0, bytes: 0, dropped: 0, syscalls: 0, rejected: [] as RejectedDatagram[] };
    return lastValueFrom(
      source.pipe(
        sendmmsg(socket, { ...options, ...more }),
        reduce(
          (sum, report: BatchReport) => ({
            sent: sum.sent + report.sent,
            bytes: sum.bytes + report.bytes,
            dropped: sum.dropped + report.dropped,
            syscalls: sum.syscalls + report.syscalls,
            rejected: [...sum.rejected, ...report.rejected],
          }),
          empty,
        ),
      ),
    );
  }

  it.each(COUNTS)('connected, a slow reader: %i datagrams arrive once each, in order', async (count) => {
    const receiver = keep(Receiver.unix());
    const done = total(from(numberedList(count)), keep(receiver.connected()));
    const datagrams = await receiver.receive(Number.POSITIVE_INFINITY, 7, done);
    expect(numbersOf(datagrams)).toEqual(range(count));
    const { sent, bytes, rejected, dropped, syscalls } = await done;
    expect({ sent, bytes, rejected, dropped }).toEqual({ sent: count, bytes: 12 * count, rejected: [], dropped: 0 });
    // One by one, each that fails behind others is a call, too.
    expect(syscalls).toBeLessThan(callsFor(count, 2 * count) + 20);
  });

  it.each(COUNTS)('socketpair, held back by SO_SNDBUF: %i datagrams arrive once each, in order', async (count) => {
    const { sender, receiver } = Receiver.pair(4608);
    const done = total(from(numberedList(count)), keep(sender), { batchSize: 1024 });
    expect(numbersOf(await keep(receiver).receive(Number.POSITIVE_INFINITY, 5, done))).toEqual(range(count));
    expect(await done).toMatchObject({ sent: count, rejected: [], dropped: 0 });
  });

  it('unconnected, where POLLOUT lies: no spin while the reader sleeps, and all arrive when it wakes', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new BatchSender(keep(DatagramSocket.open({ type: 'unix' })), { drainTimeoutMs: 20_000, ...options });
    for (const payload of numberedList(300)) sender.send({ payload, path: receiver.path });
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    await sleep(500);
    clearInterval(ticking);
    expect(sender.stats.syscalls).toBeLessThan(60);
    expect(turns).toBeGreaterThan(20);
    expect(sender.stats.queued).toBeGreaterThan(200);
    const closed = sender.close();
    expect(numbersOf(await receiver.receive(300, undefined, closed))).toEqual(range(300));
    await closed;
    expectConservation(sender.stats);
  });

  it('connected, the reader asleep: no call at all while nothing can be sent', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new BatchSender(keep(receiver.connected()), options);
    for (const payload of numberedList(300)) sender.send(payload);
    await sleep(50);
    const { syscalls } = sender.stats;
    await sleep(300);
    expect(sender.stats.syscalls).toBe(syscalls);
    sender.destroy();
  });

  it.each([
    ['first', [0]],
    ['in the middle', [96]],
    ['on the boundary', [63, 64]],
    ['last', [191]],
    ['all of these', [0, 63, 64, 96, 190, 191]],
  ])('one datagram too large for the socket %s is one rejection each', async (_where, bad) => {
    const receiver = keep(Receiver.unix());
    const source = range(192).map((index) => (bad.includes(index) ? TOO_LARGE : numbered(index)));
    const done = total(from(source), keep(receiver.connected()));
    expect(numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, 20, done))).toEqual(range(192, bad));
    const { rejected } = await done;
    expect(rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual(
      bad.map((index) => [index, 'EMSGSIZE']),
    );
    expect(rejected[0]!.payload).toHaveLength(TOO_LARGE.length);
  });

  it('keeps boundaries: empty, small, large and gathered datagrams arrive as they were', async () => {
    const { sender, receiver } = Receiver.pair(4 << 20);
    const payloads = ['', 'a', '', '', 'é'.repeat(500), 'x'.repeat(65_536), '', 'y'.repeat(100_000), 'end', ''];
    const gathered = [['ga', Buffer.from('the'), '', 'red'], [], [new Uint16Array([0x6261])]];
    const done = total(from([...payloads, ...gathered]), keep(sender));
    const arrived = await keep(receiver).receive(Number.POSITIVE_INFINITY, 3, done);
    expect(arrived.map(String)).toEqual([...payloads, 'gathered', '', 'ab']);
    expect((await done).bytes).toBe(Buffer.byteLength(payloads.join('')) + 10);
  });

  it('speaks to abstract names, and to several peers in the order of the input', async () => {
    const abstract = keep(Receiver.unix(`\0rx-sendmmsg-${process.pid}`));
    const path = keep(Receiver.unix());
    const peers = [abstract, path];
    const source = range(100).map((index) => ({ payload: numbered(index), path: peers[index % 2]!.path }));
    const done = total(from(source), keep(DatagramSocket.open({ type: 'unix' })));
    const [even, odd] = await Promise.all(peers.map((peer) => peer.receive(50, undefined, done)));
    expect(numbersOf(even!)).toEqual(range(100).filter((index) => index % 2 === 0));
    expect(numbersOf(odd!)).toEqual(range(100).filter((index) => index % 2 === 1));
    expect(await done).toMatchObject({ sent: 100, rejected: [] });
  });

  it('a peer that is gone costs its own datagrams only: rejections, and the stream lives on', async () => {
    const alive = keep(Receiver.unix());
    const gone = Receiver.unix();
    const source = range(60).map((index) => ({
      payload: numbered(index),
      path: index % 3 === 0 ? gone.path : index % 3 === 1 ? freshPath() : alive.path,
    }));
    gone.close();
    const done = total(from(source), keep(DatagramSocket.open({ type: 'unix' })));
    const third = range(60).filter((index) => index % 3 === 2);
    expect(numbersOf(await alive.receive(Number.POSITIVE_INFINITY, undefined, done))).toEqual(third);
    const { rejected, syscalls } = await done;
    expect(rejected.map(({ sequence, error }) => [sequence, error.code, error.path])).toEqual(
      range(60, third).map((index) => [index, expect.stringMatching(/ECONNREFUSED|ENOENT/), source[index]!.path]),
    );
    expect(syscalls).toBeLessThan(150);
  });

  it('a connected peer that goes while datagrams wait: they are rejected, and the stream ends well', async () => {
    const receiver = Receiver.unix();
    const { path } = receiver;
    const done = total(from(numberedList(100)), keep(receiver.connected()));
    const arrived = receiver.drain();
    receiver.close();
    const { sent, rejected, dropped } = await done;
    expect(sent + rejected.length).toBe(100);
    expect(dropped).toBe(0);
    expect(sent).toBeGreaterThanOrEqual(arrived.length);
    expect(rejected.length).toBeGreaterThan(0);
    // What there is to say: the path is gone. ECONNREFUSED or ENOTCONN only say that nobody is connected, unix(7).
    const reason = { code: 'ENOENT', syscall: 'connect', path };
    for (const { error, ...rejection } of rejected) expect([error, rejection.path]).toMatchObject([reason, path]);
  });
});
