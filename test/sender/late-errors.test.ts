/** Errors that come in late: of a datagram that was sent, as ICMP tells them of a connected UDP socket. */
import { once } from 'node:events';
import { beforeEach, describe, expect, it } from 'vitest';
import type { BatchReport } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { DgramTransport } from '../../src/socket/dgram-transport.ts';
import { opening } from '../support/backend.ts';
import { expectConservation, numberedList } from '../support/datagrams.ts';
import { DOORS } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { MODES } from '../support/modes.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();
beforeEach(() => {
  opening.isNative = true;
});

/** A socket connected to a port that nobody listens at. */
function toNobody(isNative = true): DatagramSocket {
  const gone = Receiver.udp();
  const connect = { address: '127.0.0.1', port: gone.port };
  gone.close();
  opening.isNative = isNative;
  return keep(DatagramSocket.open({ connect }));
}
const sumOf = (reports: readonly BatchReport[], what: 'sent' | 'pendingErrors'): number =>
  reports.reduce((sum, report) => sum + report[what], 0);

describe.each(MODES)('of the last datagram, $name', ({ options }) => {
  it.each(DOORS)('is told before completion: $name', async ({ send }) => {
    const { reports } = await send(toNobody(), options, ['alone']);
    expect([sumOf(reports, 'sent'), sumOf(reports, 'pendingErrors')]).toEqual([1, 1]);
    expect(reports.flatMap(({ rejected }) => rejected)).toEqual([]);
  });

  it('makes a report by itself, and is counted once', async () => {
    const reports: BatchReport[] = [];
    const sender = new BatchSender(toNobody(), options, { next: (report) => reports.push(report) });
    sender.send('alone');
    sender.flush();
    await sender.close();
    expect(reports.map(({ sent, pendingErrors }) => [sent, pendingErrors])).toEqual([
      [1, 0],
      [0, 1],
    ]);
    expect(sender.stats).toMatchObject({ sent: 1, pendingErrors: 1, rejected: 0 });
    expectConservation(sender.stats);
  });
});

describe('of datagrams before', () => {
  it.each([1, 2, 64])(
    'none is rejected for them, with %i a batch: all are sent, and each call is bounded',
    async (batchSize) => {
      const reports: BatchReport[] = [];
      const sender = new BatchSender(toNobody(), { batchSize }, { next: (report) => reports.push(report) });
      for (const text of numberedList(500)) sender.send(text);
      await sender.close();
      expect(sender.stats).toMatchObject({ sent: 500, rejected: 0, dropped: 0 });
      expect(sender.stats.pendingErrors).toBeGreaterThan(0);
      expect(sumOf(reports, 'pendingErrors')).toBe(sender.stats.pendingErrors);
      expect(sender.stats.syscalls).toBeLessThan(1200);
      expectConservation(sender.stats);
    },
  );

  it('one by one each is counted: the call for the next one is answered with it', async () => {
    const sender = new BatchSender(toNobody());
    for (const text of numberedList(10)) {
      sender.send(text);
      sender.flush();
    }
    expect(sender.stats).toMatchObject({ sent: 10, syscalls: 19, pendingErrors: 9 });
    await sender.close();
    expect(sender.stats.pendingErrors).toBe(10);
  });

  it('through node:dgram, which hears of them by reading, they are counted, and none is rejected', async () => {
    const socket = toNobody(false);
    expect(DatagramSocket.transportOf(socket).backend).toBe('node:dgram');
    const { socket: reader } = DatagramSocket.transportOf(socket) as DgramTransport;
    const reports: BatchReport[] = [];
    const sender = new BatchSender(socket, {}, { next: (report) => reports.push(report) });
    for (const text of numberedList(3)) {
      const heard = once(reader, 'error');
      sender.send(text);
      sender.flush();
      expect(await heard).toMatchObject([{ code: 'ECONNREFUSED', syscall: 'recvmsg' }]);
    }
    await sender.close();
    expect(sender.stats).toMatchObject({ sent: 3, rejected: 0, pendingErrors: 3 });
    expect([sumOf(reports, 'sent'), sumOf(reports, 'pendingErrors')]).toEqual([3, 3]);
    expectConservation(sender.stats);
  });
});
