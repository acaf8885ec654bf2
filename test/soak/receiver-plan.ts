/** What the reader is told to do, is asked, and answers. */
import type { Channel } from './channel.ts';

export interface ReceiverPlan {
  readonly channels: readonly Channel[];
  /** Of the unix channels; `''` for the others. */
  readonly paths: readonly string[];
  readonly seed: number;
  /** What to do wrong, to see that it is seen. */
  readonly sabotage: Sabotage | '';
}

/** What this reader can pretend to have happened to the 1000th datagram of the first channel. */
export type Sabotage = 'lose' | 'double' | 'swap' | 'alter';

/**
 * - `'look'`: how things stand
 * - `'calm'`: no stalls any more, and all paths bound; then as `'look'`
 * - `'finish'`: read what there is to the end; then as `'look'`, the last generations included
 */
export type Question = 'look' | 'calm' | 'finish';

export interface ChannelState {
  readonly received: number;
  readonly bytes: number;
  /** How long it has been ready to read, and nothing came, ms. */
  readonly idleMs: number;
  readonly isStalled: boolean;
  readonly violations: number;
  readonly told: readonly string[];
  readonly ended: readonly (readonly [generation: number, received: number])[];
  readonly lastByKey: readonly number[];
  /** How often it has gone away and come back. */
  readonly returns: number;
}
