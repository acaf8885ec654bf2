/** What is looked at again and again while the soak runs. */
import { readdirSync, readFileSync } from 'node:fs';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

export interface Sample {
  /** Seconds since the start. */
  readonly at: number;
  /** Bytes, of the process, behind a garbage collection: the queues of senders that have ended would be most of it. */
  readonly rss: number;
  readonly heapUsed: number;
  readonly external: number;
  readonly arrayBuffers: number;
  readonly descriptors: number;
  /** Datagrams in all queues of the main thread. */
  readonly queued: number;
  /** Datagrams a second since the sample before, workers included. */
  readonly sentPerSecond: number;
  readonly receivedPerSecond: number;
  /** Lateness of the event loop since the sample before, ms. */
  readonly delayP50: number;
  readonly delayP99: number;
  readonly delayMax: number;
  /** Share of the time since the sample before that the main thread was ready to run and had no core, 0 to 1. */
  readonly starved: number;
  /** Channels whose reader stalls, or is away. */
  readonly stalled: number;
  readonly senders: number;
  readonly workers: number;
  /** Workers that have been started, ever. */
  readonly workersStarted: number;
}

const RESOLUTION_MS = 5;

/** How late the event loop is: its histogram holds the intervals of a timer, of which the timer's own are taken off. */
export class LoopDelay {
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });

  constructor() {
    this.#histogram.enable();
  }

  /** Since the last time. */
  take(): { delayP50: number; delayP99: number; delayMax: number } {
    const late = (ns: number): number => Math.max(0, ns / 1e6 - RESOLUTION_MS);
    const isEmpty = this.#histogram.count === 0;
    const result = {
      delayP50: isEmpty ? 0 : late(this.#histogram.percentile(50)),
      delayP99: isEmpty ? 0 : late(this.#histogram.percentile(99)),
      delayMax: isEmpty ? 0 : late(this.#histogram.max),
    };
    this.#histogram.reset();
    return result;
  }

  stop(): void {
    this.#histogram.disable();
  }
}

/** How long the calling thread was ready to run and had no core, ever, ms; 0 where the kernel does not say. */
export function starvedMs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is in use: what nobody can reach any more is given back before. */
export function memoryInUse(): NodeJS.MemoryUsage {
  collectGarbage();
  return process.memoryUsage();
}

export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
