/**
 * The arena queue: a ring of `mmsghdr` that is the queue itself, its payloads in a circular slab.
 *
 *     slots  | ... | head | ..... | tail, open | ... |        slab | ... | payload of the head | ..... | free | ... |
 *
 * A datagram is encoded into its slot when it is accepted; sending hands the kernel a span of slots as they lie; and the
 * head moves only by what is done with (`release`). A slot holds one datagram, or, with GSO, a run of up to 64 equal
 * ones to one destination, with one control (the last may be shorter). Counts are of datagrams unless they say slots.
 *
 * Invariants: `release` alone moves the head. Payloads lie in ring order, so the slab is free up to the head slot's
 * start. A slot that was handed over once is sealed: nothing is appended to it. A segmented head that the kernel refused is
 * spilled: its datagrams get an `mmsghdr` each, over the same bytes. User code (getters, iterators) runs in `reader.read`
 * only, before anything is written.
 */
import { MAX_VLEN, MMSGHDR_SIZE } from '../kernel/abi.ts';
import { EMSGSIZE } from '../kernel/errno.ts';
import { SendmmsgError } from '../kernel/errors.ts';
import type { Arena } from '../kernel/libc.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { BYTES, type DatagramReader, TEXT } from '../message/datagram-reader.ts';
import { copyInto } from '../message/payload.ts';
import type { GsoLatch } from './gso.ts';
import { MmsgTable } from './mmsg-table.ts';

/** How a ring is laid out. */
export interface RingLayout {
  /** Most datagrams queued, which is also the number of slots. */
  readonly slots: number;
  /** Most payload bytes queued. */
  readonly maxBytes: number;
  /** Bytes a slot's sockaddr may take; 0 on a connected socket. */
  readonly nameSize: number;
  /** Most datagrams a slot, 1 to 64; 1 is without GSO. */
  readonly maxSegments: number;
  /** Most bytes a segmented slot, 65507 or 65527. */
  readonly maxSegmentedBytes: number;
  /** Where GSO was refused. */
  readonly latch?: GsoLatch;
}

/** Room at the slab's end that a datagram may not fit into when the ring wraps: up to this size none needs memory of its own. */
export const WRAP_SLACK: number = 256 * 1024;
/** Strings that are written one by one after a rope that was not ASCII, before the next is tried. */
export const STRINGS_AFTER_MISS = 1024;

export class MmsgRing {
  /** Datagrams queued. */
  datagrams: number = 0;
  /** Payload bytes queued; until the next `commit`, those of a rope count as the most that they may be. */
  bytes: number = 0;
  /** `mmsghdr`s queued. */
  slots: number = 0;
  /** Bytes of the largest datagram so far. */
  largest: number = 0;
  /** Datagrams of the input that went into an earlier one, or took the place of one, ever: nothing here, see its kinds. */
  readonly packed: number = 0;
  readonly conflated: number = 0;
  /** Slots from the head that the kernel may be reading at this moment, on the thread pool. */
  inFlight: number = 0;
  /** How often the head has moved, ever. */
  moves: number = 0;
  readonly arena: Arena;
  readonly capacity: number;
  readonly #allocate: (bytes: number) => Arena;
  readonly maxBytes: number;

  #head = 0;
  #tail = 0;
  // For the kinds of this ring: what of the slab is in use, the payload that the last slot shares with the next ones (-1:
  // none, or it is gone with its last slot), whether the last slot may be appended to, and the columns of the slots.
  protected slabHead: number = 0;
  protected slabTail: number = 0;
  protected sharedAt: number = -1;
  protected sharedLength: number = 0;
  protected sharedAnnex: Arena | null = null;
  protected isTailOpen: boolean = false;
  protected readonly table: MmsgTable;
  protected readonly slab: number;
  protected readonly slabSize: number;
  protected readonly segments: Uint8Array;
  protected readonly sequences: Float64Array;
  protected readonly times: Float64Array;

  // How many datagrams the head slot held when it was spilled; 0 while it is not.
  #spilled = 0;
  /** Slots released, ever: the number of the head slot. */
  #released = 0;

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    const { slots, maxBytes } = layout;
    this.capacity = slots;
    this.maxBytes = maxBytes;
    this.#allocate = allocate;
    this.slabSize = maxBytes + Math.min(maxBytes, WRAP_SLACK);
    this.table = new MmsgTable({ ...layout, slabSize: this.slabSize }, allocate);
    this.slab = this.table.slab;
    this.arena = this.table.arena;
    this.segments = new Uint8Array(slots);
    this.sequences = new Float64Array(slots);
    this.times = new Float64Array(slots);
  }

  /**
   * Encodes the datagram that `reader` holds into the ring; `false`, with nothing changed, if that is full. As long as it is not,
   * a datagram of any size goes in: the limit of bytes may be exceeded by one.
   *
   * @throws SendmmsgError `EMSGSIZE` if it would not even fit into an empty ring
   */
  push(reader: DatagramReader, sequence: number, now: number): boolean {
    if (reader.byteLength > this.maxBytes) this.#checkFitsExactly(reader);
    if (this.datagrams === this.capacity || this.bytes >= this.maxBytes) return false;
    if (reader.isShared && this.sharedAt >= 0) {
      this.#append(reader, this.sharedAt, this.sharedLength, sequence, now);
      if (this.sharedAnnex !== null) this.table.annex(this.tailSlot, this.sharedAnnex);
      return true;
    }
    let at = this.room(reader.byteLength);
    if (at < 0) at = this.#roomForExactly(reader);
    let annex: Arena | null = null;
    if (at >= 0) {
      const length = this.write(reader, this.slab + at);
      this.#append(reader, at, length, sequence, now);
      this.slabTail = at + length;
    } else {
      annex = this.annexFor(reader);
      at = this.slabTail;
      this.#append(reader, at, reader.byteLength, sequence, now);
      this.table.annex(this.tailSlot, annex);
    }
    if (reader.isShared) this.share(at, this.table.lengthOf(this.tailSlot), annex);
    return true;
  }

  /**
   * Writes what waits unwritten in the last slot: not for each datagram, but before anyone looks. The counts are exact from
   * here to the next `push`. Nothing waits here: see the kinds of this ring.
   */
  commit(): void {}

  /** Ends the sharing of a payload; its last slot frees it. */
  endShared(): void {
    this.share(-1, 0, null);
  }

  /** The next slots may have the payload that lies there. */
  protected share(at: number, length: number, annex: Arena | null): void {
    this.sharedAt = at;
    this.sharedLength = length;
    this.sharedAnnex = annex;
  }

  /** Encodes a payload into memory of its own: there is room for it, but no place in the slab. */
  protected annexFor(reader: DatagramReader): Arena {
    // An arena is of whole words.
    const annex = this.#allocate(Math.max((reader.exactLength() + 7) & ~7, 8));
    this.write(reader, 0, annex.u8);
    return annex;
  }

  /** How many `mmsghdr`s the next call may take: those that lie in a row from the head, at most `UIO_MAXIOV`. Seals them. */
  span(): number {
    this.seal();
    if (this.#spilled > 0) return this.segments[this.#head]!;
    return Math.min(this.slots, this.capacity - this.#head, MAX_VLEN);
  }

  /** Where the first `mmsghdr` of the span lies in the arena. */
  get headAt(): number {
    if (this.#spilled === 0) return this.#head * MMSGHDR_SIZE;
    return this.table.spillAt(this.#spilled - this.segments[this.#head]!);
  }

  /** How many datagrams the first `messages` of the span hold. */
  datagramsIn(messages: number): number {
    if (this.#spilled > 0 || this.slots === this.datagrams) return messages;
    let sum = 0;
    for (let index = 0, slot = this.#head; index < messages; index++, slot = this.#after(slot)) {
      sum += this.segments[slot]!;
    }
    return sum;
  }

  /** Datagrams of message `index` of the span. */
  segmentsAt(index: number): number {
    return this.#spilled > 0 ? 1 : this.segments[(this.#head + index) % this.capacity]!;
  }

  /** Payload bytes of message `index` of the span. */
  lengthAt(index: number): number {
    if (this.#spilled === 0) return this.table.lengthOf((this.#head + index) % this.capacity);
    const size = this.table.segmentSizeOf(this.#head);
    return Math.min(size, this.table.lengthOf(this.#head) - index * size);
  }

  /** How many of the first `messages` hold a single datagram. */
  unsegmentedIn(messages: number): number {
    let sum = 0;
    for (let index = 0, slot = this.#head; index < messages; index++, slot = this.#after(slot)) {
      if (this.segments[slot] === 1) sum++;
    }
    return sum;
  }

  /** Gives each datagram of the segmented head slot an `mmsghdr` of its own: the span until that slot is released. */
  spillHead(): void {
    this.#spilled = this.segments[this.#head]!;
    this.table.spill(this.#head, this.#spilled);
  }

  /** Lets go of the first `datagrams` datagrams: the one place where the head moves. Returns their bytes. */
  release(datagrams: number): number {
    this.seal();
    this.moves++;
    const bytesBefore = this.bytes;
    if (datagrams === this.datagrams) {
      this.#released += this.slots;
      // An empty ring starts over at the front: the same few cache lines serve a source that is kept up with.
      this.#head = this.#tail = this.slabHead = this.slabTail = 0;
      this.slots = this.bytes = this.#spilled = 0;
      if (this.table.hasAnnexes) this.table.dropAnnexes();
      this.endShared();
    } else {
      for (let left = datagrams; left > 0; ) {
        const slot = this.#head;
        const segments = this.segments[slot]!;
        if (segments > left) {
          this.#trim(slot, left);
          break;
        }
        left -= segments;
        this.bytes -= this.table.lengthOf(slot);
        if (this.table.hasAnnexes) this.table.dropAnnex(slot);
        this.#spilled = 0;
        this.#head = this.#after(slot);
        this.slots--;
        this.#released++;
      }
      this.slabHead = this.keptFrom(this.#head);
    }
    this.datagrams -= datagrams;
    return bytesBefore - this.bytes;
  }

  /** The first datagram's position in the input. */
  headSequence(): number {
    return this.sequences[this.#head]!;
  }

  /** When the first datagram was queued, ms of the clock. */
  headQueuedAt(): number {
    return this.times[this.#head]!;
  }

  /** Whether the first `mmsghdr` of the span holds several datagrams. */
  isHeadSegmented(): boolean {
    return this.#spilled === 0 && this.segments[this.#head]! > 1;
  }

  /** Whether the head slot was spilled. */
  isHeadSpilled(): boolean {
    return this.#spilled > 0;
  }

  /** The head's destination; `null` on a connected socket. */
  headSockaddr(): Sockaddr | null {
    return this.table.sockaddrOf(this.#head);
  }

  /** Bytes of the head's first datagram. */
  headSize(): number {
    return this.#sizeOfFirst(this.#head);
  }

  /** A copy of the bytes of the datagram in slot `index` from the head (the first one of it). */
  payloadAt(index: number): Uint8Array {
    const slot = (this.#head + index) % this.capacity;
    return new Uint8Array(this.table.bytesOf(slot, this.#sizeOfFirst(slot)));
  }

  /** The bytes of the first datagram, as long as it is the first. */
  headPayload(): Buffer {
    return this.table.bytesOf(this.#head, this.headSize());
  }

  /** The raw sockaddr of slot `index` from the head; empty on a connected socket. */
  nameAt(index: number): Uint8Array {
    return this.table.nameOf((this.#head + index) % this.capacity);
  }

  /** The `msg_len` that the kernel wrote for slot `index` from the head. */
  sentLengthAt(index: number): number {
    return this.table.sentLengthOf((this.#head + index) % this.capacity);
  }

  /** What a kind of ring that appends to its last slot needs: where the next byte goes in the arena … */
  protected get tailAt(): number {
    return this.slab + this.slabTail;
  }

  /** … how many bytes may follow there … */
  protected get tailRoom(): number {
    if (this.table.hasAnnexes && this.table.annexOf(this.tailSlot) !== undefined) return 0;
    const start = this.table.startOf(this.tailSlot);
    const slabEnd = start < this.slabHead ? this.slabHead - 1 : this.slabSize;
    return Math.min(slabEnd - this.slabTail, this.maxBytes - this.bytes);
  }

  /** … which slot it is … */
  protected get tailSlot(): number {
    return this.#before(this.#tail);
  }

  /** … and to say that so many bytes were written behind it. */
  protected extendTail(bytes: number): void {
    this.slabTail += bytes;
    this.bytes += bytes;
  }

  /** A slot's payload lies at `at` of the slab; where it goes, and its control messages, are the reader's. */
  protected fill(slot: number, at: number, length: number, reader: DatagramReader): void {
    this.table.write(slot, at, length, reader.sockaddr, reader.port);
    if (reader.control !== null || this.table.hasControls) this.table.writeControl(slot, reader.control);
  }

  #append(reader: DatagramReader, at: number, length: number, sequence: number, now: number): void {
    if (this.isTailOpen) this.seal();
    const slot = this.#tail;
    this.fill(slot, at, length, reader);
    this.segments[slot] = 1;
    this.sequences[slot] = sequence;
    this.times[slot] = now;
    this.slots++;
    this.#tail = this.#after(slot);
    this.datagrams++;
    this.bytes += length;
    if (length > this.largest) this.largest = length;
  }

  /** Nothing is appended to the last slot any more. */
  protected seal(): void {
    this.commit();
    this.isTailOpen = false;
  }

  /** Where `length` contiguous bytes are free, as an offset in the slab; -1 if nowhere. */
  protected room(length: number): number {
    const tail = this.slabTail;
    const head = this.slabHead;
    if (tail < head) return tail + length < head ? tail : -1;
    if (tail + length <= this.slabSize) return tail;
    return length < head ? 0 : -1; // strictly: tail === head is left to mean empty
  }

  /** The upper bound of a text did not fit: count its bytes. */
  #roomForExactly(reader: DatagramReader): number {
    this.#checkFitsExactly(reader);
    return this.room(reader.byteLength);
  }

  #checkFitsExactly(reader: DatagramReader): void {
    if (reader.kind === TEXT) reader.byteLength = Buffer.byteLength(reader.text);
    this.#checkFits(reader.byteLength);
  }

  #checkFits(length: number): void {
    if (length <= this.maxBytes) return;
    throw new SendmmsgError(`sendmmsg EMSGSIZE: ${length} bytes are more than highWaterMarkBytes, ${this.maxBytes}`, {
      code: 'EMSGSIZE',
      errno: EMSGSIZE,
      syscall: 'sendmmsg',
    });
  }

  /** Encodes a payload at byte `to` of the arena, or of other memory; returns its length. */
  protected write(reader: DatagramReader, to: number, slab: Buffer = this.arena.u8): number {
    if (reader.kind === BYTES) {
      copyInto(slab, reader.bytes, to);
      return reader.byteLength;
    }
    if (reader.kind === TEXT) return slab.write(reader.text, to, reader.byteLength, 'utf8');
    let end = to;
    for (const part of reader.parts) {
      if (typeof part === 'string') end += slab.write(part, end, 'utf8');
      else {
        slab.set(part, end);
        end += part.length;
      }
    }
    return end - to;
  }

  /** Takes the first datagrams out of a segmented slot. */
  #trim(slot: number, datagrams: number): void {
    const cut = datagrams * this.table.segmentSizeOf(slot);
    const left = this.segments[slot]! - datagrams;
    this.bytes -= cut;
    this.sequences[slot] = this.sequences[slot]! + datagrams;
    this.segments[slot] = left;
    this.table.trim(slot, cut, left === 1);
  }

  /** Slot `index` from the head. */
  protected slotAt(index: number): number {
    return (this.#head + index) % this.capacity;
  }

  /** The number of the head slot, as slots are counted for ever. */
  protected get headNumber(): number {
    return this.#released;
  }

  /** From where on the slab must be kept, while this slot is the head. */
  protected keptFrom(slot: number): number {
    return this.table.startOf(slot);
  }

  #sizeOfFirst(slot: number): number {
    return this.segments[slot]! > 1 ? this.table.segmentSizeOf(slot) : this.table.lengthOf(slot);
  }

  #after(slot: number): number {
    return slot + 1 === this.capacity ? 0 : slot + 1;
  }

  #before(slot: number): number {
    return slot === 0 ? this.capacity - 1 : slot - 1;
  }
}
