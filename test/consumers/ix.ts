/**
 * A user of rx-sendmmsg/ix, as TypeScript sees it: package.types.test.ts compiles it with the packed package; nothing runs it.
 *
 * A line under `@ts-expect-error` must not compile; it would where a type has become `any`.
 */
import { type AsyncIterableX, from } from 'ix/asynciterable';
import { map } from 'ix/asynciterable/operators';
import {
  type BatchOptions,
  type BatchReport,
  type Datagram,
  type DatagramLike,
  DatagramSocket,
  endpoint,
  SendmmsgError,
  sendmmsg,
} from 'rx-sendmmsg/ix';

const options: BatchOptions = { pack: { separator: '\n' }, pressure: { next: (isFull) => void isFull } };
// @ts-expect-error: a count, no word
const _noOptions: BatchOptions = { batchSize: 'many' };

async function* datagrams(): AsyncGenerator<Datagram> {
  yield { payload: 'a', to: endpoint('127.0.0.1', 8125) };
}

const operator = sendmmsg(() => DatagramSocket.open(), options);
const reports: AsyncIterableX<BatchReport> = from(datagrams()).pipe(operator);
// @ts-expect-error: reports, not datagrams
const _noReports: AsyncIterableX<DatagramLike> = reports;
export const sizes: AsyncIterableX<number> = reports.pipe(map(({ sent }) => sent));

export async function send(socket: DatagramSocket): Promise<number> {
  let sent = 0;
  for await (const report of sendmmsg(socket)(datagrams())) sent += report.sent;
  return sent;
}

export const isOurs = (error: unknown): error is SendmmsgError => error instanceof SendmmsgError;
