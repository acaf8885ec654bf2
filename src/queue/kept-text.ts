/**
 * Strings that are not written yet: many short ones are written faster as one. That is right only where each of their characters is a
 * byte, which is known once they are written; where not, they are taken apart again.
 */
import { MAX_UTF8 } from '../message/payload.ts';

/** As many as are joined before they are written: of more, the joining costs what it saves. */
const MOST_STRINGS = 64;
/** Strings that are written one by one after some that were not ASCII, before the next is kept. */
const STRINGS_AFTER_MISS = 1024;

export class KeptText {
  /** How many strings are kept. */
  count: number = 0;
  /** Their bytes, separators included, if they are ASCII. */
  bytes: number = 0;
  readonly #separator: string;
  readonly #separatorBytes: number;
  /** The first {@link count} are kept; the others are empty. */
  readonly #texts: string[] = [];
  #untilKept = 0;

  /** @param separator - stands before each string; whole characters */
  constructor(separator: string) {
    this.#separator = separator;
    this.#separatorBytes = Buffer.byteLength(separator);
  }

  /** Whether the next string is worth a try. Counts those that are not. */
  get isWilling(): boolean {
    if (this.#untilKept === 0) return true;
    this.#untilKept--;
    return false;
  }

  get isFull(): boolean {
    return this.count === MOST_STRINGS;
  }

  add(text: string): void {
    this.bytes += this.#separatorBytes + text.length;
    this.#texts[this.count++] = text;
  }

  /** Writes all as one string. Says whether each character was a byte: if not, what was written means nothing. */
  writeTo(memory: Buffer, at: number): boolean {
    const texts = this.isFull ? this.#texts : this.#texts.slice(0, this.count);
    // Joined here, not as they come: a string of strings would be walked once more, to be made flat.
    const text = this.#separator + texts.join(this.#separator);
    return memory.write(text, at, this.bytes * MAX_UTF8, 'utf8') === this.bytes;
  }

  /** Lets go of all. */
  clear(): void {
    this.#texts.fill('', 0, this.count);
    this.count = this.bytes = 0;
  }

  /** Lets go of all, and gives them one by one. They were not ASCII: the next ones are not kept. */
  takeApart(): string[] {
    this.#untilKept = STRINGS_AFTER_MISS;
    const texts = this.#texts.slice(0, this.count);
    this.clear();
    return texts;
  }
}
