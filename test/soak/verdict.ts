/** What the soak says in the end: each promise, whether it was kept, and the figures. */
import { median } from '../../src/cli/bench/statistics.ts';
import type { Told, Totals } from './ledger.ts';
import type { ChannelState } from './receiver-process.ts';
import type { Sample } from './sample.ts';
import { type Trend, trendOf, WARM_UP } from './trend.ts';
import type { Workload } from './workload.ts';

export const MIB: number = 2 ** 20;
/**
 * Bytes that koffi keeps of each thread that has loaded it, when that has ended: 45 to 52 KiB on Node.js 20 to 26, koffi 3.3, and the same
 * in a worker that does nothing but load it. See docs/reliability.md.
 */
export const KEPT_BY_KOFFI: number = 48 * 1024;

/** What counts as flat, and as prompt. */
export interface Limits {
  /** MiB an hour that memory may grow by. */
  readonly perHour: number;
  /** Growth behind the warm-up that is within the noise, however short that was: a share of the median, and at least so many MiB. */
  readonly noise: number;
  readonly noiseMiB: number;
  /** Share by which the last quarter's median may be above the second quarter's; at least `noiseMiB`. */
  readonly rise: number;
  /** Below so many seconds behind the warm-up this is noise, and memory is not judged. */
  readonly judgedSeconds: number;
  /** Lateness of the event loop, ms: the median of the 99th percentiles of all samples, and the worst moment of all. */
  readonly delayP99: number;
  readonly delayMax: number;
  /** Samples in which it was kept waiting for a core for a larger share of the time say nothing about its own lateness. */
  readonly starved: number;
  /** A channel that can be read brings something before so many ms are over. */
  readonly idleMs: number;
}

export const LIMITS: Limits = {
  perHour: 32,
  noise: 0.02,
  noiseMiB: 8,
  rise: 0.05,
  judgedSeconds: 180,
  delayP99: 60,
  delayMax: 1500,
  starved: 0.1,
  idleMs: 10_000,
};

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly text: string;
}

/** What became of a workload. */
export interface WorkloadResult {
  readonly workload: Pick<Workload, 'name' | 'channels' | 'mayDrop' | 'mayReject' | 'isSilenced'>;
  readonly totals: Totals;
  readonly told: Told;
  readonly states: readonly ChannelState[];
}

/** Sent and received, by workload: nothing lost, doubled, reordered or altered. */
export function checkWorkload({ workload, totals, told, states }: WorkloadResult): string[] {
  const violations: string[] = [];
  const fail = (what: string): number => violations.push(`${workload.name}: ${what}`);
  const received = sum(states.map((state) => state.received));
  const sent = totals.sent + totals.packed;
  const isUdp = workload.channels[0]?.type === 'udp';
  if (isUdp ? received > sent : received !== sent) fail(`${sent} sent, but ${received} received`);
  if (totals.queued > 0) fail(`${totals.queued} still queued`);
  for (const [reason, count] of Object.entries(totals.droppedBy)) {
    if (!workload.mayDrop?.some((may) => may === reason)) fail(`${count} dropped: ${reason}`);
  }
  for (const [code, count] of Object.entries(totals.rejectedBy)) {
    if (!workload.mayReject?.includes(code)) fail(`${count} rejected: ${code}`);
  }
  if (workload.isSilenced !== true) {
    for (const key of ['sent', 'rejected', 'dropped', 'conflated'] as const) {
      if (told[key] !== totals[key]) fail(`${totals[key]} ${key}, but reports told of ${told[key]}`);
    }
  }
  return violations;
}

/** Whether memory, descriptors and the event loop were as they should be. */
export function checkSamples(samples: readonly Sample[], descriptors: readonly [number, number]): Check[] {
  const memory = [
    memoryCheck('rss', samples, ({ rss, workersStarted }) => rss - workersStarted * KEPT_BY_KOFFI),
    memoryCheck('heapUsed', samples, ({ heapUsed }) => heapUsed),
    memoryCheck('external', samples, ({ external }) => external),
  ];
  const [before, after] = descriptors;
  return [
    ...memory,
    { name: 'descriptors', ok: before === after, text: `${before} open at the start, ${after} at the end` },
    delayCheck(samples),
  ];
}

function memoryCheck(name: string, samples: readonly Sample[], bytesOf: (sample: Sample) => number): Check {
  const trend = trendOf(samples.map((sample) => ({ at: sample.at, value: bytesOf(sample) / MIB })));
  const { perHour, second, last, seconds, middle } = trend;
  const median = `median ${middle.toFixed(1)} MiB`;
  if (seconds < LIMITS.judgedSeconds) {
    return {
      name,
      ok: true,
      text: `${median}; not judged: ${seconds.toFixed(0)} s behind the warm-up, and not ${LIMITS.judgedSeconds}`,
    };
  }
  const most = mostPerHour(trend);
  const mostRise = Math.max(LIMITS.rise * second, LIMITS.noiseMiB);
  const slope = `slope ${signed(perHour)} MiB an hour (at most ${most.toFixed(0)})`;
  const rise = `last quarter ${signed(last - second)} MiB above the second (at most ${mostRise.toFixed(0)})`;
  return { name, ok: perHour <= most && last - second <= mostRise, text: `${median}, ${slope}, ${rise}` };
}

/** The bound, or, where that much is within the noise of a run of this length, the noise. */
function mostPerHour({ middle, seconds }: Trend): number {
  const noise = Math.max(LIMITS.noise * middle, LIMITS.noiseMiB);
  return Math.max(LIMITS.perHour, (noise / seconds) * 3600);
}

/** Where it is late, the samples in which it had no core to run on say nothing of that. */
function delayCheck(samples: readonly Sample[]): Check {
  const steady = samples.slice(Math.floor(samples.length * WARM_UP));
  const all = delayIn(steady);
  if (all.ok) return all;
  const own = steady.filter(({ starved }) => starved <= LIMITS.starved);
  if (own.length >= steady.length / 2) return delayIn(own);
  const why = `only in ${own.length} of ${steady.length} samples it was not kept waiting for a core by others`;
  return { ...all, ok: true, text: `not judged (${all.text}): ${why}` };
}

function delayIn(samples: readonly Sample[]): Check {
  const middle = (of: (sample: Sample) => number): number => median(samples.map(of));
  const p50 = middle(({ delayP50 }) => delayP50);
  const p99 = middle(({ delayP99 }) => delayP99);
  const worst = Math.max(...samples.map(({ delayMax }) => delayMax));
  return {
    name: 'event loop',
    ok: p99 <= LIMITS.delayP99 && worst <= LIMITS.delayMax,
    text: `late by ${p50.toFixed(1)} ms (p50), ${p99.toFixed(1)} ms (p99, at most ${LIMITS.delayP99}), ${worst.toFixed(0)} ms (most, at most ${LIMITS.delayMax}), in ${samples.length} samples`,
  };
}

/** The check that there were no violations; tells the first ones. */
export function checkNone(name: string, violations: readonly string[], text: string): Check {
  const SHOWN = 10;
  if (violations.length === 0) return { name, ok: true, text };
  const rest = violations.length > SHOWN ? `\n  and ${violations.length - SHOWN} more` : '';
  return { name, ok: false, text: `${violations.length}:\n  ${violations.slice(0, SHOWN).join('\n  ')}${rest}` };
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(1)}`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
