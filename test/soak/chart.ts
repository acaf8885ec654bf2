/** The chart of a soak: panels on one axis of time, as SVG. Colours of enough contrast to white and to near-black. */
import { scaleLinear, scaleLog } from 'd3-scale';
import { line } from 'd3-shape';
import type { Sample } from './sample.ts';

interface Series {
  readonly label: string;
  readonly colour: string;
  value(sample: Sample): number;
}

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly series: readonly Series[];
  /** Powers of ten instead of equal steps. */
  readonly isLog?: boolean;
}

const TEXT = '#7d8590';
const GRID = '#7d859040';
const [BLUE, ORANGE, GREEN, VIOLET] = ['#2f81f7', '#c2740c', '#2a9d5c', '#a371f7'] as const;
const MIB = 2 ** 20;

const PANELS: readonly Panel[] = [
  {
    title: 'memory',
    unit: 'MiB',
    series: [
      { label: 'RSS', colour: BLUE, value: ({ rss }) => rss / MIB },
      { label: 'heap used', colour: ORANGE, value: ({ heapUsed }) => heapUsed / MIB },
      { label: 'external', colour: GREEN, value: ({ external }) => external / MIB },
      { label: 'array buffers', colour: VIOLET, value: ({ arrayBuffers }) => arrayBuffers / MIB },
    ],
  },
  {
    title: 'rate',
    unit: 'datagrams/s',
    series: [
      { label: 'sent', colour: BLUE, value: ({ sentPerSecond }) => sentPerSecond },
      { label: 'received', colour: ORANGE, value: ({ receivedPerSecond }) => receivedPerSecond },
    ],
  },
  {
    title: 'queued',
    unit: 'datagrams',
    series: [{ label: 'in all queues', colour: BLUE, value: ({ queued }) => queued }],
  },
  {
    title: 'event loop',
    unit: 'ms late, log scale',
    isLog: true,
    series: [
      { label: 'most', colour: VIOLET, value: ({ delayMax }) => delayMax },
      { label: 'p99', colour: ORANGE, value: ({ delayP99 }) => delayP99 },
      { label: 'p50', colour: BLUE, value: ({ delayP50 }) => delayP50 },
    ],
  },
  {
    title: 'waiting for a core',
    unit: '% of the time',
    series: [{ label: 'while others ran', colour: GREEN, value: ({ starved }) => starved * 100 }],
  },
  {
    title: 'open descriptors',
    unit: 'descriptors',
    series: [{ label: 'of the process', colour: BLUE, value: ({ descriptors }) => descriptors }],
  },
  {
    title: 'what goes on',
    unit: 'count',
    series: [
      { label: 'channels whose reader stalls', colour: ORANGE, value: ({ stalled }) => stalled },
      { label: 'senders', colour: BLUE, value: ({ senders }) => senders },
      { label: 'workers', colour: GREEN, value: ({ workers }) => workers },
    ],
  },
];

const WIDTH = 760;
const LEFT = 84;
const RIGHT = 16;
const TOP = 46;
const HEIGHT = 92;
const GAP = 40;
const BOTTOM = 44;
/** The least that a logarithmic axis shows. */
const LEAST_LOG = 0.1;

/** @param title - in one line, above all */
export function chartOf(samples: readonly Sample[], title: string): string {
  const minutes = (samples.at(-1)?.at ?? 0) / 60;
  const x = scaleLinear([0, minutes], [LEFT, WIDTH - RIGHT]);
  const height = TOP + PANELS.length * (HEIGHT + GAP) - GAP + BOTTOM;
  const panels = PANELS.map((panel, index) => panelOf(panel, samples, x, TOP + index * (HEIGHT + GAP)));
  const bottom = height - BOTTOM;
  const times = x.ticks(10).map((tick) => label(x(tick), bottom + 16, String(tick), 'middle'));
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img"`,
    ` font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="11" fill="${TEXT}">`,
    `<title>${escaped(title)}</title>`,
    `<text x="${LEFT}" y="16" font-size="12">${escaped(title)}</text>`,
    ...panels,
    ...times,
    label((LEFT + WIDTH - RIGHT) / 2, bottom + 34, 'minutes', 'middle'),
    '</svg>',
  ].join('\n')}\n`;
}

type TimeScale = (minutes: number) => number;

function panelOf(
  { title, unit, series, isLog = false }: Panel,
  samples: readonly Sample[],
  x: TimeScale & { ticks(count: number): number[] },
  top: number,
): string {
  const most = Math.max(1, ...series.flatMap(({ value }) => samples.map(value)));
  const range = [top + HEIGHT, top];
  const y = isLog ? scaleLog([LEAST_LOG, most], range).nice() : scaleLinear([0, most], range).nice(4);
  const ticks = isLog
    ? y.ticks().filter((tick) => Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6))
    : y.ticks(4);
  const format = y.tickFormat(4, '~s');
  const grid = ticks.flatMap((tick) => [
    `<path d="M${LEFT} ${rounded(y(tick))}H${WIDTH - RIGHT}" stroke="${GRID}"/>`,
    label(LEFT - 6, y(tick) + 4, format(tick), 'end'),
  ]);
  const upright = x.ticks(10).map((tick) => `<path d="M${rounded(x(tick))} ${top}V${top + HEIGHT}" stroke="${GRID}"/>`);
  const middle = top + HEIGHT / 2;
  let at = LEFT + 7 * (title.length + 3);
  const legend = series.map(({ label: text, colour }) => {
    const entry = `<rect x="${at}" y="${top - 15}" width="10" height="3" fill="${colour}"/>${label(at + 14, top - 10, text, 'start')}`;
    at += 14 + 6.2 * text.length + 16;
    return entry;
  });
  return [
    `<text x="${LEFT}" y="${top - 10}" font-weight="600">${title}</text>`,
    `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle" font-size="10">${unit}</text>`,
    ...legend,
    ...grid,
    ...upright,
    ...series.map(({ value, colour }) => {
      const path = line<Sample>(
        ({ at: seconds }) => x(seconds / 60),
        (sample) => y(isLog ? Math.max(LEAST_LOG, value(sample)) : value(sample)),
      ).digits(1)(samples);
      return `<path d="${path ?? ''}" fill="none" stroke="${colour}" stroke-width="1.2" stroke-linejoin="round"/>`;
    }),
  ].join('\n');
}

function label(x: number, y: number, text: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${rounded(x)}" y="${rounded(y)}" text-anchor="${anchor}">${escaped(text)}</text>`;
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
}
