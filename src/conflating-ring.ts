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

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    super({ ...layout, maxSegments: 1, isRewritable: true }, allocate);
  }

  override push(reader: DatagramReader, sequence: number, now: number): boolean {
    const { key } = reader;
    if (key === undefined) return super.push(reader, sequence, now);
    const index = (this.#numbers.get(key) ?? -1) - this.headNumber;
    if (index >= this.inFlight && this.rewrite(index, reader, sequence, now)) {
      this.conflated++;
      return true;
    }
    if (!super.push(reader, sequence, now)) return false;
    this.#numbers.set(key, this.headNumber + this.slots - 1);
    if (this.#numbers.size > 2 * this.capacity) this.#forgetGone();
    return true;
  }

  /** Keys come and go: no more of them are remembered than twice what may be queued. */
  #forgetGone(): void {
    for (const [key, number] of this.#numbers) if (number < this.headNumber) this.#numbers.delete(key);
  }
}
