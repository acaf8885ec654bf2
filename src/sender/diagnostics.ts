/**
 * What a sender has done since it was made: counters, their public snapshot, and the diagnostics channels.
 */
import { channel } from 'node:diagnostics_channel';
import type { Backend } from '../kernel/backend.ts';
import { warnOfOverflow, warnOfRejection } from '../kernel/warnings.ts';
import type { BatchReport, RejectedDatagram } from '../message/datagram.ts';
import type { GsoLatch } from '../queue/gso.ts';
import type { Transport } from '../socket/transport.ts';
import type { ResolvedBatchOptions } from './batch-options.ts';
import type { FlushLoop } from './flush.ts';
import type { Lane } from './lane.ts';

/** Why a datagram that was accepted was neither sent nor rejected. */
export type DropReason = 'overflow' | 'age' | 'drainTimeout' | 'teardown' | 'failure';

/**
 * Totals of one sender (one subscription), in datagrams and bytes; a frozen snapshot.
 *
 * `accepted = sent + rejected + dropped + conflated + packed + queued` holds in every snapshot.
 *
 * @example
 * ```ts
 * import { BatchSender, DatagramSocket } from 'rx-sendmmsg';
 * const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
 * const sender = new BatchSender(socket);
 * sender.send('ping');
 * sender.flush();
 * console.log(sender.stats.sent, sender.stats.syscalls); // 1 1
 * await sender.close();
 * socket.close();
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 */
export interface SenderStats {
  /** `'sendmmsg'`, or what does the sending where that is not to be had: `'sendmsg'`, `'node:dgram'`. */
  readonly backend: Backend;
  /** Datagrams that were emitted, valid or not; of a payload that is cut (`segmentSize`), each. */
  readonly accepted: number;
  /** Datagrams taken by the kernel. */
  readonly sent: number;
  /** Datagrams refused, by validation or by the kernel. */
  readonly rejected: number;
  /** The same by the `code` of the error (`EMSGSIZE`, `ERR_SOCKET_BAD_PORT`, …), datagrams; only codes that occurred. */
  readonly rejectedBy: Readonly<Record<string, number>>;
  /** Datagrams dropped, for any reason. */
  readonly dropped: number;
  /** The same by reason, datagrams. */
  readonly droppedBy: Readonly<Record<DropReason, number>>;
  /** Datagrams that a newer one with the same key has replaced while they were queued; see `conflateBy`. */
  readonly conflated: number;
  /** Lines that went into the datagram of an earlier one, and share its fate; see `pack`. */
  readonly packed: number;
  /** Datagrams queued now. */
  readonly queued: number;
  /** Payload bytes queued now. */
  readonly queuedBytes: number;
  /** Payload bytes taken by the kernel. */
  readonly bytes: number;
  /** sendmmsg(2) calls made; where `backend` is another, sendmsg(2) calls, or datagrams handed to node:dgram. */
  readonly syscalls: number;
  /**
   * How full the batches were: calls that took at least one datagram, by how many they took. 12 buckets, each call in one:
   * up to 1, 2, 4, 8, … 1024 datagrams (`[n]` counts those above 2^(n-1) and up to 2^n), and, last, above 1024 (with GSO).
   */
  readonly batchSizes: readonly number[];
  /** Calls that took fewer messages than they were given. */
  readonly shortCounts: number;
  /** Calls answered with EAGAIN. */
  readonly wouldBlocks: number;
  /** Calls answered with ENOBUFS or ENOMEM. */
  readonly backoffs: number;
  /**
   * Milliseconds of waiting for the kernel after one of these answers, EAGAIN, ENOBUFS or ENOMEM; of a wait under way, up
   * to now. Lanes that wait at the same time add up.
   */
  readonly blockedMs: number;
  /** Errors that came in late, for an earlier datagram (ICMP); that datagram counts as sent. */
  readonly pendingErrors: number;
  /** UDP GSO: what went out in segmented messages, and where it is latched off because the kernel refused it. */
  readonly gso: GsoStats;
}

/**
 * How UDP GSO fares on a socket.
 *
 * @example
 * ```ts
 * import { BatchSender, DatagramSocket } from 'rx-sendmmsg';
 * const { state, destinationsOff } = new BatchSender(DatagramSocket.open()).stats.gso;
 * console.log(state, destinationsOff); // on 0
 * ```
 * @see {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7), UDP_SEGMENT}
 */
export interface GsoStats {
  /** `'off'`: not used here; `'latched'`: refused for this socket (EIO), to be tried again after a minute. */
  readonly state: 'on' | 'off' | 'latched';
  /** Destinations for which it was refused (segments over the MTU), to be tried again after a minute. */
  readonly destinationsOff: number;
  /** Segmented `mmsghdr`s taken. */
  readonly messages: number;
  /** Datagrams that they held. */
  readonly segments: number;
}

/**
 * What is published on the channels of `node:diagnostics_channel`, by the name of the channel.
 *
 * `sender` is the same object in all messages of one sender (one subscription of the operator), and its `stats` may be read
 * at any time, also between reports and after the end. Every `open` has its `close`, once all is accounted for; a
 * `BatchSender` that nobody closes has none. A channel without subscribers costs nothing.
 *
 * @example
 * ```ts
 * import { subscribe } from 'node:diagnostics_channel';
 * import type { DiagnosticsMessages } from 'rx-sendmmsg';
 * subscribe('rx-sendmmsg:close', (message) => {
 *   const { stats } = message as DiagnosticsMessages['rx-sendmmsg:close'];
 *   if (stats.dropped > 0) console.warn('dropped', stats.droppedBy);
 * });
 * ```
 * @see {@link https://nodejs.org/api/diagnostics_channel.html | Node.js diagnostics_channel}
 */
export interface DiagnosticsMessages {
  /** A sender was made; nothing has been sent yet. */
  readonly 'rx-sendmmsg:open': {
    /** The sender; keep it to ask for its totals. */
    readonly sender: { readonly stats: SenderStats };
  };
  /** A report, just before the observer gets it. */
  readonly 'rx-sendmmsg:report': {
    readonly sender: { readonly stats: SenderStats };
    /** What happened since the last report. */
    readonly report: BatchReport;
    /** Totals, this report included. */
    readonly stats: SenderStats;
  };
  /** A sender has ended. */
  readonly 'rx-sendmmsg:close': {
    readonly sender: { readonly stats: SenderStats };
    /** Final totals: nothing is queued any more; what was at an unsubscribe is in `droppedBy.teardown`. */
    readonly stats: SenderStats;
  };
}

export const OPEN_CHANNEL = 'rx-sendmmsg:open';
export const REPORT_CHANNEL = 'rx-sendmmsg:report';
export const CLOSE_CHANNEL = 'rx-sendmmsg:close';

const NONE_REJECTED: readonly RejectedDatagram[] = Object.freeze([]);
const openChannel = channel(OPEN_CHANNEL);
const reportChannel = channel(REPORT_CHANNEL);
const closeChannel = channel(CLOSE_CHANNEL);

/** What a sender has at this moment. */
interface Queued {
  readonly lanes: readonly Lane[];
  readonly queued: number;
  readonly queuedBytes: number;
  readonly packed: number;
  readonly conflated: number;
}

/** The counters of a sender, and what its next report will say. */
export class SenderCounters {
  /** What was emitted, and what of it is more than a datagram each (`segmentSize`). */
  inputs = 0;
  extra = 0;
  readonly droppedBy: Record<DropReason, number> = { overflow: 0, age: 0, drainTimeout: 0, teardown: 0, failure: 0 };
  #sent = 0;
  #bytes = 0;
  #syscalls = 0;
  #rejected = 0;
  readonly #rejectedBy = new Map<string, number>();
  #droppedInReport = 0;
  #conflatedTold = 0;
  #pendingErrorsTold = 0;
  /** Refused before they were queued, since the last report. */
  #refused: RejectedDatagram[] = [];
  /** Their payload bytes. */
  #refusedBytes = 0;
  readonly #backend: Backend;
  readonly #latch: GsoLatch;
  readonly #usesGso: boolean;
  readonly #now: Queued;
  readonly #options: ResolvedBatchOptions;
  /** The sender, as the channels know it. */
  readonly #sender: { readonly stats: SenderStats };

  constructor(transport: Transport, usesGso: boolean, now: Queued, options: ResolvedBatchOptions) {
    this.#options = options;
    this.#backend = transport.backend;
    this.#latch = transport.latch;
    this.#usesGso = usesGso;
    this.#now = now;
    const snapshot = (): SenderStats => this.snapshot();
    this.#sender = Object.freeze({
      get stats(): SenderStats {
        return snapshot();
      },
    });
    if (openChannel.hasSubscribers)
      openChannel.publish({ sender: this.#sender } satisfies DiagnosticsMessages[typeof OPEN_CHANNEL]);
  }

  /** Books datagrams as dropped. */
  drop(datagrams: number, reason: DropReason): void {
    this.droppedBy[reason] += datagrams;
    this.#droppedInReport += datagrams;
  }

  /** Books a datagram as rejected before it was queued. */
  refuse(datagram: RejectedDatagram): void {
    this.#refused.push(Object.freeze(datagram));
    this.#refusedBytes += datagram.payload.byteLength;
  }

  /** Whether such rejections wait to be told in memory as much as datagrams may: so many, or so many bytes. */
  hasRefusedMuch(datagrams: number, bytes: number): boolean {
    return this.#refused.length >= datagrams || this.#refusedBytes >= bytes;
  }

  /** Whether something happened that no report has told. */
  get hasNews(): boolean {
    if (this.#droppedInReport > 0 || this.#refused.length > 0) return true;
    if (this.#pendingErrors > this.#pendingErrorsTold) return true;
    for (const { loop } of this.#now.lanes) if (loop.sent > 0 || loop.rejected.length > 0) return true;
    return false;
  }

  /** The report of all since the last one. */
  takeReport(): BatchReport {
    let sent = 0;
    let bytes = 0;
    let syscalls = 0;
    let rejected = this.#refused;
    for (const { loop } of this.#now.lanes) {
      sent += loop.sent;
      bytes += loop.bytes;
      syscalls += loop.syscalls;
      if (loop.rejected.length > 0) rejected = rejected.concat(loop.rejected);
      loop.reset();
    }
    const report: BatchReport = Object.freeze({
      sent,
      bytes,
      syscalls,
      requeued: this.#now.queued,
      dropped: this.#droppedInReport,
      conflated: this.#now.conflated - this.#conflatedTold,
      pendingErrors: this.#pendingErrors - this.#pendingErrorsTold,
      rejected: rejected.length === 0 ? NONE_REJECTED : Object.freeze(rejected.sort((a, b) => a.sequence - b.sequence)),
    });
    this.#sent += sent;
    this.#bytes += bytes;
    this.#syscalls += syscalls;
    this.#rejected += rejected.length;
    tally(rejected, this.#rejectedBy);
    this.#droppedInReport = 0;
    this.#conflatedTold += report.conflated;
    this.#pendingErrorsTold += report.pendingErrors;
    if (rejected.length > 0) {
      this.#refused = [];
      this.#refusedBytes = 0;
    }
    if (this.#options.warn) this.#warn(rejected); // a call-out: behind all that is booked
    if (reportChannel.hasSubscribers)
      reportChannel.publish({
        sender: this.#sender,
        report,
        stats: this.snapshot(),
      } satisfies DiagnosticsMessages[typeof REPORT_CHANNEL]);
    return report;
  }

  snapshot(): SenderStats {
    const { queuedBytes } = this.#now; // first: lines that wait unwritten may turn out to need datagrams of their own
    const loops = this.#now.lanes.map(({ loop }) => loop);
    const sum = (value: (loop: FlushLoop) => number): number => loops.reduce((total, loop) => total + value(loop), 0);
    const { overflow, age, drainTimeout, teardown, failure } = this.droppedBy;
    const rejectedBy = new Map(this.#rejectedBy);
    for (const untold of [this.#refused, ...loops.map((loop) => loop.rejected)]) tally(untold, rejectedBy);
    return Object.freeze({
      backend: this.#backend,
      accepted: this.inputs + this.extra,
      sent: this.#sent + sum((loop) => loop.sent),
      rejected: this.#rejected + this.#refused.length + sum((loop) => loop.rejected.length),
      rejectedBy: Object.freeze(Object.fromEntries(rejectedBy)),
      dropped: overflow + age + drainTimeout + teardown + failure,
      droppedBy: Object.freeze({ ...this.droppedBy }),
      conflated: this.#now.conflated,
      packed: this.#now.packed,
      queued: this.#now.queued,
      queuedBytes,
      bytes: this.#bytes + sum((loop) => loop.bytes),
      syscalls: this.#syscalls + sum((loop) => loop.syscalls),
      batchSizes: Object.freeze(loops[0]!.batchSizes.map((_, bucket) => sum((loop) => loop.batchSizes[bucket]!))),
      shortCounts: sum((loop) => loop.shortCounts),
      wouldBlocks: sum((loop) => loop.wouldBlocks),
      backoffs: sum((loop) => loop.backoffs),
      blockedMs: this.#now.lanes.reduce((total, lane) => total + lane.waitedMs, 0),
      pendingErrors: this.#pendingErrors,
      gso: Object.freeze({
        state: this.#usesGso ? (this.#latch.isSocketOff ? 'latched' : 'on') : 'off',
        destinationsOff: this.#latch.destinationsOff,
        messages: sum((loop) => loop.gsoMessages),
        segments: sum((loop) => loop.gsoSegments),
      }),
    });
  }

  #warn(rejected: readonly RejectedDatagram[]): void {
    if (rejected.length > 0) warnOfRejection(rejected[0]!);
    // With overflow: 'error' the stream itself ends with it.
    if (this.droppedBy.overflow > 0 && this.#options.overflow !== 'error') warnOfOverflow(this.#options);
  }

  get #pendingErrors(): number {
    let sum = 0;
    for (const { loop } of this.#now.lanes) sum += loop.pendingErrors;
    return sum;
  }

  /** Tells the diagnostics that the sender has ended. */
  publishClose(): void {
    if (closeChannel.hasSubscribers)
      closeChannel.publish({
        sender: this.#sender,
        stats: this.snapshot(),
      } satisfies DiagnosticsMessages[typeof CLOSE_CHANNEL]);
  }
}

/** Counts rejections by their code. */
function tally(rejected: readonly RejectedDatagram[], by: Map<string, number>): void {
  for (const { error } of rejected) by.set(error.code, (by.get(error.code) ?? 0) + 1);
}
