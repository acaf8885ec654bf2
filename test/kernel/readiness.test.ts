/** Waiting for a descriptor, by what each runtime can bear: main threads, workers, Bun, Deno. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { keeper } from '../support/keep.ts';
import { blocked } from '../support/receiver.ts';
import { runtimes } from '../support/runtimes.ts';

const keep = keeper();
const run = promisify(execFile);
const child = (name: string): string => fileURLToPath(new URL(`../children/${name}.mjs`, import.meta.url));

/** Far from what a resumption takes (a few ms, more on a busy machine), and from the next timer that would bring it (2 s). */
const SOON_MS = 500;

describe.each(runtimes('Node.js 22', 'Node.js 24', 'Node.js 26', 'Bun', 'Deno'))('on $name', ({ find }) => {
  it.for([
    ['the main thread', 0],
    ['a worker', 1],
    ['16 workers at once', 16],
  ] as const)('a sender in %s resumes as soon as there is room, in its async context', async ([, workers], context) => {
    const [command, ...options] = find(context).command;
    const { stdout } = await run(command!, [...options, child('waiting'), String(workers)]);
    const { median, contexts } = JSON.parse(stdout) as { median: number; contexts: readonly unknown[] };
    expect(contexts).toEqual(['mine']);
    expect(median).toBeLessThan(SOON_MS);
  });
});

describe.each(runtimes('Node.js 26'))(
  'worker threads that end in every way at random moments, on $name',
  ({ find }) => {
    it('leave the process alive, and no descriptor behind', { timeout: 300_000 }, async (context) => {
      const [command, ...options] = find(context).command;
      const count = process.env['RX_SENDMMSG_WORKERS'] ?? '100';
      const { stdout } = await run(command!, [...options, child('threads'), count, '1', '4']);
      const { workers, leaked, kinds } = JSON.parse(stdout) as Record<string, number>;
      expect(workers).toBe(Number(count));
      expect(leaked).toBe(0);
      expect(kinds).toBeGreaterThan(20);
    });
  },
);

describe('a descriptor that came from elsewhere', () => {
  it('is as blocking as it was, while its sender waits and after', async () => {
    const { receiver, socket } = blocked(keep);
    const { fd, libc } = DatagramSocket.nativeOf(socket);
    const [F_GETFL, F_SETFL, O_NONBLOCK] = [3, 4, 0o4000];
    libc.fcntl(fd, F_SETFL, libc.fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK);
    const taken = keep(DatagramSocket.fromFd(fd));
    const sender = new BatchSender(taken);
    for (let n = 0; n < 100; n++) sender.send(`${n}`);
    sender.flush();
    expect(sender.stats.wouldBlocks).toBeGreaterThan(0);
    expect(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK).toBe(0);
    const closed = sender.close();
    await receiver.receive(100, 10, closed);
    await closed;
    expect(libc.fcntl(fd, F_GETFL, 0) & O_NONBLOCK).toBe(0);
  });
});

describe('process.exit()', () => {
  it.for(runtimes('Node.js 22', 'Node.js 24', 'Node.js 26'))(
    'ends a process whose main thread and workers wait, without a signal: $name',
    async ({ find }, context) => {
      const [command, ...options] = find(context).command;
      const exiting = execFile(command!, [...options, child('exit-while-waiting')]);
      expect(await once(exiting, 'exit')).toEqual([7, null]);
    },
  );
});
