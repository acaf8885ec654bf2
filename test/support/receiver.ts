/**
 * Receivers that lose nothing, for counting. A unix socket never drops; a UDP socket has room for what the tests send.
 *
 * {@link Receiver} reads only when told to, which makes it the slow reader that the kernel holds a sender back for.
 * {@link ReceiverProcess} reads in a process of its own, as fast as it can.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  IOV_LEN,
  IOVEC_SIZE,
  MMSGHDR_SIZE,
  MSG_DONTWAIT,
  MSG_IOV,
  MSG_IOVLEN,
  MSG_LEN,
  SO_RCVBUFFORCE,
  SOL_SOCKET,
} from '../../src/kernel/abi.ts';
import { type Arena, libc } from '../../src/kernel/libc.ts';
import { sockaddrBytes, sockaddrOfPath } from '../../src/message/sockaddr.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { openNative, VARIABLE } from './backend.ts';

const VLEN = 16;
const BUFFER_SIZE = 256 * 1024;
const UDP_RECEIVE_BUFFER = 4 << 20;

const folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
let paths = 0;

/** A path for a unix socket that nothing else uses. */
export function freshPath(): string {
  return join(folder, `${process.pid}-${paths++}`);
}

/** A bound socket that is read with recvmmsg(2) when the test says so. */
export class Receiver {
  readonly socket: DatagramSocket;
  readonly #arena: Arena;

  private constructor(socket: DatagramSocket) {
    this.socket = socket;
    const buffers = VLEN * (MMSGHDR_SIZE + IOVEC_SIZE);
    this.#arena = libc()!.allocate(buffers + VLEN * BUFFER_SIZE);
    for (let index = 0; index < VLEN; index++) {
      const header = index * MMSGHDR_SIZE;
      const iovec = VLEN * MMSGHDR_SIZE + index * IOVEC_SIZE;
      this.#arena.writePointer(header + MSG_IOV, iovec);
      this.#arena.u32[(header + MSG_IOVLEN) >>> 2] = 1;
      this.#arena.writePointer(iovec, buffers + index * BUFFER_SIZE);
      this.#arena.u32[(iovec + IOV_LEN) >>> 2] = BUFFER_SIZE;
    }
  }

  /** A unix receiver: its queue holds `net.unix.max_dgram_qlen` + 1 datagrams, then the sender gets EAGAIN. */
  static unix(path: string = freshPath()): Receiver {
    return new Receiver(openNative({ type: 'unix', bind: { path } }));
  }

  /** A UDP receiver with room for some 5000 small datagrams. */
  static udp(type: 'udp4' | 'udp6' = 'udp4', address: string = type === 'udp4' ? '127.0.0.1' : '::1'): Receiver {
    const receiver = new Receiver(openNative({ type, bind: { address }, recvBufferSize: UDP_RECEIVE_BUFFER }));
    // Past net.core.rmem_max, where root may.
    libc()!.setsockopt(receiver.#fd, SOL_SOCKET, SO_RCVBUFFORCE, UDP_RECEIVE_BUFFER);
    return receiver;
  }

  /**
   * Two unix sockets connected to each other, as by socketpair(2). Only SO_SNDBUF limits what the receiver may leave
   * unread then: some 270 small datagrams by default.
   */
  static pair(sendBufferSize?: number): { sender: DatagramSocket; receiver: Receiver } {
    const receiver = Receiver.unix();
    const path = freshPath();
    const sender = DatagramSocket.open({
      type: 'unix',
      bind: { path },
      connect: { path: receiver.path },
      ...(sendBufferSize !== undefined && { sendBufferSize }),
    });
    libc()!.connect(receiver.#fd, sockaddrBytes({ sockaddr: sockaddrOfPath(path) }));
    return { sender, receiver };
  }

  get path(): string {
    return (this.socket.address() as { path: string }).path;
  }

  get port(): number {
    return (this.socket.address() as { port: number }).port;
  }

  /** A socket connected to this unix receiver. */
  connected(): DatagramSocket {
    return DatagramSocket.open({ type: 'unix', connect: { path: this.path } });
  }

  /** What is there, at most `limit` datagrams; without waiting. */
  drain(limit: number = Number.POSITIVE_INFINITY): Buffer[] {
    const datagrams: Buffer[] = [];
    while (datagrams.length < limit) {
      const vlen = Math.min(VLEN, limit - datagrams.length);
      const count = libc()!.recvmmsg(this.#fd, this.#arena, 0, vlen, MSG_DONTWAIT);
      for (let index = 0; index < count; index++) {
        const start = VLEN * (MMSGHDR_SIZE + IOVEC_SIZE) + index * BUFFER_SIZE;
        const length = this.#arena.u32[(index * MMSGHDR_SIZE + MSG_LEN) >>> 2]!;
        datagrams.push(Buffer.from(this.#arena.u8.subarray(start, start + length)));
      }
      if (count < vlen) break;
    }
    return datagrams;
  }

  /** Reads, `perTurn` datagrams in a turn of the event loop, until there are `count`, or `settled` and nothing is left. */
  async receive(count: number, perTurn?: number, settled?: Promise<unknown>): Promise<Buffer[]> {
    const datagrams: Buffer[] = [];
    let isSettled = false;
    settled?.then(
      () => {
        isSettled = true;
      },
      () => {
        isSettled = true;
      },
    );
    while (datagrams.length < count) {
      const wasSettled = isSettled;
      const more = this.drain(perTurn);
      datagrams.push(...more);
      if (more.length === 0 && wasSettled) break;
      await turn();
    }
    return datagrams;
  }

  close(): void {
    this.socket.close();
  }

  get #fd(): number {
    return DatagramSocket.nativeOf(this.socket).fd;
  }
}

/** A receiver in a process of its own. */
export class ReceiverProcess {
  readonly #child: ChildProcess;
  /** Where it listens: a path, or a port on 127.0.0.1. */
  readonly address: string | number;

  private constructor(child: ChildProcess, address: string | number) {
    this.#child = child;
    this.address = address;
  }

  static async start(type: 'unix' | 'udp4'): Promise<ReceiverProcess> {
    const script = fileURLToPath(new URL('../children/receive.mjs', import.meta.url));
    const env = { ...process.env, [VARIABLE]: '' }; // only what sends is of the backend that is tested
    const child = fork(script, [type, type === 'unix' ? freshPath() : ''], { env });
    const address = await answer<string | number>(child);
    return new ReceiverProcess(child, address);
  }

  /** How many it has read so far. */
  count(): Promise<number> {
    return this.#ask('count');
  }

  /** All that it has read, as text. */
  datagrams(): Promise<string[]> {
    return this.#ask('datagrams');
  }

  /** Ends the process. */
  stop(): void {
    this.#child.disconnect();
  }

  #ask<T>(question: string): Promise<T> {
    const result = answer<T>(this.#child);
    this.#child.send(question);
    return result;
  }
}

function answer<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null): void => reject(new Error(`The receiver ended with ${code}`));
    child.once('exit', onExit);
    child.once('message', (message) => {
      child.off('exit', onExit);
      resolve(message as T);
    });
  });
}

type Keep = <T extends { close(): void }>(resource: T) => T;

/** A receiver that reads nothing until told to, and a socket connected to it: the kernel takes some 11 datagrams. */
export function blocked(keep: Keep): { receiver: Receiver; socket: DatagramSocket } {
  const receiver = keep(Receiver.unix());
  return { receiver, socket: keep(receiver.connected()) };
}

/** The same with room for thousands of datagrams: the kernel takes what a test sends. */
export function roomy(keep: Keep): { receiver: Receiver; socket: DatagramSocket } {
  const { receiver, sender } = Receiver.pair(1 << 20);
  return { receiver: keep(receiver), socket: keep(sender) };
}

/** A factory of sockets connected to a receiver, that remembers what it made. */
export function factory(receiver: Receiver, keep: Keep): { make: () => DatagramSocket; made: DatagramSocket[] } {
  const made: DatagramSocket[] = [];
  const make = (): DatagramSocket => {
    made.push(keep(receiver.connected()));
    return made.at(-1)!;
  };
  return { make, made };
}
