/**
 * A timestamp of CLOCK_MONOTONIC in each payload, at so many datagrams a second: from `next()`, or from `send()`, to the
 * receiver. After a warm-up, whose timestamps are 0.
 */
import { createSocket } from 'node:dgram';
import { Subject } from 'rxjs';
import { mainThreadSeconds, print, readWorkload } from '../../src/cli/bench/measure.ts';
import { type BatchOptions, type DatagramLike, DatagramSocket, endpoint, sendmmsg } from '../../src/index.ts';

const workload = readWorkload();
const { port } = workload;
const { via, connected, options } = JSON.parse(process.argv.at(-2)!) as {
  via: 'operator' | 'dgram';
  connected?: boolean;
  options?: BatchOptions;
};
const ADDRESS = '127.0.0.1';

/** How to send one payload, and how to end. */
interface Sending {
  send(payload: Uint8Array): void;
  end(): Promise<void>;
}

function throughOperator(): Sending {
  const connect = connected ? { connect: { address: ADDRESS, port } } : {};
  const to = endpoint(ADDRESS, port);
  const source = new Subject<DatagramLike>();
  const ended = new Promise<void>((complete, error) => {
    source
      .pipe(sendmmsg(() => DatagramSocket.open(connect), { ...options, warn: false }))
      .subscribe({ complete, error });
  });
  return {
    send: (payload) => source.next(connected ? payload : { payload, to }),
    end() {
      source.complete();
      return ended;
    },
  };
}

async function throughDgram(): Promise<Sending> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => {
    if (connected) socket.connect(port, ADDRESS, resolve);
    else socket.bind(0, resolve);
  });
  return {
    // A buffer of its own for each: node:dgram reads it in a later tick when it is not connected.
    send: (payload) => (connected ? socket.send(payload.slice()) : socket.send(payload.slice(), port, ADDRESS)),
    end: () => new Promise((resolve) => setTimeout(() => socket.close(resolve), 20)),
  };
}

const sending = via === 'operator' ? throughOperator() : await throughDgram();
const payload = Buffer.alloc(workload.bytes, 'x');
const perMs = workload.perSecond! / 1000;
// At a low rate the compilers are slow to notice: 5000 datagrams first. And a p99 wants some thousands to be found in.
const measuredFromMs = 5000;
const seconds = Math.max(workload.seconds, 3);
const totalMs = measuredFromMs + seconds * 1000;
let total = 0;
let measured = 0;
const busy = mainThreadSeconds();
const start = performance.now();
await new Promise<void>((resolve) => {
  // Timers of one millisecond come a little late: what has become due meanwhile goes out in the same turn, one by one.
  const timer = setInterval(() => {
    const elapsed = performance.now() - start;
    for (const due = Math.min(elapsed, totalMs) * perMs; total + 1 <= due; total++) {
      const isMeasured = elapsed >= measuredFromMs;
      payload.writeBigUInt64LE(isMeasured ? process.hrtime.bigint() : 0n);
      sending.send(payload);
      if (isMeasured) measured++;
    }
    if (elapsed < totalMs) return;
    clearInterval(timer);
    resolve();
  }, 1);
});
const busySeconds = busy === null ? null : mainThreadSeconds()! - busy;
await sending.end();
print({ datagrams: measured, total, seconds, busySeconds });
