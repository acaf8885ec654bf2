/**
 * From pairs of measurements to a verdict: pure. The two of a pair are taken right after each other, so what the machine does
 * meanwhile is in both, and their ratio is worth more than either.
 */
import { decimal, table } from '../src/cli/bench/report.ts';
import { median, quantile } from '../src/cli/bench/statistics.ts';

/** This checkout, and the one that it is compared with. */
export type Side = 'here' | 'there';

/** CPU time of a datagram in one round, nanoseconds. */
export type Pair = Readonly<Record<Side, number>>;

/** One sender's rounds of one workload. */
export interface Comparison {
  readonly workload: string;
  readonly sender: string;
  /** Whose CPU time: with `offload` that of all threads. */
  readonly cpu: 'main thread' | 'process';
  readonly pairs: readonly Pair[];
}

export interface Verdict {
  readonly here: number;
  readonly there: number;
  /** The median of the rounds' ratios, here to there, and their quartiles. */
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  readonly isSlower: boolean;
}

/** The most that a workload may take, as a multiple of what it took there. */
export const LIMIT = 1.05;

/** Who goes first in a turn: each as often as the other, so that neither always finds what the other has left. */
export function orderOf(turn: number): readonly [Side, Side] {
  return turn % 2 === 0 ? ['here', 'there'] : ['there', 'here'];
}

export function verdictOf({ pairs }: Pick<Comparison, 'pairs'>): Verdict {
  const ratios = pairs.map(({ here, there }) => here / there);
  const ratio = median(ratios);
  return {
    here: median(pairs.map(({ here }) => here)),
    there: median(pairs.map(({ there }) => there)),
    ratio,
    low: quantile(ratios, 0.25),
    high: quantile(ratios, 0.75),
    isSlower: !(ratio <= LIMIT), // nothing measured is no proof
  };
}

/** One workload as Markdown. */
export function renderComparisons(comparisons: readonly Comparison[]): string {
  const head = ['sender', 'CPU time of', 'ns here', 'ns there', 'here / there', 'quartiles'];
  const rows = comparisons.map((comparison) => {
    const { here, there, ratio, low, high, isSlower } = verdictOf(comparison);
    return [
      comparison.sender,
      comparison.cpu,
      nanoseconds(here),
      nanoseconds(there),
      isSlower ? `**${decimal(ratio, 3)}**` : decimal(ratio, 3),
      `${decimal(low, 3)} to ${decimal(high, 3)}`,
    ];
  });
  return `### ${comparisons[0]?.workload}\n\n${table(head, rows)}`;
}

/** Which of them are slower, and by how much. */
export function renderVerdict(comparisons: readonly Comparison[]): string {
  const percent = `${((LIMIT - 1) * 100).toFixed(0)} %`;
  const slower = comparisons.filter((comparison) => verdictOf(comparison).isSlower);
  if (slower.length === 0) return `None of ${comparisons.length} is more than ${percent} slower here.`;
  const lines = slower.map(
    (comparison) => `- ${comparison.workload}, ${comparison.sender}: ${decimal(verdictOf(comparison).ratio, 3)}`,
  );
  return [`More than ${percent} slower here, ${slower.length} of ${comparisons.length}:`, '', ...lines].join('\n');
}

function nanoseconds(value: number): string {
  return decimal(value, value < 1000 ? 1 : 0);
}
