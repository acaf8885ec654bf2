/** Forges the ICMP and ICMPv6 answers of a router: a raw socket on loopback, which takes root. */
import { IOV_LEN, IOVEC_SIZE, MMSGHDR_SIZE, MSG_DONTWAIT, MSG_IOV, MSG_IOVLEN } from '../../src/kernel/abi.ts';
import { findSender, type SendingLibc } from '../../src/kernel/libc.ts';
import { sockaddrBytes, sockaddrOfAddress } from '../../src/message/sockaddr.ts';

const SOCK_RAW = 3;
const UDP = 17;
const PROTOCOLS = { ICMP: 1, ICMPv6: 58 } as const;

/** An answer: what kind, and the word behind the checksum (an MTU, a pointer). */
export interface IcmpAnswer {
  readonly protocol: keyof typeof PROTOCOLS;
  readonly type: number;
  readonly code: number;
  readonly word?: number;
}

/** Answers a datagram that went from one port to another, both on the local host. It has come in when this returns. */
export function answerWith({ protocol, type, code, word = 0 }: IcmpAnswer, from: number, to: number): void {
  const calls = findSender('sendmmsg').libc!;
  const host = sockaddrOfAddress(protocol === 'ICMP' ? '127.0.0.1' : '::1');
  const fd = calls.socket(host.family, SOCK_RAW, PROTOCOLS[protocol]);
  if (fd < 0) throw new Error(`socket: ${fd}`);
  const answer = calls.connect(fd, sockaddrBytes({ sockaddr: host }));
  if (answer < 0) throw new Error(`connect: ${answer}`);
  const head = Buffer.alloc(8);
  head.set([type, code]);
  head.writeUInt32BE(word, 4);
  const packet = Buffer.concat([head, protocol === 'ICMP' ? ipv4Header() : ipv6Header(), udpHeader(from, to)]);
  // Of an ICMPv6 packet the kernel fills it in.
  if (protocol === 'ICMP') packet.writeUInt16BE(checksum(packet), 2);
  send(calls, fd, packet);
  calls.close(fd);
}

function ipv4Header(): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(header.length + 8, 2);
  header[8] = 64; // TTL
  header[9] = UDP;
  header.set([127, 0, 0, 1], 12);
  header.set([127, 0, 0, 1], 16);
  return header;
}

function ipv6Header(): Buffer {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(8, 4);
  header[6] = UDP;
  header[7] = 64;
  header[23] = 1;
  header[39] = 1;
  return header;
}

function udpHeader(from: number, to: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(from, 0);
  header.writeUInt16BE(to, 2);
  header.writeUInt16BE(8, 4);
  return header;
}

/** RFC 1071. */
function checksum(packet: Buffer): number {
  let sum = 0;
  for (let at = 0; at < packet.length; at += 2) sum += packet.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function send(calls: SendingLibc, fd: number, packet: Buffer): void {
  const payload = MMSGHDR_SIZE + IOVEC_SIZE;
  const arena = calls.allocate(payload + packet.length);
  arena.writePointer(MSG_IOV, MMSGHDR_SIZE);
  arena.u32[MSG_IOVLEN >>> 2] = 1;
  arena.writePointer(MMSGHDR_SIZE, payload);
  arena.u32[(MMSGHDR_SIZE + IOV_LEN) >>> 2] = packet.length;
  arena.u8.set(packet, payload);
  const answer = calls.sendmmsg(fd, arena, 0, 1, MSG_DONTWAIT);
  if (answer !== 1) throw new Error(`sendmmsg: ${answer}`);
}
