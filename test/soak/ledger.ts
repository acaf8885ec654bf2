/**
 * The books of the main thread: every sender that opens, by the diagnostics channels, and what all of them have done.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { BatchReport, DiagnosticsMessages, SenderStats } from '../../src/index.ts';

/** What the senders of one workload have done, and what its observers were told. */
export interface Totals {
  senders: number;
  accepted: number;
  sent: number;
  rejected: number;
  dropped: number;
  conflated: number;
  packed: number;
  queued: number;
  segments: number;
  readonly droppedBy: Record<string, number>;
  readonly rejectedBy: Record<string, number>;
}

/** What the reports said, of the senders that end by themselves. */
export interface Told {
  sent: number;
  rejected: number;
  dropped: number;
  conflated: number;
}

/** One sender. */
export interface Account {
  /** Its last totals, when it has ended. */
  readonly closed: Promise<SenderStats>;
}

interface LiveSender {
  readonly owner: string;
  readonly sender: { readonly stats: SenderStats };
  readonly close: (stats: SenderStats) => void;
}

export class Ledger {
  /** What is wrong with the books, in words. */
  readonly violations: string[] = [];
  readonly #live = new Map<object, LiveSender>();
  readonly #ended = new Map<string, Totals>();
  readonly #told = new Map<string, Told>();
  #claim: Omit<LiveSender, 'sender'> | null = null;

  constructor() {
    subscribe('rx-sendmmsg:open', (message) => this.#onOpen(message as DiagnosticsMessages['rx-sendmmsg:open']));
    subscribe('rx-sendmmsg:close', (message) => this.#onClose(message as DiagnosticsMessages['rx-sendmmsg:close']));
  }

  /** Says whose the next sender is: call it just before that is made. */
  claim(owner: string): Account {
    let close: (stats: SenderStats) => void;
    const closed = new Promise<SenderStats>((resolve) => {
      close = resolve;
    });
    this.#claim = { owner, close: close! };
    return { closed };
  }

  /** An observer was told of a flush. */
  tell(owner: string, { sent, rejected, dropped, conflated }: BatchReport): void {
    const told = this.told(owner);
    told.sent += sent;
    told.rejected += rejected.length;
    told.dropped += dropped;
    told.conflated += conflated;
  }

  told(owner: string): Told {
    const told = this.#told.get(owner) ?? { sent: 0, rejected: 0, dropped: 0, conflated: 0 };
    this.#told.set(owner, told);
    return told;
  }

  /** Totals by workload, of senders that live and that have ended; each of them is held to conservation. */
  totals(): Map<string, Totals> {
    const all = new Map<string, Totals>();
    for (const [owner, ended] of this.#ended) add(all.get(owner) ?? put(all, owner), ended);
    for (const { owner, sender } of this.#live.values()) {
      const { stats } = sender;
      this.#checkConservation(owner, stats);
      addStats(all.get(owner) ?? put(all, owner), stats);
    }
    return all;
  }

  get live(): number {
    return this.#live.size;
  }

  #onOpen({ sender }: DiagnosticsMessages['rx-sendmmsg:open']): void {
    const claim = this.#claim;
    this.#claim = null;
    if (claim === null) this.violations.push('A sender has opened that nobody has made');
    else this.#live.set(sender, { ...claim, sender });
  }

  #onClose({ sender, stats }: DiagnosticsMessages['rx-sendmmsg:close']): void {
    const live = this.#live.get(sender);
    if (live === undefined) {
      this.violations.push('A sender has closed that was not open, or has closed twice');
      return;
    }
    this.#live.delete(sender);
    this.#checkConservation(live.owner, stats);
    if (stats.queued > 0) this.violations.push(`${live.owner}: ${stats.queued} queued at the end of a sender`);
    addStats(this.#ended.get(live.owner) ?? put(this.#ended, live.owner), stats);
    live.close(stats);
  }

  #checkConservation(owner: string, stats: SenderStats): void {
    const { accepted, sent, rejected, dropped, conflated, packed, queued } = stats;
    const sum = sent + rejected + dropped + conflated + packed + queued;
    if (accepted !== sum) this.violations.push(`${owner}: ${accepted} accepted, but ${sum} accounted for`);
  }
}

function put(all: Map<string, Totals>, owner: string): Totals {
  const totals: Totals = {
    senders: 0,
    accepted: 0,
    sent: 0,
    rejected: 0,
    dropped: 0,
    conflated: 0,
    packed: 0,
    queued: 0,
    segments: 0,
    droppedBy: {},
    rejectedBy: {},
  };
  all.set(owner, totals);
  return totals;
}

function addStats(totals: Totals, stats: SenderStats): void {
  const { accepted, sent, rejected, dropped, conflated, packed, queued, droppedBy, rejectedBy, gso } = stats;
  const counts = { accepted, sent, rejected, dropped, conflated, packed, queued, droppedBy, rejectedBy };
  add(totals, { ...counts, senders: 1, segments: gso.segments });
}

function add(totals: Totals, more: Totals): void {
  totals.senders += more.senders;
  totals.accepted += more.accepted;
  totals.sent += more.sent;
  totals.rejected += more.rejected;
  totals.dropped += more.dropped;
  totals.conflated += more.conflated;
  totals.packed += more.packed;
  totals.queued += more.queued;
  totals.segments += more.segments;
  addBy(totals.droppedBy, more.droppedBy);
  addBy(totals.rejectedBy, more.rejectedBy);
}

/** Only what has occurred. */
function addBy(totals: Record<string, number>, more: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(more)) if (count > 0) totals[name] = (totals[name] ?? 0) + count;
}
