// What the tests bundle: it sends by each entry, from the main thread and from a worker, and prints one JSON object.
// argv: the port of a receiver; 'guarded' or 'unguarded'; this file, where another program imports it.
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { BatchSender, DatagramSocket, sendmmsg } from 'rx-sendmmsg';
import { createDatagramWritable } from 'rx-sendmmsg/streams';
import { from, lastValueFrom } from 'rxjs';
import { expectNativeSending } from './guard.js';

const COUNT = 100;

async function sendByAll(thread, port) {
  const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
  const named = (door) => Array.from({ length: COUNT }, (_, index) => `${thread} ${door} ${index}`);
  await lastValueFrom(from(named('operator')).pipe(sendmmsg(socket)));
  await pipeline(named('stream'), createDatagramWritable(socket));
  const sender = new BatchSender(socket);
  for (const datagram of named('sender')) sender.send(datagram);
  await sender.close();
  const { backend, fallbackReason } = socket;
  socket.close();
  return { thread, backend, fallbackReason, stats: sender.stats.backend };
}

async function main(port, guard) {
  if (guard === 'guarded') expectNativeSending();
  const told = [await sendByAll('main', port)];
  const worker = new Worker(process.argv[4] ?? process.argv[1], { workerData: { port } });
  told.push(...(await once(worker, 'message')));
  console.log(JSON.stringify(told));
}

async function work({ port }) {
  parentPort.postMessage(await sendByAll('worker', port));
}

if (isMainThread) {
  main(Number(process.argv[2]), process.argv[3]).catch(({ code, message }) => {
    console.error(code, message); // not the stack: that comes with the line it is in, which is all of the bundle
    process.exitCode = 1;
  });
} else work(workerData);
