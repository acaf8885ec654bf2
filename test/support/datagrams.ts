/** Datagrams that tell their place in the input, and what must be true of those that arrive. */
import { expect } from 'vitest';
import type { SenderStats } from '../../src/sender/diagnostics.ts';

/** Datagram `index`: its number, then filler up to `size` bytes. */
export function numbered(index: number, size: number = 12): string {
  return `${index}:`.padEnd(size, String.fromCharCode(97 + (index % 26)));
}

export function numberedList(count: number, size?: number): string[] {
  return Array.from({ length: count }, (_, index) => numbered(index, size));
}

/** The numbers of what arrived, its bytes checked. */
export function numbersOf(datagrams: readonly (Uint8Array | string)[]): number[] {
  return datagrams.map((datagram) => {
    const text = typeof datagram === 'string' ? datagram : Buffer.from(datagram).toString();
    const index = Number.parseInt(text, 10);
    if (text !== numbered(index, text.length)) throw new Error(`Mangled: ${text}`);
    return index;
  });
}

/** 0 … count-1, without some. */
export function range(count: number, without: readonly number[] = []): number[] {
  return Array.from({ length: count }, (_, index) => index).filter((index) => !without.includes(index));
}

/** Invariant 1: accepted = sent + rejected + dropped + queued, and what went into another one, or gave way to it; and what is told by reason, code and size adds up. */
export function expectConservation(stats: SenderStats): void {
  const { accepted, sent, rejected, dropped, queued, conflated, packed, droppedBy, rejectedBy, batchSizes, syscalls } =
    stats;
  expect(sent + rejected + dropped + queued + conflated + packed).toBe(accepted);
  expect(sumOf(Object.values(droppedBy))).toBe(dropped);
  expect(sumOf(Object.values(rejectedBy))).toBe(rejected);
  expect(sumOf(batchSizes)).toBeLessThanOrEqual(syscalls);
  // Each call took more than the bucket below holds, and at most what its own does.
  const least = batchSizes.map((calls, bucket) => calls * (bucket === 0 ? 1 : 2 ** (bucket - 1) + 1));
  const most = batchSizes.map((calls, bucket) => calls * (bucket === 11 ? 65_536 : 2 ** bucket));
  expect(sumOf(least)).toBeLessThanOrEqual(sent);
  expect(sumOf(most)).toBeGreaterThanOrEqual(sent);
}

function sumOf(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}
