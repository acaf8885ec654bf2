/**
 * Numbers for people.
 */

/** `1,234,567` */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** `1 datagram`, `2 datagrams` */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** `987 B`, `1.23 MB` */
export function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}

/** `876k/s`, `1.23M/s` */
export function rate(perSecond: number): string {
  if (!Number.isFinite(perSecond)) return '-/s';
  if (perSecond >= 1e6) return `${(perSecond / 1e6).toFixed(2)}M/s`;
  return perSecond >= 1e4 ? `${Math.round(perSecond / 1e3)}k/s` : `${count(perSecond)}/s`;
}

/** A ratio to one decimal; `-` where there is nothing to divide by. */
export function ratio(dividend: number, divisor: number): string {
  return divisor === 0 ? '-' : (dividend / divisor).toFixed(1);
}

/** Rounded for a JSON summary. */
export function rounded(value: number, digits: number = 3): number {
  return Number.isFinite(value) ? Number(value.toFixed(digits)) : 0;
}
