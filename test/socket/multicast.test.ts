/** The structs of multicast memberships: against koffi's idea of them, and against the C headers. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import * as abi from '../../src/kernel/abi.ts';
import { sockaddrOfAddress } from '../../src/message/sockaddr.ts';
import {
  groupSourceReq,
  ipMreq,
  ipMreqSource,
  ipv6Mreq,
  membership,
  multicastInterface,
  sourceMembership,
} from '../../src/socket/multicast.ts';
import { requires } from '../support/requires.ts';

const inAddr = koffi.array('uint8_t', 4);
const in6Addr = koffi.array('uint8_t', 16);
const sockaddrStorage = koffi.struct('mc_sockaddr_storage', {
  ss_family: 'uint16_t',
  ss_rest: koffi.array('uint8_t', 118),
  ss_align: 'unsigned long',
});
const ip_mreq = koffi.struct('mc_ip_mreq', { imr_multiaddr: inAddr, imr_interface: inAddr });
const ip_mreq_source = koffi.struct('mc_ip_mreq_source', {
  imr_multiaddr: inAddr,
  imr_interface: inAddr,
  imr_sourceaddr: inAddr,
});
const ipv6_mreq = koffi.struct('mc_ipv6_mreq', { ipv6mr_multiaddr: in6Addr, ipv6mr_interface: 'unsigned int' });
const group_source_req = koffi.struct('mc_group_source_req', {
  gsr_interface: 'uint32_t',
  gsr_group: sockaddrStorage,
  gsr_source: sockaddrStorage,
});

describe('struct layout', () => {
  it.each([
    ['ip_mreq', ip_mreq, abi.IP_MREQ_SIZE],
    ['ip_mreq_source', ip_mreq_source, abi.IP_MREQ_SOURCE_SIZE],
    ['ipv6_mreq', ipv6_mreq, abi.IPV6_MREQ_SIZE],
    ['group_source_req', group_source_req, abi.GROUP_SOURCE_REQ_SIZE],
  ])('struct %s is as large as koffi says', (_name, type, size) => {
    expect(size).toBe(koffi.sizeof(type));
  });

  it.each([
    ['imr_interface', abi.IMR_INTERFACE, ip_mreq],
    ['imr_interface', abi.IMR_INTERFACE, ip_mreq_source],
    ['imr_sourceaddr', abi.IMR_SOURCEADDR, ip_mreq_source],
    ['ipv6mr_interface', abi.IPV6MR_INTERFACE, ipv6_mreq],
    ['gsr_group', abi.GSR_GROUP, group_source_req],
    ['gsr_source', abi.GSR_SOURCE, group_source_req],
  ])('%s lies where koffi says', (field, offset, type) => {
    expect(offset).toBe(koffi.offsetof(type, field));
  });

  it('and the constants are those of the C headers', (context) => {
    requires(context, 'cc');
    const constants = [
      ...['IPPROTO_IP', 'IP_TTL', 'IP_MULTICAST_IF', 'IP_MULTICAST_TTL', 'IP_MULTICAST_LOOP'],
      ...['IP_ADD_MEMBERSHIP', 'IP_DROP_MEMBERSHIP', 'IP_ADD_SOURCE_MEMBERSHIP', 'IP_DROP_SOURCE_MEMBERSHIP'],
      ...['IPPROTO_IPV6', 'IPV6_UNICAST_HOPS', 'IPV6_MULTICAST_IF', 'IPV6_MULTICAST_HOPS', 'IPV6_MULTICAST_LOOP'],
      ...['IPV6_ADD_MEMBERSHIP', 'IPV6_DROP_MEMBERSHIP', 'MCAST_JOIN_SOURCE_GROUP', 'MCAST_LEAVE_SOURCE_GROUP'],
      ...['SOL_SOCKET', 'SO_BINDTODEVICE', 'SO_BROADCAST', 'SO_REUSEPORT', 'AF_UNSPEC', 'IFNAMSIZ'],
    ] as const;
    const sizes = ['ip_mreq', 'ip_mreq_source', 'ipv6_mreq', 'group_source_req'];
    const fields = [
      ...['ip_mreq, imr_interface', 'ip_mreq_source, imr_sourceaddr', 'ipv6_mreq, ipv6mr_interface'],
      ...['group_source_req, gsr_group', 'group_source_req, gsr_source'],
    ];
    const printed = [
      ...constants,
      ...sizes.map((name) => `sizeof(struct ${name})`),
      ...fields.map((name) => `offsetof(struct ${name})`),
    ];
    const values: Record<string, unknown> = { ...abi };
    const { IP_MREQ_SIZE, IP_MREQ_SOURCE_SIZE, IPV6_MREQ_SIZE, GROUP_SOURCE_REQ_SIZE } = abi;
    const { IMR_INTERFACE, IMR_SOURCEADDR, IPV6MR_INTERFACE, GSR_GROUP, GSR_SOURCE } = abi;
    expect(printedByC(printed)).toEqual([
      ...constants.map((name) => values[name]),
      ...[IP_MREQ_SIZE, IP_MREQ_SOURCE_SIZE, IPV6_MREQ_SIZE, GROUP_SOURCE_REQ_SIZE],
      ...[IMR_INTERFACE, IMR_SOURCEADDR, IPV6MR_INTERFACE, GSR_GROUP, GSR_SOURCE],
    ]);
  });
});

/** What a C compiler makes of these expressions. */
function printedByC(expressions: readonly string[]): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-abi-'));
  try {
    const headers = ['stddef.h', 'stdio.h', 'sys/socket.h', 'netinet/in.h', 'net/if.h'];
    const lines = expressions.map((expression) => `printf("%ld\\n", (long) ${expression});`);
    const source = [...headers.map((header) => `#include <${header}>`), 'int main(void) {', ...lines, 'return 0; }'];
    writeFileSync(join(folder, 'abi.c'), source.join('\n'));
    const compiled = spawnSync('cc', ['-D_GNU_SOURCE', '-o', join(folder, 'abi'), join(folder, 'abi.c')]);
    if (compiled.status !== 0) throw new Error(String(compiled.stderr));
    return String(spawnSync(join(folder, 'abi')).stdout)
      .trim()
      .split('\n')
      .map(Number);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const v4 = fc.ipV4();
const v6 = fc.ipV6();
const zone = fc.integer({ min: 0, max: 0xffffffff });
const octets = (text: string): number[] => text.split('.').map(Number);
const address6 = (text: string): number[] => [...new Uint8Array(sockaddrOfAddress(text).words.buffer, 8, 16)];

describe('encoders write what koffi reads', () => {
  it('ip_mreq and ip_mreq_source', () => {
    fc.assert(
      fc.property(v4, v4, fc.option(v4, { nil: undefined }), (group, source, at) => {
        const there = at === undefined ? undefined : sockaddrOfAddress(at);
        const expected = { imr_multiaddr: octets(group), imr_interface: octets(at ?? '0.0.0.0') };
        const mreq = koffi.decode(ipMreq(sockaddrOfAddress(group), there), ip_mreq);
        expect(plain(mreq)).toEqual(expected);
        const bytes = ipMreqSource(sockaddrOfAddress(source), sockaddrOfAddress(group), there);
        expect(plain(koffi.decode(bytes, ip_mreq_source))).toEqual({ ...expected, imr_sourceaddr: octets(source) });
      }),
    );
  });

  it('ipv6_mreq and group_source_req', () => {
    fc.assert(
      fc.property(v6, v6, zone, (group, source, index) => {
        const mreq = koffi.decode(ipv6Mreq(sockaddrOfAddress(group), index), ipv6_mreq);
        expect(plain(mreq)).toEqual({ ipv6mr_multiaddr: address6(group), ipv6mr_interface: index });
        const bytes = groupSourceReq(sockaddrOfAddress(source), sockaddrOfAddress(group), index);
        const { gsr_interface, gsr_group, gsr_source } = koffi.decode(bytes, group_source_req);
        expect(gsr_interface).toBe(index);
        for (const [storage, text] of [
          [gsr_group, group],
          [gsr_source, source],
        ]) {
          expect(storage.ss_family).toBe(abi.AF_INET6);
          expect([...storage.ss_rest].slice(6, 22)).toEqual(address6(text)); // behind sin6_port and sin6_flowinfo
        }
      }),
    );
  });
});

function plain(struct: Record<string, number | Iterable<number>>): Record<string, number | number[]> {
  return Object.fromEntries(
    Object.entries(struct).map(([name, value]) => [name, typeof value === 'number' ? value : [...value]]),
  );
}

describe('which option', () => {
  const at = sockaddrOfAddress;
  it.each([
    ['add', '224.0.0.9', abi.IPPROTO_IP, abi.IP_ADD_MEMBERSHIP, abi.IP_ADD_SOURCE_MEMBERSHIP],
    ['drop', '224.0.0.9', abi.IPPROTO_IP, abi.IP_DROP_MEMBERSHIP, abi.IP_DROP_SOURCE_MEMBERSHIP],
    ['add', 'ff02::9', abi.IPPROTO_IPV6, abi.IPV6_ADD_MEMBERSHIP, abi.MCAST_JOIN_SOURCE_GROUP],
    ['drop', 'ff02::9', abi.IPPROTO_IPV6, abi.IPV6_DROP_MEMBERSHIP, abi.MCAST_LEAVE_SOURCE_GROUP],
  ] as const)('%s of %s', (action, group, level, name, sourceName) => {
    expect(membership(action, at(group), undefined)).toMatchObject({ level, name });
    const source = at(group.includes(':') ? '::1' : '127.0.0.1');
    expect(sourceMembership(action, source, at(group), undefined)).toMatchObject({ level, name: sourceName });
  });

  it('is none where families are mixed', () => {
    expect(membership('add', at('224.0.0.9'), at('::%1'))).toBeNull();
    expect(membership('add', at('ff02::9'), at('127.0.0.1'))).toBeNull();
    expect(sourceMembership('add', at('::1'), at('232.0.0.9'), undefined)).toBeNull();
    expect(sourceMembership('add', at('127.0.0.1'), at('232.0.0.9'), at('::1'))).toBeNull();
  });

  it('has the zone of the interface, or else of the group', () => {
    const interfaceOf = (option: ReturnType<typeof membership>): number =>
      koffi.decode(option!.value, ipv6_mreq).ipv6mr_interface;
    expect(interfaceOf(membership('add', at('ff02::9%3'), undefined))).toBe(3);
    expect(interfaceOf(membership('add', at('ff02::9%3'), at('::%5')))).toBe(5);
    expect(multicastInterface(at('::%5'))).toMatchObject({ name: abi.IPV6_MULTICAST_IF, value: 5 });
    const option = multicastInterface(at('10.1.2.3'));
    expect(option.name).toBe(abi.IP_MULTICAST_IF);
    expect([...(option.value as Uint8Array)]).toEqual([10, 1, 2, 3]);
  });
});
