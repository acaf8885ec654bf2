/**
 * The `mmsghdr` table of an arena: a row for each slot, with its `iovec`, sockaddr and control buffer, and the payload slab
 * behind them. A payload that the slab has no place for gets memory of its own.
 *
 *     mmsghdr × slots | iovec × slots | sockaddr × slots | control × slots | spill | slab .......
 *
 * A control buffer holds what the datagram says about itself (`Control`), and behind it the segment size, where there is one.
 * Room for the largest is reserved, but its pages cost memory only once they are touched.
 *
 * Pointers are wired once, when a row is first used; only iov_base changes. What a row holds is also kept in columns of its own,
 * and the arena is written only where that changes: with flushes on the thread pool its cache lines are at home on another
 * core, and a broadcast that goes round the same peers leaves them there. The spill area holds `mmsghdr`s and `iovec`s for
 * the datagrams of one segmented row, for the time that the kernel wants them one by one.
 */
import {
  AF_INET,
  AF_INET6,
  IOV_LEN,
  IOVEC_SIZE,
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
} from '../kernel/abi.ts';
import type { Arena } from '../kernel/libc.ts';
import { CMSG_DATA, CONTROL_SIZE, type Control, MAX_CONTROL_SIZE, writeSegmentSize } from '../message/cmsg.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { portWord } from '../message/sockaddr.ts';

/** Bytes of a slot's control buffer. */
const CONTROL_STRIDE: number = MAX_CONTROL_SIZE + CONTROL_SIZE;

/** Where no payload begins: a slab has at most 1 GiB and its slack. */
const NOWHERE = 0xffffffff;

/** Bytes that a slot's sockaddr takes: none on a connected socket. */
export function nameSizeOf(family: number, isConnected: boolean): number {
  if (isConnected) return 0;
  if (family === AF_INET) return SOCKADDR_IN_SIZE;
  return family === AF_INET6 ? SOCKADDR_IN6_SIZE : SOCKADDR_UN_SIZE;
}

/** How a table is laid out. */
export interface TableLayout {
  readonly slots: number;
  /** Bytes a slot's sockaddr may take; 0 on a connected socket. */
  readonly nameSize: number;
  /** Most datagrams a slot, 1 to 64; 1 is without GSO. */
  readonly maxSegments: number;
  readonly slabSize: number;
}

export class MmsgTable {
  readonly arena: Arena;
  /** Where the slab begins in the arena, bytes. */
  readonly slab: number;
  readonly slabSize: number;
  /** Whether any row has ever held control messages: until then there is none to take out of one. */
  hasControls: boolean = false;
  readonly #iovecs: number;
  readonly #names: number;
  readonly #nameStride: number;
  readonly #controls: number;
  readonly #spill: number;
  readonly #maxSegments: number;
  /** Rows that were used before: the first so many. */
  #wired = 0;
  /** Where each row's payload begins in the slab. */
  readonly #start: Uint32Array;
  /** Bytes of each row, its iov_len. */
  readonly #lengths: Uint32Array;
  /** The address that each row holds, with the port … */
  readonly #sockaddrs: (Sockaddr | null)[] = [];
  readonly #ports: Uint16Array;
  /** The control messages that each row holds; a segment size not among them. */
  readonly #held: (Control | null)[] = [];
  /** … and its msg_controllen. */
  readonly #controlLengths: Uint16Array;
  /** By row, where the slab had no place for the payload: memory of its own, as long as the row has it. */
  readonly #annexes = new Map<number, Arena>();

  constructor({ slots, nameSize, maxSegments, slabSize }: TableLayout, allocate: (bytes: number) => Arena) {
    this.slabSize = slabSize;
    this.#maxSegments = maxSegments;
    this.#nameStride = (nameSize + 7) & ~7;
    this.#iovecs = slots * MMSGHDR_SIZE;
    this.#names = this.#iovecs + slots * IOVEC_SIZE;
    this.#controls = this.#names + slots * this.#nameStride;
    this.#spill = this.#controls + slots * CONTROL_STRIDE;
    this.slab = this.#spill + (maxSegments > 1 ? maxSegments * (MMSGHDR_SIZE + IOVEC_SIZE) : 0);
    this.arena = allocate((this.slab + slabSize + 7) & ~7);
    this.#start = new Uint32Array(slots);
    this.#lengths = new Uint32Array(slots);
    this.#ports = new Uint16Array(slots);
    this.#controlLengths = new Uint16Array(slots);
  }

  /** Fills a row: `length` bytes at `at` of the slab, for one destination. */
  write(slot: number, at: number, length: number, sockaddr: Sockaddr | null, port: number): void {
    const isNew = slot === this.#wired;
    if (isNew) this.#wire(slot);
    if (sockaddr !== null) this.#writeName(slot, sockaddr, port);
    if (this.#annexes.size > 0) this.dropAnnex(slot);
    // The same place as the last time: so it is again and again while the queue is kept up with.
    if (this.#start[slot] !== at || isNew) this.move(slot, at);
    this.#setLength(slot, length);
    if (this.#maxSegments > 1) this.#setControlLength(slot, 0);
  }

  /** Gives the row that was just written its control messages. */
  writeControl(slot: number, control: Control | null): void {
    if (this.#held[slot] !== control) {
      this.#held[slot] = control;
      this.hasControls = true;
      if (control !== null) this.arena.u32.set(control.words, (this.#controls + slot * CONTROL_STRIDE) >>> 2);
    }
    this.#setControlLength(slot, this.#heldLengthOf(slot));
  }

  /** Lets a row be longer (or shorter) by that many bytes. */
  extend(slot: number, bytes: number): void {
    this.#setLength(slot, this.lengthOf(slot) + bytes);
  }

  /** Puts the payload of the row that was just written into memory of its own, which begins with it. */
  annex(slot: number, annex: Arena): void {
    this.#annexes.set(slot, annex);
    this.arena.writePointer(this.#iovecs + slot * IOVEC_SIZE, 0, annex);
  }

  /** The memory of a row that has its own. */
  annexOf(slot: number): Arena | undefined {
    return this.#annexes.get(slot);
  }

  /** Whether any row has. */
  get hasAnnexes(): boolean {
    return this.#annexes.size > 0;
  }

  /** Lets go of a row's own memory. */
  dropAnnex(slot: number): void {
    // Nowhere, so that the next payload is certain to be pointed to anew.
    if (this.#annexes.delete(slot)) this.#start[slot] = NOWHERE;
  }

  /** Lets go of all rows' own memory. */
  dropAnnexes(): void {
    for (const slot of this.#annexes.keys()) this.dropAnnex(slot);
  }

  /** The first `length` bytes of a row, as they lie in memory. */
  bytesOf(slot: number, length: number): Buffer {
    const annex = this.#annexes.get(slot);
    if (annex !== undefined) return annex.u8.subarray(0, length);
    const start = this.slab + this.startOf(slot);
    return this.arena.u8.subarray(start, start + length);
  }

  /** Says where in the slab a row's payload lies now. */
  move(slot: number, at: number): void {
    this.#start[slot] = at;
    this.arena.writePointer(this.#iovecs + slot * IOVEC_SIZE, this.slab + at);
  }

  /** Makes a row a segmented message of `length` bytes, cut into datagrams of `size`. */
  segment(slot: number, length: number, size: number): void {
    this.#setLength(slot, length);
    writeSegmentSize(this.arena.u32, this.#segmentMessageOf(slot), size);
    this.#setControlLength(slot, this.#heldLengthOf(slot) + CONTROL_SIZE);
  }

  /** Takes the first `cut` bytes out of a row; `isSingle`: one datagram is left. */
  trim(slot: number, cut: number, isSingle: boolean): void {
    this.move(slot, this.#start[slot]! + cut);
    this.#setLength(slot, this.lengthOf(slot) - cut);
    if (isSingle) this.#setControlLength(slot, this.#heldLengthOf(slot));
  }

  /** Gives each of the `segments` datagrams of a row an `mmsghdr` of its own, in the spill area. */
  spill(slot: number, segments: number): void {
    const { u8, u32 } = this.arena;
    const header = slot * MMSGHDR_SIZE;
    const size = this.segmentSizeOf(slot);
    let at = this.#start[slot]!;
    let left = this.lengthOf(slot);
    for (let index = 0; index < segments; index++) {
      const message = this.spillAt(index);
      const iovec = this.spillAt(this.#maxSegments) + index * IOVEC_SIZE;
      u8.copyWithin(message, header, header + MMSGHDR_SIZE);
      this.arena.writePointer(message + MSG_IOV, iovec);
      u32[(message + MSG_CONTROLLEN) >>> 2] = this.#heldLengthOf(slot);
      this.arena.writePointer(iovec, this.slab + at);
      u32[(iovec + IOV_LEN) >>> 2] = Math.min(size, left);
      at += size;
      left -= size;
    }
  }

  /** Where the `mmsghdr` of spilled datagram `index` lies in the arena. */
  spillAt(index: number): number {
    return this.#spill + index * MMSGHDR_SIZE;
  }

  /** Where a row's payload begins in the slab; of one that has memory of its own, where the next one's may. */
  startOf(slot: number): number {
    return this.#start[slot]!;
  }

  /** Bytes of a row, all its datagrams together. */
  lengthOf(slot: number): number {
    return this.#lengths[slot]!;
  }

  /** Bytes of the datagrams of a segmented row, but for the last. */
  segmentSizeOf(slot: number): number {
    return this.arena.u32[(this.#segmentMessageOf(slot) + CMSG_DATA) >>> 2]!;
  }

  /** The address of a row; `null` on a connected socket. */
  sockaddrOf(slot: number): Sockaddr | null {
    return this.#sockaddrs[slot] ?? null;
  }

  /** A copy of a row's raw sockaddr; empty on a connected socket. */
  nameOf(slot: number): Uint8Array {
    if (this.#nameStride === 0) return new Uint8Array(0);
    const at = this.#names + slot * this.#nameStride;
    return new Uint8Array(this.arena.u8.subarray(at, at + this.arena.u32[(slot * MMSGHDR_SIZE + MSG_NAMELEN) >>> 2]!));
  }

  /** The `msg_len` that the kernel wrote. */
  sentLengthOf(slot: number): number {
    return this.arena.u32[(slot * MMSGHDR_SIZE + MSG_LEN) >>> 2]!;
  }

  /** The pointers of a row that is used for the first time. */
  #wire(slot: number): void {
    const header = slot * MMSGHDR_SIZE;
    if (this.#nameStride > 0) this.arena.writePointer(header + MSG_NAME, this.#names + slot * this.#nameStride);
    this.arena.writePointer(header + MSG_IOV, this.#iovecs + slot * IOVEC_SIZE);
    this.arena.u32[(header + MSG_IOVLEN) >>> 2] = 1;
    this.arena.writePointer(header + MSG_CONTROL, this.#controls + slot * CONTROL_STRIDE);
    this.#sockaddrs.push(null);
    this.#held.push(null);
    this.#wired++;
  }

  /** Where a row's UDP_SEGMENT message lies: behind what else it holds. */
  #segmentMessageOf(slot: number): number {
    return this.#controls + slot * CONTROL_STRIDE + this.#heldLengthOf(slot);
  }

  /** Bytes of the control messages that a row holds. */
  #heldLengthOf(slot: number): number {
    return this.#held[slot]?.length ?? 0;
  }

  #setLength(slot: number, length: number): void {
    if (this.#lengths[slot] === length) return;
    this.#lengths[slot] = length;
    this.arena.u32[(this.#iovecs + slot * IOVEC_SIZE + IOV_LEN) >>> 2] = length;
  }

  #setControlLength(slot: number, length: number): void {
    if (this.#controlLengths[slot] === length) return;
    this.#controlLengths[slot] = length;
    this.arena.u32[(slot * MMSGHDR_SIZE + MSG_CONTROLLEN) >>> 2] = length;
  }

  /** Writes a destination; the words behind the port only where the row held another address before. */
  #writeName(slot: number, sockaddr: Sockaddr, port: number): void {
    const isSameAddress = this.#sockaddrs[slot] === sockaddr;
    if (isSameAddress && this.#ports[slot] === port) return;
    const u32 = this.arena.u32;
    const words = sockaddr.words;
    const at = (this.#names + slot * this.#nameStride) >>> 2;
    if (!isSameAddress) {
      for (let index = 1; index < words.length; index++) u32[at + index] = words[index]!;
      u32[(slot * MMSGHDR_SIZE + MSG_NAMELEN) >>> 2] = sockaddr.length;
      this.#sockaddrs[slot] = sockaddr;
    }
    this.#ports[slot] = port;
    u32[at] = words[0]! | portWord(port);
  }
}
