/** `lend()`: a duplicate natively, the socket itself through node:dgram; to whoever has it, both are alike. */
import { createSocket, Socket } from 'node:dgram';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { withBackend } from '../support/backend.ts';
import { childScript, run } from '../support/child.ts';
import { keeper } from '../support/keep.ts';
import { Inbox, openDescriptors } from '../support/lower.ts';
import { Receiver } from '../support/receiver.ts';
import { runtimes } from '../support/runtimes.ts';

const keep = keeper();
const LOCAL = { address: '127.0.0.1' };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const NOT_RUNNING = expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });

describe.each(['sendmmsg', 'sendmsg', 'node:dgram'])('through %s', (backend) => {
  const open = (options: SocketOptions = { bind: LOCAL }): DatagramSocket =>
    withBackend(backend, () => keep(DatagramSocket.open(options)));
  const portOf = (socket: DatagramSocket | Socket): number => (socket.address() as { port: number }).port;

  it('what is lent is a node:dgram socket that is bound already: no "listening" follows', async () => {
    const socket = open();
    const lent = keep(socket.lend());
    let isTold = false;
    lent.on('listening', () => {
      isTold = true;
    });
    expect(lent).toBeInstanceOf(Socket);
    expect(portOf(lent)).toBe(portOf(socket));
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(isTold).toBe(false);
    expect(() => lent.bind(0)).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_ALREADY_BOUND' }));
  });

  it('it hears what comes to the port, and sends from there', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = open();
    const lent = keep(socket.lend());
    const heard = once(lent, 'message') as Promise<[Buffer, { port: number }]>;
    inbox.socket.sendmmsg([{ payload: 'ping', ...LOCAL, port: portOf(socket) }]);
    const [message, { port }] = await heard;
    expect([String(message), port]).toEqual(['ping', inbox.endpoint.port]);
    await new Promise((resolve) => lent.send('pong', port, LOCAL.address, resolve));
    expect(await inbox.receiveText(1)).toEqual(['pong']);
  });

  it('closed by its borrower: as any closed socket, and the sender goes on', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = open();
    const lent = socket.lend();
    const told: string[] = [];
    lent.on('close', () => told.push('event'));
    lent.on('message', () => told.push('message'));
    expect(lent.close(() => told.push('callback'))).toBe(lent);
    expect(told).toEqual([]);
    for (const call of ['close', 'address', 'ref'] as const) {
      if (call !== 'ref') expect(() => lent[call]()).toThrow(NOT_RUNNING);
      else expect(lent.ref()).toBe(lent);
    }
    expect(() => lent.send('x', 9, LOCAL.address)).toThrow(NOT_RUNNING);
    await turn();
    expect(told.toSorted()).toEqual(['callback', 'event']);
    expect(portOf(socket)).toBeGreaterThan(0);
    expect(socket.getSendBufferSize()).toBeGreaterThan(0);
    expect(socket.setTTL(9)).toBe(9);
    const sender = new BatchSender(socket);
    sender.send({ payload: 'still', ...inbox.endpoint });
    await sender.close();
    expect(await inbox.receiveText(1)).toEqual(['still']);
    inbox.socket.sendmmsg([{ payload: 'late', ...LOCAL, port: portOf(socket) }]);
    for (let turns = 0; turns < 5; turns++) await turn();
    expect(told).not.toContain('message');
    socket.close();
    expect(() => lent.close()).toThrow(NOT_RUNNING);
  });

  it('closed by its owner first: what is lent works on, the sender does not', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = open();
    const lent = keep(socket.lend());
    const errors: unknown[] = [];
    const sender = new BatchSender(socket, {}, { error: (error) => errors.push(error) });
    sender.send({ payload: 'never', ...inbox.endpoint });
    socket.close();
    for (let turns = 0; errors.length === 0 && turns < 1e4; turns++) await turn();
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expect(() => socket.address()).toThrow(NOT_RUNNING);
    await new Promise((resolve) => lent.send('x', inbox.endpoint.port, LOCAL.address, resolve));
    expect(await inbox.receiveText(1)).toEqual(['x']);
    const heard = once(lent, 'message');
    inbox.socket.sendmmsg([{ payload: 'reply', ...LOCAL, port: portOf(lent) }]);
    expect(String((await heard)[0])).toBe('reply');
  });

  it('lent several times, and closed in any order: the port is free with the last', async () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0],
    ]) {
      // 0: the owner
      const socket = open();
      const { port } = socket.address() as { port: number };
      const all = [socket, socket.lend(), socket.lend()] as const;
      const isTaken = (): boolean => {
        try {
          withBackend(undefined, () => DatagramSocket.open({ bind: { ...LOCAL, port } })).close();
          return false;
        } catch {
          return true;
        }
      };
      for (const index of order) {
        expect(isTaken()).toBe(true);
        const closed = all[index]!;
        if (closed instanceof Socket) await new Promise<void>((resolve) => closed.close(resolve));
        else closed.close();
      }
      await turn();
      expect(isTaken()).toBe(false);
    }
  });

  it('lent and closed a hundred times leaves nothing behind', async () => {
    const socket = open();
    const lentOnce = socket.lend();
    await new Promise<void>((resolve) => lentOnce.close(resolve));
    await turn();
    const before = openDescriptors();
    for (let count = 0; count < 100; count++) await new Promise<void>((resolve) => socket.lend().close(resolve));
    await turn();
    expect(openDescriptors()).toBe(before);
  });

  it('an error that nobody listens to there is none: a late one is counted', async () => {
    const gone = Receiver.udp();
    const { port } = gone;
    gone.close();
    const socket = open({ connect: { ...LOCAL, port } });
    const lent = keep(socket.lend());
    const errors: unknown[] = [];
    lent.on('error', (error) => errors.push(error));
    const sender = new BatchSender(socket, { gso: 'off' });
    for (let count = 0; count < 20; count++) {
      sender.send('x');
      await turn();
    }
    await sender.close();
    expect(sender.stats.sent).toBe(20);
    // Either reads it: whoever comes first. Through node:dgram both hear of it.
    if (backend === 'node:dgram') {
      expect(sender.stats.pendingErrors).toBeGreaterThan(0);
      expect(errors[0]).toMatchObject({ code: 'ECONNREFUSED', syscall: 'recvmsg' });
    } else expect(sender.stats.pendingErrors + errors.length).toBeGreaterThan(0);
  });

  it.each([
    ['lent', true],
    ['unref', false],
    ['unref, ref', true],
    ['closed', false],
    ['owner closed', true],
  ])('keeps the process alive until it is closed: %s', async (what, isAlive) => {
    const script = [process.execPath, childScript('lend-alive.mjs'), what];
    const { stdout, stderr, code } = await withBackend(backend, () => run(script));
    expect({ stdout, stderr, code }).toEqual({ stdout: isAlive ? 'alive\n' : '', stderr: '', code: 0 });
  });
});

describe('through node:dgram', () => {
  it('each that is lent has listeners of its own, and hears all', async () => {
    const socket = withBackend('dgram', () => keep(DatagramSocket.open({ bind: LOCAL })));
    const heard: string[] = [];
    const lent = Array.from({ length: 12 }, (_, index) =>
      keep(socket.lend().on('message', (message) => heard.push(`${index} ${String(message)}`))),
    );
    expect(lent[0]!.listenerCount('message')).toBe(1);
    expect(lent[0]!.listenerCount('error')).toBe(0);
    lent[1]!.removeAllListeners();
    const peer = keep(createSocket('udp4'));
    peer.send('x', lent[0]!.address().port, LOCAL.address);
    await expect.poll(() => heard.length).toBe(11);
    expect(heard.toSorted()[0]).toBe('0 x');
  });

  it('a late error with no listener on what is lent is not thrown', async () => {
    const script = `
      import { DatagramSocket, BatchSender } from 'rx-sendmmsg';
      import { setImmediate as turn } from 'node:timers/promises';
      const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } });
      const lent = socket.lend();
      const sender = new BatchSender(socket);
      for (let n = 0; n < 20; n++) { sender.send('x'); await turn(); }
      await sender.close();
      lent.close();
      console.log(sender.stats.pendingErrors > 0);`;
    const { stdout, stderr } = await withBackend('dgram', () =>
      run([process.execPath, '--input-type=module', '-e', script]),
    );
    expect({ stdout, stderr }).toEqual({ stdout: 'true\n', stderr: '' });
  });
});

it('a closed stdin is no reason for another port', async () => {
  const script = ['sh', '-c', 'exec "$0" "$@" <&-', process.execPath, childScript('lend.mjs')];
  const { stdout } = await run(script);
  expect(JSON.parse(stdout)).toMatchObject({ isSamePort: true, reply: 're: ping', leaked: 0 });
});

describe.each(runtimes('Bun', 'Deno'))('$name', ({ name, find }) => {
  it('lends, or says clearly that it does not, and leaves no descriptor behind', async (context) => {
    const { command } = find(context);
    const { stdout, stderr } = await withBackend(undefined, () => run([...command, childScript('lend.mjs')]));
    expect(stderr).toBe('');
    const result = JSON.parse(stdout) as object;
    const unavailable = {
      name: 'SendmmsgError',
      code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM',
      message: expect.stringMatching(/^socket\.lend is not available here: .*receive on a socket of node:dgram/),
    };
    if (name.startsWith('Deno')) expect(result).toMatchObject({ error: unavailable, leaked: 0, isOpen: true });
    else
      expect(result).toMatchObject({ isSamePort: true, reply: 're: ping', heard: ['close'], leaked: 0, isOpen: true });
  });
});
