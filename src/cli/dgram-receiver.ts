/**
 * Receiving where there is no recvmmsg(2): node:dgram, which hands datagrams over as they come and cannot be held back. They are
 * kept here until they are asked for; for what is more than there is room for, this process is as a full socket buffer.
 */
import type { Socket } from 'node:dgram';
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import type { StopWaiting } from '../kernel/readiness.ts';
import type { DatagramReceiver, DatagramSink, ReceiverOptions } from '../receiver/mmsg-receiver.ts';

/** What is kept, unless the options say: bytes. */
const ROOM = 16 << 20;
/** What a datagram takes beside its bytes. */
const OVERHEAD = 256;
/** Nothing came for so long: the kernel holds nothing more. */
const QUIET_MS = 10;
/** … or it always will. */
const CATCH_UP_MS = 250;
/** macOS refuses a buffer that is too large for it, and tells no limit: less is asked for until this is reached. */
const LEAST_BUFFER = 64 << 10;

export class DgramReceiver implements DatagramReceiver {
  readonly backend = 'node:dgram';
  readonly calls = null;
  truncated: number = 0;
  dropped: number = 0;

  readonly #socket: Socket;
  readonly #most: number;
  readonly #maxSize: number;
  readonly #room: number;
  #kept: Buffer[] = [];
  /** The first of them that was not handed over. */
  #next = 0;
  #keptBytes = 0;
  #arrived = 0;
  #ready: (() => void) | null = null;
  #isScheduled = false;

  /** @param socket - bound, and the caller's to close */
  constructor(socket: Socket, { batchSize = 64, maxSize = 65_536, recvBufferSize }: ReceiverOptions = {}) {
    this.#socket = socket;
    this.#most = batchSize;
    this.#maxSize = maxSize;
    this.#room = recvBufferSize ?? ROOM;
    if (recvBufferSize !== undefined) enlargeBuffer(socket, recvBufferSize);
    socket.on('message', (datagram) => this.#keep(datagram));
  }

  get recvBufferSize(): number {
    return this.#socket.getRecvBufferSize();
  }

  poll(ready: () => void): StopWaiting {
    this.#ready = ready;
    this.#socket.ref();
    this.#schedule();
    return () => {
      if (this.#ready !== ready) return;
      this.#ready = null;
      this.#socket.unref();
    };
  }

  receive(sink: DatagramSink, most: number = this.#most): boolean {
    const kept = this.#kept;
    const end = Math.min(kept.length, this.#next + Math.min(most, this.#most));
    for (; this.#next < end; this.#next++) {
      const datagram = kept[this.#next]!;
      this.#keptBytes -= datagram.length + OVERHEAD;
      if (datagram.length > this.#maxSize) this.truncated++;
      sink(datagram, 0, Math.min(datagram.length, this.#maxSize));
    }
    if (this.#next < kept.length) return true;
    this.#kept = [];
    this.#next = 0;
    return false;
  }

  async caughtUp(): Promise<void> {
    const until = performance.now() + CATCH_UP_MS;
    let before: number;
    do {
      before = this.#arrived;
      await delay(QUIET_MS);
      // A process that was held up for longer has not looked since: a turn of the event loop looks.
      await nextTurn();
      await nextTurn();
    } while (this.#arrived > before && performance.now() < until);
  }

  #keep(datagram: Buffer): void {
    this.#arrived++;
    if (this.#keptBytes > 0 && this.#keptBytes + datagram.length + OVERHEAD > this.#room) {
      this.dropped++;
      return;
    }
    this.#kept.push(datagram);
    this.#keptBytes += datagram.length + OVERHEAD;
    this.#schedule();
  }

  /** Once for all that this turn of the event loop brings. */
  #schedule(): void {
    if (this.#isScheduled || this.#ready === null || this.#kept.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#ready?.();
      this.#schedule();
    });
  }
}

function enlargeBuffer(socket: Socket, bytes: number): void {
  for (let size = bytes; ; size >>>= 1) {
    try {
      return socket.setRecvBufferSize(size);
    } catch {
      if (size <= LEAST_BUFFER) return; // it stays as it is
    }
  }
}
