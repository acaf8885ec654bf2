/**
 * A channel: one receiving socket, and what may arrive there.
 *
 * What a datagram holds follows from its channel, its generation and its number, so the receiver knows every byte that it ought to
 * have, and nobody has to remember any. A generation is the life of one sender, where several follow one another on a channel.
 */
import { Dice } from '../faults/random.ts';

/**
 * What is owed to the datagrams of a channel:
 *
 * - `'exact'`: all, one after another; only here they may be shorter than their header, or empty
 * - `'lines'`: the same, of lines that share datagrams
 * - `'prefix'`: of each generation the first so many, one after another
 * - `'increasing'`: some, in order
 * - `'latest'`: some of each key, in order, the last one among them
 */
export type Order = 'exact' | 'lines' | 'prefix' | 'increasing' | 'latest';

/** What they are made of: text of some 20 to 300 bytes, bytes of 0 to 60 000, or 200 bytes each. */
export type Content = 'text' | 'any size' | 'equal';

/**
 * What a reader does before it closes its socket, so that nothing more comes in and what is there can still be read: SHUT_RD (EPIPE), or
 * it connects its socket to itself, and then nobody else may send to it (EPERM).
 */
export type Leaving = 'by shutdown' | 'by connecting';

export interface Channel {
  readonly name: string;
  readonly type: 'unix' | 'udp';
  readonly order: Order;
  readonly content: Content;
  /** Whether its reader stalls, and reads at random speeds. */
  readonly stalls: boolean;
  /** How its reader goes away now and then, if it does; it comes back. */
  readonly leaves: Leaving | null;
}

/** A unix channel whose reader stalls. */
export function channel(
  name: string,
  order: Order,
  content: Content,
  other: Partial<Pick<Channel, 'type' | 'stalls' | 'leaves'>> = {},
): Channel {
  return { name, type: 'unix', order, content, stalls: true, leaves: null, ...other };
}

/** Keys of a `'latest'` channel. */
export const KEYS = 64;
export const MAX_SIZE = 60_000;
const EQUAL_SIZE = 200;
/** `'4.1234567890|'` and more. */
const MAX_HEADER = 32;

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz 0123456789 äöüß ščžł ελπίδα 日本語 ';
const TEXT_LENGTH = 1 << 14;
const BYTES_LENGTH = 1 << 17;

const dice = new Dice(1);
const bytes = Buffer.from(Uint8Array.from({ length: BYTES_LENGTH }, () => dice.between(0, 255)));
/** Every character is one code unit: it may be cut anywhere. */
const text = Array.from({ length: TEXT_LENGTH }, () => dice.one([...ALPHABET])).join('');

/** The text of a datagram. */
export function textOf(generation: number, sequence: number): string {
  const hash = mix(generation, sequence);
  const length = 16 + (hash % 180);
  const start = (hash >>> 8) % (TEXT_LENGTH - length);
  return `${generation}.${sequence}|${text.slice(start, start + length)}`;
}

/** The same in up to four parts, strings and bytes in turn. */
export function partsOf(generation: number, sequence: number): (string | Uint8Array)[] {
  const whole = textOf(generation, sequence);
  const step = Math.ceil(whole.length / (1 + (sequence % 4)));
  const parts: (string | Uint8Array)[] = [];
  for (let start = 0; start < whole.length; start += step) {
    const part = whole.slice(start, start + step);
    parts.push(parts.length % 2 === 0 ? part : Buffer.from(part));
  }
  return parts;
}

/**
 * The bytes of a datagram, written into `into`.
 *
 * @returns a view of `into`
 */
export function bytesOf(
  { order, content }: Pick<Channel, 'order' | 'content'>,
  generation: number,
  sequence: number,
  into: Buffer,
): Buffer {
  if (content === 'text') return into.subarray(0, into.write(textOf(generation, sequence)));
  const hash = mix(generation, sequence);
  const header = into.write(`${generation}.${sequence}|`, 'latin1');
  const wanted = content === 'equal' ? EQUAL_SIZE : anySize(hash);
  const size = order === 'exact' ? wanted : Math.max(wanted, header);
  if (size > header) bytes.copy(into, header, hash & 0xffff, (hash & 0xffff) + size - header);
  return into.subarray(0, size);
}

/** A buffer of its own, for those who keep it. */
export function freshBytesOf(channel: Channel, generation: number, sequence: number): Buffer {
  return Buffer.from(bytesOf(channel, generation, sequence, scratch));
}
const scratch = Buffer.alloc(MAX_SIZE + MAX_HEADER);

/** Where a buffer is large enough for all of them. */
export function roomyBuffer(): Buffer {
  return Buffer.alloc(MAX_SIZE + MAX_HEADER);
}

/** Generation and number, as a datagram says them; `undefined` if it does not. */
export function numbersOf(datagram: Buffer): { generation: number; sequence: number } | undefined {
  const match = /^(\d+)\.(\d+)\|/.exec(datagram.toString('latin1', 0, MAX_HEADER));
  return match === null ? undefined : { generation: Number(match[1]), sequence: Number(match[2]) };
}

/** The key of a datagram on a `'latest'` channel. */
export function keyOf(sequence: number): number {
  return mix(0, sequence) % KEYS;
}

/** Empty ones, small ones, those of an Ethernet frame, and some that are large. */
function anySize(hash: number): number {
  const percent = hash % 100;
  const fraction = (hash >>> 8) / 2 ** 24;
  const within = (lowest: number, highest: number): number => lowest + Math.floor(fraction * (highest - lowest + 1));
  if (percent < 3) return 0;
  if (percent < 10) return within(1, 15);
  if (percent < 70) return within(16, 300);
  if (percent < 95) return within(301, 1500);
  return percent < 99 ? within(1501, 9000) : within(9001, MAX_SIZE);
}

/** The finalizer of MurmurHash3 over both. */
function mix(generation: number, sequence: number): number {
  let hash = Math.imul(generation + 1, 0x9e3779b1) ^ sequence;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
