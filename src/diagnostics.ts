/**
 * What a sender has done since it was made: counters, their public snapshot, and the diagnostics channels.
 */
import { channel } from 'node:diagnostics_channel';
import type { BatchReport, RejectedDatagram } from './datagram.ts';
import type { FlushLoop } from './flush.ts';
import type { GsoLatch } from './gso.ts';
import type { Lanes } from './lanes.ts';
import type { Backend, Transport } from './transport.ts';

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
  /** Datagrams that were emitted, valid or not. */
  readonly accepted: number;
  /** Datagrams taken by the kernel. */
  readonly sent: number;
  /** Datagrams refused, by validation or by the kernel. */
  readonly rejected: number;
  /** Datagrams dropped, for any reason. */
  readonly dropped: number;
  /** The same by reason. */
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
  /** sendmmsg(2) calls made. */
  readonly syscalls: number;
  /** Calls that took fewer than they were given. */
  readonly shortCounts: number;
  /** Calls answered with EAGAIN. */
  readonly wouldBlocks: number;
  /** Calls answered with ENOBUFS or ENOMEM. */
  readonly backoffs: number;
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

/** Published once for each report, with `{ report, stats }`; see {@link BatchReport} and {@link SenderStats}. */
export const REPORT_CHANNEL = 'rx-sendmmsg:report';
/** Published when a sender has ended, with `{ stats }`: what was queued at an unsubscribe is in `droppedBy.teardown`. */
export const CLOSE_CHANNEL = 'rx-sendmmsg:close';

const NONE_REJECTED: readonly RejectedDatagram[] = Object.freeze([]);
const reportChannel = channel(REPORT_CHANNEL);
const closeChannel = channel(CLOSE_CHANNEL);

/** The counters of a sender, and what its next report will say. */
export class SenderCounters {
  accepted = 0;
  readonly droppedBy: Record<DropReason, number> = { overflow: 0, age: 0, drainTimeout: 0, teardown: 0, failure: 0 };
  #sent = 0;
  #bytes = 0;
  #syscalls = 0;
  #rejected = 0;
  #droppedInReport = 0;
  #conflatedTold = 0;
  /** Refused before they were queued, since the last report. */
  #refused: RejectedDatagram[] = [];
  readonly #backend: Backend;
  readonly #latch: GsoLatch;
  readonly #usesGso: boolean;
  readonly #lanes: Lanes;

  constructor(transport: Transport, usesGso: boolean, lanes: Lanes) {
    this.#backend = transport.backend;
    this.#latch = transport.latch;
    this.#usesGso = usesGso;
    this.#lanes = lanes;
  }

  /** Books datagrams as dropped. */
  drop(datagrams: number, reason: DropReason): void {
    this.droppedBy[reason] += datagrams;
    this.#droppedInReport += datagrams;
  }

  /** Books a datagram as rejected before it was queued; returns how many of these wait to be told. */
  refuse(datagram: RejectedDatagram): number {
    return this.#refused.push(Object.freeze(datagram));
  }

  /** Whether something happened that no report has told. */
  get hasNews(): boolean {
    if (this.#droppedInReport > 0 || this.#refused.length > 0) return true;
    for (const { loop } of this.#lanes.all) if (loop.sent > 0 || loop.rejected.length > 0) return true;
    return false;
  }

  /** The report of all since the last one. */
  takeReport(): BatchReport {
    let sent = 0;
    let bytes = 0;
    let syscalls = 0;
    const rejected = this.#refused;
    for (const { loop } of this.#lanes.all) {
      sent += loop.sent;
      bytes += loop.bytes;
      syscalls += loop.syscalls;
      if (loop.rejected.length > 0) rejected.push(...loop.rejected);
      loop.reset();
    }
    const report: BatchReport = Object.freeze({
      sent,
      bytes,
      syscalls,
      requeued: this.#lanes.queued,
      dropped: this.#droppedInReport,
      conflated: this.#lanes.conflated - this.#conflatedTold,
      rejected: rejected.length === 0 ? NONE_REJECTED : Object.freeze(rejected.sort((a, b) => a.sequence - b.sequence)),
    });
    this.#sent += sent;
    this.#bytes += bytes;
    this.#syscalls += syscalls;
    this.#rejected += rejected.length;
    this.#droppedInReport = 0;
    this.#conflatedTold += report.conflated;
    if (rejected.length > 0) this.#refused = [];
    if (reportChannel.hasSubscribers) reportChannel.publish({ report, stats: this.snapshot() });
    return report;
  }

  snapshot(): SenderStats {
    const { queuedBytes } = this.#lanes; // first: lines that wait unwritten may turn out to need datagrams of their own
    const loops = this.#lanes.all.map(({ loop }) => loop);
    const sum = (value: (loop: FlushLoop) => number): number => loops.reduce((total, loop) => total + value(loop), 0);
    const { overflow, age, drainTimeout, teardown, failure } = this.droppedBy;
    return Object.freeze({
      backend: this.#backend,
      accepted: this.accepted,
      sent: this.#sent + sum((loop) => loop.sent),
      rejected: this.#rejected + this.#refused.length + sum((loop) => loop.rejected.length),
      dropped: overflow + age + drainTimeout + teardown + failure,
      droppedBy: Object.freeze({ ...this.droppedBy }),
      conflated: this.#lanes.conflated,
      packed: this.#lanes.packed,
      queued: this.#lanes.queued,
      queuedBytes,
      bytes: this.#bytes + sum((loop) => loop.bytes),
      syscalls: this.#syscalls + sum((loop) => loop.syscalls),
      shortCounts: sum((loop) => loop.shortCounts),
      wouldBlocks: sum((loop) => loop.wouldBlocks),
      backoffs: sum((loop) => loop.backoffs),
      pendingErrors: sum((loop) => loop.pendingErrors),
      gso: Object.freeze({
        state: this.#usesGso ? (this.#latch.isSocketOff ? 'latched' : 'on') : 'off',
        destinationsOff: this.#latch.destinationsOff,
        messages: sum((loop) => loop.gsoMessages),
        segments: sum((loop) => loop.gsoSegments),
      }),
    });
  }

  /** Tells the diagnostics that the sender has ended. */
  publishClose(): void {
    if (closeChannel.hasSubscribers) closeChannel.publish({ stats: this.snapshot() });
  }
}
