/**
 * The checksum that both sides can compare: SHA-256 over all datagrams in their order, each preceded by its length (4 bytes,
 * big-endian), so that boundaries count. It is the sum of a file that `recv --framing length-prefixed` writes.
 */
import { createHash, type Hash } from 'node:crypto';
import { PREFIX_SIZE } from './framing.ts';

/** Hashing every datagram by itself would cost more than sending it: small ones are gathered here. */
const GATHER_BYTES = 64 * 1024;

export class Checksum {
  readonly #hash: Hash = createHash('sha256');
  readonly #gathered: Buffer = Buffer.allocUnsafe(GATHER_BYTES);
  #length = 0;

  /** Adds the datagram in bytes `start` to `end`. */
  add(bytes: Uint8Array, start: number = 0, end: number = bytes.length): void {
    const size = end - start;
    if (this.#length + PREFIX_SIZE + size > GATHER_BYTES) this.#flush();
    this.#length = this.#gathered.writeUInt32BE(size, this.#length);
    if (this.#length + size > GATHER_BYTES) {
      this.#flush();
      this.#hash.update(bytes.subarray(start, end));
      return;
    }
    this.#gathered.set(bytes.subarray(start, end), this.#length);
    this.#length += size;
  }

  /** The sum in hexadecimal; nothing can be added after it. */
  digest(): string {
    this.#flush();
    return this.#hash.digest('hex');
  }

  #flush(): void {
    this.#hash.update(this.#gathered.subarray(0, this.#length));
    this.#length = 0;
  }
}
