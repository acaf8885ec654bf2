/**
 * The chart: datagrams a second of every sender, a panel for each workload, on one logarithmic axis.
 *
 * A Vega-Lite specification, drawn without a browser. Text is measured by the library's own estimate, not by installed
 * fonts, so the same run gives the same bytes everywhere.
 *
 * @see {@link https://vega.github.io/vega-lite/docs/ | Vega-Lite}
 */

import { medianOf, type Result, type Row, type Run } from '../src/cli/bench/report.ts';
import { quantile } from '../src/cli/bench/statistics.ts';
import { importPeer } from './peer-packages.ts';

/** One mark of the chart. */
export interface ChartPoint {
  readonly workload: string;
  readonly sender: string;
  readonly family: 'rx-sendmmsg' | 'C, the ceiling' | 'others';
  /** Datagrams a second: the median, and the quartiles. */
  readonly perSecond: number;
  readonly low: number;
  readonly high: number;
  /** The median for people, with its ratio to node:dgram. */
  readonly label: string;
}

/** Greys and colours with a contrast of at least 3 to white and to near-black: one picture for both backgrounds. */
const TEXT = '#7d8590';
const GRID = '#7d859040';
const COLOURS: Record<ChartPoint['family'], string> = {
  'rx-sendmmsg': '#2f81f7',
  'C, the ceiling': '#c2740c',
  others: '#7d8590',
};
const PANEL_WIDTH = 460;
const ROW_HEIGHT = 17;

/** What the chart shows: the throughput of each workload, as counted where there was somebody to count. */
export function chartPoints({ results }: Run): ChartPoint[] {
  const throughput = results.filter(({ kind }) => kind === 'throughput');
  const names = [...new Set(throughput.map(({ workload }) => workload))];
  return names.flatMap((name) => {
    const ofWorkload = throughput.filter(({ workload }) => workload === name);
    const shown = ofWorkload.find(({ receiver }) => receiver === 'count') ?? ofWorkload[0]!;
    return shown.rows.map((row) => pointOf(shown, row));
  });
}

function pointOf({ workload, rows }: Result, row: Row): ChartPoint {
  const perSecond = (row.metrics.nanoseconds ?? []).map((ns) => 1e9 / ns);
  const dgram = rows.find(({ sender }) => sender === 'node:dgram');
  const times = dgram === undefined ? Number.NaN : medianOf(dgram, 'nanoseconds') / medianOf(row, 'nanoseconds');
  const value = quantile(perSecond, 0.5);
  return {
    workload,
    sender: row.sender,
    family: row.sender.startsWith('rx-sendmmsg')
      ? 'rx-sendmmsg'
      : row.sender.startsWith('C ')
        ? 'C, the ceiling'
        : 'others',
    perSecond: value,
    low: quantile(perSecond, 0.25),
    high: quantile(perSecond, 0.75),
    label: Number.isFinite(times) ? `${short(value)} (${times.toFixed(times < 10 ? 1 : 0)}×)` : short(value),
  };
}

/** The specification of the chart, as Vega-Lite takes it. */
export function chartSpec(run: Run): object {
  const points = chartPoints(run);
  const workloads = [...new Set(points.map(({ workload }) => workload))];
  const ticks = powersOfTen(points);
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    description: 'Datagrams a second of each sender, by workload',
    background: null,
    padding: 10,
    spacing: 16,
    vconcat: workloads.map((name) =>
      panelSpec(
        name,
        points.filter(({ workload }) => workload === name),
        ticks,
        name === workloads.at(-1),
      ),
    ),
    // One axis for all panels: a place means the same number everywhere.
    resolve: { scale: { x: 'shared', color: 'shared' } },
    config: {
      font: 'system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif',
      view: { stroke: null },
      axis: {
        labelColor: TEXT,
        titleColor: TEXT,
        titleFontWeight: 'normal',
        gridColor: GRID,
        domainColor: GRID,
        tickColor: GRID,
        labelLimit: 0,
      },
      title: { color: TEXT, anchor: 'start', frame: 'group', fontSize: 12 },
      legend: { labelColor: TEXT },
    },
  };
}

/** One workload: a point for each sender, with its quartiles as a line. */
function panelSpec(workload: string, points: readonly ChartPoint[], ticks: readonly number[], isLast: boolean): object {
  const y = { field: 'sender', type: 'nominal', title: null, sort: null } as const;
  const x = {
    field: 'perSecond',
    type: 'quantitative',
    title: isLast ? 'datagrams a second, log scale (in brackets: times node:dgram)' : null,
    scale: { type: 'log', domain: [ticks[0], ticks.at(-1)] },
    axis: { format: '~s', values: ticks, labels: isLast },
  } as const;
  const color = {
    field: 'family',
    type: 'nominal',
    title: null,
    scale: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
    legend: { orient: 'top', symbolType: 'circle', symbolOpacity: 1 },
  } as const;
  return {
    title: workload,
    data: { values: points },
    width: PANEL_WIDTH,
    height: { step: ROW_HEIGHT },
    layer: [
      {
        mark: { type: 'rule', strokeWidth: 2, opacity: 0.6 },
        encoding: { y, x: { ...x, field: 'low' }, x2: { field: 'high' }, color },
      },
      { mark: { type: 'point', filled: true, size: 60, opacity: 1 }, encoding: { y, x, color } },
      {
        mark: { type: 'text', align: 'left', dx: 9, fontSize: 10, color: TEXT },
        encoding: { y, x, text: { field: 'label' } },
      },
    ],
  };
}

/** From below the slowest to above the fastest: a line of the grid each, and no others. */
function powersOfTen(points: readonly ChartPoint[]): number[] {
  const lowest = Math.floor(Math.log10(Math.min(...points.map(({ low }) => low))));
  const highest = Math.ceil(Math.log10(Math.max(...points.map(({ high }) => high))));
  return Array.from({ length: highest - lowest + 1 }, (_, index) => 10 ** (lowest + index));
}

/** What is used of Vega, which is not in the main install. */
interface Vega {
  parse(spec: unknown): unknown;
  View: new (runtime: unknown, options: { renderer: 'none' }) => { toSVG(): Promise<string>; finalize(): void };
}
interface VegaLite {
  compile(spec: unknown): { spec: unknown };
}

/**
 * The chart as SVG.
 *
 * @throws Error `MODULE_NOT_FOUND` without the benchmarks' own install
 */
export async function renderSvg(run: Run): Promise<string> {
  const vega = (await importPeer('vega')) as Vega;
  const { compile } = (await importPeer('vega-lite')) as VegaLite;
  const view = new vega.View(vega.parse(compile(chartSpec(run)).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}

/** `1.23M`, `456k` */
function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)}M`;
  return value >= 1e3 ? `${Math.round(value / 1e3)}k` : value.toFixed(0);
}
