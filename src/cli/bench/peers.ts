/**
 * Who takes part in a comparison: how to run each sender as a process of its own.
 */
import { fileURLToPath } from 'node:url';
import type { BatchOptions } from '../../sender/batch-options.ts';
import type { Kind, ReceiverMode } from './report.ts';
import type { Workload } from './workload.ts';

/** A sender under test. */
export interface Peer {
  readonly name: string;
  /** Of rx-sendmmsg: its options. */
  readonly options?: BatchOptions;
  /** Of rx-sendmmsg: what an older version does not know. */
  readonly feature?: 'order' | 'segmentSize';
  /** What it needs that may be missing. */
  readonly needs?: 'cc' | 'bun' | 'hot-shots' | 'udx-native' | 'unix-dgram';
  /** The command that sends `workload`. */
  command(workload: Workload): readonly string[];
}

/** A workload with its senders, in the order of the table. */
export interface Entry {
  readonly kind: Kind;
  readonly receivers: readonly ReceiverMode[];
  readonly shape: Omit<Workload, 'port' | 'path' | 'seconds'>;
  readonly isUnix?: boolean;
  readonly peers: readonly Peer[];
}

/** Runs a compiled script with an argument and the workload. */
export function script(url: URL, argument: object | string, ...flags: readonly string[]): Peer['command'] {
  const text = typeof argument === 'string' ? argument : JSON.stringify(argument);
  return (workload) => [process.execPath, ...flags, fileURLToPath(url), text, JSON.stringify(workload)];
}

export const label = (base: string, ...details: readonly (string | false)[]): string =>
  [base, ...details.filter((detail) => detail !== false)].join(', ');

const OPERATOR = new URL('./senders/operator.js', import.meta.url);

/** rx-sendmmsg, through its operator. */
export function operatorPeer(detail: string | false = false, options: BatchOptions = {}): Peer {
  return { name: label('rx-sendmmsg', detail), options, command: script(OPERATOR, { options }) };
}

/** The same, with the two parts of a payload made one: once before, or for each datagram. */
export function joinedPeer(joined: 'before' | 'each', options: BatchOptions = {}): Peer {
  const detail = joined === 'before' ? 'flat' : 'Buffer.concat';
  return { name: label('rx-sendmmsg', detail), options, command: script(OPERATOR, { options, joined }) };
}

/** The chain of operators of {@link operatorPeer} by itself: it sends nothing. */
export const CHAIN = 'RxJS chain alone';
export function chainPeer(): Peer {
  return { name: CHAIN, command: script(OPERATOR, { options: {}, isChainOnly: true }) };
}

/** `node:dgram`; connected only where there is one destination. */
export function dgramPeer(connection: 'connected' | 'unconnected'): Peer {
  const url = new URL('./senders/dgram.js', import.meta.url);
  return { name: label('node:dgram', connection === 'connected' && connection), command: script(url, connection) };
}
