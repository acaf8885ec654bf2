/** Rejections wait in memory until they are told: no more of them than of what is queued. */
import { describe, expect, it } from 'vitest';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { freshPath } from '../support/receiver.ts';
import { WholeSender } from '../support/whole-sender.ts';

const keep = keeper();
const bytesOf = ({ rejected }: BatchReport): number =>
  rejected.reduce((sum, { payload }) => sum + payload.byteLength, 0);
const LIMIT = 1 << 20;
const large = new Uint8Array(100_000);

/** Sends as many as are given, as fast as it goes, all of which are refused; the reports. */
async function refused(options: BatchOptions, datagrams: readonly DatagramLike[], socket: DatagramSocket) {
  const reports: BatchReport[] = [];
  const sender = new WholeSender(socket, options, { next: (report) => reports.push(report) });
  for (const datagram of datagrams) if (!sender.send(datagram)) await sender.ready();
  await sender.close();
  expect(sender.stats).toMatchObject({ accepted: datagrams.length, rejected: datagrams.length });
  expectConservation(sender.stats);
  expect(reports.flatMap(({ rejected }) => rejected.map(({ sequence }) => sequence))).toEqual(range(datagrams.length));
  return reports;
}

const path = freshPath();
const KINDS: [by: string, datagram: () => DatagramLike][] = [
  ['before they are queued', () => ({ payload: large, path, port: 9 }) as never],
  ['by the kernel', () => ({ payload: large, path })],
];

describe.each(KINDS)('of large datagrams, %s', (_by, datagram) => {
  it.each<[how: string, options: BatchOptions]>([
    ['in one turn', { batchSize: 1000 }],
    ['batch by batch', { batchSize: 4 }],
    ['on the thread pool', { offload: true, batchSize: 4 }],
  ])('are told when they hold highWaterMarkBytes: %s', async (_how, options) => {
    const socket = keep(DatagramSocket.open({ type: 'unix' }));
    const limits = { highWaterMarkBytes: LIMIT, highWaterMark: 1000 };
    const reports = await refused({ ...limits, ...options }, range(60).map(datagram), socket);
    for (const report of reports) expect(bytesOf(report)).toBeLessThanOrEqual(LIMIT + large.length);
  });

  it('are told when they are as many as highWaterMark', async () => {
    const socket = keep(DatagramSocket.open({ type: 'unix' }));
    const limits = { highWaterMarkBytes: 1 << 26, highWaterMark: 7 };
    const reports = await refused(limits, range(60).map(datagram), socket);
    for (const { rejected } of reports) expect(rejected.length).toBeLessThanOrEqual(7);
  });
});

it('an abort with more of them than a call takes arguments ends, with all of them told', () => {
  const count = 130_000;
  const socket = keep(DatagramSocket.open({ type: 'unix' }));
  const errors: unknown[] = [];
  let [rejections, last] = [0, -1];
  const sender = new WholeSender(
    socket,
    { highWaterMark: count + 1, batchSize: count + 1 },
    {
      next({ rejected }) {
        rejections += rejected.length;
        last = rejected.at(-1)!.sequence;
      },
      error: (error) => errors.push(error),
    },
  );
  for (let index = 0; index < count; index++) sender.send({ payload: '', path });
  const error = new Error('the source');
  sender.abort(error);
  expect(errors).toEqual([error]);
  expect([rejections, last]).toEqual([count, count - 1]);
  expect(sender.stats).toMatchObject({ rejected: count, queued: 0 });
  expectConservation(sender.stats);
});
