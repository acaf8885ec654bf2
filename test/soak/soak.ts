/** The soak: all workloads at once, a reader that stalls, and somebody who looks at them all the time. */
import { openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DatagramSocket } from '../../src/index.ts';
import { Dice } from '../faults/random.ts';
import { CHURN } from './churn.ts';
import { DOORS } from './doors.ts';
import { Expectations } from './expectations.ts';
import { Ledger, type Totals } from './ledger.ts';
import type { Question, Sabotage } from './receiver-plan.ts';
import { type ChannelState, ReceiverProcess } from './receiver-process.ts';
import { LoopDelay, memoryInUse, openDescriptors, type Sample, starvedMs } from './sample.ts';
import { SENDERS } from './senders.ts';
import { type Check, checkNone, checkSamples, checkWorkload, LIMITS, type WorkloadResult } from './verdict.ts';
import { runThread, WORKERS } from './workers.ts';
import { type Bench, WorkerFigures, type Workload } from './workload.ts';

export interface SoakOptions {
  readonly seconds: number;
  readonly seed: number;
  /** Ends it early. */
  readonly signal: AbortSignal;
  /** Something to do wrong, to see that it is seen. */
  readonly sabotage: Sabotage | OwnSabotage | '';
  readonly onSample: (sample: Sample) => void;
}

/** What this process can do wrong: keep 1 MiB more at each sample, leave a descriptor open, hold up the event loop. */
export type OwnSabotage = 'leak' | 'descriptor' | 'block';

export interface SoakResult {
  readonly ok: boolean;
  readonly seed: number;
  readonly seconds: number;
  readonly checks: readonly Check[];
  readonly samples: readonly Sample[];
  readonly workloads: readonly WorkloadSummary[];
}

/** One workload, for the table. */
export interface WorkloadSummary extends Totals {
  readonly name: string;
  readonly received: number;
}

export const SABOTAGES: readonly (Sabotage | OwnSabotage)[] = [
  ...(['lose', 'double', 'swap', 'alter'] as const),
  ...(['leak', 'descriptor', 'block'] as const),
];

const WORKLOADS: readonly Workload[] = [...SENDERS, ...DOORS, ...CHURN, ...WORKERS];
const CHANNELS = WORKLOADS.flatMap(({ channels }) => channels);
/** Samples of a run, as long as they are not too close together or too far apart. */
const SAMPLES = 600;
const [SHORTEST_MS, LONGEST_MS] = [250, 10_000];
/** What is queued is sent in this time, now that the reader does not stall any more. */
const END_MS = 60_000;
const DESCRIPTORS_MS = 3000;
const BLOCK_MS = LIMITS.delayMax + 500;

export async function soak(options: SoakOptions): Promise<SoakResult> {
  const run = new SoakRun(options);
  return run.run();
}

class SoakRun {
  readonly #options: SoakOptions;
  readonly #ledger = new Ledger();
  readonly #expectations = new Expectations();
  readonly #over = new AbortController();
  readonly #workers = new WorkerFigures();
  readonly #failures: string[] = [];
  readonly #idle: string[] = [];
  readonly #samples: Sample[] = [];
  readonly #kept: Buffer[] = [];
  #receiver!: ReceiverProcess;
  #started = 0;
  #last = { at: 0, sent: 0, received: 0, starved: 0 };
  #longestIdleMs = 0;

  constructor(options: SoakOptions) {
    this.#options = options;
  }

  async run(): Promise<SoakResult> {
    const { seed, sabotage } = this.#options;
    const own = sabotage === 'leak' || sabotage === 'descriptor' || sabotage === 'block';
    process.on('warning', this.#onWarning);
    this.#receiver = await ReceiverProcess.start(CHANNELS, seed, own ? '' : sabotage);
    await this.#rehearse();
    const before = openDescriptors();
    this.#started = performance.now();
    this.#last.starved = starvedMs();
    const workloads = WORKLOADS.map((workload, index) => this.#work(workload, index));
    const delay = new LoopDelay();
    await this.#watch(delay);
    delay.stop();
    const seconds = (performance.now() - this.#started) / 1000;
    await this.#look('calm');
    this.#over.abort();
    await this.#ended(Promise.all(workloads));
    const states = await this.#look('finish');
    const after = await this.#settledDescriptors(before);
    await this.#receiver.stop();
    process.off('warning', this.#onWarning);
    return this.#result(seconds, states, [before, after]);
  }

  /** What a process opens once, for good: koffi, the thread pool, and what the first worker opens for all. */
  async #rehearse(): Promise<void> {
    // Not a channel: nothing of this is owed.
    const path = `${this.#receiver.addressOf(WORKERS[0]!.channels[0]!)}-rehearsal`;
    const socket = DatagramSocket.open({ type: 'unix', bind: { path } });
    const bench = { over: AbortSignal.abort(), fail: (what: string) => this.#fail(what) };
    for (let count = 0; count < 2; count++) await runThread(bench, { way: 'offload', path, generation: 0 }, 0);
    socket.close();
  }

  async #work(workload: Workload, index: number): Promise<void> {
    const bench: Bench = {
      dice: new Dice(this.#options.seed * 1_000_003 + index),
      over: this.#over.signal,
      ledger: this.#ledger,
      workers: this.#workers,
      addressOf: (channel) => this.#receiver.addressOf(channel),
      expect: (...args) => this.#expectations.expect(...args),
      expectLatest: (...args) => this.#expectations.expectLatest(...args),
      fail: (what) => this.#fail(what),
    };
    try {
      await workload.run(bench);
    } catch (error) {
      this.#fail(`${workload.name} has failed: ${error instanceof Error ? error.stack : String(error)}`);
    }
  }

  /** Takes samples until the time is over. */
  async #watch(delay: LoopDelay): Promise<void> {
    const { seconds, signal } = this.#options;
    const everyMs = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, (seconds * 1000) / SAMPLES));
    for (let next = 1; next === 1 || (!signal.aborted && this.#elapsed() < seconds); next++) {
      const ms = Math.max(0, next * everyMs - this.#elapsed() * 1000);
      await sleep(ms, undefined, { signal }).catch(() => {});
      this.#sabotage(next);
      this.#sample(delay, await this.#look('look'));
    }
  }

  #sample(delay: LoopDelay, states: readonly ChannelState[]): void {
    const at = this.#elapsed();
    const totals = [...this.#ledger.totals().values()];
    const sent = sum(totals, (each) => each.sent + each.packed) + this.#workers.sent;
    const received = sum(states, (state) => state.received);
    const { rss, heapUsed, external, arrayBuffers } = memoryInUse();
    const seconds = at - this.#last.at;
    const starved = starvedMs();
    const sample: Sample = {
      at,
      rss,
      heapUsed,
      external,
      arrayBuffers,
      descriptors: openDescriptors(),
      queued: sum(totals, ({ queued }) => queued),
      sentPerSecond: (sent - this.#last.sent) / seconds,
      receivedPerSecond: (received - this.#last.received) / seconds,
      ...delay.take(),
      starved: Math.max(0, starved - this.#last.starved) / 1000 / seconds,
      stalled: states.filter(({ isStalled }) => isStalled).length,
      senders: this.#ledger.live,
      workers: this.#workers.live,
      workersStarted: this.#workers.started,
    };
    this.#last = { at, sent, received, starved };
    this.#samples.push(sample);
    this.#options.onSample(sample);
  }

  /** Asks the receiver, and compares what has become certain. */
  async #look(question: Question): Promise<readonly ChannelState[]> {
    const states = await this.#receiver.ask(question);
    for (const [index, state] of states.entries()) {
      this.#expectations.compare(CHANNELS[index]!, state, question === 'finish');
    }
    if (question === 'look') this.#checkProgress(new Map(states.map((state, index) => [CHANNELS[index]!.name, state])));
    return states;
  }

  /** A workload none of whose channels stalls has to bring something. */
  #checkProgress(states: ReadonlyMap<string, ChannelState>): void {
    for (const { name, channels } of WORKLOADS) {
      const idleMs = Math.min(...channels.map((channel) => states.get(channel.name)!.idleMs));
      this.#longestIdleMs = Math.max(this.#longestIdleMs, idleMs);
      if (idleMs > LIMITS.idleMs) {
        this.#idle.push(
          `${name}: nothing for ${idleMs.toFixed(0)} ms, ${this.#elapsed().toFixed(0)} s after the start`,
        );
      }
    }
  }

  async #ended(workloads: Promise<unknown>): Promise<void> {
    const timer = new AbortController();
    const tooLate = sleep(END_MS, 'late', { signal: timer.signal }).catch(() => '');
    if ((await Promise.race([workloads, tooLate])) === 'late') this.#fail('Not every workload has ended');
    timer.abort();
  }

  /** Threads and sockets that have just ended may take a moment to let go. */
  async #settledDescriptors(expected: number): Promise<number> {
    const until = performance.now() + DESCRIPTORS_MS;
    while (openDescriptors() !== expected && performance.now() < until) await sleep(50);
    return openDescriptors();
  }

  #result(seconds: number, states: readonly ChannelState[], descriptors: readonly [number, number]): SoakResult {
    const byChannel = new Map(states.map((state, index) => [CHANNELS[index]!.name, state]));
    const totals = this.#ledger.totals();
    const results = WORKLOADS.filter(({ name }) => totals.has(name)).map(
      (workload): WorkloadResult => ({
        workload,
        totals: totals.get(workload.name)!,
        told: this.#ledger.told(workload.name),
        states: workload.channels.map(({ name }) => byChannel.get(name)!),
      }),
    );
    const arrived = states.flatMap(({ violations, told }) =>
      violations > told.length ? [...told, `… and ${violations - told.length} more`] : told,
    );
    const received = sum(states, (state) => state.received);
    const count = (value: number): string => value.toLocaleString('en-US');
    const checks: Check[] = [
      checkNone(
        'arrivals',
        arrived,
        `${count(received)} datagrams and lines in order, once each, with their own bytes`,
      ),
      checkNone(
        'sent = received',
        [...results.flatMap(checkWorkload), ...this.#expectations.violations],
        `${results.length} workloads, ${count(this.#expectations.met)} senders and workers that came and went`,
      ),
      checkNone(
        'conservation',
        this.#ledger.violations,
        `at ${this.#samples.length} samples, and at the end of each sender`,
      ),
      checkNone(
        'progress',
        this.#idle,
        `no readable channel idle for longer than ${this.#longestIdleMs.toFixed(0)} ms (at most ${LIMITS.idleMs})`,
      ),
      checkNone('no failures', this.#failures, 'no error, warning or workload that did not end'),
      ...checkSamples(this.#samples, descriptors),
    ];
    return {
      ok: checks.every(({ ok }) => ok),
      seed: this.#options.seed,
      seconds,
      checks,
      samples: this.#samples,
      workloads: summaries(results, states, this.#workers),
    };
  }

  #sabotage(sample: number): void {
    const { sabotage } = this.#options;
    if (sabotage === 'leak') this.#kept.push(Buffer.alloc(1 << 20, sample));
    if (sabotage === 'descriptor' && sample === 2) openSync('/dev/null', 'r');
    const isLate = this.#elapsed() > this.#options.seconds / 2;
    if (sabotage === 'block' && isLate && this.#kept.length === 0) {
      this.#kept.push(Buffer.alloc(0));
      for (const until = performance.now() + BLOCK_MS; performance.now() < until; );
    }
  }

  readonly #onWarning = (warning: Error): void => this.#fail(`A warning: ${warning.message}`);

  #fail(what: string): void {
    this.#failures.push(`${what} (${this.#elapsed().toFixed(0)} s after the start)`);
  }

  #elapsed(): number {
    return (performance.now() - this.#started) / 1000;
  }
}

/** A line for each workload, and one for the workers, which have books of their own. */
function summaries(
  results: readonly WorkloadResult[],
  states: readonly ChannelState[],
  workers: WorkerFigures,
): WorkloadSummary[] {
  const receivedOf = (all: readonly ChannelState[]): number => sum(all, ({ received }) => received);
  const summary = results.map(
    (result): WorkloadSummary => ({
      name: result.workload.name,
      ...result.totals,
      received: receivedOf(result.states),
    }),
  );
  const names = new Set(WORKERS.flatMap(({ channels }) => channels.map(({ name }) => name)));
  const received = receivedOf(states.filter((_, index) => names.has(CHANNELS[index]!.name)));
  const nothing = { accepted: 0, rejected: 0, dropped: 0, conflated: 0, packed: 0, queued: 0, segments: 0 };
  const name = 'workers that are terminated (told before)';
  const rest = { droppedBy: {}, rejectedBy: {}, received, senders: workers.started, sent: workers.sent };
  return [...summary, { name, ...nothing, ...rest }];
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((total, value) => total + of(value), 0);
}
