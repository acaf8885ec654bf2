/** What a workload is, and what it has to work with. */
import { once } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import type { BatchObserver, BatchOptions, BatchReport, DatagramLike, DropReason } from '../../src/index.ts';
import { BatchSender, DatagramSocket } from '../../src/index.ts';
import type { Dice } from '../faults/random.ts';
import type { Channel } from './channel.ts';
import type { Ledger } from './ledger.ts';

/** One way to use the library, for as long as the soak lasts. */
export interface Workload {
  readonly name: string;
  readonly channels: readonly Channel[];
  /** Why its datagrams may be dropped; they must not be for any other reason. */
  readonly mayDrop?: readonly DropReason[];
  /** The codes of the errors that they may be rejected for. */
  readonly mayReject?: readonly string[];
  /** Whether its observers are told less than the senders have done: it unsubscribes. */
  readonly isSilenced?: boolean;
  /** Ends in an orderly way, and soon, once `bench.over` is aborted. */
  run(bench: Bench): Promise<void>;
}

/** What the soak gives to a workload. */
export interface Bench {
  readonly dice: Dice;
  readonly over: AbortSignal;
  readonly ledger: Ledger;
  /** The path of a unix channel, or the port on 127.0.0.1 of a UDP channel. */
  addressOf(channel: Channel): string | number;
  /** Of a generation on a `'prefix'` channel this many must arrive, no fewer and no more. */
  expect(channel: Channel, generation: number, least: number, most: number): void;
  /** Of a `'latest'` channel: the last number of each key that was emitted. */
  expectLatest(channel: Channel, lastByKey: readonly number[]): void;
  fail(what: string): void;
  readonly workers: WorkerFigures;
}

/** The worker threads, which have books of their own. */
export class WorkerFigures {
  started: number = 0;
  #sent = 0;
  readonly #live = new Set<() => number>();

  /**
   * One more of them.
   *
   * @param sent - what it was told was sent, up to now
   * @returns to be called when it has ended
   */
  join(sent: () => number): () => void {
    this.started++;
    this.#live.add(sent);
    return () => {
      this.#live.delete(sent);
      this.#sent += sent();
    };
  }

  get live(): number {
    return this.#live.size;
  }

  /** Of all, those that have ended among them. */
  get sent(): number {
    let sum = this.#sent;
    for (const sent of this.#live) sum += sent();
    return sum;
  }
}

/** Datagrams in a turn of the event loop of one who has other things to do. */
const PER_TURN = 100;
/** The reader stalls, but not for so long. */
export const PATIENT_MS = 60_000;

/** A socket connected to a channel, whose sender is the workload's. */
export function connectedTo(bench: Bench, owner: string, channel: Channel): () => DatagramSocket {
  const address = bench.addressOf(channel);
  return () => {
    bench.ledger.claim(owner);
    return open(address);
  };
}

export function open(address: string | number): DatagramSocket {
  return typeof address === 'string'
    ? DatagramSocket.open({ type: 'unix', connect: { path: address } })
    : DatagramSocket.open({ connect: { address: '127.0.0.1', port: address } });
}

/** A sender that tells the ledger. */
export function senderOf(
  bench: Bench,
  owner: string,
  socket: DatagramSocket,
  options: BatchOptions,
  onReport?: (report: BatchReport) => void,
): BatchSender {
  const observer: BatchObserver = {
    next: (report) => {
      bench.ledger.tell(owner, report);
      onReport?.(report);
    },
    error: (error) => bench.fail(`${owner} has failed: ${String(error)}`),
  };
  bench.ledger.claim(owner);
  return new BatchSender(socket, { drainTimeoutMs: PATIENT_MS, ...options }, observer);
}

/** Sends as fast as there is room. */
export async function sendEagerly(
  { over }: Pick<Bench, 'over'>,
  sender: BatchSender,
  datagramOf: (sequence: number) => DatagramLike,
): Promise<number> {
  let sequence = 0;
  while (!over.aborted) {
    if (!sender.send(datagramOf(sequence++))) await sender.ready();
    if (sequence % PER_TURN === 0) await turn();
  }
  return sequence;
}

/** Sends so many every few milliseconds, room or not. */
export async function sendSteadily(
  { over }: Pick<Bench, 'over'>,
  sender: BatchSender,
  { everyMs, count }: { readonly everyMs: number; readonly count: number },
  datagramOf: (sequence: number) => DatagramLike,
): Promise<number> {
  let sequence = 0;
  while (!over.aborted) {
    for (let more = 0; more < count; more++) sender.send(datagramOf(sequence++));
    await sleep(everyMs);
  }
  return sequence;
}

/** Until the soak is over, or for so long. */
export async function pause({ over }: Pick<Bench, 'over'>, ms: number): Promise<void> {
  if (over.aborted) return;
  const timer = new AbortController();
  await Promise.race([sleep(ms, undefined, { signal: timer.signal }), once(over, 'abort', { signal: timer.signal })]);
  timer.abort();
}
