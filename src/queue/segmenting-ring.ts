/**
 * A ring for UDP GSO: equal datagrams to one destination that follow one another share a slot, which goes out as one message
 * that the kernel cuts (UDP_SEGMENT).
 *
 * The last slot stays open for them: joining it is one short path, and its header is written only when it is looked at
 * (`commit`). Equally long strings are not even encoded one by one: they are joined as a rope, and written as one string.
 * Where that gives as many bytes as characters, it was all ASCII and each datagram lies where it should; where not, they
 * are pushed again, one by one.
 */

import type { Arena } from '../kernel/libc.ts';
import type { Control } from '../message/cmsg.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { BYTES, DatagramReader, TEXT } from '../message/datagram-reader.ts';
import { copyInto, MAX_UTF8 } from '../message/payload.ts';
import type { GsoLatch } from './gso.ts';
import { MmsgRing, type RingLayout, STRINGS_AFTER_MISS } from './mmsg-ring.ts';

export class SegmentingRing extends MmsgRing {
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
  readonly #maxSegments: number;
  readonly #maxSegmentedBytes: number;
  readonly #latch: GsoLatch | undefined;

  constructor(layout: RingLayout, allocate: (bytes: number) => Arena) {
    super(layout, allocate);
    this.#maxSegments = layout.maxSegments;
    this.#maxSegmentedBytes = layout.maxSegmentedBytes;
    this.#latch = layout.latch;
  }

  override push(reader: DatagramReader, sequence: number, now: number): boolean {
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
      if (++this.#openSegments === this.#openLimit) this.seal();
      return true;
    }
    if (this.#ropeSegments > 0) {
      this.#writeRope();
      return this.push(reader, sequence, now); // it needed less room than it might have
    }
    if (!super.push(reader, sequence, now)) return false;
    if (!reader.isShared) this.#open(reader, sequence, now);
    return true;
  }

  override commit(): void {
    if (this.#ropeSegments > 0) this.#writeRope();
    const segments = this.#openSegments;
    if (segments < 2) return;
    const slot = this.tailSlot;
    this.segments[slot] = segments;
    this.table.segment(slot, this.slabTail - this.table.startOf(slot), this.#openSize);
  }

  protected override seal(): void {
    super.seal();
    this.#openRoom = -1;
    this.#openSegments = 0;
  }

  /** Lets the slot that was just appended be appended to, as far as the kernel, the queue and the slab allow. */
  #open(reader: DatagramReader, sequence: number, now: number): void {
    const length = this.table.lengthOf(this.tailSlot);
    if (length === 0 || this.#latch?.allows(reader.sockaddr, length) === false) return;
    this.#openLimit = Math.min(this.#maxSegments, this.capacity - this.datagrams + 1);
    if (this.#openLimit < 2) return;
    this.isTailOpen = true;
    this.#openSize = length;
    this.#openSegments = 1;
    this.#openRoom = Math.min(this.#maxSegmentedBytes - length, this.tailRoom);
    this.#openSockaddr = reader.sockaddr;
    this.#openPort = reader.port;
    this.#openControl = reader.control;
    this.#openSequence = sequence + 1;
    this.#openNow = now;
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
    copyInto(this.arena.u8, reader.bytes, this.tailAt);
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
    const length = this.arena.u8.write(text, this.tailAt, chars * MAX_UTF8, 'utf8');
    if (length > this.#openSize) return false;
    this.#joined(length);
    return true;
  }

  /** A datagram of `length` bytes was written behind the open slot's last. */
  #joined(length: number): void {
    this.extendTail(length);
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
    const length = this.arena.u8.write(text, this.tailAt, most, 'utf8');
    if (length === text.length) {
      this.extendTail(length);
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
}
