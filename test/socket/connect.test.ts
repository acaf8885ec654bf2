/** Connecting a socket that is open, and disconnecting it; natively, and through node:dgram. */
import { setImmediate as turn } from 'node:timers/promises';
import { from, lastValueFrom } from 'rxjs';
import { beforeEach, describe, expect, it } from 'vitest';
import { sendmmsg } from '../../src/index.ts';
import { AF_UNIX, SOCK_DGRAM } from '../../src/kernel/abi.ts';
import { libc } from '../../src/kernel/libc.ts';
import type { DatagramLike } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { opening } from '../support/backend.ts';
import { keeper } from '../support/keep.ts';
import { Inbox, refusal } from '../support/lower.ts';
import { Receiver } from '../support/receiver.ts';
import { WholeSender } from '../support/whole-sender.ts';

const keep = keeper();
const LOCAL = { address: '127.0.0.1' };
const NOT_CONNECTED = 'ERR_SOCKET_DGRAM_NOT_CONNECTED';
const IS_CONNECTED = 'ERR_SOCKET_DGRAM_IS_CONNECTED';

/** Sends through a sender of its own; the codes of what was rejected. */
async function send(socket: DatagramSocket, datagrams: readonly DatagramLike[], options?: BatchOptions) {
  const codes: string[] = [];
  const sender = new WholeSender(socket, options, {
    next: ({ rejected }) => codes.push(...rejected.map(({ error }) => error.code)),
  });
  for (const datagram of datagrams) sender.send(datagram);
  await sender.close();
  return codes;
}

describe.each(['sendmmsg', 'node:dgram'])('through %s', (backend) => {
  let inbox: Inbox;
  beforeEach(() => {
    opening.isNative = true;
    inbox = new Inbox({ bind: LOCAL });
    keep(inbox.socket);
    opening.isNative = backend === 'sendmmsg';
  });

  const open = (options?: SocketOptions): DatagramSocket => keep(DatagramSocket.open(options));

  it('bare payloads go to the peer as long as there is one, and only then', async () => {
    const socket = open();
    const { port } = inbox.endpoint;
    const addressed = (payload: string) => ({ payload, ...inbox.endpoint });
    expect(await send(socket, [addressed('1'), 'lost'])).toEqual(['EDESTADDRREQ']);
    socket.connect(port, '127.0.0.1');
    expect(socket.remoteAddress()).toEqual({ ...LOCAL, family: 'IPv4', port });
    expect(await send(socket, ['2', addressed('lost')])).toEqual([IS_CONNECTED]);
    socket.disconnect();
    expect(await send(socket, [addressed('3'), 'lost'])).toEqual(['EDESTADDRREQ']);
    socket.connect(port);
    expect(await send(socket, ['4'], { offload: true })).toEqual([]);
    expect(await inbox.receiveText(4)).toEqual(['1', '2', '3', '4']);
  });

  it('a socket that was opened connected can be disconnected, and connected elsewhere', async () => {
    const socket = open({ connect: { ...LOCAL, port: 9 } });
    socket.disconnect();
    expect(refusal(() => socket.disconnect()).code).toBe(NOT_CONNECTED);
    expect(refusal(() => socket.remoteAddress()).code).toBe(NOT_CONNECTED);
    socket.connect(inbox.endpoint.port, LOCAL.address);
    expect(refusal(() => socket.connect(inbox.endpoint.port)).code).toBe(IS_CONNECTED);
    expect(await send(socket, ['here'])).toEqual([]);
    expect(await inbox.receiveText(1)).toEqual(['here']);
  });

  it.each([
    ['closed', (sender: WholeSender): unknown => sender.close()],
    ['destroyed', (sender: WholeSender): unknown => sender.destroy()],
    [
      'aborted',
      (sender: WholeSender): unknown => {
        sender.abort(new Error('enough'));
        return sender.close().catch(() => {}); // it waits for what is in flight
      },
    ],
  ])('neither is done under a sender (EBUSY), until it is %s', async (_how, end) => {
    const socket = open();
    const busy = { code: 'EBUSY', syscall: 'connect', message: expect.stringContaining('sender') };
    const sender = new WholeSender(socket);
    expect(refusal(() => socket.connect(inbox.endpoint.port))).toMatchObject(busy);
    sender.send({ payload: 'still addressed', ...inbox.endpoint });
    sender.flush();
    expect(await inbox.receiveText(1)).toEqual(['still addressed']);
    await end(sender);
    socket.connect(inbox.endpoint.port);

    const second = new WholeSender(socket);
    expect(refusal(() => socket.disconnect())).toMatchObject(busy);
    second.send('still connected');
    second.flush();
    expect(await inbox.receiveText(1)).toEqual(['still connected']);
    await end(second);
    socket.disconnect();
  });

  it('an operator uses the socket until it has completed', async () => {
    const socket = open();
    const done = lastValueFrom(from([{ payload: 'x', ...inbox.endpoint }]).pipe(sendmmsg(socket)));
    await done;
    socket.connect(inbox.endpoint.port);
    await lastValueFrom(from(['y']).pipe(sendmmsg(socket)));
    expect(await inbox.receiveText(2)).toEqual(['x', 'y']);
  });

  it.each([
    [
      [9, '::1'],
      'EAFNOSUPPORT',
      "connect EAFNOSUPPORT [::1]:9: an IPv6 address on a udp4 socket; open the socket with type 'udp6'",
    ],
    [['/dev/log'], 'ERR_SOCKET_BAD_PORT', "a path needs type 'unix'"],
    [['9'], 'ERR_SOCKET_BAD_PORT', "Port should be >= 1 and < 65536. Received string ('9')"],
  ])('what is of another family is refused, and the error says what to do: %j', (args, code, message) => {
    const socket = open();
    const connect = socket.connect as (...args: unknown[]) => void;
    const error = refusal(() => connect.apply(socket, args));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  it('a connect that fails leaves the socket as it was', async () => {
    const socket = open();
    const error = refusal(() => socket.connect(9, '255.255.255.255'));
    expect(error.code).toBe(backend === 'sendmmsg' ? 'EACCES' : NOT_CONNECTED);
    if (backend === 'sendmmsg') expect(error.message).toBe('connect EACCES 255.255.255.255:9');
    expect(refusal(() => socket.remoteAddress()).code).toBe(NOT_CONNECTED);
    await turn(); // node:dgram tells why in an event
    expect(await send(socket, [{ payload: 'x', ...inbox.endpoint }])).toEqual([]);
    socket.connect(inbox.endpoint.port);
    expect(await send(socket, ['y'])).toEqual([]);
    expect(await inbox.receiveText(2)).toEqual(['x', 'y']);
  });
});

describe('callbacks', () => {
  beforeEach(() => {
    opening.isNative = true;
  });

  it.each([
    ['connect', {}, [9, '127.0.0.1']],
    ['connect', {}, [9]],
    ['connect', { type: 'unix' }, ['/dev/log']],
    ['disconnect', { connect: { ...LOCAL, port: 9 } }, []],
    ['close', {}, []],
  ] as const)('socket.%s() takes none, and does nothing if it is given one: %o', (method, options, args) => {
    const socket: DatagramSocket = keep(DatagramSocket.open(options));
    const wasConnected = DatagramSocket.transportOf(socket).isConnected;
    const run = socket[method] as (...args: unknown[]) => void;
    const error = refusal(() => run.apply(socket, [...args, () => expect.unreachable()]));
    expect(error.code).toBe('ERR_INVALID_ARG_TYPE');
    expect(error.message).toContain(`socket.${method}() takes no callback, it is done when it returns`);
    expect([socket.closed, DatagramSocket.transportOf(socket).isConnected]).toEqual([false, wasConnected]);
  });

  it('anything else that is given to close() is no callback', () => {
    const socket = DatagramSocket.open();
    for (const argument of [undefined, 0, null]) (socket.close as (argument: unknown) => void).call(socket, argument);
    expect(socket.closed).toBe(true);
  });
});

describe('natively', () => {
  beforeEach(() => {
    opening.isNative = true;
  });

  const open = (options?: SocketOptions): DatagramSocket => keep(DatagramSocket.open(options));

  it.each([false, true])('socket.sendmmsg() lays out its ring anew; connected at first: %s', async (isConnected) => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = open(isConnected ? { connect: inbox.endpoint } : {});
    const to = (payload: string) => ({ payload, ...inbox.endpoint });
    for (let round = 0; round < 4; round++) {
      if ((round % 2 === 1) === isConnected) expect(socket.sendmmsg([to('a'), to('b'), to('c')]).sent).toBe(3);
      else expect(socket.sendmmsg(['a', 'b', 'c']).sent).toBe(3);
      if ((round % 2 === 1) === isConnected) socket.connect(inbox.endpoint.port);
      else socket.disconnect();
      expect(await inbox.receiveText(3)).toEqual(['a', 'b', 'c']);
    }
  });

  it.each(['connect', 'disconnect'] as const)(
    'no getter of a datagram can %s the socket that it is sent by',
    async (what) => {
      using inbox = new Inbox({ bind: LOCAL });
      const socket = open(what === 'disconnect' ? { connect: inbox.endpoint } : {});
      const errors: string[] = [];
      const target = what === 'connect' ? inbox.endpoint : {};
      const meddler = {
        ...target,
        get payload() {
          const meddle = (): void => (what === 'connect' ? socket.connect(inbox.endpoint.port) : socket.disconnect());
          errors.push(refusal(meddle).code);
          return 'meddler';
        },
      };
      expect(socket.sendmmsg([{ payload: 'first', ...target }, meddler, { payload: 'last', ...target }]).sent).toBe(3);
      expect(errors).toEqual(['EBUSY']);
      expect(await inbox.receiveText(3)).toEqual(['first', 'meddler', 'last']);
      if (what === 'connect') socket.connect(inbox.endpoint.port);
      else socket.disconnect();
    },
  );

  it('what a destroyed sender has on the thread pool is waited for', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = open();
    const sender = new WholeSender(socket, { offload: true });
    sender.send({ payload: 'in flight', ...inbox.endpoint });
    sender.flush();
    sender.destroy();
    expect(refusal(() => socket.connect(inbox.endpoint.port)).code).toBe('EBUSY');
    expect(await inbox.receiveText(1)).toEqual(['in flight']);
    await expect.poll(() => attempt(() => socket.connect(inbox.endpoint.port))).toBe('done');
  });

  it('what GSO has learnt of the old route is forgotten', () => {
    const socket = open();
    const before = DatagramSocket.transportOf(socket).latch;
    socket.connect(9);
    expect(DatagramSocket.transportOf(socket).latch).not.toBe(before);
  });

  it('a port that the kernel chose is given back, one that was bound is kept', () => {
    const [chosen, bound] = [open(), open({ bind: LOCAL })];
    const { port } = bound.address() as { port: number };
    for (const socket of [chosen, bound]) {
      socket.connect(9);
      expect((socket.address() as { port: number }).port).toBeGreaterThan(0);
      socket.disconnect();
    }
    expect(chosen.address()).toMatchObject({ address: '0.0.0.0', port: 0 });
    expect([bound.address(), port]).toEqual([{ ...LOCAL, family: 'IPv4', port: expect.any(Number) }, port]);
  });

  it('IPv6: the local host is ::1', (context) => {
    let socket: DatagramSocket;
    try {
      socket = open({ type: 'udp6', bind: { address: '::1' } });
    } catch {
      return context.skip('no ::1');
    }
    socket.connect(9);
    expect(socket.remoteAddress()).toEqual({ address: '::1', family: 'IPv6', port: 9 });
  });
});

describe('a unix socket', () => {
  beforeEach(() => {
    opening.isNative = true;
  });

  it('is connected to a path, and finds a peer again that was restarted, as if it had been opened connected', async () => {
    const first = Receiver.unix();
    const { path } = first;
    const socket: DatagramSocket = keep(DatagramSocket.open({ type: 'unix' }));
    socket.connect(path);
    expect(socket.remoteAddress()).toEqual({ path });
    expect(socket.sendmmsg(['bare']).sent).toBe(1);
    expect(first.drain().map(String)).toEqual(['bare']);
    first.close();
    expect(await send(socket, ['meanwhile'])).toEqual(['ENOENT']);
    expect(refusal(() => socket.remoteAddress())).toMatchObject({ code: 'ENOTCONN', syscall: 'getpeername' });
    const second = keep(Receiver.unix(path));
    expect(await send(socket, ['after'])).toEqual([]);
    expect(second.drain().map(String)).toEqual(['after']);

    socket.disconnect();
    const other = keep(Receiver.unix());
    expect(await send(socket, [{ payload: 'to other', path: other.path }])).toEqual([]);
    expect(other.drain().map(String)).toEqual(['to other']);
    socket.connect(other.path);
    expect(await send(socket, ['to other, connected'])).toEqual([]);
    expect(other.drain().map(String)).toEqual(['to other, connected']);
  });

  it.each([
    [['/nonexistent/s'], 'ENOENT'],
    [[''], 'ERR_INVALID_ARG_VALUE'],
    [['p'.repeat(108)], 'ENAMETOOLONG'],
    [[9], 'ERR_INVALID_ARG_TYPE', "an address needs type 'udp4' or 'udp6'"],
    [[9, '127.0.0.1'], 'ERR_INVALID_ARG_VALUE', "an address needs type 'udp4' or 'udp6'"],
  ])('is not connected to %j: %s', (args, code, remedy = '') => {
    const socket = keep(DatagramSocket.open({ type: 'unix' }));
    const connect = socket.connect as (...args: unknown[]) => void;
    const error = refusal(() => connect.apply(socket, args));
    expect(error.code).toBe(code);
    expect(error.message).toContain(remedy);
    expect(refusal(() => socket.disconnect()).code).toBe(NOT_CONNECTED);
  });

  it('that something else connected is disconnected, too', () => {
    const receiver = keep(Receiver.unix());
    const calls = libc()!;
    const original = calls.socket(AF_UNIX, SOCK_DGRAM, 0);
    const socket = keep(DatagramSocket.fromFd(original));
    calls.close(original);
    socket.connect(receiver.path);
    const again = keep(DatagramSocket.fromFd(DatagramSocket.nativeOf(socket).fd));
    expect(again.remoteAddress()).toEqual({ path: receiver.path });
    again.disconnect();
    expect(refusal(() => socket.sendmmsg(['x'])).code).toBe('ENOTCONN');
  });
});

function attempt(run: () => void): string {
  try {
    run();
    return 'done';
  } catch (error) {
    return (error as { code: string }).code;
  }
}
