/** The ways into the package. What goes in by one of them is sent, rejected and told of as by any other. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ReadableStream } from 'node:stream/web';
import { from as fromAsync, toArray as toArrayAsync } from 'ix/asynciterable';
import { from, lastValueFrom, toArray } from 'rxjs';
import { sendmmsg as ixSendmmsg } from '../../operators/ix/sendmmsg.ts';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { BatchOptions } from '../../src/batch-options.ts';
import type { BatchReport, DatagramLike } from '../../src/datagram.ts';
import type { SenderStats } from '../../src/diagnostics.ts';
import type { SocketSource } from '../../src/outlet.ts';
import { createDatagramWritable, createDatagramWritableStream } from '../../src/streams.ts';

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
