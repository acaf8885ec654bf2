/**
 * What all senders of this thread have done together: those that are open, and those that have ended. Read when it is
 * asked for, so a datagram costs nothing, and a sender that is blocked, and reports nothing, is seen, too.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { DiagnosticsMessages, SenderStats } from 'rx-sendmmsg';

export interface Metric {
  readonly name: string;
  readonly help: string;
  /** As OpenTelemetry spells it (UCUM). */
  readonly unit: string;
  /** The label by whose values it is split. */
  readonly label?: string;
  /** Whether it goes up and down. */
  readonly isGauge?: boolean;
  read(stats: SenderStats): number | Readonly<Record<string, number>>;
}

export const METRICS: readonly Metric[] = [
  { name: 'sent', help: 'Datagrams taken by the kernel', unit: '{datagram}', read: ({ sent }) => sent },
  { name: 'sent_bytes', help: 'Payload bytes taken by the kernel', unit: 'By', read: ({ bytes }) => bytes },
  { name: 'syscalls', help: 'sendmmsg(2) calls', unit: '{call}', read: ({ syscalls }) => syscalls },
  {
    name: 'dropped',
    help: 'Datagrams dropped, by reason',
    unit: '{datagram}',
    label: 'reason',
    read: ({ droppedBy }) => droppedBy,
  },
  { name: 'conflated', help: 'Datagrams replaced by a newer one', unit: '{datagram}', read: (s) => s.conflated },
  { name: 'packed', help: 'Lines that travel in the datagram of another', unit: '{line}', read: (s) => s.packed },
  {
    name: 'rejected',
    help: 'Datagrams refused, by error code',
    unit: '{datagram}',
    label: 'code',
    read: ({ rejectedBy }) => rejectedBy,
  },
  {
    name: 'batch_size_bucket',
    help: 'Calls that took at most so many datagrams',
    unit: '{call}',
    label: 'le',
    read: ({ batchSizes }) => cumulative(batchSizes),
  },
  {
    name: 'blocked_seconds',
    help: 'Time of waiting for the kernel',
    unit: 's',
    read: ({ blockedMs }) => blockedMs / 1000,
  },
  { name: 'queued', help: 'Datagrams queued', unit: '{datagram}', isGauge: true, read: ({ queued }) => queued },
];

export class SenderTotals {
  readonly #open = new Set<{ readonly stats: SenderStats }>();
  readonly #ended = new Map<Metric, Map<string, number>>();

  constructor() {
    subscribe('rx-sendmmsg:open', this.#onOpen);
    subscribe('rx-sendmmsg:close', this.#onClose);
  }

  /** The totals of a metric by the value of its label; by `''` if it has none. */
  of(metric: Metric): ReadonlyMap<string, number> {
    const totals = new Map(this.#ended.get(metric));
    for (const { stats } of this.#open) add(metric.read(stats), totals);
    return totals;
  }

  stop(): void {
    unsubscribe('rx-sendmmsg:open', this.#onOpen);
    unsubscribe('rx-sendmmsg:close', this.#onClose);
  }

  readonly #onOpen = (message: unknown): void => {
    this.#open.add((message as DiagnosticsMessages['rx-sendmmsg:open']).sender);
  };

  readonly #onClose = (message: unknown): void => {
    const { sender, stats } = message as DiagnosticsMessages['rx-sendmmsg:close'];
    if (!this.#open.delete(sender)) return;
    for (const metric of METRICS) {
      const totals = this.#ended.get(metric) ?? new Map<string, number>();
      this.#ended.set(metric, totals);
      add(metric.read(stats), totals);
    }
  };
}

function add(value: number | Readonly<Record<string, number>>, totals: Map<string, number>): void {
  for (const [label, count] of typeof value === 'number' ? [['', value] as const] : Object.entries(value)) {
    totals.set(label, (totals.get(label) ?? 0) + count);
  }
}

/** The buckets as Prometheus has them: each with all below it, up to `+Inf`. */
function cumulative(batchSizes: readonly number[]): Record<string, number> {
  let calls = 0;
  return Object.fromEntries(
    batchSizes.map((count, bucket) => {
      calls += count;
      return [bucket === batchSizes.length - 1 ? '+Inf' : String(2 ** bucket), calls];
    }),
  );
}
