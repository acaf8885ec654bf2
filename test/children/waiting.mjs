// Waits for room on a full unix socket, on the main thread and in workers at once, and tells how late each wait ended.
// argv: how many workers (0: the main thread). Runs on Node.js, Bun and Deno. Prints { lateMs, contexts, flags } as JSON.
import { AsyncLocalStorage } from 'node:async_hooks';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { BatchSender, DatagramSocket } from '../../dist/src/index.js';
import { MmsgReceiver } from '../../dist/src/receiver/mmsg-receiver.js';

const ROUNDS = 5;
const WAIT_MS = 25;

/** Fills a socket, waits for `ready()`, and looks at when that was; its reader drains after a while. */
async function rounds(path) {
  const unix = DatagramSocket.open({ type: 'unix', bind: { path } });
  const reader = new MmsgReceiver(unix, { batchSize: 64, maxSize: 64 });
  const socket = DatagramSocket.open({ type: 'unix', connect: { path } });
  const storage = new AsyncLocalStorage();
  const contexts = new Set();
  const lateMs = [];
  await storage.run('mine', async () => {
    const next = ({ sent }) => sent > 0 && contexts.add(storage.getStore() ?? null);
    const sender = new BatchSender(socket, { highWaterMark: 32, warn: false }, { next });
    for (let round = 0; round < ROUNDS; round++) {
      for (let n = 0; sender.send(`${n}`); n++);
      let drainedAt = 0;
      const drained = sleep(WAIT_MS).then(() => {
        while (reader.receive(() => {}));
        drainedAt = performance.now();
      });
      // Nothing else to wake for: a resumption that only the next timer would find is as late as that.
      const keep = setTimeout(() => {}, 2000);
      await sender.ready();
      contexts.add(storage.getStore() ?? null);
      await drained;
      lateMs.push(performance.now() - drainedAt);
      clearTimeout(keep);
    }
    sender.destroy();
  });
  socket.close();
  unix.close();
  return { lateMs, contexts: [...contexts] };
}

const freshPath = (n) => join(tmpdir(), `rx-sendmmsg-waiting-${process.pid}-${n}.sock`);

if (!isMainThread) {
  // All begin when all have tried it: that threads start and compile is not what is measured.
  const started = new Promise((resolve) => parentPort.once('message', resolve));
  await rounds(workerData);
  parentPort.postMessage('here');
  await started;
  parentPort.postMessage(await rounds(workerData));
} else {
  const count = Number(process.argv[2]);
  const workers = Array.from(
    { length: count },
    (_, n) => new Worker(new URL(import.meta.url), { workerData: freshPath(n + 1) }),
  );
  const nextOf = (worker) => new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await Promise.all(workers.map(nextOf));
  for (const worker of workers) worker.postMessage('go');
  const told = count === 0 ? [await rounds(freshPath(0))] : await Promise.all(workers.map(nextOf));
  for (let n = 0; n <= count; n++) rmSync(freshPath(n), { force: true });
  const lateMs = told.flatMap((each) => each.lateMs).sort((a, b) => a - b);
  const contexts = [...new Set(told.flatMap((each) => each.contexts))];
  console.log(JSON.stringify({ median: lateMs[lateMs.length >> 1], most: lateMs.at(-1), contexts }));
}
