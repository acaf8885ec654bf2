/**
 * What goes to the kernel with the next call: an array of `mmsghdr`, planned from the rows of the queue, from its head on.
 *
 *     rows         | 64 B x 3 to A | 64 B to A | 10 B to B | ......            planned: which rows form which message
 *     mmsghdr      | name A, iov 0-1, UDP_SEGMENT 64 | name B, iov 2 | ......
 *     iovec        | 192 B | 64 B | 10 B | ......                                    they point into the slab
 *
 * With UDP GSO equally long datagrams to one destination are one message, which the kernel cuts (UDP_SEGMENT); the last may be shorter.
 * They need not lie side by side, since a message may gather (`msg_iov`). With the rows' destinations known (`order: 'destination'`), they
 * need not be neighbours in the queue, either.
 *
 * Planning takes nothing out of the queue: `take` does, by what the kernel took, and `split` plans the first message anew, each of its
 * datagrams by itself. What is left of a plan is used again, unless the queue says that something of it has changed.
 *
 * A header is written only where it changes: with flushes on the thread pool its cache lines are at home on another core, and a
 * broadcast that goes round the same peers leaves them there.
 */
import {
  AF_INET,
  AF_INET6,
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
} from '../kernel/abi.ts';
import type { Arena } from '../kernel/libc.ts';
import { CONTROL_SIZE, type Control, MAX_CONTROL_SIZE, writeSegmentSize } from '../message/cmsg.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { portWord } from '../message/sockaddr.ts';
import type { GsoLatch } from './gso.ts';
import type { DatagramQueue } from './queue.ts';
import { PLANNED } from './rows.ts';

/** Bytes of a message's control buffer. */
const CONTROL_STRIDE: number = MAX_CONTROL_SIZE + CONTROL_SIZE;
const FIRST_MESSAGES = 4;

export interface BatchLayout {
  /** Bytes a sockaddr may take; 0 on a connected socket. */
  readonly nameSize: number;
  /** Most datagrams of a message, 1 to 64; 1 is without GSO. */
  readonly maxSegments: number;
  /** Most bytes of a message of several datagrams. */
  readonly maxSegmentedBytes: number;
}

/** Bytes that a sockaddr takes: none on a connected socket. */
export function nameSizeOf(family: number, isConnected: boolean): number {
  if (isConnected) return 0;
  if (family === AF_INET) return SOCKADDR_IN_SIZE;
  return family === AF_INET6 ? SOCKADDR_IN6_SIZE : SOCKADDR_UN_SIZE;
}

export class Batch {
  /** Where the headers lie: `mmsghdr`s, sockaddrs, control buffers. */
  arena: Arena;
  readonly #queue: DatagramQueue;
  readonly #latch: GsoLatch | null;
  readonly #allocate: (bytes: number) => Arena;
  readonly #nameStride: number;
  readonly #maxSegments: number;
  readonly #maxSegmentedBytes: number;

  // What each `mmsghdr` holds, and how many have been written before: the first so many.
  #capacity = FIRST_MESSAGES;
  #written = 0;
  #names = 0;
  #controls = 0;
  readonly #sockaddrs: (Sockaddr | null)[] = [];
  #ports: Uint16Array = new Uint16Array(FIRST_MESSAGES);
  readonly #heldControls: (Control | null)[] = [];
  #controlLengths: Uint16Array = new Uint16Array(FIRST_MESSAGES);
  #segmentSizes: Uint16Array = new Uint16Array(FIRST_MESSAGES);
  #iovecStarts: Int32Array = new Int32Array(FIRST_MESSAGES);
  #iovecCounts: Uint16Array = new Uint16Array(FIRST_MESSAGES);
  #iovecs: Arena;
  #iovecCapacity = FIRST_MESSAGES;

  // The plan: messages `done` to `planned` are left. A message has fragments, datagrams of a row, and iovecs.
  #done = 0;
  #planned = 0;
  /** Datagrams that are left of it. */
  #datagrams = 0;
  #segments: Uint8Array = new Uint8Array(FIRST_MESSAGES);
  #lengths: Uint32Array = new Uint32Array(FIRST_MESSAGES);
  /** Where the fragments of each message begin, and end: those of the next. */
  #fragmentStarts: Uint32Array = new Uint32Array(FIRST_MESSAGES + 1);
  #fragmentRows: Int32Array = new Int32Array(FIRST_MESSAGES);
  #fragmentCounts: Uint8Array = new Uint8Array(FIRST_MESSAGES);
  #fragments = 0;
  #iovecsUsed = 0;
  /** Whether it is a message that was split, each datagram by itself. */
  #isSplit = false;
  /** What it was planned from. */
  #changes = 0;
  #latchChanges = 0;
  /** The iovec that is not written yet, and may still grow. */
  #openChunk = 0;
  #openAt = 0;
  #openBytes = 0;
  /** The row of which a part is in a message that is full, and how many of its datagrams; 0: there is none. */
  #partRow = 0;
  #partTaken = 0;
  /** How many datagrams of this size make a message. */
  #mostSize = -1;
  #mostCount = 1;
  /** Destinations, by number, that are full: their rows wait. */
  readonly #full = new Set<number>();

  constructor(queue: DatagramQueue, layout: BatchLayout, latch: GsoLatch | null, allocate: (bytes: number) => Arena) {
    this.#queue = queue;
    this.#latch = latch;
    this.#allocate = allocate;
    this.#nameStride = (layout.nameSize + 7) & ~7;
    this.#maxSegments = layout.maxSegments;
    this.#maxSegmentedBytes = layout.maxSegmentedBytes;
    this.arena = this.#allocateHeaders();
    this.#iovecs = allocate(FIRST_MESSAGES * IOVEC_SIZE);
  }

  /** Plans the next call, or goes on with what is left of the plan: how many messages there are, at most `UIO_MAXIOV`. */
  plan(): number {
    const queue = this.#queue;
    const isSame = this.#changes === queue.changes && this.#latchChanges === (this.#latch?.changes ?? 0);
    if (isSame && this.#planned > this.#done) return this.#planned - this.#done;
    queue.close();
    this.#begin();
    const { rows, tail } = queue;
    for (let row = queue.head; row !== tail && this.#planned < MAX_VLEN; row = (row + 1) | 0) {
      const place = row & rows.mask;
      if (rows.segments[place] === 0 || (rows.flags[place]! & PLANNED) !== 0) continue;
      if (this.#full.size > 0 && this.#full.has(queue.destinations!.of[place]!)) continue;
      this.#planRow(row, rows.segments[place]!, this.#mostOf(rows.sockaddr[place]!, rows.size[place]!));
    }
    if (this.#planned === 0) queue.heldBack = queue.datagrams;
    return this.#planned;
  }

  /** Where the first `mmsghdr` that is left lies in the arena. */
  get headAt(): number {
    return this.#done * MMSGHDR_SIZE;
  }

  /** How many datagrams the first `messages` hold. */
  datagramsIn(messages: number): number {
    let sum = 0;
    for (let index = this.#done; index < this.#done + messages; index++) sum += this.#segments[index]!;
    return sum;
  }

  /** How many of the first `messages` hold a single datagram. */
  unsegmentedIn(messages: number): number {
    let sum = 0;
    for (let index = this.#done; index < this.#done + messages; index++) if (this.#segments[index] === 1) sum++;
    return sum;
  }

  /** Datagrams of message `index`. */
  segmentsAt(index: number): number {
    return this.#segments[this.#done + index]!;
  }

  /** Payload bytes of message `index`. */
  lengthAt(index: number): number {
    return this.#lengths[this.#done + index]!;
  }

  /** Whether the first `messages` are all that is queued. */
  isAll(messages: number): boolean {
    return messages === this.#planned - this.#done && this.#datagrams === this.#queue.datagrams;
  }

  /** Bytes of the largest datagram so far. */
  get largest(): number {
    return this.#queue.largest;
  }

  /** The kernel has taken the first `messages`. Returns their bytes. */
  take(messages: number): number {
    const queue = this.#queue;
    const rows = this.#fragmentRows;
    const counts = this.#fragmentCounts;
    const end = this.#fragmentStarts[this.#done + messages]!;
    let bytes = 0;
    for (let fragment = this.#fragmentStarts[this.#done]!; fragment < end; ) {
      const row = rows[fragment]!;
      let datagrams = 0;
      do datagrams += counts[fragment++]!;
      while (fragment < end && rows[fragment] === row);
      bytes += queue.release(row, datagrams);
      this.#datagrams -= datagrams;
    }
    this.#done += messages;
    return bytes;
  }

  /** Takes the first datagram out of the queue: it is refused. */
  takeOne(): void {
    if (this.#segments[this.#done] === 1) this.take(1);
    else {
      this.#queue.release(this.#headRow(), 1);
      this.#queue.changes++;
    }
  }

  /** Plans the datagrams of the first message anew, each by itself; the others after them. */
  split(): void {
    const start = this.#fragmentStarts[this.#done]!;
    const end = this.#fragmentStarts[this.#done + 1]!;
    const rows = this.#fragmentRows.slice(start, end);
    const counts = this.#fragmentCounts.slice(start, end);
    this.#begin();
    this.#isSplit = true;
    for (const [index, row] of rows.entries()) this.#planRow(row, counts[index]!, 1);
  }

  /** Whether what is left is of a message that was split. */
  get isSplit(): boolean {
    return this.#isSplit && this.#planned > this.#done;
  }

  /** Whether the first message holds several datagrams. */
  get isHeadSegmented(): boolean {
    return this.#segments[this.#done]! > 1;
  }

  /** The position in the input of the first datagram … */
  get headSequence(): number {
    return this.#queue.rows.sequence[this.#headPlace()]!;
  }

  /** … and, since several may be of one input, how many of its row are left: both together are no other datagram's. */
  get headLeft(): number {
    return this.#queue.rows.segments[this.#headPlace()]!;
  }

  /** The address of the first message; `null` on a connected socket. */
  get headSockaddr(): Sockaddr | null {
    return this.#queue.rows.sockaddr[this.#headPlace()]!;
  }

  /** Bytes of the first datagram. */
  get headSize(): number {
    return this.#queue.rows.size[this.#headPlace()]!;
  }

  /** The bytes of the first datagram as they lie in memory, until it is taken. */
  headPayload(): Buffer {
    const { rows, slab } = this.#queue;
    const place = this.#headPlace();
    const at = rows.at[place]!;
    return slab.arenaOf(rows.chunk[place]!).u8.subarray(at, at + rows.size[place]!);
  }

  /** A copy of the raw sockaddr of the first message; empty on a connected socket. */
  headName(): Uint8Array {
    if (this.#nameStride === 0) return new Uint8Array(0);
    const at = this.#names + this.#done * this.#nameStride;
    const length = this.arena.u32[(this.headAt + MSG_NAMELEN) >>> 2]!;
    return new Uint8Array(this.arena.u8.subarray(at, at + length));
  }

  /** The `msg_len` that the kernel wrote for message `index`. */
  sentLengthAt(index: number): number {
    return this.arena.u32[(this.headAt + index * MMSGHDR_SIZE + MSG_LEN) >>> 2]!;
  }

  /** The destination of the first message is full: its rows wait until {@link tryFull}, and the others go on. */
  waitForHead(): void {
    this.#full.add(this.#queue.destinations!.of[this.#headPlace()]!);
    this.#queue.changes++;
  }

  /** Whether the rows of some destination wait. */
  get hasFull(): boolean {
    return this.#full.size > 0;
  }

  /** Full destinations may have room again. */
  tryFull(): void {
    if (this.#full.size === 0) return;
    this.#full.clear();
    this.#queue.heldBack = 0;
    this.#queue.changes++;
  }

  // Methods, since optimised code still calls the runtime for a private getter (V8 of Node 20).
  #headRow(): number {
    return this.#fragmentRows[this.#fragmentStarts[this.#done]!]!;
  }

  #headPlace(): number {
    return this.#headRow() & this.#queue.rows.mask;
  }

  /** Begins a plan: nothing of the one before counts any more. */
  #begin(): void {
    const { rows } = this.#queue;
    // Of the last row, a part may not have been planned.
    const start = Math.min(this.#fragmentStarts[this.#done]!, this.#fragments - 1);
    for (let fragment = Math.max(start, 0); fragment < this.#fragments; fragment++) {
      const place = this.#fragmentRows[fragment]! & rows.mask;
      rows.flags[place] = rows.flags[place]! & ~PLANNED;
    }
    this.#done = this.#planned = this.#datagrams = this.#fragments = this.#iovecsUsed = 0;
    this.#isSplit = false;
    this.#changes = this.#queue.changes;
    this.#latchChanges = this.#latch?.changes ?? 0;
  }

  /** How many datagrams of a size to one destination make a message. */
  #mostOf(sockaddr: Sockaddr | null, size: number): number {
    if (this.#maxSegments === 1 || size === 0) return 1;
    if (this.#latch !== null && !this.#latch.isOpen && !this.#latch.allows(sockaddr, size)) return 1;
    if (size !== this.#mostSize) {
      this.#mostSize = size;
      this.#mostCount = Math.max(Math.min(this.#maxSegments, Math.floor(this.#maxSegmentedBytes / size)), 1);
    }
    return this.#mostCount;
  }

  /**
   * Plans the first `count` datagrams of a row, `most` a message, as far as there are `mmsghdr`s. The last message takes rows behind it in;
   * where of the last of these only a part fits, the rest of that follows.
   */
  #planRow(first: number, count: number, most: number): void {
    const { rows } = this.#queue;
    let row = first;
    let from = 0;
    let to = count;
    for (;;) {
      const place = row & rows.mask;
      const size = rows.size[place]!;
      const chunk = rows.chunk[place]!;
      const end = rows.at[place]! + rows.length[place]!;
      let at = rows.at[place]! + from * size;
      rows.flags[place] = rows.flags[place]! | PLANNED;
      if (most === 1) return this.#planSingles(row, place, from, to);
      while (from < to && this.#planned < MAX_VLEN) {
        const segments = to - from < most ? to - from : most;
        const bytes = Math.min(segments * size, end - at);
        const message = this.#planned;
        if (message === this.#capacity) this.#growHeaders();
        const iovec = this.#iovecsUsed;
        this.#fragmentStarts[message] = this.#fragments;
        this.#addFragment(row, segments);
        this.#openChunk = chunk;
        this.#openAt = at;
        this.#openBytes = bytes;
        this.#segments[message] = segments;
        this.#lengths[message] = bytes;
        from += segments;
        at += bytes;
        if (from === to && segments < most && bytes === segments * size) this.#gather(row, message, most);
        this.#closeIovec();
        this.#writeHeader(message, place, size, iovec);
        this.#datagrams += this.#segments[message]!;
        this.#planned = message + 1;
        this.#fragmentStarts[message + 1] = this.#fragments;
      }
      if (this.#partTaken === 0) return;
      row = this.#partRow;
      from = this.#partTaken;
      to = rows.segments[row & rows.mask]!;
      this.#partTaken = 0;
    }
  }

  /** The same, each datagram a message: where the headers are as they were, in one short path. */
  #planSingles(row: number, place: number, from: number, to: number): void {
    const { rows, slab } = this.#queue;
    const memory = slab.arenaOf(rows.chunk[place]!);
    const size = rows.size[place]!;
    const end = rows.at[place]! + rows.length[place]!;
    const sockaddr = rows.sockaddr[place]!;
    const port = rows.port[place]!;
    const control = rows.control[place]!;
    const controlLength = control === null ? 0 : control.length;
    let at = rows.at[place]! + from * size;
    const before = this.#planned;
    for (const last = Math.min(before + to - from, MAX_VLEN); this.#planned < last; at += size) {
      const message = this.#planned;
      if (message === this.#capacity) this.#growHeaders();
      const iovec = this.#iovecsUsed;
      if (iovec === this.#iovecCapacity) this.#growIovecs();
      const length = Math.min(size, end - at);
      this.#fragmentStarts[message] = this.#fragments;
      this.#addFragment(row, 1);
      this.#segments[message] = 1;
      this.#lengths[message] = length;
      this.#iovecs.writeIovec(iovec * IOVEC_SIZE, memory, at, length);
      this.#iovecsUsed = iovec + 1;
      if (
        message >= this.#written ||
        this.#iovecStarts[message] !== iovec ||
        this.#iovecCounts[message] !== 1 ||
        this.#controlLengths[message] !== controlLength ||
        this.#ports[message] !== port ||
        this.#sockaddrs[message] !== sockaddr ||
        this.#heldControls[message] !== control
      ) {
        this.#writeHeader(message, place, size, iovec);
      }
      this.#planned = message + 1;
      this.#fragmentStarts[message + 1] = this.#fragments;
    }
    this.#datagrams += this.#planned - before;
  }

  /** Takes rows behind a row into its message, as long as they go to the same place and are as long as its datagrams; a shorter one is the last. */
  #gather(first: number, message: number, most: number): void {
    const { rows, tail, destinations } = this.#queue;
    const place = first & rows.mask;
    const size = rows.size[place]!;
    const sockaddr = rows.sockaddr[place]!;
    const port = rows.port[place]!;
    const control = rows.control[place]!;
    let segments = this.#segments[message]!;
    let length = this.#lengths[message]!;
    for (let row = first; segments < most; ) {
      if (destinations === null) row = (row + 1) | 0;
      else {
        const distance = destinations.distance[row & rows.mask]!;
        if (distance === 0) break;
        row = (row + distance) | 0;
      }
      if (row === tail) break;
      const next = row & rows.mask;
      const count = rows.segments[next]!;
      if (count === 0) continue; // it is done with
      const bytes = rows.length[next]!;
      if (rows.size[next] !== size && (count > 1 || bytes > size)) break;
      if (bytes === 0 || (rows.flags[next]! & PLANNED) !== 0) break;
      if (rows.sockaddr[next] !== sockaddr || rows.port[next] !== port || rows.control[next] !== control) break;
      rows.flags[next] = rows.flags[next]! | PLANNED;
      if (segments + count > most) {
        const part = most - segments;
        this.#addFragment(row, part);
        this.#addBytes(rows.chunk[next]!, rows.at[next]!, part * size);
        this.#partRow = row;
        this.#partTaken = part;
        segments = most;
        length += part * size;
        break;
      }
      this.#addFragment(row, count);
      this.#addBytes(rows.chunk[next]!, rows.at[next]!, bytes);
      segments += count;
      length += bytes;
      if (bytes < count * size) break;
    }
    this.#segments[message] = segments;
    this.#lengths[message] = length;
  }

  #addFragment(row: number, count: number): void {
    const index = this.#fragments++;
    if (index === this.#fragmentRows.length) {
      this.#fragmentRows = longer(this.#fragmentRows, new Int32Array(2 * index));
      this.#fragmentCounts = longer(this.#fragmentCounts, new Uint8Array(2 * index));
    }
    this.#fragmentRows[index] = row;
    this.#fragmentCounts[index] = count;
  }

  /** Adds bytes to the message: to its last iovec, where they lie behind those. */
  #addBytes(chunk: number, at: number, bytes: number): void {
    if (chunk === this.#openChunk && at === this.#openAt + this.#openBytes) {
      this.#openBytes += bytes;
      return;
    }
    this.#closeIovec();
    this.#openChunk = chunk;
    this.#openAt = at;
    this.#openBytes = bytes;
  }

  #closeIovec(): void {
    const index = this.#iovecsUsed++;
    if (index === this.#iovecCapacity) this.#growIovecs();
    this.#iovecs.writeIovec(
      index * IOVEC_SIZE,
      this.#queue.slab.arenaOf(this.#openChunk),
      this.#openAt,
      this.#openBytes,
    );
  }

  /** Writes what of a header is not as it was. */
  #writeHeader(message: number, place: number, size: number, iovec: number): void {
    const { rows } = this.#queue;
    const { arena } = this;
    const { u32 } = arena;
    const header = message * MMSGHDR_SIZE;
    if (message === this.#written) this.#wire(message);
    const sockaddr = rows.sockaddr[place]!;
    if (sockaddr !== null) this.#writeName(message, sockaddr, rows.port[place]!);
    if (this.#iovecStarts[message] !== iovec) {
      this.#iovecStarts[message] = iovec;
      arena.writePointer(header + MSG_IOV, iovec * IOVEC_SIZE, this.#iovecs);
    }
    const iovecs = this.#iovecsUsed - iovec;
    if (this.#iovecCounts[message] !== iovecs) {
      this.#iovecCounts[message] = iovecs;
      u32[(header + MSG_IOVLEN) >>> 2] = iovecs;
    }
    const control = rows.control[place]!;
    const controlAt = this.#controls + message * CONTROL_STRIDE;
    if (this.#heldControls[message] !== control) {
      this.#heldControls[message] = control;
      this.#segmentSizes[message] = 0;
      if (control !== null) u32.set(control.words, controlAt >>> 2);
    }
    let controlLength = control === null ? 0 : control.length;
    if (this.#segments[message]! > 1) {
      if (this.#segmentSizes[message] !== size) {
        this.#segmentSizes[message] = size;
        writeSegmentSize(u32, controlAt + controlLength, size);
      }
      controlLength += CONTROL_SIZE;
    }
    if (this.#controlLengths[message] !== controlLength) {
      this.#controlLengths[message] = controlLength;
      u32[(header + MSG_CONTROLLEN) >>> 2] = controlLength;
    }
  }

  /** Writes a destination; the words behind the port only where the header held another address before. */
  #writeName(message: number, sockaddr: Sockaddr, port: number): void {
    const isSameAddress = this.#sockaddrs[message] === sockaddr;
    if (isSameAddress && this.#ports[message] === port) return;
    const { u32 } = this.arena;
    const { words } = sockaddr;
    const at = (this.#names + message * this.#nameStride) >>> 2;
    if (!isSameAddress) {
      for (let index = 1; index < words.length; index++) u32[at + index] = words[index]!;
      u32[(message * MMSGHDR_SIZE + MSG_NAMELEN) >>> 2] = sockaddr.length;
      this.#sockaddrs[message] = sockaddr;
    }
    this.#ports[message] = port;
    u32[at] = words[0]! | portWord(port);
  }

  /** The pointers of a header that is written for the first time. */
  #wire(message: number): void {
    this.#point(message);
    this.#sockaddrs.push(null);
    this.#heldControls.push(null);
    this.#iovecStarts[message] = -1;
    this.#written++;
  }

  #point(message: number): void {
    const header = message * MMSGHDR_SIZE;
    if (this.#nameStride > 0) this.arena.writePointer(header + MSG_NAME, this.#names + message * this.#nameStride);
    this.arena.writePointer(header + MSG_CONTROL, this.#controls + message * CONTROL_STRIDE);
  }

  #allocateHeaders(): Arena {
    this.#names = this.#capacity * MMSGHDR_SIZE;
    this.#controls = this.#names + this.#capacity * this.#nameStride;
    return this.#allocate(this.#controls + this.#capacity * CONTROL_STRIDE);
  }

  #growHeaders(): void {
    const { arena } = this;
    const [names, controls] = [this.#names, this.#controls];
    this.#capacity *= 2;
    this.arena = this.#allocateHeaders();
    const { u8 } = this.arena;
    u8.set(arena.u8.subarray(0, names));
    u8.set(arena.u8.subarray(names, controls), this.#names);
    u8.set(arena.u8.subarray(controls), this.#controls);
    for (let message = 0; message < this.#written; message++) this.#point(message);
    const size = this.#capacity;
    this.#ports = longer(this.#ports, new Uint16Array(size));
    this.#controlLengths = longer(this.#controlLengths, new Uint16Array(size));
    this.#segmentSizes = longer(this.#segmentSizes, new Uint16Array(size));
    this.#iovecStarts = longer(this.#iovecStarts, new Int32Array(size));
    this.#iovecCounts = longer(this.#iovecCounts, new Uint16Array(size));
    this.#segments = longer(this.#segments, new Uint8Array(size));
    this.#lengths = longer(this.#lengths, new Uint32Array(size));
    this.#fragmentStarts = longer(this.#fragmentStarts, new Uint32Array(size + 1));
  }

  #growIovecs(): void {
    const before = this.#iovecs;
    this.#iovecCapacity *= 2;
    this.#iovecs = this.#allocate(this.#iovecCapacity * IOVEC_SIZE);
    this.#iovecs.u8.set(before.u8);
    for (let message = 0; message < this.#written; message++) {
      const start = this.#iovecStarts[message]!;
      this.arena.writePointer(message * MMSGHDR_SIZE + MSG_IOV, start * IOVEC_SIZE, this.#iovecs);
    }
  }
}

function longer<Column extends { set(from: Column): void }>(from: Column, to: Column): Column {
  to.set(from);
  return to;
}
