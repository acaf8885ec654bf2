// Sends a million datagrams, and tells what that did to memory; argv: port, kind, gso. Needs --expose-gc.
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

const [port, kind, gso] = process.argv.slice(2);
const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: Number(port) } });
const sender = new BatchSender(socket, { batchSize: 64, gso });
const buffer = Buffer.alloc(64, 'x');
const KINDS = {
  bytes: buffer,
  object: { payload: buffer },
  text: 'x'.repeat(64),
  wide: 'é'.repeat(32),
  list: [buffer, 'x'],
};
const datagram = KINDS[kind];

async function send(count) {
  for (let index = 0; index < count; index++) {
    buffer.writeUInt32LE(index);
    if (!sender.send(datagram)) await sender.ready();
    if (index % 4096 === 0) await turn();
  }
}

/** Bytes of the heap that queueing one datagram takes, while none is sent; the least of a few. */
function allocatedByOne() {
  const sender = new BatchSender(socket, { batchSize: 4096, highWaterMark: 4096, gso });
  const seen = [];
  for (let batch = 0; batch < 30; batch++) {
    globalThis.gc();
    const before = process.memoryUsage().heapUsed;
    for (let index = 0; index < 4000; index++) sender.send(datagram);
    seen.push((process.memoryUsage().heapUsed - before) / 4000);
    sender.flush();
  }
  sender.destroy();
  return Math.min(...seen.slice(-10));
}

const { NODE_PERFORMANCE_GC_MAJOR, NODE_PERFORMANCE_GC_INCREMENTAL } = constants;
let major = 0;
const observer = new PerformanceObserver((list) => {
  for (const { detail } of list.getEntries()) {
    if (detail.kind === NODE_PERFORMANCE_GC_MAJOR || detail.kind === NODE_PERFORMANCE_GC_INCREMENTAL) major++;
  }
});

await send(100_000);
globalThis.gc();
await turn();
const before = process.memoryUsage();
observer.observe({ entryTypes: ['gc'] });
await send(1_000_000);
await turn();
await turn();
const majorCollections = major;
globalThis.gc();
const after = process.memoryUsage();
await turn();
await turn();
observer.disconnect();
await sender.close();
console.log(
  JSON.stringify({
    allocatedByOne: allocatedByOne(),
    sent: sender.stats.sent,
    majorCollections,
    // That the collection asked for was seen shows that others would have been.
    seen: major,
    externalGrowth: after.external - before.external,
    arrayBuffersGrowth: after.arrayBuffers - before.arrayBuffers,
    heapGrowth: after.heapUsed - before.heapUsed,
  }),
);
