/** The memory of a long run: through the operator, through `BatchSender` on the thread pool, or through node:dgram. */
import { createSocket } from 'node:dgram';
import { map, Subject } from 'rxjs';
import { keepInFlight, measureMemory, readWorkload } from '../../src/cli/bench/measure.ts';
import { type BatchOptions, BatchSender, type Datagram, DatagramSocket, endpoint, sendmmsg } from '../../src/index.ts';

const workload = readWorkload();
const { via, options } = JSON.parse(process.argv.at(-2)!) as {
  via: 'operator' | 'batch-sender' | 'dgram';
  options?: BatchOptions;
};
const payload = new Uint8Array(workload.bytes).fill(120);
const to = endpoint('127.0.0.1', workload.port);
const datagram = (): Datagram => ({ payload, to });
let dropped = 0;

async function throughOperator(): Promise<void> {
  const source = new Subject<number>();
  const ended = new Promise<void>((complete, error) => {
    source
      .pipe(
        map(datagram),
        sendmmsg(() => DatagramSocket.open(), { ...options, warn: false }),
      )
      .subscribe({
        next: (report) => {
          dropped += report.dropped + report.rejected.length;
        },
        error,
        complete,
      });
  });
  const sendSlice = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) source.next(n);
  };
  await measureMemory(workload, sendSlice, () => ({ dropped }));
  source.complete();
  await ended;
}

async function throughBatchSender(): Promise<void> {
  const socket = DatagramSocket.open();
  const sender = new BatchSender(socket, { ...options, warn: false });
  const sendSlice = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) if (!sender.send(datagram())) await sender.ready();
  };
  await measureMemory(workload, sendSlice, () => ({ dropped: sender.stats.dropped }));
  await sender.close();
  socket.close();
}

async function throughDgram(): Promise<void> {
  const socket = createSocket('udp4');
  const { port } = workload;
  await new Promise<void>((resolve) => socket.bind(0, resolve));
  const sendSlice = async (count: number): Promise<void> => {
    let slots = count / 64;
    await keepInFlight(
      (_n, done) => socket.send(payload, port, '127.0.0.1', done),
      () => slots-- <= 0,
    );
  };
  await measureMemory(workload, sendSlice);
  socket.close();
}

await { operator: throughOperator, 'batch-sender': throughBatchSender, dgram: throughDgram }[via]();
