/** The ways of sending that the kernel suites run in: all must be alike, but for the number of calls. */
import type { BatchOptions } from '../../src/batch-options.ts';

export interface Mode {
  readonly name: string;
  readonly options: Partial<BatchOptions>;
}

export const MODES: readonly Mode[] = [
  { name: 'gso off', options: { gso: 'off' } },
  { name: 'gso auto', options: { gso: 'auto' } },
  { name: 'gso off, offload', options: { gso: 'off', offload: true } },
  { name: 'gso auto, offload', options: { gso: 'auto', offload: true } },
];
