/**
 * The frames that are on their way, oldest first: kept until the reports tell that they are done with, so that they can be sent
 * again. Views, no copies.
 */
export class KeptFrames {
  #frames: Uint8Array[] = [];
  #head = 0;

  add(frame: Uint8Array): void {
    this.#frames.push(frame);
  }

  /** Lets go of the oldest. */
  forget(count: number): void {
    this.#head = Math.min(this.#head + count, this.#frames.length);
    this.#compact();
  }

  /** Lets go of the oldest, as many as are so many bytes, each with a separator. */
  forgetBytes(bytes: number, separator: number): void {
    for (let left = bytes; this.#head < this.#frames.length; this.#head++) {
      left -= this.#frames[this.#head]!.length + separator;
      if (left < 0) break;
    }
    this.#compact();
  }

  /** All that are left; none is kept any more. */
  takeAll(): Uint8Array[] {
    const all = this.#frames.slice(this.#head);
    this.#frames = [];
    this.#head = 0;
    return all;
  }

  /** Once half of it is gone: each frame is moved about once. */
  #compact(): void {
    if (2 * this.#head < this.#frames.length) return;
    this.#frames.splice(0, this.#head);
    this.#head = 0;
  }
}
