/**
 * The bytes of what is queued: chunks of memory, each written from front to end.
 *
 *     a chunk   | payload | payload | .... |        the current one   | payload | payload | tail ..... end |
 *
 * A payload stays where it is as long as it is queued, so the kernel may read one while others are written. A chunk counts the rows
 * that have bytes in it; when the last one lets go, it can be written anew. Memory follows use: the first chunk is small, a new one as
 * large as all before it, up to a bound, and a queue that is emptied again and again soon has one with room to spare. A payload that is
 * larger than the bound has a chunk of its own.
 *
 * Where rows let go out of order, those that stay keep their chunks from being written anew: `isSparse` says when to move them together.
 */
import { Arena } from '../kernel/libc.ts';

const FIRST_CHUNK_BYTES = 1024;
const MOST_CHUNK_BYTES: number = 1 << 20;
/** How many times as large as what is queued at once a chunk is to be: strings need room for three bytes a character. */
const ROOM_TO_SPARE = 4;
/** Times that nothing was queued any more, after which it is looked whether there is … */
const RESTARTS_PER_LOOK = 64;
/** … so many times as much memory as was needed in between. */
const MUCH_MORE = 32;
const NO_CHUNK = -1;
const NO_MEMORY = new Arena(new ArrayBuffer(0), 0);

export class Slab {
  /** The current chunk, its memory, and where in that the next payload is written. */
  chunk: number = NO_CHUNK;
  arena: Arena = NO_MEMORY;
  tail: number = 0;
  /** Bytes of the current chunk. */
  end: number = 0;
  readonly #allocate: (bytes: number) => Arena;
  /** By chunk: its memory (`undefined`: it was given back), and the rows that have bytes in it. */
  readonly #arenas: (Arena | undefined)[] = [];
  readonly #rows: number[] = [];
  /** Chunks without rows, besides the current one. */
  #spare: number[] = [];
  /** Bytes of all chunks, and those of the next one at least. */
  #capacity = 0;
  #least = FIRST_CHUNK_BYTES;
  #restarts = 0;
  /** Bytes written since the last restart, and the most of a restart since the last look. */
  #written = 0;
  #mostWritten = 0;

  constructor(allocate: (bytes: number) => Arena) {
    this.#allocate = allocate;
  }

  arenaOf(chunk: number): Arena {
    return this.#arenas[chunk]!;
  }

  /** Whether so many bytes may be written at the tail. */
  hasRoom(bytes: number): boolean {
    return this.tail + bytes <= this.end && this.chunk !== NO_CHUNK;
  }

  /**
   * Makes a chunk the current one that has room for so many bytes.
   *
   * @throws SendmmsgError `ENOMEM`, with nothing changed
   */
  turnOver(bytes: number): void {
    const spare = this.#spare.findLastIndex((chunk) => this.arenaOf(chunk).u8.length >= bytes);
    const next = spare < 0 ? this.#add(bytes) : this.#spare.splice(spare, 1)[0]!;
    this.#written += this.tail;
    if (this.chunk !== NO_CHUNK && this.#rows[this.chunk] === 0) this.#setAside(this.chunk);
    this.#enter(next);
  }

  /** One more row has bytes in this chunk. */
  hold(chunk: number): void {
    this.#rows[chunk]!++;
  }

  /** A row has no bytes in this chunk any more. */
  letGo(chunk: number): void {
    if (--this.#rows[chunk]! > 0) return;
    if (chunk === this.chunk) {
      this.#written += this.tail;
      this.tail = 0;
    } else this.#setAside(chunk);
  }

  /** No row is left. */
  restart(): void {
    const written = this.#written;
    if (this.#rows[this.chunk] !== 0) return; // somebody holds it
    this.#written = 0;
    if (written > this.#mostWritten) this.#mostWritten = written;
    if (written * ROOM_TO_SPARE > this.end && this.end < MOST_CHUNK_BYTES) this.#giveBack(written);
    if (++this.#restarts < RESTARTS_PER_LOOK) return;
    if (this.#capacity > MUCH_MORE * Math.max(this.#mostWritten, FIRST_CHUNK_BYTES)) this.#giveBack(this.#mostWritten);
    this.#restarts = this.#mostWritten = 0;
  }

  /** Whether more than half of it is holes, and more than a chunk or two; `bytes` are in use. */
  isSparse(bytes: number): boolean {
    return this.#capacity > 2 * (bytes + MOST_CHUNK_BYTES);
  }

  /** Copies bytes to the tail, where there is room for them, to move them out of a sparse chunk. */
  append(chunk: number, at: number, length: number): void {
    this.arena.u8.set(this.arenaOf(chunk).u8.subarray(at, at + length), this.tail);
    this.tail += length;
  }

  #add(bytes: number): number {
    const size = Math.max((bytes + 7) & ~7, Math.min(Math.max(this.#capacity, this.#least), MOST_CHUNK_BYTES));
    const arena = this.#allocate(size);
    const free = this.#arenas.indexOf(undefined);
    const chunk = free < 0 ? this.#arenas.length : free;
    this.#arenas[chunk] = arena;
    this.#rows[chunk] = 0;
    this.#capacity += size;
    return chunk;
  }

  #enter(chunk: number): void {
    this.chunk = chunk;
    this.arena = this.arenaOf(chunk);
    this.end = this.arena.u8.length;
    this.tail = 0;
  }

  /** Keeps an empty chunk for later, but for those that are not of the usual sizes. */
  #setAside(chunk: number): void {
    if (this.arenaOf(chunk).u8.length > MOST_CHUNK_BYTES) this.#forget(chunk);
    else this.#spare.push(chunk);
  }

  /** Lets go of all memory: the next chunk is one for so many bytes, with room to spare. */
  #giveBack(bytes: number): void {
    this.#least = FIRST_CHUNK_BYTES;
    while (this.#least < ROOM_TO_SPARE * bytes && this.#least < MOST_CHUNK_BYTES) this.#least *= 2;
    for (const chunk of this.#spare) this.#forget(chunk);
    this.#forget(this.chunk);
    this.#spare = [];
    this.chunk = NO_CHUNK;
    this.arena = NO_MEMORY;
    this.tail = this.end = 0;
  }

  #forget(chunk: number): void {
    this.#capacity -= this.arenaOf(chunk).u8.length;
    this.#arenas[chunk] = undefined;
  }
}
