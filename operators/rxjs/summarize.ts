import {
  asyncScheduler,
  defer,
  dematerialize,
  EMPTY,
  interval,
  materialize,
  merge,
  mergeMap,
  type ObservableInput,
  type ObservableNotification,
  type OperatorFunction,
  type SchedulerLike,
} from 'rxjs';
import { argumentTypeError, outOfRangeError } from '../../src/kernel/errors.ts';
import type { BatchReport } from '../../src/message/datagram.ts';

/**
 * What happened in one interval. Rates are those of the time that has really passed, so a late timer does not bend them.
 *
 * @example
 * ```ts
 * import type { BatchSummary } from 'rx-sendmmsg';
 * const line = ({ datagramsPerSecond, meanBatch, queued }: BatchSummary): string =>
 *   `${datagramsPerSecond.toFixed(0)} datagrams/s, ${meanBatch.toFixed(1)} a call, ${queued} queued`;
 * ```
 * @see {@link BatchReport}, of which it is the sum
 */
export interface BatchSummary {
  /** Time that has passed since the last summary, ms: `intervalMs`, more where the timer was late, less at the end. */
  readonly durationMs: number;
  /** Reports in it: flushes that did something. */
  readonly reports: number;
  /** Datagrams taken by the kernel. */
  readonly sent: number;
  /** Payload bytes taken by the kernel. */
  readonly bytes: number;
  /** sendmmsg(2) calls made. */
  readonly syscalls: number;
  /** Datagrams dropped. */
  readonly dropped: number;
  /** Datagrams that a newer one with the same key has replaced. */
  readonly conflated: number;
  /** Datagrams rejected. */
  readonly rejected: number;
  /** Late errors (ICMP) of datagrams that count as sent: above 0, nobody listens there. */
  readonly pendingErrors: number;
  /** `sent` per second; like all rates, 0 if no time has passed. */
  readonly datagramsPerSecond: number;
  /** `bytes` per second. */
  readonly bytesPerSecond: number;
  /** `syscalls` per second. */
  readonly syscallsPerSecond: number;
  /** Datagrams a call; 0 if there was none. */
  readonly meanBatch: number;
  /** Datagrams that the last report, of this interval or an earlier one, left in the queue: `requeued`. */
  readonly queued: number;
}

/** The longest that setInterval takes. */
const MAX_INTERVAL_MS = 2 ** 31 - 1;

/**
 * Sums up the reports of each interval, with rates: what to log, or to draw.
 *
 * There is a summary at the end of every interval, quiet ones too. When the source completes or errors, a last one tells of
 * the reports since, if there are any, so no report is left out; on unsubscribe nothing more is told. Memory is constant.
 *
 * @param intervalMs - 1 to 2 147 483 647 ms
 * @param scheduler - time for the intervals; default: RxJS's `asyncScheduler`, whose timer keeps the process alive until the
 * source ends or is unsubscribed from
 * @returns an operator; its output errors only if the source does
 * @throws SendmmsgError `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`
 * @example
 * ```ts
 * import { interval, map, take } from 'rxjs';
 * import { DatagramSocket, sendmmsg, summarize } from 'rx-sendmmsg';
 * interval(1)
 *   .pipe(
 *     take(5000),
 *     map((n) => `ticks:${n}|g`),
 *     sendmmsg(() => DatagramSocket.open({ connect: { address: '127.0.0.1', port: 8125 } }), { flushAfterMs: 20 }),
 *     summarize(1000),
 *   )
 *   .subscribe(({ datagramsPerSecond, meanBatch }) => console.log(datagramsPerSecond, meanBatch));
 * ```
 * @see {@link https://rxjs.dev/api/operators/bufferTime | RxJS bufferTime}, which cuts time in the same way
 */
export function summarize(
  intervalMs: number,
  scheduler: SchedulerLike = asyncScheduler,
): OperatorFunction<BatchReport, BatchSummary> {
  if (typeof intervalMs !== 'number') throw argumentTypeError('"intervalMs"', 'a number', intervalMs);
  if (!(intervalMs >= 1 && intervalMs <= MAX_INTERVAL_MS)) {
    throw outOfRangeError('"intervalMs"', `milliseconds >= 1 and <= ${MAX_INTERVAL_MS}`, intervalMs);
  }
  if (typeof scheduler?.schedule !== 'function' || typeof scheduler.now !== 'function') {
    throw argumentTypeError('"scheduler"', 'an RxJS scheduler', scheduler);
  }
  return (source) =>
    defer(() => {
      const tally = new Tally(scheduler);
      return merge(interval(intervalMs, scheduler), source.pipe(materialize())).pipe(
        mergeMap((event): ObservableInput<ObservableNotification<BatchSummary>> => {
          if (typeof event === 'number') return [tally.take()];
          if (event.kind !== 'N') return tally.isEmpty ? [event] : [tally.take(), event];
          tally.add(event.value);
          return EMPTY;
        }),
        dematerialize(),
      );
    });
}

/** The sums of an interval under way. */
class Tally {
  readonly #scheduler: SchedulerLike;
  #since: number;
  #reports = 0;
  #sent = 0;
  #bytes = 0;
  #syscalls = 0;
  #dropped = 0;
  #conflated = 0;
  #rejected = 0;
  #pendingErrors = 0;
  #queued = 0;

  constructor(scheduler: SchedulerLike) {
    this.#scheduler = scheduler;
    this.#since = scheduler.now();
  }

  get isEmpty(): boolean {
    return this.#reports === 0;
  }

  add(report: BatchReport): void {
    this.#reports++;
    this.#sent += report.sent;
    this.#bytes += report.bytes;
    this.#syscalls += report.syscalls;
    this.#dropped += report.dropped;
    this.#conflated += report.conflated;
    this.#rejected += report.rejected.length;
    this.#pendingErrors += report.pendingErrors;
    this.#queued = report.requeued;
  }

  /** The summary as a notification, and an interval anew. */
  take(): ObservableNotification<BatchSummary> {
    const now = this.#scheduler.now();
    // asyncScheduler goes by the wall clock, which may be set back.
    const durationMs = Math.max(0, now - this.#since);
    const perSecond = (count: number): number => (durationMs === 0 ? 0 : (count * 1000) / durationMs);
    const value = Object.freeze({
      durationMs,
      reports: this.#reports,
      sent: this.#sent,
      bytes: this.#bytes,
      syscalls: this.#syscalls,
      dropped: this.#dropped,
      conflated: this.#conflated,
      rejected: this.#rejected,
      pendingErrors: this.#pendingErrors,
      datagramsPerSecond: perSecond(this.#sent),
      bytesPerSecond: perSecond(this.#bytes),
      syscallsPerSecond: perSecond(this.#syscalls),
      meanBatch: this.#syscalls === 0 ? 0 : this.#sent / this.#syscalls,
      queued: this.#queued,
    });
    this.#since = now;
    this.#reports = this.#sent = this.#bytes = this.#syscalls = this.#dropped = this.#conflated = this.#rejected = 0;
    this.#pendingErrors = 0;
    return { kind: 'N', value };
  }
}
