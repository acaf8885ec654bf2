/** The doors, each with a source that never ends: the operators of RxJS and Ix, and both streams. */
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { type NextObserver, Observable } from 'rxjs';
import { broadcast as broadcastOperator, DatagramSocket, type Endpoint, endpoint, sendmmsg } from '../../src/index.ts';
import { sendmmsg as ixSendmmsg } from '../../src/ix.ts';
import { createDatagramWritable, createDatagramWritableStream } from '../../src/streams.ts';
import { channel, freshBytesOf, textOf } from './channel.ts';
import { type Bench, connectedTo, PATIENT_MS, pause, type Workload } from './workload.ts';

const PER_TURN = 100;

/** A source that stops while it is told to, and completes when the soak is over. */
function pausable<T>(
  over: AbortSignal,
  datagramOf: (sequence: number) => T,
): { source: Observable<T>; pressure: NextObserver<boolean> } {
  let isPaused = false;
  let resume = (): void => {};
  const pressure: NextObserver<boolean> = {
    next(isFull) {
      isPaused = isFull;
      if (!isFull) resume();
    },
  };
  const source = new Observable<T>((subscriber) => {
    let sequence = 0;
    let next: NodeJS.Immediate | undefined;
    const emit = (): void => {
      next = undefined;
      for (let count = 0; count < PER_TURN && !isPaused && !over.aborted; count++)
        subscriber.next(datagramOf(sequence++));
      if (over.aborted) subscriber.complete();
      else if (!isPaused) resume();
    };
    resume = () => {
      next ??= setImmediate(emit);
    };
    const onOver = (): void => resume();
    over.addEventListener('abort', onOver, { once: true });
    resume();
    return () => clearImmediate(next);
  });
  return { source, pressure };
}

const rx = channel('rxjs', 'exact', 'text');
const rxjs: Workload = {
  name: 'rxjs, pressure',
  channels: [rx],
  async run(bench) {
    const { source, pressure } = pausable(bench.over, (n) => textOf(0, n));
    const options = { pressure, highWaterMark: 512, drainTimeoutMs: PATIENT_MS };
    await toCompletion(bench, this.name, source.pipe(sendmmsg(connectedTo(bench, this.name, rx), options)));
  },
};

const iterated = channel('ix', 'exact', 'any size');
const ix: Workload = {
  name: 'ix, for await',
  channels: [iterated],
  async run({ over, ...bench }) {
    async function* source() {
      for (let n = 0; !over.aborted; n++) yield freshBytesOf(iterated, 0, n);
    }
    const operator = ixSendmmsg(connectedTo({ ...bench, over }, this.name, iterated), {
      highWaterMark: 256,
      drainTimeoutMs: PATIENT_MS,
    });
    for await (const report of operator(source())) bench.ledger.tell(this.name, report);
  },
};

const written = channel('Writable', 'exact', 'any size');
const writable: Workload = {
  name: 'Writable',
  channels: [written],
  async run(bench) {
    const stream = createDatagramWritable(connectedTo(bench, this.name, written), {
      highWaterMark: 128,
      drainTimeoutMs: PATIENT_MS,
      onReport: (report) => bench.ledger.tell(this.name, report),
    });
    for (let n = 0; !bench.over.aborted; n++) {
      if (!stream.write(freshBytesOf(written, 0, n))) await once(stream, 'drain');
      if (n % PER_TURN === 0) await turn();
    }
    stream.end();
    await finished(stream);
  },
};

const streamed = channel('WritableStream', 'exact', 'text');
const writableStream: Workload = {
  name: 'WritableStream',
  channels: [streamed],
  async run(bench) {
    const stream = createDatagramWritableStream(connectedTo(bench, this.name, streamed), {
      highWaterMark: 128,
      drainTimeoutMs: PATIENT_MS,
      onReport: (report) => bench.ledger.tell(this.name, report),
    });
    const writer = stream.getWriter();
    for (let n = 0; !bench.over.aborted; n++) {
      await writer.ready;
      writer.write(textOf(0, n)).catch((error) => bench.fail(`${this.name}: ${String(error)}`));
      if (n % PER_TURN === 0) await turn();
    }
    await writer.close();
  },
};

const peers = [0, 1, 2, 3].map((index) =>
  channel(`broadcast ${index}`, 'increasing', 'text', { type: 'udp', stalls: false }),
);
const broadcast: Workload = {
  name: 'broadcast, udp',
  channels: peers,
  async run(bench) {
    const endpoints = new Set<Endpoint>(peers.map((peer) => endpoint('127.0.0.1', bench.addressOf(peer) as number)));
    const source = new Observable<string>((subscriber) => {
      void (async () => {
        for (let n = 0; !bench.over.aborted; ) {
          for (let count = 0; count < 10; count++) subscriber.next(textOf(0, n++));
          await pause(bench, 10);
        }
        subscriber.complete();
      })();
    });
    const socket = () => {
      bench.ledger.claim(this.name);
      return DatagramSocket.open();
    };
    await toCompletion(bench, this.name, source.pipe(broadcastOperator(socket, endpoints)));
  },
};

function toCompletion(
  bench: Bench,
  owner: string,
  reports: Observable<Parameters<Bench['ledger']['tell']>[1]>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    reports.subscribe({
      next: (report) => bench.ledger.tell(owner, report),
      error: reject,
      complete: resolve,
    });
  });
}

export const DOORS: readonly Workload[] = [rxjs, ix, writable, writableStream, broadcast];
