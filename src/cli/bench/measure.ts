/**
 * The clocks of a sender process: time, the CPU time of its main thread, memory. Knows nothing of what is sent, and runs on
 * Bun, too.
 */
import { readFileSync } from 'node:fs';
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { MemoryResult, SenderResult, Workload } from './workload.ts';

/** The workload in the last argument. */
export function readWorkload(): Workload {
  return JSON.parse(process.argv.at(-1)!) as Workload;
}

/** Sends until `isOver()`, and resolves with the number of datagrams sent. Asks every 1000 datagrams or so. */
export type Send = (isOver: () => boolean) => Promise<number>;
type Details = () => Partial<SenderResult>;

/**
 * A quarter of the time, and enough for the compilers of V8 and of Bun: at 5 us a datagram (no GSO), the operator is slower than
 * it will be for a second.
 */
export const warmUpMs = ({ seconds }: Workload): number => Math.max(seconds * 250, 1000);

/** Sends until the time is up, after a warm-up; prints the result. Or again and again, where that is asked for. */
export async function measure(
  workload: Workload,
  send: Send,
  details: Details = () => ({}),
  warmUpFor: number = warmUpMs(workload),
): Promise<void> {
  const sendFor = (ms: number): Promise<SenderResult> => timed((start) => send(() => performance.now() - start >= ms));
  const warmUp = await sendFor(warmUpFor);
  if (workload.onDemand) {
    print({ ...warmUp, ...details() });
    for await (const _ of createInterface({ input: process.stdin })) print(await sendFor(workload.seconds * 1000));
    return;
  }
  const result = await sendFor(workload.seconds * 1000);
  print({ ...result, total: warmUp.datagrams + result.datagrams, ...details() });
}

/** Sends `workload.datagrams` in slices, after a warm-up of a tenth of it; prints the result. Needs --expose-gc. */
export async function measureMemory(
  workload: Workload,
  sendSlice: (count: number) => Promise<void>,
  details: Details = () => ({}),
): Promise<void> {
  const sendAll = async (count: number): Promise<number> => {
    for (let left = count; left > 0; left -= SLICE) {
      await sendSlice(Math.min(SLICE, left));
      await nextTurn();
    }
    return count;
  };
  if (workload.onDemand) {
    return measure(workload, async (isOver) => {
      let sent = 0;
      while (!isOver()) sent += await sendAll(SLICE);
      return sent;
    });
  }
  const datagrams = workload.datagrams!;
  const warmUp = await sendAll(Math.ceil(datagrams / 10));
  const before = settledMemory();
  const collections = watchCollections();
  const result = await timed(() => sendAll(datagrams));
  await nextTurn(); // the observer is told in a later turn
  await nextTurn();
  const gc = collections();
  const after = settledMemory();
  const memory: MemoryResult = {
    heapBytes: after.heapUsed - before.heapUsed,
    externalBytes: after.external - before.external,
    rssBytes: after.rss - before.rss,
    ...gc,
  };
  print({ ...result, total: warmUp + datagrams, memory, ...details() });
}
const SLICE = 16_384;

/**
 * CPU time of the main thread alone, seconds: the time on the CPU in its schedstat, system calls included. The thread pool
 * and the garbage collector's helpers are threads of their own. The first thread's id is that of the process.
 *
 * @see {@link https://docs.kernel.org/scheduler/sched-stats.html | sched-stats, /proc/<pid>/schedstat}
 */
export function mainThreadSeconds(): number | null {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1e9;
  } catch {
    return null; // no CONFIG_SCHED_INFO
  }
}

/**
 * Keeps 64 datagrams in flight with an API that calls back for each; resolves with the number sent.
 *
 * @param sendOne - must not call back before it returns
 */
export function keepInFlight(
  sendOne: (n: number, done: (error?: Error | null) => void) => void,
  isOver: () => boolean,
): Promise<number> {
  return new Promise((resolve, reject) => {
    let begun = 0;
    let done = 0;
    let hasEnded = false;
    const next = (): void => {
      if (begun % IN_FLIGHT === 0) hasEnded ||= isOver();
      if (!hasEnded) sendOne(begun++, onSent);
      else if (done === begun) resolve(done);
    };
    const onSent = (error?: Error | null): void => {
      if (error) return reject(error);
      done++;
      next();
    };
    for (let n = 0; n < IN_FLIGHT; n++) next();
  });
}
const IN_FLIGHT = 64;

export function print(result: SenderResult): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

async function timed(send: (start: number) => Promise<number>): Promise<SenderResult> {
  const busy = mainThreadSeconds();
  const cpu = process.cpuUsage();
  const start = performance.now();
  const datagrams = await send(start);
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const busyNow = mainThreadSeconds();
  const busySeconds = busy === null || busyNow === null ? null : busyNow - busy;
  return { datagrams, seconds, busySeconds, cpuSeconds: (user + system) / 1e6 };
}

/** Memory after a full collection: what is left is held by something. */
function settledMemory(): NodeJS.MemoryUsage {
  globalThis.gc!();
  globalThis.gc!();
  return process.memoryUsage();
}

/** As Node documents it, and its types of version 20 do not. */
interface GcEntry {
  readonly duration: number;
  readonly detail: { readonly kind: number };
}

/** Counts collections from now until asked. */
function watchCollections(): () => Pick<MemoryResult, 'gcSeconds' | 'minorCollections' | 'majorCollections'> {
  let milliseconds = 0;
  let minorCollections = 0;
  let majorCollections = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { duration, detail } of list.getEntries() as unknown as GcEntry[]) {
      milliseconds += duration;
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) majorCollections++;
      else if (detail.kind === constants.NODE_PERFORMANCE_GC_MINOR) minorCollections++;
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  return () => {
    observer.disconnect();
    return { gcSeconds: milliseconds / 1000, minorCollections, majorCollections };
  };
}
