/** EPIPE: a socket, or one of its destinations, that was shut down; shutdown(2), unix(7). */
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import type { BatchReport } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, numbered, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';

const [SHUT_RD, SHUT_WR] = [0, 1];
const shutdown = koffi.load(null).func('int shutdown(int fd, int how)') as (fd: number, how: number) => number;
const shut = (socket: DatagramSocket, how: number): void =>
  expect(shutdown(DatagramSocket.nativeOf(socket).fd, how)).toBe(0);
const keep = keeper();

/** Sends datagrams to one of two peers in turn; what came of it. */
async function toTwo(socket: DatagramSocket, paths: readonly string[], options: object) {
  const reports: BatchReport[] = [];
  const errors: unknown[] = [];
  const observer = {
    next: (report: BatchReport) => reports.push(report),
    error: (error: unknown) => errors.push(error),
  };
  const sender = new BatchSender(socket, options, observer);
  for (const index of range(10)) sender.send({ payload: numbered(index), path: paths[index % 2]! });
  await sender.close().catch(() => {});
  expectConservation(sender.stats);
  return { rejected: reports.flatMap(({ rejected }) => rejected), errors, stats: sender.stats };
}

describe.each([
  ['inline', {}],
  ['on the thread pool', { offload: true }],
])('EPIPE, %s', (_where, options) => {
  it('of one destination that reads no more is a rejection for each of its datagrams; the other gets all', async () => {
    const [deaf, alive] = [keep(Receiver.unix()), keep(Receiver.unix())];
    shut(deaf.socket, SHUT_RD);
    const socket = keep(DatagramSocket.open({ type: 'unix' }));
    const { rejected, errors, stats } = await toTwo(socket, [deaf.path, alive.path], options);
    expect(errors).toEqual([]);
    expect(rejected.map(({ sequence, path, error }) => [sequence, path, error.code, error.path])).toEqual(
      [0, 2, 4, 6, 8].map((sequence) => [sequence, deaf.path, 'EPIPE', deaf.path]),
    );
    expect(numbersOf(alive.drain())).toEqual([1, 3, 5, 7, 9]);
    expect(stats).toMatchObject({ sent: 5, pendingErrors: 0 });
  });

  it('of the socket itself ends the stream', async () => {
    const peers = [keep(Receiver.unix()), keep(Receiver.unix())];
    const socket = keep(DatagramSocket.open({ type: 'unix' }));
    shut(socket, SHUT_WR);
    const { rejected, errors, stats } = await toTwo(
      socket,
      peers.map(({ path }) => path),
      options,
    );
    expect(errors).toMatchObject([{ code: 'EPIPE', syscall: 'sendmmsg' }]);
    expect(rejected).toEqual([]);
    expect(stats).toMatchObject({ accepted: 10, sent: 0, droppedBy: { failure: 10 } });
    expect(peers.flatMap((peer) => peer.drain())).toEqual([]);
  });

  it.each([
    ['its peer reads no more', (_socket: DatagramSocket, peer: Receiver) => shut(peer.socket, SHUT_RD)],
    ['it sends no more', (socket: DatagramSocket) => shut(socket, SHUT_WR)],
  ])('of a connected socket ends the stream, naming the peer: %s', async (_why, end) => {
    const peer = keep(Receiver.unix());
    const socket = keep(peer.connected());
    end(socket, peer);
    const errors: unknown[] = [];
    const sender = new BatchSender(socket, options, { error: (error) => errors.push(error) });
    for (const index of range(3)) sender.send(numbered(index));
    await expect(sender.close()).rejects.toMatchObject({ code: 'EPIPE' });
    expect(errors).toMatchObject([{ code: 'EPIPE', path: peer.path }]);
    expect(sender.stats).toMatchObject({ sent: 0, rejected: 0 });
    expectConservation(sender.stats);
  });

  it('over UDP ends the stream', async () => {
    const receiver = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: receiver.port } }));
    shut(socket, SHUT_WR);
    const sender = new BatchSender(socket, options);
    sender.send('x');
    await expect(sender.close()).rejects.toMatchObject({ code: 'EPIPE', address: '127.0.0.1', port: receiver.port });
    expectConservation(sender.stats);
  });
});
