/** What every way in must hold, in every way of sending, before the real kernel. */
import { describe, expect, it } from 'vitest';
import type { BatchOptions } from '../src/batch-options.ts';
import type { DatagramLike } from '../src/datagram.ts';
import { DatagramSocket } from '../src/datagram-socket.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from './support/datagrams.ts';
import { DOORS, type Outcome } from './support/doors.ts';
import { keeper } from './support/keep.ts';
import { MODES } from './support/modes.ts';
import { freshPath, Receiver } from './support/receiver.ts';

const keep = keeper();
/** Larger than the default SO_SNDBUF takes: EMSGSIZE. */
const TOO_LARGE = 'x'.repeat(400_000);
const CASES = DOORS.flatMap((door) =>
  MODES.map(({ name, options }) => ({ name: `${door.name}, ${name}`, door, options })),
);

/** The sums over all reports; conservation is checked where the door has stats. */
function totals({ reports, stats }: Outcome) {
  const sum = { sent: 0, bytes: 0, dropped: 0, rejected: [] as [sequence: number, code: string][] };
  for (const { sent, bytes, dropped, rejected } of reports) {
    sum.sent += sent;
    sum.bytes += bytes;
    sum.dropped += dropped;
    sum.rejected.push(...rejected.map(({ sequence, error }): [number, string] => [sequence, error.code]));
  }
  if (stats !== undefined) {
    expectConservation(stats);
    expect(stats.queued).toBe(0);
    expect([stats.sent, stats.bytes, stats.dropped]).toEqual([sum.sent, sum.bytes, sum.dropped]);
    expect(stats.rejected).toBe(sum.rejected.length);
  }
  return sum;
}

describe.each(CASES)('$name', ({ door, options }) => {
  /** Sends to a unix receiver that reads `perTurn` datagrams a turn, and returns what it has read. */
  async function deliver(datagrams: readonly DatagramLike[], more: BatchOptions = {}, perTurn = 7) {
    const receiver = keep(Receiver.unix());
    const done = door.send(keep(receiver.connected()), { ...options, ...more }, datagrams);
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, perTurn, done);
    return { arrived, ...totals(await done) };
  }

  it.each([1, 63, 64, 65, 1025, 3000])('a slow unix reader: %i datagrams arrive once each, in order', async (count) => {
    const { arrived, ...sum } = await deliver(numberedList(count));
    expect(numbersOf(arrived)).toEqual(range(count));
    expect(sum).toEqual({ sent: count, bytes: 12 * count, dropped: 0, rejected: [] });
  });

  it('a queue and a batch of one: the same', async () => {
    const { arrived, dropped } = await deliver(numberedList(100), { highWaterMark: 1, batchSize: 1 }, 3);
    expect(numbersOf(arrived)).toEqual(range(100));
    expect(dropped).toBe(0);
  });

  it('held back by SO_SNDBUF: all arrive, in order', async () => {
    const { sender, receiver } = Receiver.pair(4608);
    const done = door.send(keep(sender), { ...options, batchSize: 1024 }, numberedList(2000));
    const arrived = await keep(receiver).receive(Number.POSITIVE_INFINITY, 5, done);
    expect(numbersOf(arrived)).toEqual(range(2000));
    expect(totals(await done)).toMatchObject({ sent: 2000, dropped: 0, rejected: [] });
  });

  it('over UDP: all arrive, in order, boundaries kept', async () => {
    const receiver = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open());
    const payloads = numberedList(1000).map((text, index) => (index % 100 === 99 ? '' : text));
    const datagrams = payloads.map((payload) => ({ payload, address: '127.0.0.1', port: receiver.port }));
    const done = door.send(socket, options, datagrams);
    expect((await receiver.receive(1000)).map(String)).toEqual(payloads);
    expect(totals(await done)).toMatchObject({ sent: 1000, dropped: 0, rejected: [] });
  });

  it('keeps boundaries: empty, small, large and gathered datagrams arrive as they were', async () => {
    const plain = ['', 'a', '', '', 'é'.repeat(500), 'x'.repeat(65_536), '', 'y'.repeat(100_000), 'end', ''];
    const gathered = [['ga', Buffer.from('the'), '', 'red'], [], [new Uint16Array([0x6261])], { payload: ['o', 'k'] }];
    const { arrived, sent, rejected } = await deliver([...plain, ...gathered]);
    expect(arrived.map(String)).toEqual([...plain, 'gathered', '', 'ab', 'ok']);
    expect([sent, rejected]).toEqual([14, []]);
  });

  it('each bad datagram is one rejection, in its place, and the others arrive', async () => {
    const bad: Record<number, [datagram: unknown, code: string]> = {
      0: [42, 'ERR_INVALID_ARG_TYPE'],
      50: [TOO_LARGE, 'EMSGSIZE'],
      63: [undefined, 'ERR_INVALID_ARG_TYPE'],
      64: [{ payload: 'x', path: freshPath() }, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
      99: [{ payload: 'x', port: 0 }, 'ERR_SOCKET_DGRAM_IS_CONNECTED'],
    };
    const input = range(100).map((index) => (bad[index] === undefined ? numbered(index) : bad[index][0]));
    const { arrived, rejected, sent } = await deliver(input as DatagramLike[]);
    expect(rejected.sort(([a], [b]) => a - b)).toEqual(
      Object.entries(bad).map(([index, [, code]]) => [Number(index), code]),
    );
    expect(numbersOf(arrived)).toEqual(range(100, Object.keys(bad).map(Number)));
    expect(sent).toBe(95);
  });

  it('nothing in: no report, and the end', async () => {
    const receiver = keep(Receiver.unix());
    expect((await door.send(keep(receiver.connected()), options, [])).reports).toEqual([]);
  });

  it('the end waits for the tail, as long as it may', async () => {
    const receiver = keep(Receiver.unix());
    let isDone = false;
    const done = door.send(keep(receiver.connected()), options, numberedList(100)).finally(() => {
      isDone = true;
    });
    for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(isDone).toBe(false);
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, undefined, done);
    expect(numbersOf(arrived)).toEqual(range(100));
    expect(totals(await done).sent).toBe(100);
  });

  it('and what is left after that is dropped and told', async () => {
    const receiver = keep(Receiver.unix());
    const outcome = await door.send(keep(receiver.connected()), { ...options, drainTimeoutMs: 20 }, numberedList(100));
    const { sent, dropped } = totals(outcome);
    expect(sent + dropped).toBe(100);
    expect(numbersOf(receiver.drain())).toEqual(range(sent));
    expect(dropped).toBeGreaterThan(50);
  });

  it('a socket that fails is the error of the output', async () => {
    const receiver = keep(Receiver.unix());
    const socket = keep(receiver.connected());
    const done = door.send(socket, options, numberedList(100));
    const failed = expect(done).rejects.toMatchObject({ code: 'EBADF', syscall: 'sendmmsg' });
    setTimeout(() => socket.close(), 10);
    await failed;
  });

  it('a socket that is closed already is an error at once, given or of a factory', async () => {
    const closed = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
    closed.close();
    for (const socket of [closed, () => closed]) {
      await expect(door.send(socket, options, ['x'])).rejects.toMatchObject({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
    }
  });

  it('the socket of a factory is closed with the end; a given one stays open', async () => {
    const receiver = keep(Receiver.unix());
    const made: DatagramSocket[] = [];
    const factory = (): DatagramSocket => {
      made.push(keep(receiver.connected()));
      return made.at(-1)!;
    };
    const done = door.send(factory, options, numberedList(30));
    await receiver.receive(Number.POSITIVE_INFINITY, undefined, done);
    await done;
    expect(made.map(({ closed }) => closed)).toEqual([true]);
    const given = keep(receiver.connected());
    await door.send(given, options, ['x']);
    expect(given.closed).toBe(false);
  });
});
