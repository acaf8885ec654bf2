/** Whether a series goes on growing, told robustly: outliers, and steps in the warm-up, do not count. */
import { median } from '../../src/cli/bench/statistics.ts';

export interface Point {
  /** Seconds. */
  readonly at: number;
  readonly value: number;
}

/** A series behind its warm-up, which is its first quarter. */
export interface Trend {
  /** The Theil-Sen slope, per hour: the median of the slopes of all pairs. */
  readonly perHour: number;
  /** The medians of all of it, and of the second and the last quarter of the time. */
  readonly middle: number;
  readonly second: number;
  readonly last: number;
  /** Seconds that were looked at. */
  readonly seconds: number;
}

/** The share of the time that is left out. */
export const WARM_UP = 0.25;
/** Above so many points, neighbours are put together, by their medians: the pairs grow with the square. */
const MOST_POINTS = 400;

export function trendOf(points: readonly Point[]): Trend {
  const from = points[0]?.at ?? 0;
  const length = (points.at(-1)?.at ?? 0) - from;
  const between = (start: number, end: number): Point[] =>
    points.filter(({ at }) => at >= from + start * length && at <= from + end * length);
  const steady = between(WARM_UP, 1);
  return {
    perHour: theilSen(thinned(steady)) * 3600,
    middle: medianOf(steady),
    second: medianOf(between(WARM_UP, 0.5)),
    last: medianOf(between(0.75, 1)),
    seconds: length * (1 - WARM_UP),
  };
}

/** The slope, per second. */
export function theilSen(points: readonly Point[]): number {
  const slopes: number[] = [];
  for (const [index, { at, value }] of points.entries()) {
    for (const later of points.slice(index + 1)) slopes.push((later.value - value) / (later.at - at));
  }
  return median(slopes);
}

function thinned(points: readonly Point[]): Point[] {
  const size = Math.ceil(points.length / MOST_POINTS);
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const block = points.slice(index * size, (index + 1) * size);
    return { at: median(block.map(({ at }) => at)), value: medianOf(block) };
  });
}

function medianOf(points: readonly Point[]): number {
  return median(points.map(({ value }) => value));
}
