// Loses datagrams in each way, three times over, in this thread and then in another; prints what it is warned of.
import { once } from 'node:events';
import { isMainThread, Worker } from 'node:worker_threads';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

const thread = isMainThread ? 'main' : 'worker';
process.on('warning', ({ name, code }) => console.log(`${thread} ${name} ${code}`));

const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
for (let round = 0; round < 3; round++) {
  const sender = new BatchSender(socket, { highWaterMark: 2, offload: true, overflow: 'drop-newest' });
  for (let index = 0; index < 9; index++) sender.send('x');
  sender.send(42);
  await sender.close();
}
socket.close();
if (isMainThread) await once(new Worker(new URL(import.meta.url)), 'exit');
