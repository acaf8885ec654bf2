/**
 * The cost of encoding alone: each shape in a process of its own, see `senders/encode.ts`. `Uint8Array.set` is the floor: what
 * the copy of 64 bytes costs here.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { median } from '../src/cli/bench/statistics.ts';

export const SHAPES = [
  'Uint8Array.set of 64 B',
  '64 B, Endpoint',
  '64 B, address and port',
  '64 B, Endpoint, GSO',
  '64-character string',
  '64-character string, GSO',
  'fresh metric string',
  'fresh metric string, GSO',
  'fresh metric string, packed',
] as const;

/** What is encoded. */
export type EncodedShape = (typeof SHAPES)[number];

/** Nanoseconds of a datagram (of a line, where lines are packed). */
export interface EncodeFigure {
  readonly median: number;
  readonly least: number;
}

/** By the shape that is emitted. */
export function measureEncoding(): Record<string, EncodeFigure> {
  const script = fileURLToPath(new URL('./senders/encode.js', import.meta.url));
  return Object.fromEntries(
    SHAPES.map((shape) => {
      const nanoseconds = JSON.parse(execFileSync(process.execPath, [script, shape], { encoding: 'utf8' })) as number[];
      return [shape, { median: median(nanoseconds), least: Math.min(...nanoseconds) }];
    }),
  );
}
