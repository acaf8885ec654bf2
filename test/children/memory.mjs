// Sends a million datagrams out of one buffer, and tells what that did to memory. Needs --expose-gc.
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as turn } from 'node:timers/promises';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

const port = Number(process.argv[2]);
const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
const sender = new BatchSender(socket, { batchSize: 64 });
const buffer = Buffer.alloc(64, 'x');

async function send(count) {
  for (let index = 0; index < count; index++) {
    buffer.writeUInt32LE(index);
    if (!sender.send(buffer)) await sender.ready();
    if (index % 4096 === 0) await turn();
  }
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
    sent: sender.stats.sent,
    majorCollections,
    // That the collection asked for was seen shows that others would have been.
    seen: major,
    externalGrowth: after.external - before.external,
    arrayBuffersGrowth: after.arrayBuffers - before.arrayBuffers,
    heapGrowth: after.heapUsed - before.heapUsed,
  }),
);
