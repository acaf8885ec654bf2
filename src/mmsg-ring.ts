/**
 * The arena queue: a ring of `mmsghdr` that is the queue itself, its payloads in a circular slab behind it.
 *
 *     arena | mmsghdr × slots | iovec × slots | sockaddr × slots | control × slots | spill | slab ....... |
 *                ▲ head   ▲ tail                                                           ▲ payload of the head
 *
 * A datagram is encoded into its slot when it is accepted; sending hands the kernel a span of slots as they lie; and the
 * head moves only by what is done with (`release`). A slot holds one datagram, or, with GSO, a run of up to 64 equal
 * ones to one destination (the last may be shorter). Counts are of datagrams unless they say slots.
 *
 * Invariants: `release` alone moves the head. The payload of slot i begins at `#start[i]`, in ring order, so the slab is
 * free up to the head slot's start. A slot that was handed over once is sealed: nothing is appended to it. A segmented
 * head that the kernel refused is spilled: its datagrams get an `mmsghdr` each, over the same bytes. User code (getters,
 * iterators) runs in `reader.read` only, before anything is written.
 */
import {
  AF_INET,
  AF_INET6,
  IOV_LEN,
  IOVEC_SIZE,
  MAX_VLEN,
  MMSGHDR_SIZE,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_LEN,
  MSG_NAME,
  MSG_NAMELEN,
  SOCKADDR_IN_SIZE,
  SOCKADDR_IN6_SIZE,
  SOCKADDR_UN_SIZE,
} from './abi.ts';
import { CMSG_DATA, CONTROL_SIZE, writeSegmentHeader } from './cmsg.ts';
import type { Sockaddr } from './datagram.ts';
import { BYTES, type DatagramReader, TEXT } from './datagram-reader.ts';
import { EMSGSIZE } from './errno.ts';
import { SendmmsgError } from './errors.ts';
import type { GsoLatch } from './gso.ts';
import type { Arena } from './libc.ts';
import { portWord } from './sockaddr.ts';

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

/** Bytes that a slot's sockaddr takes: none on a connected socket. */
export function nameSizeOf(family: number, isConnected: boolean): number {
  if (isConnected) return 0;
  if (family === AF_INET) return SOCKADDR_IN_SIZE;
  return family === AF_INET6 ? SOCKADDR_IN6_SIZE : SOCKADDR_UN_SIZE;
}

/** Room at the slab's end that a datagram may not fit into when the ring wraps: none is lost to that below the limit. */
const WRAP_SLACK = 256 * 1024;

export class MmsgRing {
  /** Datagrams queued. */
  datagrams: number = 0;
  /** Payload bytes queued. */
  bytes: number = 0;
  /** `mmsghdr`s queued. */
  slots: number = 0;
  /** Bytes of the largest datagram so far. */
  largest: number = 0;
  readonly arena: Arena;
  readonly capacity: number;
  readonly maxBytes: number;

  #head = 0;
  #tail = 0;
  #slabHead = 0;
  #slabTail = 0;
  #wired = 0;
  // The last slot while it may be appended to: its segment size, segments so far and at most, bytes that still fit (-1:
  // it is sealed), and what a datagram must have in common with it.
  #openSize = 0;
  #openSegments = 0;
  #openLimit = 0;
  #openRoom = -1;
  #openSockaddr: Sockaddr | null = null;
  #openPort = 0;
  #openSequence = 0;
  #openNow = 0;
  // The payload that the last slot shares with the next ones; -1: none, or it is gone with its last slot.
  #sharedAt = -1;
  #sharedLength = 0;
  // How many datagrams the head slot held when it was spilled; 0 while it is not.
  #spilled = 0;

  readonly #iovecs: number;
  readonly #names: number;
  readonly #nameStride: number;
  readonly #controls: number;
  readonly #controlStride: number;
  readonly #spill: number;
  readonly #slab: number;
  readonly #slabSize: number;
  readonly #maxSegments: number;
  readonly #maxSegmentedBytes: number;
  readonly #latch: GsoLatch | undefined;
  readonly #start: Uint32Array;
  readonly #segments: Uint8Array;
  readonly #sequence: Float64Array;
  readonly #queuedAt: Float64Array;
  readonly #sockaddrs: (Sockaddr | null)[];

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    const { slots, maxBytes, nameSize, maxSegments } = layout;
    this.capacity = slots;
    this.maxBytes = maxBytes;
    this.#maxSegments = maxSegments;
    this.#latch = layout.latch;
    this.#maxSegmentedBytes = layout.maxSegmentedBytes;
    this.#nameStride = (nameSize + 7) & ~7;
    this.#controlStride = maxSegments > 1 ? CONTROL_SIZE : 0;
    this.#iovecs = slots * MMSGHDR_SIZE;
    this.#names = this.#iovecs + slots * IOVEC_SIZE;
    this.#controls = this.#names + slots * this.#nameStride;
    this.#spill = this.#controls + slots * this.#controlStride;
    this.#slab = this.#spill + (maxSegments > 1 ? maxSegments * (MMSGHDR_SIZE + IOVEC_SIZE) : 0);
    this.#slabSize = maxBytes + Math.min(maxBytes, WRAP_SLACK);
    this.arena = allocate((this.#slab + this.#slabSize + 7) & ~7);
    this.#start = new Uint32Array(slots);
    this.#segments = new Uint8Array(slots);
    this.#sequence = new Float64Array(slots);
    this.#queuedAt = new Float64Array(slots);
    this.#sockaddrs = [];
  }

  /**
   * Encodes the datagram that `reader` holds into the ring; `false`, with nothing changed, if there is no room for it.
   *
   * @throws SendmmsgError `EMSGSIZE` if it would not even fit into an empty ring
   */
  push(reader: DatagramReader, sequence: number, now: number): boolean {
    if (reader.isShared) return this.#pushShared(reader, sequence, now);
    if (reader.byteLength <= this.#openRoom && this.#join(reader, sequence, now)) return true;
    if (reader.byteLength > this.maxBytes) this.#checkFitsExactly(reader);
    if (this.datagrams === this.capacity) return false;
    let at = this.#room(reader.byteLength);
    if (at < 0) {
      at = this.#roomForExactly(reader);
      if (at < 0) return false;
    }
    const length = this.#write(reader, at);
    if (this.bytes + length > this.maxBytes) {
      this.#checkFits(length);
      return false;
    }
    this.#append(reader, at, length, sequence, now);
    this.#slabTail = at + length;
    this.datagrams++;
    this.bytes += length;
    if (length > this.largest) this.largest = length;
    return true;
  }

  /** Writes into the open slot what it has come to hold: not for each datagram, but before anyone looks. It stays open. */
  writeOpen(): void {
    const segments = this.#openSegments;
    if (segments < 2) return;
    const slot = this.#before(this.#tail);
    const u32 = this.arena.u32;
    this.#segments[slot] = segments;
    u32[(this.#iovecs + slot * IOVEC_SIZE + IOV_LEN) >>> 2] = this.#slabTail - this.#start[slot]!;
    u32[(this.#controls + slot * this.#controlStride + CMSG_DATA) >>> 2] = this.#openSize;
    u32[(slot * MMSGHDR_SIZE + MSG_CONTROLLEN) >>> 2] = CONTROL_SIZE;
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
    return this.#spill + (this.#spilled - this.#segments[this.#head]!) * MMSGHDR_SIZE;
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
    const slot = this.#head;
    const { u8 } = this.arena;
    const header = slot * MMSGHDR_SIZE;
    const size = this.#segmentSize(slot);
    let at = this.#start[slot]!;
    let left = this.#lengthOf(slot);
    this.#spilled = this.#segments[slot]!;
    for (let index = 0; index < this.#spilled; index++) {
      const message = this.#spill + index * MMSGHDR_SIZE;
      const iovec = this.#spill + this.#maxSegments * MMSGHDR_SIZE + index * IOVEC_SIZE;
      u8.copyWithin(message, header, header + MMSGHDR_SIZE);
      this.arena.writePointer(message + MSG_IOV, iovec);
      this.arena.u32[(message + MSG_CONTROLLEN) >>> 2] = 0;
      this.arena.writePointer(iovec, this.#slab + at);
      this.arena.u32[(iovec + IOV_LEN) >>> 2] = Math.min(size, left);
      at += size;
      left -= size;
    }
  }

  /** Lets go of the first `datagrams` datagrams: the one place where the head moves. */
  release(datagrams: number): void {
    this.#seal();
    let left = datagrams;
    while (left > 0) {
      const slot = this.#head;
      const segments = this.#segments[slot]!;
      if (segments > left) {
        this.#trim(slot, left);
        break;
      }
      left -= segments;
      this.bytes -= this.#lengthOf(slot);
      this.#spilled = 0;
      this.#head = this.#after(slot);
      this.slots--;
    }
    this.datagrams -= datagrams;
    // An empty ring starts over at the front: the same few cache lines serve a source that is kept up with.
    if (this.slots === 0) {
      this.#head = this.#tail = this.#slabHead = this.#slabTail = 0;
      this.#sharedAt = -1;
    } else this.#slabHead = this.#start[this.#head]!;
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
    return this.#sockaddrs[this.#head] ?? null;
  }

  /** Bytes of the head's first datagram. */
  headSize(): number {
    return this.#sizeOfFirst(this.#head);
  }

  /** A copy of the bytes of the datagram in slot `index` from the head (the first one of it). */
  payloadAt(index: number): Uint8Array {
    const slot = (this.#head + index) % this.capacity;
    const start = this.#start[slot]!;
    const length = this.#sizeOfFirst(slot);
    return new Uint8Array(this.arena.u8.subarray(this.#slab + start, this.#slab + start + length));
  }

  /** The raw sockaddr of slot `index` from the head; empty on a connected socket. */
  nameAt(index: number): Uint8Array {
    const slot = (this.#head + index) % this.capacity;
    if (this.#nameStride === 0) return new Uint8Array(0);
    const at = this.#names + slot * this.#nameStride;
    return new Uint8Array(this.arena.u8.subarray(at, at + this.arena.u32[(slot * MMSGHDR_SIZE + MSG_NAMELEN) >>> 2]!));
  }

  /** The `msg_len` that the kernel wrote for slot `index` from the head. */
  sentLengthAt(index: number): number {
    return this.arena.u32[(((this.#head + index) % this.capacity) * MMSGHDR_SIZE + MSG_LEN) >>> 2]!;
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

  #write(reader: DatagramReader, at: number): number {
    const slab = this.arena.u8;
    const to = this.#slab + at;
    if (reader.kind === TEXT) return slab.write(reader.text, to, reader.byteLength, 'utf8');
    if (reader.kind === BYTES) {
      slab.set(reader.bytes, to);
      return reader.byteLength;
    }
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

  /** A slot of its own for one more destination of a payload that is written once. */
  #pushShared(reader: DatagramReader, sequence: number, now: number): boolean {
    if (reader.byteLength > this.maxBytes) this.#checkFitsExactly(reader);
    if (this.datagrams === this.capacity) return false;
    let at = this.#sharedAt;
    let length = this.#sharedLength;
    const isWritten = at >= 0;
    if (!isWritten) {
      at = this.#room(reader.byteLength);
      if (at < 0) at = this.#roomForExactly(reader);
      if (at < 0) return false;
      length = this.#write(reader, at);
      this.#checkFits(length);
    }
    if (this.bytes + length > this.maxBytes) return false;
    this.#append(reader, at, length, sequence, now);
    if (!isWritten) this.#slabTail = at + length;
    this.#sharedAt = at;
    this.#sharedLength = length;
    this.datagrams++;
    this.bytes += length;
    if (length > this.largest) this.largest = length;
    return true;
  }

  /** Appends to the open slot, if this datagram continues its run: the short way of `push`. */
  #join(reader: DatagramReader, sequence: number, now: number): boolean {
    if (
      sequence !== this.#openSequence ||
      reader.sockaddr !== this.#openSockaddr ||
      reader.port !== this.#openPort ||
      now !== this.#openNow
    ) {
      return false;
    }
    const length = this.#write(reader, this.#slabTail);
    if (length === 0 || length > this.#openSize) return false;
    this.#slabTail += length;
    this.datagrams++;
    this.bytes += length;
    this.#openRoom -= length;
    this.#openSequence = sequence + 1;
    // A shorter one ends the run, and so does the last that the kernel takes or the queue holds.
    if (++this.#openSegments === this.#openLimit || length < this.#openSize) this.#seal();
    return true;
  }

  /** Nothing is appended to the open slot any more. */
  #seal(): void {
    this.#openRoom = -1;
    if (this.#openSegments < 2) return;
    this.writeOpen();
    this.#openSegments = 0;
  }

  /** Lets the slot that was just appended be appended to, as far as the kernel, the queue and the slab allow. */
  #open(reader: DatagramReader, at: number, length: number, sequence: number, now: number): void {
    if (length === 0 || this.#latch?.allows(reader.sockaddr, length) === false) return;
    this.#openSize = length;
    this.#openSegments = 1;
    this.#openLimit = Math.min(this.#maxSegments, this.capacity - this.datagrams);
    const slabEnd = at < this.#slabHead ? this.#slabHead - 1 : this.#slabSize;
    this.#openRoom = Math.min(this.#maxSegmentedBytes, this.maxBytes - this.bytes, slabEnd - at) - length;
    if (this.#openLimit < 2) this.#openRoom = -1;
    this.#openSockaddr = reader.sockaddr;
    this.#openPort = reader.port;
    this.#openSequence = sequence + 1;
    this.#openNow = now;
  }

  #append(reader: DatagramReader, at: number, length: number, sequence: number, now: number): void {
    if (this.#openSegments > 0) this.#seal();
    const slot = this.#tail;
    const isNew = slot === this.#wired;
    if (isNew) this.#wire(slot);
    const u32 = this.arena.u32;
    const header = slot * MMSGHDR_SIZE;
    const iovec = this.#iovecs + slot * IOVEC_SIZE;
    if (reader.sockaddr !== null) this.#writeName(slot, reader.sockaddr, reader.port);
    // The same place as the last time: so it is again and again while the queue is kept up with.
    if (this.#start[slot] !== at || isNew) this.arena.writePointer(iovec, this.#slab + at);
    u32[(iovec + IOV_LEN) >>> 2] = length;
    u32[(header + MSG_CONTROLLEN) >>> 2] = 0;
    this.#start[slot] = at;
    this.#segments[slot] = 1;
    this.#sequence[slot] = sequence;
    this.#queuedAt[slot] = now;
    this.slots++;
    this.#tail = this.#after(slot);
    if (this.#maxSegments > 1) this.#open(reader, at, length, sequence, now);
  }

  /** The pointers of a slot that is used for the first time; they never change again, but for iov_base. */
  #wire(slot: number): void {
    const header = slot * MMSGHDR_SIZE;
    if (this.#nameStride > 0) this.arena.writePointer(header + MSG_NAME, this.#names + slot * this.#nameStride);
    this.arena.writePointer(header + MSG_IOV, this.#iovecs + slot * IOVEC_SIZE);
    this.arena.u32[(header + MSG_IOVLEN) >>> 2] = 1;
    if (this.#controlStride > 0) {
      const control = this.#controls + slot * this.#controlStride;
      this.arena.writePointer(header + MSG_CONTROL, control);
      writeSegmentHeader(this.arena.u32, control);
    }
    this.#sockaddrs.push(null);
    this.#wired++;
  }

  /** Writes a destination; the words behind the port only where the slot held another address before. */
  #writeName(slot: number, sockaddr: Sockaddr, port: number): void {
    const u32 = this.arena.u32;
    const words = sockaddr.words;
    const at = (this.#names + slot * this.#nameStride) >>> 2;
    if (this.#sockaddrs[slot] !== sockaddr) {
      for (let index = 1; index < words.length; index++) u32[at + index] = words[index]!;
      u32[(slot * MMSGHDR_SIZE + MSG_NAMELEN) >>> 2] = sockaddr.length;
      this.#sockaddrs[slot] = sockaddr;
    }
    u32[at] = words[0]! | portWord(port);
  }

  /** Takes the first datagrams out of a segmented slot. */
  #trim(slot: number, datagrams: number): void {
    const cut = datagrams * this.#segmentSize(slot);
    const header = slot * MMSGHDR_SIZE;
    const iovec = this.#iovecs + slot * IOVEC_SIZE;
    this.bytes -= cut;
    this.#start[slot] = this.#start[slot]! + cut;
    this.#sequence[slot] = this.#sequence[slot]! + datagrams;
    this.#segments[slot] = this.#segments[slot]! - datagrams;
    this.arena.writePointer(iovec, this.#slab + this.#start[slot]!);
    this.arena.u32[(iovec + IOV_LEN) >>> 2] = this.#lengthOf(slot) - cut;
    if (this.#segments[slot] === 1) this.arena.u32[(header + MSG_CONTROLLEN) >>> 2] = 0;
  }

  #sizeOfFirst(slot: number): number {
    return this.#segments[slot]! > 1 ? this.#segmentSize(slot) : this.#lengthOf(slot);
  }

  #segmentSize(slot: number): number {
    return this.arena.u32[(this.#controls + slot * this.#controlStride + CMSG_DATA) >>> 2]!;
  }

  #lengthOf(slot: number): number {
    return this.arena.u32[(this.#iovecs + slot * IOVEC_SIZE + IOV_LEN) >>> 2]!;
  }

  #after(slot: number): number {
    return slot + 1 === this.capacity ? 0 : slot + 1;
  }

  #before(slot: number): number {
    return slot === 0 ? this.capacity - 1 : slot - 1;
  }
}
