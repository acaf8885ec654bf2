/** dscp, ecn and from on the real kernel: what a receiver sees of them. */
import { describe, expect, it } from 'vitest';
import { SOL_SOCKET, SOL_UDP } from '../../src/kernel/abi.ts';
import type { Datagram, DatagramLike, RejectedDatagram } from '../../src/message/datagram.ts';
import { endpoint } from '../../src/message/sockaddr.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { inNamespace, send } from '../support/child.ts';
import { expectConservation, numbered, numbersOf, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { MODES } from '../support/modes.ts';
import { Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';
import { type Seen, Witness } from '../support/witness.ts';

type Marks = Pick<Datagram, 'dscp' | 'ecn' | 'from'>;
/** What is asked for, and what a receiver is to see of it. */
type Kind = readonly [asked: Marks, seen: Omit<Seen, 'text'>];

const keep = keeper();
// <asm-generic/socket.h>, <linux/udp.h>
const [SO_NO_CHECK, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX] = [11, 101, 102];

const KINDS: Record<'udp4' | 'udp6', readonly Kind[]> = {
  udp4: [
    [{}, { trafficClass: 0, from: '127.0.0.1' }],
    [{ dscp: 46 }, { trafficClass: 184, from: '127.0.0.1' }],
    [
      { dscp: 46, from: '127.0.0.2' },
      { trafficClass: 184, from: '127.0.0.2' },
    ],
    [{ from: '127.0.0.3' }, { trafficClass: 0, from: '127.0.0.3' }],
    [{ ecn: 2 }, { trafficClass: 2, from: '127.0.0.1' }],
    [
      { dscp: 63, ecn: 3 },
      { trafficClass: 255, from: '127.0.0.1' },
    ],
    [{ dscp: 0 }, { trafficClass: 0, from: '127.0.0.1' }],
  ],
  udp6: [
    [{}, { trafficClass: 0, from: '::1' }],
    [{ dscp: 46 }, { trafficClass: 184, from: '::1' }],
    [
      { dscp: 10, ecn: 1, from: '::1' },
      { trafficClass: 41, from: '::1' },
    ],
    [{ from: '::1%1' }, { trafficClass: 0, from: '::1' }],
    [{ ecn: 3 }, { trafficClass: 3, from: '::1' }],
    [
      { dscp: 63, ecn: 3 },
      { trafficClass: 255, from: '::1' },
    ],
  ],
};

/** Sources that are no addresses of this machine; by kernel version, EINVAL or ENETUNREACH. */
const FOREIGN = {
  udp4: ['198.51.100.1', '224.0.0.1'],
  udp6: ['2001:db8::1', '::1%999999', 'ff02::1'],
} as const;

/** Sends `datagrams` to a witness, `marks` of each, and says what became of them. */
class Exchange {
  readonly witness: Witness;
  readonly socket: DatagramSocket;
  readonly sender: BatchSender;
  readonly rejected: RejectedDatagram[] = [];
  readonly #to: Pick<Datagram, 'to'>;

  constructor(type: 'udp4' | 'udp6', isConnected: boolean, options: BatchOptions) {
    this.witness = keep(new Witness(type));
    const { address, port } = this.witness.endpoint;
    this.socket = keep(DatagramSocket.open({ type, ...(isConnected && { connect: { address, port } }) }));
    this.sender = new BatchSender(this.socket, options, { next: ({ rejected }) => this.rejected.push(...rejected) });
    this.#to = isConnected ? {} : { to: endpoint(address, port) };
  }

  send(index: number, marks: object): void {
    this.sender.send({ payload: numbered(index), ...this.#to, ...marks });
  }
}

/** Has the kernel refuse UDP_SEGMENT, which needs checksums, and nothing else. */
function withoutChecksum({ socket, witness }: Exchange): void {
  const set = (on: DatagramSocket, level: number, option: number): void => {
    const { libc, fd } = DatagramSocket.nativeOf(on);
    libc.setsockopt(fd, level, option, 1);
  };
  set(socket, SOL_SOCKET, SO_NO_CHECK);
  set(socket, SOL_UDP, UDP_NO_CHECK6_TX);
  set(witness.socket, SOL_UDP, UDP_NO_CHECK6_RX);
}

const SHAPES = (['udp4', 'udp6'] as const).flatMap((type) =>
  [false, true].map((isConnected) => ({ type, isConnected })),
);

describe.each(MODES)('dscp, ecn and from, $name', ({ options }) => {
  describe.each(SHAPES)('$type, connected: $isConnected', ({ type, isConnected }) => {
    const isGso = options.gso === 'auto';

    it.each([16, 4096])('arrive with each datagram as asked, in order, %i a batch', async (batchSize) => {
      const kinds = KINDS[type];
      const exchange = new Exchange(type, isConnected, { ...options, batchSize });
      // In runs, one by one, and in runs again over slots that have held something else.
      const kindOf = (index: number): Kind => kinds[(index < 160 || index >= 220 ? index >> 3 : index) % kinds.length]!;
      for (const index of range(400)) {
        exchange.send(index, kindOf(index)[0]);
        if (index % 100 === 99) await new Promise(setImmediate);
      }
      await exchange.sender.close();
      expect(await exchange.witness.receive(400)).toEqual(
        range(400).map((index) => ({ text: numbered(index), ...kindOf(index)[1] })),
      );
      expect(exchange.rejected).toEqual([]);
      expectConservation(exchange.sender.stats);
    });

    describe.each(FOREIGN[type])('a source that is no address of this machine, %s', (foreign) => {
      it.each([
        ['first', [0]],
        ['in the middle', [77]],
        ['a run of them', range(40, range(20))],
        ['last', [99]],
      ])('is one rejection each, and no fault of GSO: %s', async (_where, bad) => {
        const exchange = new Exchange(type, isConnected, { ...options, batchSize: 4096 });
        for (const index of range(100))
          exchange.send(index, { dscp: 46, ...(bad.includes(index) && { from: foreign }) });
        await exchange.sender.close();
        expect(exchange.rejected.map(({ sequence }) => sequence)).toEqual(bad);
        for (const { error, payload, sequence } of exchange.rejected) {
          expect(error.code).toMatch(foreign.includes('%') ? /^ENODEV$/ : /^(EINVAL|ENETUNREACH|EADDRNOTAVAIL)$/);
          expect(error.syscall).toBe('sendmmsg');
          expect(Buffer.from(payload).toString()).toBe(numbered(sequence));
        }
        const seen = await exchange.witness.receive(100 - bad.length);
        expect(numbersOf(seen.map(({ text }) => text))).toEqual(range(100, bad));
        expect(new Set(seen.map(({ trafficClass }) => trafficClass))).toEqual(new Set([184]));
        const { gso } = exchange.sender.stats;
        expect(gso).toMatchObject({ state: isGso ? 'on' : 'off', destinationsOff: 0 });
        if (isGso) expect(gso.segments).toBeGreaterThan(0);
        expectConservation(exchange.sender.stats);
      });
    });
  });

  it('reach an IPv4-mapped destination of an IPv6 socket', async () => {
    const witness = keep(new Witness('udp4'));
    const to = endpoint('::ffff:127.0.0.1', witness.endpoint.port);
    for (const connect of [undefined, { address: to.address, port: to.port }]) {
      const socket = keep(DatagramSocket.open({ type: 'udp6', ...(connect && { connect }) }));
      const rejected: RejectedDatagram[] = [];
      const sender = new BatchSender(socket, options, { next: (report) => rejected.push(...report.rejected) });
      const all: Marks[] = [
        { dscp: 46, ecn: 2 },
        { dscp: 46, ecn: 2 },
        { dscp: 8, from: '::ffff:127.0.0.2' },
        { from: '::ffff:127.0.0.2' },
        { from: '::1' }, // an IPv6 source of an IPv4 datagram
        {},
      ];
      for (const marks of all) sender.send({ payload: 'x', ...(!connect && { to }), ...marks });
      await sender.close();
      expect(await witness.receive(5)).toEqual(
        [
          [186, '127.0.0.1'],
          [186, '127.0.0.1'],
          [32, '127.0.0.2'],
          [0, '127.0.0.2'],
          [0, '127.0.0.1'],
        ].map(([trafficClass, from]) => ({ text: 'x', trafficClass, from })),
      );
      expect(rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual([[4, 'EINVAL']]);
    }
  });

  it.for<[from: string, address: string]>([
    ['fd00::7', 'fd00::1'],
    ['fe80::7%1', 'fe80::1%lo'],
    ['fe80::7%lo', 'fe80::1%lo'],
  ])('IPv6 leaves from %s', async ([from, address], context) => {
    requires(context, 'root', 'ip', 'netns');
    const addresses = ['fd00::1', 'fd00::7', 'fe80::1', 'fe80::7'];
    const setup = addresses.map((each) => `ip -6 address add ${each}/64 dev lo nodad`).join('\n');
    const plan = { open: { type: 'udp6' }, options, count: 100, receive: { type: 'udp6', address } } as const;
    const { received, rejected, sources } = await send({ ...plan, to: { from } }, inNamespace(setup));
    expect(rejected).toEqual([]);
    expect(numbersOf(received)).toEqual(range(100));
    expect(sources).toEqual([from.replace('%1', '%lo')]);
    const byDefault = await send(plan, inNamespace(setup));
    expect(byDefault.sources).not.toEqual(sources);
  });
});

describe.each(MODES.filter(({ options }) => options.gso === 'auto'))('dscp, ecn and from, $name', ({ options }) => {
  describe.each(SHAPES)('$type, connected: $isConnected', ({ type, isConnected }) => {
    it('do not keep datagrams that agree from sharing a message, and those that differ never do', async () => {
      const exchange = new Exchange(type, isConnected, { ...options, batchSize: 4096 });
      const [[plain], [voice]] = KINDS[type] as [Kind, Kind];
      for (const index of range(10)) exchange.send(index, plain);
      for (const index of range(10)) exchange.send(10 + index, voice);
      for (const index of range(10)) exchange.send(20 + index, { ...voice, ecn: 1 });
      for (const index of range(10)) exchange.send(30 + index, index % 2 === 0 ? voice : plain);
      await exchange.sender.close();
      expect(exchange.sender.stats.gso).toMatchObject({ messages: 3, segments: 30 });
      const classes = (await exchange.witness.receive(40)).map(({ trafficClass }) => trafficClass);
      expect(classes).toEqual(range(40).map((n) => (n < 10 ? 0 : n < 20 ? 184 : n < 30 ? 185 : n % 2 === 0 ? 184 : 0)));
    });

    it('stay with the datagrams of a message that the kernel refused, sent one by one', async () => {
      const exchange = new Exchange(type, isConnected, { ...options, batchSize: 4096 });
      withoutChecksum(exchange);
      const [asked, seen] = KINDS[type][2]!;
      for (const index of range(100)) exchange.send(index, asked);
      await exchange.sender.close();
      expect(await exchange.witness.receive(100)).toEqual(range(100).map((n) => ({ text: numbered(n), ...seen })));
      expect(exchange.sender.stats.gso).toMatchObject({ messages: 0, destinationsOff: 1 });
      expectConservation(exchange.sender.stats);
    });
  });
});

describe('a bad dscp, ecn or from', () => {
  const bads: readonly (readonly [fields: object, code: string])[] = [
    [{ dscp: 64 }, 'ERR_OUT_OF_RANGE'],
    [{ dscp: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ dscp: 1.5 }, 'ERR_OUT_OF_RANGE'],
    [{ dscp: Number.NaN }, 'ERR_OUT_OF_RANGE'],
    [{ dscp: '1' }, 'ERR_INVALID_ARG_TYPE'],
    [{ ecn: 4 }, 'ERR_OUT_OF_RANGE'],
    [{ ecn: null }, 'ERR_INVALID_ARG_TYPE'],
    [{ from: 'localhost' }, 'ERR_INVALID_IP_ADDRESS'],
    [{ from: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ from: '::1' }, 'EAFNOSUPPORT'],
  ];

  it.each(bads)('%o is one rejection, %s; all others arrive', async (fields, code) => {
    const exchange = new Exchange('udp4', true, {});
    for (const index of range(10)) exchange.send(index, index % 5 === 3 ? fields : { dscp: 1 });
    await exchange.sender.close();
    expect(exchange.rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual([
      [3, code],
      [8, code],
    ]);
    const seen = await exchange.witness.receive(8);
    expect(seen.map(({ text, trafficClass }) => [text, trafficClass])).toEqual(
      range(10, [3, 8]).map((index) => [numbered(index), 4]),
    );
  });

  it('on a unix socket is any of them: EAFNOSUPPORT', async () => {
    const receiver = keep(Receiver.unix());
    const rejected: RejectedDatagram[] = [];
    const sender = new BatchSender(
      keep(receiver.connected()),
      {},
      { next: (report) => rejected.push(...report.rejected) },
    );
    for (const marks of [{ dscp: 0 }, { ecn: 1 }, { from: '127.0.0.1' }, {}]) sender.send({ payload: 'x', ...marks });
    await sender.close();
    expect(rejected.map(({ error }) => error.code)).toEqual(['EAFNOSUPPORT', 'EAFNOSUPPORT', 'EAFNOSUPPORT']);
    expect(receiver.drain().map(String)).toEqual(['x']);
  });
});

describe('socket.sendmmsg', () => {
  it.each(SHAPES)('carries them, on the same slots again and again: $type, connected: $isConnected', async (shape) => {
    const { type, isConnected } = shape;
    const { witness, socket } = new Exchange(type, isConnected, {});
    const to = isConnected ? {} : { to: endpoint(witness.endpoint.address, witness.endpoint.port) };
    const kinds = KINDS[type];
    for (const turn of range(kinds.length + 1)) {
      const all = range(20).map((index) => kinds[(index + turn) % kinds.length]!);
      const datagrams = all.map(([marks], index): DatagramLike => ({ payload: numbered(index), ...to, ...marks }));
      expect(socket.sendmmsg(datagrams, { confirm: true }).sent).toBe(20);
      expect(await witness.receive(20)).toEqual(all.map(([, seen], index) => ({ text: numbered(index), ...seen })));
    }
  });

  it('throws for the first, and stops before any other, that is bad or is refused', async () => {
    const { witness, socket } = new Exchange('udp4', true, {});
    const code = (marks: object): string | undefined => {
      try {
        socket.sendmmsg([{ payload: 'x', ...marks }]);
      } catch (error) {
        return (error as { code: string }).code;
      }
      return undefined;
    };
    expect(code({ dscp: 64 })).toBe('ERR_OUT_OF_RANGE');
    expect(code({ from: '224.0.0.1' })).toBe('EINVAL');
    const good = { payload: 'y', dscp: 1 };
    expect(socket.sendmmsg([good, { ...good, dscp: 64 }, good]).sent).toBe(1);
    expect(socket.sendmmsg([good, good, { ...good, from: '224.0.0.1' }, good]).sent).toBe(2);
    expect(await witness.receive(3)).toHaveLength(3);
  });
});
