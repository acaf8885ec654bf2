/** Holds what arrives on a channel to what is owed there: order, once each, and every byte. */
import { bytesOf, type Channel, KEYS, keyOf, numbersOf, roomyBuffer } from './channel.ts';

/** Violations that are told in words; the rest is counted. */
const TOLD = 3;
const NEWLINE = 0x0a;

export class StreamCheck {
  readonly channel: Channel;
  /** Datagrams; on a `'lines'` channel the lines in them. */
  received: number = 0;
  bytes: number = 0;
  violations: number = 0;
  readonly told: string[] = [];
  /** The last number of each key, of a `'latest'` channel. */
  readonly lastByKey: number[] = Array.from({ length: KEYS }, () => -1);
  #generation = 0;
  #next = 0;
  /** Generations that others have followed, and how many came of each. */
  #ended: [generation: number, received: number][] = [];
  readonly #scratch = roomyBuffer();

  constructor(channel: Channel) {
    this.channel = channel;
  }

  /** One datagram has arrived. */
  take(datagram: Buffer): void {
    this.bytes += datagram.length;
    if (this.channel.order !== 'lines') return this.#takeOne(datagram);
    for (let start = 0; start <= datagram.length; ) {
      const newline = datagram.indexOf(NEWLINE, start);
      const end = newline === -1 ? datagram.length : newline;
      this.#takeOne(datagram.subarray(start, end));
      start = end + 1;
    }
  }

  /** How many came of each generation since the last time, those that are over; with `all` the current one, too. */
  takeEnded(all: boolean): [generation: number, received: number][] {
    const ended = this.#ended;
    this.#ended = [];
    if (all && this.channel.order === 'prefix') ended.push([this.#generation, this.#next]);
    return ended;
  }

  #takeOne(datagram: Buffer): void {
    this.received++;
    const { order } = this.channel;
    const isNumbered = order !== 'exact';
    const numbers = isNumbered ? numbersOf(datagram) : { generation: 0, sequence: this.#next };
    if (numbers === undefined) return this.#fail(`${show(datagram)} instead of ${this.#generation}.${this.#next}`);
    const { generation, sequence } = numbers;
    const expected = bytesOf(this.channel, generation, sequence, this.#scratch);
    if (!datagram.equals(expected)) {
      this.#fail(
        `${show(datagram)} (${datagram.length} bytes) instead of ${show(expected)} (${expected.length} bytes)`,
      );
      // What was meant to come next is told by the one that came.
      this.#next = (numbersOf(datagram)?.sequence ?? sequence) + 1;
      return;
    }
    this.#checkOrder(generation, sequence);
  }

  #checkOrder(generation: number, sequence: number): void {
    const { order } = this.channel;
    if (order === 'latest') {
      const key = keyOf(sequence);
      if (sequence <= this.lastByKey[key]!) this.#fail(`key ${key}: ${sequence} behind ${this.lastByKey[key]}`);
      this.lastByKey[key] = sequence;
      return;
    }
    if (generation > this.#generation && order !== 'exact') {
      this.#ended.push([this.#generation, this.#next]);
      this.#generation = generation;
      this.#next = 0;
    }
    const isInOrder = order === 'increasing' ? sequence >= this.#next : sequence === this.#next;
    if (generation !== this.#generation || !isInOrder) {
      this.#fail(`${generation}.${sequence} instead of ${this.#generation}.${this.#next}`);
    }
    this.#next = sequence + 1;
  }

  #fail(what: string): void {
    this.violations++;
    if (this.told.length < TOLD) this.told.push(`${this.channel.name}, the ${this.received}th to arrive: ${what}`);
  }
}

function show(datagram: Buffer): string {
  return JSON.stringify(datagram.toString('utf8', 0, Math.min(datagram.length, 24)));
}
