/**
 * What the tests of the lower layers share: an arena read as the kernel would read it, and an inbox on recvmmsg(2).
 */
import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AF_INET,
  CMSG_LEVEL,
  CMSG_TYPE,
  CMSGHDR_SIZE,
  IOV_BASE,
  IOV_LEN,
  IOVEC_SIZE,
  IP_TOS,
  IPPROTO_IP,
  MMSGHDR_SIZE,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_DONTWAIT,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_LEN,
  MSG_NAME,
  MSG_NAMELEN,
  SO_RCVBUFFORCE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_SEGMENT,
} from '../../src/kernel/abi.ts';
import { SendmmsgError } from '../../src/kernel/errors.ts';
import { Arena } from '../../src/kernel/libc.ts';
import type { DatagramLike } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { Batch, type BatchLayout } from '../../src/queue/batch.ts';
import { DatagramQueue, type QueueOptions } from '../../src/queue/queue.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import type { NativeTransport } from '../../src/socket/transport.ts';
import { openNative } from './backend.ts';

/** The SendmmsgError that `run` throws. */
export function refusal(run: () => unknown): SendmmsgError {
  try {
    run();
  } catch (error) {
    if (error instanceof SendmmsgError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** What a push answers, or the code of what it throws. */
export function attempt(push: () => boolean): boolean | string {
  try {
    return push();
  } catch (error) {
    if (error instanceof SendmmsgError) return error.code;
    throw error;
  }
}

/** A reader that has read `datagram`, whatever that is. */
export function read(datagram: unknown, family: number = AF_INET, isConnected = false): DatagramReader {
  const reader = new DatagramReader(family, isConnected);
  reader.read(datagram as DatagramLike);
  return reader;
}

/** The bytes that a reader's snapshot becomes. */
export function encoded(reader: DatagramReader): Buffer {
  const { queue, batch } = queueAndBatch({ capacity: 1, maxBytes: 1 << 18 }, { nameSize: 112 });
  if (!queue.push(reader, 0, 0)) throw new Error('an empty queue refused a datagram');
  return messagesOf(batch)[0]!.payload;
}

/** A queue and its batch, in memory that nobody else reads; without GSO unless the layout says so. */
export function queueAndBatch(
  options: QueueOptions,
  layout: Partial<BatchLayout> = {},
  allocate: (bytes: number) => Arena = allocateApart,
): { queue: DatagramQueue; batch: Batch } {
  const queue = new DatagramQueue(options, allocate);
  return {
    queue,
    batch: new Batch(queue, { nameSize: 0, maxSegments: 1, maxSegmentedBytes: 0, ...layout }, null, allocate),
  };
}

/** By number: the memory of {@link allocateApart} that is still in use. */
const memory = new Map<number, WeakRef<Arena>>();
let allocations = 0;

/** Memory that nobody but {@link messageAt} reads. Its number is the upper half of each pointer into it: no two lie side by side. */
export function allocateApart(bytes: number): Arena {
  const number = ++allocations;
  const arena = new Arena(new ArrayBuffer(bytes), number * 2 ** 32);
  memory.set(number, new WeakRef(arena));
  numbers.register(arena, number);
  return arena;
}

const numbers = new FinalizationRegistry<number>((number) => memory.delete(number));

/** The memory that a pointer at byte `at` of such memory points into, and where; `length` bytes from there belong to it. */
function target(arena: Arena, at: number, length: number): { memory: Arena; offset: number } {
  const offset = arena.u32[at >>> 2]!;
  const found = memory.get(arena.u32[(at >>> 2) + 1]!)?.deref();
  if (found === undefined || offset + length > found.u8.length) throw new Error(`${at} points nowhere`);
  return { memory: found, offset };
}

/** The bytes that such a pointer points to. */
function pointedTo(arena: Arena, at: number, length: number): Buffer {
  const { memory, offset } = target(arena, at, length);
  return memory.u8.subarray(offset, offset + length);
}

/** One `mmsghdr` as the kernel sees it. */
export interface MessageView {
  readonly name: Buffer;
  /** What its iovecs gather. */
  readonly payload: Buffer;
  /** `msg_iovlen`. */
  readonly iovecs: number;
  /** `msg_controllen`. */
  readonly controlLength: number;
  /** The u16 of UDP_SEGMENT, of which the last one counts; 0 without such a control message. */
  readonly segmentSize: number;
  /** The control messages but for that one. */
  readonly control: readonly ControlMessage[];
}

/** A control message as the kernel sees it. */
export interface ControlMessage {
  readonly level: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Walks a control buffer as CMSG_FIRSTHDR and CMSG_NXTHDR do, cmsg(3). */
export function controlMessages(buffer: Buffer): ControlMessage[] {
  const messages: ControlMessage[] = [];
  for (let at = 0; at + CMSGHDR_SIZE <= buffer.length; ) {
    const length = Number(buffer.readBigUInt64LE(at));
    if (length < CMSGHDR_SIZE || at + length > buffer.length) throw new Error(`cmsg_len is ${length} at byte ${at}`);
    const [level, type] = [buffer.readInt32LE(at + CMSG_LEVEL), buffer.readInt32LE(at + CMSG_TYPE)];
    messages.push({ level, type, data: buffer.subarray(at + CMSGHDR_SIZE, at + length) });
    at += (length + 7) & ~7;
  }
  return messages;
}

/** The messages of a batch that is planned in memory of {@link allocateApart}: all, or the first so many. */
export function messagesOf(batch: Batch, count: number = batch.plan()): MessageView[] {
  return Array.from({ length: count }, (_, index) => messageAt(batch.arena, batch.headAt + index * MMSGHDR_SIZE));
}

/** The `mmsghdr` at byte `header` of such memory. */
export function messageAt(arena: Arena, header: number): MessageView {
  const wordOf = (memory: Arena, at: number): number => memory.u32[at >>> 2]!;
  const word = (at: number): number => wordOf(arena, at);
  const bytes = (at: number, length: number): Buffer => Buffer.from(length === 0 ? '' : pointedTo(arena, at, length));
  const iovecs = word(header + MSG_IOVLEN);
  const gathered = Array.from({ length: iovecs }, (_, index) => {
    const { memory, offset } = target(arena, header + MSG_IOV, (index + 1) * IOVEC_SIZE);
    const iovec = offset + index * IOVEC_SIZE;
    const length = wordOf(memory, iovec + IOV_LEN);
    return length === 0 ? Buffer.alloc(0) : pointedTo(memory, iovec + IOV_BASE, length);
  });
  const controlLength = word(header + MSG_CONTROLLEN);
  const messages = controlMessages(bytes(header + MSG_CONTROL, controlLength));
  const isSegment = ({ level, type }: ControlMessage): boolean => level === SOL_UDP && type === UDP_SEGMENT;
  return {
    name: bytes(header + MSG_NAME, word(header + MSG_NAMELEN)),
    payload: Buffer.concat(gathered),
    iovecs,
    controlLength,
    segmentSize: messages.findLast(isSegment)?.data.readUInt16LE() ?? 0,
    control: messages.filter((message) => !isSegment(message)),
  };
}

/** The traffic class byte that a message carries. */
export function tosOf({ control }: MessageView): number | undefined {
  return control.find(({ level, type }) => level === IPPROTO_IP && type === IP_TOS)?.data.readInt32LE();
}

/** The datagrams that the kernel would make of a message. */
export function datagramsOf({ payload, segmentSize }: MessageView): Buffer[] {
  if (segmentSize === 0) return [payload];
  const count = Math.ceil(payload.length / segmentSize);
  return Array.from({ length: count }, (_, index) => payload.subarray(index * segmentSize, (index + 1) * segmentSize));
}

const VLEN = 16;
const PAYLOAD_SIZE = 1 << 16;
const NAME_SIZE = 128;

/** A bound socket and what has arrived at it. */
export class Inbox implements Disposable {
  readonly socket: DatagramSocket;
  readonly #native: NativeTransport;
  readonly #arena: Arena;

  constructor(options: SocketOptions) {
    this.socket = openNative({ recvBufferSize: 4 << 20, ...options });
    this.#native = DatagramSocket.nativeOf(this.socket);
    this.#native.libc.setsockopt(this.#native.fd, SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20); // as far as it is allowed
    this.#arena = this.#native.libc.allocate(VLEN * (MMSGHDR_SIZE + IOVEC_SIZE + NAME_SIZE + PAYLOAD_SIZE));
  }

  /** Where to send to, if this is a UDP socket. */
  get endpoint(): { address: string; port: number } {
    const { address, port } = this.socket.address() as { address: string; port: number };
    return { address, port };
  }

  /** All that is there now. */
  take(): Buffer[] {
    const arena = this.#arena;
    const { u8, u32 } = arena;
    const [iovecs, names] = [VLEN * MMSGHDR_SIZE, VLEN * (MMSGHDR_SIZE + IOVEC_SIZE)];
    const payloads = names + VLEN * NAME_SIZE;
    const taken: Buffer[] = [];
    for (;;) {
      for (let index = 0; index < VLEN; index++) {
        const [header, iovec] = [index * MMSGHDR_SIZE, iovecs + index * IOVEC_SIZE];
        arena.writePointer(header + MSG_NAME, names + index * NAME_SIZE);
        u32[(header + MSG_NAMELEN) >>> 2] = NAME_SIZE;
        arena.writePointer(header + MSG_IOV, iovec);
        u32[(header + MSG_IOVLEN) >>> 2] = 1;
        arena.writePointer(iovec + IOV_BASE, payloads + index * PAYLOAD_SIZE);
        u32[(iovec + IOV_LEN) >>> 2] = PAYLOAD_SIZE;
      }
      const count = this.#native.libc.recvmmsg(this.#native.fd, arena, 0, VLEN, MSG_DONTWAIT);
      if (count <= 0) return taken;
      for (let index = 0; index < count; index++) {
        const start = payloads + index * PAYLOAD_SIZE;
        taken.push(Buffer.from(u8.subarray(start, start + u32[(index * MMSGHDR_SIZE + MSG_LEN) >>> 2]!)));
      }
    }
  }

  /** Waits until `count` datagrams have arrived; more than that are an error. */
  async receive(count: number): Promise<Buffer[]> {
    const deadline = performance.now() + 10_000;
    const received = this.take();
    while (received.length < count && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      received.push(...this.take());
    }
    if (received.length !== count) throw new Error(`${received.length} datagrams arrived, not ${count}`);
    return received;
  }

  /** The same, as text. */
  async receiveText(count: number): Promise<string[]> {
    return (await this.receive(count)).map(String);
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

let paths = 0;

/** A path that nothing is bound to. */
export function freshPath(): string {
  return join(tmpdir(), `rx-sendmmsg-${process.pid}-${paths++}.sock`);
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
