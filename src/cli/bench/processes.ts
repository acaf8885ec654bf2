/**
 * Runs a workload: one receiver, and the senders in turn, round after round, so that a noisy machine is noisy for all.
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { converse } from './conversation.ts';
import { withLongQueue } from './long-queue.ts';
import type { Entry, Peer } from './peers.ts';
import type { Metric, ReceiverMode, Result, Row } from './report.ts';
import type { ReceiverAddress, ReceiverCount, SenderResult, Workload } from './workload.ts';

export interface Settings {
  readonly rounds: number;
  /** How long a sender sends in a round. */
  readonly seconds: number;
}

/** A sender that did not do its work: the others go on without it. */
export interface Failure {
  readonly sender: string;
  readonly reason: string;
}

/** One workload against one receiver. */
export async function measureEntry(
  entry: Entry,
  mode: ReceiverMode,
  peers: readonly Peer[],
  { rounds, seconds }: Settings,
): Promise<{ result: Result; receivesBy: ReceiverAddress['receivesBy']; failures: readonly Failure[] }> {
  const path = pathFor(entry);
  const receiver = await startReceiver(mode, path);
  const workload: Workload = { ...entry.shape, ...(path !== undefined && { path }), port: receiver.port, seconds };
  const runs = peers.map((peer) => ({ peer, row: emptyRow(peer.name), command: peer.command(workload) }));
  const failures: Failure[] = [];
  // A memory run takes long, and says what it says.
  for (let round = 0; round < (entry.kind === 'memory' ? 1 : rounds); round++) {
    for (const { row, command } of runs) {
      if (failures.some(({ sender }) => sender === row.sender)) continue;
      const before = await receiver.count('reset');
      try {
        const result = await runSender(command);
        book(row, result, before, await receiver.count());
      } catch (error) {
        failures.push({ sender: row.sender, reason: (error as Error).message });
      }
    }
  }
  await receiver.stop();
  const rows = runs.map(({ row }) => row).filter(({ datagrams }) => datagrams > 0);
  const result = { workload: entry.shape.name, kind: entry.kind, receiver: mode, rows };
  return { result, receivesBy: receiver.receivesBy, failures };
}

/** Where its receiver listens, if on a unix socket. */
export function pathFor({ isUnix }: Entry): string | undefined {
  return isUnix ? join(tmpdir(), `mmsg-bench-${process.pid}.sock`) : undefined;
}

function emptyRow(sender: string): Row {
  return { sender, metrics: {}, sent: 0, received: 0, datagrams: 0, dropped: 0 };
}

/** Adds one round to a row. */
function book(row: Row, result: SenderResult, before: ReceiverCount, after: ReceiverCount): void {
  const { datagrams, seconds, busySeconds, meanWaitSeconds, memory, joinedBytes } = result;
  const add = (metric: Metric, value: number | null | undefined): void => {
    if (value === null || value === undefined) return;
    row.metrics[metric] ??= [];
    row.metrics[metric].push(value);
  };
  if (after.latency === undefined) add('nanoseconds', (seconds * 1e9) / datagrams);
  add('busyNanoseconds', busySeconds === null ? null : (busySeconds * 1e9) / datagrams);
  add('wait', meanWaitSeconds && meanWaitSeconds * 1e9);
  add('p50', after.latency?.p50);
  add('p99', after.latency?.p99);
  add('heapBytes', memory?.heapBytes);
  add('externalBytes', memory?.externalBytes);
  add('rssBytes', memory?.rssBytes);
  add('gcNanoseconds', memory && (memory.gcSeconds * 1e9) / datagrams);
  add('minorCollections', memory?.minorCollections);
  add('majorCollections', memory?.majorCollections);
  row.datagrams += datagrams;
  row.dropped += result.dropped ?? 0;
  // Metrics that share a datagram are counted by their bytes: one newline less in each.
  const receivedDatagrams = after.datagrams - before.datagrams;
  row.sent += joinedBytes ?? result.total ?? datagrams;
  row.received += joinedBytes === undefined ? receivedDatagrams : after.bytes - before.bytes + receivedDatagrams;
}

/** The receiving process. */
export interface Receiver extends ReceiverAddress {
  /** What it has received, once nothing comes any more. */
  count(question?: 'count' | 'reset'): Promise<ReceiverCount>;
  stop(): Promise<void>;
}

export async function startReceiver(mode: ReceiverMode, path: string | undefined): Promise<Receiver> {
  const script = fileURLToPath(new URL('./receiver.js', import.meta.url));
  const prefix = mode === 'slow' ? (withLongQueue() ?? []) : [];
  const child = converse([...prefix, process.execPath, script, mode, ...(path === undefined ? [] : [path])]);
  return {
    ...((await child.next()) as ReceiverAddress),
    async count(question = 'count') {
      for (let previous = -1; ; ) {
        const count = (await child.ask(question)) as ReceiverCount;
        if (count.datagrams === previous) return count;
        previous = count.datagrams;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async stop() {
      await child.end();
      if (path !== undefined) rmSync(path, { force: true });
    },
  };
}

function runSender(command: readonly string[]): Promise<SenderResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let complaint = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint += text;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) return resolve(JSON.parse(output) as SenderResult);
      const reason = complaint.split('\n').find((line) => /error/i.test(line)) ?? complaint.trim().split('\n')[0];
      reject(new Error(`exited with ${code}: ${reason}`));
    });
  });
}
