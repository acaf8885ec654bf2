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
 *
 * Equally long strings that join a run are not encoded one by one: they are joined as a rope, and written as one string
 * when the slot is looked at (`commit`). Where that gives as many bytes as characters, it was all ASCII and each datagram
 * lies where it should; where not, they are pushed again, one by one.
 */
import { MAX_VLEN, MMSGHDR_SIZE } from './abi.ts';
import type { Control } from './cmsg.ts';
import type { Sockaddr } from './datagram.ts';
import { BYTES, DatagramReader, TEXT } from './datagram-reader.ts';
import { EMSGSIZE } from './errno.ts';
import { SendmmsgError } from './errors.ts';
import type { GsoLatch } from './gso.ts';
import type { Arena } from './libc.ts';
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
  /** Whether what is queued may be replaced: each slot then remembers what of the slab it keeps from being reused. */
  readonly isRewritable?: boolean;
}

/** Room at the slab's end that a datagram may not fit into when the ring wraps: none is lost to that below the limit. */
const WRAP_SLACK = 256 * 1024;
/** Most UTF-8 bytes of one UTF-16 code unit. */
export const MAX_UTF8 = 3;
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
  readonly arena: Arena;
  readonly capacity: number;
  readonly maxBytes: number;

  #head = 0;
  #tail = 0;
  #slabHead = 0;
  #slabTail = 0;
  // The last slot while it may be appended to: its segment size, segments so far and at most, bytes that still fit (-1:
  // it is sealed), and what a datagram must have in common with it.
  #openSize = 0;
  #openSegments = 0;
  #openLimit = 0;
  #openRoom = -1;
  #openSockaddr: Sockaddr | null = null;
  #openPort = 0;
  #openControl: Control | null = null;
  #openSequence = 0;
  #openNow = 0;
  /** The last segments of the open slot, of `#openSize` characters each, not written yet; and how many they are. */
  #rope = '';
  #ropeSegments = 0;
  #stringsUntilRope = 0;
  #ropeReader: DatagramReader | null = null;
  // The payload that the last slot shares with the next ones; -1: none, or it is gone with its last slot.
  #sharedAt = -1;
  #sharedLength = 0;
  // How many datagrams the head slot held when it was spilled; 0 while it is not.
  #spilled = 0;
  /** Slots released, ever: the number of the head slot. */
  #released = 0;

  readonly #table: MmsgTable;
  readonly #slab: number;
  readonly #slabSize: number;
  readonly #maxSegments: number;
  readonly #maxSegmentedBytes: number;
  readonly #latch: GsoLatch | undefined;
  readonly #segments: Uint8Array;
  readonly #sequence: Float64Array;
  readonly #queuedAt: Float64Array;
  // Where rewritable: up to where the slab must stay for a slot and those behind it, and how much of its place is its own.
  readonly #keepFrom: Uint32Array | null;
  readonly #ownRoom: Uint32Array | null;

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    const { slots, maxBytes, maxSegments } = layout;
    this.capacity = slots;
    this.maxBytes = maxBytes;
    this.#maxSegments = maxSegments;
    this.#latch = layout.latch;
    this.#maxSegmentedBytes = layout.maxSegmentedBytes;
    this.#slabSize = maxBytes + Math.min(maxBytes, WRAP_SLACK);
    this.#table = new MmsgTable({ ...layout, slabSize: this.#slabSize }, allocate);
    this.#slab = this.#table.slab;
    this.arena = this.#table.arena;
    this.#segments = new Uint8Array(slots);
    this.#sequence = new Float64Array(slots);
    this.#queuedAt = new Float64Array(slots);
    this.#keepFrom = layout.isRewritable ? new Uint32Array(slots) : null;
    this.#ownRoom = layout.isRewritable ? new Uint32Array(slots) : null;
  }

  /**
   * Encodes the datagram that `reader` holds into the ring; `false`, with nothing changed, if there is no room for it.
   *
   * @throws SendmmsgError `EMSGSIZE` if it would not even fit into an empty ring
   */
  push(reader: DatagramReader, sequence: number, now: number): boolean {
    if (
      reader.byteLength <= this.#openRoom &&
      sequence === this.#openSequence &&
      reader.sockaddr === this.#openSockaddr &&
      reader.port === this.#openPort &&
      reader.control === this.#openControl &&
      now === this.#openNow &&
      (reader.kind === BYTES ? this.#joinBytes(reader) : reader.kind === TEXT && this.#joinText(reader.text))
    ) {
      this.datagrams++;
      this.#openSequence = sequence + 1;
      if (++this.#openSegments === this.#openLimit) this.#seal();
      return true;
    }
    return this.#pushAlone(reader, sequence, now);
  }

  /**
   * Writes into the open slot what it has come to hold: not for each datagram, but before anyone looks. It stays open.
   * The counts are exact from here to the next `push`.
   */
  commit(): void {
    if (this.#ropeSegments > 0) this.#writeRope();
    const segments = this.#openSegments;
    if (segments < 2) return;
    const slot = this.#before(this.#tail);
    this.#segments[slot] = segments;
    this.#table.segment(slot, this.#slabTail - this.#table.startOf(slot), this.#openSize);
  }

  /** Ends the sharing of a payload; its last slot frees it. */
  endShared(): void {
    this.#sharedAt = -1;
  }

  /** How many `mmsghdr`s the next call may take: those that lie in a row from the head, at most `UIO_MAXIOV`. Seals them. */
  span(): number {
    this.#seal();
    if (this.#spilled > 0) return this.#segments[this.#head]!;
    return Math.min(this.slots, this.capacity - this.#head, MAX_VLEN);
  }

  /** Where the first `mmsghdr` of the span lies in the arena. */
  get headAt(): number {
    if (this.#spilled === 0) return this.#head * MMSGHDR_SIZE;
    return this.#table.spillAt(this.#spilled - this.#segments[this.#head]!);
  }

  /** How many datagrams the first `messages` of the span hold. */
  datagramsIn(messages: number): number {
    if (this.#spilled > 0 || this.slots === this.datagrams) return messages;
    let sum = 0;
    for (let index = 0, slot = this.#head; index < messages; index++, slot = this.#after(slot)) {
      sum += this.#segments[slot]!;
    }
    return sum;
  }

  /** Datagrams of message `index` of the span. */
  segmentsAt(index: number): number {
    return this.#spilled > 0 ? 1 : this.#segments[(this.#head + index) % this.capacity]!;
  }

  /** Payload bytes of message `index` of the span. */
  lengthAt(index: number): number {
    if (this.#spilled === 0) return this.#table.lengthOf((this.#head + index) % this.capacity);
    const size = this.#table.segmentSizeOf(this.#head);
    return Math.min(size, this.#table.lengthOf(this.#head) - index * size);
  }

  /** How many of the first `messages` hold a single datagram. */
  unsegmentedIn(messages: number): number {
    let sum = 0;
    for (let index = 0, slot = this.#head; index < messages; index++, slot = this.#after(slot)) {
      if (this.#segments[slot] === 1) sum++;
    }
    return sum;
  }

  /** Gives each datagram of the segmented head slot an `mmsghdr` of its own: the span until that slot is released. */
  spillHead(): void {
    this.#spilled = this.#segments[this.#head]!;
    this.#table.spill(this.#head, this.#spilled);
  }

  /** Lets go of the first `datagrams` datagrams: the one place where the head moves. Returns their bytes. */
  release(datagrams: number): number {
    this.#seal();
    const bytesBefore = this.bytes;
    if (datagrams === this.datagrams) {
      this.#released += this.slots;
      // An empty ring starts over at the front: the same few cache lines serve a source that is kept up with.
      this.#head = this.#tail = this.#slabHead = this.#slabTail = 0;
      this.slots = this.bytes = this.#spilled = 0;
      this.#sharedAt = -1;
    } else {
      for (let left = datagrams; left > 0; ) {
        const slot = this.#head;
        const segments = this.#segments[slot]!;
        if (segments > left) {
          this.#trim(slot, left);
          break;
        }
        left -= segments;
        this.bytes -= this.#table.lengthOf(slot);
        this.#spilled = 0;
        this.#head = this.#after(slot);
        this.slots--;
        this.#released++;
      }
      this.#slabHead = this.#keepFrom?.[this.#head] ?? this.#table.startOf(this.#head);
    }
    this.datagrams -= datagrams;
    return bytesBefore - this.bytes;
  }

  /** The first datagram's position in the input. */
  headSequence(): number {
    return this.#sequence[this.#head]!;
  }

  /** When the first datagram was queued, ms of the clock. */
  headQueuedAt(): number {
    return this.#queuedAt[this.#head]!;
  }

  /** Whether the first `mmsghdr` of the span holds several datagrams. */
  isHeadSegmented(): boolean {
    return this.#spilled === 0 && this.#segments[this.#head]! > 1;
  }

  /** Whether the head slot was spilled. */
  isHeadSpilled(): boolean {
    return this.#spilled > 0;
  }

  /** The head's destination; `null` on a connected socket. */
  headSockaddr(): Sockaddr | null {
    return this.#table.sockaddrOf(this.#head);
  }

  /** Bytes of the head's first datagram. */
  headSize(): number {
    return this.#sizeOfFirst(this.#head);
  }

  /** A copy of the bytes of the datagram in slot `index` from the head (the first one of it). */
  payloadAt(index: number): Uint8Array {
    const slot = (this.#head + index) % this.capacity;
    const start = this.#slab + this.#table.startOf(slot);
    return new Uint8Array(this.arena.u8.subarray(start, start + this.#sizeOfFirst(slot)));
  }

  /** The raw sockaddr of slot `index` from the head; empty on a connected socket. */
  nameAt(index: number): Uint8Array {
    return this.#table.nameOf((this.#head + index) % this.capacity);
  }

  /** The `msg_len` that the kernel wrote for slot `index` from the head. */
  sentLengthAt(index: number): number {
    return this.#table.sentLengthOf((this.#head + index) % this.capacity);
  }

  /** What a kind of ring that appends to its last datagram needs: told when that is to end … */
  protected onSealed(): void {}

  /** … where the next byte of it goes in the arena … */
  protected get tailAt(): number {
    return this.#slab + this.#slabTail;
  }

  /** … how many bytes may follow there … */
  protected get tailRoom(): number {
    const start = this.#table.startOf(this.#before(this.#tail));
    const slabEnd = start < this.#slabHead ? this.#slabHead - 1 : this.#slabSize;
    return Math.min(slabEnd - this.#slabTail, this.maxBytes - this.bytes);
  }

  /** … how long it is … */
  protected get tailLength(): number {
    return this.#table.lengthOf(this.#before(this.#tail));
  }

  /** … and to say that so many bytes were written behind it. */
  protected extendTail(bytes: number): void {
    const slot = this.#before(this.#tail);
    this.#table.extend(slot, bytes);
    this.#slabTail += bytes;
    this.bytes += bytes;
    this.largest = Math.max(this.largest, this.#table.lengthOf(slot));
  }

  /** What a kind of ring that replaces needs: the number of the head slot, as slots are counted for ever … */
  protected get headNumber(): number {
    return this.#released;
  }

  /** … and to put another datagram into slot `index` from the head; `false`, with nothing changed, if its bytes do not fit. */
  protected rewrite(index: number, reader: DatagramReader, sequence: number, now: number): boolean {
    const slot = (this.#head + index) % this.capacity;
    const isWritten = reader.isShared && this.#sharedAt >= 0;
    const length = isWritten ? this.#sharedLength : reader.exactLength();
    const change = length - this.#table.lengthOf(slot);
    if (this.bytes + change > this.maxBytes) return false;
    const isInPlace = !reader.isShared && length <= this.#ownRoom![slot]!;
    let at = isWritten ? this.#sharedAt : this.#table.startOf(slot);
    if (!isWritten && !isInPlace) {
      at = this.#roomOrCompact(length);
      if (at < 0) return false;
      // Behind all that is queued: whatever slot it belongs to, it is kept until those are gone.
      this.#slabTail = at + length;
      this.#ownRoom![slot] = length;
    }
    if (!isWritten) this.write(reader, this.#slab + at);
    if (reader.isShared) {
      this.#sharedAt = at;
      this.#sharedLength = length;
      this.#ownRoom![slot] = 0;
    }
    this.#fill(slot, at, length, reader);
    this.#sequence[slot] = sequence;
    this.#queuedAt[slot] = now;
    this.bytes += change;
    if (length > this.largest) this.largest = length;
    return true;
  }

  #roomOrCompact(length: number): number {
    const at = this.#room(length);
    if (at >= 0 || this.inFlight > 0) return at;
    this.#compact();
    return this.#room(length);
  }

  /** Moves the payloads together, to the front of the slab: what was replaced has left gaps. */
  #compact(): void {
    const { u8 } = this.arena;
    const copy = Buffer.allocUnsafe(this.bytes);
    for (const isBack of [false, true]) {
      let at = 0;
      for (let index = 0, slot = this.#head; index < this.slots; index++, slot = this.#after(slot)) {
        const length = this.#table.lengthOf(slot);
        const from = this.#slab + this.#table.startOf(slot);
        if (isBack) this.#table.move(slot, at);
        else copy.set(u8.subarray(from, from + length), at);
        this.#keepFrom![slot] = at;
        this.#ownRoom![slot] = length;
        at += length;
      }
    }
    u8.set(copy, this.#slab);
    this.#slabHead = 0;
    this.#slabTail = copy.length;
  }

  /** Appends to the open slot; `false` if it does not fit the run. */
  #joinBytes(reader: DatagramReader): boolean {
    const length = reader.byteLength;
    if (length > this.#openSize || length === 0) return false;
    if (this.#ropeSegments > 0) {
      this.#writeRope();
      // Of a rope that was not ASCII, another slot may be the last one now.
      if (length > this.#openRoom || length > this.#openSize) return false;
    }
    this.arena.u8.set(reader.bytes, this.#slab + this.#slabTail);
    this.#joined(length);
    return true;
  }

  /** The same with a string: in the rope, if it may be as long as the others. */
  #joinText(text: string): boolean {
    const chars = text.length;
    if (chars === this.#openSize && this.#stringsUntilRope === 0) {
      const most = chars * MAX_UTF8;
      this.#rope = this.#ropeSegments++ === 0 ? text : this.#rope + text;
      this.bytes += most;
      this.#openRoom -= most;
      return true;
    }
    if (chars > this.#openSize || chars === 0) return false;
    if (this.#ropeSegments > 0) {
      this.#writeRope();
      if (chars * MAX_UTF8 > this.#openRoom) return false;
    }
    if (this.#stringsUntilRope > 0) this.#stringsUntilRope--;
    const length = this.arena.u8.write(text, this.#slab + this.#slabTail, chars * MAX_UTF8, 'utf8');
    if (length > this.#openSize) return false;
    this.#joined(length);
    return true;
  }

  /** A datagram of `length` bytes was written behind the open slot's last. */
  #joined(length: number): void {
    this.#slabTail += length;
    this.bytes += length;
    // A shorter one ends the run.
    if (length < this.#openSize) this.#openLimit = this.#openSegments + 1;
    this.#openRoom -= length;
  }

  /** Writes the rope behind what the open slot holds. */
  #writeRope(): void {
    const text = this.#rope;
    const count = this.#ropeSegments;
    const most = text.length * MAX_UTF8;
    this.#rope = '';
    this.#ropeSegments = 0;
    this.bytes -= most;
    this.#openRoom += most;
    const length = this.arena.u8.write(text, this.#slab + this.#slabTail, most, 'utf8');
    if (length === text.length) {
      this.#slabTail += length;
      this.bytes += length;
      this.#openRoom -= length;
    } else this.#unravel(text, count);
  }

  /** Takes a rope that is not ASCII out of the open slot again, and pushes its strings one by one: room was kept. */
  #unravel(text: string, count: number): void {
    const size = this.#openSize;
    const now = this.#openNow;
    const sequence = this.#openSequence - count;
    this.#ropeReader ??= new DatagramReader(0, true);
    const reader = this.#ropeReader;
    reader.kind = TEXT;
    reader.byteLength = size * MAX_UTF8;
    reader.sockaddr = this.#openSockaddr;
    reader.port = this.#openPort;
    reader.control = this.#openControl;
    this.datagrams -= count;
    this.#openSegments -= count;
    this.#openSequence = sequence;
    this.#stringsUntilRope = STRINGS_AFTER_MISS;
    for (let index = 0; index < count; index++) {
      reader.text = text.slice(index * size, (index + 1) * size);
      this.push(reader, sequence + index, now);
    }
    reader.text = '';
  }

  /** Into a slot of its own. */
  #pushAlone(reader: DatagramReader, sequence: number, now: number): boolean {
    if (this.#ropeSegments > 0) {
      this.#writeRope();
      return this.push(reader, sequence, now); // it needed less room than it might have
    }
    if (reader.byteLength > this.maxBytes) this.#checkFitsExactly(reader);
    if (this.datagrams === this.capacity) return false;
    const isWritten = reader.isShared && this.#sharedAt >= 0;
    let at = isWritten ? this.#sharedAt : this.#room(reader.byteLength);
    if (at < 0) {
      at = this.#roomForExactly(reader);
      if (at < 0) return false;
    }
    const length = isWritten ? this.#sharedLength : this.write(reader, this.#slab + at);
    if (this.bytes + length > this.maxBytes) {
      this.#checkFits(length);
      return false;
    }
    this.#append(reader, at, length, sequence, now);
    if (!isWritten) this.#slabTail = at + length;
    this.datagrams++;
    this.bytes += length;
    if (length > this.largest) this.largest = length;
    if (reader.isShared) {
      this.#sharedAt = at;
      this.#sharedLength = length;
    } else if (this.#maxSegments > 1) this.#open(reader, at, length, sequence, now);
    return true;
  }

  /** A slot's payload lies at `at` of the slab; where it goes, and its control messages, are the reader's. */
  #fill(slot: number, at: number, length: number, reader: DatagramReader): void {
    this.#table.write(slot, at, length, reader.sockaddr, reader.port);
    if (reader.control !== null || this.#table.hasControls) this.#table.writeControl(slot, reader.control);
  }

  #append(reader: DatagramReader, at: number, length: number, sequence: number, now: number): void {
    if (this.#openSegments > 0) this.#seal();
    const slot = this.#tail;
    this.#fill(slot, at, length, reader);
    this.#segments[slot] = 1;
    this.#sequence[slot] = sequence;
    this.#queuedAt[slot] = now;
    if (this.#keepFrom !== null) {
      this.#keepFrom[slot] = at;
      this.#ownRoom![slot] = reader.isShared ? 0 : length;
    }
    this.slots++;
    this.#tail = this.#after(slot);
  }

  /** Lets the slot that was just appended be appended to, as far as the kernel, the queue and the slab allow. */
  #open(reader: DatagramReader, at: number, length: number, sequence: number, now: number): void {
    if (length === 0 || this.#latch?.allows(reader.sockaddr, length) === false) return;
    this.#openLimit = Math.min(this.#maxSegments, this.capacity - this.datagrams + 1);
    if (this.#openLimit < 2) return;
    this.#openSize = length;
    this.#openSegments = 1;
    const slabEnd = at < this.#slabHead ? this.#slabHead - 1 : this.#slabSize;
    this.#openRoom = Math.min(this.#maxSegmentedBytes - length, this.maxBytes - this.bytes, slabEnd - at - length);
    this.#openSockaddr = reader.sockaddr;
    this.#openPort = reader.port;
    this.#openControl = reader.control;
    this.#openSequence = sequence + 1;
    this.#openNow = now;
  }

  /** Nothing is appended to the open slot any more. */
  #seal(): void {
    this.commit();
    this.#openRoom = -1;
    this.#openSegments = 0;
    this.onSealed();
  }

  /** Where `length` contiguous bytes are free, as an offset in the slab; -1 if nowhere. */
  #room(length: number): number {
    const tail = this.#slabTail;
    const head = this.#slabHead;
    if (tail < head) return tail + length < head ? tail : -1;
    if (tail + length <= this.#slabSize) return tail;
    return length < head ? 0 : -1; // strictly: tail === head is left to mean empty
  }

  /** The upper bound of a text did not fit: count its bytes. */
  #roomForExactly(reader: DatagramReader): number {
    this.#checkFitsExactly(reader);
    return this.#room(reader.byteLength);
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

  /** Encodes a payload at byte `to` of the arena; returns its length. */
  protected write(reader: DatagramReader, to: number): number {
    const slab = this.arena.u8;
    if (reader.kind === BYTES) {
      slab.set(reader.bytes, to);
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
    const cut = datagrams * this.#table.segmentSizeOf(slot);
    const left = this.#segments[slot]! - datagrams;
    this.bytes -= cut;
    this.#sequence[slot] = this.#sequence[slot]! + datagrams;
    this.#segments[slot] = left;
    this.#table.trim(slot, cut, left === 1);
  }

  #sizeOfFirst(slot: number): number {
    return this.#segments[slot]! > 1 ? this.#table.segmentSizeOf(slot) : this.#table.lengthOf(slot);
  }

  #after(slot: number): number {
    return slot + 1 === this.capacity ? 0 : slot + 1;
  }

  #before(slot: number): number {
    return slot === 0 ? this.capacity - 1 : slot - 1;
  }
}
