/**
 * The arena queue: a ring of `mmsghdr` that is the queue itself, its payloads in a circular slab behind it.
 *
 *     arena | mmsghdr × slots | iovec × slots | sockaddr × slots | control × slots | slab ............ |
 *                ▲ head   ▲ tail                                                     ▲ payload of the head
 *
 * A datagram is encoded into its slot when it is accepted; sending hands the kernel a span of slots as they lie; and the
 * head moves only by what is done with (`release`). A slot holds one datagram, or, with GSO, a run of up to 64 equal
 * ones to one destination (the last may be shorter). Counts are of datagrams unless they say slots.
 *
 * Invariants: `release` alone moves the head. The payload of slot i begins at `#start[i]`, in ring order, so the slab is
 * free up to the head slot's start. A slot that was handed over once is sealed: nothing is appended to it. User code
 * (getters, iterators) runs in `reader.read` only, before anything is written.
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
  /** Most datagrams that `push` may join in a slot from now on; 1 is without GSO. */
  maxSegments: number;
  readonly arena: Arena;
  readonly capacity: number;
  readonly maxBytes: number;

  #head = 0;
  #tail = 0;
  #slabHead = 0;
  #slabTail = 0;
  #wired = 0;
  // The last slot, while it may be appended to: its segment size (0: sealed), destination and where its bytes end.
  #openSize = 0;
  #openSockaddr: Sockaddr | null = null;
  #openPort = 0;

  readonly #iovecs: number;
  readonly #names: number;
  readonly #nameStride: number;
  readonly #controls: number;
  readonly #controlStride: number;
  readonly #slab: number;
  readonly #slabSize: number;
  readonly #maxSegmentedBytes: number;
  readonly #start: Uint32Array;
  readonly #segments: Uint8Array;
  readonly #sequence: Float64Array;
  readonly #queuedAt: Float64Array;
  readonly #sockaddrs: (Sockaddr | null)[];

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    const { slots, maxBytes, nameSize, maxSegments } = layout;
    this.capacity = slots;
    this.maxBytes = maxBytes;
    this.maxSegments = maxSegments;
    this.#maxSegmentedBytes = layout.maxSegmentedBytes;
    this.#nameStride = (nameSize + 7) & ~7;
    this.#controlStride = maxSegments > 1 ? CONTROL_SIZE : 0;
    this.#iovecs = slots * MMSGHDR_SIZE;
    this.#names = this.#iovecs + slots * IOVEC_SIZE;
    this.#controls = this.#names + slots * this.#nameStride;
    this.#slab = this.#controls + slots * this.#controlStride;
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
    if (!this.#join(reader, at, length, sequence, now)) this.#append(reader, at, length, sequence, now);
    this.#slabTail = at + length;
    this.datagrams++;
    this.bytes += length;
    if (length > this.largest) this.largest = length;
    return true;
  }

  /** How many slots the next call may take: those that lie in a row from the head, at most `UIO_MAXIOV`. Seals them. */
  span(): number {
    this.#openSize = 0;
    return Math.min(this.slots, this.capacity - this.#head, MAX_VLEN);
  }

  /** Where the head's `mmsghdr` lies in the arena. */
  get headAt(): number {
    return this.#head * MMSGHDR_SIZE;
  }

  /** How many datagrams the first `slots` slots hold. */
  datagramsIn(slots: number): number {
    if (this.slots === this.datagrams) return slots;
    let sum = 0;
    for (let index = 0, slot = this.#head; index < slots; index++, slot = this.#after(slot))
      sum += this.#segments[slot]!;
    return sum;
  }

  /** Lets go of the first `datagrams` datagrams: the one place where the head moves. */
  release(datagrams: number): void {
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
      this.#head = this.#after(slot);
      this.slots--;
    }
    this.datagrams -= datagrams;
    // An empty ring starts over at the front: the same few cache lines serve a source that is kept up with.
    if (this.slots === 0) this.#head = this.#tail = this.#slabHead = this.#slabTail = this.#openSize = 0;
    else this.#slabHead = this.#start[this.#head]!;
  }

  /** The first datagram's position in the input. */
  headSequence(): number {
    return this.#sequence[this.#head]!;
  }

  /** When the first datagram was queued, ms of the clock. */
  headQueuedAt(): number {
    return this.#queuedAt[this.#head]!;
  }

  /** Whether the head slot holds several datagrams. */
  isHeadSegmented(): boolean {
    return this.#segments[this.#head]! > 1;
  }

  /** A copy of the bytes of the datagram in slot `index` from the head (the first one of it). */
  payloadAt(index: number): Uint8Array {
    const slot = (this.#head + index) % this.capacity;
    const start = this.#start[slot]!;
    const length = this.#segments[slot]! > 1 ? this.#segmentSize(slot) : this.#lengthOf(slot);
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

  /** Appends to the open slot, if this datagram continues its run. */
  #join(reader: DatagramReader, at: number, length: number, sequence: number, now: number): boolean {
    const size = this.#openSize;
    if (length === 0 || length > size) return false;
    const slot = this.#before(this.#tail);
    const total = this.#lengthOf(slot);
    const segments = this.#segments[slot]!;
    if (
      this.#openSockaddr !== reader.sockaddr ||
      this.#openPort !== reader.port ||
      segments >= this.maxSegments ||
      total + length > this.#maxSegmentedBytes ||
      this.#start[slot]! + total !== at ||
      this.#sequence[slot]! + segments !== sequence ||
      this.#queuedAt[slot]! !== now
    ) {
      return false;
    }
    const u32 = this.arena.u32;
    if (segments === 1) {
      u32[(this.#controls + slot * this.#controlStride + CMSG_DATA) >>> 2] = size;
      u32[(slot * MMSGHDR_SIZE + MSG_CONTROLLEN) >>> 2] = CONTROL_SIZE;
    }
    u32[(this.#iovecs + slot * IOVEC_SIZE + IOV_LEN) >>> 2] = total + length;
    this.#segments[slot] = segments + 1;
    if (length < size) this.#openSize = 0; // a shorter one ends the run
    return true;
  }

  #append(reader: DatagramReader, at: number, length: number, sequence: number, now: number): void {
    const slot = this.#tail;
    if (slot === this.#wired) this.#wire(slot);
    const u32 = this.arena.u32;
    const header = slot * MMSGHDR_SIZE;
    const iovec = this.#iovecs + slot * IOVEC_SIZE;
    if (reader.sockaddr !== null) this.#writeName(slot, reader.sockaddr, reader.port);
    this.arena.writePointer(iovec, this.#slab + at);
    u32[(iovec + IOV_LEN) >>> 2] = length;
    u32[(header + MSG_CONTROLLEN) >>> 2] = 0;
    this.#start[slot] = at;
    this.#segments[slot] = 1;
    this.#sequence[slot] = sequence;
    this.#queuedAt[slot] = now;
    this.slots++;
    this.#tail = this.#after(slot);
    this.#openSize = this.maxSegments > 1 ? length : 0;
    this.#openSockaddr = reader.sockaddr;
    this.#openPort = reader.port;
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
