/** Where a datagram goes, and when its getters run. */
import { describe, expect, it, vi } from 'vitest';
import { AF_INET, AF_INET6, AF_UNIX } from '../../src/kernel/abi.ts';
import { SendmmsgError } from '../../src/kernel/errors.ts';
import { controlOf } from '../../src/message/cmsg.ts';
import type { DatagramLike, Payload } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { endpoint, sockaddrBytes, sockaddrOfAddress, sockaddrOfPath } from '../../src/message/sockaddr.ts';
import { encoded, messagesOf, queueAndBatch, read, refusal } from '../support/lower.ts';

/** An interface that is numbered anew. */
const zone = vi.hoisted(() => ({ index: 0 }));
vi.mock('../../src/message/sockaddr.ts', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../src/message/sockaddr.ts')>();
  const numbered = (address: unknown): unknown =>
    typeof address === 'string' ? address.replace('%by-name', `%${zone.index}`) : address;
  return { ...original, sockaddrOfAddress: (address: unknown) => original.sockaddrOfAddress(numbered(address)) };
});

const HERE = { address: '127.0.0.1', port: 9 };

describe('a destination', () => {
  const v4 = { address: '127.0.0.1', port: 9 };
  const v6 = { address: '::1', port: 9 };
  const unix = { path: '/tmp/x' };
  const [to4, to6] = [{ to: endpoint('127.0.0.1', 9) }, { to: endpoint('::1', 9) }];
  const expectation = (code: string) => (isConnected: boolean) =>
    isConnected ? 'ERR_SOCKET_DGRAM_IS_CONNECTED' : code;
  const [fits, wrongFamily] = [expectation('ok'), expectation('EAFNOSUPPORT')];

  const matrix = [
    {
      socket: 'udp4',
      family: AF_INET,
      rules: [
        [v4, fits],
        [to4, fits],
        [v6, wrongFamily],
        [to6, wrongFamily],
        [unix, wrongFamily],
      ],
    },
    {
      socket: 'udp6',
      family: AF_INET6,
      rules: [
        [v6, fits],
        [to6, fits],
        [v4, wrongFamily],
        [to4, wrongFamily],
        [unix, wrongFamily],
      ],
    },
    {
      socket: 'unix',
      family: AF_UNIX,
      rules: [
        [unix, fits],
        [v4, wrongFamily],
        [to4, wrongFamily],
        [v6, wrongFamily],
        [to6, wrongFamily],
      ],
    },
  ] as const;
  const cases = matrix.flatMap(({ socket, family, rules }) =>
    [false, true].flatMap((isConnected) => [
      { socket, family, isConnected, target: {}, code: isConnected ? 'ok' : 'EDESTADDRREQ' },
      ...rules.map(([target, rule]) => ({ socket, family, isConnected, target, code: rule(isConnected) })),
    ]),
  );

  it.each(cases)(
    '$target on a $socket socket, connected: $isConnected, is $code',
    ({ family, isConnected, target, code }) => {
      const datagram = { payload: 'x', ...target };
      if (code !== 'ok') {
        const error = refusal(() => read(datagram, family, isConnected));
        expect(error.code).toBe(code);
        if (code === 'EAFNOSUPPORT' || code === 'EDESTADDRREQ') {
          expect(error).toMatchObject({ syscall: 'sendmmsg', errno: code === 'EAFNOSUPPORT' ? 97 : 89 });
        }
        return;
      }
      const reader = read(datagram, family, isConnected);
      if (isConnected) return expect(reader.sockaddr).toBeNull();
      const expected =
        family === AF_UNIX ? sockaddrOfPath('/tmp/x') : sockaddrOfAddress(family === AF_INET ? '127.0.0.1' : '::1');
      expect(sockaddrBytes({ sockaddr: reader.sockaddr!, port: reader.port })).toEqual(
        sockaddrBytes({ sockaddr: expected, port: 9 }),
      );
    },
  );

  it.each([
    ['a bare payload on an unconnected socket', 'x', 'EDESTADDRREQ'],
    ['a port without an address', { payload: 'x', port: 9 }, 'EDESTADDRREQ'],
    ['an address without a port', { payload: 'x', address: '127.0.0.1' }, 'ERR_SOCKET_BAD_PORT'],
    ['port 0', { payload: 'x', address: '127.0.0.1', port: 0 }, 'ERR_SOCKET_BAD_PORT'],
    ['port 2**32 + 80', { payload: 'x', address: '127.0.0.1', port: 2 ** 32 + 80 }, 'ERR_SOCKET_BAD_PORT'],
    ['a port in a string', { payload: 'x', address: '127.0.0.1', port: '80' }, 'ERR_SOCKET_BAD_PORT'],
    ['a host name', { payload: 'x', address: 'localhost', port: 9 }, 'ERR_INVALID_IP_ADDRESS'],
    ['an empty address', { payload: 'x', address: '', port: 9 }, 'ERR_INVALID_IP_ADDRESS'],
    ['an address that is a number', { payload: 'x', address: 0x7f000001, port: 9 }, 'ERR_INVALID_ARG_TYPE'],
    ['an address that is null', { payload: 'x', address: null, port: 9 }, 'ERR_INVALID_ARG_TYPE'],
    ['a look-alike of an endpoint', { payload: 'x', to: { ...HERE, family: 'IPv4' } }, 'ERR_INVALID_ARG_TYPE'],
    ['an endpoint and an address', { payload: 'x', ...HERE, to: to4.to }, 'ERR_INVALID_ARG_VALUE'],
    ['an endpoint and a path', { payload: 'x', ...unix, to: to4.to }, 'ERR_INVALID_ARG_VALUE'],
    ['a path and an address', { payload: 'x', ...unix, address: '127.0.0.1' }, 'ERR_INVALID_ARG_VALUE'],
    ['a path and a port', { payload: 'x', ...unix, port: 9 }, 'ERR_INVALID_ARG_VALUE'],
  ])('that is %s is refused', (_what, datagram, code) => {
    expect(refusal(() => read(datagram)).code).toBe(code);
    // Nor does it matter what was read before.
    const reader = read({ payload: 'y', ...HERE });
    expect(refusal(() => reader.read(datagram as DatagramLike)).code).toBe(code);
  });

  it.each([
    ['a path that is a number', { payload: 'x', path: 5 }, 'ERR_INVALID_ARG_TYPE'],
    ['an empty path', { payload: 'x', path: '' }, 'ERR_INVALID_ARG_VALUE'],
    ['a path that is too long', { payload: 'x', path: 'p'.repeat(108) }, 'ENAMETOOLONG'],
  ])('on a unix socket that is %s is refused', (_what, datagram, code) => {
    expect(refusal(() => read(datagram, AF_UNIX)).code).toBe(code);
  });

  it('is read anew each time: the one before does not show through', () => {
    const reader = new DatagramReader(AF_INET, false);
    const other = { address: '127.0.0.2', port: 10 };
    for (const [target, sockaddr, port] of [
      [HERE, '127.0.0.1', 9],
      [{ ...HERE, port: 11 }, '127.0.0.1', 11],
      [other, '127.0.0.2', 10],
      [to4, '127.0.0.1', 9],
      [other, '127.0.0.2', 10],
    ] as const) {
      reader.read({ payload: 'x', ...target });
      expect(reader.sockaddr).toBe(sockaddrOfAddress(sockaddr));
      expect(reader.port).toBe(port);
    }
  });

  it('that is a path is whole even after a refused address with a port', () => {
    const reader = new DatagramReader(AF_UNIX, false);
    expect(refusal(() => reader.read({ payload: 'x', address: '127.0.0.1', port: 0x4142 })).code).toBe('EAFNOSUPPORT');
    reader.read({ payload: 'x', path: '/tmp/x' });
    const { queue, batch } = queueAndBatch({ capacity: 1, maxBytes: 9 }, { nameSize: 110 });
    queue.push(reader, 0, 0);
    expect(messagesOf(batch)[0]!.name.subarray(2, -1).toString()).toBe('/tmp/x');
  });
});

describe('an error of a destination says what to do', () => {
  const messageOf = (datagram: unknown, family: number = AF_INET, isConnected = false): string =>
    refusal(() => read(datagram, family, isConnected)).message;

  it.each([
    [
      AF_INET,
      /^sendmmsg EDESTADDRREQ: give the datagram "address" and "port" \(or "to"\), or open the socket with "connect"$/,
    ],
    [AF_INET6, /^sendmmsg EDESTADDRREQ: give the datagram "address" and "port"/],
    [AF_UNIX, /^sendmmsg EDESTADDRREQ: give the datagram "path", or open the socket with "connect"$/],
  ])('without one, family %i', (family, message) => {
    for (const datagram of ['x', Buffer.from('x'), ['x'], { payload: 'x' }]) {
      expect(messageOf(datagram, family)).toMatch(message);
    }
  });

  it.each<[fields: object, meant: [string, string][]]>([
    [{ host: '127.0.0.1', port: 9 }, [['host', 'address']]],
    [{ hostname: '127.0.0.1', port: 9 }, [['hostname', 'address']]],
    [
      { adress: '127.0.0.1', Port: 9 },
      [
        ['adress', 'address'],
        ['Port', 'port'],
      ],
    ],
    [{ adress: undefined }, [['adress', 'address']]],
    [{ destination: 5 }, [['destination', 'to']]],
    [{ fileName: '/x' }, [['fileName', 'path']]],
  ])('what looks like one: %o', (fields, meant) => {
    const message = messageOf({ payload: 'x', ...fields });
    for (const [name, field] of meant) expect(message).toContain(`it has "${name}": did you mean "${field}"?`);
    expect(message.match(/did you mean/g)).toHaveLength(meant.length);
  });

  it.each([
    ['other names', { payload: 'x', dscp: 0, timestamp: 5, tags: [] }],
    ['inherited ones', Object.create({ payload: 'x', host: 'a' })],
    ['hidden ones', Object.defineProperty({ payload: 'x' }, 'host', { value: 'a' })],
    ['a very long one', { payload: 'x', [`host${'x'.repeat(100_000)}`]: 1 }],
  ])('%s do not look like one', (_what, datagram) => {
    expect(messageOf(datagram)).not.toContain('did you mean');
  });

  it('runs no getter and no trap to find out', () => {
    const getter = Object.defineProperty({ payload: 'x' }, 'host', {
      enumerable: true,
      get: () => expect.unreachable(),
    });
    expect(messageOf(getter)).toContain('"host"');
    const asked: string[] = [];
    const handler = new Proxy({} as ProxyHandler<object>, {
      get(_target, trap) {
        asked.push(String(trap));
        return undefined;
      },
    });
    expect(messageOf(new Proxy({ payload: 'x', host: 'a' }, handler))).toMatch(/^sendmmsg EDESTADDRREQ/);
    expect(new Set(asked)).toEqual(new Set(['get']));
  });

  it.each([
    [HERE, AF_INET6, "127.0.0.1:9: an IPv4 address on a udp6 socket; open the socket with type 'udp4'"],
    [HERE, AF_UNIX, "127.0.0.1:9: an IPv4 address on a unix socket; open the socket with type 'udp4'"],
    [
      { address: '::1', port: 9 },
      AF_INET,
      "[::1]:9: an IPv6 address on a udp4 socket; open the socket with type 'udp6'",
    ],
    [
      { to: endpoint('::1', 9) },
      AF_INET,
      "[::1]:9: an IPv6 address on a udp4 socket; open the socket with type 'udp6'",
    ],
    [{ path: '/x' }, AF_INET, "/x: a path on a udp4 socket; open the socket with type 'unix'"],
    [{ path: '/x' }, AF_INET6, "/x: a path on a udp6 socket; open the socket with type 'unix'"],
    [
      { ...HERE, from: '::1' },
      AF_INET,
      '"from" is ::1, an IPv6 address on a udp4 socket; open the socket with type \'udp6\'',
    ],
  ])('%o on a socket of family %i', (target, family, message) => {
    const separator = 'from' in target ? ': ' : ' ';
    expect(messageOf({ payload: 'x', ...target }, family)).toBe(`sendmmsg EAFNOSUPPORT${separator}${message}`);
  });

  it('on a connected socket', () => {
    const reader = new DatagramReader(AF_INET, true);
    const remedy = /^Already connected: .* bare payloads, or open it without "connect"$/;
    expect(refusal(() => reader.read({ payload: 'x', ...HERE })).message).toMatch(remedy);
    reader.readShared('x');
    expect(refusal(() => reader.readPeer(endpoint('127.0.0.1', 9))).message).toMatch(remedy);
  });
});

describe('control', () => {
  const reader = new DatagramReader(AF_INET, false);
  const controlAfter = (fields: object): unknown => {
    reader.read({ payload: 'x', ...HERE, ...fields });
    return reader.control;
  };

  it('is read anew each time: that of the one before does not show through', () => {
    const [voice, ect, source] = [{ dscp: 46 }, { dscp: 46, ecn: 2 }, { dscp: 46, from: '127.0.0.2' }];
    const kinds = [{}, voice, ect, source];
    for (const before of kinds) {
      for (const after of kinds) {
        for (const other of [{}, { port: 10 }, { payload: [] }]) {
          controlAfter(before);
          const { dscp, ecn, from } = after as Record<string, unknown>;
          expect(controlAfter({ ...other, ...after })).toBe(controlOf(AF_INET, dscp, ecn, from));
        }
      }
    }
  });

  it('is none of a bare payload, on a connected socket', () => {
    const connected = new DatagramReader(AF_INET, true);
    connected.read({ payload: 'x', dscp: 46 });
    expect(connected.control).toBe(controlOf(AF_INET, 46, undefined, undefined));
    for (const bare of ['x', Buffer.from('x'), ['x']]) {
      connected.read({ payload: 'x', dscp: 46 });
      connected.read(bare);
      expect(connected.control).toBeNull();
    }
  });

  it('has the zone of its source looked up each time', () => {
    const wide = new DatagramReader(AF_INET6, false);
    const datagram = { payload: 'x', address: '::1', port: 9, from: 'fe80::1%by-name' };
    for (const index of [3, 4, 3]) {
      zone.index = index;
      wide.read(datagram);
      expect(wide.control).toBe(controlOf(AF_INET6, undefined, undefined, `fe80::1%${index}`));
    }
  });

  it.each([
    ['dscp 64', { dscp: 64 }, 'ERR_OUT_OF_RANGE'],
    ['dscp -1', { dscp: -1 }, 'ERR_OUT_OF_RANGE'],
    ['dscp 1.5', { dscp: 1.5 }, 'ERR_OUT_OF_RANGE'],
    ['dscp NaN', { dscp: Number.NaN }, 'ERR_OUT_OF_RANGE'],
    ["dscp '1'", { dscp: '1' }, 'ERR_INVALID_ARG_TYPE'],
    ['dscp null', { dscp: null }, 'ERR_INVALID_ARG_TYPE'],
    ['ecn 4', { ecn: 4 }, 'ERR_OUT_OF_RANGE'],
    ['a host name as source', { from: 'localhost' }, 'ERR_INVALID_IP_ADDRESS'],
    ['a source of the other family', { from: '::1' }, 'EAFNOSUPPORT'],
  ])('that is bad is refused each time, and shows nothing: %s', (_what, fields, code) => {
    for (const before of [{}, { dscp: 46 }]) {
      controlAfter(before);
      for (const payload of ['x', ['x', 'y']]) {
        expect(refusal(() => controlAfter({ payload, ...fields })).code).toBe(code);
        expect(reader.identify()).toEqual({ ...HERE, payload: new Uint8Array(Buffer.from([payload].flat().join(''))) });
      }
      expect(controlAfter({})).toBeNull();
    }
  });

  it('is refused where it cannot be sent, after what is bad', () => {
    const without = new DatagramReader(AF_INET, false, false);
    const attempt = (fields: object): string => refusal(() => without.read({ payload: 'x', ...HERE, ...fields })).code;
    for (const fields of [{ dscp: 0 }, { ecn: 1 }, { from: '127.0.0.1' }]) {
      expect(attempt(fields)).toBe('ERR_FEATURE_UNAVAILABLE_ON_PLATFORM');
    }
    expect(attempt({ dscp: 64 })).toBe('ERR_OUT_OF_RANGE');
    without.read({ payload: 'x', ...HERE, dscp: undefined, ecn: undefined, from: undefined });
    expect(without.control).toBeNull();
  });
});

describe('getters', () => {
  it('are read once each, before anything else happens', () => {
    const reads: string[] = [];
    const counted = (values: Record<string, unknown>): DatagramLike => {
      const datagram = {};
      for (const [key, value] of Object.entries(values)) {
        const get = (): unknown => {
          reads.push(key);
          return value;
        };
        Object.defineProperty(datagram, key, { get });
      }
      return datagram as DatagramLike;
    };
    const list: Payload[] = ['a', 'b'];
    for (const index of [0, 1]) {
      const value = list[index];
      const get = (): unknown => {
        reads.push(String(index));
        return value;
      };
      Object.defineProperty(list, index, { get });
    }
    const reader = read(
      counted({
        payload: list,
        address: '127.0.0.1',
        port: 9,
        path: undefined,
        to: undefined,
        dscp: 1,
        ecn: 1,
        from: '127.0.0.1',
      }),
    );
    expect(encoded(reader).toString()).toBe('ab');
    reader.identify();
    expect(reads.toSorted()).toEqual(['0', '1', 'address', 'dscp', 'ecn', 'from', 'path', 'payload', 'port', 'to']);
  });

  it.each(['payload', 'address', 'port', 'path', 'to', 'dscp', 'ecn', 'from'])(
    'that throw are one refusal, with the cause: %s',
    (key) => {
      const cause = new Error('from the getter');
      const datagram = Object.defineProperty({ payload: 'x', ...HERE }, key, {
        get() {
          throw cause;
        },
      });
      const reader = new DatagramReader(AF_INET, false);
      const error = refusal(() => reader.read(datagram));
      expect(error.code).toBe('ERR_INVALID_ARG_VALUE');
      expect(error.cause).toBe(cause);
      expect(reader.identify().payload).toEqual(new Uint8Array(0));
    },
  );

  it('of a list that throw are one refusal, with the cause', () => {
    const cause = new Error('from the list');
    const list = new Proxy(['a', 'b'], {
      get(target, key, receiver) {
        if (key === '1') throw cause;
        return Reflect.get(target, key, receiver) as unknown;
      },
    });
    expect(refusal(() => read({ payload: list, ...HERE })).cause).toBe(cause);
    expect(refusal(() => read(list, AF_INET, true)).cause).toBe(cause);
  });

  it('of a refused value are never called: not its toString, not its inspect', () => {
    const calls: string[] = [];
    const hostile = {
      toString: () => void calls.push('toString'),
      [Symbol.toPrimitive]: () => void calls.push('toPrimitive'),
      [Symbol.for('nodejs.util.inspect.custom')]: () => void calls.push('inspect'),
    };
    for (const key of ['payload', 'address', 'port', 'path', 'to', 'dscp', 'ecn', 'from']) {
      for (const family of [AF_INET, AF_UNIX]) {
        expect(refusal(() => read({ payload: 'x', [key]: hostile }, family)).code).toMatch(
          /^(ERR_|EDESTADDRREQ|EAFNOSUPPORT)/,
        );
      }
    }
    const only = (key: string): unknown => ({ payload: 'x', [key]: hostile });
    for (const key of ['address', 'path', 'to'])
      expect(refusal(() => read(only(key))).code).toBe('ERR_INVALID_ARG_TYPE');
    expect(calls).toEqual([]);
  });

  it('of a revoked proxy are one refusal', () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    expect(refusal(() => read(proxy)).code).toBe('ERR_INVALID_ARG_VALUE');
  });
});

describe('identify()', () => {
  it.each([
    ['an address', { payload: 'x', address: 'localhost', port: 5 }, { address: 'localhost', port: 5 }],
    ['an endpoint', { payload: 'x', to: endpoint('::1', 7) }, { address: '::1', port: 7 }],
    ['a path', { payload: 'x', path: '/a' }, { path: '/a' }],
    [
      'a bad port, as it was',
      { payload: 'x', address: '127.0.0.1', port: 70_000 },
      { address: '127.0.0.1', port: 70_000 },
    ],
    ['only what has the right type', { payload: 'x', address: 5, port: '5' }, {}],
    ['nothing of the datagram before', 'x', {}],
  ])('tells %s', (_what, datagram, expected) => {
    const reader = read({ payload: 'before', ...HERE });
    expect(() => reader.read(datagram as DatagramLike)).toThrow(SendmmsgError);
    expect(reader.identify()).toEqual({ ...expected, payload: new Uint8Array(Buffer.from('x')) });
  });

  it('tells where a list that cannot be read was going', () => {
    const reader = new DatagramReader(AF_INET, false);
    expect(() => reader.read({ payload: [['nested']] as never, ...HERE })).toThrow(SendmmsgError);
    expect(reader.identify()).toEqual({ ...HERE, payload: new Uint8Array(0) });
  });

  it('holds no bytes after clear()', () => {
    const reader = read({ payload: Buffer.from('secret'), ...HERE });
    reader.clear();
    expect(reader.identify().payload.length).toBe(0);
    expect(reader.bytes.length + reader.text.length + reader.parts.length).toBe(0);
  });
});
