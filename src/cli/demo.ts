/**
 * `mmsg demo`: a live RxJS telemetry stream → the operator → loopback → `mmsg recv` in another process, and the account.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Subject, takeUntil, timer } from 'rxjs';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { CLOSE_CHANNEL, type SenderStats } from '../sender/diagnostics.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import { DemoReceiver, type Received } from './demo-receiver.ts';
import { fallbackOf, hideFallbackWarning } from './fallback.ts';
import * as format from './format.ts';
import { telemetry } from './telemetry.ts';
import { type EndSignal, exitCodeOf, onEndSignal, showProgress } from './terminal.ts';

const DURATION_MS = 4000;
/** Two metrics each, and as many where each metric is a system call. */
const REQUESTS_PER_SECOND = 20_000;
const REQUESTS_PER_SECOND_ONE_BY_ONE = 4000;
/** More than a second's worth. */
const MOST_QUEUED = 65_536;
/** Between the lines that stand for the progress where there is no terminal. */
const LINE_MS = 1000;

/** Runs the demonstration; returns the exit status, 0 only if everything sent was received. */
export async function demo(): Promise<number> {
  hideFallbackWarning();
  const receiver = await DemoReceiver.start();
  try {
    const { stats, signal, seconds } = await stream(receiver.port);
    const received = await receiver.finish();
    const isEqual = stats.sent === received.datagrams && stats.bytes === received.bytes;
    print(table(stats, received, seconds));
    print(isEqual ? 'Every metric that was sent was received.' : 'Sent and received differ.');
    if (!isEqual || stats.sent !== stats.accepted) return 1;
    return signal === null ? 0 : exitCodeOf(signal);
  } finally {
    receiver.kill();
  }
}

interface Run {
  readonly stats: SenderStats;
  readonly signal: EndSignal | null;
  readonly seconds: number;
}

async function stream(port: number): Promise<Run> {
  const startedAt = performance.now();
  const totals = { sent: 0, syscalls: 0, queued: 0 };
  let signal: EndSignal | null = null;
  let stats: SenderStats | undefined;
  const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
  const isBatching = socket.backend !== 'node:dgram';
  const fallback = fallbackOf(socket);
  if (fallback !== undefined) print(fallback);
  const stop = new Subject<void>();
  const leaveSignals = onEndSignal((name) => {
    signal = name;
    stop.next();
  });
  const onClose = (message: unknown): void => {
    stats = (message as { stats: SenderStats }).stats;
  };
  subscribe(CLOSE_CHANNEL, onClose);
  const hideProgress = showLive(() => progress(totals, (performance.now() - startedAt) / 1000));
  try {
    await new Promise<void>((complete, error) => {
      telemetry(isBatching ? REQUESTS_PER_SECOND : REQUESTS_PER_SECOND_ONE_BY_ONE)
        .pipe(
          takeUntil(timer(DURATION_MS)),
          takeUntil(stop),
          sendmmsg(socket, {
            batchSize: 256,
            flushAfterMs: 5,
            highWaterMark: MOST_QUEUED, // a machine that is busy with something else drops nothing either
            warn: false, // the table tells
          }),
        )
        .subscribe({
          next: (report) => {
            totals.sent += report.sent;
            totals.syscalls += report.syscalls;
            totals.queued = report.requeued;
          },
          error,
          complete,
        });
    });
  } finally {
    hideProgress();
    socket.close();
    unsubscribe(CLOSE_CHANNEL, onClose);
    leaveSignals();
  }
  return { stats: stats!, signal, seconds: (performance.now() - startedAt) / 1000 };
}

/** A row of the table: name, value, what it is. */
type Cells = [name: string, value: string, what: string];

/** What the sending cost. */
function callsOf({ backend, sent, syscalls }: SenderStats): Cells[] {
  const { count, ratio } = format;
  if (backend === 'node:dgram') return [['syscalls', count(syscalls), 'by node:dgram, one for each datagram']];
  return [
    ['syscalls', count(syscalls), `by ${backend}; node:dgram would have made ${count(sent)}`],
    ['mean batch', ratio(sent, syscalls), 'datagrams a syscall'],
  ];
}

/** A line that is redrawn on a terminal, and one a second elsewhere. */
function showLive(line: () => string): () => void {
  if (process.stderr.isTTY) return showProgress(line);
  const lines = setInterval(() => print(line()), LINE_MS);
  return () => clearInterval(lines);
}

function progress(totals: { sent: number; syscalls: number; queued: number }, seconds: number): string {
  const { count, rate, ratio } = format;
  return [
    `${seconds.toFixed(1)} s`,
    `${count(totals.sent)} metrics`,
    rate(totals.sent / seconds),
    `${count(totals.syscalls)} syscalls`,
    `${ratio(totals.sent, totals.syscalls)} a call`,
    `queue ${count(totals.queued)}`,
  ].join(' · ');
}

function table(stats: SenderStats, received: Received, seconds: number): string {
  const { count, rate, ratio, size } = format;
  const { calls, backend } = received;
  const rows: Cells[] = [
    ['sent', count(stats.sent), `datagrams, ${size(stats.bytes)}, ${rate(stats.sent / seconds)}`],
    ['received', count(received.datagrams), `datagrams, ${size(received.bytes)}`],
    ...callsOf(stats),
    calls === null
      ? ['receiver', '', `through ${backend}`]
      : ['receiver', count(calls), `syscalls by ${backend}, ${ratio(received.datagrams, calls)} each`],
  ];
  if (stats.rejected > 0) rows.push(['rejected', count(stats.rejected), 'datagrams']);
  if (stats.dropped > 0) rows.push(['dropped', count(stats.dropped), 'datagrams']);
  const width = Math.max(...rows.map(([, value]) => value.length));
  return ['', ...rows.map(([name, value, what]) => `  ${name.padEnd(12)}${value.padStart(width)}  ${what}`), ''].join(
    '\n',
  );
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
