/** Datagrams leave as they went in: where the socket's owner has it cut them itself, and where IPv6 carries IPv4. */
import { from, lastValueFrom, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { endpoint } from '../../src/index.ts';
import { SOL_UDP, UDP_SEGMENT } from '../../src/kernel/abi.ts';
import type { Datagram } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { keeper } from '../support/keep.ts';
import { Inbox } from '../support/lower.ts';

const keep = keeper();
const LOCAL = { address: '127.0.0.1' };
const CUT = 500;

function inbox(): Inbox {
  const made = new Inbox({ bind: LOCAL });
  keep(made.socket);
  return made;
}

/** A descriptor that came with UDP_SEGMENT set, connected or not. */
function cutting(connect?: { address: string; port: number }) {
  const theirs = keep(DatagramSocket.open(connect && { connect }));
  const { libc, fd } = DatagramSocket.nativeOf(theirs);
  expect(libc.setsockopt(fd, SOL_UDP, UDP_SEGMENT, CUT)).toBe(0);
  return { socket: keep(DatagramSocket.fromFd(fd)), cut: (): number => libc.getsockopt(fd, SOL_UDP, UDP_SEGMENT) };
}

/** Alone, since no neighbour is as long; then runs, of segments below, at and above what the socket says. */
const SIZES = [1, 499, 500, 501, 1000, 1001, 7, 60_000, 0, 2000, 3];
const RUNS = [300, CUT, 800].flatMap((size) => new Array<number>(8).fill(size));
const payloads = [...SIZES, ...RUNS, 1200].map((size, index) => Buffer.alloc(size, 97 + (index % 26)));
const lengths = (received: readonly Buffer[]): number[] => received.map(({ length }) => length);

describe('a descriptor that came with UDP_SEGMENT set', () => {
  const marked: [what: string, marks: Pick<Datagram, 'dscp' | 'ecn' | 'from'>][] = [
    ['no marks', {}],
    ['dscp', { dscp: 46 }],
    ['ecn', { ecn: 1 }],
    ['dscp, ecn and from', { dscp: 46, ecn: 1, from: '127.0.0.1' }],
  ];

  it.each(marked.flatMap(([what, marks]) => [true, false].map((isConnected) => ({ what, marks, isConnected }))))(
    'sends each datagram whole through the operator, and runs with their own size: $what, connected $isConnected',
    async ({ marks, isConnected }) => {
      const to = inbox();
      const { socket, cut } = cutting(isConnected ? to.endpoint : undefined);
      const target = isConnected ? {} : to.endpoint;
      const datagrams = payloads.map((payload) => ({ payload, ...target, ...marks }));
      for (const gso of ['auto', 'off'] as const) {
        const reports = await lastValueFrom(from(datagrams).pipe(sendmmsg(socket, { gso }), toArray()));
        expect(reports.flatMap(({ rejected }) => rejected)).toEqual([]);
        const received = await to.receive(payloads.length);
        expect(lengths(received)).toEqual(lengths(payloads));
        expect(received.every((each, index) => each.equals(payloads[index]!))).toBe(true);
      }
      expect(cut()).toBe(CUT);
    },
  );

  it('sends marked and unmarked ones in turn, lists, strings and a broadcast whole; runs are segmented', async () => {
    const to = inbox();
    const { socket, cut } = cutting();
    const sender = new BatchSender(socket, { batchSize: 1000 });
    const large = 'x'.repeat(1300);
    sender.send({ payload: large, ...to.endpoint, dscp: 46 });
    sender.send({ payload: large, ...to.endpoint });
    sender.send({ payload: [large, Buffer.from('y')], ...to.endpoint });
    sender.broadcast(large, [endpoint(LOCAL.address, to.endpoint.port), endpoint(LOCAL.address, to.endpoint.port)]);
    for (let index = 0; index < 20; index++) sender.send({ payload: Buffer.alloc(900, index), ...to.endpoint });
    sender.flush();
    const received = await to.receive(25);
    expect(lengths(received)).toEqual([1300, 1300, 1301, 1300, 1300, ...new Array<number>(20).fill(900)]);
    expect(sender.stats.gso).toMatchObject({ state: 'on', messages: 2, segments: 22 });
    expect(cut()).toBe(CUT);
    await sender.close();
  });

  it.each(marked)('sends each datagram whole through socket.sendmmsg: %s', async (_what, marks) => {
    const to = inbox();
    const { socket, cut } = cutting();
    const datagrams = payloads.map((payload) => ({ payload, ...to.endpoint, ...marks }));
    expect(socket.sendmmsg(datagrams)).toEqual({ sent: payloads.length, lengths: lengths(payloads) });
    expect(lengths(await to.receive(payloads.length))).toEqual(lengths(payloads));
    expect(cut()).toBe(CUT);
  });
});

describe('an IPv6 socket that sends to an IPv4-mapped address', () => {
  // What IPv6 could carry and IPv4 cannot: 65 508 to 65 527 bytes, and the neighbours of these.
  it.each([
    [2, 32_753],
    [2, 32_754],
    [2, 32_760],
    [2, 32_763],
    [2, 32_764],
    [3, 21_836],
    [3, 21_842],
    [17, 3854],
    [60, 1092],
    [63, 1040],
  ])('has no run refused: %i datagrams of %i bytes, nothing is latched', async (count, size) => {
    const to = inbox();
    const mapped = { address: `::ffff:${LOCAL.address}`, port: to.endpoint.port };
    for (const options of [{ type: 'udp6' as const }, { type: 'udp6' as const, connect: mapped }]) {
      const socket = keep(DatagramSocket.open(options));
      const sender = new BatchSender(socket, { batchSize: 1000 });
      const target = 'connect' in options ? {} : mapped;
      for (let index = 0; index < count; index++) sender.send({ payload: Buffer.alloc(size, index), ...target });
      const report = sender.flush();
      expect(report).toMatchObject({ sent: count, syscalls: 1, rejected: [], pendingErrors: 0 });
      expect(lengths(await to.receive(count))).toEqual(new Array<number>(count).fill(size));
      const perMessage = Math.floor(65_507 / size);
      const messages = Math.floor(count / perMessage) + (count % perMessage > 1 ? 1 : 0);
      const expected = { state: 'on', destinationsOff: 0, messages: perMessage > 1 ? messages : 0 };
      expect(sender.stats.gso).toMatchObject(expected);
      await sender.close();
    }
  });
});
