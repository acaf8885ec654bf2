/**
 * The queue of a sender, or of one lane of it: a row a datagram, its bytes in a slab.
 *
 *     rows   | head | ..... | ..... | last |          slab   | payload of the head | ....... | payload of the last |
 *
 * A datagram is encoded when it is pushed. Equally long ones that follow one another to one destination, with the same control messages,
 * share a row, whose bytes are extended: the last row stays open for them until somebody looks. With `pack` it is a line that is
 * appended, and the row stays one datagram. With `conflateBy` a newer datagram takes the row of an older one with its key.
 *
 * Invariants: `release` alone lets go of rows, and moves the head. Limits count the datagrams and bytes that are queued; one that
 * comes while there is less is queued whole. What is planned (see `batch.ts`) is closed, and where it changes, `changes` counts that.
 * What is in flight does not change at all. User code runs in `reader.read` only, before anything is written.
 */
import { EMSGSIZE } from '../kernel/errno.ts';
import { SendmmsgError } from '../kernel/errors.ts';
import type { Arena } from '../kernel/libc.ts';
import type { Control } from '../message/cmsg.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { BYTES, DatagramReader, TEXT } from '../message/datagram-reader.ts';
import { copyInto, MAX_UTF8 } from '../message/payload.ts';
import { Destinations } from './destinations.ts';
import { KeptText } from './kept-text.ts';
import { KeyedRows } from './keyed-rows.ts';
import { ONE_INPUT, PLANNED, Rows } from './rows.ts';
import { Slab } from './slab.ts';

/** How lines are packed. */
export interface Packing {
  /** Most bytes of a packed datagram, separators included. */
  readonly maxBytes: number;
  readonly separator: string;
  /** What becomes of a line longer than that. */
  readonly oversize: 'alone' | 'reject';
}

export interface QueueOptions {
  /** Most datagrams queued. */
  readonly capacity: number;
  /** Most payload bytes queued. */
  readonly maxBytes: number;
  readonly packing?: Packing | undefined;
  /** Whether a newer datagram takes the place of an older one with its key. */
  readonly byKey?: boolean;
  /** Whether to know the next row of each destination. */
  readonly byDestination?: boolean;
}

/** Datagrams that one packed of `maxBytes` characters may take when each is three bytes: two neighbours always exceed `maxBytes`. */
const MOST_DATAGRAMS_OF_LINES = 2 * MAX_UTF8 + 1;
const NO_SEPARATOR: Buffer = Buffer.alloc(0);
/** No row is open. */
const CLOSED = -1;

export class DatagramQueue {
  /** Datagrams queued. */
  datagrams: number = 0;
  /** Payload bytes queued; until the next `commit`, those of kept strings count as the most that they may be. */
  bytes: number = 0;
  /** Bytes of the largest datagram so far. */
  largest: number = 0;
  /** Lines that were appended to the datagram of an earlier one, ever. */
  packed: number = 0;
  /** Datagrams that a newer one has replaced, ever. */
  conflated: number = 0;
  /** How often datagrams were let go of, ever. */
  moves: number = 0;
  /** How often what was planned has changed, ever: it is to be planned anew. */
  changes: number = 0;
  /** Datagrams, of those queued, that wait for destinations which are full. */
  heldBack: number = 0;
  /** Whether what is planned is with the kernel. */
  isInFlight: boolean = false;
  /** The number of the first row, and the one behind the last. */
  head: number = 0;
  tail: number = 0;
  readonly rows: Rows = new Rows();
  readonly slab: Slab;
  readonly capacity: number;
  readonly maxBytes: number;
  readonly destinations: Destinations | null;
  readonly #packing: Packing | null;
  readonly #separatorBytes: Buffer;

  // The last row while it may be extended: how long its datagrams are, how many there are and may be, how many bytes still fit, and what
  // the next datagram must have in common with it.
  #openRoom: number = CLOSED;
  /** With `pack`, how many bytes of lines still fit, if those that are kept are ASCII. */
  #lineRoom: number = CLOSED;
  #openSize = 0;
  /** 0: no row is open. */
  #openSegments = 0;
  #openLimit = 0;
  #openSockaddr: Sockaddr | null = null;
  #openPort = 0;
  #openControl: Control | null = null;
  #openSequence = 0;
  #openNow = 0;
  /** Whether lines may be kept: what they turn out to be finds room in any case. */
  #isRoomy = false;
  /** The last strings of the open row, not written yet. */
  readonly #kept: KeptText;
  #replay: DatagramReader | null = null;

  // A payload that several rows have: where it lies.
  #sharedChunk = 0;
  #sharedAt = 0;
  #sharedLength = -1;

  readonly #keyed: KeyedRows | null;

  constructor(
    { capacity, maxBytes, packing, byKey = false, byDestination = false }: QueueOptions,
    allocate: (bytes: number) => Arena,
  ) {
    this.capacity = capacity;
    this.maxBytes = maxBytes;
    this.slab = new Slab(allocate);
    this.destinations = byDestination ? new Destinations(this.rows) : null;
    this.#packing = packing ?? null;
    this.#keyed = byKey ? new KeyedRows(this.rows) : null;
    this.#separatorBytes = packing === undefined ? NO_SEPARATOR : Buffer.from(packing.separator);
    // Half of a surrogate pair is U+FFFD when it is encoded, and must not find its other half in a line that it is joined with.
    this.#kept = new KeptText(this.#separatorBytes.toString());
  }

  /**
   * Encodes the datagram that `reader` holds; `false`, with nothing changed, if the queue is full. As long as it is not, a datagram of
   * any size goes in: the limits may be exceeded by one.
   *
   * @throws SendmmsgError `EMSGSIZE` if it would not even fit into an empty queue, `ENOMEM`
   */
  push(reader: DatagramReader, sequence: number, now: number): boolean {
    if (
      reader.byteLength <= this.#openRoom &&
      sequence === this.#openSequence &&
      reader.sockaddr === this.#openSockaddr &&
      reader.port === this.#openPort &&
      reader.control === this.#openControl &&
      now === this.#openNow &&
      reader.segmentSize === 0 &&
      (reader.kind === BYTES ? this.#joinBytes(reader) : this.#join(reader))
    ) {
      this.datagrams++;
      this.#openSequence = sequence + 1;
      if (++this.#openSegments === this.#openLimit) this.close();
      return true;
    }
    return this.#pushApart(reader, sequence, now);
  }

  /** What does not extend the open row. */
  #pushApart(reader: DatagramReader, sequence: number, now: number): boolean {
    if (this.#packing !== null) return this.#pushLine(reader, sequence, now, this.#packing);
    if (this.#kept.count > 0) {
      this.#writeKept(this.#kept);
      return this.push(reader, sequence, now); // it needed less room than it might have
    }
    if (this.#keyed !== null) return this.#pushKeyed(reader, sequence, now, this.#keyed);
    if (!this.#pushRow(reader, sequence, now, 0)) return false;
    this.#open(reader, sequence, now);
    return true;
  }

  /**
   * Writes what the open row has not written yet: not for each datagram, but before anyone looks. The counts are exact from here to the
   * next `push`.
   */
  commit(): void {
    if (this.#openSegments === 0) return;
    if (this.#kept.count > 0) {
      this.#writeKept(this.#kept);
      if (this.#openSegments === 0) return; // they were not ASCII, and other rows are the last now
    }
    const { rows } = this;
    const place = (this.tail - 1) & rows.mask;
    rows.segments[place] = this.#openSegments;
    rows.length[place] = this.slab.tail - rows.at[place]!;
    if (this.#openSegments === 1) rows.size[place] = rows.length[place]!;
  }

  /** Closes the open row: nothing is appended to it any more. */
  close(): void {
    if (this.#openSegments === 0) return;
    this.commit();
    this.#forgetOpen();
  }

  #forgetOpen(): void {
    this.#openRoom = this.#lineRoom = CLOSED;
    this.#openSegments = 0;
  }

  /** Ends the sharing of a payload: the last row that has it frees it. */
  endShared(): void {
    if (this.#sharedLength < 0) return;
    this.#sharedLength = -1;
    this.slab.letGo(this.#sharedChunk);
  }

  /** The position in the input of the first datagram. */
  headSequence(): number {
    return this.rows.sequence[this.head & this.rows.mask]!;
  }

  /** When the first datagram was queued, ms of the clock. */
  headQueuedAt(): number {
    return this.rows.queuedAt[this.head & this.rows.mask]!;
  }

  /** Drops the first datagrams of the queue. */
  drop(datagrams: number): void {
    this.close();
    if (datagrams > 0) this.changes++;
    this.heldBack = Math.max(this.heldBack - datagrams, 0);
    for (let left = datagrams; left > 0; ) {
      const segments = Math.min(this.rows.segments[this.head & this.rows.mask]!, left);
      this.release(this.head, segments);
      left -= segments;
    }
  }

  /**
   * Lets go of the first datagrams of a row: the one place where the head moves, past all that is done with.
   *
   * @returns their bytes
   */
  release(row: number, datagrams: number): number {
    const { rows } = this;
    const place = row & rows.mask;
    const left = rows.segments[place]! - datagrams;
    const bytes = left === 0 ? rows.length[place]! : datagrams * rows.size[place]!;
    this.moves++;
    this.datagrams -= datagrams;
    this.bytes -= bytes;
    rows.segments[place] = left;
    if (left > 0) {
      rows.at[place]! += bytes;
      rows.length[place]! -= bytes;
      if ((rows.flags[place]! & ONE_INPUT) === 0) rows.sequence[place]! += datagrams;
      if (left === 1) rows.size[place] = rows.length[place]!;
      return bytes;
    }
    this.slab.letGo(rows.chunk[place]!);
    this.#keyed?.forget(row, place);
    if (row === this.head) {
      let head = row;
      do head = (head + 1) | 0;
      while (head !== this.tail && rows.segments[head & rows.mask] === 0);
      this.head = head;
      if (head === this.tail) this.#restart();
    }
    return bytes;
  }

  /** Nothing is queued: the same few cache lines serve a source that is kept up with. */
  #restart(): void {
    this.head = this.tail = 0;
    this.#forgetOpen();
    this.slab.restart();
    this.destinations?.restart();
  }

  /** Queues what was read in a row of its own, with room behind it for `least` bytes in all. */
  #pushRow(reader: DatagramReader, sequence: number, now: number, least: number): boolean {
    if (reader.byteLength > this.maxBytes) this.#checkFits(reader);
    if (this.datagrams >= this.capacity || this.bytes >= this.maxBytes) return false;
    this.close();
    if (((this.tail - this.head) | 0) > this.rows.mask) this.#makeRowRoom();
    if (reader.isShared && this.#sharedLength >= 0) {
      this.#append(reader, this.#sharedChunk, this.#sharedAt, this.#sharedLength, sequence, now);
      return true;
    }
    const length = this.#encode(reader, least);
    const { slab } = this;
    const { chunk, tail } = slab;
    slab.tail = tail + length;
    this.#append(reader, chunk, tail, length, sequence, now);
    if (reader.isShared) this.#share(chunk, tail, length);
    return true;
  }

  #append(reader: DatagramReader, chunk: number, at: number, length: number, sequence: number, now: number): void {
    const { rows, tail } = this;
    const place = tail & rows.mask;
    const { segmentSize } = reader;
    const isCut = segmentSize > 0 && segmentSize < length;
    const size = isCut ? segmentSize : length;
    const segments = isCut ? Math.ceil(length / segmentSize) : 1;
    rows.chunk[place] = chunk;
    rows.at[place] = at;
    rows.length[place] = length;
    rows.size[place] = size;
    rows.segments[place] = segments;
    rows.flags[place] = isCut ? ONE_INPUT : 0;
    rows.sequence[place] = sequence;
    rows.queuedAt[place] = now;
    this.#address(reader, place);
    this.slab.hold(chunk);
    this.destinations?.append(rows, this.head, tail);
    this.tail = (tail + 1) | 0;
    this.datagrams += segments;
    this.bytes += length;
    if (size > this.largest) this.largest = size;
  }

  /** Where a row goes, and with which control messages. */
  #address(reader: DatagramReader, place: number): void {
    const { rows } = this;
    rows.port[place] = reader.port;
    // Storing an object costs more than looking whether it is there.
    if (rows.sockaddr[place] !== reader.sockaddr) rows.sockaddr[place] = reader.sockaddr;
    if (rows.control[place] !== reader.control) rows.control[place] = reader.control;
  }

  #share(chunk: number, at: number, length: number): void {
    this.slab.hold(chunk); // until the sharing ends, though all rows that have it may be gone before
    this.#sharedChunk = chunk;
    this.#sharedAt = at;
    this.#sharedLength = length;
  }

  /** Writes a payload at the tail of the slab, with room for `least` bytes there; returns its length. */
  #encode(reader: DatagramReader, least: number): number {
    const { slab } = this;
    if (!slab.hasRoom(Math.max(reader.byteLength, least))) {
      const bytes = Math.max(reader.exactLength(), least);
      if (!slab.hasRoom(bytes)) {
        if (!this.isInFlight && slab.isSparse(this.bytes)) this.#compact();
        if (!slab.hasRoom(bytes)) slab.turnOver(bytes);
      }
    }
    return encode(reader, slab.arena.u8, slab.tail);
  }

  /** The last row may be extended by datagrams like the one that was just pushed, as far as the limits and the slab allow. */
  #open(reader: DatagramReader, sequence: number, now: number): void {
    const { rows, slab } = this;
    const place = (this.tail - 1) & rows.mask;
    const length = rows.length[place]!;
    const limit = this.capacity - this.datagrams + 1;
    if (length === 0 || limit < 2 || reader.isShared || rows.segments[place]! > 1) return;
    this.#openSize = length;
    this.#openSegments = 1;
    this.#openLimit = limit;
    this.#openRoom = Math.max(Math.min(slab.end - slab.tail, this.maxBytes - this.bytes), CLOSED);
    this.#openSockaddr = reader.sockaddr;
    this.#openPort = reader.port;
    this.#openControl = reader.control;
    this.#openSequence = sequence + 1;
    this.#openNow = now;
  }

  /** Extends the open row; `false` if it does not fit there. */
  #joinBytes(reader: DatagramReader): boolean {
    const length = reader.byteLength;
    if (length > this.#openSize || length === 0 || this.#kept.count > 0) return false;
    copyInto(this.slab.arena.u8, reader.bytes, this.slab.tail);
    this.#joined(length);
    return true;
  }

  #join(reader: DatagramReader): boolean {
    const kept = this.#kept;
    if (reader.kind === TEXT) {
      const chars = reader.text.length;
      if (chars > this.#openSize || chars === 0) return false;
      if (chars === this.#openSize && !kept.isFull && kept.isWilling) {
        kept.add(reader.text);
        this.bytes += chars * MAX_UTF8;
        this.#openRoom -= chars * MAX_UTF8;
        return true;
      }
    }
    if (kept.count > 0) return false;
    const length = encode(reader, this.slab.arena.u8, this.slab.tail);
    if (length > this.#openSize || length === 0) return false;
    this.#joined(length);
    return true;
  }

  /** A datagram of `length` bytes was written behind the open row's last. */
  #joined(length: number): void {
    this.slab.tail += length;
    this.bytes += length;
    this.#openRoom -= length;
    // A shorter one is the last.
    if (length < this.#openSize) this.#openLimit = this.#openSegments + 1;
  }

  /** Writes the kept strings behind what the open row has. */
  #writeKept(kept: KeptText): void {
    const { bytes } = kept;
    const most = bytes * MAX_UTF8;
    this.bytes -= most;
    if (this.#packing !== null) return this.#writeLines(kept, bytes, most, this.#packing);
    this.#openRoom += most;
    if (!kept.writeTo(this.slab.arena.u8, this.slab.tail)) return this.#replayDatagrams(kept.takeApart());
    kept.clear();
    this.slab.tail += bytes;
    this.bytes += bytes;
    this.#openRoom -= bytes;
  }

  /** Takes strings that are not ASCII out of the open row again, and pushes them one by one: room for them was kept. */
  #replayDatagrams(texts: readonly string[]): void {
    const reader = this.#replayReader();
    const now = this.#openNow;
    const first = this.#openSequence - texts.length;
    this.datagrams -= texts.length;
    this.#openSegments -= texts.length;
    this.#openSequence = first;
    for (const [index, text] of texts.entries()) {
      reader.text = text;
      reader.byteLength = text.length * MAX_UTF8;
      this.push(reader, first + index, now);
    }
    reader.text = '';
  }

  #replayReader(): DatagramReader {
    this.#replay ??= new DatagramReader(0, true);
    const reader = this.#replay;
    reader.kind = TEXT;
    reader.sockaddr = this.#openSockaddr;
    reader.port = this.#openPort;
    reader.control = this.#openControl;
    return reader;
  }

  /** Appends a line to the datagram before it, if that goes to the same place and has room; else it begins one. */
  #pushLine(reader: DatagramReader, sequence: number, now: number, packing: Packing): boolean {
    if (
      this.#lineRoom > CLOSED &&
      reader.sockaddr === this.#openSockaddr &&
      reader.port === this.#openPort &&
      reader.control === this.#openControl &&
      !reader.isShared &&
      (this.#keepLine(reader, sequence, now, packing) || this.#appendLine(reader))
    ) {
      this.packed++;
      return true;
    }
    this.commit();
    if (packing.oversize === 'reject') checkLine(reader, packing.maxBytes);
    if (!this.#pushRow(reader, sequence, now, MAX_UTF8 * packing.maxBytes)) return false;
    this.#openForLines(reader, packing);
    return true;
  }

  #keepLine(reader: DatagramReader, sequence: number, now: number, packing: Packing): boolean {
    if (reader.kind !== TEXT || !this.#isRoomy) return false;
    const kept = this.#kept;
    const { text } = reader;
    const bytes = this.#separatorBytes.length + text.length;
    if (bytes > this.#lineRoom || kept.isFull || (kept.count > 0 && sequence !== this.#openSequence)) return false;
    // What may be too long even alone is counted at once: of a line that is kept nothing can be refused any more.
    if (text.length * MAX_UTF8 > packing.maxBytes || !kept.isWilling) return false;
    kept.add(text);
    this.bytes += bytes * MAX_UTF8;
    this.#lineRoom -= bytes;
    this.#openSequence = sequence + 1;
    this.#openNow = now;
    return true;
  }

  /** Appends a line at once, by its bytes; `false` if they do not fit. */
  #appendLine(reader: DatagramReader): boolean {
    if (this.#kept.count > 0) this.#writeKept(this.#kept);
    const bytes = this.#separatorBytes.length + reader.exactLength();
    if (bytes > this.#lineRoom || bytes > this.maxBytes - this.bytes || !this.slab.hasRoom(bytes)) return false;
    const { arena, tail } = this.slab;
    arena.u8.set(this.#separatorBytes, tail);
    encode(reader, arena.u8, tail + this.#separatorBytes.length);
    this.#extendLine(bytes);
    return true;
  }

  /** The same with lines, for which room was taken as if they were ASCII. */
  #writeLines(kept: KeptText, bytes: number, most: number, packing: Packing): void {
    this.#lineRoom += bytes;
    const isRoom = this.slab.hasRoom(most) && this.maxBytes - this.bytes >= most;
    if (!isRoom || !kept.writeTo(this.slab.arena.u8, this.slab.tail)) {
      return this.#replayLines(kept.takeApart(), packing);
    }
    kept.clear();
    this.#extendLine(bytes);
  }

  /** So many bytes were written behind the lines of the open row. */
  #extendLine(bytes: number): void {
    this.slab.tail += bytes;
    this.bytes += bytes;
    this.#lineRoom -= bytes;
    const length = this.slab.tail - this.rows.at[(this.tail - 1) & this.rows.mask]!;
    if (length > this.largest) this.largest = length;
  }

  #openForLines(reader: DatagramReader, packing: Packing): void {
    const length = this.rows.length[(this.tail - 1) & this.rows.mask]!;
    this.#lineRoom = reader.isShared ? CLOSED : Math.max(packing.maxBytes - length, CLOSED);
    this.#openSegments = 1;
    this.#openSockaddr = reader.sockaddr;
    this.#openPort = reader.port;
    this.#openControl = reader.control;
    this.#isRoomy =
      this.capacity - this.datagrams >= MOST_DATAGRAMS_OF_LINES &&
      this.maxBytes - this.bytes >= MAX_UTF8 * packing.maxBytes;
  }

  /** Puts lines that are not ASCII, or do not fit where they were to go: room for them was kept. */
  #replayLines(texts: readonly string[], packing: Packing): void {
    const reader = this.#replayReader();
    const first = this.#openSequence - texts.length;
    for (const [index, text] of texts.entries()) {
      reader.text = text;
      reader.byteLength = text.length * MAX_UTF8;
      if (this.#appendLine(reader)) continue;
      this.packed--;
      this.#pushRow(reader, first + index, this.#openNow, MAX_UTF8 * packing.maxBytes);
      this.#openForLines(reader, packing);
    }
    reader.text = '';
  }

  /** Puts a datagram in the place of the one with its key, or behind all others. */
  #pushKeyed(reader: DatagramReader, sequence: number, now: number, keyed: KeyedRows): boolean {
    const row = keyed.rowOf(reader.key);
    this.close();
    if (row !== undefined && this.#replaceRow(row, reader, sequence, now, keyed)) {
      this.conflated++;
      return true;
    }
    if (!this.#pushRow(reader, sequence, now, 0)) return false;
    const place = (this.tail - 1) & this.rows.mask;
    keyed.add(reader.key, (this.tail - 1) | 0, place, reader.isShared ? 0 : this.rows.length[place]!);
    return true;
  }

  /**
   * Puts another datagram into a row; `false`, with nothing changed, if that is with the kernel, or if without the old one the queue would be
   * full all the same.
   */
  #replaceRow(row: number, reader: DatagramReader, sequence: number, now: number, keyed: KeyedRows): boolean {
    const { rows, slab } = this;
    const place = row & rows.mask;
    const isPlanned = (rows.flags[place]! & PLANNED) !== 0;
    if (this.isInFlight && isPlanned) return false;
    const isWritten = reader.isShared && this.#sharedLength >= 0;
    const length = isWritten ? this.#sharedLength : reader.exactLength();
    const others = this.bytes - rows.length[place]!;
    if (length > this.maxBytes || others >= this.maxBytes) return false;
    if (!reader.isShared && length <= keyed.roomAt(place)) {
      encode(reader, slab.arenaOf(rows.chunk[place]!).u8, rows.at[place]!);
    } else {
      if (!isWritten) {
        this.#encode(reader, 0);
        if (reader.isShared) this.#share(slab.chunk, slab.tail, length);
      }
      const chunk = reader.isShared ? this.#sharedChunk : slab.chunk;
      const at = reader.isShared ? this.#sharedAt : slab.tail;
      if (!isWritten) slab.tail += length;
      slab.hold(chunk);
      slab.letGo(rows.chunk[place]!);
      rows.chunk[place] = chunk;
      rows.at[place] = at;
      keyed.setRoom(place, reader.isShared ? 0 : length);
    }
    rows.length[place] = rows.size[place] = length;
    rows.sequence[place] = sequence;
    rows.queuedAt[place] = now;
    this.#address(reader, place);
    this.bytes = others + length;
    if (length > this.largest) this.largest = length;
    if (isPlanned) this.changes++;
    return true;
  }

  /** Room for one more row: where most rows are done with, the others are moved together, else there is twice as much. */
  #makeRowRoom(): void {
    const { rows } = this;
    let live = 0;
    for (let row = this.head; row !== this.tail; row = (row + 1) | 0) if (rows.segments[row & rows.mask]! > 0) live++;
    if (live > rows.capacity / 2 || this.isInFlight) {
      rows.grow();
      this.#keyed?.grow();
      this.destinations?.grow();
      return;
    }
    this.changes++;
    let to = this.head;
    for (let row = this.head; row !== this.tail; row = (row + 1) | 0) {
      const place = row & rows.mask;
      if (rows.segments[place] === 0) continue;
      rows.flags[place] = rows.flags[place]! & ~PLANNED; // it is planned anew
      if (row !== to) {
        rows.move(row, to);
        this.#keyed?.move(row, to, rows.mask);
      }
      to = (to + 1) | 0;
    }
    this.tail = to;
    this.destinations?.renumber(rows, this.head, to);
  }

  /** Moves all payloads together: what has been let go of between them is free again. */
  #compact(): void {
    const { rows, slab } = this;
    this.changes++;
    slab.turnOver(0);
    const moved = new Map<number, number>();
    for (let row = this.head; row !== this.tail; row = (row + 1) | 0) {
      const place = row & rows.mask;
      if (rows.segments[place] === 0) continue;
      const chunk = rows.chunk[place]!;
      const length = rows.length[place]!;
      // Rows that share a payload go on sharing it.
      const from = chunk * 2 ** 32 + rows.at[place]!;
      const known = length === 0 ? undefined : moved.get(from);
      if (known === undefined) {
        if (!slab.hasRoom(length)) slab.turnOver(length);
        const { tail } = slab;
        slab.append(chunk, rows.at[place]!, length);
        rows.at[place] = tail;
        rows.chunk[place] = slab.chunk;
        moved.set(from, slab.chunk * 2 ** 32 + tail);
      } else {
        rows.at[place] = known % 2 ** 32;
        rows.chunk[place] = Math.floor(known / 2 ** 32);
      }
      slab.hold(rows.chunk[place]!);
      slab.letGo(chunk);
      this.#keyed?.setRoom(place, 0); // it may be shared
    }
  }

  #checkFits(reader: DatagramReader): void {
    const length = reader.exactLength();
    if (length > this.maxBytes) throw tooLong(`${length} bytes are more than highWaterMarkBytes, ${this.maxBytes}`);
  }
}

/** Writes a payload; returns its length. */
function encode(reader: DatagramReader, memory: Buffer, at: number): number {
  if (reader.kind === BYTES) {
    copyInto(memory, reader.bytes, at);
    return reader.byteLength;
  }
  if (reader.kind === TEXT) return memory.write(reader.text, at, reader.byteLength, 'utf8');
  const { parts, partLengths } = reader;
  let end = at;
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index]!;
    const length = partLengths[index]!;
    if (typeof part === 'string') memory.write(part, end, length, 'utf8');
    else copyInto(memory, part, end);
    end += length;
  }
  return end - at;
}

function checkLine(reader: DatagramReader, maxBytes: number): void {
  if (reader.byteLength <= maxBytes) return;
  const length = reader.exactLength();
  if (length > maxBytes) throw tooLong(`${length} bytes are more than pack.maxBytes, ${maxBytes}`);
}

function tooLong(why: string): SendmmsgError {
  return new SendmmsgError(`sendmmsg EMSGSIZE: ${why}`, { code: 'EMSGSIZE', errno: EMSGSIZE, syscall: 'sendmmsg' });
}
