/** Any errno at any call: strace answers in the kernel's place, to a process that sends to a unix receiver here. */
import { afterEach, describe, expect, it } from 'vitest';
import { send } from '../support/child.ts';
import { expectConservation, numbersOf, range } from '../support/datagrams.ts';
import { MODES } from '../support/modes.ts';
import { Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const COUNT = 500;
let receiver: Receiver;
afterEach(() => receiver.close());

function inject(fault: string): readonly string[] {
  return ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=sendmmsg', '-e', `inject=sendmmsg:${fault}`];
}

describe.each(MODES)('a fault at the third call and every seventh after it, $name', ({ options }) => {
  async function sendThrough(fault: string, connected = true) {
    receiver = Receiver.unix();
    const { path } = receiver;
    const open = { type: 'unix', ...(connected && { connect: { path } }) } as const;
    const plan = { open, options: { batchSize: 16, ...options }, count: COUNT, ...(!connected && { to: { path } }) };
    const done = send(plan, inject(fault));
    const received = numbersOf(await receiver.receive(Number.POSITIVE_INFINITY, 10, done));
    return { ...(await done), received };
  }

  it.for([
    ['ENOBUFS', 'backoffs'],
    ['ENOMEM', 'backoffs'],
    ['EINTR', 'syscalls'],
    ['EAGAIN', 'wouldBlocks'],
    ['ECONNREFUSED', 'pendingErrors'],
  ] as const)(
    '%s: waits or tries again; nothing is lost, nothing twice, in order',
    async ([errno, counter], context) => {
      requires(context, 'strace');
      const { received, rejected, stats } = await sendThrough(`error=${errno}:when=3+7`);
      expect(received).toEqual(range(COUNT));
      expect(rejected).toEqual([]);
      expect(stats[counter]).toBeGreaterThan(0);
      expect(stats.sent).toBe(COUNT);
      expectConservation(stats);
    },
  );

  it.for(['EMSGSIZE', 'EINVAL'])(
    '%s: the datagram at the head is rejected, all others arrive',
    async (errno, context) => {
      requires(context, 'strace');
      const { received, rejected, stats } = await sendThrough(`error=${errno}:when=3+7`);
      const refused = rejected.map(([sequence]) => sequence);
      expect(new Set(rejected.map(([, code]) => code))).toEqual(new Set([errno]));
      expect(refused.length).toBeGreaterThan(0);
      expect(received).toEqual(range(COUNT, refused));
      expectConservation(stats);
    },
  );

  // In two calls in a row: alone it may be tried again or not, by whether the call before stopped there.
  it('EPERM in two calls: one datagram is rejected, all others arrive', async (context) => {
    requires(context, 'strace');
    const { received, rejected, stats } = await sendThrough('error=EPERM:when=3..4');
    expect(rejected).toEqual([[expect.any(Number), 'EPERM']]);
    expect(received).toEqual(
      range(
        COUNT,
        rejected.map(([sequence]) => sequence),
      ),
    );
    expectConservation(stats);
  });

  it('EAGAIN for ever on a socket that poll(2) calls writable: no spin, and the end comes by drainTimeoutMs', async (context) => {
    requires(context, 'strace');
    receiver = Receiver.unix();
    const { path } = receiver;
    const { stats, turns } = await send(
      {
        open: { type: 'unix', connect: { path } },
        options: { ...options, batchSize: 5, drainTimeoutMs: 500 },
        count: 10,
      },
      inject('error=EAGAIN:when=2+'),
    );
    // Each thread's first call is let through: the main thread's is the probe, that of the pool takes one batch.
    const sent = options.offload === true ? 5 : 0;
    expect(stats).toMatchObject({ sent, queued: 0, droppedBy: { drainTimeout: 10 - sent } });
    expect(stats.syscalls).toBeLessThan(60);
    expect(turns).toBeGreaterThan(20);
  });

  it('0 taken: waits, as for EAGAIN', async (context) => {
    requires(context, 'strace');
    const { received, rejected } = await sendThrough('retval=0:when=3+7');
    expect(received).toEqual(range(COUNT));
    expect(rejected).toEqual([]);
  });

  it.for(['EBADF', 'ENOTSOCK', 'EPIPE'])(
    '%s ends the stream with an error; what was not sent is accounted for',
    async (errno, context) => {
      requires(context, 'strace');
      const { received, stats, error } = await sendThrough(`error=${errno}:when=3+7`);
      expect(error).toBe(errno);
      expect(received).toEqual(range(stats.sent));
      expect(stats.droppedBy.failure).toBeGreaterThan(0);
      expect(stats.queued).toBe(0);
      expectConservation(stats);
    },
  );
});
