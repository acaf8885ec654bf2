import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { childScript, run } from '../support/child.ts';
import { numberedList, numbersOf, range } from '../support/datagrams.ts';
import { freshPath, Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});
function keep<T extends { close(): void }>(resource: T): T {
  open.push(resource);
  return resource;
}

/** Starts a scenario of `children/exit.mjs` and waits until it has done what it does. */
async function start(scenario: string, path: string): Promise<ChildProcess> {
  // Few descriptors, for the scenario that uses them up.
  const command = ['-c', 'ulimit -n 128; exec "$0" "$@"', process.execPath, childScript('exit.mjs'), scenario, path];
  const child = spawn('sh', command, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  keep({ close: () => child.kill('SIGKILL') });
  await once(child.stdout!, 'data');
  return child;
}

describe('nothing keeps the process alive', () => {
  it.for([
    'completed',
    'idle',
    'unsubscribed before a flush',
    'unsubscribed while blocked',
    'unsubscribed while a timer retries',
    'destroyed while blocked',
    'socket closed while blocked',
    'drain timed out',
    'blocked, unref',
    'blocked, unref before',
    'blocked, unref, closed',
    'blocked on a timer, unref',
    'draining, unref',
    'waiting for a flush, unref',
  ])('%s', async (scenario) => {
    const receiver = keep(Receiver.unix());
    // Whatever is left armed lasts ten minutes; a process that has to be killed fails.
    const { code, signal, stderr, stdout } = await run([
      process.execPath,
      childScript('exit.mjs'),
      scenario,
      receiver.path,
    ]);
    expect({ code, signal, stderr, stdout }).toEqual({ code: 0, signal: null, stderr: '', stdout: 'ready\n' });
  });
});

describe('while datagrams are queued the process stays alive, then ends by itself', () => {
  it.for(['blocked', 'blocked, unref and ref', 'blocked on a timer', 'blocked with no descriptor left to poll on'])(
    '%s',
    async (scenario) => {
      const receiver = keep(Receiver.unix());
      const child = await start(scenario, receiver.path);
      await sleep(500);
      expect(child.exitCode).toBe(null);
      const exit = once(child, 'exit');
      expect(numbersOf(await receiver.receive(100))).toEqual(range(100));
      expect(await exit).toEqual([0, null]);
    },
  );

  it('not after unref(), but what the kernel takes in this turn is sent', async () => {
    const receiver = keep(Receiver.unix());
    const child = await start('sent at the end of the turn, unref', receiver.path);
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(numbersOf(receiver.drain())).toEqual([0]);
  });

  it('waiting for flushAfterMs', async () => {
    const receiver = keep(Receiver.unix());
    const child = await start('waiting for a flush', receiver.path);
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(numbersOf(receiver.drain())).toEqual([0]);
  });
});

describe('silence', () => {
  it.for(['unsubscribed while blocked', 'unsubscribed while a timer retries', 'destroyed while blocked'])(
    '%s: not one call more, though the peer has room again',
    async (scenario, context) => {
      requires(context, 'strace');
      const receiver = keep(Receiver.unix());
      const log = freshPath();
      const done = run([
        'strace',
        ...['-f', '-qq', '-o', log, '-e', 'trace=sendmmsg,sendmsg,sendto,write'],
        ...[process.execPath, childScript('exit.mjs'), scenario, receiver.path, '600'],
      ]);
      let isDone = false;
      void done.then(() => {
        isDone = true;
      });
      await expect.poll(() => readLog(log).includes('"ready'), { timeout: 15_000 }).toBe(true);
      const arrived: Buffer[] = [];
      while (!isDone) {
        arrived.push(...receiver.drain());
        await sleep(5);
      }
      expect((await done).code).toBe(0);
      const [before, after] = readLog(log).split('"ready');
      expect(before).toContain('sendmmsg(');
      expect(after).not.toMatch(/send(mmsg|msg|to)\(/);
      expect(numbersOf(arrived)).toEqual(range(arrived.length));
      expect(arrived.length).toBeGreaterThan(0);
      expect(arrived.length).toBeLessThan(100);
    },
  );
});

function readLog(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

describe('a descriptor number that was closed is never used again', () => {
  /** Opens things until one has the number `fd`. */
  function takeNumber(fd: number, make: () => { fd: number; close(): void }): { fd: number; close(): void } {
    for (;;) {
      const made = keep(make());
      if (made.fd === fd) return made;
      if (made.fd > fd + 64) throw new Error(`Number ${fd} is not free`);
    }
  }

  it.for(['by the socket', 'after destroy', 'after close has timed out'])(
    'closed %s, the peer readable again',
    async (how) => {
      const receiver = keep(Receiver.unix());
      const bystander = keep(Receiver.unix());
      const socket = receiver.connected();
      const { fd } = DatagramSocket.nativeOf(socket);
      const errors: unknown[] = [];
      const sender = new BatchSender(socket, { drainTimeoutMs: 1 }, { error: (error) => errors.push(error) });
      for (const text of numberedList(200)) sender.send(text);
      if (how === 'after destroy') sender.destroy();
      if (how === 'after close has timed out') await sender.close();
      socket.close();
      const { syscalls } = sender.stats;
      // Another socket, connected elsewhere, now has the number: what is written to it would arrive there.
      takeNumber(fd, () => {
        const other = bystander.connected();
        return { fd: DatagramSocket.nativeOf(other).fd, close: () => other.close() };
      });
      const before = receiver.drain().length;
      expect(() => sender.send('x')).toThrow();
      sender.flush();
      expect(() => socket.sendmmsg(['x'])).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' }));
      expect(() => socket.address()).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' }));
      socket.close();
      await sleep(50);
      expect(bystander.drain()).toEqual([]);
      expect(receiver.drain()).toEqual([]);
      expect(before).toBeGreaterThan(0);
      expect(sender.stats).toMatchObject({ syscalls, queued: 0 });
      expect(errors).toHaveLength(how === 'by the socket' ? 1 : 0);
    },
  );

  it('closing twice does not close a file that has the number now', () => {
    const socket = DatagramSocket.open();
    const { fd } = DatagramSocket.nativeOf(socket);
    socket.close();
    const file = takeNumber(fd, () => {
      const opened = openSync('/dev/null', 'r');
      return { fd: opened, close: () => closeSync(opened) };
    });
    socket.close();
    socket[Symbol.dispose]();
    expect(() => readFileSync(file.fd)).not.toThrow();
  });
});
