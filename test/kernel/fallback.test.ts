/** Invariant 9: where sendmmsg(2) is not to be had, the same API sends through node:dgram or sendmsg(2), and says so. */
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, type TestContext } from 'vitest';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import { childScript, run, type SendPlan, type SendResult } from '../support/child.ts';
import { expectConservation, numbered, numbersOf, range } from '../support/datagrams.ts';
import { installed, pack, projectWith } from '../support/packed.ts';
import { Receiver } from '../support/receiver.ts';
import { filtered } from '../support/seccomp.ts';

let folder = '';

/** A project that has the package and rxjs, but no koffi. */
beforeAll(async () => {
  folder = projectWith(await pack(), { rxjs: installed('rxjs') });
  for (const name of ['send.mjs', 'fallback.mjs']) copyFileSync(childScript(name), join(folder, name));
});

/** What a process tells that warns of its fallback once, and says nothing else. */
async function json<T>(backend: string, reason: string, command: readonly string[]): Promise<T> {
  const { code, signal, stdout, stderr } = await run(command);
  expect({ code, signal, stderr }).toMatchObject({ code: 0, signal: null });
  const [head = '', ...rest] = stderr.split('\n');
  const what = `[RX_SENDMMSG_FALLBACK] RxSendmmsgWarning: Datagrams are sent through ${backend}, not sendmmsg(2): ${reason}`;
  expect(head.replace(/^\(node:\d+\) /, '').slice(0, what.length)).toBe(what);
  expect(rest.slice(-3)).toEqual([
    expect.stringContaining('RX_SENDMMSG_BACKEND='),
    expect.stringMatching(/^\(Use `/),
    '',
  ]);
  expect(stderr.match(/Warning: /g)).toHaveLength(1);
  return JSON.parse(stdout) as T;
}

interface Fallback {
  readonly backend: 'node:dgram' | 'sendmsg';
  /** Runs a child script in a process that lacks what it has to lack. */
  script<T>(context: TestContext, name: string, argument: string): Promise<T>;
}

const withoutKoffi: Fallback = {
  backend: 'node:dgram',
  script: (_context, name, argument) =>
    json('node:dgram', 'koffi was not found from ', [process.execPath, join(folder, name), argument]),
};
const withoutSendmmsg: Fallback = {
  backend: 'sendmsg',
  script(context, name, argument) {
    const command = [...filtered(context, 'ENOSYS'), process.execPath, childScript(name), argument];
    return json('sendmsg', 'sendmmsg(2) is answered with ENOSYS', command);
  },
};

const LOCAL = { type: 'udp4', address: '127.0.0.1' } as const;

describe.each([withoutKoffi, withoutSendmmsg])('through $backend', ({ backend, script }) => {
  const sendPlan = (context: TestContext, plan: SendPlan): Promise<SendResult> =>
    script(context, 'send.mjs', JSON.stringify(plan));

  it.for([1, 64, 1025, 3000])('%i datagrams arrive once each, in order', async (count, context) => {
    const { stats, received, rejected } = await sendPlan(context, { count, receive: LOCAL });
    expect(stats).toMatchObject({
      backend,
      accepted: count,
      sent: count,
      bytes: 12 * count,
      syscalls: count > 1 ? expect.any(Number) : 1,
    });
    expect(rejected).toEqual([]);
    expect(numbersOf(received)).toEqual(range(count));
    expectConservation(stats);
  });

  it('a drain that goes on is not given up, though no report tells of it', async (context) => {
    const { stats } = await script<{ stats: SenderStats }>(context, 'fallback.mjs', 'drain');
    expect(stats).toMatchObject({ sent: 50_000, dropped: 0 });
  });

  it('bad datagrams first, in the middle, in a row and last are one rejection each, and all others arrive', async (context) => {
    const kinds = [
      ['EMSGSIZE', 70_000, '127.0.0.1'],
      ['EACCES', 12, '255.255.255.255'],
      ['ERR_INVALID_IP_ADDRESS', 12, 'localhost'],
    ] as const;
    const bad = [0, 1, 2, 20, 50, 51, 52, 63, 64, 65, 70, 97, 98, 99];
    const kindOf = (index: number) => kinds[index % 3]!;
    const odd = bad.map((index) => [index, kindOf(index)[1], kindOf(index)[2]] as const);
    const { stats, received, rejected } = await sendPlan(context, { count: 100, odd, receive: LOCAL });
    expect(rejected.toSorted(([a], [b]) => a - b)).toEqual(bad.map((index) => [index, kindOf(index)[0]]));
    expect(numbersOf(received)).toEqual(range(100, bad));
    expect(stats.rejected).toBe(bad.length);
    expectConservation(stats);
  });

  it('call flags are passed on, or refused at once', async (context) => {
    const options = { dontRoute: true, confirm: true };
    const { stats, error } = await sendPlan(context, { count: 3, options, receive: LOCAL });
    const refused = backend === 'node:dgram';
    expect(error).toBe(refused ? 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' : undefined);
    expect(stats?.sent).toBe(refused ? undefined : 3);
  });

  it('empty datagrams arrive', async (context) => {
    const odd = [3, 4, 9].map((index) => [index, 0] as const);
    const { received, stats } = await sendPlan(context, { count: 10, size: 3, odd, receive: LOCAL });
    expect(received).toEqual(range(10).map((index) => (odd.some(([at]) => at === index) ? '' : numbered(index, 3))));
    expect(stats.bytes).toBe(21);
  });

  it('dscp, ecn and from are carried, or one rejection each', async (context) => {
    const marks = [{ dscp: 46 }, { ecn: 1 }, { from: '127.0.0.2' }];
    const odd = [3, 4, 9].map((index, at) => [index, 12, null, marks[at]!] as const);
    const { received, rejected, sources, stats } = await sendPlan(context, { count: 20, odd, receive: LOCAL });
    const isCarried = backend === 'sendmsg';
    const refused = isCarried ? [] : [3, 4, 9];
    expect(rejected).toEqual(refused.map((index) => [index, 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM']));
    expect(numbersOf(received)).toEqual(range(20, refused));
    expect(sources).toEqual(isCarried ? ['127.0.0.1', '127.0.0.2'] : ['127.0.0.1']);
    expectConservation(stats);
  });

  it('a dead peer: the late errors are counted, the datagrams are sent', async (context) => {
    const gone = Receiver.udp();
    const connect = { address: '127.0.0.1', port: gone.port };
    gone.close();
    const { stats, error } = await sendPlan(context, { open: { connect }, count: 200 });
    expect(error).toBe(undefined);
    expect(stats).toMatchObject({ backend, sent: 200, rejected: 0 });
    expect(stats.pendingErrors).toBeGreaterThan(0);
    expect(stats.syscalls).toBeLessThan(500);
  });

  it('a source that is never caught up with is told of its datagrams meanwhile', async (context) => {
    const { reportsBefore, reported, stats, received } = await script<{
      reportsBefore: number;
      reported: number;
      stats: SendResult['stats'];
      received: number[];
    }>(context, 'fallback.mjs', 'flood');
    expect(received).toEqual(range(stats.accepted));
    expect(reported).toBe(stats.accepted);
    expect(reportsBefore).toBeGreaterThan(10);
    expectConservation(stats);
  });

  it('backpressure bounds the queue and loses nothing', async (context) => {
    const result = await script<{ most: number; stats: SendResult['stats']; received: number[] }>(
      context,
      'fallback.mjs',
      'backpressure',
    );
    expect(result.received).toEqual(range(1000));
    expect(result.most).toBeLessThanOrEqual(50);
    expect(result.stats).toMatchObject({ backend, sent: 1000, dropped: 0 });
  });

  it('a socket closed under a queue is one EBADF, everything accounted for', async (context) => {
    const { errors, stats, received } = await script<{
      errors: string[];
      stats: SendResult['stats'];
      received: number[];
    }>(context, 'fallback.mjs', 'closed');
    expect(errors).toEqual(['EBADF']);
    expect(received).toEqual(range(stats.sent));
    expect(stats.queued).toBe(0);
    expectConservation(stats);
  });

  it('destroy is silent, and counts what was queued', async (context) => {
    const { told, stats, received } = await script<{ told: string[]; stats: SendResult['stats']; received: number[] }>(
      context,
      'fallback.mjs',
      'destroyed',
    );
    expect(told.filter((what) => what === 'complete')).toEqual([]);
    expect(received).toEqual(range(stats.sent));
    expect(stats.queued).toBe(0);
    expectConservation(stats);
  });
});

describe('without koffi', () => {
  it('what only native calls can do is refused with ERR_FEATURE_UNAVAILABLE_ON_PLATFORM; the rest answers alike', async (context) => {
    const { codes, address, peer } = await withoutKoffi.script<{
      codes: Record<string, string>;
      address: object;
      peer: object;
    }>(context, 'fallback.mjs', 'refusals');
    const unavailable = 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM';
    expect(codes).toEqual({
      unix: unavailable,
      fromFd: unavailable,
      sendmmsg: unavailable,
      bindToDevice: unavailable,
      zone: 'ENODEV',
      inUse: 'EADDRINUSE',
      unreachable: 'ERR_SOCKET_DGRAM_NOT_CONNECTED',
    });
    expect(peer).toMatchObject({ address: '127.0.0.1', family: 'IPv4', ttl: 9, isReceiver: true });
    expect(address).toMatchObject({ address: '127.0.0.1', family: 'IPv4', port: expect.any(Number) });
  });
});

describe('without sendmmsg(2)', () => {
  it('unix sockets with a slow reader: all arrive once, in order', async (context) => {
    const receiver = Receiver.unix();
    const plan: SendPlan = {
      open: { type: 'unix', connect: { path: receiver.path } },
      count: 500,
      odd: [[77, 400_000]],
    };
    const done = withoutSendmmsg.script<SendResult>(context, 'send.mjs', JSON.stringify(plan));
    const received = await receiver.receive(Number.POSITIVE_INFINITY, 5, done);
    receiver.close();
    expect(numbersOf(received)).toEqual(range(500, [77]));
    const { stats, rejected } = await done;
    expect(rejected).toEqual([[77, 'EMSGSIZE']]);
    expect(stats.backend).toBe('sendmsg');
    expectConservation(stats);
  });
});
