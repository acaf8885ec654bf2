/** A worker that sends through a socket of its own until it is terminated. workerData: a {@link ThreadPlan}. */
import { setImmediate as turn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { Observable } from 'rxjs';
import { type BatchOptions, BatchSender, DatagramSocket, sendmmsg } from '../../src/index.ts';
import { createDatagramWritable } from '../../src/streams.ts';
import { textOf } from './channel.ts';
import type { ThreadPlan, ThreadWay } from './thread-plan.ts';

const PER_TURN = 100;
const OPTIONS: Partial<Record<ThreadWay, BatchOptions>> = {
  offload: { offload: true },
  lanes: { offload: true, lanes: 3 },
  paced: { pace: { datagramsPerSecond: 500 } },
};

async function run({ way, path, generation, figures }: ThreadPlan): Promise<void> {
  const [accepted, sent] = [new Float64Array(figures, 0, 1), new Float64Array(figures, 8, 1)];
  const next = (): string => {
    accepted[0]!++; // first: who is terminated between the two has not lost it
    return textOf(generation, accepted[0]! - 1);
  };
  const onReport = (report: { readonly sent: number }): void => {
    sent[0]! += report.sent;
  };
  const isConnected = way !== 'unconnected';
  const socket: DatagramSocket = DatagramSocket.open({ type: 'unix', ...(isConnected && { connect: { path } }) });

  if (way === 'operator') {
    const source = new Observable<string>((subscriber) => {
      setInterval(() => {
        for (let count = 0; count < 10; count++) subscriber.next(next());
      }, 5);
    });
    source.pipe(sendmmsg(socket, { highWaterMark: 1 << 16 })).subscribe(onReport);
    return;
  }
  if (way === 'stream') {
    const stream = createDatagramWritable(socket, { onReport, highWaterMark: 64 });
    for (;;) {
      if (!stream.write(next())) await new Promise((resolve) => stream.once('drain', resolve));
      if (accepted[0]! % PER_TURN === 0) await turn();
    }
  }
  const sender = new BatchSender(socket, { ...OPTIONS[way], highWaterMark: 500 }, { next: onReport });
  for (;;) {
    if (!sender.send(isConnected ? next() : { payload: next(), path })) await sender.ready();
    if (accepted[0]! % PER_TURN === 0) await turn();
  }
}

// Before the first datagram: a termination while koffi is loading is another story.
DatagramSocket.open({ type: 'unix' }).close();
parentPort!.postMessage('started');
await run(workerData as ThreadPlan);
