/** `node:dgram`, 64 datagrams in flight, connected or not. */
import { createSocket } from 'node:dgram';
import { addressesOf, lineOf, measure, readWorkload } from '../workload.ts';

const workload = readWorkload();
const isConnected = process.argv.at(-2) === 'connected';
const CHUNK = 4096;
const IN_FLIGHT = 64;

const addresses = addressesOf(workload);
const payload = new Uint8Array(workload.bytes).fill(120);
const socket = createSocket('udp4');
await new Promise<void>((resolve) => {
  if (isConnected) socket.connect(workload.port, addresses[0]!, resolve);
  else socket.bind(0, resolve);
});

const sendChunk = (): Promise<number> =>
  new Promise((resolve, reject) => {
    let begun = 0;
    let done = 0;
    const sendOne = (): void => {
      const n = begun++;
      const bytes = workload.lines === undefined ? payload : lineOf(workload, n);
      if (isConnected) socket.send(bytes, onSent);
      else socket.send(bytes, workload.port, addresses[n % addresses.length]!, onSent);
    };
    const onSent = (error: Error | null): void => {
      if (error !== null) return reject(error);
      if (++done === CHUNK) resolve(CHUNK);
      else if (begun < CHUNK) sendOne();
    };
    for (let n = 0; n < IN_FLIGHT; n++) sendOne();
  });

await measure(workload, sendChunk);
socket.close();
