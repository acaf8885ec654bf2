import { describe, expect, it } from 'vitest';
import type { Result } from '../../src/cli/bench/report.ts';
import { Mmsg } from '../support/mmsg.ts';

describe('mmsg bench', () => {
  it('sends for real, counts at the receiver, and tells who was how fast', { timeout: 120_000 }, async () => {
    const command = new Mmsg(['bench', '--json']);
    const { code, results, machine } = await command.summary<{ results: Result[]; machine: string }>();
    expect(code).toBe(0);
    expect(machine).toContain(process.version);
    expect(results.map(({ rows }) => rows.length)).toEqual([4, 2, 2]);
    for (const { rows } of results) {
      for (const row of rows) {
        expect(row.datagrams, row.sender).toBeGreaterThan(1000);
        expect(row.received, row.sender).toBeGreaterThan(row.sent * 0.5);
        expect(row.received, row.sender).toBeLessThanOrEqual(row.sent);
        expect(row.metrics.nanoseconds!.every((value) => value > 10)).toBe(true);
      }
    }
  });
});
