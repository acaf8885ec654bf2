/** hot-shots, a StatsD client over node:dgram: a datagram for each metric (64 in flight), or many metrics in one. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { keepInFlight, measure, readWorkload } from '../../src/cli/bench/measure.ts';
import { lineOf, metricOf } from '../../src/cli/bench/workload.ts';
import { requirePeer } from '../peer-packages.ts';

/** What is used of hot-shots. */
interface Client {
  increment(name: string, value: number, tags: string[], done?: (error?: Error) => void): void;
  timing(name: string, value: number, tags: string[], done?: (error?: Error) => void): void;
  close(done: () => void): void;
  /** Datagrams handed to the socket and not yet called back. */
  readonly messagesInFlight: number;
}

const workload = readWorkload();
const isBuffered = process.argv.at(-2) === 'buffered';
const lines = workload.lines!;
const StatsD = requirePeer('hot-shots') as new (options: object) => Client;
// 1432 bytes is what the README of hot-shots advises for Ethernet.
const client = new StatsD({ host: '127.0.0.1', port: workload.port, maxBufferSize: isBuffered ? 1432 : 0 });
const MOST_IN_FLIGHT = 64;
let joinedBytes = 0;

function sendMetric(n: number, done?: (error?: Error | null) => void): void {
  const { name, value, tags } = metricOf(lines, n);
  if (lines === 'equal') client.increment(name, value, tags, done);
  else client.timing(name, value, tags, done);
}

/** The callback of a buffered metric comes at once: what is in flight is the client's own count of datagrams. */
async function sendBuffered(isOver: () => boolean): Promise<number> {
  let n = 0;
  while (!isOver()) {
    for (const end = n + 1024; n < end; n++) sendMetric(n);
    while (client.messagesInFlight > MOST_IN_FLIGHT - 32) await nextTurn();
  }
  for (let sent = 0; sent < n; sent++) joinedBytes += lineOf(lines, sent).length + 1;
  return n;
}

await measure(
  workload,
  (isOver) => (isBuffered ? sendBuffered(isOver) : keepInFlight(sendMetric, isOver)),
  () => (isBuffered ? { joinedBytes } : {}),
);
await new Promise<void>((resolve) => client.close(resolve));
