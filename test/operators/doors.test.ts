/** What every way in must hold, in every way of sending, on every kind of socket that the backend has, before the real kernel. */
import { describe, expect, it } from 'vitest';
import type { DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { BACKEND } from '../support/backend.ts';
import { numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { CASES, totals } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { freshPath, Receiver } from '../support/receiver.ts';

const keep = keeper();

interface Network {
  readonly name: string;
  receiver(): Receiver;
  connectedTo(receiver: Receiver): DatagramSocket;
  /** Two sizes that just pass, in bytes. */
  readonly large: readonly [number, number];
  /** By its place: what is refused, with which code. */
  readonly bad: Readonly<Record<number, readonly [datagram: unknown, code: string]>>;
}

const UNIX: Network = {
  name: 'unix',
  receiver: () => keep(Receiver.unix()),
  connectedTo: (receiver) => keep(receiver.connected()),
  large: [65_536, 100_000],
  bad: {
    0: [42, 'ERR_INVALID_ARG_TYPE'],
    50: ['x'.repeat(400_000), 'EMSGSIZE'], // more than the default SO_SNDBUF takes
    63: [undefined, 'ERR_INVALID_ARG_TYPE'],
    64: [{ payload: 'x', path: freshPath() }, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
    99: [{ payload: 'x', port: 0 }, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
  },
};

const UDP: Network = {
  name: 'UDP',
  receiver: () => keep(Receiver.udp()),
  connectedTo: ({ port }) => keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port } })),
  large: [65_507, 60_000],
  bad: {
    0: [42, 'ERR_INVALID_ARG_TYPE'],
    50: ['x'.repeat(70_000), 'EMSGSIZE'],
    63: [undefined, 'ERR_INVALID_ARG_TYPE'],
    64: [{ payload: 'x', address: '127.0.0.1', port: 9 }, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
    99: ['x'.repeat(70_000), 'EMSGSIZE'],
  },
};

/** node:dgram knows no unix sockets. */
const NETWORKS: readonly Network[] = BACKEND === 'node:dgram' ? [UDP] : [UNIX, UDP];

it('the sockets are of the backend that these tests are run for', () => {
  expect(UDP.connectedTo(UDP.receiver()).backend).toBe(BACKEND);
});

describe.each(NETWORKS)('$name', ({ receiver: receive, connectedTo, large, bad }) => {
  describe.each(CASES)('$name', ({ door, options }) => {
    /** Sends to a receiver that reads `perTurn` datagrams a turn, and returns what it has read. */
    async function deliver(datagrams: readonly DatagramLike[], more: BatchOptions = {}, perTurn = 7) {
      const receiver = receive();
      const done = door.send(connectedTo(receiver), { ...options, ...more }, datagrams);
      const arrived = await receiver.receive(Number.POSITIVE_INFINITY, perTurn, done);
      return { arrived, ...totals(await done) };
    }

    it.each([1, 63, 64, 65, 1025, 3000])('a slow reader: %i datagrams arrive once each, in order', async (count) => {
      const { arrived, ...sum } = await deliver(numberedList(count));
      expect(numbersOf(arrived)).toEqual(range(count));
      expect(sum).toEqual({ sent: count, bytes: 12 * count, dropped: 0, rejected: [] });
    });

    it('a queue and a batch of one: the same', async () => {
      const { arrived, dropped } = await deliver(numberedList(100), { highWaterMark: 1, batchSize: 1 }, 3);
      expect(numbersOf(arrived)).toEqual(range(100));
      expect(dropped).toBe(0);
    });

    it('keeps boundaries: empty, small, large and gathered datagrams arrive as they were', async () => {
      const [x, y] = large;
      const plain = ['', 'a', '', '', 'é'.repeat(500), 'x'.repeat(x), '', 'y'.repeat(y), 'end', ''];
      const gathered = [
        ['ga', Buffer.from('the'), '', 'red'],
        [],
        [new Uint16Array([0x6261])],
        { payload: ['o', 'k'] },
      ];
      const { arrived, sent, rejected } = await deliver([...plain, ...gathered]);
      expect(arrived.map(String)).toEqual([...plain, 'gathered', '', 'ab', 'ok']);
      expect([sent, rejected]).toEqual([14, []]);
    });

    it('each bad datagram is one rejection, in its place, and the others arrive', async () => {
      const input = range(100).map((index) => (bad[index] === undefined ? numbered(index) : bad[index][0]));
      const { arrived, rejected, sent } = await deliver(input as DatagramLike[]);
      expect(rejected.sort(([a], [b]) => a - b)).toEqual(
        Object.entries(bad).map(([index, [, code]]) => [Number(index), code]),
      );
      expect(numbersOf(arrived)).toEqual(range(100, Object.keys(bad).map(Number)));
      expect(sent).toBe(95);
    });

    it('nothing in: no report, and the end', async () => {
      expect((await door.send(connectedTo(receive()), options, [])).reports).toEqual([]);
    });

    it('a socket that is closed already is an error at once, given or of a factory', async () => {
      const closed = connectedTo(receive());
      closed.close();
      for (const socket of [closed, () => closed]) {
        await expect(door.send(socket, options, ['x'])).rejects.toMatchObject({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
      }
    });

    it('the socket of a factory is closed with the end; a given one stays open', async () => {
      const receiver = receive();
      const made: DatagramSocket[] = [];
      const factory = (): DatagramSocket => {
        made.push(connectedTo(receiver));
        return made.at(-1)!;
      };
      const done = door.send(factory, options, numberedList(30));
      await receiver.receive(Number.POSITIVE_INFINITY, undefined, done);
      await done;
      expect(made.map(({ closed }) => closed)).toEqual([true]);
      const given = connectedTo(receiver);
      await door.send(given, options, ['x']);
      expect(given.closed).toBe(false);
    });
  });
});
