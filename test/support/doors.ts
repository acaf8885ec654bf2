/** The ways into the package. What goes in by one of them is sent, rejected and told of as by any other. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ReadableStream } from 'node:stream/web';
import { from as fromAsync, toArray as toArrayAsync } from 'ix/asynciterable';
import { from, lastValueFrom, toArray } from 'rxjs';
import { expect } from 'vitest';
import { sendmmsg as ixSendmmsg } from '../../operators/ix/sendmmsg.ts';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import type { SocketSource } from '../../src/sender/outlet.ts';
import { createDatagramWritable, createDatagramWritableStream } from '../../src/streams.ts';
import { BACKEND } from './backend.ts';
import { expectConservation } from './datagrams.ts';
import { MODES } from './modes.ts';

/** What came of it; rejects with what the output errors with. */
export interface Outcome {
  readonly reports: readonly BatchReport[];
  /** Where the door tells them. */
  readonly stats?: SenderStats;
}

export interface Door {
  readonly name: string;
  send(socket: SocketSource, options: BatchOptions, datagrams: readonly DatagramLike[]): Promise<Outcome>;
}

export const DOORS: readonly Door[] = [
  {
    name: 'rxjs',
    // An Observable cannot be held back: all of it must fit.
    async send(socket, options, datagrams) {
      const highWaterMark = Math.max(datagrams.length, options.highWaterMark ?? 1);
      const operator = sendmmsg(socket, { ...options, highWaterMark });
      return { reports: await lastValueFrom(from(datagrams).pipe(operator, toArray())) };
    },
  },
  {
    name: 'ix',
    async send(socket, options, datagrams) {
      return { reports: await toArrayAsync(fromAsync(datagrams).pipe(ixSendmmsg(socket, options))) };
    },
  },
  {
    name: 'Writable',
    async send(socket, options, datagrams) {
      const reports: BatchReport[] = [];
      const writable = createDatagramWritable(socket, { ...options, onReport: (report) => reports.push(report) });
      await pipeline(Readable.from(datagrams), writable);
      return { reports, stats: writable.stats };
    },
  },
  {
    name: 'WritableStream',
    async send(socket, options, datagrams) {
      const reports: BatchReport[] = [];
      const stream = createDatagramWritableStream(socket, { ...options, onReport: (report) => reports.push(report) });
      const source = new ReadableStream<DatagramLike>({
        start(controller) {
          for (const datagram of datagrams) controller.enqueue(datagram);
          controller.close();
        },
      });
      await source.pipeTo(stream);
      return { reports, stats: stream.stats };
    },
  },
];

/** The sums over all reports; conservation is checked where the door has stats. */
export function totals({ reports, stats }: Outcome) {
  const sum = { sent: 0, bytes: 0, dropped: 0, rejected: [] as [sequence: number, code: string][] };
  for (const { sent, bytes, dropped, rejected } of reports) {
    sum.sent += sent;
    sum.bytes += bytes;
    sum.dropped += dropped;
    sum.rejected.push(...rejected.map(({ sequence, error }): [number, string] => [sequence, error.code]));
  }
  if (stats !== undefined) {
    expectConservation(stats);
    expect(stats).toMatchObject({ backend: BACKEND, queued: 0 });
    expect([stats.sent, stats.bytes, stats.dropped]).toEqual([sum.sent, sum.bytes, sum.dropped]);
    expect(stats.rejected).toBe(sum.rejected.length);
  }
  return sum;
}

/** Each door in each way of sending, for `describe.each`. */
export const CASES = DOORS.flatMap((door) =>
  MODES.map(({ name, options }) => ({ name: `${door.name}, ${name}`, door, options })),
);
