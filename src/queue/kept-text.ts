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
  #text = '';
  /** Where in the text each string ends. */
  readonly #ends = new Uint32Array(MOST_STRINGS);
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
    if (this.#separatorBytes > 0) this.#text += this.#separator;
    this.#text = this.count === 0 && this.#separatorBytes === 0 ? text : this.#text + text;
    this.bytes += this.#separatorBytes + text.length;
    this.#ends[this.count++] = this.#text.length;
  }

  /** Writes all as one string. Says whether each character was a byte: if not, what was written means nothing. */
  writeTo(memory: Buffer, at: number): boolean {
    return memory.write(this.#text, at, this.bytes * MAX_UTF8, 'utf8') === this.bytes;
  }

  /** Lets go of all. */
  clear(): void {
    this.#text = '';
    this.count = this.bytes = 0;
  }

  /** Lets go of all, and gives them one by one. They were not ASCII: the next ones are not kept. */
  takeApart(): string[] {
    this.#untilKept = STRINGS_AFTER_MISS;
    const skipped = this.#separator.length;
    const texts = Array.from({ length: this.count }, (_, index) =>
      this.#text.slice((index === 0 ? 0 : this.#ends[index - 1]!) + skipped, this.#ends[index]),
    );
    this.clear();
    return texts;
  }
}
