/** A unix peer that goes away and comes back, as a syslog daemon does when it is restarted. */
import { renameSync, rmSync } from 'node:fs';
import koffi from 'koffi';
import { describe, expect, it, vi } from 'vitest';
import type { BatchReport } from '../../src/index.ts';
import { AF_UNIX, SOCK_DGRAM } from '../../src/kernel/abi.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { freshPath, Receiver } from '../support/receiver.ts';

const keep = keeper();
const reasons = ({ rejected }: BatchReport) =>
  rejected.map(({ path, error }) => [path, error.code, error.syscall, error.path]);

const SOCKETS: [how: string, connected: (path: string) => DatagramSocket][] = [
  ['opened connected', (path) => keep(DatagramSocket.open({ type: 'unix', connect: { path } }))],
  [
    'connected later',
    (path) => {
      const socket: DatagramSocket = keep(DatagramSocket.open({ type: 'unix' }));
      socket.connect(path);
      return socket;
    },
  ],
  [
    'that came connected as a descriptor',
    (path) => {
      const theirs = keep(DatagramSocket.open({ type: 'unix', connect: { path } }));
      return keep(DatagramSocket.fromFd(DatagramSocket.nativeOf(theirs).fd));
    },
  ],
];
const GOES: [how: string, go: (peer: Receiver) => void, code: string][] = [
  ['takes its path along', (peer) => peer.close(), 'ENOENT'],
  [
    'leaves its path behind',
    (peer) => {
      const aside = freshPath();
      const { path } = peer;
      renameSync(path, aside);
      peer.close();
      renameSync(aside, path);
    },
    'ECONNREFUSED',
  ],
];

describe.each(SOCKETS)('the peer of a socket %s', (_how, connected) => {
  it.each(GOES)(
    'that goes and %s costs what is sent meanwhile, for that reason, and is found again',
    async (_how, go, code) => {
      const first = Receiver.unix();
      const { path } = first;
      const sender = new BatchSender(connected(path));
      sender.send('before');
      expect(sender.flush()).toMatchObject({ sent: 1 });
      expect(first.drain().map(String)).toEqual(['before']);
      go(first);

      sender.send('meanwhile');
      sender.send('still');
      const lost = sender.flush();
      expect(reasons(lost)).toEqual([
        [path, code, 'connect', path],
        [path, code, 'connect', path],
      ]);
      expect(lost).toMatchObject({ sent: 0, pendingErrors: 0 });
      expect(lost.syscalls).toBeLessThan(6);

      rmSync(path, { force: true });
      const second = keep(Receiver.unix(path));
      sender.send('after');
      sender.send('again');
      expect(sender.flush()).toMatchObject({ sent: 2, rejected: [] });
      expect(second.drain().map(String)).toEqual(['after', 'again']);
      expectConservation(sender.stats);
      await sender.close();
    },
  );
});

it('of a socketpair(2), which has no name, is not looked for: the rejections name nobody', async () => {
  const pair = new Int32Array(2);
  const libc = koffi.load(null);
  expect(
    libc.func('int socketpair(int domain, int type, int protocol, void *pair)')(AF_UNIX, SOCK_DGRAM, 0, pair),
  ).toBe(0);
  const socket = keep(DatagramSocket.fromFd(pair[0]!));
  for (const fd of pair) libc.func('int close(int fd)')(fd);
  const sender = new BatchSender(socket);
  for (const payload of ['x', 'y']) sender.send(payload);
  const report = sender.flush();
  expect(reasons(report)).toEqual(['x', 'y'].map(() => [undefined, 'ENOTCONN', 'sendmmsg', undefined]));
  expect(report.pendingErrors).toBe(0);
  await sender.close();
});

it.each(GOES)(
  'without a connection, a peer that goes and %s is one rejection a datagram, and no late error',
  async (_how, go, code) => {
    const peer = Receiver.unix();
    const { path } = peer;
    go(peer);
    const sender = new BatchSender(keep(DatagramSocket.open({ type: 'unix' })));
    for (const payload of ['a', 'b', 'c']) sender.send({ payload, path });
    const report = sender.flush();
    expect(reasons(report)).toEqual(['a', 'b', 'c'].map(() => [path, code, 'sendmmsg', path]));
    expect([report.pendingErrors, sender.stats.pendingErrors]).toEqual([0, 0]);
    rmSync(path, { force: true });
    await sender.close();
  },
);

it("a flight that lands after destroy() connects to nobody: the socket is its owner's", async () => {
  const first = Receiver.unix();
  const { path } = first;
  const socket = keep(DatagramSocket.open({ type: 'unix', connect: { path } }));
  first.close();
  keep(Receiver.unix(path));
  const sender = new BatchSender(socket, { offload: true });
  sender.send('x');
  sender.flush();
  sender.destroy();
  await vi.waitFor(() => expect(sender.stats.queued).toBe(0));
  expect(() => socket.remoteAddress()).toThrow(expect.objectContaining({ code: 'ENOTCONN' }));
  expect(sender.stats).toMatchObject({ queued: 0, droppedBy: { teardown: 1 } });
});
