/** `source$.pipe(map, sendmmsg(socket))`: the product as it is used. */

import { map, Observable } from 'rxjs';
import { type BatchOptions, type Datagram, DatagramSocket, endpoint, sendmmsg } from '../../src/index.ts';
import { measure, readWorkload } from '../measure.ts';
import { addressesOf, lineOf } from '../workload.ts';

const workload = readWorkload();
const { options } = JSON.parse(process.argv.at(-2)!) as { options: BatchOptions };
const { lines } = workload;
const peers = addressesOf(workload).map((address) => endpoint(address, workload.port));
const payload = new Uint8Array(workload.bytes).fill(120);
const socket = DatagramSocket.open();
const first = peers[0]!;
const { length } = peers;
let syscalls = 0;
let dropped = 0;

const datagramOf: (n: number) => Datagram =
  lines !== undefined
    ? (n: number) => ({ payload: lineOf(lines, n), to: first })
    : length === 1
      ? () => ({ payload, to: first })
      : (n: number) => ({ payload, to: peers[n % length]! });

/** 0, 1, 2, … until the time is up. */
const counted = (isOver: () => boolean): Observable<number> =>
  new Observable((subscriber) => {
    for (let n = 0; !isOver() && !subscriber.closed; ) {
      for (const end = n + 1024; n < end; n++) subscriber.next(n);
    }
    subscriber.complete();
  });

await measure(
  workload,
  (isOver) =>
    new Promise((resolve, reject) => {
      let sent = 0;
      counted(isOver)
        .pipe(map(datagramOf), sendmmsg(socket, options))
        .subscribe({
          next: (report) => {
            sent += report.sent;
            syscalls += report.syscalls;
            dropped += report.dropped + report.rejected.length;
          },
          error: reject,
          complete: () => resolve(sent),
        });
    }),
  () => ({ syscalls, dropped }),
);
socket.close();
