/**
 * Received datagrams on standard output: as lines, length-prefixed, or as their lengths.
 *
 * They are gathered and written a burst at a time; while nobody takes what is written, `hasRoom` is false.
 */
import type { Writable } from 'node:stream';
import { PREFIX_SIZE } from './framing.ts';

/** What is written for each datagram: its bytes and a newline, its length (4 bytes) and its bytes, or its length as text. */
export type OutputFormat = 'lines' | 'length-prefixed' | 'lengths';

const NEWLINE = 10;
/** Bytes that a format adds to a datagram, at most. */
const OVERHEAD = 16;

export class DatagramOutput {
  /** Whether more should be written now; if not, {@link onRoom} is called when it should. */
  hasRoom: boolean = true;
  /** Whether the reader has gone (EPIPE) or standard output has failed otherwise. */
  isBroken: boolean = false;

  readonly #stream: Writable;
  readonly #format: OutputFormat;
  #gathered: Buffer = Buffer.allocUnsafe(64 * 1024);
  #length = 0;

  /**
   * @param onRoom - there is room again
   * @param onBroken - nothing can be written any more
   */
  constructor(stream: Writable, format: OutputFormat, onRoom: () => void, onBroken: () => void) {
    this.#stream = stream;
    this.#format = format;
    stream.on('drain', () => {
      this.hasRoom = true;
      onRoom();
    });
    stream.on('error', () => {
      this.isBroken = true;
      onBroken();
    });
  }

  /** Adds the datagram in bytes `start` to `end`, which may be overwritten afterwards. */
  add(bytes: Buffer, start: number, end: number): void {
    this.#reserve(end - start + OVERHEAD);
    const to = this.#gathered;
    if (this.#format === 'lengths') {
      this.#length += to.write(`${end - start}\n`, this.#length, 'latin1');
      return;
    }
    if (this.#format === 'length-prefixed') to.writeUInt32BE(end - start, this.#length);
    const at = this.#length + (this.#format === 'lines' ? 0 : PREFIX_SIZE);
    this.#length = at + bytes.copy(to, at, start, end);
    if (this.#format === 'lines') to[this.#length++] = NEWLINE;
  }

  /** Writes what was added. */
  flush(): void {
    if (this.#length === 0 || this.isBroken) return;
    // A copy: the stream may hold on to it for as long as its reader is slow.
    this.hasRoom = this.#stream.write(Buffer.from(this.#gathered.subarray(0, this.#length)));
    this.#length = 0;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#gathered.length) return;
    const grown = Buffer.allocUnsafe(2 * (this.#length + bytes));
    this.#gathered.copy(grown, 0, 0, this.#length);
    this.#gathered = grown;
  }
}
