import { from, lastValueFrom, reduce } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { DatagramLike, RejectedDatagram } from '../../src/message/datagram.ts';
import { endpoint } from '../../src/message/sockaddr.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { BACKEND, callsFor } from '../support/backend.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { MODES } from '../support/modes.ts';
import { Receiver, ReceiverProcess } from '../support/receiver.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});
function keep<T extends { close(): void }>(resource: T): T {
  open.push(resource);
  return resource;
}

describe.each(MODES)('UDP, $name', ({ options }) => {
  function total(datagrams: readonly DatagramLike[], socket: DatagramSocket, more = {}) {
    return lastValueFrom(
      from(datagrams).pipe(
        sendmmsg(keep(socket), { ...options, ...more }),
        reduce(
          (sum, { sent, syscalls, rejected }) => ({
            sent: sum.sent + sent,
            syscalls: sum.syscalls + syscalls,
            rejected: [...sum.rejected, ...rejected],
          }),
          { sent: 0, syscalls: 0, rejected: [] as RejectedDatagram[] },
        ),
      ),
    );
  }

  it.each([1, 63, 64, 65, 1023, 1024, 1025, 2000, 3072])('%i datagrams arrive once each, in order', async (count) => {
    const receiver = keep(Receiver.udp());
    const to = endpoint('127.0.0.1', receiver.port);
    const datagrams = numberedList(count).map((payload) => ({ payload, to }));
    const { sent, syscalls } = await total(datagrams, DatagramSocket.open(), { batchSize: 1024 });
    expect(sent).toBe(count);
    expect(syscalls).toBeLessThanOrEqual(callsFor(Math.ceil(count / 1024), count) + 1);
    expect(numbersOf(await receiver.receive(count))).toEqual(range(count));
    expect(receiver.drain()).toEqual([]);
  });

  const bads: readonly (readonly [string, string, (port: number) => DatagramLike])[] = [
    ['70000 bytes', 'EMSGSIZE', (port) => ({ payload: 'x'.repeat(70_000), address: '127.0.0.1', port })],
    ['255.255.255.255', 'EACCES', (port) => ({ payload: 'x', address: '255.255.255.255', port })],
    ['port 0', 'ERR_SOCKET_BAD_PORT', () => ({ payload: 'x', address: '127.0.0.1', port: 0 })],
    ['a host name', 'ERR_INVALID_IP_ADDRESS', (port) => ({ payload: 'x', address: 'localhost', port })],
    ['an IPv6 address', 'EAFNOSUPPORT', (port) => ({ payload: 'x', address: '::1', port })],
    ['no address', 'EDESTADDRREQ', () => 'x'],
  ];
  describe.each(bads)('%s is one rejection, %s, and everything else arrives', (_what, code, bad) => {
    it.each([
      ['first', [0]],
      ['in the middle', [100]],
      ['on the boundary', [63, 64]],
      ['last', [191]],
    ])('%s', async (_where, at) => {
      const receiver = keep(Receiver.udp());
      const { port } = receiver;
      const datagrams = range(192).map((index) =>
        at.includes(index) ? bad(port) : { payload: numbered(index), address: '127.0.0.1', port },
      );
      const { sent, rejected } = await total(datagrams, DatagramSocket.open());
      expect(rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual(at.map((index) => [index, code]));
      expect(sent).toBe(192 - at.length);
      expect(numbersOf(await receiver.receive(sent))).toEqual(range(192, at));
    });
  });

  it('a dead peer: all are sent, the late errors are counted, and the calls stay bounded', async () => {
    const gone = Receiver.udp();
    const { port } = gone;
    gone.close();
    const sender = new BatchSender(keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port } })), options);
    for (const text of numberedList(1000)) if (!sender.send(text)) await sender.ready();
    await sender.close();
    const { sent, rejected, syscalls, pendingErrors } = sender.stats;
    expect({ sent, rejected }).toEqual({ sent: 1000, rejected: 0 });
    expect(pendingErrors).toBeGreaterThan(0);
    // One by one, each that fails behind others is a call, too.
    expect(syscalls).toBeLessThan(callsFor(1300, 2300));
    expectConservation(sender.stats);
  });

  it('keeps boundaries: 0 bytes and the largest there are', async () => {
    const receiver = keep(Receiver.udp());
    const { port } = receiver;
    const payloads = ['', 'a', '', '', 'b'.repeat(65_507), '', 'c'.repeat(1200), 'c'.repeat(1200), 'c'.repeat(7), ''];
    const tooLarge = { payload: 'd'.repeat(65_508), address: '127.0.0.1', port };
    const datagrams = [...payloads.map((payload) => ({ payload, address: '127.0.0.1', port })), tooLarge];
    const { rejected, sent } = await total(datagrams, DatagramSocket.open());
    expect((await receiver.receive(sent)).map(String)).toEqual(payloads);
    expect(rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual([[payloads.length, 'EMSGSIZE']]);
  });

  it('fans out to many receivers, each gets its own', async () => {
    const receivers = range(20).map(() => keep(Receiver.udp()));
    const datagrams = range(2000).map((index) => ({
      payload: numbered(index),
      address: '127.0.0.1',
      port: receivers[(index * 7) % 20]!.port,
    }));
    expect(await total(datagrams, DatagramSocket.open())).toMatchObject({ sent: 2000, rejected: [] });
    for (const [which, receiver] of receivers.entries()) {
      const expected = range(2000).filter((index) => (index * 7) % 20 === which);
      expect(numbersOf(await receiver.receive(expected.length))).toEqual(expected);
    }
  });

  it('IPv6', async (context) => {
    let receiver: Receiver;
    try {
      receiver = keep(Receiver.udp('udp6'));
    } catch {
      return context.skip('no IPv6 on this machine');
    }
    const datagrams = numberedList(500).map((payload) => ({ payload, address: '::1', port: receiver.port }));
    const { sent } = await total(datagrams, DatagramSocket.open({ type: 'udp6' }));
    expect(numbersOf(await receiver.receive(sent))).toEqual(range(500));
  });

  // node:dgram knows no unix sockets.
  const types = BACKEND === 'node:dgram' ? (['udp4'] as const) : (['udp4', 'unix'] as const);
  it.each(types)('%s to a reader in a process of its own', async (type) => {
    const receiver = await ReceiverProcess.start(type);
    try {
      const connect =
        typeof receiver.address === 'string'
          ? { path: receiver.address }
          : { address: '127.0.0.1', port: receiver.address };
      await total(numberedList(3000), DatagramSocket.open({ type, connect }));
      await expect.poll(() => receiver.count(), { timeout: 10_000 }).toBe(3000);
      expect(numbersOf(await receiver.datagrams())).toEqual(range(3000));
    } finally {
      receiver.stop();
    }
  });
});
