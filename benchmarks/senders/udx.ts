/** udx-native: the datagrams of its socket, without its streams; 64 in flight. */
import { keepInFlight, measure, readWorkload } from '../../src/cli/bench/measure.ts';
import { addressesOf, lineOf } from '../../src/cli/bench/workload.ts';
import { requirePeer } from '../peer-packages.ts';

/** What is used of udx-native. */
interface UdxSocket {
  bind(port: number, host: string): void;
  send(payload: Buffer, port: number, host: string): Promise<boolean>;
  close(): Promise<void>;
}

const workload = readWorkload();
const { lines, port } = workload;
const addresses = addressesOf(workload);
const payload = Buffer.alloc(workload.bytes, 'x');
const Udx = requirePeer('udx-native') as new () => { createSocket(): UdxSocket };
const socket = new Udx().createSocket();
socket.bind(0, '0.0.0.0');

await measure(workload, (isOver) =>
  keepInFlight((n, done) => {
    const bytes = lines === undefined ? payload : Buffer.from(lineOf(lines, n), 'latin1');
    socket
      .send(bytes, port, addresses[n % addresses.length]!)
      .then((isSent) => done(isSent ? null : new Error('udx-native could not send')), done);
  }, isOver),
);
await socket.close();
