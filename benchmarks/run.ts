/**
 * `npm run bench [-- WORKLOAD…] [--rounds N] [--seconds S] [--json]`: every sender in turn, round after round, so that a
 * noisy machine is noisy for all; medians, spreads and ratios; counted at the receiver.
 */
import { spawn } from 'node:child_process';
import { cpus, release } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measureEncoding } from './encode.ts';
import { compileNative, dgramPeer, nativePeer, operatorPeer, type Peer } from './peers.ts';
import { median, spread } from './statistics.ts';
import type { SenderResult, Workload } from './workload.ts';

type Shape = Omit<Workload, 'port' | 'seconds'>;
const WORKLOADS: readonly Shape[] = [
  { name: 'flood-64', bytes: 64, destinations: 1 },
  { name: 'flood-1200', bytes: 1200, destinations: 1 },
  { name: 'lines', bytes: 42, destinations: 1, lines: 'equal' },
  { name: 'broadcast', bytes: 200, destinations: 1000 },
];

/** One sender's runs of one workload. */
interface Row {
  readonly peer: string;
  readonly nanoseconds: number[];
  readonly busyNanoseconds: number[];
  sent: number;
  received: number;
  syscalls: number | undefined;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const known = ['encode', ...WORKLOADS.map(({ name }) => name)];
const chosen = positionals.length > 0 ? positionals : known;
const unknown = chosen.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`no such workload: ${unknown.join(', ')}; there are ${known.join(', ')}\n`);
  process.exit(2);
}

const binary = compileNative();
const peers: Peer[] = [
  operatorPeer('rx-sendmmsg', {}),
  operatorPeer('rx-sendmmsg, batchSize 1024', { batchSize: 1024 }),
  operatorPeer('rx-sendmmsg, gso off', { gso: 'off' }),
  dgramPeer(false),
  dgramPeer(true),
  ...(binary === undefined
    ? []
    : [nativePeer('C sendmmsg', binary, 'plain'), nativePeer('C sendmmsg + GSO', binary, 'gso')]),
];
const BASELINES = ['C sendmmsg + GSO', 'C sendmmsg', 'node:dgram'];

const machine = {
  kernel: release(),
  cpu: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
  node: process.version,
};
const say = (text: string): void => void (values.json || process.stdout.write(`${text}\n`));
say(`Linux ${machine.kernel}, ${machine.cpu}, Node ${machine.node}${binary === undefined ? ', no C compiler' : ''}`);

const results: Record<string, unknown> = { machine };
if (chosen.includes('encode')) {
  const encoding = measureEncoding();
  results['encode'] = encoding;
  say('\n### encode: into the ring and out again, no system call\n\n| datagram | ns |\n| --- | ---: |');
  for (const [name, ns] of Object.entries(encoding)) say(`| ${name} | ${ns.toFixed(0)} |`);
}
for (const shape of WORKLOADS) {
  if (!chosen.includes(shape.name)) continue;
  for (const mode of ['count', 'drop'] as const) {
    const rows = await measureWorkload(shape, mode);
    results[`${shape.name}/${mode}`] = rows;
    say(`\n### ${shape.name}, the receiver ${mode === 'count' ? 'counts (recvmmsg, GRO)' : 'drops in the kernel'}\n`);
    say(table(rows));
  }
}
if (values.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);

async function measureWorkload(shape: Shape, mode: 'count' | 'drop'): Promise<Row[]> {
  const receiver = await startReceiver(mode);
  const workload: Workload = { ...shape, port: receiver.port, seconds: Number(values.seconds) };
  const able = peers.filter((peer) => peer.command(workload) !== undefined);
  const rows: Row[] = able.map(({ name }) => ({
    peer: name,
    nanoseconds: [],
    busyNanoseconds: [],
    sent: 0,
    received: 0,
    syscalls: undefined,
  }));
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [index, peer] of able.entries()) {
      const row = rows[index]!;
      const before = await receiver.count();
      const result = await runSender(peer.command(workload)!);
      row.nanoseconds.push((result.seconds * 1e9) / result.datagrams);
      row.busyNanoseconds.push((result.busySeconds * 1e9) / result.datagrams);
      row.sent += result.total;
      row.received += (await receiver.count()) - before;
      row.syscalls = result.syscalls;
    }
  }
  receiver.stop();
  return rows;
}

function table(rows: readonly Row[]): string {
  const baselines = BASELINES.filter((name) => rows.some(({ peer }) => peer === name));
  const of = (name: string): number => median(rows.find(({ peer }) => peer === name)!.nanoseconds);
  const head = ['sender', 'ns a datagram', '±', 'a second', ...baselines.map((name) => `× ${name}`), 'received'];
  const lines = rows.map((row) => {
    const ns = median(row.nanoseconds);
    return [
      row.peer,
      ns.toFixed(ns < 1000 ? 1 : 0),
      `${(spread(row.nanoseconds) * 100).toFixed(0)} %`,
      Math.round(1e9 / ns).toLocaleString('en'),
      ...baselines.map((name) => (of(name) / ns).toFixed(2)),
      row.received === 0 ? '-' : `${((100 * row.received) / row.sent).toFixed(1)} %`,
    ];
  });
  return [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

async function startReceiver(
  mode: 'count' | 'drop',
): Promise<{ port: number; count(): Promise<number>; stop(): void }> {
  const script = fileURLToPath(new URL('./receiver.js', import.meta.url));
  const child = spawn(process.execPath, [script, mode], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<number> => Number((await lines.next()).value);
  return {
    port: await next(),
    async count() {
      // Whatever still lies in the socket is counted, too: ask until nothing comes any more.
      for (let previous = -1; ; ) {
        child.stdin.write('\n');
        const count = await next();
        if (count === previous) return count;
        previous = count;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    stop: () => void child.stdin.end(),
  };
}

function runSender(command: readonly string[]): Promise<SenderResult & { total: number }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code !== 0) return reject(new Error(`${command.join(' ')} exited with ${code}`));
      const result = JSON.parse(output) as SenderResult & { total?: number };
      resolve({ ...result, total: result.total ?? result.datagrams });
    });
  });
}
