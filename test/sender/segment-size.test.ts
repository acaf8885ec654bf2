/** `segmentSize`: a payload that is cut into datagrams, through every door of a sender. */
import { from, lastValueFrom, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { RejectedDatagram } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { freshPath, Inbox } from '../support/lower.ts';
import { MODES } from '../support/modes.ts';

const keep = keeper();
function inbox(options: SocketOptions = { bind: { address: '127.0.0.1' } }): Inbox {
  const made = new Inbox(options);
  keep(made.socket);
  return made;
}

const connected = (to: Inbox): DatagramSocket => keep(DatagramSocket.open({ connect: to.endpoint }));
const lengths = (buffers: readonly Buffer[]): number[] => buffers.map(({ length }) => length);
const payload = Buffer.from(Array.from({ length: 64 * 1024 }, (_, n) => n * 7));

describe.each(MODES)('$name', ({ options }) => {
  it.each([
    [1316, 50, 1052],
    [1200, 55, 736],
    [64, 1024, 64],
  ])('64 KiB in datagrams of %i bytes', async (segmentSize, count, last) => {
    const to = inbox();
    const by = new BatchSender(connected(to), options);
    by.send({ payload, segmentSize });
    await by.close();
    const received = await to.receive(count);
    expect(lengths(received)).toEqual([...new Array<number>(count - 1).fill(segmentSize), last]);
    expect(Buffer.concat(received).equals(payload)).toBe(true);
    expect(by.stats).toMatchObject({ accepted: count, sent: count, bytes: payload.length, queued: 0 });
  });
});

describe('the datagrams of a payload', () => {
  it('leave in one call, in as few messages as GSO allows', () => {
    const to = inbox();
    const by = new BatchSender(connected(to), { batchSize: 10_000 });
    by.send({ payload, segmentSize: 1316 });
    expect(by.flush()).toMatchObject({ sent: 50, syscalls: 1, requeued: 0 });
    expect(by.stats.gso.messages).toBeLessThanOrEqual(2);
    by.destroy();
  });

  it('count for batchSize and in the limits, one by one; one input is queued whole', () => {
    const by = new BatchSender(keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } })), {
      batchSize: 100,
      highWaterMark: 100,
    });
    expect(by.send({ payload: 'x'.repeat(99), segmentSize: 1 })).toBe(true);
    expect(by.stats).toMatchObject({ accepted: 99, queued: 99 });
    by.send({ payload: 'x'.repeat(50), segmentSize: 1 }); // whole, and so the batch is full
    expect(by.stats).toMatchObject({ accepted: 149, sent: 149, queued: 0 });
    by.destroy();
  });

  it('that is empty are one empty datagram', async () => {
    const to = inbox();
    const by = new BatchSender(connected(to));
    for (const empty of ['', Buffer.alloc(0), []]) by.send({ payload: empty, segmentSize: 5 });
    await by.close();
    expect(lengths(await to.receive(3))).toEqual([0, 0, 0]);
    expect(by.stats.accepted).toBe(3);
  });

  it('are rejected one by one, each with its bytes and the sequence of the input', async () => {
    const path = freshPath();
    const to = inbox({ type: 'unix', bind: { path } });
    const by = new BatchSender(keep(DatagramSocket.open({ connect: { path }, sendBufferSize: 4096 })));
    by.send('first');
    by.send({ payload: Buffer.alloc(23_000, 'x'), segmentSize: 10_000 }); // two are more than SO_SNDBUF
    by.send('last');
    const { sent, rejected } = by.flush();
    expect([sent, rejected.map(({ sequence, payload, error }) => [sequence, payload.length, error.code])]).toEqual([
      3,
      [
        [1, 10_000, 'EMSGSIZE'],
        [1, 10_000, 'EMSGSIZE'],
      ],
    ]);
    expect((await to.receiveText(3)).map((text) => text.slice(0, 5))).toEqual(['first', 'xxxxx', 'last']);
    await by.close();
    expect(by.stats).toMatchObject({ accepted: 5, sent: 3, rejected: 2 });
  });

  it('are queued again, dropped by overflow and by age, and at an end, one by one', async () => {
    const path = freshPath();
    const to = inbox({ type: 'unix', bind: { path } });
    const by = new BatchSender(keep(DatagramSocket.open({ connect: { path } })), {
      highWaterMark: 60,
      warn: false,
    });
    by.send({ payload: Buffer.from(range(50)), segmentSize: 1 });
    const first = by.flush();
    expect(first.sent + first.requeued).toBe(50);
    expect(first.requeued).toBeGreaterThan(5);
    by.send({ payload: Buffer.from(range(40)), segmentSize: 1 }); // there was room for one
    expect(by.stats).toMatchObject({ accepted: 90, dropped: 0, queued: first.requeued + 40 });
    // The oldest give way, as many as it takes.
    by.send({ payload: Buffer.from(range(40)), segmentSize: 1 });
    const { dropped, queued, sent } = by.stats;
    expect([queued, sent + dropped + queued]).toEqual([60, 130]);
    expect(dropped).toBe(first.requeued + 40 - 20);
    by.destroy();
    expect(by.stats).toMatchObject({ queued: 0, accepted: 130, droppedBy: { overflow: dropped, teardown: queued } });
    expect(lengths(to.take())).toEqual(new Array<number>(sent).fill(1));
  });

  it('of which there are more than highWaterMark are queued whole all the same, and the oldest give way', () => {
    const path = freshPath();
    inbox({ type: 'unix', bind: { path } });
    const by = new BatchSender(keep(DatagramSocket.open({ connect: { path } })), { highWaterMark: 20, warn: false });
    by.send({ payload: 'x'.repeat(40), segmentSize: 1 });
    by.flush();
    by.send({ payload: 'x'.repeat(40), segmentSize: 1 });
    const { accepted, sent, dropped, queued } = by.stats;
    expect([accepted, sent + dropped + queued]).toEqual([80, 80]);
    expect(queued).toBe(40);
    by.destroy();
  });
});

describe('through the operator', () => {
  it('gives datagrams to a destination, with marks, among others', async () => {
    const to = inbox();
    const source = [
      { payload: 'ab', ...to.endpoint },
      { payload: 'cdefg', segmentSize: 2, ...to.endpoint, dscp: 46 },
      { payload: ['hi', Buffer.from('jk')], segmentSize: 3, ...to.endpoint },
    ];
    const reports = await lastValueFrom(
      from(source).pipe(
        sendmmsg(() => DatagramSocket.open()),
        toArray(),
      ),
    );
    expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(6);
    expect(await to.receiveText(6)).toEqual(['ab', 'cd', 'ef', 'g', 'hij', 'k']);
  });
});

describe('is refused', () => {
  const datagram = { payload: 'abcdef', segmentSize: 2 };
  const refusedBy = (options: BatchOptions, what: unknown = datagram) => {
    const rejected: RejectedDatagram[] = [];
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } }));
    const by = new BatchSender(
      socket,
      { warn: false, ...options },
      {
        next: (report) => rejected.push(...report.rejected),
      },
    );
    by.send(what as never);
    by.flush();
    by.destroy();
    expect(by.stats.accepted).toBe(rejected.length + by.stats.sent);
    return rejected.map(({ error: { code }, payload }) => [code, Buffer.from(payload).toString()]);
  };

  it.each([
    ['with pack', { pack: {} }, [['ERR_INVALID_ARG_VALUE', 'abcdef']]],
    ['with a key', { conflateBy: () => 1 }, [['ERR_INVALID_ARG_VALUE', 'abcdef']]],
    ['but not without one', { conflateBy: () => undefined }, []],
  ])('%s', (_what, options, expected) => {
    expect(refusedBy(options)).toEqual(expected);
  });

  it.each([
    [0, 'ERR_OUT_OF_RANGE'],
    [-1, 'ERR_OUT_OF_RANGE'],
    [1.5, 'ERR_OUT_OF_RANGE'],
    [Number.NaN, 'ERR_OUT_OF_RANGE'],
    [2 ** 31, 'ERR_OUT_OF_RANGE'],
    ['2', 'ERR_INVALID_ARG_TYPE'],
    [null, 'ERR_INVALID_ARG_TYPE'],
    [2n, 'ERR_INVALID_ARG_TYPE'],
  ])('where it is %o', (segmentSize, code) => {
    expect(refusedBy({}, { payload: 'abcdef', segmentSize })).toEqual([[code, 'abcdef']]);
  });

  it('more than highWaterMarkBytes, as any datagram: with EMSGSIZE, as one', () => {
    expect(refusedBy({ highWaterMarkBytes: 5 })).toEqual([['EMSGSIZE', 'abcdef']]);
  });

  it('by sendmmsg() of a socket, which is one call', () => {
    const socket = connected(inbox());
    expect(() => socket.sendmmsg([datagram])).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(socket.sendmmsg(['ok', datagram]).sent).toBe(1);
  });
});
