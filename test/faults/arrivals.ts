/** What `receiver.c` has read, from the file that it writes. The layout is its own. */
import { closeSync, ftruncateSync, openSync, readSync } from 'node:fs';

/** One datagram that has arrived. */
export interface Arrival {
  /** 0: the UDP socket; 1…: the unix sockets. */
  readonly socket: number;
  readonly length: number;
  /** FNV-1a of its bytes. */
  readonly hash: number;
  /** How it begins. */
  readonly text: string;
}

const HEADER_SIZE = 40;
const RECORDS = 65_536;
const RECORD_SIZE = 40;
const TEXT_AT = 12;
const TEXT_SIZE = 24;

export class Arrivals {
  readonly #fd: number;
  #read: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'r');
    this.#read = this.#word(4);
  }

  /** Makes the file, for a receiver that is started after this. */
  static create(path: string): void {
    const fd = openSync(path, 'w');
    ftruncateSync(fd, HEADER_SIZE + RECORDS * RECORD_SIZE);
    closeSync(fd);
  }

  /** The UDP port; 0 while the receiver is not ready. */
  get port(): number {
    return this.#word(0);
  }

  /** How many have arrived that were not taken. */
  get waiting(): number {
    return (this.#word(4) - this.#read) >>> 0;
  }

  /** What has arrived since the last time. */
  take(): Arrival[] {
    return Array.from({ length: this.waiting }, () => {
      const bytes = Buffer.alloc(RECORD_SIZE);
      readSync(this.#fd, bytes, 0, RECORD_SIZE, HEADER_SIZE + (this.#read++ % RECORDS) * RECORD_SIZE);
      const text = bytes.toString('latin1', TEXT_AT, TEXT_AT + TEXT_SIZE);
      return {
        socket: bytes.readUInt32LE(0),
        length: bytes.readUInt32LE(4),
        hash: bytes.readUInt32LE(8),
        text: text.includes('\0') ? text.slice(0, text.indexOf('\0')) : text,
      };
    });
  }

  close(): void {
    closeSync(this.#fd);
  }

  #word(at: number): number {
    const word = Buffer.alloc(4);
    readSync(this.#fd, word, 0, 4, at);
    return word.readUInt32LE(0);
  }
}

/** The hash that `receiver.c` makes. */
export function hashOf(text: string): number {
  let hash = 2_166_136_261;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 16_777_619);
  return hash >>> 0;
}
