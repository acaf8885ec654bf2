/** sendmsg(2) in the place of sendmmsg(2): each message is a call of its own, also on the thread pool. */
import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { findSender } from '../../src/kernel/libc.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { withBackend } from '../support/backend.ts';
import { childScript, run, type SendPlan, type SendResult } from '../support/child.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { freshPath, Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const keep = keeper();
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const open = (options: SocketOptions): DatagramSocket =>
  withBackend('sendmsg', () => keep(DatagramSocket.open({ ...options, native: 'required' })));
const toUdp = (receiver: Receiver): DatagramSocket => open({ connect: { address: '127.0.0.1', port: receiver.port } });
const WAYS: readonly [name: string, options: BatchOptions][] = [
  ['inline', {}],
  ['on the thread pool', { offload: true }],
];

describe.each(WAYS)('%s', (_name, options) => {
  it('each datagram is a call, and a batch of its own', async () => {
    const receiver = keep(Receiver.udp());
    const sender = new BatchSender(toUdp(receiver), { ...options, gso: 'off' });
    for (const n of range(100)) sender.send(String(n));
    await sender.close();
    expect((await receiver.receive(100)).map(String)).toEqual(range(100).map(String));
    const { syscalls, batchSizes, shortCounts } = sender.stats;
    expect([syscalls, batchSizes[0], batchSizes.slice(1).some((count) => count > 0), shortCounts]).toEqual([
      100,
      100,
      false,
      0,
    ]);
  });

  it('a segmented message is a call, and a batch of its datagrams', async () => {
    const receiver = keep(Receiver.udp());
    const sender = new BatchSender(toUdp(receiver), { ...options, batchSize: 160, highWaterMark: 320 });
    for (let n = 0; n < 160; n++) sender.send('12345678');
    await sender.close();
    await receiver.receive(160);
    expect(sender.stats.gso).toMatchObject({ state: 'on', messages: 3, segments: 160 });
    expect(sender.stats.syscalls).toBe(3);
    expect(sender.stats.batchSizes.slice(5, 7)).toEqual([1, 2]); // 32, 64 and 64
  });

  it('the call that fails behind others is one, too; reports add up to the same', async () => {
    const receiver = keep(Receiver.unix());
    let told = 0;
    const sender = new BatchSender(
      open({ type: 'unix', connect: { path: receiver.path } }),
      { ...options, batchSize: 64, warn: false },
      {
        next({ syscalls }) {
          told += syscalls;
        },
      },
    );
    for (const n of range(10)) sender.send(n === 5 ? 'x'.repeat(400_000) : String(n));
    const done = sender.close();
    const arrived = await receiver.receive(9, undefined, done);
    await done;
    expect(arrived.map(String)).toEqual(range(10, [5]).map(String));
    // Five, the one that is too large, the same again at the head, and four.
    expect([sender.stats.syscalls, told, sender.stats.shortCounts]).toEqual([11, 11, 0]);
    expectConservation(sender.stats);
  });

  it.for([1, 63, 1025, 3000])(
    '%i datagrams: the calls that are told are those that were made',
    async (count, context) => {
      requires(context, 'strace');
      const log = freshPath();
      const plan: SendPlan = {
        count,
        odd: count > 9 ? [[7, 70_000]] : [],
        options: { ...options, gso: 'off' },
        receive: { type: 'udp4', address: '127.0.0.1' },
      };
      const trace = ['strace', '-f', '-qq', '-o', log, '-e', 'trace=sendmsg,sendmmsg'];
      const script = [process.execPath, childScript('send.mjs'), JSON.stringify(plan)];
      const { stdout, code } = await withBackend('sendmsg', () => run([...trace, ...script]));
      expect(code).toBe(0);
      const { stats, received } = JSON.parse(stdout) as SendResult;
      const calls = readFileSync(log, 'utf8');
      expect(calls.match(/sendmsg\(/g)).toHaveLength(stats.syscalls);
      expect(calls).not.toContain('sendmmsg(');
      expect(received).toHaveLength(stats.sent);
      expect(stats.sent).toBe(count > 9 ? count - 1 : count);
    },
  );
});

describe('on the thread pool', () => {
  const OFFLOAD = { offload: true, gso: 'off', batchSize: 4 } as const;

  it('the main thread makes none of the calls', async (context) => {
    requires(context, 'strace');
    const log = freshPath();
    const plan: SendPlan = { count: 200, options: OFFLOAD, receive: { type: 'udp4', address: '127.0.0.1' } };
    const trace = ['strace', '-f', '-qq', '-o', log, '-e', 'trace=sendmsg,execve'];
    const script = [process.execPath, childScript('send.mjs'), JSON.stringify(plan)];
    await withBackend('sendmsg', () => run([...trace, ...script]));
    const callers = (call: string): Set<string> =>
      new Set([...readFileSync(log, 'utf8').matchAll(new RegExp(`^(\\d+) +${call}\\(`, 'gm'))].map(([, id]) => id!));
    const [main] = callers('execve');
    expect(callers('sendmsg').size).toBeGreaterThan(0);
    expect(callers('sendmsg')).not.toContain(main);
  });

  it('one after another: never two at once', async () => {
    const receiver = keep(Receiver.udp());
    const socket = toUdp(receiver);
    const { libc } = DatagramSocket.nativeOf(socket);
    const flights: number[] = [];
    let inFlight = 0;
    const sendmmsgAsync = libc.sendmmsgAsync.bind(libc);
    vi.spyOn(libc, 'sendmmsgAsync').mockImplementation((fd, arena, at, vlen, flags, done, isWanted) => {
      flights.push(++inFlight);
      const land = (n: number): void => {
        inFlight--;
        done(n);
      };
      sendmmsgAsync(fd, arena, at, vlen, flags, land, isWanted);
    });
    const sender = new BatchSender(socket, OFFLOAD);
    for (const n of range(40)) sender.send(String(n));
    await sender.close();
    vi.restoreAllMocks();
    expect(new Set(flights)).toEqual(new Set([1]));
    expect((await receiver.receive(40)).map(String)).toEqual(range(40).map(String));
  });

  it('what is left of a flight is not sent once the sender is destroyed, and is accounted for', async () => {
    const receiver = keep(Receiver.unix());
    const socket = open({ type: 'unix', connect: { path: receiver.path } });
    const sender = new BatchSender(socket, { ...OFFLOAD, batchSize: 8 }, { next: () => expect.unreachable() });
    for (const n of range(8)) sender.send(String(n));
    sender.destroy();
    for (let turns = 0; sender.stats.queued > 0 && turns < 1e5; turns++) await turn();
    // One was on its way.
    expect([sender.stats.sent, sender.stats.droppedBy.teardown]).toEqual([1, 7]);
    expect(receiver.drain().map(String)).toEqual(['0']);
    expectConservation(sender.stats);
  });

  it('nor once the socket is closed: its number may be another file then', async () => {
    const receiver = keep(Receiver.unix());
    const socket = open({ type: 'unix', connect: { path: receiver.path } });
    const errors: unknown[] = [];
    const sender = new BatchSender(socket, { ...OFFLOAD, batchSize: 8 }, { error: (error) => errors.push(error) });
    for (const n of range(8)) sender.send(String(n));
    socket.close();
    for (let turns = 0; errors.length === 0 && turns < 1e5; turns++) await turn();
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expect(receiver.drain().map(String)).toEqual(['0']);
    expect(sender.stats).toMatchObject({ sent: 1, droppedBy: { failure: 7 }, queued: 0 });
  });

  it('the errno is that of the call, whatever is called meanwhile', async () => {
    const receiver = keep(Receiver.unix());
    const sender = new BatchSender(open({ type: 'unix', connect: { path: receiver.path } }), {
      ...OFFLOAD,
      warn: false,
    });
    sender.send('x'.repeat(400_000));
    const done = sender.close();
    const { libc } = findSender('sendmsg');
    for (let calls = 0; calls < 100; calls++) libc!.close(-1); // EBADF
    await done;
    expect(sender.stats.rejectedBy).toEqual({ EMSGSIZE: 1 });
  });

  it('a worker that is terminated takes nothing down with it', async () => {
    const receiver = keep(Receiver.udp());
    const script = [process.execPath, childScript('worker.mjs'), String(receiver.port)];
    const { stdout, stderr, code, signal } = await withBackend('sendmsg', () => run(script));
    expect({ stdout: stdout.trim(), stderr, code, signal }).toEqual({
      stdout: 'survived',
      stderr: '',
      code: 0,
      signal: null,
    });
  });
});
