/**
 * A ring in which a newer datagram takes the place of one with the same key that is still queued: see `conflateBy` in
 * `batch-options.ts`.
 *
 * The place in the order is kept; what the kernel may be reading is not touched: the newer one is then queued behind.
 */
import type { DatagramReader } from './datagram-reader.ts';
import type { Arena } from './libc.ts';
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

  #append(reader: DatagramReader, sequence: number, now: number): boolean {
    if (!super.push(reader, sequence, now)) return false;
    const slot = this.tailSlot;
    this.#keepFrom[slot] = this.table.startOf(slot);
    this.#ownRoom[slot] = reader.isShared ? 0 : this.table.lengthOf(slot);
    return true;
  }

  /** Puts another datagram into slot `index` from the head; `false`, with nothing changed, if its bytes do not fit. */
  #rewrite(index: number, reader: DatagramReader, sequence: number, now: number): boolean {
    const slot = this.slotAt(index);
    const isWritten = reader.isShared && this.sharedAt >= 0;
    const length = isWritten ? this.sharedLength : reader.exactLength();
    const change = length - this.table.lengthOf(slot);
    if (this.bytes + change > this.maxBytes) return false;
    const isInPlace = !reader.isShared && length <= this.#ownRoom[slot]!;
    let at = isWritten ? this.sharedAt : this.table.startOf(slot);
    if (!isWritten && !isInPlace) {
      at = this.#roomOrCompact(length);
      if (at < 0) return false;
      // Behind all that is queued: whatever slot it belongs to, it is kept until those are gone.
      this.slabTail = at + length;
      this.#ownRoom[slot] = length;
    }
    if (!isWritten) this.write(reader, this.slab + at);
    if (reader.isShared) {
      this.sharedAt = at;
      this.sharedLength = length;
      this.#ownRoom[slot] = 0;
    }
    this.fill(slot, at, length, reader);
    this.sequences[slot] = sequence;
    this.times[slot] = now;
    this.bytes += change;
    if (length > this.largest) this.largest = length;
    return true;
  }

  #roomOrCompact(length: number): number {
    const at = this.room(length);
    if (at >= 0 || this.inFlight > 0) return at;
    this.#compact();
    return this.room(length);
  }

  /** Moves the payloads together, to the front of the slab: what was replaced has left gaps. */
  #compact(): void {
    const { u8 } = this.arena;
    const copy = Buffer.allocUnsafe(this.bytes);
    for (const isBack of [false, true]) {
      let at = 0;
      for (let index = 0; index < this.slots; index++) {
        const slot = this.slotAt(index);
        const length = this.table.lengthOf(slot);
        const from = this.slab + this.table.startOf(slot);
        if (isBack) this.table.move(slot, at);
        else copy.set(u8.subarray(from, from + length), at);
        this.#keepFrom[slot] = at;
        this.#ownRoom[slot] = length;
        at += length;
      }
    }
    u8.set(copy, this.slab);
    this.slabHead = 0;
    this.slabTail = copy.length;
  }

  /** Keys come and go: no more of them are remembered than twice what may be queued. */
  #forgetGone(): void {
    for (const [key, number] of this.#numbers) if (number < this.headNumber) this.#numbers.delete(key);
  }
}
