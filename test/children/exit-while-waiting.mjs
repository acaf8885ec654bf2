// Ends with status 7 while the main thread and four workers wait for room on full unix sockets.
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

const path = join(tmpdir(), `rx-sendmmsg-exit-${process.pid}.sock`);
DatagramSocket.open({ type: 'unix', bind: { path } });
const workerData = { scenario: 'blocked', end: 'terminate', path, afterMs: 600_000 };
const workers = Array.from({ length: 4 }, () => new Worker(new URL('./thread.mjs', import.meta.url), { workerData }));
await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
const socket = DatagramSocket.open({ type: 'unix', connect: { path } });
const sender = new BatchSender(socket, { drainTimeoutMs: 600_000 });
for (let n = 0; n < 100; n++) sender.send(`${n}`);
setTimeout(() => {
  rmSync(path, { force: true });
  process.exit(7);
}, 50);
