/** `source$.pipe(map, sendmmsg(socket))`: the product as it is used. */

import { type BatchOptions, type Datagram, DatagramSocket, endpoint, sendmmsg } from 'rx-sendmmsg';
import { map, range } from 'rxjs';
import { addressesOf, lineOf, measure, readWorkload } from '../workload.ts';

const workload = readWorkload();
const options = JSON.parse(process.argv.at(-2)!) as BatchOptions;
const CHUNK = 1_024_000;

const peers = addressesOf(workload).map((address) => endpoint(address, workload.port));
const payload = new Uint8Array(workload.bytes).fill(120);
const socket = DatagramSocket.open();
const first = peers[0]!;
const { length } = peers;
let syscalls = 0;

const datagramOf: (n: number) => Datagram =
  workload.lines !== undefined
    ? (n: number) => ({ payload: lineOf(workload, n), to: first })
    : length === 1
      ? () => ({ payload, to: first })
      : (n: number) => ({ payload, to: peers[n % length]! });

const sendChunk = (): Promise<number> =>
  new Promise((resolve, reject) => {
    let sent = 0;
    range(0, CHUNK)
      .pipe(map(datagramOf), sendmmsg(socket, options))
      .subscribe({
        next: (report) => {
          sent += report.sent;
          syscalls += report.syscalls;
        },
        error: reject,
        complete: () => resolve(sent),
      });
  });

await measure(workload, sendChunk, () => ({ syscalls }));
socket.close();
