/** Control messages, with koffi's layout of struct cmsghdr as oracle; cmsg(3), udp(7). */
import koffi, { type TypeObject } from 'koffi';
import { describe, expect, it } from 'vitest';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  CMSGHDR_SIZE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from '../../src/kernel/abi.ts';
import {
  CMSG_DATA,
  CONTROL_SIZE,
  controlOf,
  groSegmentSize,
  keepingWhole,
  MAX_CONTROL_SIZE,
  writeSegmentSize,
} from '../../src/message/cmsg.ts';
import { type ControlMessage, controlMessages, refusal } from '../support/lower.ts';

const cmsghdr = koffi.struct('cmsg_cmsghdr', { cmsg_len: 'size_t', cmsg_level: 'int', cmsg_type: 'int' });
const inPktinfo = koffi.struct('cmsg_in_pktinfo', {
  ipi_ifindex: 'int',
  ipi_spec_dst: koffi.array('uint8_t', 4),
  ipi_addr: koffi.array('uint8_t', 4),
});
const in6Pktinfo = koffi.struct('cmsg_in6_pktinfo', {
  ipi6_addr: koffi.array('uint8_t', 16),
  ipi6_ifindex: 'unsigned int',
});

/** CMSG_ALIGN and with it CMSG_SPACE, as <sys/socket.h> has them. */
const align = (bytes: number): number => Math.ceil(bytes / koffi.sizeof('size_t')) * koffi.sizeof('size_t');

describe('a control buffer', () => {
  it('has room for one u16 or one int, padded', () => {
    expect(CONTROL_SIZE).toBe(align(koffi.sizeof(cmsghdr)) + align(2));
    expect(CONTROL_SIZE).toBe(align(koffi.sizeof(cmsghdr)) + align(4));
    expect(CMSG_DATA).toBe(align(koffi.sizeof(cmsghdr)));
  });
});

describe('writeSegmentSize', () => {
  it.each([0, 24, 4096])('writes a control message of exactly one u16 at byte %i, and nothing else', (at) => {
    const u32 = new Uint32Array((at + CONTROL_SIZE + 24) / 4).fill(0xa5a5a5a5);
    writeSegmentSize(u32, at, 1200);
    const bytes = new Uint8Array(u32.buffer);
    expect(koffi.decode(bytes.subarray(at, at + CMSGHDR_SIZE), cmsghdr)).toEqual({
      cmsg_len: koffi.sizeof(cmsghdr) + 2,
      cmsg_level: SOL_UDP,
      cmsg_type: UDP_SEGMENT,
    });
    expect(koffi.decode(bytes.subarray(at + CMSGHDR_SIZE), 'uint16_t')).toBe(1200);
    const others = [...bytes.subarray(0, at), ...bytes.subarray(at + CONTROL_SIZE - 4)];
    expect(others.every((byte) => byte === 0xa5)).toBe(true);
  });
});

describe('controlOf', () => {
  // <netinet/in.h>, <bits/in.h>
  const [IPPROTO_IP, IP_TOS, IP_PKTINFO] = [0, 1, 8];
  const [IPPROTO_IPV6, IPV6_TCLASS, IPV6_PKTINFO] = [41, 67, 50];
  const messagesOf = (...args: Parameters<typeof controlOf>): ControlMessage[] => {
    const control = controlOf(...args)!;
    expect(control.words.byteLength).toBe(control.length);
    expect(control.length % koffi.sizeof('size_t')).toBe(0);
    return controlMessages(Buffer.from(control.words.buffer));
  };
  const int = (value: number): Buffer => Buffer.from(Int32Array.of(value).buffer);
  const struct = (type: TypeObject, value: object): Buffer => {
    const bytes = Buffer.alloc(koffi.sizeof(type));
    koffi.encode(bytes, type, value);
    return bytes;
  };
  const tos = (value: number) => ({ level: IPPROTO_IP, type: IP_TOS, data: int(value) });
  const trafficClass = (value: number) => ({ level: IPPROTO_IPV6, type: IPV6_TCLASS, data: int(value) });
  const from4 = (address: number[]) => ({
    level: IPPROTO_IP,
    type: IP_PKTINFO,
    data: struct(inPktinfo, { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: [0, 0, 0, 0] }),
  });
  const from6 = (hex: string, index: number) => ({
    level: IPPROTO_IPV6,
    type: IPV6_PKTINFO,
    data: struct(in6Pktinfo, { ipi6_addr: [...Buffer.from(hex, 'hex')], ipi6_ifindex: index }),
  });
  const LOOPBACK = '00000000000000000000000000000001';

  it('is null for a datagram that says nothing', () => {
    for (const family of [AF_INET, AF_INET6, AF_UNIX]) {
      expect(controlOf(family, undefined, undefined, undefined)).toBeNull();
    }
  });

  it.each([
    ['dscp', 46, undefined, 184],
    ['ecn', undefined, 2, 2],
    ['both', 63, 3, 255],
    ['dscp 0, which is not the same as none', 0, undefined, 0],
    ['ecn 0', undefined, 0, 0],
    ['-0', -0, undefined, 0],
  ])('puts %s into one traffic class byte', (_what, dscp, ecn, value) => {
    expect(messagesOf(AF_INET, dscp, ecn, undefined)).toEqual([tos(value)]);
    // An IPv6 socket sends IPv4, too: to IPv4-mapped addresses.
    expect(messagesOf(AF_INET6, dscp, ecn, undefined)).toEqual([trafficClass(value), tos(value)]);
  });

  it.each([
    ['an IPv4 address', AF_INET, '127.0.0.2', from4([127, 0, 0, 2])],
    ['an IPv6 address', AF_INET6, '::1', from6(LOOPBACK, 0)],
    ['one with a zone', AF_INET6, 'fe80::1%7', from6('fe800000000000000000000000000001', 7)],
    ['an IPv4-mapped one', AF_INET6, '::ffff:127.0.0.2', from6('00000000000000000000ffff7f000002', 0)],
  ])('puts %s where the kernel looks for a source', (_what, family, from, expected) => {
    expect(messagesOf(family, undefined, undefined, from)).toEqual([expected]);
  });

  it('puts both one behind the other, in no more than the room for it', () => {
    expect(messagesOf(AF_INET, 46, 1, '127.0.0.1')).toEqual([tos(185), from4([127, 0, 0, 1])]);
    expect(messagesOf(AF_INET6, 46, 1, '::1')).toEqual([trafficClass(185), tos(185), from6(LOOPBACK, 0)]);
    expect(keepingWhole(controlOf(AF_INET6, 46, 1, '::1')).length).toBe(MAX_CONTROL_SIZE);
  });

  it('is one object for what is equal, and another for anything else', () => {
    const all: Parameters<typeof controlOf>[] = [
      [AF_INET, 46, undefined, undefined],
      [AF_INET, 46, 1, undefined],
      [AF_INET, 46, undefined, '127.0.0.1'],
      [AF_INET, 46, undefined, '127.0.0.2'],
      [AF_INET, undefined, undefined, '127.0.0.1'],
      [AF_INET6, 46, undefined, undefined],
      [AF_INET6, undefined, undefined, 'fe80::1%3'],
      [AF_INET6, undefined, undefined, 'fe80::1%4'],
    ];
    const controls = all.map((args) => controlOf(...args));
    expect(new Set(controls).size).toBe(all.length);
    expect(all.map((args) => controlOf(...args))).toEqual(controls);
    for (const [index, args] of all.entries()) expect(controlOf(...args)).toBe(controls[index]);
    expect(controlOf(AF_INET, 46, 0, undefined)).toBe(controls[0]);
  });

  it('remembers so many and no more', () => {
    const first = controlOf(AF_INET, 1, 0, '10.255.255.255');
    for (let n = 0; n < 100; n++) controlOf(AF_INET, 1, 0, `10.0.1.${n}`);
    expect(controlOf(AF_INET, 1, 0, '10.255.255.255')).toBe(first);
    for (let n = 0; n < 20_000; n++) controlOf(AF_INET, 1, 0, `10.0.${n >> 8}.${n & 255}`);
    const again = controlOf(AF_INET, 1, 0, '10.255.255.255');
    expect(again).not.toBe(first);
    expect(again).toEqual(first);
  });

  const bad: (readonly unknown[])[] = [
    ...[64, -1, 1.5, Number.NaN, Infinity, 2 ** 32 + 1].map((value) => ['dscp', value, 'ERR_OUT_OF_RANGE']),
    ...[4, -1, 0.5, Number.NaN].map((value) => ['ecn', value, 'ERR_OUT_OF_RANGE']),
    ...['1', '', null, true, 1n, {}, []].map((value) => ['dscp', value, 'ERR_INVALID_ARG_TYPE']),
    ...['1', null, false].map((value) => ['ecn', value, 'ERR_INVALID_ARG_TYPE']),
    ...[null, 0, 0x7f000001, {}, Buffer.from('::1')].map((value) => ['from', value, 'ERR_INVALID_ARG_TYPE']),
    ...['', 'localhost', '127.1', '127.0.0.1:80', '[::1]', 'fe80::1%no-such-interface', '127.0.0.1%1'].map((value) => [
      'from',
      value,
      'ERR_INVALID_IP_ADDRESS',
    ]),
  ];
  it.each(bad)('refuses %s %o with %s on any socket, and names it', (name, value, code) => {
    for (const family of [AF_INET, AF_INET6, AF_UNIX]) {
      const fields: Record<string, unknown> = { [String(name)]: value };
      const error = refusal(() => controlOf(family, fields['dscp'], fields['ecn'], fields['from']));
      expect(error.code).toBe(code);
      expect(error.message).toContain(`"${name}"`);
      expect(error.address).toBeUndefined();
    }
  });

  it.each([
    ['an IPv6 source on an IPv4 socket', AF_INET, undefined, '::1'],
    ['an IPv4 source on an IPv6 socket', AF_INET6, undefined, '127.0.0.1'],
    ['a source on a unix socket', AF_UNIX, undefined, '127.0.0.1'],
    ['a traffic class on a unix socket', AF_UNIX, 46, undefined],
    ['the traffic class 0 on a unix socket', AF_UNIX, 0, undefined],
  ])('refuses %s: EAFNOSUPPORT', (_what, family, dscp, from) => {
    expect(refusal(() => controlOf(family, dscp, undefined, from))).toMatchObject({
      code: 'EAFNOSUPPORT',
      errno: 97,
      syscall: 'sendmmsg',
    });
  });
});

describe('keepingWhole', () => {
  const whole = { level: SOL_UDP, type: UDP_SEGMENT, data: Buffer.alloc(2) };
  const controls = [null, controlOf(AF_INET, 46, 1, '127.0.0.1'), controlOf(AF_INET6, 46, undefined, undefined)];

  it.each(controls)('says first that the datagram is not to be cut, and then the same as before: %o', (control) => {
    const before = control === null ? [] : controlMessages(Buffer.from(control.words.buffer));
    const keeping = keepingWhole(control);
    expect(keeping.words.byteLength).toBe(keeping.length);
    expect(controlMessages(Buffer.from(keeping.words.buffer))).toEqual([whole, ...before]);
  });

  it('is one object for one control: neighbours that say the same make a run', () => {
    expect(new Set(controls.map(keepingWhole)).size).toBe(controls.length);
    expect(controls.map(keepingWhole)).toEqual(controls.map(keepingWhole));
    for (const control of controls) expect(keepingWhole(control)).toBe(keepingWhole(control));
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
