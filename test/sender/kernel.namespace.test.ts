/** What loopback as it is does not do: send buffers that fill, shortages, zones. In network namespaces made for it. */
import { describe, expect, it } from 'vitest';
import { inNamespace, send } from '../support/child.ts';
import { expectConservation, numbersOf, range } from '../support/datagrams.ts';
import { MODES } from '../support/modes.ts';
import { requires } from '../support/requires.ts';

/** Nobody listens there. */
const DEAD = { sendBufferSize: 4096, connect: { address: '127.0.0.1', port: 9 } } as const;
const LOCAL = { type: 'udp4', address: '127.0.0.1' } as const;

describe.each(MODES)('in a network namespace, $name', ({ options }) => {
  it('UDP held back by a tbf qdisc and a small SO_SNDBUF: partial sends, all delivered once, in order', async (context) => {
    requires(context, 'root', 'ip', 'tc', 'netns');
    const { stats, rejected, received, turns } = await send(
      { open: { sendBufferSize: 4096 }, options, count: 1000, size: 200, receive: LOCAL },
      inNamespace('tc qdisc add dev lo root tbf rate 4mbit burst 1600 latency 10s'),
    );
    expect(numbersOf(received)).toEqual(range(1000));
    expect(rejected).toEqual([]);
    expect(stats.wouldBlocks).toBeGreaterThan(5);
    expect(stats.syscalls).toBeLessThan(2000);
    expect(turns).toBeGreaterThan(20);
    expectConservation(stats);
  });

  it('late errors and full buffers in turn, as from a dead port behind a tbf qdisc: no datagram is rejected', async (context) => {
    requires(context, 'root', 'ip', 'tc', 'netns');
    const { stats, rejected } = await send(
      // As one segmented message, they would all fit into the buffer.
      { open: DEAD, options: { ...options, gso: 'off' }, count: 60, size: 200 },
      inNamespace('tc qdisc add dev lo root tbf rate 400kbit burst 1600 latency 10s'),
    );
    expect(rejected).toEqual([]);
    expect(stats).toMatchObject({ sent: 60, dropped: 0 });
    expect(stats.pendingErrors).toBeGreaterThan(5);
    expect(stats.wouldBlocks).toBeGreaterThan(5);
  });

  it('a datagram that the kernel never has memory for is rejected in the end; those behind it are sent', async (context) => {
    requires(context, 'root', 'ip', 'netns');
    const { stats, rejected, received, turns } = await send(
      { open: { sendBufferSize: 1 }, options, count: 30, odd: [[5, 8000]], receive: LOCAL },
      inNamespace('ip link set lo mtu 1500'),
    );
    expect(rejected).toEqual([[5, 'ENOBUFS']]);
    expect(numbersOf(received)).toEqual(range(30, [5]));
    expect(stats.backoffs).toBeGreaterThan(3);
    expect(stats.syscalls).toBeLessThan(100);
    expect(turns).toBeGreaterThan(50);
  });

  it('IPv6 with a zone', async (context) => {
    requires(context, 'root', 'ip', 'netns');
    const { stats, rejected, received } = await send(
      {
        open: { type: 'udp6' },
        options,
        count: 200,
        to: { address: 'fe80::1%lo' },
        odd: [[7, 12, 'fe80::1%nosuch0']],
        receive: { type: 'udp6', address: '::' },
      },
      inNamespace('ip addr add fe80::1/64 dev lo nodad'),
    );
    expect(rejected).toEqual([[7, 'ERR_INVALID_IP_ADDRESS']]);
    expect(numbersOf(received)).toEqual(range(200, [7]));
    expect(stats.sent).toBe(199);
  });

  it('a network that goes down costs the datagrams of that time, not the stream', async (context) => {
    requires(context, 'root', 'ip', 'netns');
    const { stats, rejected, received } = await send(
      { options, count: 100, odd: [[50, 12, '192.0.2.1']], receive: LOCAL },
      inNamespace(''),
    );
    expect(rejected).toEqual([[50, 'ENETUNREACH']]);
    expect(numbersOf(received)).toEqual(range(100, [50]));
    expectConservation(stats);
  });
});

/** A firewall that looks at what goes to the receiver, and at nothing else: by its length, 40 bytes and two headers. */
function firewall(rule: string): readonly string[] {
  const commands = [
    'add table t',
    'add chain t out { type filter hook output priority 0; }',
    `add rule t out ip length 68 udp dport != 0 ${rule}`,
  ];
  return inNamespace(commands.map((command) => `nft '${command}'`).join('\n'));
}

describe('a firewall that drops some datagrams (EPERM)', () => {
  it.for([
    ['every second one', 'numgen inc mod 2 0 drop', 0],
    ['two of three', 'numgen inc mod 3 < 2 drop', 150],
  ] as const)(
    '%s: each has two tries, so as many are rejected whatever batchSize is',
    async ([, rule, rejections], context) => {
      requires(context, 'root', 'netns', 'nft');
      const shares = [1, 4, 64].map(async (batchSize) => {
        const options = { batchSize, gso: 'off' } as const;
        return await send({ options, count: 300, size: 40, receive: LOCAL }, firewall(rule));
      });
      for (const { stats, rejected, received } of await Promise.all(shares)) {
        expect(rejected).toHaveLength(rejections);
        expect(numbersOf(received)).toEqual(
          range(
            300,
            rejected.map(([sequence]) => sequence),
          ),
        );
        expectConservation(stats);
      }
    },
  );
});

describe('a drain that the kernel holds up is given up in time', () => {
  it.for([
    ['sendmmsg(2)', {}, []],
    ['sendmmsg(2), offload', { offload: true }, []],
    ['node:dgram', {}, ['env', 'NODE_OPTIONS=--no-addons']],
  ] as const)('through %s', async ([, options, through], context) => {
    requires(context, 'root', 'ip', 'tc', 'netns');
    const { stats } = await send(
      {
        open: { sendBufferSize: 4096 },
        options: { ...options, gso: 'off', drainTimeoutMs: 20 },
        count: 40,
        size: 1000,
        receive: LOCAL,
      },
      [...inNamespace('tc qdisc add dev lo root tbf rate 100kbit burst 1600 latency 10s'), ...through],
    );
    expect(stats.droppedBy.drainTimeout).toBeGreaterThan(20);
    expectConservation(stats);
  });
});

describe('through node:dgram', () => {
  it('what is never answered, for the kernel never has memory for it, does not outlast the drain: it counts as dropped', async (context) => {
    requires(context, 'root', 'ip', 'netns');
    const options = { drainTimeoutMs: 300 };
    const { stats, received } = await send(
      { open: { sendBufferSize: 1 }, options, count: 30, odd: [[5, 8000]], receive: LOCAL },
      ['env', 'RX_SENDMMSG_BACKEND=dgram', ...inNamespace('ip link set lo mtu 1500')],
    );
    expect(stats).toMatchObject({ backend: 'node:dgram', accepted: 30, sent: 5, dropped: 25, queued: 0 });
    expect(stats.droppedBy).toMatchObject({ drainTimeout: 25 });
    expect(numbersOf(received)).toEqual(range(5));
  });
});
