/**
 * This checkout against another one: each workload, and in it each sender of our own, in pairs of slices.
 *
 * Two processes live at a time, one over each library, and take turns; the other waits on its stdin. Compilers and memory
 * layout make one process a few per cent faster than the next over the same library, for all of its life, so
 * that more slices of the same two would not tell more: they are replaced every few rounds.
 */
import { type Conversation, converse } from '../src/cli/bench/conversation.ts';
import type { Entry, Peer } from '../src/cli/bench/peers.ts';
import { pathFor, type Settings, startReceiver } from '../src/cli/bench/processes.ts';
import type { SenderResult, Workload } from '../src/cli/bench/workload.ts';
import { SHAPES } from './encode.ts';
import { type Comparison, orderOf, type Pair, type Side, verdictOf } from './paired.ts';
import { encodePeer } from './peers.ts';
import { ROSTER } from './roster.ts';
import { HERE, knows, type Stage, stage } from './stage.ts';

const ROUNDS_A_PROCESS = 4;
/** Each side's slices in a round: the shorter they are, the more alike is what the machine does in two of them. */
const SLICES = 3;
/** What is above the limit goes on: it may be chance, and more rounds tell. So many times as many rounds at most. */
const MOST_TIMES = 4;

const ENCODE: Entry = {
  kind: 'throughput',
  receivers: ['drop'],
  shape: { name: 'encode', bytes: 64, destinations: 1 },
  peers: SHAPES.filter((shape) => shape !== 'Uint8Array.set of 64 B').map(encodePeer),
};

/** Measures what is wanted; `tell` hears of each workload when it is done. */
export async function compareWith(
  checkout: string,
  isWanted: (workload: string, sender: string) => boolean,
  settings: Settings,
  tell: (comparisons: readonly Comparison[]) => void,
): Promise<readonly Comparison[]> {
  const stages = { here: stage(HERE), there: stage(checkout) };
  const all: Comparison[] = [];
  for (const entry of [ENCODE, ...ROSTER]) {
    const peers = entry.peers.filter(
      ({ name, options, feature }) =>
        options !== undefined &&
        isWanted(entry.shape.name, name) &&
        (feature === undefined || knows(checkout, feature)),
    );
    if (peers.length === 0) continue;
    const comparisons = await compareEntry(entry, peers, settings, stages);
    all.push(...comparisons);
    tell(comparisons);
  }
  return all;
}

async function compareEntry(
  entry: Entry,
  peers: readonly Peer[],
  { rounds, seconds }: Settings,
  stages: Readonly<Record<Side, Stage>>,
): Promise<readonly Comparison[]> {
  const path = pathFor(entry);
  const receiver = await startReceiver(entry.receivers[0]!, path);
  // By the clock: so many datagrams would be too many for a slice.
  const { datagrams: _, ...shape } = entry.shape;
  const { port } = receiver;
  const workload: Workload = {
    ...shape,
    ...(path !== undefined && { path }),
    port,
    seconds: seconds / SLICES,
    onDemand: true,
  };
  const comparisons: Comparison[] = [];
  for (const peer of peers) {
    const command = peer.command(workload);
    const pairs: Pair[] = [];
    try {
      while (pairs.length < rounds || (verdictOf({ pairs }).isSlower && pairs.length < MOST_TIMES * rounds)) {
        const senders = { here: converse(stages.here(command)), there: converse(stages.there(command)) };
        await measurePairs(senders, peer, pairs, Math.min(ROUNDS_A_PROCESS, rounds));
      }
    } catch (error) {
      pairs.length = 0; // not measured
      process.stderr.write(`\n${shape.name}, ${peer.name}: ${(error as Error).message}\n`);
    }
    const cpu = isOnPool(peer) ? 'process' : 'main thread';
    comparisons.push({ workload: shape.name, sender: peer.name, cpu, pairs });
  }
  await receiver.stop();
  return comparisons;
}

/** The next rounds of two new processes. Both warm up at once: nothing is measured meanwhile. */
async function measurePairs(
  senders: Readonly<Record<Side, Conversation>>,
  peer: Peer,
  pairs: Pair[],
  count: number,
): Promise<void> {
  try {
    await Promise.all([senders.here.next(), senders.there.next()]);
    for (const end = pairs.length + count; pairs.length < end; ) {
      const sums = { here: { cpu: 0, datagrams: 0 }, there: { cpu: 0, datagrams: 0 } };
      for (let slice = 0; slice < SLICES; slice++) {
        for (const side of orderOf(pairs.length * SLICES + slice)) await addSlice(sums[side], senders[side], peer);
      }
      pairs.push({ here: sums.here.cpu / sums.here.datagrams, there: sums.there.cpu / sums.there.datagrams });
    }
  } finally {
    await Promise.all([senders.here.end(), senders.there.end()]);
  }
}

/** One slice: its CPU time in nanoseconds, and its datagrams. */
async function addSlice(sum: { cpu: number; datagrams: number }, sender: Conversation, peer: Peer): Promise<void> {
  const { datagrams, busySeconds, cpuSeconds } = (await sender.ask('go')) as SenderResult;
  sum.cpu += (isOnPool(peer) ? cpuSeconds : (busySeconds ?? cpuSeconds)) * 1e9;
  sum.datagrams += datagrams;
}

function isOnPool({ options }: Peer): boolean {
  return options?.offload === true;
}
