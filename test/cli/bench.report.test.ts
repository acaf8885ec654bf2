import { describe, expect, it } from 'vitest';
import { chartPoints, chartSpec, renderSvg } from '../../benchmarks/chart.ts';
import { type Metric, type Result, type Row, type Run, renderRun, selectFrom } from '../../src/cli/bench/report.ts';
import { requires } from '../support/requires.ts';

function row(sender: string, metrics: { [metric in Metric]?: number[] }, counts: Partial<Row> = {}): Row {
  return { sender, metrics, sent: 1000, received: 1000, datagrams: 1000, dropped: 0, ...counts };
}

const flood: Result = {
  workload: 'flood-64',
  kind: 'throughput',
  receiver: 'count',
  rows: [
    row('rx-sendmmsg', { nanoseconds: [300, 200, 220], busyNanoseconds: [180, 190, 185] }),
    row('node:dgram', { nanoseconds: [4400, 4000, 5000], busyNanoseconds: [4000, 4100, 4200] }, { received: 985 }),
    row('C sendmmsg + GSO', { nanoseconds: [110, 90, 100], busyNanoseconds: [100, 90, 80] }),
    row('C sendmmsg + GSO, copying', { nanoseconds: [132, 132, 132] }, { dropped: 250, sent: 750, received: 750 }),
  ],
};
const run: Run = {
  machine: { Linux: '6.18.0', CPU: '2 × Test', Node: 'v20.19.0', koffi: '3.3.4' },
  settings: { rounds: 3, seconds: 0.5 },
  encode: { '64 B, Endpoint': { median: 99.6, least: 80.2 } },
  missing: ['Not installed: bun. To install: `npm ci --prefix benchmarks`.'],
  results: [
    flood,
    { ...flood, receiver: 'drop', rows: [row('rx-sendmmsg', { nanoseconds: [500] }, { received: 0 })] },
    {
      workload: 'unix-slow',
      kind: 'drain',
      receiver: 'slow',
      rows: [
        row('rx-sendmmsg, inline', { nanoseconds: [2000, 2100, 2200], wait: [1_500_000], busyNanoseconds: [900] }),
        row('rx-sendmmsg, offload', { nanoseconds: [42_000], busyNanoseconds: [1300] }),
      ],
    },
    {
      workload: 'event-loop',
      kind: 'loop',
      receiver: 'count',
      rows: [
        row('rx-sendmmsg, offload', { nanoseconds: [400], busyNanoseconds: [100] }),
        row('node:dgram', { nanoseconds: [5000], busyNanoseconds: [4000] }),
      ],
    },
    {
      workload: 'latency',
      kind: 'latency',
      receiver: 'latency',
      rows: [row('rx-sendmmsg', { p50: [40_000, 50_000, 60_000], p99: [90_000, 99_000, 500_000] })],
    },
    {
      workload: 'memory',
      kind: 'memory',
      receiver: 'drop',
      rows: [
        row(
          'rx-sendmmsg',
          {
            nanoseconds: [400],
            heapBytes: [2048],
            externalBytes: [0],
            rssBytes: [-10_240],
            gcNanoseconds: [12.34],
            minorCollections: [29],
            majorCollections: [0],
          },
          { datagrams: 10_000_000 },
        ),
      ],
    },
  ],
};

describe('the tables', () => {
  it('name the machine, the versions, and who is missing', () => {
    expect(renderRun(run).split('\n').slice(0, 3)).toEqual([
      'Linux 6.18.0, CPU 2 × Test, Node v20.19.0, koffi 3.3.4. Medians of 3 rounds of 0.5 s.',
      '- Not installed: bun. To install: `npm ci --prefix benchmarks`.',
      '',
    ]);
  });

  it.each([
    [
      'flood-64, the receiver counts (recvmmsg, GRO)',
      '| sender | ns a datagram | ± | a second | × C sendmmsg + GSO | × C sendmmsg + GSO, copying | × node:dgram | loop ns | received |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg | 220.0 | 11 % | 4,545,455 | 0.45 | 0.60 | 20.00 | 185.0 | 100.0 % |',
      '| node:dgram | 4400 | 6 % | 227,273 | 0.02 | 0.03 | 1.00 | 4100 | 98.5 % |',
      '| C sendmmsg + GSO | 100.0 | 5 % | 10,000,000 | 1.00 | 1.32 | 44.00 | 90.0 | 100.0 % |',
      '| C sendmmsg + GSO, copying | 132.0 | 0 % | 7,575,758 | 0.76 | 1.00 | 33.33 | - | 100.0 % |',
      '',
      'C sendmmsg + GSO, copying gave up 25.0 % itself.',
    ],
    [
      'flood-64, the receiver drops in the kernel',
      '| sender | ns a datagram | ± | a second | loop ns | received |',
      '| --- | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg | 500.0 | 0 % | 2,000,000 | - | - |',
    ],
    [
      'unix-slow, the receiver pauses 1 ms between reads',
      '| sender | ns a datagram | ± | / rx-sendmmsg, inline | mean wait us | loop ns | received |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg, inline | 2100 | 2 % | 1.00 | 1500 | 900.0 | 100.0 % |',
      '| rx-sendmmsg, offload | 42000 | 0 % | 20.00 | - | 1300 | 100.0 % |',
    ],
    [
      'event-loop, the receiver counts (recvmmsg, GRO)',
      '| sender | loop ns a datagram | ± | × node:dgram | loop busy | a second | received |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg, offload | 100.0 | 0 % | 40.00 | 25.0 % | 2,500,000 | 100.0 % |',
      '| node:dgram | 4000 | 0 % | 1.00 | 80.0 % | 200,000 | 100.0 % |',
    ],
    [
      'latency, from `next()` to the receiver',
      '| sender | p50 us | ± | p99 us | ± | received |',
      '| --- | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg | 50 | 10 % | 99 | 104 % | 100.0 % |',
    ],
    [
      'memory, the receiver drops in the kernel',
      '| sender | datagrams | heap | external | RSS | GC ns a datagram | minor GCs | major GCs | ns a datagram |',
      '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
      '| rx-sendmmsg | 10,000,000 | +2 KiB | +0 KiB | -10 KiB | 12.3 | 29 | 0 | 400.0 |',
    ],
    [
      'encode: into the queue, planned, and out again, no system call',
      '| datagram | ns, median | ns, least |',
      '| --- | ---: | ---: |',
      '| 64 B, Endpoint | 100 | 80 |',
    ],
  ])('%s', (title, ...lines) => {
    const sections = renderRun(run)
      .split('\n### ')
      .map((section) => section.trim());
    expect(sections.find((section) => section.startsWith(title))).toBe([title, '', ...lines].join('\n'));
  });

  it('are the same from stored JSON', () => {
    expect(renderRun(JSON.parse(JSON.stringify(run)))).toBe(renderRun(run));
  });

  it('show the asked-for workloads and senders alone', () => {
    const part = selectFrom(run, ['flood-64', 'latency'], (sender) => sender === 'node:dgram');
    expect(part.encode).toBeUndefined();
    expect(part.results.map(({ workload, receiver, rows }) => [workload, receiver, rows.length])).toEqual([
      ['flood-64', 'count', 1],
    ]);
    expect(selectFrom(run, ['encode', ...run.results.map(({ workload }) => workload)], () => true)).toEqual(run);
  });
});

describe('the chart', () => {
  it('has a point for each sender: the median a second, its quartiles, and the ratio to node:dgram', () => {
    const points = chartPoints(run);
    expect(points.map(({ sender, family, label }) => [sender, family, label])).toEqual([
      ['rx-sendmmsg', 'rx-sendmmsg', '4.55M (20×)'],
      ['node:dgram', 'others', '227k (1.0×)'],
      ['C sendmmsg + GSO', 'C, the ceiling', '10.0M (44×)'],
      ['C sendmmsg + GSO, copying', 'C, the ceiling', '7.58M (33×)'],
    ]);
    for (const { low, perSecond, high } of points)
      expect([low, perSecond, high].sort((a, b) => a - b)).toEqual([low, perSecond, high]);
  });

  it('has the powers of ten around all points on its axis', () => {
    expect(JSON.stringify(chartSpec(run))).toContain('"values":[100000,1000000,10000000,100000000]');
  });

  it('is drawn as SVG, to the byte the same each time, and legible on any background', async (context) => {
    requires(context, 'chart');
    const svg = await renderSvg(run);
    expect(await renderSvg(run)).toBe(svg);
    expect(svg).toMatch(/^<svg [^>]*width="\d+" height="\d+"/);
    for (const text of ['flood-64', 'C sendmmsg + GSO, copying', '4.55M (20×)', '100k', 'node:dgram']) {
      expect(svg).toContain(`>${text}<`);
    }
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    const colours = new Set(
      Array.from(svg.matchAll(/(?:fill|stroke)="(#[0-9a-f]{3,8}|white|black)"/gi), ([, colour]) => colour!),
    );
    expect(colours.size).toBeGreaterThanOrEqual(3);
    // WCAG 2.1, 1.4.11: 3:1 for what has to be made out; the grid, which has not, is translucent.
    for (const colour of [...colours].filter(({ length }) => length === 7)) {
      for (const background of ['#ffffff', '#0d1117']) {
        expect(contrast(colour, background), `${colour} on ${background}`).toBeGreaterThan(3);
      }
    }
    expect([...colours]).not.toContain('white');
  });
});

/** @see {@link https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio | WCAG 2.1, contrast ratio} */
function contrast(one: string, other: string): number {
  const luminance = (colour: string): number => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high! + 0.05) / (low! + 0.05);
}
