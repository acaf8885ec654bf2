/**
 * What a sender has done since it was made: counters, their public snapshot, and the diagnostics channels.
 */
import { channel } from 'node:diagnostics_channel';
import type { BatchReport } from './datagram.ts';
import type { FlushLoop } from './flush.ts';
import type { MmsgRing } from './mmsg-ring.ts';
import type { Backend } from './transport.ts';

/** Why a datagram that was accepted was neither sent nor rejected. */
export type DropReason = 'overflow' | 'age' | 'drainTimeout' | 'teardown' | 'failure';

/**
 * Totals of one sender (one subscription), in datagrams and bytes; a frozen snapshot.
 *
 * `accepted = sent + rejected + dropped + queued` holds in every snapshot.
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
}

/** Published once for each report, with `{ report, stats }`; see {@link BatchReport} and {@link SenderStats}. */
export const REPORT_CHANNEL = 'rx-sendmmsg:report';
/** Published when a sender has ended, with `{ stats }`: what was queued at an unsubscribe is in `droppedBy.teardown`. */
export const CLOSE_CHANNEL = 'rx-sendmmsg:close';

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
  readonly #backend: Backend;
  readonly #ring: MmsgRing;
  readonly #loop: FlushLoop;

  constructor(backend: Backend, ring: MmsgRing, loop: FlushLoop) {
    this.#backend = backend;
    this.#ring = ring;
    this.#loop = loop;
  }

  /** Books datagrams as dropped. */
  drop(datagrams: number, reason: DropReason): void {
    this.droppedBy[reason] += datagrams;
    this.#droppedInReport += datagrams;
  }

  /** Whether something happened that no report has told. */
  get hasNews(): boolean {
    const loop = this.#loop;
    return loop.sent > 0 || this.#droppedInReport > 0 || loop.rejected.length > 0;
  }

  /** The report of all since the last one. */
  takeReport(): BatchReport {
    const loop = this.#loop;
    const report: BatchReport = Object.freeze({
      sent: loop.sent,
      bytes: loop.bytes,
      syscalls: loop.syscalls,
      requeued: this.#ring.datagrams,
      dropped: this.#droppedInReport,
      rejected: loop.takeRejected(),
    });
    this.#sent += loop.sent;
    this.#bytes += loop.bytes;
    this.#syscalls += loop.syscalls;
    this.#rejected += loop.rejected.length;
    this.#droppedInReport = 0;
    loop.reset();
    if (reportChannel.hasSubscribers) reportChannel.publish({ report, stats: this.snapshot() });
    return report;
  }

  snapshot(): SenderStats {
    const loop = this.#loop;
    const { overflow, age, drainTimeout, teardown, failure } = this.droppedBy;
    return Object.freeze({
      backend: this.#backend,
      accepted: this.accepted,
      sent: this.#sent + loop.sent,
      rejected: this.#rejected + loop.rejected.length,
      dropped: overflow + age + drainTimeout + teardown + failure,
      droppedBy: Object.freeze({ ...this.droppedBy }),
      queued: this.#ring.datagrams,
      queuedBytes: this.#ring.bytes,
      bytes: this.#bytes + loop.bytes,
      syscalls: this.#syscalls + loop.syscalls,
      shortCounts: loop.shortCounts,
      wouldBlocks: loop.wouldBlocks,
      backoffs: loop.backoffs,
      pendingErrors: loop.pendingErrors,
    });
  }

  /** Tells the diagnostics that the sender has ended. */
  publishClose(): void {
    if (closeChannel.hasSubscribers) closeChannel.publish({ stats: this.snapshot() });
  }
}
