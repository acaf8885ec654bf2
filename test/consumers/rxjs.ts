/**
 * A user of rx-sendmmsg, as TypeScript sees it: package.types.test.ts compiles it with the packed package; nothing runs it.
 *
 * A line under `@ts-expect-error` must not compile; it would where a type has become `any`.
 */
import type { Socket } from 'node:dgram';
import {
  type BatchObserver,
  type BatchOptions,
  type BatchReport,
  BatchSender,
  type BatchSummary,
  broadcast,
  type DatagramLike,
  DatagramSocket,
  type DiagnosticsMessages,
  endpoint,
  type SenderStats,
  SendmmsgError,
  type SocketOptions,
  sendmmsg,
  summarize,
} from 'rx-sendmmsg';
import { from, map, type Observable, queueScheduler, Subject } from 'rxjs';

const where: SocketOptions = { connect: { address: '127.0.0.1', port: 8125 } };
const full = new Subject<boolean>();
const options: BatchOptions = {
  pack: { separator: '\n' },
  pace: { datagramsPerSecond: 1000 },
  pressure: full,
  scheduler: queueScheduler,
};
// @ts-expect-error: a count, no word
const _noOptions: BatchOptions = { batchSize: 'many' };

const reports: Observable<BatchReport> = from(['a', 'b']).pipe(sendmmsg(() => DatagramSocket.open(where), options));
// @ts-expect-error: reports, not datagrams
const _noReports: Observable<DatagramLike> = reports;
const summaries: Observable<BatchSummary> = reports.pipe(summarize(1000, queueScheduler));
export const sizes: Observable<number> = summaries.pipe(map(({ meanBatch }) => meanBatch));
export const told: Observable<BatchReport> = from(['a']).pipe(
  broadcast(DatagramSocket.open({ type: 'udp4' }), [endpoint('127.0.0.1', 8125)]),
);

export async function send(socket: DatagramSocket, datagrams: readonly DatagramLike[]): Promise<SenderStats> {
  const observer: BatchObserver = {
    next: ({ rejected }) => rejected.forEach(({ error }: { error: SendmmsgError }) => void error.code.length),
  };
  const sender = new BatchSender(socket, options, observer);
  for (const datagram of datagrams) if (!sender.send(datagram)) await sender.ready();
  await sender.close();
  return sender.stats;
}

export function lend(socket: DatagramSocket): Socket {
  const lent = socket.lend();
  // @ts-expect-error: a socket of node:dgram, no number
  const _noSocket: number = lent;
  return lent;
}

export const release: (() => void) | undefined = DatagramSocket.prototype[Symbol.dispose];
export const releaseAsync: (() => Promise<void>) | undefined = BatchSender.prototype[Symbol.asyncDispose];
export const isOurs = (error: unknown): error is SendmmsgError => error instanceof SendmmsgError;
export const total = (message: DiagnosticsMessages['rx-sendmmsg:close']): number => message.stats.sent;
