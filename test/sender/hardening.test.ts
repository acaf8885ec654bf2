/** What a reviewer with bad intentions found: each was lost, misdelivered, untold or never ended. */
import { asyncScheduler } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { type BatchReport, endpoint } from '../../src/index.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { blocked, Receiver } from '../support/receiver.ts';

const keep = keeper();
const codesOf = (reports: readonly BatchReport[]): string[] =>
  reports.flatMap(({ rejected }) => rejected.map(({ error }) => error.code));

describe('on the thread pool', () => {
  it('a tail that grew too old in flight is told, and the end does not wait for the drain timeout', async () => {
    let now = 0;
    const scheduler = { now: () => now, schedule: asyncScheduler.schedule.bind(asyncScheduler) };
    const receiver = keep(Receiver.unix());
    const options = { offload: true, batchSize: 1, highWaterMark: 4, maxAgeMs: 10, drainTimeoutMs: 600_000, scheduler };
    const sender = new BatchSender(keep(receiver.connected()), options);
    for (const n of range(4)) sender.send(String(n));
    now = 1000;
    await sender.ready();
    await sender.close();
    expect(sender.stats).toMatchObject({ sent: 1, droppedBy: { age: 3 }, queued: 0 });
    expectConservation(sender.stats);
  });

  it('more flushes at once than the FFI takes wait their turn', async () => {
    const receiver = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: receiver.port } }));
    const options = { offload: true, highWaterMark: 8, highWaterMarkBytes: 4096 };
    const senders = range(400).map(() => new BatchSender(socket, options));
    for (const sender of senders) sender.send('x');
    for (const sender of senders) sender.flush();
    await Promise.all(senders.map((sender) => sender.close()));
    expect(senders.map(({ stats }) => stats.sent)).toEqual(senders.map(() => 1));
    expect(await receiver.receive(400)).toHaveLength(400);
  });

  it('a source of nothing but refused datagrams is told of them while it lasts', async () => {
    const reports: BatchReport[] = [];
    const options = { offload: true, batchSize: 4, highWaterMark: 16 };
    const sender = new BatchSender(keep(DatagramSocket.open()), options, { next: (report) => reports.push(report) });
    for (let turns = 0; turns < 1e5 && codesOf(reports).length < 40; turns++) {
      sender.send({ payload: 'x', address: '255.255.255.255', port: 9 });
      await new Promise(setImmediate);
    }
    expect(codesOf(reports).slice(0, 40)).toEqual(range(40).map(() => 'EACCES'));
    await sender.close();
    expectConservation(sender.stats);
  });

  it('one datagram larger than the queue is one rejection in several lanes, too', async () => {
    const options = { offload: true, lanes: 2, batchSize: 99, highWaterMarkBytes: 1000, overflow: 'error' } as const;
    const reports: BatchReport[] = [];
    const sender = new BatchSender(keep(DatagramSocket.open()), options, { next: (report) => reports.push(report) });
    for (const n of range(6)) sender.send({ payload: String(n), address: `127.0.0.${n + 1}`, port: 9 });
    sender.send({ payload: new Uint8Array(2000), address: '127.0.0.1', port: 9 });
    await sender.close();
    expect(codesOf(reports)).toEqual(['EMSGSIZE']);
    expect(sender.stats).toMatchObject({ sent: 6, dropped: 0, rejected: 1 });
  });
});

describe('a destination that looks like the one before', () => {
  it.each([
    ['an address in place of an endpoint', { address: '127.0.0.1', port: 9 }, { to: '127.0.0.1' }],
    [
      'an endpoint in place of an address',
      { to: endpoint('127.0.0.1', 9) },
      { address: endpoint('127.0.0.1', 9), port: 9 },
    ],
  ])('%s is rejected', async (_what, good, bad) => {
    const sender = new BatchSender(keep(DatagramSocket.open()));
    sender.send({ payload: 'good', ...good });
    sender.send({ payload: 'bad', ...bad } as never);
    expect(codesOf([sender.flush()])).toEqual(['ERR_INVALID_ARG_TYPE']);
    await sender.close();
  });

  it.each([
    [
      'a revoked proxy',
      () => {
        const { proxy, revoke } = Proxy.revocable({}, {});
        revoke();
        return proxy;
      },
    ],
    ['an endpoint by prototype only', () => Object.create(Object.getPrototypeOf(endpoint('127.0.0.1', 9)))],
  ])('%s is one rejection, in a broadcast as well', async (_what, fake) => {
    const sender = new BatchSender(keep(DatagramSocket.open()), { batchSize: 99 });
    sender.send({ payload: 'x', to: fake() } as never);
    sender.broadcast('y', [fake(), endpoint('127.0.0.1', 9)] as never);
    expect(codesOf([sender.flush()])).toEqual(['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_TYPE']);
    expectConservation(sender.stats);
    await sender.close();
  });
});

it('the rejections of a broadcast name its payload and their own peers', async () => {
  const sender = new BatchSender(keep(DatagramSocket.open()), { batchSize: 99 });
  const to = endpoint('127.0.0.1', 9);
  sender.send({ payload: 'hello', to });
  sender.broadcast(123 as never, [to, to]);
  sender.broadcast('state', [to, 'garbage' as never, endpoint('::1', 7)]);
  const { rejected } = sender.flush();
  expect(rejected.map(({ payload, address, port }) => [String(Buffer.from(payload)), address, port])).toEqual([
    ['', undefined, undefined],
    ['', undefined, undefined],
    ['state', undefined, undefined],
    ['state', '::1', 7],
  ]);
  await sender.close();
});

it('ready() rejects if the socket goes while it waits, and from then on', async () => {
  const { socket } = blocked(keep);
  const sender = new BatchSender(socket, { highWaterMarkBytes: 100 });
  while (sender.send('x'.repeat(50)));
  const failed = expect(sender.ready()).rejects.toMatchObject({ code: 'EBADF' });
  socket.close();
  await failed;
  await expect(sender.ready()).rejects.toMatchObject({ code: 'EBADF' });
  expectConservation(sender.stats);
});
