/**
 * The rows of each destination, one behind the other, for `order: 'destination'`: each row knows how far behind it the next one is.
 *
 * A destination has a number, in the order in which they were first seen. A source that goes round its destinations comes to them in the
 * order of their numbers; any other is looked up by address and port.
 */
import type { Sockaddr } from '../message/datagram.ts';
import { hashOf, isSameAddress } from '../message/sockaddr.ts';
import { type Rows, twice } from './rows.ts';

const FIRST_SLOTS = 16;
const NOBODY = -1;
/** Times that nothing was queued any more, after which destinations are forgotten if few of them were in use. */
const RESTARTS_PER_LOOK = 64;
const FEW = 64;

export class Destinations {
  /** By place in the columns: which destination a row has, and how many rows behind it the next one of that is; 0: there is none. */
  of: Int32Array;
  distance: Uint32Array;
  /** By destination: its address and port, its last row, and of which run of rows, from restart to restart, that is. */
  #sockaddrs: (Sockaddr | null)[] = [];
  #ports: number[] = [];
  #last: number[] = [];
  #runs: number[] = [];
  #run = 0;
  /** The destination of the last row. */
  #previous = NOBODY;
  /** Where destinations are found by hash; at least half of it is free. */
  #slots: Int32Array = new Int32Array(FIRST_SLOTS).fill(NOBODY);
  /** Destinations in use in this run, and the most of a run since the last look. */
  #used = 0;
  #mostUsed = 0;
  #restarts = 0;

  constructor({ capacity }: Rows) {
    this.of = new Int32Array(capacity);
    this.distance = new Uint32Array(capacity);
  }

  /** Notes the destination of a row, behind all others. `head` is the first row of the queue. */
  append(rows: Rows, head: number, row: number): void {
    const place = row & rows.mask;
    const destination = this.#numberOf(rows.sockaddr[place]!, rows.port[place]!);
    this.#previous = destination;
    this.of[place] = destination;
    this.distance[place] = 0;
    if (this.#runs[destination] === this.#run) {
      const last = this.#last[destination]!;
      if (((last - head) | 0) >= 0) this.distance[last & rows.mask] = row - last;
    } else {
      this.#runs[destination] = this.#run;
      this.#used++;
    }
    this.#last[destination] = row;
  }

  /** The rows from `head` to `tail` have new numbers. */
  renumber(rows: Rows, head: number, tail: number): void {
    this.#nextRun();
    for (let row = head; row !== tail; row = (row + 1) | 0) this.append(rows, head, row);
  }

  /** The columns have twice the room: see {@link Rows.grow}. */
  grow(): void {
    this.of = twice(this.of, new Int32Array(2 * this.of.length));
    this.distance = twice(this.distance, new Uint32Array(2 * this.distance.length));
  }

  /** No row is left. */
  restart(): void {
    if (this.#used > this.#mostUsed) this.#mostUsed = this.#used;
    this.#nextRun();
    if (++this.#restarts < RESTARTS_PER_LOOK) return;
    if (this.#ports.length > 4 * Math.max(this.#mostUsed, FEW)) this.#forgetAll();
    this.#restarts = this.#mostUsed = 0;
  }

  #nextRun(): void {
    this.#run++;
    this.#used = 0;
  }

  #forgetAll(): void {
    this.#sockaddrs = [];
    this.#ports = [];
    this.#last = [];
    this.#runs = [];
    this.#previous = NOBODY;
    this.#slots = new Int32Array(FIRST_SLOTS).fill(NOBODY);
  }

  #numberOf(sockaddr: Sockaddr | null, port: number): number {
    const previous = this.#previous;
    const next = previous + 1 < this.#ports.length ? previous + 1 : 0;
    if (this.#ports[next] === port && this.#sockaddrs[next] === sockaddr) return next;
    if (previous >= 0 && this.#ports[previous] === port && this.#sockaddrs[previous] === sockaddr) return previous;
    const slot = this.#slotOf(sockaddr, port);
    const known = this.#slots[slot]!;
    if (known === NOBODY) return this.#add(sockaddr, port, slot);
    this.#sockaddrs[known] = sockaddr; // equal, but perhaps another object, that is met again
    return known;
  }

  /** Where a destination is, or would be. */
  #slotOf(sockaddr: Sockaddr | null, port: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = hashOf(sockaddr, port) & mask; ; slot = (slot + 1) & mask) {
      const known = slots[slot]!;
      if (known === NOBODY) return slot;
      if (this.#ports[known] === port && isSameAddress(this.#sockaddrs[known]!, sockaddr)) return slot;
    }
  }

  #add(sockaddr: Sockaddr | null, port: number, slot: number): number {
    const number = this.#ports.length;
    this.#sockaddrs.push(sockaddr);
    this.#ports.push(port);
    this.#last.push(0);
    this.#runs.push(NOBODY);
    this.#slots[slot] = number;
    if (2 * (number + 1) > this.#slots.length) this.#rehash();
    return number;
  }

  #rehash(): void {
    this.#slots = new Int32Array(2 * this.#slots.length).fill(NOBODY);
    for (const [number, port] of this.#ports.entries()) {
      this.#slots[this.#slotOf(this.#sockaddrs[number]!, port)] = number;
    }
  }
}
