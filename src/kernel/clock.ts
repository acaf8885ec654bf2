/**
 * Injectable time: the only place that knows timers. The sender arms one timer at a time.
 */

/** Disarms a timer; does nothing once it has fired. */
export type Disarm = () => void;

/** Monotonic milliseconds and one-shot timers. */
export interface Clock {
  /** Milliseconds from a fixed point; never runs backwards. */
  now(): number;
  /** Runs `task` after `ms` milliseconds; 0 means the end of this event-loop turn. */
  after(ms: number, task: () => void): Disarm;
}

/** What the event loop may be kept alive by: a timer, a poll. */
export interface Wait {
  ref(): unknown;
  unref(): unknown;
}

/** All that the senders of one socket wait for at an instant, and whether it keeps the process alive. It does at first. */
export class KeepAlive {
  #isRef = true;
  readonly #waits = new Set<Wait>();

  add(wait: Wait): void {
    this.#waits.add(wait);
    if (!this.#isRef) wait.unref();
  }

  delete(wait: Wait): void {
    this.#waits.delete(wait);
  }

  ref(): void {
    this.#isRef = true;
    for (const wait of this.#waits) wait.ref();
  }

  unref(): void {
    this.#isRef = false;
    for (const wait of this.#waits) wait.unref();
  }
}

/** The event loop's own monotonic timers, each kept by `keepAlive`. */
export function eventLoopClockOf(keepAlive: KeepAlive): Clock {
  return {
    now: () => performance.now(),
    after(ms, task) {
      if (ms === 0) {
        // This is no wait: the turn comes to its end before the process may.
        const immediate = setImmediate(task);
        return () => clearImmediate(immediate);
      }
      const timer = setTimeout(() => {
        keepAlive.delete(timer);
        task();
      }, ms);
      keepAlive.add(timer);
      return () => {
        keepAlive.delete(timer);
        clearTimeout(timer);
      };
    },
  };
}

/**
 * A source of time, shaped as an RxJS scheduler, so that any of those will do; rxjs itself is not needed for it.
 *
 * @example
 * ```ts
 * import type { SchedulerLike } from 'rx-sendmmsg/streams';
 * const everySecondLasts: SchedulerLike = {
 *   now: () => performance.now() * 1000,
 *   schedule(work, delayMs = 0) {
 *     const timer = setTimeout(work, delayMs / 1000);
 *     return { unsubscribe: () => clearTimeout(timer) };
 *   },
 * };
 * ```
 * @see {@link https://rxjs.dev/api/index/interface/SchedulerLike | RxJS, SchedulerLike}
 */
export interface SchedulerLike {
  /** Milliseconds from a fixed point; must never run backwards. */
  now(): number;
  /** Runs `work` once, after `delayMs` milliseconds (default 0), unless unsubscribed before. */
  schedule(work: () => void, delayMs?: number): { unsubscribe(): void };
}

/** The time of an RxJS scheduler, virtual time included. */
export function schedulerClock(scheduler: SchedulerLike): Clock {
  return {
    now: () => scheduler.now(),
    after(ms, task) {
      const subscription = scheduler.schedule(() => task(), ms);
      return () => subscription.unsubscribe();
    },
  };
}
