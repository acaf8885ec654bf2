/** Zones, with and without the C library. */
import { readdirSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { isInterfaceName, withCanonicalZone, zoneIndex, zoneName } from '../../src/message/zone.ts';

const state = vi.hoisted(() => ({ hasLibc: true }));
vi.mock(import('../../src/kernel/libc.ts'), async (original) => {
  const module = await original();
  return { ...module, libc: () => (state.hasLibc ? module.libc() : undefined) };
});
// One interface more than this host has, with a name that net.isIPv6 does not take for a zone; and one without link-local.
vi.mock(import('node:os'), async (original) => {
  const os = await original();
  const common = { netmask: 'ffff::', mac: '', internal: false, cidr: null, family: 'IPv6' } as const;
  return {
    ...os,
    networkInterfaces: () => ({
      br_lan: [
        { ...common, address: 'fd00::2', scopeid: 0 },
        { ...common, address: 'fe80::2', scopeid: 7654 },
      ],
      lo: [{ ...common, address: '::1', scopeid: 0 }],
      legacy0: [{ ...common, family: 'IPv4', address: '10.0.0.1' }],
    }),
  };
});

const interfaces = readdirSync('/sys/class/net');

describe('with the C library', () => {
  it.each(interfaces)('%s is known, address or none', (name) => {
    state.hasLibc = true;
    const index = zoneIndex(name)!;
    expect(index).toBeGreaterThan(0);
    expect(zoneName(index)).toBe(name);
    expect(withCanonicalZone(`::%${index}`)).toBe(`::%${name}`);
    expect(withCanonicalZone(`::%${name}`)).toBe(`::%${name}`);
  });

  it.each(['br_lan', '', 'lo\0', `lo${'x'.repeat(14)}`, 'constructor', '4294967296'])('%j is unknown', (name) => {
    state.hasLibc = true;
    expect(zoneIndex(name)).toBeUndefined();
    expect(withCanonicalZone(`::%${name}`)).toBeUndefined();
  });
});

describe('without it', () => {
  it.each([
    ['br_lan', 7654],
    ['lo', 0],
    ['legacy0', undefined],
    ['nosuch0', undefined],
    ['constructor', undefined],
    ['', undefined],
    ['7', 7],
  ])('%j is %s', (name, index) => {
    state.hasLibc = false;
    expect(zoneIndex(name)).toBe(index);
  });

  it.each([
    ['fe80::1%br_lan', 'fe80::1%br_lan'],
    ['fe80::1%7654', 'fe80::1%br_lan'],
    ['::%lo', '::%lo'],
    ['::%0', '::%0'],
    ['::', '::'],
    ['::%7', undefined],
    ['::%legacy0', undefined],
  ])('%s is written %s for libuv', (address, canonical) => {
    state.hasLibc = false;
    expect(withCanonicalZone(address)).toBe(canonical);
  });
});

it("a number without an interface is nobody's, but stays a number", () => {
  state.hasLibc = true;
  expect(zoneIndex('77777')).toBe(77777);
  expect(zoneName(77777)).toBeUndefined();
  expect(withCanonicalZone('::%77777')).toBeUndefined();
});

it.each([
  ['eth0', true],
  ['fifteen_letters', true],
  ['sixteen_letters_', false],
  ['éééééééé', false],
  ['', false],
  ['a\0', false],
])('%j as the name of an interface: %s', (name, expected) => {
  expect(isInterfaceName(name)).toBe(expected);
});
