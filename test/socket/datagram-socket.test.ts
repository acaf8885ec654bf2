/** A socket's life, on the real kernel. */
import { constants, existsSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { describe, expect, it } from 'vitest';
import {
  AF_INET,
  AF_UNIX,
  SO_BROADCAST,
  SO_RCVBUF,
  SO_REUSEADDR,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOL_SOCKET,
} from '../../src/kernel/abi.ts';
import { SendmmsgError } from '../../src/kernel/errors.ts';
import { libc } from '../../src/kernel/libc.ts';
import { sockaddrBytes, sockaddrOfAddress, sockaddrOfPath } from '../../src/message/sockaddr.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { freshPath, Inbox, openDescriptors, refusal } from '../support/lower.ts';

const SOCK_STREAM = 1;
const [F_GETFD, F_GETFL] = [1, 3];
const calls = libc()!;
const hasIPv6 = Object.values(networkInterfaces()).some((entries) => entries?.some(({ address }) => address === '::1'));
const LOCAL = { address: '127.0.0.1' };

/** Runs, and says how many descriptors are open that were not before. */
function leaked(run: () => void): number {
  const before = openDescriptors();
  run();
  return openDescriptors() - before;
}
openDescriptors(); // whatever the first look opens for good

describe('open', () => {
  it('without options gives an unbound udp4 socket', () => {
    using socket = DatagramSocket.open();
    expect(socket.address()).toEqual({ address: '0.0.0.0', family: 'IPv4', port: 0 });
    expect(socket.closed).toBe(false);
  });

  it('binds udp4 to an address and any port', () => {
    using socket = DatagramSocket.open({ bind: LOCAL });
    expect(socket.address()).toEqual({ ...LOCAL, family: 'IPv4', port: expect.any(Number) });
    expect((socket.address() as { port: number }).port).toBeGreaterThan(0);
  });

  it.skipIf(!hasIPv6)('binds udp6, and connects it', () => {
    using peer = DatagramSocket.open({ type: 'udp6', bind: { address: '::1' } });
    const { address, port } = peer.address() as { address: string; port: number };
    expect(address).toBe('::1');
    using socket = DatagramSocket.open({ type: 'udp6', connect: { address, port } });
    expect(socket.address()).toMatchObject({ address: '::1', family: 'IPv6' });
    expect(socket.sendmmsg(['x']).sent).toBe(1);
  });

  it.skipIf(!hasIPv6)('keeps udp4 off the port of a udp6 socket that is bound to any address, unless ipv6Only', () => {
    using dual = DatagramSocket.open({ type: 'udp6', bind: {} });
    const { port } = dual.address() as { port: number };
    expect(refusal(() => DatagramSocket.open({ bind: { port } })).code).toBe('EADDRINUSE');
    using only = DatagramSocket.open({ type: 'udp6', bind: {}, ipv6Only: true });
    DatagramSocket.open({ bind: { port: (only.address() as { port: number }).port } }).close();
  });

  it.each([
    ['a path', freshPath()],
    ['an abstract name', `\0rx-sendmmsg-${process.pid}`],
  ])('binds a unix socket to %s, and connects another to it', async (_what, path) => {
    using inbox = new Inbox({ type: 'unix', bind: { path } });
    expect(inbox.socket.address()).toEqual({ path });
    using socket = DatagramSocket.open({ type: 'unix', connect: { path } });
    expect(socket.address()).toEqual({ path: '' });
    expect(socket.sendmmsg(['a', '', 'c']).lengths).toEqual([1, 0, 1]);
    expect(await inbox.receiveText(3)).toEqual(['a', '', 'c']);
  });

  it('sets the socket options that it was given', () => {
    const options = { reuseAddr: true, broadcast: true, sendBufferSize: 20_000, recvBufferSize: 30_000 };
    using socket = DatagramSocket.open(options);
    const { fd } = DatagramSocket.nativeOf(socket);
    const values = [SO_REUSEADDR, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF].map((name) =>
      calls.getsockopt(fd, SOL_SOCKET, name),
    );
    expect(values).toEqual([1, 1, 40_000, 60_000]); // the kernel doubles sizes
  });

  it.each(['reusePort', 'reuseAddr'])('lets two sockets share a port with %s', (option) => {
    using first = DatagramSocket.open({ bind: LOCAL, [option]: true });
    const bind = { ...LOCAL, port: (first.address() as { port: number }).port };
    DatagramSocket.open({ bind, [option]: true }).close();
    expect(refusal(() => DatagramSocket.open({ bind })).code).toBe('EADDRINUSE');
  });

  const path = freshPath();
  const v4 = { ...LOCAL, port: 9 };
  const v6 = { address: '::1', port: 9 };
  it.each<[options: SocketOptions, local: object]>([
    [{ bind: { path } }, { path }],
    [{ bind: {}, connect: v4 }, { family: 'IPv4' }],
    [{ bind: { port: 0 } }, { family: 'IPv4' }],
    [{ connect: v4 }, { family: 'IPv4' }],
    ...(hasIPv6
      ? ([
          [{ bind: { address: '::' } }, { address: '::', family: 'IPv6' }],
          [{ connect: v6 }, { address: '::1', family: 'IPv6' }],
          [
            { bind: {}, connect: v6 },
            { address: '::1', family: 'IPv6' },
          ],
          [
            { bind: { address: '::1' }, connect: v6 },
            { address: '::1', family: 'IPv6' },
          ],
        ] satisfies [SocketOptions, object][])
      : []),
  ])('without a type opens what bind or connect are for: %j', (options, local) => {
    using socket = DatagramSocket.open(options);
    expect(socket.address()).toMatchObject(local);
  });

  it('without a type connects to a path', async () => {
    using inbox = new Inbox({ bind: { path: freshPath() } });
    using socket = DatagramSocket.open({ connect: inbox.socket.address() as { path: string } });
    expect(socket.sendmmsg(['x']).sent).toBe(1);
    expect(await inbox.receiveText(1)).toEqual(['x']);
  });

  it.each<[options: object, code: string]>([
    [{ bind: { address: '::1' }, connect: v4 }, 'EAFNOSUPPORT'],
    [{ bind: { address: '0.0.0.0' }, connect: v6 }, 'EAFNOSUPPORT'],
    [{ bind: { path: '/x' }, connect: v4 }, 'ERR_INVALID_ARG_VALUE'],
    [{ bind: LOCAL, connect: { path: '/x' } }, 'ERR_INVALID_ARG_VALUE'],
  ])('without a type names both where bind and connect disagree: %j', (options, code) => {
    const error = refusal(() => DatagramSocket.open(options));
    expect(error.code).toBe(code);
    for (const name of ['"options.bind"', '"options.connect"']) expect(error.message).toContain(name);
    if (code === 'EAFNOSUPPORT') expect(error.message).toMatch(/^bind EAFNOSUPPORT/);
  });

  it('reads bind and connect once', () => {
    const reads: string[] = [];
    const counted = (values: Record<string, unknown>): object => {
      const object = {};
      for (const [key, value] of Object.entries(values)) {
        const get = (): unknown => {
          reads.push(key);
          return value;
        };
        Object.defineProperty(object, key, { get });
      }
      return object;
    };
    const bind = counted({ address: '127.0.0.1', port: 0, path: undefined });
    DatagramSocket.open(counted({ type: undefined, bind, connect: undefined })).close();
    expect(reads.toSorted()).toEqual(['address', 'bind', 'connect', 'path', 'port', 'type']);
  });

  const refused: [what: string, options: object, code: string, message: RegExp][] = [
    ['an address in use', { bind: { address: '192.0.2.1' } }, 'EADDRNOTAVAIL', /^bind EADDRNOTAVAIL 192\.0\.2\.1:0$/],
    [
      'a peer that is not there',
      { type: 'unix', connect: { path: '/nonexistent/s' } },
      'ENOENT',
      /^connect ENOENT \/nonexistent\/s$/,
    ],
    [
      'a broadcast peer',
      { connect: { address: '255.255.255.255', port: 9 } },
      'EACCES',
      /^connect EACCES 255\.255\.255\.255:9$/,
    ],
  ];
  it.each(refused)('throws what the kernel says, and leaks no descriptor: %s', (_what, options, code, message) => {
    const lost = leaked(() => {
      for (let count = 0; count < 20; count++) {
        const error = refusal(() => DatagramSocket.open(options));
        expect(error).toMatchObject({ code, message: expect.stringMatching(message), errno: expect.any(Number) });
      }
    });
    expect(lost).toBe(0);
  });

  it('leaves no path behind when it fails after bind', () => {
    const path = freshPath();
    const options: SocketOptions = { type: 'unix', bind: { path }, connect: { path: '/nonexistent/s' } };
    expect(refusal(() => DatagramSocket.open(options)).code).toBe('ENOENT');
    expect(existsSync(path)).toBe(false);
  });

  it('never removes a path that it did not make', () => {
    const path = freshPath();
    using _owner = DatagramSocket.open({ type: 'unix', bind: { path } });
    expect(refusal(() => DatagramSocket.open({ type: 'unix', bind: { path } })).code).toBe('EADDRINUSE');
    expect(existsSync(path)).toBe(true);
  });

  const bad: [options: unknown, code: string, names: string][] = [
    [null, 'ERR_INVALID_ARG_TYPE', 'options'],
    ['udp4', 'ERR_INVALID_ARG_TYPE', 'options'],
    [{ type: 'udp5' }, 'ERR_SOCKET_BAD_TYPE', 'type.*udp5'],
    [{ type: null }, 'ERR_SOCKET_BAD_TYPE', 'type.*null'],
    [{ type: ['udp4'] }, 'ERR_SOCKET_BAD_TYPE', 'type.*Array'],
    [{ bind: 5 }, 'ERR_INVALID_ARG_TYPE', 'bind.*5'],
    [{ bind: null }, 'ERR_INVALID_ARG_TYPE', 'bind.*null'],
    [{ bind: { port: 65_536 } }, 'ERR_SOCKET_BAD_PORT', 'bind.*65536'],
    [{ bind: { port: '80' } }, 'ERR_SOCKET_BAD_PORT', 'bind.*80'],
    [{ bind: { address: 'localhost' } }, 'ERR_INVALID_IP_ADDRESS', 'bind.*localhost'],
    [{ bind: { address: 5 } }, 'ERR_INVALID_ARG_TYPE', 'bind.*5'],
    [{ type: 'udp4', bind: { address: '::1' } }, 'EAFNOSUPPORT', "^bind.*::1.*udp4.*open the socket with type 'udp6'"],
    [{ type: 'udp6', bind: LOCAL }, 'EAFNOSUPPORT', "^bind.*127.*udp6.*open the socket with type 'udp4'"],
    [{ type: 'udp4', connect: { address: '::1', port: 9 } }, 'EAFNOSUPPORT', "^connect .*::1.*type 'udp6'"],
    [{ type: 'udp4', bind: { path: '/x' } }, 'ERR_INVALID_ARG_VALUE', "bind.*udp4.*a path needs type 'unix'"],
    [{ type: 'udp6', connect: { path: '/x' } }, 'ERR_INVALID_ARG_VALUE', "connect.*udp6.*a path needs type 'unix'"],
    [{ bind: { path: '/x', ...LOCAL } }, 'ERR_INVALID_ARG_VALUE', 'bind'],
    [{ bind: { path: '/x', port: 9 } }, 'ERR_INVALID_ARG_VALUE', 'bind'],
    [{ bind: { path: 5 } }, 'ERR_INVALID_ARG_TYPE', 'bind.*path.*5'],
    [{ connect: {} }, 'ERR_INVALID_ARG_TYPE', 'connect.*undefined'],
    [{ connect: { ...LOCAL } }, 'ERR_SOCKET_BAD_PORT', 'connect.*undefined'],
    [{ connect: { ...LOCAL, port: 0 } }, 'ERR_SOCKET_BAD_PORT', 'connect.*0'],
    [{ connect: { address: 'example.com', port: 9 } }, 'ERR_INVALID_IP_ADDRESS', 'connect.*example\\.com'],
    [{ type: 'unix', bind: LOCAL }, 'ERR_INVALID_ARG_VALUE', "bind.*unix.*an address needs type 'udp4' or 'udp6'"],
    [{ type: 'unix', bind: {} }, 'ERR_INVALID_ARG_TYPE', 'bind.*undefined'],
    [{ type: 'unix', bind: { path: '' } }, 'ERR_INVALID_ARG_VALUE', 'bind'],
    [{ type: 'unix', connect: { path: 'p'.repeat(108) } }, 'ENAMETOOLONG', 'connect.*ppp'],
    [{ reuseAddr: 1 }, 'ERR_INVALID_ARG_TYPE', 'reuseAddr.*1'],
    [{ reusePort: 'yes' }, 'ERR_INVALID_ARG_TYPE', 'reusePort.*yes'],
    [{ ipv6Only: null }, 'ERR_INVALID_ARG_TYPE', 'ipv6Only.*null'],
    [{ broadcast: 0 }, 'ERR_INVALID_ARG_TYPE', 'broadcast.*0'],
    [{ sendBufferSize: '1' }, 'ERR_INVALID_ARG_TYPE', 'sendBufferSize.*1'],
    [{ sendBufferSize: 0 }, 'ERR_SOCKET_BAD_BUFFER_SIZE', 'sendBufferSize.*0'],
    [{ recvBufferSize: 1.5 }, 'ERR_SOCKET_BAD_BUFFER_SIZE', 'recvBufferSize.*1\\.5'],
    [{ recvBufferSize: 2 ** 31 }, 'ERR_SOCKET_BAD_BUFFER_SIZE', 'recvBufferSize.*2147483648'],
  ];
  it.each(bad)('throws at once for %j: %s, naming the option and the value', (options, code, names) => {
    const lost = leaked(() => {
      const error = refusal(() => DatagramSocket.open(options as SocketOptions));
      expect(error).toBeInstanceOf(SendmmsgError);
      expect(error.code).toBe(code);
      expect(error.message).toMatch(new RegExp(names));
    });
    expect(lost).toBe(0);
  });
});

describe('close', () => {
  it('gives the descriptor back, once, whichever way it is called', () => {
    const lost = leaked(() => {
      for (let count = 0; count < 50; count++) {
        using socket = DatagramSocket.open({ bind: LOCAL });
        if (count % 2 === 0) socket.close();
        if (count % 4 === 0) socket.close();
      }
    });
    expect(lost).toBe(0);
  });

  it('the second time does not close a descriptor that has been opened since', () => {
    const socket = DatagramSocket.open();
    const { fd } = DatagramSocket.nativeOf(socket);
    socket.close();
    using other = DatagramSocket.open({ bind: LOCAL });
    expect(DatagramSocket.nativeOf(other).fd).toBe(fd);
    socket.close();
    socket[Symbol.dispose]();
    expect(other.address()).toMatchObject(LOCAL);
  });

  it.each<[call: string, run: (socket: DatagramSocket) => unknown]>([
    ['address()', (socket) => socket.address()],
    ['remoteAddress()', (socket) => socket.remoteAddress()],
    ['connect()', (socket) => socket.connect(9)],
    ['disconnect()', (socket) => socket.disconnect()],
    ['lend()', (socket) => socket.lend()],
    ['sendmmsg()', (socket) => socket.sendmmsg(['x'])],
    ['sendmmsg() of nothing', (socket) => socket.sendmmsg([])],
    ['bindToDevice()', (socket) => socket.bindToDevice('lo')],
    ['setBroadcast()', (socket) => socket.setBroadcast(true)],
    ['setTTL()', (socket) => socket.setTTL(1)],
    ['addMembership()', (socket) => socket.addMembership('224.0.0.114')],
    ['getSendBufferSize()', (socket) => socket.getSendBufferSize()],
    ['setRecvBufferSize()', (socket) => socket.setRecvBufferSize(9000)],
    ['a sender', (socket) => new BatchSender(socket)],
  ])('is seen in `closed`; after it %s throws ERR_SOCKET_DGRAM_NOT_RUNNING, and says what to do', (_call, run) => {
    const socket = DatagramSocket.open({ connect: { ...LOCAL, port: 9 } });
    socket.close();
    expect(socket.closed).toBe(true);
    expect(refusal(() => run(socket))).toMatchObject({
      code: 'ERR_SOCKET_DGRAM_NOT_RUNNING',
      message: 'Not running: the socket is closed; open a new one',
    });
    socket.ref().unref().close();
    socket[Symbol.dispose]();
    expect(socket.closed).toBe(true);
  });

  it('removes the path that bind made, and only that', () => {
    const path = freshPath();
    DatagramSocket.open({ type: 'unix', bind: { path } }).close();
    expect(existsSync(path)).toBe(false);
    using _again = DatagramSocket.open({ type: 'unix', bind: { path } });
    expect(existsSync(path)).toBe(true);
  });
});

describe('lend', () => {
  it('receives replies on the port that was sent from', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = DatagramSocket.open({ bind: LOCAL });
    const lent = socket.lend();
    try {
      const { port } = socket.address() as { port: number };
      const message = new Promise<string>((resolve) => lent.once('message', (bytes) => resolve(String(bytes))));
      expect(socket.sendmmsg([{ payload: 'ping', ...inbox.endpoint }]).sent).toBe(1);
      expect(await inbox.receiveText(1)).toEqual(['ping']);
      expect(inbox.socket.sendmmsg([{ payload: 'pong', ...LOCAL, port }]).sent).toBe(1);
      expect(await message).toBe('pong');
      expect(lent.address().port).toBe(port);
    } finally {
      lent.close();
    }
  });

  it.each(['udp4', 'udp6'] as const)('binds an unbound %s socket to any port first', async (type) => {
    if (type === 'udp6' && !hasIPv6) return;
    using socket = DatagramSocket.open({ type });
    const lent = socket.lend();
    expect((socket.address() as { port: number }).port).toBeGreaterThan(0);
    expect(lent.address().port).toBe((socket.address() as { port: number }).port);
    await new Promise<void>((resolve) => lent.close(resolve));
    expect(socket.closed).toBe(false);
  });

  it('and the socket are closed apart, and leak nothing', async () => {
    const before = openDescriptors();
    const socket = DatagramSocket.open({ bind: LOCAL });
    const lent = socket.lend();
    socket.close();
    expect(lent.address()).toMatchObject(LOCAL);
    await new Promise<void>((resolve) => lent.close(resolve));
    expect(openDescriptors()).toBe(before);
  });

  it('is not for unix sockets: EAFNOSUPPORT', () => {
    using socket = DatagramSocket.open({ type: 'unix' });
    expect(refusal(() => socket.lend()).code).toBe('EAFNOSUPPORT');
  });
});

describe('fromFd', () => {
  it('works on a duplicate: either may be closed first', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    const original = calls.socket(AF_INET, SOCK_DGRAM, 0);
    const { address, port } = inbox.endpoint;
    expect(calls.connect(original, sockaddrBytes({ sockaddr: sockaddrOfAddress(address), port }))).toBe(0);
    using socket = DatagramSocket.fromFd(original);
    using other = DatagramSocket.fromFd(original);
    other.close();
    expect(calls.close(original)).toBe(0);
    expect(socket.sendmmsg(['still']).sent).toBe(1);
    expect(await inbox.receiveText(1)).toEqual(['still']);
  });

  it.each([
    ['a blocking one', SOCK_DGRAM],
    ['a non-blocking one', SOCK_DGRAM | constants.O_NONBLOCK],
  ])('leaves the flags of the original alone, and never blocks on it: %s', (_what, type) => {
    using inbox = new Inbox({ type: 'unix', bind: { path: freshPath() } });
    const original = calls.socket(AF_UNIX, type, 0);
    try {
      const { path } = inbox.socket.address() as { path: string };
      calls.connect(original, sockaddrBytes({ sockaddr: sockaddrOfPath(path) }));
      const flags = (): number[] => [F_GETFD, F_GETFL].map((command) => calls.fcntl(original, command, 0));
      const before = flags();
      using socket = DatagramSocket.fromFd(original);
      const { sent } = socket.sendmmsg(new Array(1000).fill('x'));
      expect(sent).toBeLessThan(1000);
      expect(refusal(() => socket.sendmmsg(['x'])).code).toBe('EAGAIN');
      expect(flags()).toEqual(before);
    } finally {
      calls.close(original);
    }
  });

  it('refuses what is no datagram socket, and leaks nothing', () => {
    const stream = calls.socket(AF_INET, SOCK_STREAM, 0);
    const unixStream = calls.socket(AF_UNIX, SOCK_STREAM, 0);
    const path = freshPath();
    writeFileSync(path, '');
    const file = openSync(path, 'r');
    rmSync(path);
    const lost = leaked(() => {
      for (const fd of [stream, unixStream, file]) {
        expect(refusal(() => DatagramSocket.fromFd(fd)).code).toBe('ERR_INVALID_FD_TYPE');
      }
    });
    for (const fd of [stream, unixStream, file]) expect(calls.close(fd)).toBe(0);
    expect(lost).toBe(0);
  });

  it('answers EBADF for a descriptor that is closed', () => {
    const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
    calls.close(fd);
    expect(refusal(() => DatagramSocket.fromFd(fd))).toMatchObject({ code: 'EBADF', syscall: 'fcntl' });
  });

  it.each([
    [-1, 'ERR_OUT_OF_RANGE'],
    [1.5, 'ERR_OUT_OF_RANGE'],
    [Number.NaN, 'ERR_OUT_OF_RANGE'],
    [2 ** 31, 'ERR_OUT_OF_RANGE'],
    ['3', 'ERR_INVALID_ARG_TYPE'],
    [undefined, 'ERR_INVALID_ARG_TYPE'],
  ])('refuses %s: %s', (fd, code) => {
    expect(refusal(() => DatagramSocket.fromFd(fd as number)).code).toBe(code);
  });
});
