/**
 * The cost of encoding alone, of one shape: datagrams into the queue, planned, and out again, without a system call. Prints the
 * nanoseconds of its rounds, or measures on demand where it is given a workload. A process for each shape, as in a program that sends one: the compiler would see all of them else.
 */

import { measure, readWorkload } from '../../src/cli/bench/measure.ts';
import { AF_INET } from '../../src/kernel/abi.ts';
import { allocateDetached } from '../../src/kernel/libc.ts';
import type { DatagramLike } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { endpoint } from '../../src/message/sockaddr.ts';
import { Batch } from '../../src/queue/batch.ts';
import { DatagramQueue, type Packing } from '../../src/queue/queue.ts';
import type { EncodedShape } from '../encode.ts';

const DATAGRAMS = 500_000;
const BATCH = 64;
const ROUNDS = 21;
const SLICE = 10_000;

type Run = (count: number) => void;

function shapes(): Record<EncodedShape, Run> {
  const payload = new Uint8Array(64).fill(120);
  const text = 'x'.repeat(64);
  const to = endpoint('127.0.0.1', 9);
  const line = (n: number): DatagramLike => ({ payload: `app.requests.${100_000 + (n % 900_000)}:1|c|#env:prod`, to });
  const copy = new Uint8Array(BATCH * 64);
  return {
    'Uint8Array.set of 64 B': (count) => {
      for (let n = 0; n < count; n++) copy.set(payload, (n % BATCH) * 64);
    },
    '64 B, Endpoint': encoder(1, () => ({ payload, to })),
    '64 B, address and port': encoder(1, () => ({ payload, address: '127.0.0.1', port: 9 })),
    '64 B, Endpoint, GSO': encoder(64, () => ({ payload, to })),
    '64-character string': encoder(1, () => ({ payload: text, to })),
    '64-character string, GSO': encoder(64, () => ({ payload: text, to })),
    'fresh metric string': encoder(1, line),
    'fresh metric string, GSO': encoder(64, line),
    'fresh metric string, packed': encoder(64, line, { maxBytes: 1432, separator: '\n', oversize: 'alone' }),
  };
}

/** Queues datagrams, plans a batch when there are enough, and lets go of it as if the kernel had taken it. */
function encoder(maxSegments: number, datagramOf: (n: number) => DatagramLike, packing?: Packing): Run {
  const queue = new DatagramQueue({ capacity: 4096, maxBytes: 4 << 20, packing }, allocateDetached);
  const layout = { nameSize: 16, maxSegments, maxSegmentedBytes: 65_507 };
  const batch = new Batch(queue, layout, null, allocateDetached);
  const reader = new DatagramReader(AF_INET, false);
  return (count) => {
    for (let n = 0; n < count; n++) {
      reader.read(datagramOf(n));
      queue.push(reader, n, 0);
      if (queue.datagrams === BATCH) batch.take(batch.plan());
    }
    while (queue.datagrams > 0) batch.take(batch.plan());
  };
}

const [shape, workload] = process.argv.slice(2);
const run = shapes()[shape as EncodedShape];
if (workload === undefined) {
  const nanoseconds = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    run(DATAGRAMS);
    return ((performance.now() - start) * 1e6) / DATAGRAMS;
  });
  process.stdout.write(JSON.stringify(nanoseconds));
} else {
  await measure(readWorkload(), async (isOver) => {
    let encoded = 0;
    for (; !isOver(); encoded += SLICE) run(SLICE);
    return encoded;
  });
}
