/** `source$.pipe(map, sendmmsg(socket))`: the product as it is used. */

import { map, Observable, Subject } from 'rxjs';
import { type BatchOptions, type Datagram, DatagramSocket, endpoint, sendmmsg } from '../../../index.ts';
import { measure, readWorkload } from '../measure.ts';
import { addressesOf, lineOf } from '../workload.ts';

const workload = readWorkload();
const {
  options,
  isChainOnly,
  joined: how,
} = JSON.parse(process.argv.at(-2)!) as {
  options: BatchOptions;
  isChainOnly?: boolean;
  /** What is done with a payload in two parts, instead of sending it as a list. */
  joined?: 'before' | 'each';
};
const { lines, headerBytes, chunkBytes } = workload;
const peers = addressesOf(workload).map((address) => endpoint(address, workload.port));
const payload = new Uint8Array(workload.bytes).fill(120);
const socket = DatagramSocket.open();
const first = peers[0]!;
const { length } = peers;
let syscalls = 0;
let dropped = 0;

/** A large payload is as many datagrams as it is cut into. */
const segmentSize = workload.bytes;
const chunk = new Uint8Array(chunkBytes ?? 0).fill(120);
const perInput = chunkBytes === undefined ? 1 : Math.ceil(chunkBytes / segmentSize);
const header = payload.subarray(0, headerBytes);
const body = payload.subarray(headerBytes);

const datagramOf = chooseDatagram();

/** What makes the datagrams of this workload. */
function chooseDatagram(): (n: number) => Datagram {
  if (lines !== undefined) return (n) => ({ payload: lineOf(lines, n), to: first });
  if (chunkBytes !== undefined) return () => ({ payload: chunk, to: first, segmentSize });
  if (how === 'each') return () => ({ payload: Buffer.concat([header, body]), to: first });
  if (headerBytes !== undefined && how === undefined) return () => ({ payload: [header, body], to: first });
  if (length === 1) return () => ({ payload, to: first });
  return (n) => ({ payload, to: peers[n % length]! });
}

/** 0, 1, 2, … until the time is up. */
const flood = (isOver: () => boolean): Observable<number> =>
  new Observable((subscriber) => {
    for (let n = 0; !isOver() && !subscriber.closed; ) {
      for (const end = n + Math.ceil(1024 / perInput); n < end; n++) subscriber.next(n);
    }
    subscriber.complete();
  });

/** The same for node:dgram, which sends in later turns of the event loop: it waits while the queue is full. */
const pressure = new Subject<boolean>();
const trickle = (isOver: () => boolean): Observable<number> =>
  new Observable((subscriber) => {
    let n = 0;
    let isFull = false;
    const emit = (): void => {
      while (!isFull && !isOver() && !subscriber.closed) subscriber.next(n++);
      if (isOver()) subscriber.complete();
    };
    subscriber.add(
      pressure.subscribe((full) => {
        isFull = full;
        if (!full) setImmediate(emit);
      }),
    );
    emit();
  });
const isTrickling = socket.backend === 'node:dgram';
const counted = isTrickling ? trickle : flood;

/** Where lines are packed, they are what counts: how many, and their bytes with a newline each. */
const isPacked = options.pack !== undefined;
let joinedBytes = 0;
let joined = 0;
const lineFor = (n: number): Datagram => {
  const payload = lineOf(lines!, n);
  joined++;
  joinedBytes += payload.length + 1;
  return { payload, to: first };
};

/** The chain of operators alone, into a subscriber that does nothing: what is spent before anything is sent. */
const runChain = (isOver: () => boolean): Promise<number> =>
  new Promise((resolve) => {
    let emitted = 0;
    flood(isOver)
      .pipe(map(datagramOf))
      .subscribe({
        next: () => {
          emitted++;
        },
        complete: () => resolve(emitted * perInput),
      });
  });

const runAll = (isOver: () => boolean): Promise<number> =>
  new Promise((resolve, reject) => {
    let sent = 0;
    const before = joined;
    counted(isOver)
      .pipe(
        map(isPacked ? lineFor : datagramOf),
        sendmmsg(socket, { ...options, warn: false, ...(isTrickling && { pressure }) }),
      )
      .subscribe({
        next: (report) => {
          sent += report.sent;
          syscalls += report.syscalls;
          dropped += report.dropped + report.rejected.length;
        },
        error: reject,
        complete: () => resolve(isPacked ? joined - before : sent),
      });
  });

await measure(workload, isChainOnly ? runChain : runAll, () => ({
  syscalls,
  dropped,
  ...(isPacked && { joinedBytes }),
}));
socket.close();
