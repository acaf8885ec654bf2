/**
 * Framing: how a stream of bytes is cut into datagrams.
 *
 * A framer is fed chunks and asked for frames, so that whoever asks can stop between two of them. Frames are views of the
 * chunk that was fed (no string, no copy); only one that straddles chunks is put together. A frame longer than `limit`
 * is cut to `limit + 1` bytes, still too long to be sent, and the rest of it is skipped: it becomes one rejection, and a
 * stream without a newline, or a corrupt length, cannot fill the memory.
 */

/** How the input is framed, as `--framing` tells it. */
export type Framing =
  | { readonly kind: 'lines' | 'length-prefixed' }
  | { readonly kind: 'fixed'; readonly size: number };

/** Cuts chunks into frames. */
export interface Framer {
  /** Gives the next chunk; only when `next` has returned `undefined`. The chunk must stay as it is until then. */
  feed(chunk: Uint8Array): void;
  /** The next frame; `undefined` if that takes more input. */
  next(): Uint8Array | undefined;
  /** No more input: the last frame, if there is one. Throws if the input ended inside of a datagram. */
  end(): Uint8Array | undefined;
}

/** How many bytes of length precede a length-prefixed datagram. */
export const PREFIX_SIZE = 4;

const NO_BYTES = new Uint8Array(0);
const NEWLINE = 10;

/** @param limit - most bytes of a frame that make sense; a longer one is cut to one byte more */
export function createFramer(framing: Framing, limit: number, options: { skipEmpty?: boolean } = {}): Framer {
  switch (framing.kind) {
    case 'lines':
      return new LineFramer(limit, options.skipEmpty === true);
    case 'length-prefixed':
      return new SizedFramer(limit, undefined);
    case 'fixed':
      return new SizedFramer(limit, framing.size);
  }
}

/** The beginning of a frame that the chunks so far did not complete. */
class Fragment {
  /** Bytes of the frame so far, those not kept included. */
  length = 0;
  #kept = 0;
  #bytes: Uint8Array = NO_BYTES;
  readonly #most: number;

  constructor(limit: number) {
    this.#most = limit + 1;
  }

  append(chunk: Uint8Array, from: number, to: number): void {
    this.length += to - from;
    const end = this.#kept + Math.min(to - from, this.#most - this.#kept);
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.min(this.#most, Math.max(256, 2 * end)));
      grown.set(this.#bytes.subarray(0, this.#kept));
      this.#bytes = grown;
    }
    this.#bytes.set(chunk.subarray(from, from + end - this.#kept), this.#kept);
    this.#kept = end;
  }

  /** Hands over the frame, and starts anew. */
  take(): Uint8Array {
    const frame = this.#bytes.subarray(0, this.#kept);
    this.#bytes = NO_BYTES;
    this.length = 0;
    this.#kept = 0;
    return frame;
  }
}

/** Lines: a newline ends a datagram and is not part of it; everything else is, a carriage return too. */
class LineFramer implements Framer {
  readonly #limit: number;
  readonly #skipEmpty: boolean;
  readonly #fragment: Fragment;
  #chunk: Uint8Array = NO_BYTES;
  #at = 0;

  constructor(limit: number, skipEmpty: boolean) {
    this.#limit = limit;
    this.#skipEmpty = skipEmpty;
    this.#fragment = new Fragment(limit);
  }

  feed(chunk: Uint8Array): void {
    this.#chunk = chunk;
    this.#at = 0;
  }

  next(): Uint8Array | undefined {
    const chunk = this.#chunk;
    while (this.#at < chunk.length) {
      const start = this.#at;
      const newline = chunk.indexOf(NEWLINE, start);
      if (newline < 0) {
        this.#fragment.append(chunk, start, chunk.length);
        break;
      }
      this.#at = newline + 1;
      if (this.#fragment.length > 0) {
        this.#fragment.append(chunk, start, newline);
        return this.#fragment.take();
      }
      if (newline > start) return chunk.subarray(start, Math.min(newline, start + this.#limit + 1));
      if (!this.#skipEmpty) return NO_BYTES;
    }
    this.#chunk = NO_BYTES;
    return undefined;
  }

  end(): Uint8Array | undefined {
    return this.#fragment.length > 0 ? this.#fragment.take() : undefined;
  }
}

/** Frames whose size is known before their bytes come: it is fixed, or a prefix tells it. */
class SizedFramer implements Framer {
  readonly #limit: number;
  readonly #fixedSize: number | undefined;
  readonly #fragment: Fragment;
  #chunk: Uint8Array = NO_BYTES;
  #at = 0;
  /** Of the current frame; meaningful once the prefix is complete. */
  #size = 0;
  #prefixRead = 0;

  /** @param fixedSize - of every frame; `undefined` if each is preceded by its own */
  constructor(limit: number, fixedSize: number | undefined) {
    this.#limit = limit;
    this.#fixedSize = fixedSize;
    this.#fragment = new Fragment(limit);
    this.#startFrame();
  }

  feed(chunk: Uint8Array): void {
    this.#chunk = chunk;
    this.#at = 0;
  }

  next(): Uint8Array | undefined {
    const chunk = this.#chunk;
    if (!this.#readPrefix(chunk)) return undefined;
    const start = this.#at;
    const end = start + this.#size - this.#fragment.length;
    if (end > chunk.length) {
      this.#at = chunk.length;
      this.#fragment.append(chunk, start, chunk.length);
      return undefined;
    }
    this.#at = end;
    this.#startFrame();
    if (this.#fragment.length === 0) return chunk.subarray(start, Math.min(end, start + this.#limit + 1));
    this.#fragment.append(chunk, start, end);
    return this.#fragment.take();
  }

  end(): Uint8Array | undefined {
    const { length } = this.#fragment;
    if (this.#fixedSize !== undefined) return length > 0 ? this.#fragment.take() : undefined;
    if (this.#prefixRead === PREFIX_SIZE) {
      throw new Error(`the input is truncated: it ends ${length} bytes into a datagram of ${this.#size}`);
    }
    if (this.#prefixRead > 0) {
      throw new Error(`the input is truncated: it ends ${this.#prefixRead} bytes into a ${PREFIX_SIZE}-byte length`);
    }
    return undefined;
  }

  #startFrame(): void {
    this.#prefixRead = this.#fixedSize === undefined ? 0 : PREFIX_SIZE;
    this.#size = this.#fixedSize ?? 0;
  }

  /** Reads the rest of the prefix; `false` if the chunk ends before it does. */
  #readPrefix(chunk: Uint8Array): boolean {
    while (this.#prefixRead < PREFIX_SIZE) {
      if (this.#at === chunk.length) return false;
      this.#size = this.#size * 256 + chunk[this.#at++]!;
      this.#prefixRead++;
    }
    return true;
  }
}
