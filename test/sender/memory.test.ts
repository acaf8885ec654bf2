import { afterEach, expect, it } from 'vitest';
import { childScript, run } from '../support/child.ts';
import { Receiver } from '../support/receiver.ts';

let receiver: Receiver;
afterEach(() => receiver.close());

/** What a datagram may allocate, bytes of the heap: strings are put together as one, of a list there is a snapshot. */
const KINDS = [
  { kind: 'bytes', gso: 'auto', most: 1 },
  { kind: 'bytes', gso: 'off', most: 1 },
  { kind: 'object', gso: 'auto', most: 1 },
  { kind: 'text', gso: 'off', most: 3 * 64 },
  { kind: 'text', gso: 'auto', most: 3 * 64 },
  { kind: 'wide', gso: 'auto', most: 1 },
  { kind: 'list', gso: 'auto', most: 256 },
];

it.each(KINDS)(
  'a million datagrams ($kind, gso $gso) leave memory as it was, and cause no major collection',
  async ({ kind, gso, most }) => {
    receiver = Receiver.udp();
    const command = [process.execPath, '--expose-gc', childScript('memory.mjs'), String(receiver.port), kind, gso];
    const { code, stdout, stderr } = await run(command, { timeoutMs: 28_000 });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ sent: 1_100_000, majorCollections: 0 });
    expect(result.seen).toBeGreaterThan(0);
    expect(result.allocatedByOne).toBeLessThan(most);
    expect(result.externalGrowth).toBeLessThan(64 * 1024);
    expect(result.arrayBuffersGrowth).toBeLessThan(64 * 1024);
    expect(result.heapGrowth).toBeLessThan(4 << 20);
  },
);
