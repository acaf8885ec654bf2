/**
 * `mmsg bench`: the short form of the benchmark, on this machine, in under 20 seconds: nothing but what is installed with
 * the package. Senders and receiver are processes of their own; the senders take turns.
 */
import { cpus, release, type } from 'node:os';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import { dgramPeer, type Entry, operatorPeer } from './bench/peers.ts';
import { measureEntry } from './bench/processes.ts';
import { medianOf, type Result, type Row } from './bench/report.ts';
import { fallbackOf, hideFallbackWarning } from './fallback.ts';
import * as format from './format.ts';
import { isOutputBroken, say, showProgress } from './terminal.ts';

export interface BenchOptions {
  readonly json?: boolean;
}

/** With a warm-up of 1 s and the start of a process, a slice takes 2 s: eight of them are 16 s. */
const SETTINGS = { rounds: 1, seconds: 0.5 };
const LINE_BYTES = 40;

const ours = operatorPeer('batches of 64');
const oursLarge = operatorPeer('batches of 1024', { batchSize: 1024 });
const oursPlain = operatorPeer('without GSO', { gso: 'off' });
const dgram = dgramPeer('unconnected');

const entry = (name: string, bytes: number, peers: Entry['peers'], shape: object = {}): Entry => ({
  kind: 'throughput',
  receivers: ['count'],
  shape: { name, bytes, destinations: 1, ...shape },
  peers,
});

const toMany = entry('200 bytes to 1000 destinations in turn', 200, [ours, dgram], { destinations: 1000 });

const ENTRIES: readonly Entry[] = [
  entry('64 bytes, one buffer again and again', 64, [ours, oursLarge, oursPlain, dgram]),
  entry('metric lines, each a fresh string', LINE_BYTES, [ours, dgram], { lines: 'equal' }),
  // Elsewhere only 127.0.0.1 of the loopback network is this machine.
  ...(process.platform === 'linux' || process.platform === 'win32' ? [toMany] : []),
];

/** Runs the command; returns the exit status. */
export async function bench({ json }: BenchOptions): Promise<number> {
  hideFallbackWarning();
  const startedAt = performance.now();
  const machine = `${type()} ${release()}, ${cpus().length} × ${cpus()[0]?.model.trim() ?? 'CPU'}, Node ${process.version}`;
  const fallback = fallbackHere();
  const results: Result[] = [];
  let receivesBy = '';
  let exitCode = 0;
  if (json !== true) process.stdout.write(`${machine}\n`);
  for (const each of ENTRIES) {
    if (isOutputBroken()) break;
    const seconds = (): string => `${((performance.now() - startedAt) / 1000).toFixed(0)} s`;
    const hide = showProgress(() => `${each.shape.name} · ${seconds()}`);
    const { result, receivesBy: receiver, failures } = await measureEntry(each, 'count', each.peers, SETTINGS);
    hide();
    results.push(result);
    receivesBy = receiver;
    if (json !== true) process.stdout.write(`\n${tableOf(result)}\n`);
    for (const { sender, reason } of failures) say(`${sender}: ${reason}`);
    if (failures.length > 0) exitCode = 1;
  }
  if (json === true) process.stdout.write(`${JSON.stringify({ machine, receivesBy, results })}\n`);
  else process.stdout.write(`\n${fallback === undefined ? '' : `${fallback}.\n`}${noteOn(receivesBy)}\n`);
  return exitCode;
}

/** What sends in place of sendmmsg(2), in a sentence; `undefined` where nothing does. */
function fallbackHere(): string | undefined {
  const socket = DatagramSocket.open();
  const fallback = fallbackOf(socket);
  socket.close();
  return fallback;
}

const noteOn = (
  receivesBy: string,
): string => `Over the loopback interface, to a receiver that counts, by ${receivesBy}. "loop" is the time of the event loop that a datagram costs.
These are short glances; npm run bench in a clone of the repository takes its time.`;

function tableOf({ workload, rows }: Result): string {
  const baseline = rows.find(({ sender }) => sender === dgram.name);
  const head = ['', 'a second', 'ns each', 'loop ns', 'received', baseline === undefined ? '' : 'times as fast'];
  const cells = rows.map((row) => cellsOf(row, baseline));
  const widths = head.map((_, column) => Math.max(...[head, ...cells].map((line) => line[column]!.length)));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, column) => (column === 0 ? text.padEnd(widths[column]!) : text.padStart(widths[column]! + 2)))
      .join('')
      .trimEnd();
  return [workload, line(head), ...cells.map(line)].join('\n');
}

function cellsOf(row: Row, baseline: Row | undefined): string[] {
  const nanoseconds = medianOf(row, 'nanoseconds');
  const share = row.received / row.sent;
  return [
    `  ${row.sender}`,
    format.count(1e9 / nanoseconds),
    format.count(nanoseconds),
    Number.isFinite(medianOf(row, 'busyNanoseconds')) ? format.count(medianOf(row, 'busyNanoseconds')) : '-',
    `${(share * 100).toFixed(1)} %`,
    baseline === undefined ? '' : (medianOf(baseline, 'nanoseconds') / nanoseconds).toFixed(1),
  ];
}
