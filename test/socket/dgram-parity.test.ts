/** What node:dgram has, side by side with node:dgram itself; natively, and through the fallback. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SendmmsgError } from '../../src/kernel/errors.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { opening } from '../support/backend.ts';
import { refusal } from '../support/lower.ts';

type Call = [method: string, ...args: unknown[]];
type Type = 'udp4' | 'udp6';

const hasIPv6 = Object.values(networkInterfaces()).some((entries) => entries?.some(({ address }) => address === '::1'));
const TYPES: readonly Type[] = hasIPv6 ? ['udp4', 'udp6'] : ['udp4'];

const open: { close(): void }[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.close();
});

function ours(options: SocketOptions = {}): DatagramSocket {
  const socket = DatagramSocket.open(options);
  open.push(socket);
  return socket;
}

async function theirs(type: Type): Promise<Socket> {
  const socket = createSocket(type);
  open.push({ close: () => socket.close() });
  socket.bind(0);
  await once(socket, 'listening');
  return socket;
}

/** What calling a method comes to: what it returns, or how it fails. */
function outcome(socket: object, [method, ...args]: Call): object {
  try {
    const value = (socket as Record<string, (...args: unknown[]) => unknown>)[method]!(...args);
    return { value: value === socket ? 'this' : value };
  } catch (error) {
    const { code, errno, syscall, message } = error as NodeJS.ErrnoException;
    if (socket instanceof DatagramSocket) expect(error).toBeInstanceOf(SendmmsgError);
    // Errors of system calls are worded alike, too; an errno is negative in Node and positive here.
    if (errno === undefined || code === 'ERR_SOCKET_BUFFER_SIZE') return { code };
    return { code, errno: socket instanceof DatagramSocket ? errno : -errno, syscall, message };
  }
}

const [ADD, DROP] = ['addMembership', 'dropMembership'];
const [ADD_SOURCE, DROP_SOURCE] = ['addSourceSpecificMembership', 'dropSourceSpecificMembership'];
const NOT_NUMBERS = ['1', undefined, null, true, {}];

/** One after the other on the same socket, on both types. */
const ALIKE: Record<string, readonly Call[]> = {
  setBroadcast: [true, false].map((flag) => ['setBroadcast', flag]),
  setTTL: [1, 64, 255, 0, 256, -1, Number.NaN, Number.POSITIVE_INFINITY, ...NOT_NUMBERS].map((ttl) => ['setTTL', ttl]),
  setMulticastTTL: [0, 1, 64, 255, 256, -1, ...NOT_NUMBERS].map((ttl) => ['setMulticastTTL', ttl]),
  setMulticastLoopback: [true, false].map((flag) => ['setMulticastLoopback', flag]),
  setMulticastInterface: [
    ...['127.0.0.1', '0.0.0.0', '10.1.2.3', '224.0.0.1', '127.0.0.1%lo'],
    ...['::%lo', '::', '::1', '::%0', 'fe80::1'],
    ...['', 'lo', 'localhost', 'nonsense', '256.1.1.1', 5, undefined, null],
  ].map((at) => ['setMulticastInterface', at]),
  'IPv4 memberships': [
    [ADD, '224.0.0.114'],
    [ADD, '224.0.0.114'],
    [ADD, '224.0.0.115', '127.0.0.1'],
    [ADD, '224.0.0.116', '10.9.9.9'],
    [ADD, '224.0.0.117', null],
    [DROP, '224.0.0.114'],
    [DROP, '224.0.0.114'],
    [DROP, '224.0.0.115', '127.0.0.1'],
    [DROP, '224.0.0.116', '10.9.9.9'],
    [DROP, '127.0.0.1'],
  ],
  'IPv6 memberships': [
    [ADD, 'ff02::114', '::%lo'],
    [ADD, 'ff02::114', '::%lo'],
    [ADD, 'ff02::115', 'fe80::1%lo'],
    [ADD, 'ff02::116', '::'],
    [DROP, 'ff02::114', '::%lo'],
    [DROP, 'ff02::114', '::%lo'],
    [DROP, 'ff02::115', '::%lo'],
    [DROP, 'ff02::117', '::%lo'],
  ],
  'bad memberships': [ADD, DROP].flatMap((method): Call[] => [
    [method],
    [method, ''],
    [method, null],
    [method, 'nonsense'],
    [method, 'localhost'],
    [method, '224.0.0.1%lo'],
    [method, '224.0.0.256'],
    [method, '224.0.0.117', '::%lo'],
    [method, '224.0.0.117', 'nosuch'],
    [method, '224.0.0.117', ''],
    [method, 'ff02::118', '127.0.0.1'],
    [method, 'ff02::118', ''],
  ]),
  'no groups': ['127.0.0.1', '1.2.3.4', '0.0.0.0', '::1', '::', 'fe80::1'].map((group) => [ADD, group]),
  'IPv4 source memberships': [
    [ADD_SOURCE, '127.0.0.1', '232.1.1.1'],
    [ADD_SOURCE, '127.0.0.1', '232.1.1.1'],
    [ADD_SOURCE, '127.0.0.1', '232.1.1.2', '127.0.0.1'],
    [ADD_SOURCE, '127.0.0.1', '232.1.1.3', '10.9.9.9'],
    [ADD_SOURCE, '0.0.0.0', '232.1.1.4'],
    [DROP_SOURCE, '127.0.0.1', '232.1.1.1'],
    [DROP_SOURCE, '127.0.0.1', '232.1.1.1'],
    [DROP_SOURCE, '127.0.0.1', '232.1.1.2', '127.0.0.1'],
    [DROP_SOURCE, '127.0.0.1', '232.1.1.3', '10.9.9.9'],
  ],
  'IPv6 source memberships': [
    [ADD_SOURCE, '::1', 'ff3e::1234', '::%lo'],
    [ADD_SOURCE, '::1', 'ff3e::1234', '::%lo'],
    [ADD_SOURCE, 'fd00::9', 'ff3e::1234', '::%lo'],
    [DROP_SOURCE, '::1', 'ff3e::1234', '::%lo'],
    [DROP_SOURCE, '::1', 'ff3e::1234', '::%lo'],
    [DROP_SOURCE, '::1', 'ff3e::1299', '::%lo'],
  ],
  'bad source memberships': [ADD_SOURCE, DROP_SOURCE].flatMap((method): Call[] => [
    [method, '::1', '232.1.1.4'],
    [method, '127.0.0.1', 'ff3e::1237'],
    [method, 'x', '232.1.1.1'],
    [method, '127.0.0.1', 'x'],
    [method, '', ''],
    [method, '127.0.0.1', '127.0.0.2'],
    [method, '127.0.0.1', '232.1.1.5', ''],
    [method, '127.0.0.1', '232.1.1.5', '::%lo'],
    [method, '::1', '::1'],
    [method, 5, '232.1.1.1'],
    [method, '127.0.0.1', 5],
    [method, undefined, '232.1.1.1'],
    [method, '127.0.0.1'],
  ]),
  'buffer sizes': (['Send', 'Recv'] as const).flatMap((which): Call[] => [
    [`get${which}BufferSize`],
    ...[20_000, 1, 2 ** 30, 2 ** 31 - 1].flatMap((size): Call[] => [
      [`set${which}BufferSize`, size],
      [`get${which}BufferSize`],
    ]),
    ...[-1, 1.5, Number.NaN, 2 ** 31, 2 ** 32 - 1, 2 ** 32, Number.POSITIVE_INFINITY, ...NOT_NUMBERS].map(
      (size): Call => [`set${which}BufferSize`, size],
    ),
    [`get${which}BufferSize`],
  ]),
  'a socket without a peer': [['disconnect'], ['remoteAddress']],
  'bad ports': [0, -1, 65_536, 1.5, 'x', undefined, null, {}].map((port) => ['connect', port]),
  'bad peers': [5, null, {}].map((address) => ['connect', 9, address]),
  'ref and unref': [['unref'], ['ref'], ['ref']],
};

describe.each(['native', 'node:dgram'])('%s: as node:dgram', (backend) => {
  beforeEach(() => {
    opening.isNative = backend === 'native';
  });

  describe.each(TYPES)('%s', (type) => {
    it.each(Object.entries(ALIKE))('%s', async (_what, calls) => {
      const [our, their] = [ours({ type, bind: {} }), await theirs(type)];
      expect(DatagramSocket.transportOf(our).backend).toBe(backend === 'native' ? 'sendmmsg' : 'node:dgram');
      for (const call of calls) expect({ call, ...outcome(our, call) }).toEqual({ call, ...outcome(their, call) });
    });

    it('connect, remoteAddress, disconnect', async () => {
      const [our, their] = [ours({ type, bind: {} }), await theirs(type)];
      for (const call of [
        ['connect', 9],
        ['remoteAddress'],
        ['connect', 9],
        ['disconnect'],
        ['disconnect'],
      ] as Call[]) {
        const expected = outcome(their, call);
        if (call[0] === 'connect' && 'value' in expected) await once(their, 'connect');
        expect({ call, ...outcome(our, call) }).toEqual({ call, ...expected });
      }
      expect(outcome(our, ['remoteAddress'])).toEqual(outcome(their, ['remoteAddress']));
    });
  });

  const STRICTER: readonly (readonly [Type, Call, code: string])[] = [
    ['udp4', ['setTTL', 1.5], 'EINVAL'],
    ['udp4', ['setTTL', 2 ** 32 + 5], 'EINVAL'],
    ['udp4', ['setMulticastTTL', Number.NaN], 'EINVAL'],
    ['udp4', ['setMulticastTTL', 2 ** 32 + 5], 'EINVAL'],
    ['udp4', ['setBroadcast', 1], 'ERR_INVALID_ARG_TYPE'],
    ['udp4', ['setBroadcast'], 'ERR_INVALID_ARG_TYPE'],
    ['udp4', ['setMulticastLoopback', 'no'], 'ERR_INVALID_ARG_TYPE'],
    ['udp4', ['setSendBufferSize', 0], 'ERR_SOCKET_BAD_BUFFER_SIZE'],
    ['udp4', ['setRecvBufferSize', 0], 'ERR_SOCKET_BAD_BUFFER_SIZE'],
    ['udp4', [ADD, 5], 'ERR_INVALID_ARG_TYPE'],
    ['udp4', [ADD, { toString: () => '224.0.0.130' }], 'ERR_INVALID_ARG_TYPE'],
    ['udp4', [ADD, '224.0.0.130', 5], 'ERR_INVALID_ARG_TYPE'],
    ['udp4', ['setMulticastInterface', '0.0.0.0\0x'], 'EINVAL'],
    ['udp6', ['setMulticastInterface', '::%nosuch'], 'ENODEV'],
    ['udp6', ['setMulticastInterface', '::%77777'], 'ENODEV'],
    ['udp6', [ADD, 'ff02::114', '::%nosuch'], 'ENODEV'],
    ['udp6', [ADD, 'ff02::114%nosuch'], 'ENODEV'],
    ['udp6', [ADD_SOURCE, '::1', 'ff3e::1', '::%nosuch'], 'ENODEV'],
    ['udp6', [DROP, 'ff02::114', '::%77777'], 'ENODEV'],
    ['udp4', ['connect', '9'], 'ERR_SOCKET_BAD_PORT'],
    ['udp4', ['connect', 9, 'localhost'], 'ERR_INVALID_IP_ADDRESS'],
    ['udp4', ['connect', 9, '::1'], 'EAFNOSUPPORT'],
  ];
  it.each(STRICTER.filter(([type]) => TYPES.includes(type)))('but stricter: %s %j is %s', (type, call, code) => {
    expect(outcome(ours({ type, bind: {} }), call)).toMatchObject({ code });
  });

  const CLOSED: readonly Call[] = [
    ['setBroadcast', true],
    ['setTTL', 1],
    ['setMulticastTTL', 1],
    ['setMulticastLoopback', true],
    ['setMulticastInterface', '127.0.0.1'],
    [ADD, '224.0.0.114'],
    [DROP, '224.0.0.114'],
    [ADD_SOURCE, '127.0.0.1', '232.1.1.1'],
    [DROP_SOURCE, '127.0.0.1', '232.1.1.1'],
    ['getSendBufferSize'],
    ['setSendBufferSize', 1000],
    ['getRecvBufferSize'],
    ['setRecvBufferSize', 1000],
    ['bindToDevice', 'lo'],
    ['connect', 9],
    ['disconnect'],
    ['remoteAddress'],
  ];
  it.each(CLOSED)('%s on a closed socket is ERR_SOCKET_DGRAM_NOT_RUNNING', (...call) => {
    const socket = ours();
    socket.close();
    expect(outcome(socket, call)).toEqual({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
  });

  it('ref and unref on a closed socket do nothing', () => {
    const socket = ours();
    socket.close();
    expect(socket.ref()).toBe(socket);
    expect(socket.unref()).toBe(socket);
  });
});

describe('through node:dgram', () => {
  beforeEach(() => {
    opening.isNative = false;
  });

  it('what it does not have is refused: ERR_FEATURE_UNAVAILABLE_ON_PLATFORM', () => {
    const code = 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM';
    expect(refusal(() => ours().bindToDevice('lo')).code).toBe(code);
    expect(refusal(() => ours({ bindToDevice: 'lo' })).code).toBe(code);
    expect(refusal(() => ours().setDontFragment(true)).code).toBe(code);
    expect(refusal(() => ours().mtu).code).toBe(code);
  });

  it('reusePort shares a port, or is refused by a Node.js that does not know it', () => {
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
    const isKnown = major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12);
    const share = (port = 0): DatagramSocket => ours({ bind: { address: '127.0.0.1', port }, reusePort: true });
    if (!isKnown) return expect(refusal(share).code).toBe('ERR_FEATURE_UNAVAILABLE_ON_PLATFORM');
    const { port } = share().address() as { port: number };
    expect(share(port).address()).toMatchObject({ port });
  });
});

describe('a unix socket', () => {
  beforeEach(() => {
    opening.isNative = true;
  });

  const MEANINGLESS: readonly Call[] = [
    ['setBroadcast', true],
    ['setTTL', 1],
    ['setMulticastTTL', 1],
    ['setMulticastLoopback', true],
    ['setMulticastInterface', '127.0.0.1'],
    [ADD, '224.0.0.114'],
    [DROP, 'ff02::1'],
    [ADD_SOURCE, '127.0.0.1', '232.1.1.1'],
    [DROP_SOURCE, '127.0.0.1', '232.1.1.1'],
    ['bindToDevice', 'lo'],
  ];
  it.each(MEANINGLESS)('has no %s: EOPNOTSUPP', (method, ...args) => {
    const expected = { code: 'EOPNOTSUPP', errno: 95, syscall: method, message: `${method} EOPNOTSUPP` };
    expect(outcome(ours({ type: 'unix' }), [method, ...args] as Call)).toEqual(expected);
  });

  it('is not opened on a device: EOPNOTSUPP', () => {
    expect(refusal(() => ours({ type: 'unix', bindToDevice: 'lo' })).code).toBe('EOPNOTSUPP');
  });

  it('has buffer sizes', () => {
    const socket = ours({ type: 'unix' });
    socket.setSendBufferSize(20_000);
    socket.setRecvBufferSize(30_000);
    expect([socket.getSendBufferSize(), socket.getRecvBufferSize()]).toEqual([40_000, 60_000]);
  });
});
