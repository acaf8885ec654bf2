/** The ways of sending that the kernel suites run in: all must be alike, but for the number of calls. */
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BACKEND } from './backend.ts';

export interface Mode {
  readonly name: string;
  readonly options: Partial<BatchOptions>;
}

const NATIVE_MODES: readonly Mode[] = [
  { name: 'gso off', options: { gso: 'off' } },
  { name: 'gso auto', options: { gso: 'auto' } },
  { name: 'gso off, offload', options: { gso: 'off', offload: true } },
  { name: 'gso auto, offload', options: { gso: 'auto', offload: true } },
];

/** Through node:dgram there is one way only. */
export const MODES: readonly Mode[] = BACKEND === 'node:dgram' ? [{ name: BACKEND, options: {} }] : NATIVE_MODES;
