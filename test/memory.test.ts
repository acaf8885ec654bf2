import { afterEach, expect, it } from 'vitest';
import { childScript, run } from './support/child.ts';
import { Receiver } from './support/receiver.ts';

let receiver: Receiver;
afterEach(() => receiver.close());

it('a million datagrams out of one buffer leave memory as it was, and cause no major collection', async () => {
  receiver = Receiver.udp();
  const { code, stdout, stderr } = await run(
    [process.execPath, '--expose-gc', childScript('memory.mjs'), String(receiver.port)],
    { timeoutMs: 28_000 },
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ sent: 1_100_000, majorCollections: 0 });
  expect(result.seen).toBeGreaterThan(0);
  expect(result.externalGrowth).toBeLessThan(64 * 1024);
  expect(result.arrayBuffersGrowth).toBeLessThan(64 * 1024);
  expect(result.heapGrowth).toBeLessThan(4 << 20);
});
