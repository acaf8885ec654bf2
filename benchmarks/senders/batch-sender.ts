/**
 * `BatchSender`, which says when its queue is full: needed where the source could outrun the kernel (on the thread pool, on a
 * unix socket). With `broadcast`, a tick is one payload to all destinations.
 */

import { measure, readWorkload } from '../../src/cli/bench/measure.ts';
import { addressesOf, lineOf } from '../../src/cli/bench/workload.ts';
import { type BatchOptions, BatchSender, type Datagram, DatagramSocket, endpoint } from '../../src/index.ts';

const workload = readWorkload();
const { options, broadcast } = JSON.parse(process.argv.at(-2)!) as { options: BatchOptions; broadcast?: boolean };
const { lines, path } = workload;
const peers = addressesOf(workload).map((address) => endpoint(address, workload.port || 9));
const payload = new Uint8Array(workload.bytes).fill(120);
const socket = path === undefined ? DatagramSocket.open() : DatagramSocket.open({ type: 'unix', connect: { path } });
const { length } = peers;
const { payloadsPerTick = 1 } = workload;
const perTick = length * payloadsPerTick;
/** A tick of several payloads is a batch: what C sends with a call. */
const TICKS_QUEUED = payloadsPerTick > 1 ? 1 : 16;

/** Prepared, where the payload is always the same. */
const datagrams = peers.map((to): Datagram => ({ payload, to }));
const datagramOf = (n: number): Datagram | Uint8Array => {
  if (path !== undefined) return payload;
  return lines === undefined ? datagrams[n % length]! : { payload: lineOf(lines, n), to: peers[n % length]! };
};

async function sendEach(sender: BatchSender, isOver: () => boolean): Promise<void> {
  const total = workload.datagrams;
  for (let n = 0; total === undefined ? !isOver() : n < total; ) {
    for (const end = Math.min(n + 1024, total ?? Number.POSITIVE_INFINITY); n < end; n++) {
      if (!sender.send(datagramOf(n))) await roomIn(sender);
    }
  }
}

async function roomIn(sender: BatchSender): Promise<void> {
  const start = performance.now();
  await sender.ready();
  waitedMs += performance.now() - start;
  waits++;
}
let waitedMs = 0;
let waits = 0;

/** `ready` speaks of one datagram: room for a whole tick is told by the reports. */
async function sendTicks(sender: BatchSender, isOver: () => boolean, nextReport: () => Promise<void>): Promise<void> {
  while (!isOver()) {
    queued += perTick;
    for (let index = 0; index < payloadsPerTick; index++) sender.broadcast(payload, peers);
    while (queued > (TICKS_QUEUED - 1) * perTick) await nextReport();
  }
}
let queued = 0;

let syscalls = 0;
let dropped = 0;
await measure(
  workload,
  async (isOver) => {
    let wake = (): void => {};
    const nextReport = (): Promise<void> =>
      new Promise((resolve) => {
        wake = resolve;
      });
    const limits = {
      highWaterMark: TICKS_QUEUED * perTick,
      highWaterMarkBytes: TICKS_QUEUED * perTick * workload.bytes,
    };
    const queue = broadcast ? limits : {};
    const sender = new BatchSender(
      socket,
      { ...queue, ...options, warn: false },
      {
        next({ sent, dropped, rejected }) {
          queued -= sent + dropped + rejected.length;
          wake();
        },
      },
    );
    await (broadcast ? sendTicks(sender, isOver, nextReport) : sendEach(sender, isOver));
    await sender.close();
    const { stats } = sender;
    syscalls += stats.syscalls;
    dropped += stats.accepted - stats.sent;
    return stats.sent;
  },
  () => ({ syscalls, dropped, ...(waits > 0 && { meanWaitSeconds: waitedMs / 1000 / waits }) }),
);
socket.close();
