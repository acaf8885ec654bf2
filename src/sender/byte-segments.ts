/**
 * A stream of bytes as datagrams of one size, wherever its chunks end: what is left of one is carried over to the next.
 *
 * What is given out views the chunk and what was carried over: it is to be queued, which copies it, before the next is asked for.
 */
import type { Datagram } from '../message/datagram.ts';

/** Most bytes of a piece, but for a single datagram that is larger: between two pieces there may be waiting for room. */
const PIECE_BYTES: number = 64 * 1024;

export class ByteSegments {
  readonly #size: number;
  readonly #most: number;
  readonly #carried: Buffer;
  #carriedBytes = 0;

  /** @param size - bytes of a datagram @param mostBytes - of a queue */
  constructor(size: number, mostBytes: number) {
    this.#size = size;
    this.#most = Math.max(Math.floor(Math.min(PIECE_BYTES, mostBytes) / size), 1) * size;
    this.#carried = Buffer.alloc(size);
  }

  /** The pieces of a chunk that are whole datagrams, one after another. */
  *cut(chunk: Uint8Array): Generator<Datagram, void> {
    let at = 0;
    while (this.#carriedBytes + chunk.length - at >= this.#size) {
      const carried = this.#carriedBytes;
      const there = Math.min(carried + chunk.length - at, this.#most);
      const end = at + there - (there % this.#size) - carried;
      const bytes = chunk.subarray(at, end);
      yield { payload: carried > 0 ? [this.#carried.subarray(0, carried), bytes] : bytes, segmentSize: this.#size };
      this.#carriedBytes = 0;
      at = end;
    }
    this.#carried.set(chunk.subarray(at), this.#carriedBytes);
    this.#carriedBytes += chunk.length - at;
  }

  /** What is left when there are no more chunks, as a shorter datagram. */
  *end(): Generator<Datagram, void> {
    if (this.#carriedBytes === 0) return;
    yield { payload: this.#carried.subarray(0, this.#carriedBytes) };
    this.#carriedBytes = 0;
  }
}
