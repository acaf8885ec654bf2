/** `offload` and `lanes`: flushes on the thread pool, the ring filling behind them. */
import { concatMap, from, lastValueFrom, timer, toArray } from 'rxjs';
import { describe, expect, it, vi } from 'vitest';
import { endpoint, sendmmsg } from '../../src/index.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { childScript, run } from '../support/child.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';
import { WholeSender } from '../support/whole-sender.ts';

const keep = keeper();
const OFFLOAD = { offload: true, batchSize: 4 } as const;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('in flight', () => {
  it('the queue goes on filling, and order holds', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new WholeSender(keep(receiver.connected()), OFFLOAD);
    for (const n of range(10)) sender.send(String(n));
    expect(sender.stats).toMatchObject({ sent: 0, queued: 10 });
    await sender.close();
    expect(receiver.drain().map(String)).toEqual(range(10).map(String));
    expectConservation(sender.stats);
  });

  it.each([
    ['half of the queue', { ...OFFLOAD, gso: 'off' as const }, 16, [4, 8, 4]],
    ['a batch, where that is more', { ...OFFLOAD, gso: 'off' as const, batchSize: 12 }, 16, [12, 4]],
    ['half of the queue, in segments', { ...OFFLOAD, batchSize: 64 }, 256, [64, 128, 64]],
  ])('is at most %s, so that the rest can be filled meanwhile', async (_what, options, highWaterMark, flights) => {
    const { port } = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port } }));
    const transport = DatagramSocket.nativeOf(socket);
    const sendmmsgLater = transport.sendmmsgLater.bind(transport);
    const seen: number[] = [];
    vi.spyOn(transport, 'sendmmsgLater').mockImplementation((ring, vlen, flags, done) => {
      seen.push(ring.datagramsIn(vlen));
      sendmmsgLater(ring, vlen, flags, done);
    });
    const sender = new WholeSender(socket, { ...options, highWaterMark });
    for (let n = 0; n < highWaterMark; n++) sender.send('12345678');
    await sender.close();
    expect(seen).toEqual(flights);
    expect(sender.stats).toMatchObject({ sent: highWaterMark, queued: 0 });
  });

  it('leaves room for the source: ready() waits for a quarter of the queue, not for the next flight', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new WholeSender(keep(receiver.connected()), { offload: true, batchSize: 2, highWaterMark: 8 });
    for (const n of range(8)) sender.send(String(n));
    await sender.ready();
    expect(sender.stats).toMatchObject({ sent: 2, queued: 6 });
    await sender.close();
    expectConservation(sender.stats);
  });

  it('that is smaller than a batch leaves room, too: of large datagrams', async () => {
    const { port } = keep(Receiver.udp());
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port } }));
    const sender = new WholeSender(socket, { offload: true, gso: 'off', highWaterMarkBytes: 1 << 20 });
    const large = new Uint8Array(60_000);
    while (sender.send(large));
    await sender.ready();
    expect(sender.stats).toMatchObject({ sent: 8, queued: 10 }); // 18 exceed 1 MiB by less than one
    await sender.close();
    expectConservation(sender.stats);
  });

  it('is not dropped by an overflow: the newest gives way, and each is counted once', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new WholeSender(keep(receiver.connected()), { ...OFFLOAD, highWaterMark: 6 });
    for (const n of range(9)) sender.send(String(n));
    expect(sender.stats).toMatchObject({ accepted: 9, queued: 6, droppedBy: { overflow: 3 } });
    await sender.close();
    expect(receiver.drain().map(String)).toEqual(range(6).map(String));
    expectConservation(sender.stats);
  });

  it('an unsubscribe is silent, and what was in flight is accounted for when it lands', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new WholeSender(keep(receiver.connected()), OFFLOAD, { next: () => expect.unreachable() });
    for (const n of range(10)) sender.send(String(n));
    sender.destroy();
    expectConservation(sender.stats);
    for (let turns = 0; sender.stats.queued > 0 && turns < 1e5; turns++) await turn();
    const { sent, droppedBy } = sender.stats;
    expect([sent, droppedBy.teardown]).toEqual([4, 6]);
    expect(receiver.drain()).toHaveLength(sent);
    expectConservation(sender.stats);
  });

  it('a socket closed meanwhile keeps its descriptor until the call has returned, and then fails', async () => {
    const receiver = keep(Receiver.unix());
    const socket = keep(receiver.connected());
    const errors: unknown[] = [];
    const sender = new WholeSender(socket, OFFLOAD, { error: (error) => errors.push(error) });
    for (const n of range(10)) sender.send(String(n));
    socket.close();
    for (let turns = 0; errors.length === 0 && turns < 1e5; turns++) await turn();
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expect(receiver.drain().map(String)).toEqual(range(4).map(String));
    expect(sender.stats).toMatchObject({ sent: 4, droppedBy: { failure: 6 }, queued: 0 });
  });

  it('a source that errors has what went without waiting sent, the rest told, and then the error', async () => {
    const receiver = keep(Receiver.unix());
    const heard: string[] = [];
    await new Promise<void>((resolve) => {
      const sender = new WholeSender(keep(receiver.connected()), OFFLOAD, {
        next: ({ sent, dropped }) => heard.push(`${sent} sent, ${dropped} dropped`),
        error(error) {
          heard.push(String(error));
          resolve();
        },
      });
      for (const n of range(10)) sender.send(String(n));
      sender.abort('oops');
    });
    expect(heard.at(-1)).toBe('oops');
    expect(receiver.drain().map(String)).toEqual(range(10).map(String));
  });

  it('a worker that is terminated takes nothing down with it', async () => {
    const receiver = keep(Receiver.udp());
    const { stdout, stderr, code, signal } = await run([
      process.execPath,
      childScript('worker.mjs'),
      String(receiver.port),
    ]);
    expect({ stdout: stdout.trim(), stderr, code, signal }).toEqual({
      stdout: 'survived',
      stderr: '',
      code: 0,
      signal: null,
    });
  });
});

describe('lanes', () => {
  it('hold the order of each destination', async () => {
    const receivers = range(8).map(() => keep(Receiver.udp()));
    const to = receivers.map(({ port }) => endpoint('127.0.0.1', port));
    const datagrams = range(1600).map((n) => ({ payload: String(n >> 3), to: to[n & 7]! }));
    const paced = from(range(16)).pipe(
      concatMap((part) => timer(0).pipe(concatMap(() => from(datagrams.slice(part * 100, part * 100 + 100))))),
    );
    const options = { offload: true, lanes: 4, batchSize: 32 };
    const reports = await lastValueFrom(
      paced.pipe(
        sendmmsg(() => DatagramSocket.open(), options),
        toArray(),
      ),
    );
    expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(1600);
    for (const receiver of receivers) {
      expect((await receiver.receive(200)).map(String)).toEqual(range(200).map(String));
    }
  });

  it.each([
    ['datagrams', { highWaterMark: 10 }, 5, 10],
    ['bytes', { highWaterMarkBytes: 100 }, 20, 5],
  ])('share the limits of the queue, %s', async (_what, limits, size, most) => {
    const options = { offload: true, lanes: 4, batchSize: 99, ...limits };
    const sender = new WholeSender(keep(DatagramSocket.open()), options);
    for (const n of range(30)) sender.send({ payload: 'x'.repeat(size), address: `127.0.0.${1 + n}`, port: 9 });
    expect(sender.stats).toMatchObject({ queued: most, droppedBy: { overflow: 30 - most } });
    expectConservation(sender.stats);
    await sender.close();
    expectConservation(sender.stats);
  });

  it.each([
    [{ lanes: 2 }, 'ERR_INVALID_ARG_VALUE'],
    [{ lanes: 0, offload: true }, 'ERR_OUT_OF_RANGE'],
    [{ lanes: 9, offload: true }, 'ERR_OUT_OF_RANGE'],
    [{ lanes: 1.5, offload: true }, 'ERR_OUT_OF_RANGE'],
    [{ offload: 'yes' as never }, 'ERR_INVALID_ARG_TYPE'],
    [{ gso: 'on' as never }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o throws at once', (options, code) => {
    const socket = keep(DatagramSocket.open());
    expect(() => sendmmsg(socket, options)).toThrow(expect.objectContaining({ code }));
  });
});
