/**
 * Which row has the newest datagram of a key, for `conflateBy`; and how many bytes of the slab are the row's own, where a newer one may be
 * written in the place of the older.
 */
import type { Rows } from './rows.ts';

export class KeyedRows {
  readonly #newest = new Map<unknown, number>();
  /** By place in the columns; `undefined` is no key. */
  #keys: unknown[];
  #rooms: number[];

  constructor({ capacity }: Rows) {
    this.#keys = new Array<unknown>(capacity).fill(undefined);
    this.#rooms = new Array<number>(capacity).fill(0);
  }

  /** The number of the row, if it is still queued. */
  rowOf(key: unknown): number | undefined {
    return key === undefined ? undefined : this.#newest.get(key);
  }

  add(key: unknown, row: number, place: number, room: number): void {
    if (key !== undefined) this.#newest.set(key, row);
    this.#keys[place] = key;
    this.#rooms[place] = room;
  }

  roomAt(place: number): number {
    return this.#rooms[place]!;
  }

  setRoom(place: number, room: number): void {
    this.#rooms[place] = room;
  }

  /** A row is done with. Where a newer one has its key, that stays. */
  forget(row: number, place: number): void {
    const key = this.#keys[place];
    if (key === undefined) return;
    this.#keys[place] = undefined;
    if (this.#newest.get(key) === row) this.#newest.delete(key);
  }

  /** The columns have twice the room: see {@link Rows.grow}. */
  grow(): void {
    this.#keys = this.#keys.concat(this.#keys);
    this.#rooms = this.#rooms.concat(this.#rooms);
  }

  /** A row has another number. */
  move(from: number, to: number, mask: number): void {
    const key = this.#keys[from & mask];
    if (key !== undefined && this.#newest.get(key) === from) this.#newest.set(key, to);
    this.#keys[to & mask] = key;
    this.#rooms[to & mask] = this.#rooms[from & mask]!;
    this.#keys[from & mask] = undefined;
  }
}
