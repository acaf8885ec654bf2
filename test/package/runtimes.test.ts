/** On each runtime: what is sent arrives once, in order, with its boundaries, by every door, blocked or not, and the process ends. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { childScript, run } from '../support/child.ts';
import { expectConservation, numbered, range } from '../support/datagrams.ts';
import { DOORS } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { MODES } from '../support/modes.ts';
import { freshPath, Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';
import { type Runtime, runtimes } from '../support/runtimes.ts';

const keep = keeper();

/** Runs of one size, that GSO may join; the sizes change within a batch. */
const SIZES = [...Array<number>(20).fill(40), 12, ...Array<number>(9).fill(90)];
/** Fits the receive buffer that anybody may have, of the default `net.core.rmem_max`. */
const COUNT = 480;

/** The operator in each way of sending; the other doors lead to the same sender. */
const WAYS = [
  ...MODES.map(({ name, options }) => ({ name: `rxjs, ${name}`, door: 'rxjs', options })),
  ...DOORS.slice(1).map(({ name }, at) => ({ name, door: name, options: MODES[at + 1]!.options })),
];

describe.each(runtimes('Bun', 'Deno'))('on $name', ({ find }) => {
  it.for(WAYS)('over UDP: $name', async ({ door, options }, context) => {
    const receiver = keep(Receiver.udp());
    const connect = { address: '127.0.0.1', port: receiver.port };
    const { gso } = await exchange(find(context), door, connect, options, receiver);
    expect(gso.messages > 0).toBe(options.gso === 'auto');
    expect(gso.segments).toBeGreaterThanOrEqual(2 * gso.messages);
  });

  it.for(WAYS.filter(({ options }) => options.gso === 'auto' || options.offload === true))(
    'to a slow reader of a unix socket: $name',
    async ({ door, options }, context) => {
      const receiver = keep(Receiver.unix());
      const stats = await exchange(find(context), door, { path: receiver.path }, options, receiver, { perTurn: 3 });
      expect(stats.wouldBlocks).toBeGreaterThan(0);
      expect(stats.blockedMs).toBeGreaterThan(0);
    },
  );

  it('64 datagrams are one system call', async (context) => {
    requires(context, 'strace');
    const { command } = find(context);
    const trace = freshPath();
    const strace = ['strace', '-f', '-e', 'trace=sendmmsg,sendmsg,sendto', '-o', trace];
    const receiver = keep(Receiver.udp());
    const connect = { address: '127.0.0.1', port: receiver.port };
    await exchange({ command: [...strace, ...command] }, 'rxjs', connect, { gso: 'off' }, receiver, { count: 64 });
    const calls = readFileSync(trace, 'utf8').match(/\bsend.*= [1-9].*/g);
    expect(calls).toEqual([expect.stringMatching(/^sendmmsg\(.*, 64, MSG_DONTWAIT\|MSG_NOSIGNAL\) = 64$/)]);
  });
});

/** Sends from a child process, reads (`perTurn` datagrams in a turn, once it is held back), and holds against each other what arrived and what was told. */
async function exchange(
  { command }: Pick<Runtime, 'command'>,
  door: string,
  connect: NonNullable<SocketOptions['connect']>,
  options: Partial<BatchOptions>,
  receiver: Receiver,
  { count = COUNT, perTurn }: { count?: number; perTurn?: number } = {},
): Promise<SenderStats> {
  const blocked = perTurn === undefined ? undefined : freshPath();
  const plan = JSON.stringify({ door, connect, options, count, sizes: SIZES, blocked });
  const ended = run([...command, childScript('doors.mjs'), plan]);
  if (blocked !== undefined) await Promise.race([ended, vi.waitUntil(() => existsSync(blocked), { timeout: 20_000 })]);
  const received = await receiver.receive(count, perTurn, ended);
  const { code, signal, stdout, stderr } = await ended;
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  expect(received.map(String)).toEqual(range(count).map((index) => numbered(index, SIZES[index % SIZES.length])));
  expect(receiver.drain()).toEqual([]);
  const stats = JSON.parse(stdout) as SenderStats;
  expect(stats).toMatchObject({ backend: 'sendmmsg', accepted: count, sent: count, queued: 0 });
  expectConservation(stats);
  return stats;
}
