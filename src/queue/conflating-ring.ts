/**
 * A ring in which a newer datagram takes the place of one with the same key that is still queued: see `conflateBy` in
 * `batch-options.ts`.
 *
 * The place in the order is kept; what the kernel may be reading is not touched: the newer one is then queued behind.
 */

import type { Arena } from '../kernel/libc.ts';
import type { DatagramReader } from '../message/datagram-reader.ts';
import { MmsgRing, type RingLayout } from './mmsg-ring.ts';

export class ConflatingRing extends MmsgRing {
  /** Datagrams that were replaced by a newer one, ever. */
  override conflated: number = 0;
  /** By key: the number of the slot, counted for ever; that of a slot that is gone is below the head's. */
  readonly #numbers = new Map<unknown, number>();
  // From where on the slab must stay for a slot and those behind it, and how much of its place is its own.
  readonly #keepFrom: Uint32Array;
  readonly #ownRoom: Uint32Array;

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    super({ ...layout, maxSegments: 1 }, allocate);
    this.#keepFrom = new Uint32Array(layout.slots);
    this.#ownRoom = new Uint32Array(layout.slots);
  }

  override push(reader: DatagramReader, sequence: number, now: number): boolean {
    const { key } = reader;
    if (key === undefined) return this.#append(reader, sequence, now);
    const index = (this.#numbers.get(key) ?? -1) - this.headNumber;
    if (index >= this.inFlight && this.#rewrite(index, reader, sequence, now)) {
      this.conflated++;
      return true;
    }
    if (!this.#append(reader, sequence, now)) return false;
    this.#numbers.set(key, this.headNumber + this.slots - 1);
    if (this.#numbers.size > 2 * this.capacity) this.#forgetGone();
    return true;
  }

  protected override keptFrom(slot: number): number {
    return this.#keepFrom[slot]!;
  }

  /** What was replaced has left gaps: when at least half of the slab is gaps, the rest is moved together. */
  protected override room(length: number): number {
    const at = super.room(length);
    if (at >= 0 || this.inFlight > 0 || this.bytes > this.slabSize / 2) return at;
    this.#compact();
    return super.room(length);
  }

  #append(reader: DatagramReader, sequence: number, now: number): boolean {
    if (!super.push(reader, sequence, now)) return false;
    const slot = this.tailSlot;
    this.#keepFrom[slot] = this.table.startOf(slot);
    this.#ownRoom[slot] = reader.isShared ? 0 : this.table.lengthOf(slot);
    return true;
  }

  /**
   * Puts another datagram into slot `index` from the head; `false`, with nothing changed, if without the old one the queue would be
   * full all the same.
   */
  #rewrite(index: number, reader: DatagramReader, sequence: number, now: number): boolean {
    const slot = this.slotAt(index);
    const isWritten = reader.isShared && this.sharedAt >= 0;
    const length = isWritten ? this.sharedLength : reader.exactLength();
    const change = length - this.table.lengthOf(slot);
    if (length > this.maxBytes || this.bytes - this.table.lengthOf(slot) >= this.maxBytes) return false;
    let annex = isWritten ? this.sharedAnnex : null;
    let at = this.sharedAt;
    if (!isWritten) {
      const isInPlace = !reader.isShared && length <= this.#ownRoom[slot]!;
      annex = isInPlace ? (this.table.annexOf(slot) ?? null) : null;
      at = isInPlace ? this.table.startOf(slot) : this.room(length);
      if (annex !== null) this.write(reader, 0, annex.u8);
      else if (at >= 0) this.write(reader, this.slab + at);
      else annex = this.annexFor(reader);
      if (!isInPlace) this.#ownRoom[slot] = reader.isShared ? 0 : length;
      // Behind all that is queued: whatever slot it belongs to, it is kept until those are gone.
      if (!isInPlace && annex === null) this.slabTail = at + length;
      if (at < 0) at = this.slabTail;
    } else this.#ownRoom[slot] = 0;
    this.fill(slot, at, length, reader);
    if (annex !== null) this.table.annex(slot, annex);
    if (reader.isShared) this.share(at, length, annex);
    this.sequences[slot] = sequence;
    this.times[slot] = now;
    this.bytes += change;
    if (length > this.largest) this.largest = length;
    return true;
  }

  /** Moves the payloads together, to the front of the slab. */
  #compact(): void {
    const { u8 } = this.arena;
    const copy = Buffer.allocUnsafe(this.bytes);
    let end = 0;
    for (const isBack of [false, true]) {
      end = 0;
      for (let index = 0; index < this.slots; index++) {
        const slot = this.slotAt(index);
        if (isBack) this.#keepFrom[slot] = end;
        if (this.table.annexOf(slot) !== undefined) continue;
        const length = this.table.lengthOf(slot);
        if (isBack) {
          this.table.move(slot, end);
          this.#ownRoom[slot] = length;
        } else copy.set(this.table.bytesOf(slot, length), end);
        end += length;
      }
    }
    u8.set(copy.subarray(0, end), this.slab);
    this.slabHead = 0;
    this.slabTail = end;
  }

  /** Keys come and go: no more of them are remembered than twice what may be queued. */
  #forgetGone(): void {
    for (const [key, number] of this.#numbers) if (number < this.headNumber) this.#numbers.delete(key);
  }
}
