import { readFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { childScript, run } from '../support/child.ts';
import { freshPath, Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const COUNT = 100_000;
let receiver: Receiver;
afterEach(() => receiver?.close());

/** Calls by name, from the table of `strace -c`. */
function callsOf(table: string): Map<string, number> {
  const rows = table.split('\n').flatMap((line) => {
    const match = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/.exec(line);
    return match === null || match[2] === 'total' ? [] : [[match[2]!, Number(match[1])] as const];
  });
  return new Map(rows);
}

it.for(['at once', 'in turns'])(
  '100 000 datagrams at batchSize 64, %s, are 100 000 / 64 calls and no other call each',
  async (how, context) => {
    requires(context, 'strace');
    receiver = Receiver.udp();
    const log = freshPath();
    const script = [process.execPath, childScript('flood.mjs'), how, String(receiver.port), String(COUNT)];
    const { code, stdout, stderr } = await run(['strace', '-c', '-f', '-o', log, ...script], { timeoutMs: 28_000 });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const calls = callsOf(readFileSync(log, 'utf8'));
    const { sendmmsg = 0, ...others } = Object.fromEntries(calls);
    expect(JSON.parse(stdout)).toMatchObject({ sent: COUNT, dropped: 0, rejected: 0 });
    expect(sendmmsg).toBeGreaterThanOrEqual(Math.floor(COUNT / 64));
    expect(sendmmsg).toBeLessThanOrEqual((COUNT / 64) * 1.05);
    // Some are one a turn of the event loop, which is one a batch; a call for each datagram would be 100 000.
    for (const [name, count] of Object.entries(others)) expect([name, count < COUNT / 10]).toEqual([name, true]);
  },
);
