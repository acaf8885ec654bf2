/** Time that moves when a test says so, for `options.scheduler`. */
import { VirtualTimeScheduler } from 'rxjs';

export class VirtualTime extends VirtualTimeScheduler {
  constructor() {
    super(undefined, 0);
  }

  /** Runs what falls due in the next `ms` milliseconds. */
  advance(ms: number): void {
    this.maxFrames = this.frame + ms;
    this.schedule(() => undefined, ms);
    this.flush();
  }

  /** Timers that are armed. */
  get armed(): number {
    return this.actions.filter((action) => !action.closed).length;
  }
}
