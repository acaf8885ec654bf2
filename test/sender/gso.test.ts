/** UDP GSO: what goes out segmented, what the kernel refuses, and how nothing is lost or sent twice then. */
import { from, lastValueFrom, toArray } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { endpoint, sendmmsg } from '../../src/index.ts';
import { SOL_SOCKET } from '../../src/kernel/abi.ts';
import { GSO_RETRY_MS, GsoLatch, isGsoAllowed } from '../../src/queue/gso.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { inNamespace, send } from '../support/child.ts';
import { expectConservation, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const SO_NO_CHECK = 11;
const EIO = 5;
const EMSGSIZE = 90;
const keep = keeper();
afterEach(() => vi.unstubAllEnvs());

/** Sends texts to one receiver and says what came, and the stats. */
async function exchange(
  texts: readonly string[],
  options: BatchOptions = {},
  prepare?: (socket: DatagramSocket) => void,
) {
  const receiver = keep(Receiver.udp());
  const socket = keep(DatagramSocket.open());
  prepare?.(socket);
  const to = endpoint('127.0.0.1', receiver.port);
  const sender = new BatchSender(socket, { batchSize: 4096, ...options });
  for (const payload of texts) sender.send({ payload, to });
  await sender.close();
  const received = (await receiver.receive(texts.length)).map(String);
  return { received, stats: sender.stats, receiver, socket, to };
}
const numbered = (count: number, size = 12): string[] =>
  range(count).map((n) => `${n}:`.padEnd(size, String.fromCharCode(97 + (n % 26))));

describe('what goes out segmented', () => {
  it('200 equal datagrams are four messages in one call', async () => {
    const { received, stats } = await exchange(numbered(200));
    expect(received).toEqual(numbered(200));
    expect(stats).toMatchObject({ sent: 200, syscalls: 1, gso: { state: 'on', messages: 4, segments: 200 } });
  });

  it('boundaries hold for any lengths, empty ones included', async () => {
    const texts = range(300).map((n) => 'x'.repeat([5, 5, 5, 3, 0, 7, 7, 1][n % 8]!));
    const { received, stats } = await exchange(texts);
    expect(received).toEqual(texts);
    expect(stats.gso.segments).toBeGreaterThan(0);
    expect(stats.gso.segments).toBeLessThan(300);
  });

  it('64 segments of more than 65507 bytes together are cut to what a message holds', async () => {
    const texts = numbered(64, 1400);
    const { received, stats } = await exchange(texts);
    expect(received).toEqual(texts);
    expect(stats.gso.messages).toBe(2);
  });

  it.each([
    ['the option says off', { gso: 'off' }, ''],
    ['RX_SENDMMSG_GSO=off is in the environment', {}, 'off'],
  ] as const)('nothing does where %s', async (_why, options, environment) => {
    vi.stubEnv('RX_SENDMMSG_GSO', environment);
    const { received, stats } = await exchange(numbered(100), options);
    expect(received).toEqual(numbered(100));
    expect(stats.gso).toEqual({ state: 'off', destinationsOff: 0, messages: 0, segments: 0 });
  });

  it('nothing does on a unix socket, which would merge them in silence', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new BatchSender(keep(receiver.connected()), { batchSize: 8 });
    for (const text of numbered(8)) sender.send(text);
    expect(sender.stats.gso.state).toBe('off');
    expect(receiver.drain().map(String)).toEqual(numbered(8));
  });

  it('leaves no option of the socket changed', async () => {
    const { socket } = await exchange(numbered(100));
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    expect(libc.getsockopt(fd, 17, 103)).toBe(0);
  });
});

describe('what the kernel refuses goes out one by one', () => {
  const withoutChecksum = (socket: DatagramSocket): void => {
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    libc.setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, 1);
  };

  it.each([65, 200, 1000])(
    'EINVAL (SO_NO_CHECK), %i datagrams: each arrives once, in order, and the destination is latched',
    async (count) => {
      const { received, stats, socket, to, receiver } = await exchange(numbered(count), {}, withoutChecksum);
      expect(received).toEqual(numbered(count));
      expect(stats).toMatchObject({ sent: count, rejected: 0, pendingErrors: 0 });
      expect(stats.gso).toMatchObject({ state: 'on', destinationsOff: 1, messages: 0 });
      expect(stats.syscalls).toBeLessThan(3 + 2 * Math.ceil(count / 64));
      expectConservation(stats);

      const after = new BatchSender(socket, { batchSize: 4096 });
      for (const payload of numbered(64)) after.send({ payload, to });
      expect(after.flush()).toMatchObject({ sent: 64, syscalls: 1 });
      expect((await receiver.receive(64)).map(String)).toEqual(numbered(64));
      await after.close();
    },
  );

  it('another destination is not latched with it', async () => {
    const { socket, to } = await exchange(numbered(64), {}, withoutChecksum);
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    libc.setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, 0);
    const other = keep(Receiver.udp('udp4', '127.0.0.2'));
    const sender = new BatchSender(socket, { batchSize: 4096 });
    for (const payload of numbered(10)) sender.send({ payload, to: endpoint('127.0.0.2', other.port) });
    for (const payload of numbered(10)) sender.send({ payload, to });
    await sender.close();
    expect(sender.stats.gso).toMatchObject({ destinationsOff: 1, messages: 1, segments: 10 });
  });

  it('an endpoint that is rejected plainly, too, latches nothing', async () => {
    const socket = keep(DatagramSocket.open());
    withoutChecksum(socket);
    const sender = new BatchSender(socket);
    for (const payload of numbered(3)) sender.send({ payload, address: '255.255.255.255', port: 9 });
    const { rejected } = sender.flush();
    expect(rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual(range(3).map((n) => [n, 'EACCES']));
    expect(sender.stats.gso.destinationsOff).toBe(0);
    await sender.close();
  });

  it.for([{}, { offload: true }])('segments over the MTU of a real route, %o', async (options, context) => {
    requires(context, 'root', 'ip', 'netns');
    const { stats, rejected, received } = await send(
      {
        options: { batchSize: 256, ...options },
        count: 500,
        size: 2000,
        receive: { type: 'udp4', address: '127.0.0.1' },
      },
      inNamespace('ip link set lo mtu 1500'),
    );
    expect(rejected).toEqual([]);
    expect(numbersOf(received)).toEqual(range(500));
    expect(stats.gso).toMatchObject({ state: 'on', destinationsOff: 1, messages: 0 });
    expect(stats.pendingErrors).toBe(0); // EMSGSIZE may be a late error, but this one was not
    expectConservation(stats);
  });

  it('EIO latches the whole socket', async (context) => {
    requires(context, 'strace');
    const inject = ['-e', 'trace=sendmmsg', '-e', 'inject=sendmmsg:error=EIO:when=2'];
    const { stats, rejected, received } = await send(
      { options: { batchSize: 64 }, count: 300, receive: { type: 'udp4', address: '127.0.0.1' } },
      ['strace', '-f', '-qq', '-o', '/dev/null', ...inject],
    );
    expect(rejected).toEqual([]);
    expect(numbersOf(received)).toEqual(range(300));
    expect(stats.gso).toMatchObject({ state: 'latched', messages: 0 });
  });
});

describe('the latch', () => {
  it('holds for the destination and for segments as large, and is tried again after a while', () => {
    const latch = new GsoLatch();
    const there = { family: 2, length: 16, words: new Uint32Array(4), hash: 0 };
    latch.refuse(EMSGSIZE, there, 1400, 1000);
    expect([latch.allows(there, 1400), latch.allows(there, 1399), latch.allows(null, 1400)]).toEqual([
      false,
      true,
      true,
    ]);
    latch.expire(1000 + GSO_RETRY_MS - 1);
    expect(latch.isOpen).toBe(false);
    latch.expire(1000 + GSO_RETRY_MS);
    expect([latch.isOpen, latch.allows(there, 1400)]).toEqual([true, true]);
  });

  it('holds for the socket on EIO', () => {
    const latch = new GsoLatch();
    latch.refuse(EIO, null, 64, 5);
    expect([latch.isSocketOff, latch.allows(null, 1)]).toEqual([true, false]);
    latch.expire(5 + GSO_RETRY_MS);
    expect(latch.isSocketOff).toBe(false);
  });

  it.each([
    ['6.1.0-41-amd64', true],
    ['6.18.44', true],
    ['7.0.0', false],
    ['7.0.12-generic', false],
    ['7.1.4', false],
    ['7.1.4-rc1', false],
    ['7.1.5', true],
    ['7.2.0', true],
    ['8.0.1', true],
  ])('kernel %s: %s', (kernel, allowed) => {
    expect(isGsoAllowed({}, kernel)).toBe(allowed);
    expect(isGsoAllowed({ RX_SENDMMSG_GSO: 'off' }, kernel)).toBe(false);
  });
});

it('maxAgeMs does not keep datagrams of one millisecond apart', async () => {
  const receiver = keep(Receiver.udp());
  const connect = { address: '127.0.0.1', port: receiver.port };
  const reports = await lastValueFrom(
    from(numbered(60)).pipe(
      sendmmsg(() => DatagramSocket.open({ connect }), { maxAgeMs: 60_000 }),
      toArray(),
    ),
  );
  expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(60);
  expect((await receiver.receive(60)).map(String)).toEqual(numbered(60));
});
