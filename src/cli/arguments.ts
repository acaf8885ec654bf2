/**
 * Option values: parsed and checked before anything is opened. Each parser throws InvalidArgumentError.
 */
import { InvalidArgumentError } from 'commander';
import type { Framing } from './framing.ts';

const LARGEST_FRAME = 2 ** 30;

/** A parser of decimal integers. */
export function integer(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < lowest || value > highest) {
      throw new InvalidArgumentError(`It must be an integer from ${lowest} to ${highest}.`);
    }
    return value;
  };
}

/** How the input of `send` is framed. */
export function parseFraming(text: string): Framing {
  if (text === 'lines' || text === 'length-prefixed') return { kind: text };
  if (text.startsWith('fixed:')) return { kind: 'fixed', size: integer(1, LARGEST_FRAME)(text.slice('fixed:'.length)) };
  throw new InvalidArgumentError('It must be lines, length-prefixed or fixed:BYTES.');
}

/** How the output of `recv` is framed. */
export function parseOutputFraming(text: string): 'lines' | 'length-prefixed' {
  if (text === 'lines' || text === 'length-prefixed') return text;
  throw new InvalidArgumentError('It must be lines or length-prefixed.');
}
