/**
 * `npm run soak`: everything at once, for a long time, with a reader that stalls and workers that are terminated.
 *
 * `--minutes M` (default 10); `--seed N` (default: the time); `--out FILE` for the chart, an SVG (default soak.svg); `--json FILE` for the
 * verdict and all samples; `--sabotage WHAT` does something wrong on purpose (lose, double, swap, alter, leak, descriptor, block).
 * Ctrl-C ends it early, with its verdict and its chart. The exit status is 0 if all went well, 1 if not, 2 for a usage error.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { chartOf } from './chart.ts';
import type { Sample } from './sample.ts';
import { SABOTAGES, type SoakResult, soak } from './soak.ts';
import { LIMITS, MIB } from './verdict.ts';

interface RunOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly out: string;
  readonly json: string | undefined;
  readonly sabotage: (typeof SABOTAGES)[number] | '';
}

function readOptions(): RunOptions {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(Math.floor(Date.now() / 1000)) },
      out: { type: 'string', default: 'soak.svg' },
      json: { type: 'string' },
      sabotage: { type: 'string', default: '' },
    },
  });
  const minutes = Number(values.minutes);
  const seed = Number(values.seed);
  if (!(minutes > 0 && minutes < 100_000)) throw new RangeError(`--minutes must be above 0, not ${values.minutes}`);
  if (!Number.isSafeInteger(seed)) throw new RangeError(`--seed must be an integer, not ${values.seed}`);
  const sabotage = SABOTAGES.find((each) => each === values.sabotage) ?? '';
  if (sabotage !== values.sabotage) throw new RangeError(`--sabotage must be one of ${SABOTAGES.join(', ')}`);
  return { minutes, seed, out: values.out, json: values.json, sabotage };
}

/** Between two lines of progress where there is no terminal, seconds. */
const QUIET_SECONDS = 30;

/** One line that is written over, on a terminal; elsewhere a line now and then. */
function showProgress(totalSeconds: number): (sample: Sample) => void {
  const { stderr } = process;
  let toldAt = 0;
  return ({ at, rss, queued, sentPerSecond, receivedPerSecond, stalled }) => {
    const line =
      `soak: ${at.toFixed(0)} of ${totalSeconds.toFixed(0)} s · ${sentPerSecond.toFixed(0)} sent/s · ` +
      `${receivedPerSecond.toFixed(0)} received/s · ${queued} queued · ${stalled} stalled · RSS ${(rss / MIB).toFixed(0)} MiB`;
    if (stderr.isTTY) stderr.write(`\r\x1b[2K${line}`);
    else if (at - toldAt >= QUIET_SECONDS) {
      stderr.write(`${line}\n`);
      toldAt = at;
    }
  };
}

function print({ ok, seed, seconds, checks, workloads }: SoakResult, minutes: number): void {
  const counts = workloads.map(({ name, senders, accepted, sent, rejected, dropped, conflated, packed, received }) => {
    return [name, { senders, accepted, sent, rejected, dropped, conflated, packed, received }] as const;
  });
  console.table(Object.fromEntries(counts));
  for (const check of checks) console.log(`${check.ok ? 'ok  ' : 'FAIL'} ${check.name}: ${check.text}`);
  const asked = seconds < minutes * 60 ? ` of ${(minutes * 60).toFixed(0)} (ended early)` : '';
  console.log(`${ok ? 'PASSED' : 'FAILED'} after ${seconds.toFixed(0)} s${asked}, --seed ${seed}`);
}

async function main({ minutes, seed, out, json, sabotage }: RunOptions): Promise<void> {
  const end = new AbortController();
  const leaveSignals = onSignals(() => end.abort());
  const { signal } = end;
  const onSample = showProgress(minutes * 60);
  process.stderr.write(`soak: ${minutes} minutes, --seed ${seed}\n`);
  const result = await soak({ seconds: minutes * 60, seed, signal, sabotage, onSample });
  leaveSignals();
  if (process.stderr.isTTY) process.stderr.write('\n');
  print(result, minutes);
  const machine = `Node.js ${process.version.slice(1)}, ${cpus().length} cores`;
  const title = `rx-sendmmsg, soak of ${(result.seconds / 60).toFixed(1)} minutes, seed ${seed}, ${machine}`;
  writeFileSync(out, chartOf(result.samples, title));
  if (json !== undefined)
    writeFileSync(json, `${JSON.stringify({ ...result, machine, limits: LIMITS }, undefined, 1)}\n`);
  process.exitCode = result.ok ? 0 : 1;
}

/** npm hands on the Ctrl-C that the terminal has sent already: only one that comes later quits at once. */
const SAME_SIGNAL_MS = 1000;

function onSignals(end: () => void): () => void {
  let endedAt = 0;
  const listener = (): void => {
    const now = performance.now();
    if (endedAt > 0 && now - endedAt > SAME_SIGNAL_MS) process.exit(130);
    if (endedAt > 0) return;
    endedAt = now;
    end();
  };
  process.on('SIGINT', listener);
  process.on('SIGTERM', listener);
  return () => {
    process.off('SIGINT', listener);
    process.off('SIGTERM', listener);
  };
}

let options: RunOptions | undefined;
try {
  options = readOptions();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
if (options !== undefined) await main(options);
