/**
 * A timestamp of CLOCK_MONOTONIC in each payload, at so many datagrams a second: from `next()`, or from `send()`, to the
 * receiver. After a warm-up, whose timestamps are 0.
 */
import { createSocket } from 'node:dgram';
import { Subject } from 'rxjs';
import { measure, readWorkload } from '../../src/cli/bench/measure.ts';
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
let isWarm = false;

/** Timers of one millisecond come a little late: what has become due meanwhile goes out in the same turn, one by one. */
function sendPaced(isOver: () => boolean): Promise<number> {
  const start = performance.now();
  let sent = 0;
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      for (const due = (performance.now() - start) * perMs; sent + 1 <= due; sent++) {
        payload.writeBigUInt64LE(isWarm ? process.hrtime.bigint() : 0n);
        sending.send(payload);
      }
      if (!isOver()) return;
      clearInterval(timer);
      isWarm = true;
      resolve(sent);
    }, 1);
  });
}

// At a low rate the compilers are slow to notice: 5000 datagrams first. And a p99 wants some thousands to be found in.
if (workload.onDemand) await measure(workload, sendPaced);
else await measure({ ...workload, seconds: Math.max(workload.seconds, 3) }, sendPaced, undefined, 5000);
await sending.end();
