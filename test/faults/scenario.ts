/** One experiment: what is sent, how, and what the system calls answer. */
import type { BatchOptions } from '../../src/index.ts';
import type { Rule } from './control.ts';
import type { Target } from './errnos.ts';

/** What does the sending: decided once in a process. */
export type Backend = 'sendmmsg' | 'sendmsg' | 'node:dgram';
export const BACKENDS: readonly Backend[] = ['sendmmsg', 'sendmsg', 'node:dgram'];

export interface Scenario {
  /** All that is needed to repeat it. */
  readonly id: string;
  readonly backend: Backend;
  readonly target: Target;
  /** Datagrams emitted. */
  readonly count: number;
  /** So many neighbours have one size and one destination. */
  readonly run: number;
  /** Above 1 only where the socket is not connected. */
  readonly destinations: number;
  readonly options: BatchOptions;
  readonly rules: readonly Rule[];
  /** Through the operator, or through a `BatchSender`, whose observer is told the same. */
  readonly through: 'operator' | 'sender';
  /** Datagrams emitted in one turn of the event loop. */
  readonly perTurn: number;
  /** How the source ends. */
  readonly end: 'complete' | 'error' | 'unsubscribe';
  /** Whether at least one error or short count must have come of the rules. */
  readonly mustStrike: boolean;
  /** Datagrams are emitted in one go, without a pace: the number of calls has a bound of its own. */
  readonly isPlain: boolean;
}

/** Where datagram `index` goes, counted from 0. */
export function destinationOf({ run, destinations }: Scenario, index: number): number {
  return Math.floor(index / run) % destinations;
}

/** Datagram `index`: its number, which the shim reads, the experiment, and filler. */
export function payloadOf({ run }: Scenario, index: number, tag: string): string {
  const size = 40 + 8 * (Math.floor(index / run) % 2);
  return `${index}:${tag}:`.padEnd(size, String.fromCharCode(97 + (index % 26)));
}
