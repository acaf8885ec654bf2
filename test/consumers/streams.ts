/**
 * A user of rx-sendmmsg/streams, as TypeScript sees it: package.types.test.ts compiles it with the packed package; nothing
 * runs it.
 *
 * A line under `@ts-expect-error` must not compile; it would where a type has become `any`.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  type BatchReport,
  BatchSender,
  createDatagramWritable,
  createDatagramWritableStream,
  DatagramSocket,
  type DatagramStreamOptions,
  type DatagramWritable,
  type DatagramWritableOptions,
  type DatagramWritableStream,
  type SchedulerLike,
  type SenderStats,
} from 'rx-sendmmsg/streams';

const scheduler: SchedulerLike = {
  now: () => performance.now(),
  schedule(work, delayMs) {
    const timer = setTimeout(work, delayMs);
    return { unsubscribe: () => clearTimeout(timer) };
  },
};
const reports: BatchReport[] = [];
const both: DatagramStreamOptions = { pace: { bytesPerSecond: 1e6 }, onReport: (report) => reports.push(report) };
const options: DatagramWritableOptions = { ...both, signal: new AbortController().signal, scheduler };
// @ts-expect-error: a count, no word
const _noOptions: DatagramWritableOptions = { batchSize: 'many' };

const socket = () => DatagramSocket.open({ connect: { path: '/run/log' } });
const writable: DatagramWritable = createDatagramWritable(socket, options);
// @ts-expect-error: a stream, no number
const _noWritable: number = writable;
export const finished: Promise<void> = pipeline(Readable.from(['a', 'b']), writable);
export const stats: SenderStats = writable.stats;

const stream: DatagramWritableStream = createDatagramWritableStream(socket, both);
// @ts-expect-error: a stream, no number
const _noStream: number = stream;
export const queued: number = stream.stats.queued;
export async function write(line: string): Promise<void> {
  await stream.getWriter().write({ payload: line, path: '/run/log' });
}

export const sender: BatchSender = new BatchSender(socket(), {}, { next: (report) => reports.push(report) });
