import { describe, expect, it } from 'vitest';
import { ROSTER } from '../../benchmarks/roster.ts';
import { keepInFlight } from '../../src/cli/bench/measure.ts';
import { addressesOf, lengthsOf, lineOf, metricOf } from '../../src/cli/bench/workload.ts';

describe('metric lines', () => {
  it.each(['equal', 'mixed'] as const)('%s: 30 to 60 characters, and the C sender is given their lengths', (lines) => {
    const lengths = Array.from({ length: 2000 }, (_, n) => lineOf(lines, n).length);
    expect(Math.min(...lengths)).toBeGreaterThanOrEqual(30);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(60);
    const given = lengthsOf({ bytes: 1, lines });
    expect(given).toEqual(lengths.slice(0, given.length));
    if (lines === 'equal') expect(lengths.every((length) => length === given[0])).toBe(true);
    else expect(new Set(lengths).size).toBeGreaterThan(4);
  });

  it.each(['equal', 'mixed'] as const)('%s: in parts they say the same', (lines) => {
    for (let n = 0; n < 2000; n++) {
      const { name, value, tags } = metricOf(lines, n);
      expect(lineOf(lines, n)).toBe(`${name}:${value}|${lines === 'equal' ? 'c' : 'ms'}|#${tags.join()}`);
    }
  });
});

describe('the roster', () => {
  it('names every workload once, and in it every sender once', () => {
    const names = ROSTER.map(({ shape }) => shape.name);
    expect(new Set(names).size).toBe(names.length);
    for (const { peers } of ROSTER) expect(new Set(peers.map(({ name }) => name)).size).toBe(peers.length);
  });

  it('gives each of the destinations an address of its own', () => {
    const addresses = addressesOf({ destinations: 1000 });
    expect(new Set(addresses).size).toBe(1000);
    expect(addresses[257]).toBe('127.1.1.1');
  });
});

describe('64 in flight', () => {
  it('are kept up until the time is over, and all are waited for', async () => {
    let inFlight = 0;
    let most = 0;
    let asked = 0;
    const sent = await keepInFlight(
      (_n, done) => {
        most = Math.max(most, ++inFlight);
        setImmediate(() => {
          inFlight--;
          done();
        });
      },
      () => ++asked > 5,
    );
    expect({ sent, most, inFlight }).toEqual({ sent: 5 * 64, most: 64, inFlight: 0 });
  });

  it('fail with the first error', async () => {
    const failing = keepInFlight(
      (n, done) => setImmediate(done, n === 70 ? new Error('datagram 70') : null),
      () => false,
    );
    await expect(failing).rejects.toThrow('datagram 70');
  });
});
