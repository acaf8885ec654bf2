/**
 * The named workloads, and who takes part in each.
 */

import { chainPeer, dgramPeer, type Entry, joinedPeer, operatorPeer } from '../src/cli/bench/peers.ts';
import { lengthsOf } from '../src/cli/bench/workload.ts';
import {
  batchSenderPeer,
  bunPeer,
  hotShotsPeer,
  latencyPeer,
  memoryPeer,
  nativePeer,
  udxPeer,
  unixDgramPeer,
} from './peers.ts';

const ours = operatorPeer();
const oursLargeBatches = operatorPeer('batchSize 1024', { batchSize: 1024 });
const oursPlain = operatorPeer('gso off', { gso: 'off' });
/** Datagrams that are there already, without a chain before the sender. */
const prepared = batchSenderPeer('BatchSender', { batchSize: 1024 });
/** Lines share datagrams, as those of hot-shots with its buffer on do: a figure is of lines. */
const oursPacked = operatorPeer('packed', { pack: { maxBytes: 1432 } });
/** A flush on the thread pool is worth its way there when it is large. */
const offload = { offload: true, batchSize: 256 } as const;
const dgram = [dgramPeer('unconnected'), dgramPeer('connected')];
const bun = [bunPeer('unconnected'), bunPeer('connected')];
const ceilings = [nativePeer('plain'), nativePeer('gso'), nativePeer('gso-copy')];
const bothReceivers = ['count', 'drop'] as const;

const flood = (bytes: number): Entry => ({
  kind: 'throughput',
  receivers: bothReceivers,
  shape: { name: `flood-${bytes}`, bytes, destinations: 1 },
  peers: [ours, oursLargeBatches, prepared, oursPlain, ...dgram, udxPeer(), ...bun, ...ceilings, chainPeer()],
});

const lines = (lengths: 'equal' | 'mixed'): Entry => {
  const all = lengthsOf({ bytes: 0, lines: lengths });
  const bytes = Math.round(all.reduce((sum, length) => sum + length, 0) / all.length);
  return {
    kind: 'throughput',
    receivers: bothReceivers,
    shape: { name: `lines-${lengths}`, bytes, destinations: 1, lines: lengths },
    peers: [
      ours,
      oursLargeBatches,
      oursPlain,
      oursPacked,
      ...dgram,
      hotShotsPeer('unbuffered'),
      hotShotsPeer('buffered'),
      udxPeer(),
      ...bun,
      // A segmented message has datagrams of one length.
      ...(lengths === 'equal' ? [...ceilings, chainPeer()] : [nativePeer('plain')]),
    ],
  };
};

/** Payloads of 64 KB, cut by `segmentSize`: 50 of 1200 bytes, or 1000 of 64, and a shorter one. */
const segments = (bytes: number): Entry => ({
  kind: 'throughput',
  receivers: bothReceivers,
  shape: { name: `segments-${bytes}`, bytes, destinations: 1, chunkBytes: 64_000 },
  peers: [
    { ...operatorPeer('segmentSize', { batchSize: 1024 }), feature: 'segmentSize' },
    nativePeer('gso'),
    nativePeer('gso-copy'),
  ],
});

/** So many payloads to each of 1000 destinations in a tick, the first to all, then the second to all. */
const broadcastTicks = (payloadsPerTick: number): Entry => ({
  kind: 'throughput',
  receivers: ['drop'],
  shape: { name: `broadcast-${payloadsPerTick}`, bytes: 1200, destinations: 1000, payloadsPerTick },
  peers: [
    batchSenderPeer('broadcast()', {}, true),
    { ...batchSenderPeer("order: 'destination'", { order: 'destination' }, true), feature: 'order' },
    nativePeer('plain'),
    nativePeer('gather', 1000),
  ],
});

/** How full a batch is, and with it the queue: a call takes 1024 at most. */
const batchSizes: Entry = {
  kind: 'throughput',
  receivers: ['drop'],
  shape: { name: 'batch-sizes', bytes: 64, destinations: 1 },
  peers: [
    ...[1, 8, 64, 1024, 8192, 65_536].map((batchSize) =>
      batchSenderPeer(`batchSize ${batchSize}`, { batchSize, highWaterMark: Math.max(batchSize, 64), gso: 'off' }),
    ),
    ...[1, 8, 64, 1024].map((vlen) => nativePeer('plain', vlen)),
  ],
};

/** To so many destinations in turn. */
const destinations = (count: number): Entry => ({
  kind: 'throughput',
  receivers: ['drop'],
  shape: { name: `destinations-${count}`, bytes: 64, destinations: count },
  peers: [batchSenderPeer('gso off', { gso: 'off' }), nativePeer('plain')],
});

/** Every workload that is sent; `encode` sends nothing, and is not among them. */
export const ROSTER: readonly Entry[] = [
  flood(64),
  flood(1200),
  lines('equal'),
  lines('mixed'),
  {
    kind: 'throughput',
    receivers: bothReceivers,
    shape: { name: 'broadcast', bytes: 200, destinations: 1000 },
    peers: [
      ours,
      batchSenderPeer('one by one'),
      batchSenderPeer('broadcast()', {}, true),
      batchSenderPeer('broadcast(), offload', offload, true),
      batchSenderPeer('broadcast(), offload, 2 lanes', { ...offload, lanes: 2 }, true),
      batchSenderPeer('broadcast(), offload, 4 lanes', { ...offload, lanes: 4 }, true),
      dgramPeer('unconnected'),
      udxPeer(),
      bunPeer('unconnected'),
      nativePeer('plain'),
    ],
  },
  {
    kind: 'throughput',
    receivers: ['drop'],
    shape: { name: 'broadcast-1000', bytes: 1000, destinations: 1000 },
    peers: [batchSenderPeer('one by one'), batchSenderPeer('broadcast()', {}, true), nativePeer('plain')],
  },
  broadcastTicks(4),
  broadcastTicks(8),
  batchSizes,
  ...[1, 64, 1000, 10_000, 100_000].map(destinations),
  segments(64),
  segments(1200),
  {
    kind: 'throughput',
    receivers: bothReceivers,
    shape: { name: 'lists', bytes: 200, destinations: 1, headerBytes: 12 },
    peers: [
      oursLargeBatches,
      joinedPeer('before', { batchSize: 1024 }),
      joinedPeer('each', { batchSize: 1024 }),
      nativePeer('gso-copy'),
      chainPeer(),
    ],
  },
  {
    kind: 'throughput',
    receivers: ['count'],
    shape: { name: 'unix-64', bytes: 64, destinations: 1 },
    isUnix: true,
    peers: [batchSenderPeer('BatchSender'), unixDgramPeer(), nativePeer('plain')],
  },
  {
    kind: 'drain',
    receivers: ['slow'],
    shape: { name: 'unix-slow', bytes: 100, destinations: 1, datagrams: 30_000 },
    isUnix: true,
    peers: [batchSenderPeer('inline'), batchSenderPeer('offload', { offload: true })],
  },
  {
    kind: 'loop',
    receivers: ['count'],
    shape: { name: 'event-loop', bytes: 64, destinations: 1 },
    peers: [
      ours,
      oursPlain,
      batchSenderPeer('offload', offload),
      batchSenderPeer('offload, gso off', { ...offload, gso: 'off' }),
      batchSenderPeer('offload, gso off, 2 lanes', { ...offload, gso: 'off', lanes: 2 }),
      ...dgram,
      udxPeer(),
      ...bun,
    ],
  },
  {
    kind: 'latency',
    receivers: ['latency'],
    shape: { name: 'latency', bytes: 64, destinations: 1, perSecond: 1000 },
    peers: [
      latencyPeer('operator', false, { flushAfterMs: 0 }),
      latencyPeer('operator', true, { flushAfterMs: 0 }),
      latencyPeer('operator', false, { flushAfterMs: 0, offload: true }),
      latencyPeer('dgram', false),
      latencyPeer('dgram', true),
    ],
  },
  {
    kind: 'memory',
    receivers: ['drop'],
    shape: { name: 'memory', bytes: 64, destinations: 1, datagrams: 10_000_000 },
    peers: [
      memoryPeer('rx-sendmmsg', { via: 'operator' }),
      memoryPeer('rx-sendmmsg, offload', { via: 'batch-sender', options: offload }),
      // A fifth of the datagrams: it would take a minute.
      memoryPeer('node:dgram', { via: 'dgram' }, 0.2),
    ],
  },
];
