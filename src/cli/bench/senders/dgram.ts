/** `node:dgram`, 64 datagrams in flight, connected or not. */
import { createSocket } from 'node:dgram';
import { keepInFlight, measure, readWorkload } from '../measure.ts';
import { addressesOf, lineOf } from '../workload.ts';

const workload = readWorkload();
const isConnected = process.argv.at(-2) === 'connected';
const { lines, port } = workload;
const addresses = addressesOf(workload);
const payload = new Uint8Array(workload.bytes).fill(120);
const socket = createSocket('udp4');
await new Promise<void>((resolve) => {
  if (isConnected) socket.connect(port, addresses[0]!, resolve);
  else socket.bind(0, resolve);
});

await measure(workload, (isOver) =>
  keepInFlight((n, done) => {
    const bytes = lines === undefined ? payload : lineOf(lines, n);
    if (isConnected) socket.send(bytes, done);
    else socket.send(bytes, port, addresses[n % addresses.length]!, done);
  }, isOver),
);
socket.close();
