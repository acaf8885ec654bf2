/** A short soak, as `npm run soak` runs it; and that what it looks for would be seen. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { Dice } from '../faults/random.ts';
import { bytesOf, type Channel, channel, roomyBuffer, textOf } from '../soak/channel.ts';
import { chartOf } from '../soak/chart.ts';
import { Expectations } from '../soak/expectations.ts';
import type { ChannelState } from '../soak/receiver-plan.ts';
import type { Sample } from '../soak/sample.ts';
import type { SoakResult } from '../soak/soak.ts';
import { StreamCheck } from '../soak/stream-check.ts';
import { type Point, theilSen, trendOf } from '../soak/trend.ts';
import { checkSamples, checkWorkload, KEPT_BY_KOFFI, LIMITS, MIB, type WorkloadResult } from '../soak/verdict.ts';
import { type ChildResult, run } from '../support/child.ts';

const SCRIPT = fileURLToPath(new URL('../../dist/test/soak/run.js', import.meta.url));
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-'));
  folders.push(folder);
  return folder;
}

async function soak(...args: string[]): Promise<ChildResult & { result: SoakResult; svg: string }> {
  const folder = freshFolder();
  const [out, json] = [join(folder, 'soak.svg'), join(folder, 'soak.json')];
  const command = [process.execPath, SCRIPT, '--out', out, '--json', json, ...args];
  const outcome = await run(command, { timeoutMs: 110_000 });
  const read = (path: string): string => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      throw new Error(`The soak has written no ${path}: ${outcome.stdout}${outcome.stderr}`);
    }
  };
  return { ...outcome, result: JSON.parse(read(json)) as SoakResult, svg: read(out) };
}

describe('npm run soak', () => {
  it('passes, with each workload at work, and draws what it saw', { timeout: 120_000 }, async () => {
    const { code, stdout, stderr, result, svg } = await soak('--minutes', '0.15', '--seed', '7');
    const failed = result.checks.filter(({ ok }) => !ok);
    expect({ code, failed }, stdout).toEqual({ code: 0, failed: [] });
    expect(stderr).toBe('soak: 0.15 minutes, --seed 7\n');
    expect(stdout).toContain('PASSED');
    for (const { name, received, sent } of result.workloads) {
      expect(received, name).toBeGreaterThan(0);
      expect(sent, name).toBeGreaterThan(0);
    }
    const totals = new Map(result.workloads.map((workload) => [workload.name, workload]));
    expect(totals.get('maxAgeMs')!.droppedBy['age']).toBeGreaterThan(0);
    expect(totals.get('drop-oldest')!.droppedBy['overflow']).toBeGreaterThan(0);
    expect(totals.get('conflateBy')!.conflated).toBeGreaterThan(0);
    expect(totals.get('pack')!.packed).toBeGreaterThan(0);
    expect(totals.get('a reader that is restarted')!.rejected).toBeGreaterThan(0);
    expectWellFormed(svg);
  });

  it.each([
    ['lose', 'arrivals'],
    ['descriptor', 'descriptors'],
  ])('fails where it is made to %s something, and says so by its seed', { timeout: 120_000 }, async (what, check) => {
    const { code, stdout, result } = await soak('--minutes', '0.1', '--seed', '8', '--sabotage', what);
    expect(code).toBe(1);
    expect(stdout).toContain('FAILED');
    expect(stdout).toContain('--seed 8');
    expect(result.checks.find(({ name }) => name === check)).toMatchObject({ ok: false });
  });

  it('ends early on Ctrl-C, with its verdict and its chart', { timeout: 120_000 }, async () => {
    const out = join(freshFolder(), 'soak.svg');
    const child = spawn(process.execPath, [SCRIPT, '--minutes', '60', '--seed', '9', '--out', out]);
    child.stderr.once('data', () => child.kill('SIGINT')); // it tells its seed when it begins
    const [stdout] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    expect(child.exitCode, stdout).toBe(0);
    expect(stdout).toMatch(/PASSED after \d+ s of 3600 \(ended early\), --seed 9/);
    expectWellFormed(readFileSync(out, 'utf8'));
  });

  it.each([
    [['--minutes', '0'], '--minutes must be above 0, not 0'],
    [['--seed', 'x'], '--seed must be an integer, not x'],
    [['--sabotage', 'all'], '--sabotage must be one of lose, double, swap, alter, leak, descriptor, block'],
    [['--hours', '1'], "Unknown option '--hours'"],
  ])('refuses %j', async (args, message) => {
    const { code, stderr } = await run([process.execPath, SCRIPT, ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe('what arrives', () => {
  const scratch = roomyBuffer();
  const datagram = (generation: number, sequence: number): Buffer => Buffer.from(textOf(generation, sequence));

  function violationsOf(to: Channel, datagrams: readonly Buffer[]): readonly string[] {
    const check = new StreamCheck(to);
    for (const each of datagrams) check.take(each);
    expect(check.violations > 0).toBe(check.told.length > 0);
    return check.told;
  }
  const first = (count: number, generation = 0): Buffer[] =>
    Array.from({ length: count }, (_, sequence) => datagram(generation, sequence));

  it('of any size, empty ones included, is known by its place', () => {
    const to = channel('x', 'exact', 'any size');
    const all = Array.from({ length: 2000 }, (_, n) => Buffer.from(bytesOf(to, 0, n, scratch)));
    expect(all.some(({ length }) => length === 0)).toBe(true);
    expect(all.some(({ length }) => length > 9000)).toBe(true);
    expect(violationsOf(to, all)).toEqual([]);
    const empty = all.findIndex(({ length }) => length === 0);
    expect(violationsOf(to, all.toSpliced(empty, 1))).not.toEqual([]);
    expect(violationsOf(to, all.toSpliced(empty, 0, Buffer.alloc(0)))).not.toEqual([]);
  });

  const ORDERS = ['exact', 'prefix', 'increasing', 'lines'] as const;
  it.each(ORDERS)('%s: in order, once each, passes; doubled, swapped or altered does not', (order) => {
    const to = channel('x', order, 'text');
    const all = first(50);
    expect(violationsOf(to, all)).toEqual([]);
    expect(violationsOf(to, all.toSpliced(20, 0, all[20]!))).not.toEqual([]);
    expect(violationsOf(to, all.toSpliced(20, 2, all[21]!, all[20]!))).not.toEqual([]);
    const altered = Buffer.from(all[20]!);
    altered[altered.length - 1]! ^= 1;
    expect(violationsOf(to, all.toSpliced(20, 1, altered))).not.toEqual([]);
    expect(violationsOf(to, all.toSpliced(20, 1, all[20]!.subarray(1)))).not.toEqual([]);
    expect(violationsOf(to, all.toSpliced(20, 1)).length > 0).toBe(order !== 'increasing');
  });

  it('of a later generation begins anew, and is counted', () => {
    const check = new StreamCheck(channel('x', 'prefix', 'text'));
    for (const each of [...first(3, 0), ...first(5, 2)]) check.take(each);
    expect(check.told).toEqual([]);
    expect(check.takeEnded(true)).toEqual([
      [0, 3],
      [2, 5],
    ]);
    check.take(datagram(1, 5));
    check.take(datagram(3, 1));
    expect(check.violations).toBe(2);
  });

  it('as lines is told apart', () => {
    const check = new StreamCheck(channel('x', 'lines', 'text'));
    check.take(Buffer.from([textOf(0, 0), textOf(0, 1)].join('\n')));
    check.take(datagram(0, 2));
    expect([check.received, check.violations]).toEqual([3, 0]);
    check.take(Buffer.from(`${textOf(0, 3)}\n`));
    expect(check.violations).toBe(1);
  });

  it('as the latest state of a key may be newer than what comes behind it for another, never older than its own', () => {
    const to = channel('x', 'latest', 'text');
    expect(violationsOf(to, [datagram(0, 900), datagram(0, 5), datagram(0, 901)])).toEqual([]);
    expect(violationsOf(to, [datagram(0, 900), datagram(0, 900)])).not.toEqual([]);
  });

  it('is compared with what was sent, generation by generation', () => {
    const to = channel('x', 'prefix', 'text');
    const ended = (...all: [number, number][]): ChannelState =>
      ({ ended: all, lastByKey: [] }) as unknown as ChannelState;
    const met = (...all: [number, number][]): readonly string[] => {
      const expectations = new Expectations();
      expectations.expect(to, 0, 3, 3);
      expectations.expect(to, 1, 0, 0);
      expectations.expect(to, 2, 4, 6);
      expectations.compare(to, ended(...all), true);
      return expectations.violations;
    };
    expect(met([0, 3], [2, 5])).toEqual([]);
    expect(met([0, 2], [2, 5])).toEqual(['x, generation 0: 2 received and not 3']);
    expect(met([0, 3], [1, 1], [2, 4])).toEqual(['x, generation 1: 1 received and not 0']);
    expect(met([0, 3], [2, 7])).toEqual(['x, generation 2: 7 received and not 4 to 6']);
    expect(met([2, 4])).toEqual(['x, generation 0: 0 received and not 3']);
    expect(met([0, 3])).toEqual(['x, generation 2: 0 received and not 4 to 6']);
  });
});

describe('the books', () => {
  const totals = {
    senders: 1,
    accepted: 10,
    sent: 7,
    rejected: 1,
    dropped: 2,
    conflated: 0,
    packed: 0,
    queued: 0,
    segments: 0,
  };
  const good: WorkloadResult = {
    workload: {
      name: 'w',
      channels: [channel('x', 'increasing', 'text')],
      mayDrop: ['overflow'],
      mayReject: ['ENOENT'],
    },
    totals: { ...totals, droppedBy: { overflow: 2 }, rejectedBy: { ENOENT: 1 } },
    told: { sent: 7, rejected: 1, dropped: 2, conflated: 0 },
    states: [{ received: 7 } as ChannelState],
  };

  it('pass where all that was sent was received', () => {
    expect(checkWorkload(good)).toEqual([]);
  });

  it.each<[string, Partial<WorkloadResult>, string]>([
    ['lost', { states: [{ received: 6 } as ChannelState] }, 'w: 7 sent, but 6 received'],
    ['doubled', { states: [{ received: 8 } as ChannelState] }, 'w: 7 sent, but 8 received'],
    ['not told of', { told: { ...good.told, dropped: 1 } }, 'w: 2 dropped, but reports told of 1'],
    ['left', { totals: { ...good.totals, queued: 1 } }, 'w: 1 still queued'],
    ['dropped otherwise', { totals: { ...good.totals, droppedBy: { age: 2 } } }, 'w: 2 dropped: age'],
    ['rejected otherwise', { totals: { ...good.totals, rejectedBy: { EBADF: 1 } } }, 'w: 1 rejected: EBADF'],
  ])('fail where something was %s', (_what, change, violation) => {
    expect(checkWorkload({ ...good, ...change })).toEqual([violation]);
  });
});

describe('the trend', () => {
  const SECONDS = 600;
  const series = (valueAt: (second: number) => number): Point[] =>
    Array.from({ length: SECONDS }, (_, at) => ({ at, value: valueAt(at) }));
  const noise = new Dice(3);
  const noisy = (value: number): number => value + (noise.next() - 0.5) * 40 * MIB;

  const checkOf = (
    name: string,
    valueAt: (second: number) => number,
    descriptors: readonly [number, number] = [9, 9],
  ) => {
    const samples = series(valueAt).map(({ at, value }) => sampleAt(at, { rss: value }));
    return checkSamples(samples, descriptors).find((check) => check.name === name)!;
  };

  it.each<[string, (second: number) => number]>([
    ['flat', () => 200 * MIB],
    ['flat under noise', () => noisy(200 * MIB)],
    ['a step in the warm-up', (at) => noisy((at < 100 ? 80 : 200) * MIB)],
    ['a climb in the warm-up', (at) => noisy((80 + Math.min(at, 140)) * MIB)],
    ['a few outliers', (at) => (at % 20 === 0 ? 900 : 200) * MIB],
    ['falling', (at) => noisy((400 - at / 10) * MIB)],
  ])('passes: %s', (_what, valueAt) => {
    expect(checkOf('rss', valueAt)).toMatchObject({ ok: true });
  });

  it.each<[string, (second: number) => number]>([
    ['a leak under noise', (at) => noisy((200 + at / 15) * MIB)],
    ['a leak in steps', (at) => (200 + 8 * Math.floor(at / 60)) * MIB],
    ['a late climb', (at) => (at < 430 ? 200 : 260) * MIB],
  ])('fails: %s', (_what, valueAt) => {
    expect(checkOf('rss', valueAt)).toMatchObject({ ok: false });
  });

  it('of a slow leak is seen in a run of two hours, and is noise in one of ten minutes', () => {
    const leaking = (seconds: number): Sample[] =>
      Array.from({ length: SECONDS }, (_, index) => (index * seconds) / SECONDS).map((at) =>
        sampleAt(at, { rss: noisy((200 + (at * 1.5 * LIMITS.perHour) / 3600) * MIB) }),
      );
    expect(checkSamples(leaking(600), [9, 9])[0]).toMatchObject({ ok: true });
    expect(checkSamples(leaking(7200), [9, 9])[0]).toMatchObject({ ok: false });
  });

  it('does not blame the sender for what koffi keeps of each thread that has ended', () => {
    const growing = (workersStarted: (second: number) => number): Sample[] =>
      series((at) => 200 * MIB + at * 2 * KEPT_BY_KOFFI).map(({ at, value }) =>
        sampleAt(at, { rss: value, workersStarted: workersStarted(at) }),
      );
    expect(
      checkSamples(
        growing((at) => 2 * at),
        [9, 9],
      )[0],
    ).toMatchObject({ ok: true });
    expect(
      checkSamples(
        growing(() => 0),
        [9, 9],
      )[0],
    ).toMatchObject({ ok: false });
  });

  it('is not judged in a run that is too short, and says so', () => {
    const samples = series((at) => at * MIB)
      .slice(0, 60)
      .map(({ at, value }) => sampleAt(at, { rss: value }));
    expect(checkSamples(samples, [9, 9])[0]).toMatchObject({ ok: true, text: expect.stringContaining('not judged') });
  });

  it('is the median of all slopes', () => {
    expect(theilSen([0, 1, 2, 50, 4].map((value, at) => ({ at, value })))).toBe(1);
    expect(trendOf(series((at) => at)).perHour).toBeCloseTo(3600, 6);
  });

  it('fails where a descriptor is left, and where the event loop is held up', () => {
    expect(checkOf('descriptors', () => MIB, [9, 10]).ok).toBe(false);
    const loop = (samples: readonly Sample[]) =>
      checkSamples(samples, [9, 9]).find(({ name }) => name === 'event loop');
    const lateOnce = (starved: number): Sample[] =>
      series(() => 0).map(({ at }) => sampleAt(at, at === 300 ? { delayMax: LIMITS.delayMax + 1, starved } : {}));
    expect(loop(lateOnce(0))).toMatchObject({ ok: false });
    // No fault of its own: others had the cores.
    expect(loop(lateOnce(LIMITS.starved * 2))).toMatchObject({ ok: true });
    const starved = series(() => 0).map(({ at }) => sampleAt(at, { delayP99: 900, starved: 0.9 }));
    expect(loop(starved)).toMatchObject({ ok: true, text: expect.stringContaining('not judged') });
  });
});

it('the chart is well-formed, whatever its title', () => {
  const samples = Array.from({ length: 20 }, (_, at) => sampleAt(at, { delayP50: 0, queued: at }));
  expectWellFormed(chartOf(samples, '<a & b>'));
});

function sampleAt(at: number, other: Partial<Sample> = {}): Sample {
  const memory = { rss: 200 * MIB, heapUsed: 20 * MIB, external: 9 * MIB, arrayBuffers: 8 * MIB };
  const delay = { delayP50: 1, delayP99: 5, delayMax: 9, starved: 0 };
  const rest = {
    descriptors: 40,
    queued: 5,
    sentPerSecond: 1,
    receivedPerSecond: 1,
    stalled: 3,
    senders: 9,
    workers: 2,
    workersStarted: 0,
  };
  return { at, ...memory, ...delay, ...rest, ...other };
}

/** Every tag is closed, every attribute is a number or a text, and there is a line for each series. */
function expectWellFormed(svg: string): void {
  const open: string[] = [];
  let rest = svg.trim();
  for (const [tag, closes, name, isEmpty] of svg.matchAll(/<(\/?)([a-z]+)(?:\s+[a-zA-Z-]+="[^"<]*")*\s*(\/?)>/g)) {
    rest = rest.replace(tag!, '');
    if (closes === '/') expect(open.pop()).toBe(name);
    else if (isEmpty === '') open.push(name!);
  }
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]|&(?!#\d+;)/);
  expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  expect(svg.match(/<path d="M[^"]+" fill="none"/g)?.length).toBe(15);
  for (const unit of ['MiB', 'datagrams/s', 'ms late', 'minutes']) expect(svg).toContain(unit);
}
