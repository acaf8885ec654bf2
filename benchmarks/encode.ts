/**
 * The cost of encoding alone: datagrams into the ring and out again, without a system call.
 */

import { AF_INET } from '../src/abi.ts';
import type { DatagramLike } from '../src/datagram.ts';
import { DatagramReader } from '../src/datagram-reader.ts';
import { allocateDetached } from '../src/libc.ts';
import { MmsgRing } from '../src/mmsg-ring.ts';
import { endpoint } from '../src/sockaddr.ts';
import { median } from './statistics.ts';

const DATAGRAMS = 2_000_000;
const BATCH = 64;
const ROUNDS = 7;

/** Nanoseconds a datagram, by the shape that is emitted: the median of a few rounds. */
export function measureEncoding(): Record<string, number> {
  const payload = new Uint8Array(64).fill(120);
  const text = 'x'.repeat(64);
  const to = endpoint('127.0.0.1', 9);
  const shapes: Record<string, (n: number) => DatagramLike> = {
    '64 B, Endpoint': () => ({ payload, to }),
    '64 B, address and port': () => ({ payload, address: '127.0.0.1', port: 9 }),
    '64-character string': () => ({ payload: text, to }),
    'fresh metric string': (n) => ({ payload: `app.requests.${100_000 + (n % 900_000)}:1|c|#env:prod`, to }),
  };
  return Object.fromEntries(Object.entries(shapes).map(([name, datagram]) => [name, measureShape(datagram)]));
}

function measureShape(datagram: (n: number) => DatagramLike): number {
  const layout = { slots: 4096, maxBytes: 4 << 20, nameSize: 16, maxSegments: 1, maxSegmentedBytes: 65_507 };
  const ring = new MmsgRing(layout, allocateDetached);
  const reader = new DatagramReader(AF_INET, false);
  const rounds = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    for (let n = 0; n < DATAGRAMS; n++) {
      reader.read(datagram(n));
      ring.push(reader, n, 0);
      if (ring.datagrams === BATCH) ring.release(BATCH);
    }
    return ((performance.now() - start) * 1e6) / DATAGRAMS;
  });
  return median(rounds);
}
