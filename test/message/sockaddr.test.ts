/** Addresses, with the C library's inet_pton(3), inet_ntop(3) and if_nametoindex(3) as oracles. */
import { readdirSync } from 'node:fs';
import fc from 'fast-check';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  SOCKADDR_IN_SIZE,
  SOCKADDR_IN6_SIZE,
  SUN_PATH_SIZE,
} from '../../src/kernel/abi.ts';
import { Endpoint } from '../../src/message/datagram.ts';
import {
  checkedPort,
  decodeSockaddr,
  describeName,
  endpoint,
  laneOf,
  sockaddrBytes,
  sockaddrOfAddress,
  sockaddrOfPath,
} from '../../src/message/sockaddr.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { refusal } from '../support/lower.ts';

const library = koffi.load(null);
const inetPton = library.func('int inet_pton(int af, const char *src, void *dst)');
const inetNtop = library.func('const char *inet_ntop(int af, const void *src, void *dst, unsigned int size)');
const ifNametoindex = library.func('unsigned int if_nametoindex(const char *name)');

/** What the C library parses; `undefined` if it refuses. */
function pton(family: number, text: string): Buffer | undefined {
  const bytes = Buffer.alloc(family === AF_INET ? 4 : 16);
  return inetPton(family, text, bytes) === 1 ? bytes : undefined;
}

function ntop(family: number, bytes: Uint8Array): string {
  return inetNtop(family, bytes, Buffer.alloc(64), 64) as string;
}

/** The address bytes of a sockaddr that was parsed here. */
function parse(text: string): Buffer {
  const bytes = sockaddrBytes({ sockaddr: sockaddrOfAddress(text) });
  return Buffer.from(bytes.length === SOCKADDR_IN_SIZE ? bytes.subarray(4, 8) : bytes.subarray(8, 24));
}

const ipv4 = fc.ipV4();
const ipv6 = fc.oneof(
  fc.ipV6(),
  // Groups that are often zero, so that every way to fold them is tried.
  fc
    .array(fc.constantFrom(0, 0, 0, 1, 0x20, 0x304, 0xffff), { minLength: 8, maxLength: 8 })
    .map((groups) => ntop(AF_INET6, Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])))),
);

describe('literal addresses', () => {
  it('are parsed to the bytes of inet_pton', () => {
    fc.assert(
      fc.property(ipv4, (text) => {
        expect(parse(text)).toEqual(pton(AF_INET, text));
      }),
    );
    fc.assert(
      fc.property(ipv6, (text) => {
        expect(parse(text)).toEqual(pton(AF_INET6, text));
      }),
      { numRuns: 500 },
    );
  });

  it('are refused where inet_pton refuses them', () => {
    const almost = fc.string({ unit: fc.constantFrom('0', '1', '25', 'f', 'g', ':', '::', '.', ' '), maxLength: 12 });
    fc.assert(
      fc.property(almost, (text) => {
        if (pton(AF_INET, text) ?? pton(AF_INET6, text)) return;
        expect(refusal(() => sockaddrOfAddress(text)).code).toBe('ERR_INVALID_IP_ADDRESS');
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    '::',
    '::1',
    '1::',
    '1:2:3:4:5:6:7::',
    '::2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7:8',
    '::ffff:1.2.3.4',
    '::1.2.3.4',
    '64:ff9b::192.0.2.33',
    '1:2:3:4:5:6:255.255.255.255',
    'FE80::ABCD',
  ])('%s is parsed as inet_pton does', (text) => {
    expect(parse(text)).toEqual(pton(AF_INET6, text));
  });

  it.each([
    '',
    ' ',
    'localhost',
    'example.com',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3.4 ',
    '0x7f.1',
    '[::1]',
    '::1]:80',
    '1.2.3.4:80',
    ':::',
    '1:2:3:4:5:6:7:8:9',
    '127.0.0.1\0',
    '::1\0',
    '1.2.3.4%eth0',
  ])('%j is no literal address: ERR_INVALID_IP_ADDRESS', (text) => {
    expect(refusal(() => sockaddrOfAddress(text)).code).toBe('ERR_INVALID_IP_ADDRESS');
    expect(refusal(() => endpoint(text, 80)).code).toBe('ERR_INVALID_IP_ADDRESS');
  });

  it.each([undefined, null, 5, {}, ['127.0.0.1']])('%j is no string: ERR_INVALID_ARG_TYPE', (value) => {
    expect(refusal(() => sockaddrOfAddress(value)).code).toBe('ERR_INVALID_ARG_TYPE');
  });

  it('come back with their port as inet_ntop words them', () => {
    const port = fc.integer({ min: 0, max: 65_535 });
    fc.assert(
      fc.property(fc.oneof(ipv4, ipv6), port, (text, port) => {
        const bytes = sockaddrBytes({ sockaddr: sockaddrOfAddress(text), port });
        const is4 = bytes.length === SOCKADDR_IN_SIZE;
        const decoded = decodeSockaddr(bytes) as { address: string; family: string; port: number };
        expect(decoded).toMatchObject({ family: is4 ? 'IPv4' : 'IPv6', port });
        const words = is4 ? bytes.subarray(4, 8) : bytes.subarray(8, 24);
        // RFC 5952 leaves ::a.b.c.d, which nobody uses, in hexadecimal; glibc does not.
        const isCompatible = !is4 && words.subarray(0, 12).every((byte) => byte === 0);
        if (!isCompatible) expect(decoded.address).toBe(ntop(is4 ? AF_INET : AF_INET6, words));
        expect(parse(decoded.address)).toEqual(Buffer.from(words));
      }),
      { numRuns: 500 },
    );
  });

  it('are laid out as ip(7) and ipv6(7) say, the port in network order', () => {
    const at = (text: string, port: number): string =>
      Buffer.from(sockaddrBytes({ sockaddr: sockaddrOfAddress(text), port })).toString('hex');
    expect(at('1.2.3.4', 0x1f90)).toBe('02001f90010203040000000000000000');
    expect(at('::1', 0xff01)).toBe(`0a00ff0100000000${'00'.repeat(15)}0100000000`);
    expect(SOCKADDR_IN6_SIZE).toBe(at('::', 1).length / 2);
  });

  it('are remembered, but never more than 65 536 of them', () => {
    const first = sockaddrOfAddress('10.255.255.254');
    expect(sockaddrOfAddress('10.255.255.254')).toBe(first);
    for (let n = 0; n < 65_536; n++) sockaddrOfAddress(`10.7.${n >> 8}.${n & 255}`);
    expect(sockaddrOfAddress('10.255.255.254')).not.toBe(first);
    expect(sockaddrOfAddress('10.255.255.254')).toEqual(first);
  });
});

describe('zones', () => {
  const scopeOf = (text: string): number => sockaddrOfAddress(text).words[6]!;
  const interfaces = readdirSync('/sys/class/net'); // those that are down and those without an address, too

  it.each([
    ['fe80::1%2', 2],
    ['fe80::1%0', 0],
    ['ff02::1%4294967295', 4_294_967_295],
    ['fe80::1', 0],
  ])('of %s the index is %i', (text, index) => {
    expect(scopeOf(text)).toBe(index);
    expect(parse(text)).toEqual(pton(AF_INET6, text.split('%')[0]!));
  });

  it.each(interfaces)('are looked up by interface name, and told by it: %s', (name) => {
    const text = `fe80::1%${name}`;
    expect(scopeOf(text)).toBe(ifNametoindex(name));
    expect(scopeOf(text)).toBeGreaterThan(0);
    expect(decodeSockaddr(sockaddrBytes({ sockaddr: sockaddrOfAddress(text), port: 9 }))).toEqual({
      address: text,
      family: 'IPv6',
      port: 9,
    });
  });

  it('without a name are told by their number', () => {
    const bytes = sockaddrBytes({ sockaddr: sockaddrOfAddress('fe80::1%77777'), port: 9 });
    expect(decodeSockaddr(bytes)).toMatchObject({ address: 'fe80::1%77777' });
  });

  it.each([
    '',
    'nosuch0',
    'constructor',
    'toString',
    '4294967296',
    '-1',
    '1.5',
    '0x2',
    'a%b',
    '2%2',
    ' 2',
    '__proto__',
  ])('named %j are unknown: ERR_INVALID_IP_ADDRESS', (zone) => {
    expect(refusal(() => sockaddrOfAddress(`fe80::1%${zone}`)).code).toBe('ERR_INVALID_IP_ADDRESS');
  });
});

describe('an error of an address says what to do', () => {
  const text = (address: string): string => refusal(() => endpoint(address, 80)).message;

  it.each([
    ['1.2.3.4:80', "give the address and the port apart: '1.2.3.4', 80"],
    ['[1.2.3.4]:80', "give the address and the port apart: '1.2.3.4', 80"],
    ['[::1]:80', "give the address and the port apart: '::1', 80"],
    ['[fe80::1%eth0]:80', "give the address and the port apart: 'fe80::1%eth0', 80"],
    ['1:2:3:4:5:6:7:8:80', "give the address and the port apart: '1:2:3:4:5:6:7:8', 80"],
    ['[::1]', "an address is written without brackets here, '::1'"],
    ['fe80::1%nosuch', 'this host has no interface named "nosuch"'],
    ['fe80::1%', 'this host has no interface named ""'],
    ['127.0.0.1%lo', 'only an IPv6 address has a zone'],
    ['localhost', 'host names are not resolved here: look it up first, with dns.lookup()'],
    ['localhost:80', 'host names are not resolved here'],
    ['1.2.3.4:', 'host names are not resolved here'],
    ['', 'host names are not resolved here'],
  ])('%j', (address, remedy) => {
    expect(text(address)).toContain(`Invalid IP address: ${address} (${remedy}`);
  });

  it('wherever an address is given', () => {
    using socket = DatagramSocket.open({ type: 'udp6' });
    const zone = 'fe80::1%nosuch';
    const from = { payload: 'x', address: '::1', port: 9 };
    const unknown = 'this host has no interface named "nosuch"';
    expect(refusal(() => endpoint('1.2.3.4:80', undefined as never)).code).toBe('ERR_INVALID_IP_ADDRESS');
    for (const [run, code] of [
      [() => endpoint(zone, 9), 'ERR_INVALID_IP_ADDRESS'],
      [() => DatagramSocket.open({ bind: { address: zone } }), 'ERR_INVALID_IP_ADDRESS'],
      [() => DatagramSocket.open({ connect: { address: zone, port: 9 } }), 'ERR_INVALID_IP_ADDRESS'],
      [() => socket.connect(9, zone), 'ERR_INVALID_IP_ADDRESS'],
      [() => socket.sendmmsg([{ payload: 'x', address: zone, port: 9 }]), 'ERR_INVALID_IP_ADDRESS'],
      [() => socket.sendmmsg([{ ...from, from: zone }]), 'ERR_INVALID_IP_ADDRESS'],
      [() => socket.addMembership('ff02::114', '::%nosuch'), 'ENODEV'],
      [() => socket.addMembership('ff02::114%nosuch'), 'ENODEV'],
      [() => socket.setMulticastInterface('::%nosuch'), 'ENODEV'],
      [() => socket.addSourceSpecificMembership('::1', 'ff3e::1234', '::%nosuch'), 'ENODEV'],
    ] as const) {
      const error = refusal(run);
      expect(error.code).toBe(code);
      expect(error.message).toContain(unknown);
    }
  });
});

describe('ports', () => {
  it('from 1 to 65535 pass unchanged, and 0 where any will do', () => {
    for (let port = 1; port < 65_536; port++) if (checkedPort(port) !== port) expect.fail(`${port} was changed`);
    expect(checkedPort(0, 0)).toBe(0);
  });

  it.each([0, -1, 65_536, 2 ** 32 + 80, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '80', 80n, null, undefined, [80]])(
    '%s is refused, not cut to 16 bits: ERR_SOCKET_BAD_PORT',
    (port) => {
      expect(refusal(() => checkedPort(port)).code).toBe('ERR_SOCKET_BAD_PORT');
      expect(refusal(() => endpoint('127.0.0.1', port as number)).code).toBe('ERR_SOCKET_BAD_PORT');
    },
  );
});

describe('endpoint()', () => {
  it('is frozen, keeps what it was given and knows its family', () => {
    const local = endpoint('127.0.0.1', 9);
    expect({ ...local }).toEqual({ address: '127.0.0.1', port: 9, family: 'IPv4' });
    expect(Object.isFrozen(local)).toBe(true);
    expect(endpoint('::1', 9).family).toBe('IPv6');
    expect(Endpoint.sockaddrOf(local)).toBe(sockaddrOfAddress('127.0.0.1'));
  });

  it.each([
    ['127.0.0.1', 4000, '127.0.0.1:4000'],
    ['0.0.0.0', 1, '0.0.0.0:1'],
    ['::1', 4000, '[::1]:4000'],
    ['0:0:0:0:0:0:0:1', 4000, '[::1]:4000'],
    ['0000::0001', 4000, '[::1]:4000'],
    ['::1%0', 4000, '[::1]:4000'],
    ['2001:DB8::A', 65_535, '[2001:db8::a]:65535'],
    ['2001:db8:0:0:1:0:0:1', 9, '[2001:db8::1:0:0:1]:9'],
    ['2001:db8:0:1:1:1:1:1', 9, '[2001:db8:0:1:1:1:1:1]:9'],
    ['::ffff:7f00:1', 9, '[::ffff:127.0.0.1]:9'],
    ['fe80::1%2', 4000, '[fe80::1%2]:4000'],
    ['fe80:0::1%0002', 4000, '[fe80::1%2]:4000'],
    ['fe80::1%4294967295', 9, '[fe80::1%4294967295]:9'],
  ])('has a key, canonical text: of %s and %i it is %s', (address, port, key) => {
    const target = endpoint(address, port);
    expect(target.key).toBe(key);
    expect([target.key, target.address, Object.isFrozen(target)]).toEqual([key, address, true]);
    expect(Object.keys(target)).toEqual(['address', 'port', 'family']);
  });

  it('the key of a zone has the number of its interface, however it is written', () => {
    const index = ifNametoindex('lo') as number;
    for (const zone of ['lo', index]) expect(endpoint(`fe80::1%${zone}`, 9).key).toBe(`[fe80::1%${index}]:9`);
  });

  it('the key is as inet_ntop writes the address', () => {
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 1, max: 65_535 }), (text, port) => {
        expect(endpoint(text, port).key).toBe(`${ntop(AF_INET, pton(AF_INET, text)!)}:${port}`);
      }),
    );
  });

  it('cannot be forged', () => {
    const forged = Object.create(Endpoint.prototype, Object.getOwnPropertyDescriptors(endpoint('127.0.0.1', 9)));
    expect(forged).toBeInstanceOf(Endpoint);
    expect(Endpoint.sockaddrOf(forged as Endpoint)).toBeUndefined();
  });
});

describe('unix paths', () => {
  const bytesOf = (path: string): Uint8Array => sockaddrBytes({ sockaddr: sockaddrOfPath(path) });

  it.each([
    ['a path of 107 bytes', 'p'.repeat(107), 110],
    ['a short path', '/x', 5],
    ['an abstract name of 108 bytes with its NUL', `\0${'a'.repeat(107)}`, 110],
    ['a short abstract name', '\0a', 4],
    ['a path of multi-byte characters', 'é'.repeat(53), 109],
  ])('%s takes a sockaddr of its length', (_what, path, length) => {
    const bytes = bytesOf(path);
    expect(bytes.length).toBe(length);
    expect(new Uint16Array(bytes.slice(0, 2).buffer)[0]).toBe(AF_UNIX);
    expect(decodeSockaddr(bytes)).toEqual({ path });
    if (!path.startsWith('\0')) expect(bytes.at(-1)).toBe(0);
  });

  it.each([
    ['a path of 108 bytes', 'p'.repeat(SUN_PATH_SIZE), 'ENAMETOOLONG'],
    ['54 characters of 2 bytes', 'é'.repeat(54), 'ENAMETOOLONG'],
    ['an abstract name of 109 bytes', `\0${'a'.repeat(108)}`, 'ENAMETOOLONG'],
    ['an empty path', '', 'ERR_INVALID_ARG_VALUE'],
    ['an embedded NUL', '/tmp/a\0b', 'ERR_INVALID_ARG_VALUE'],
    ['a NUL at the end', '/tmp/a\0', 'ERR_INVALID_ARG_VALUE'],
    ['a NUL in an abstract name', '\0a\0b', 'ERR_INVALID_ARG_VALUE'],
    ['a Buffer', Buffer.from('/x'), 'ERR_INVALID_ARG_TYPE'],
    ['nothing', undefined, 'ERR_INVALID_ARG_TYPE'],
  ])('%s is refused', (_what, path, code) => {
    expect(refusal(() => sockaddrOfPath(path)).code).toBe(code);
  });

  it('come back from the kernel form, whatever characters they have', () => {
    const path = fc.string({ unit: fc.constantFrom('a', '/', 'é', '€', '😀', ' '), minLength: 1, maxLength: 26 });
    fc.assert(
      fc.property(path, fc.boolean(), (path, isAbstract) => {
        const name = isAbstract ? `\0${path}` : path;
        expect(decodeSockaddr(bytesOf(name))).toEqual({ path: name });
      }),
    );
  });

  it('never carry a port', () => {
    const sockaddr = sockaddrOfPath('/tmp/portless');
    expect(sockaddrBytes({ sockaddr, port: 0xffff })).toEqual(sockaddrBytes({ sockaddr }));
  });
});

describe('names that the kernel wrote', () => {
  it('of no bytes, or of a family alone, are an empty path', () => {
    expect(decodeSockaddr(new Uint8Array(0))).toEqual({ path: '' });
    expect(decodeSockaddr(Uint8Array.of(AF_UNIX, 0))).toEqual({ path: '' });
  });

  it('may end without a NUL, or with bytes behind it', () => {
    const name = (text: string): Uint8Array => Uint8Array.from([AF_UNIX, 0, ...Buffer.from(text)]);
    expect(decodeSockaddr(name('/x'))).toEqual({ path: '/x' });
    expect(decodeSockaddr(name('/x\0junk'))).toEqual({ path: '/x' });
  });

  it('are read from the middle of a buffer', () => {
    const bytes = sockaddrBytes({ sockaddr: sockaddrOfAddress('1.2.3.4'), port: 80 });
    const inside = Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(5)]).subarray(3, 3 + bytes.length);
    expect(describeName(inside)).toEqual({ address: '1.2.3.4', port: 80 });
    expect(describeName(new Uint8Array(0))).toEqual({});
  });
});

describe.each([2, 3, 4, 8])('%i lanes', (lanes) => {
  it.each<[string, (n: number) => [string, number]]>([
    ['the hosts of a network', (n) => [`192.168.1.${n % 250}`, 5000 + Math.trunc(n / 250)]],
    ['the loopback addresses', (n) => [`127.1.${n >> 8}.${n & 255}`, 9]],
    ['networks', (n) => [`10.${n >> 8}.${n & 255}.1`, 5000]],
    ['the ports of a host', (n) => ['10.0.0.1', 20_000 + n]],
    ['the hosts of an IPv6 network', (n) => [`fd00::${(n + 1).toString(16)}`, 5000]],
  ])('get about as many each of %s', (_what, destinationOf) => {
    const counts = new Array<number>(lanes).fill(0);
    for (let n = 0; n < 1000; n++) {
      const [address, port] = destinationOf(n);
      counts[laneOf(sockaddrOfAddress(address), port, lanes)]!++;
    }
    for (const count of counts) expect(Math.abs(count * lanes - 1000)).toBeLessThan(300);
  });
});
