/**
 * The receiving end, a process of its own: counts with recvmmsg(2) and GRO, or lets the kernel drop.
 *
 * `node receiver.js count|drop`: prints its port on the first line; each line on stdin is answered with the datagrams
 * received so far.
 */
import { createInterface } from 'node:readline';
import { DatagramSocket } from 'rx-sendmmsg';
import { MmsgReceiver } from '../src/mmsg-receiver.ts';

const isDropping = process.argv.at(-1) === 'drop';
// Bound to all of 127/8 alike: the destinations of a broadcast are 127.1.x.y. A full buffer makes the kernel drop.
const socket = DatagramSocket.open({ bind: { address: '0.0.0.0' }, ...(isDropping && { recvBufferSize: 1 }) });
const local = socket.address();
process.stdout.write(`${'port' in local ? local.port : 0}\n`);

let datagrams = 0;
if (!isDropping) {
  const receiver = new MmsgReceiver(socket, { recvBufferSize: 64 << 20 });
  const count = (): void => {
    datagrams++;
  };
  receiver.poll(() => {
    for (let calls = 0; calls < 64 && receiver.receive(count); calls++);
  });
}
createInterface({ input: process.stdin })
  .on('line', () => process.stdout.write(`${datagrams}\n`))
  .on('close', () => process.exit(0));
