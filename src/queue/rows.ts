/**
 * The columns of the queue: a row for a datagram, or for several of one length to one destination whose bytes lie one behind the other.
 *
 * Rows are counted for ever, in 32 bits; a row's place in the columns is its number without the upper bits. So a number means the same row
 * when the columns have grown.
 */
import type { Control } from '../message/cmsg.ts';
import type { Sockaddr } from '../message/datagram.ts';

/** So many that each column of these is small enough for V8 to keep on its heap: 64 bytes. */
const FIRST_ROWS = 8;

/** Of {@link Rows.flags}: all datagrams of the row were one input, whose sequence they have. */
export const ONE_INPUT = 1;
/** Of {@link Rows.flags}: the row, or part of it, is in the batch that was planned last. */
export const PLANNED = 2;

export class Rows {
  /** What a number is masked with. */
  mask: number = FIRST_ROWS - 1;
  /** Where the bytes lie in the slab. */
  chunk: Uint16Array = new Uint16Array(FIRST_ROWS);
  at: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** Bytes, all datagrams of a row together. */
  length: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** Bytes of a row's datagrams, but for the last, which may be shorter. */
  size: Uint32Array = new Uint32Array(FIRST_ROWS);
  /** Datagrams; 0: they are done with. */
  segments: Uint32Array = new Uint32Array(FIRST_ROWS);
  flags: Uint8Array = new Uint8Array(FIRST_ROWS);
  port: Uint16Array = new Uint16Array(FIRST_ROWS);
  /** The position in the input; with several datagrams, of the first, and each next one has the next. */
  sequence: Float64Array = new Float64Array(FIRST_ROWS);
  /** Milliseconds of the clock. */
  queuedAt: Float64Array = new Float64Array(FIRST_ROWS);
  /** Where to; `null` on a connected socket. */
  sockaddr: (Sockaddr | null)[] = new Array<Sockaddr | null>(FIRST_ROWS).fill(null);
  control: (Control | null)[] = new Array<Control | null>(FIRST_ROWS).fill(null);

  get capacity(): number {
    return this.mask + 1;
  }

  /** Makes twice the room. Each place has the row of the same number as before, so both halves begin as copies of what there was. */
  grow(): void {
    const capacity = 2 * this.capacity;
    this.chunk = twice(this.chunk, new Uint16Array(capacity));
    this.at = twice(this.at, new Uint32Array(capacity));
    this.length = twice(this.length, new Uint32Array(capacity));
    this.size = twice(this.size, new Uint32Array(capacity));
    this.segments = twice(this.segments, new Uint32Array(capacity));
    this.flags = twice(this.flags, new Uint8Array(capacity));
    this.port = twice(this.port, new Uint16Array(capacity));
    this.sequence = twice(this.sequence, new Float64Array(capacity));
    this.queuedAt = twice(this.queuedAt, new Float64Array(capacity));
    this.sockaddr = this.sockaddr.concat(this.sockaddr);
    this.control = this.control.concat(this.control);
    this.mask = capacity - 1;
  }

  /** Gives a row another number. */
  move(from: number, to: number): void {
    const [source, target] = [from & this.mask, to & this.mask];
    this.chunk[target] = this.chunk[source]!;
    this.at[target] = this.at[source]!;
    this.length[target] = this.length[source]!;
    this.size[target] = this.size[source]!;
    this.segments[target] = this.segments[source]!;
    this.flags[target] = this.flags[source]!;
    this.port[target] = this.port[source]!;
    this.sequence[target] = this.sequence[source]!;
    this.queuedAt[target] = this.queuedAt[source]!;
    this.sockaddr[target] = this.sockaddr[source]!;
    this.control[target] = this.control[source]!;
  }
}

/** A column with each row at its place in the first half, and in the second. */
export function twice<Column extends { readonly length: number; set(from: Column, at?: number): void }>(
  from: Column,
  to: Column,
): Column {
  to.set(from);
  to.set(from, from.length);
  return to;
}
