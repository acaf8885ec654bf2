/**
 * A ring that packs: a line that goes where the one before went is appended to its datagram, behind a separator, until
 * that is full. See `pack` in `batch-options.ts`.
 *
 * As in {@link MmsgRing}, strings are not encoded one by one: they are kept, and written as one when the datagram is full or
 * looked at. Until then they count as ASCII; where they turn out not to be, they are put again, each by its bytes. That
 * may take more datagrams than one, so it is done only while there is room for the most that it may take.
 */

import { EMSGSIZE } from '../kernel/errno.ts';
import { SendmmsgError } from '../kernel/errors.ts';
import type { Arena } from '../kernel/libc.ts';
import type { Control } from '../message/cmsg.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { DatagramReader, TEXT } from '../message/datagram-reader.ts';
import { MAX_UTF8 } from '../message/payload.ts';
import { MmsgRing, type RingLayout, STRINGS_AFTER_MISS } from './mmsg-ring.ts';

/** Datagrams that one of `maxBytes` characters may take when each is three bytes: two neighbours always exceed `maxBytes`. */
const MOST_DATAGRAMS = 2 * MAX_UTF8 + 1;

/** How lines are packed. */
export interface Packing {
  /** Most bytes of a packed datagram, separators included. */
  readonly maxBytes: number;
  readonly separator: string;
  /** What becomes of a line longer than that. */
  readonly oversize: 'alone' | 'reject';
}

export class PackingRing extends MmsgRing {
  /** Lines that were appended to the datagram of an earlier one, ever. */
  override packed: number = 0;
  readonly #maxBytes: number;
  readonly #separator: string;
  readonly #separatorBytes: Buffer;
  readonly #rejectsLong: boolean;
  /** Bytes that the open datagram can still take, if what is kept is ASCII; -1 while none is open. */
  #room = -1;
  #sockaddr: Sockaddr | null = null;
  #port = 0;
  #control: Control | null = null;
  /** Whether lines may be kept: what they turn out to be finds room in any case. */
  #isRoomy = false;
  /** Lines not written yet, their bytes (separators included) if they are ASCII, and the input's next. */
  #texts: string[] = [];
  #textBytes = 0;
  #nextSequence = 0;
  #now = 0;
  #stringsUntilKept = 0;
  readonly #replay = new DatagramReader(0, true);

  constructor(layout: RingLayout, pack: Packing, allocate: (bytes: number) => Arena) {
    super({ ...layout, maxSegments: 1 }, allocate);
    this.#maxBytes = pack.maxBytes;
    this.#separatorBytes = Buffer.from(pack.separator);
    // Half of a surrogate pair is U+FFFD when it is encoded, and must not find its other half in a line that it is joined with.
    this.#separator = this.#separatorBytes.toString();
    this.#rejectsLong = pack.oversize === 'reject';
  }

  override push(reader: DatagramReader, sequence: number, now: number): boolean {
    if (this.#room >= 0 && this.#isForOpen(reader)) {
      let isAppended = this.#append(reader, sequence, now);
      if (!isAppended && this.#texts.length > 0) {
        // Full, as far as could be told: what was kept may have moved on to another datagram.
        this.#writeTexts();
        isAppended = this.#room >= 0 && this.#appendExactly(reader);
      }
      if (isAppended) {
        this.packed++;
        return true;
      }
    }
    this.commit();
    if (this.#rejectsLong) this.#checkLength(reader);
    if (!super.push(reader, sequence, now)) return false;
    this.#open(reader);
    return true;
  }

  override commit(): void {
    if (this.#texts.length > 0) this.#writeTexts();
    super.commit();
  }

  protected override seal(): void {
    super.seal();
    this.#room = -1;
  }

  #isForOpen(reader: DatagramReader): boolean {
    const { sockaddr, port, control, isShared } = reader;
    return sockaddr === this.#sockaddr && port === this.#port && control === this.#control && !isShared;
  }

  #append(reader: DatagramReader, sequence: number, now: number): boolean {
    if (reader.kind === TEXT && this.#isRoomy) {
      const { text } = reader;
      const bytes = this.#separatorBytes.length + text.length;
      if (bytes > this.#room) return false;
      // What may be too long even alone is counted at once: of a line that is kept nothing can be refused any more.
      const isKept = text.length * MAX_UTF8 <= this.#maxBytes && this.#stringsUntilKept === 0;
      if (isKept && (this.#texts.length === 0 || sequence === this.#nextSequence)) {
        this.#texts.push(text);
        this.#textBytes += bytes;
        this.#room -= bytes;
        this.bytes += bytes * MAX_UTF8;
        this.#nextSequence = sequence + 1;
        this.#now = now;
        return true;
      }
      if (this.#stringsUntilKept > 0) this.#stringsUntilKept--;
    }
    if (this.#texts.length > 0) this.#writeTexts();
    return this.#appendExactly(reader);
  }

  /** Appends at once, by the bytes; `false` if they do not fit. */
  #appendExactly(reader: DatagramReader): boolean {
    const bytes = this.#separatorBytes.length + reader.exactLength();
    if (bytes > this.#room || bytes > this.tailRoom) return false;
    const at = this.tailAt;
    this.arena.u8.set(this.#separatorBytes, at);
    this.write(reader, at + this.#separatorBytes.length);
    this.#extend(bytes);
    this.#room -= bytes;
    return true;
  }

  /** So many bytes were written behind the open datagram. */
  #extend(bytes: number): void {
    const slot = this.tailSlot;
    this.table.extend(slot, bytes);
    this.extendTail(bytes);
    this.largest = Math.max(this.largest, this.table.lengthOf(slot));
  }

  /** The datagram that was just pushed may be appended to. */
  #open(reader: DatagramReader): void {
    this.#room = reader.isShared ? -1 : this.#maxBytes - this.table.lengthOf(this.tailSlot);
    this.#sockaddr = reader.sockaddr;
    this.#port = reader.port;
    this.#control = reader.control;
    this.#isRoomy =
      this.capacity - this.datagrams >= MOST_DATAGRAMS && this.maxBytes - this.bytes >= MAX_UTF8 * this.#maxBytes;
  }

  #writeTexts(): void {
    const texts = this.#texts;
    const bytes = this.#textBytes;
    this.#texts = [];
    this.#textBytes = 0;
    this.bytes -= bytes * MAX_UTF8;
    if (bytes * MAX_UTF8 <= this.tailRoom) {
      const joined = this.#separator + texts.join(this.#separator);
      if (this.arena.u8.write(joined, this.tailAt, bytes * MAX_UTF8, 'utf8') === bytes) return this.#extend(bytes);
    }
    this.#room += bytes;
    this.#writeSingly(texts);
  }

  /** Puts lines that are not ASCII, or do not fit where they were to go: room for them was kept. */
  #writeSingly(texts: readonly string[]): void {
    const reader = this.#replay;
    reader.kind = TEXT;
    reader.sockaddr = this.#sockaddr;
    reader.port = this.#port;
    reader.control = this.#control;
    this.#stringsUntilKept = STRINGS_AFTER_MISS;
    const first = this.#nextSequence - texts.length;
    for (const [index, text] of texts.entries()) {
      reader.text = text;
      reader.byteLength = text.length * MAX_UTF8;
      if (this.#appendExactly(reader)) continue;
      this.packed--;
      super.push(reader, first + index, this.#now);
      this.#open(reader);
    }
    reader.text = '';
  }

  #checkLength(reader: DatagramReader): void {
    if (reader.byteLength <= this.#maxBytes || reader.exactLength() <= this.#maxBytes) return;
    const message = `sendmmsg EMSGSIZE: ${reader.byteLength} bytes are more than pack.maxBytes, ${this.#maxBytes}`;
    throw new SendmmsgError(message, { code: 'EMSGSIZE', errno: EMSGSIZE, syscall: 'sendmmsg' });
  }
}
