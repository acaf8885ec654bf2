/** The ways of sending that the kernel suites run in: all must be alike, but for the number of calls. */
import type { BatchOptions } from '../../src/batch-options.ts';

export interface Mode {
  readonly name: string;
  readonly options: Partial<BatchOptions>;
}

export const MODES: readonly Mode[] = [{ name: 'plain', options: {} }];
