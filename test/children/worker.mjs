// Workers that are terminated with flushes in flight on the thread pool; prints "survived". argv: path of a unix receiver.
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

if (isMainThread) {
  for (let round = 0; round < 12; round++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: process.argv[2] });
    await new Promise((resolve) => worker.once('message', resolve));
    await sleep(round % 4);
    await worker.terminate();
  }
  console.log('survived');
} else {
  const { parentPort } = await import('node:worker_threads');
  const socket = DatagramSocket.open();
  const sender = new BatchSender(socket, { offload: true, lanes: 4, batchSize: 256, gso: 'off', warn: false });
  const payload = new Uint8Array(1200);
  const spin = () => {
    for (let n = 0; n < 1000; n++) {
      sender.send({ payload, address: `127.0.0.${1 + (n % 9)}`, port: Number(workerData) });
    }
    setImmediate(spin);
  };
  spin();
  parentPort.postMessage('sending');
}
