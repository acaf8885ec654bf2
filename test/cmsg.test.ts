/** Control messages, with koffi's layout of struct cmsghdr as oracle; cmsg(3), udp(7). */
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { CMSGHDR_SIZE, SOL_SOCKET, SOL_UDP, UDP_GRO, UDP_SEGMENT } from '../src/abi.ts';
import { CMSG_DATA, CONTROL_SIZE, groSegmentSize, writeSegmentHeader } from '../src/cmsg.ts';

const cmsghdr = koffi.struct('cmsg_cmsghdr', { cmsg_len: 'size_t', cmsg_level: 'int', cmsg_type: 'int' });

/** CMSG_ALIGN and with it CMSG_SPACE, as <sys/socket.h> has them. */
const align = (bytes: number): number => Math.ceil(bytes / koffi.sizeof('size_t')) * koffi.sizeof('size_t');

describe('a control buffer', () => {
  it('has room for one u16 or one int, padded', () => {
    expect(CONTROL_SIZE).toBe(align(koffi.sizeof(cmsghdr)) + align(2));
    expect(CONTROL_SIZE).toBe(align(koffi.sizeof(cmsghdr)) + align(4));
    expect(CMSG_DATA).toBe(align(koffi.sizeof(cmsghdr)));
  });
});

describe('writeSegmentHeader', () => {
  it.each([0, 24, 4096])('writes a cmsghdr of exactly one u16 at byte %i, and nothing else', (at) => {
    const u32 = new Uint32Array((at + CONTROL_SIZE + 24) / 4).fill(0xa5a5a5a5);
    writeSegmentHeader(u32, at);
    const bytes = new Uint8Array(u32.buffer);
    expect(koffi.decode(bytes.subarray(at, at + CMSGHDR_SIZE), cmsghdr)).toEqual({
      cmsg_len: koffi.sizeof(cmsghdr) + 2,
      cmsg_level: SOL_UDP,
      cmsg_type: UDP_SEGMENT,
    });
    const others = [...bytes.subarray(0, at), ...bytes.subarray(at + CMSGHDR_SIZE)];
    expect(others.every((byte) => byte === 0xa5)).toBe(true);
  });
});

describe('groSegmentSize', () => {
  const control = (level: number, type: number, value: number): Uint32Array =>
    Uint32Array.of(0xdead, 0xdead, CMSGHDR_SIZE + 4, 0, level, type, value, 0);

  it.each([
    ['the size where the kernel merged datagrams', control(SOL_UDP, UDP_GRO, 1200), 24, 1200],
    ['the size in a buffer that is exactly CMSG_LEN long', control(SOL_UDP, UDP_GRO, 1), 20, 1],
    ['0 without a control message', control(SOL_UDP, UDP_GRO, 1200), 0, 0],
    ['0 for one that was cut off', control(SOL_UDP, UDP_GRO, 1200), 19, 0],
    ['0 for another level', control(SOL_SOCKET, UDP_GRO, 1200), 24, 0],
    ['0 for another type', control(SOL_UDP, UDP_SEGMENT, 1200), 24, 0],
  ])('tells %s', (_what, u32, length, size) => {
    expect(groSegmentSize(u32, 8, length)).toBe(size);
  });
});
