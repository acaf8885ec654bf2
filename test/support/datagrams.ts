/** Datagrams that tell their place in the input, and what must be true of those that arrive. */
import { expect } from 'vitest';
import type { SenderStats } from '../../src/diagnostics.ts';

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

/** Invariant 1: accepted = sent + rejected + dropped + queued, and what went into another one, or gave way to it. */
export function expectConservation(stats: SenderStats): void {
  const { accepted, sent, rejected, dropped, queued, conflated, packed, droppedBy } = stats;
  expect(sent + rejected + dropped + queued + conflated + packed).toBe(accepted);
  expect(Object.values(droppedBy).reduce((sum, count) => sum + count, 0)).toBe(dropped);
}
