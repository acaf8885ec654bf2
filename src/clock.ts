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

/** The event loop's own monotonic timers. They keep the process alive, as queued datagrams must. */
export const eventLoopClock: Clock = {
  now: () => performance.now(),
  after(ms, task) {
    if (ms === 0) {
      const immediate = setImmediate(task);
      return () => clearImmediate(immediate);
    }
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};

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
