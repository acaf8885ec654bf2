/**
 * `mmsg demo`: a live RxJS telemetry stream → the operator → loopback → `mmsg recv` in another process, and the account.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Subject, takeUntil, timer } from 'rxjs';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { DatagramSocket } from '../datagram-socket.ts';
import { CLOSE_CHANNEL, type SenderStats } from '../diagnostics.ts';
import { DemoReceiver, type Received } from './demo-receiver.ts';
import * as format from './format.ts';
import { telemetry } from './telemetry.ts';
import { type EndSignal, exitCodeOf, onEndSignal, showProgress } from './terminal.ts';

const DURATION_MS = 4000;
const REQUESTS_PER_SECOND = 20_000;
/** Between the lines that stand for the progress where there is no terminal. */
const LINE_MS = 1000;

/** Runs the demonstration; returns the exit status, 0 only if everything sent was received. */
export async function demo(): Promise<number> {
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
      telemetry(REQUESTS_PER_SECOND)
        .pipe(
          takeUntil(timer(DURATION_MS)),
          takeUntil(stop),
          sendmmsg(() => DatagramSocket.open({ connect: { address: '127.0.0.1', port } }), {
            batchSize: 256,
            flushAfterMs: 5,
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
    unsubscribe(CLOSE_CHANNEL, onClose);
    leaveSignals();
  }
  return { stats: stats!, signal, seconds: (performance.now() - startedAt) / 1000 };
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
  const rows: [string, string, string][] = [
    ['sent', count(stats.sent), `datagrams, ${size(stats.bytes)}, ${rate(stats.sent / seconds)}`],
    ['received', count(received.datagrams), `datagrams, ${size(received.bytes)}`],
    ['syscalls', count(stats.syscalls), `by ${stats.backend}; node:dgram would have made ${count(stats.sent)}`],
    ['mean batch', ratio(stats.sent, stats.syscalls), 'datagrams a syscall'],
    ['receiver', count(received.calls), `syscalls by recvmmsg, ${ratio(received.datagrams, received.calls)} each`],
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
