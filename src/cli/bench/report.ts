/**
 * From the measured rounds to tables: pure, so that a stored run is drawn again as it was.
 */
import { median, spread } from './statistics.ts';

/** What is asked of a workload, which decides the columns. */
export type Kind = 'throughput' | 'drain' | 'loop' | 'latency' | 'memory';
export type ReceiverMode = 'count' | 'slow' | 'drop' | 'latency';

/** What is measured in each round; times in nanoseconds, a datagram's unless the name says otherwise. */
export type Metric =
  | 'nanoseconds'
  /** Of the main thread's CPU time. */
  | 'busyNanoseconds'
  /** Of the source, until there was room: of each wait, not of each datagram. */
  | 'wait'
  /** From `next()` to the receiver. */
  | 'p50'
  | 'p99'
  | 'heapBytes'
  | 'externalBytes'
  | 'rssBytes'
  | 'gcNanoseconds'
  | 'minorCollections'
  | 'majorCollections';

/** One sender's rounds of one workload. */
export interface Row {
  readonly sender: string;
  /** A value for each round. */
  readonly metrics: { [metric in Metric]?: number[] };
  /** All that the rounds sent, warm-up included, and what the receiver got of it (0 where it does not read). */
  sent: number;
  received: number;
  /** Datagrams of the measured time, and those that the sender itself gave up. */
  datagrams: number;
  dropped: number;
}

export interface Result {
  readonly workload: string;
  readonly kind: Kind;
  readonly receiver: ReceiverMode;
  readonly rows: readonly Row[];
}

/** A whole run, as `--json` prints it. */
export interface Run {
  /** Where and with what: kernel, CPU, versions. */
  readonly machine: { readonly [name: string]: string };
  readonly settings: { readonly rounds: number; readonly seconds: number };
  /** Nanoseconds of encoding, by shape. */
  readonly encode?: { readonly [shape: string]: { readonly median: number; readonly least: number } };
  readonly results: readonly Result[];
  /** Who did not take part, and why. */
  readonly missing: readonly string[];
}

/** What the others are compared with, the highest ceiling first. */
const BASELINES = [
  'C sendmmsg + GSO',
  'C sendmmsg + GSO, copying',
  'C sendmmsg + GSO, gathering',
  'C sendmmsg',
  'node:dgram',
];
/**
 * What no operator can be faster than: what these two take together. A program in C has its datagrams at hand, and an operator gets
 * each from the chain before it.
 */
const FLOOR = ['C sendmmsg + GSO, copying', 'RxJS chain alone'];

const RECEIVERS: Record<ReceiverMode, string> = {
  count: 'the receiver counts (recvmmsg, GRO)',
  slow: 'the receiver pauses 1 ms between reads',
  drop: 'the receiver drops in the kernel',
  latency: 'from `next()` to the receiver',
};

/** A column: its head, and its cell for a row. */
type Column = readonly [head: string, cell: (row: Row) => string];

/** The parts of a run that are asked for: workloads by name, and senders. */
export function selectFrom(run: Run, names: readonly string[], isSender: (name: string) => boolean): Run {
  const { encode, results, ...head } = run;
  return {
    ...head,
    ...(encode !== undefined && names.includes('encode') && { encode }),
    results: results
      .filter(({ workload }) => names.includes(workload))
      .map((result) => ({ ...result, rows: result.rows.filter(({ sender }) => isSender(sender)) }))
      .filter(({ rows }) => rows.length > 0),
  };
}

/** The whole run as Markdown. */
export function renderRun(run: Run): string {
  const parts = [renderHead(run), ...(run.encode === undefined ? [] : [renderEncode(run.encode)])];
  return [...parts, ...run.results.map(renderResult)].join('\n\n');
}

/** Where it ran, and who is missing. */
export function renderHead({ machine, settings, missing }: Run): string {
  const versions = Object.entries(machine).map(([name, value]) => `${name} ${value}`);
  const { rounds, seconds } = settings;
  return [
    `${versions.join(', ')}. Medians of ${rounds} rounds of ${seconds} s.`,
    ...missing.map((text) => `\n- ${text}`),
  ].join('');
}

export function renderEncode(encode: NonNullable<Run['encode']>): string {
  const rows = Object.entries(encode).map(([shape, { median, least }]) => [shape, median.toFixed(0), least.toFixed(0)]);
  const head = ['datagram', 'ns, median', 'ns, least'];
  return `### encode: into the queue, planned, and out again, no system call\n\n${table(head, rows)}`;
}

export function renderResult(result: Result): string {
  const columns: readonly Column[] = [['sender', ({ sender }) => sender], ...COLUMNS[result.kind](result)];
  const rows = result.rows.map((row) => columns.map(([, cell]) => cell(row)));
  const dropped = result.rows.filter((row) => row.dropped > 0);
  return [
    `### ${result.workload}, ${RECEIVERS[result.receiver]}`,
    table(
      columns.map(([head]) => head),
      rows,
    ),
    ...dropped.map((row) => `${row.sender} gave up ${share(row.dropped, row.dropped + row.sent)} itself.`),
  ].join('\n\n');
}

const COLUMNS: Record<Kind, (result: Result) => readonly Column[]> = {
  throughput: ({ rows }) => [
    ['ns a datagram', (row) => nanoseconds(row, 'nanoseconds')],
    ['±', (row) => spreadOf(row, 'nanoseconds')],
    ['a second', ({ metrics }) => count(1e9 / median(metrics.nanoseconds ?? []))],
    ...ratios(rows, 'nanoseconds', BASELINES),
    ...floorRatio(rows),
    ['loop ns', (row) => nanoseconds(row, 'busyNanoseconds')],
    ['received', received],
  ],
  drain: ({ rows: [first] }) => [
    ['ns a datagram', (row) => nanoseconds(row, 'nanoseconds')],
    ['±', (row) => spreadOf(row, 'nanoseconds')],
    [`/ ${first?.sender}`, (row) => decimal(medianOf(row, 'nanoseconds') / medianOf(first!, 'nanoseconds'), 2)],
    ['mean wait us', (row) => microseconds(row, 'wait')],
    ['loop ns', (row) => nanoseconds(row, 'busyNanoseconds')],
    ['received', received],
  ],
  loop: ({ rows }) => [
    ['loop ns a datagram', (row) => nanoseconds(row, 'busyNanoseconds')],
    ['±', (row) => spreadOf(row, 'busyNanoseconds')],
    ...ratios(rows, 'busyNanoseconds', ['node:dgram']),
    ['loop busy', (row) => share(medianOf(row, 'busyNanoseconds'), medianOf(row, 'nanoseconds'))],
    ['a second', ({ metrics }) => count(1e9 / median(metrics.nanoseconds ?? []))],
    ['received', received],
  ],
  latency: () => [
    ['p50 us', (row) => microseconds(row, 'p50')],
    ['±', (row) => spreadOf(row, 'p50')],
    ['p99 us', (row) => microseconds(row, 'p99')],
    ['±', (row) => spreadOf(row, 'p99')],
    ['received', received],
  ],
  memory: () => [
    ['datagrams', ({ datagrams, metrics }) => count(datagrams / (metrics.nanoseconds?.length ?? 1))],
    ['heap', (row) => kibibytes(row, 'heapBytes')],
    ['external', (row) => kibibytes(row, 'externalBytes')],
    ['RSS', (row) => kibibytes(row, 'rssBytes')],
    ['GC ns a datagram', (row) => nanoseconds(row, 'gcNanoseconds')],
    ['minor GCs', (row) => count(medianOf(row, 'minorCollections'))],
    ['major GCs', (row) => count(medianOf(row, 'majorCollections'))],
    ['ns a datagram', (row) => nanoseconds(row, 'nanoseconds')],
  ],
};

/** A column for each baseline that took part: how many times as fast. */
function ratios(rows: readonly Row[], metric: Metric, names: readonly string[]): Column[] {
  return names.flatMap((name) => {
    const baseline = rows.find(({ sender }) => sender === name);
    if (baseline === undefined) return [];
    const column: Column = [`× ${name}`, (row) => decimal(medianOf(baseline, metric) / medianOf(row, metric), 2)];
    return [column];
  });
}

/** A column where both parts of the floor took part: how near to it. */
function floorRatio(rows: readonly Row[]): Column[] {
  const parts = FLOOR.map((name) => rows.find(({ sender }) => sender === name));
  if (parts.includes(undefined)) return [];
  const floor = parts.reduce((sum, row) => sum + medianOf(row!, 'nanoseconds'), 0);
  return [['× floor', (row) => (FLOOR.includes(row.sender) ? '' : decimal(floor / medianOf(row, 'nanoseconds'), 2))]];
}

/** The median of a metric's rounds; NaN where it was not measured. */
export function medianOf({ metrics }: Row, metric: Metric): number {
  return median(metrics[metric] ?? []);
}

function nanoseconds(row: Row, metric: Metric): string {
  const value = medianOf(row, metric);
  return decimal(value, value < 1000 ? 1 : 0);
}

function microseconds(row: Row, metric: Metric): string {
  return decimal(medianOf(row, metric) / 1000, 0);
}

function kibibytes(row: Row, metric: Metric): string {
  const value = medianOf(row, metric) / 1024;
  return Number.isFinite(value) ? `${value < 0 ? '' : '+'}${count(value)} KiB` : '-';
}

function spreadOf({ metrics }: Row, metric: Metric): string {
  const value = spread(metrics[metric] ?? []);
  return Number.isFinite(value) ? `${(value * 100).toFixed(0)} %` : '-';
}

function received(row: Row): string {
  return row.received === 0 ? '-' : share(row.received, row.sent);
}

function share(part: number, whole: number): string {
  const value = (100 * part) / whole;
  return Number.isFinite(value) ? `${value.toFixed(1)} %` : '-';
}

function count(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString('en-US') : '-';
}

export function decimal(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '-';
}

/** A Markdown table, the first column to the left and the others to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}
