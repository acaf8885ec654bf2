/** A UDP receiver that sees of each datagram also where it came from, and its traffic class. */
import {
  IOV_LEN,
  IOVEC_SIZE,
  IPPROTO_IP,
  IPPROTO_IPV6,
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
} from '../../src/kernel/abi.ts';
import type { Arena } from '../../src/kernel/libc.ts';
import { describeName } from '../../src/message/sockaddr.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { NativeTransport } from '../../src/socket/transport.ts';
import { controlMessages } from './lower.ts';

// <bits/in.h>: ask for IP_TOS and IPV6_TCLASS control messages.
const IP_RECVTOS = 13;
const IPV6_RECVTCLASS = 66;

const VLEN = 64;
const NAME_SIZE = 32;
const CONTROL_SIZE = 64;
const PAYLOAD_SIZE = 2048;

/** A datagram as it arrived. */
export interface Seen {
  readonly text: string;
  readonly from: string;
  /** The byte of `dscp` and `ecn`. */
  readonly trafficClass: number;
}

export class Witness {
  readonly socket: DatagramSocket;
  readonly #native: NativeTransport;
  readonly #arena: Arena;

  constructor(type: 'udp4' | 'udp6', address: string = type === 'udp4' ? '127.0.0.1' : '::1') {
    this.socket = DatagramSocket.open({ type, bind: { address }, recvBufferSize: 4 << 20 });
    this.#native = DatagramSocket.nativeOf(this.socket);
    const { libc, fd } = this.#native;
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20);
    const asked =
      type === 'udp4'
        ? libc.setsockopt(fd, IPPROTO_IP, IP_RECVTOS, 1)
        : libc.setsockopt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    if (asked < 0) throw new Error(`setsockopt: ${asked}`);
    this.#arena = libc.allocate(VLEN * (MMSGHDR_SIZE + IOVEC_SIZE + NAME_SIZE + CONTROL_SIZE + PAYLOAD_SIZE));
  }

  /** Where to send to. */
  get endpoint(): { address: string; port: number } {
    const { address, port } = this.socket.address() as { address: string; port: number };
    return { address, port };
  }

  /** Waits until `count` datagrams have arrived; more than that are an error. */
  async receive(count: number): Promise<Seen[]> {
    const deadline = performance.now() + 10_000;
    const seen = this.#take();
    while (seen.length < count && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      seen.push(...this.#take());
    }
    if (seen.length !== count) throw new Error(`${seen.length} datagrams arrived, not ${count}`);
    return seen;
  }

  close(): void {
    this.socket.close();
  }

  #take(): Seen[] {
    const iovecs = VLEN * MMSGHDR_SIZE;
    const names = iovecs + VLEN * IOVEC_SIZE;
    const controls = names + VLEN * NAME_SIZE;
    const payloads = controls + VLEN * CONTROL_SIZE;
    const arena = this.#arena;
    const { u8, u32 } = arena;
    const bytes = (at: number, length: number): Buffer => Buffer.from(u8.subarray(at, at + length));
    const seen: Seen[] = [];
    for (;;) {
      for (let index = 0; index < VLEN; index++) {
        const [header, iovec] = [index * MMSGHDR_SIZE, iovecs + index * IOVEC_SIZE];
        arena.writePointer(header + MSG_NAME, names + index * NAME_SIZE);
        u32[(header + MSG_NAMELEN) >>> 2] = NAME_SIZE;
        arena.writePointer(header + MSG_IOV, iovec);
        u32[(header + MSG_IOVLEN) >>> 2] = 1;
        arena.writePointer(header + MSG_CONTROL, controls + index * CONTROL_SIZE);
        u32[(header + MSG_CONTROLLEN) >>> 2] = CONTROL_SIZE;
        arena.writePointer(iovec, payloads + index * PAYLOAD_SIZE);
        u32[(iovec + IOV_LEN) >>> 2] = PAYLOAD_SIZE;
      }
      const count = this.#native.libc.recvmmsg(this.#native.fd, arena, 0, VLEN, MSG_DONTWAIT);
      if (count <= 0) return seen;
      for (let index = 0; index < count; index++) {
        const header = index * MMSGHDR_SIZE;
        const name = bytes(names + index * NAME_SIZE, u32[(header + MSG_NAMELEN) >>> 2]!);
        const control = bytes(controls + index * CONTROL_SIZE, u32[(header + MSG_CONTROLLEN) >>> 2]!);
        const [message] = controlMessages(control); // IP_TOS has one byte, IPV6_TCLASS an int
        if (message === undefined) throw new Error('a datagram without its traffic class');
        seen.push({
          text: bytes(payloads + index * PAYLOAD_SIZE, u32[(header + MSG_LEN) >>> 2]!).toString(),
          from: describeName(name).address!,
          trafficClass: message.data[0]!,
        });
      }
    }
  }
}
