/**
 * Injectable time: the only place that knows timers. The sender arms one timer at a time.
 */
import type { SchedulerLike } from 'rxjs';

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
export class Waits {
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

/** The event loop's own monotonic timers, each one of `waits`. */
export function eventLoopClockOf(waits: Waits): Clock {
  return {
    now: () => performance.now(),
    after(ms, task) {
      if (ms === 0) {
        // This is no wait: the turn comes to its end before the process may.
        const immediate = setImmediate(task);
        return () => clearImmediate(immediate);
      }
      const timer = setTimeout(() => {
        waits.delete(timer);
        task();
      }, ms);
      waits.add(timer);
      return () => {
        waits.delete(timer);
        clearTimeout(timer);
      };
    },
  };
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
