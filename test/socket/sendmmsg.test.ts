/** The bare system call, on the real kernel: one call, which never blocks and may send fewer. */
import { describe, expect, it } from 'vitest';
import { SO_BROADCAST, SOL_SOCKET } from '../../src/kernel/abi.ts';
import type { DatagramLike } from '../../src/message/datagram.ts';
import { endpoint } from '../../src/message/sockaddr.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { freshPath, Inbox, openDescriptors, refusal } from '../support/lower.ts';

const LOCAL = { address: '127.0.0.1' };

function connectedTo(inbox: Inbox): DatagramSocket {
  return DatagramSocket.open({ connect: inbox.endpoint });
}

describe('socket.sendmmsg', () => {
  it('sends every kind of payload, and tells the bytes of each', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    const datagrams: DatagramLike[] = [
      'héllo',
      Uint8Array.of(1, 2, 3, 4).subarray(1, 3),
      ['one', Buffer.from('two'), new DataView(Uint8Array.of(33, 63).buffer, 1)],
      '',
      { payload: new Uint8Array(0) },
      { payload: ['a', 'b'] },
      Float64Array.of(1),
    ];
    expect(socket.sendmmsg(datagrams)).toEqual({ sent: 7, lengths: [6, 2, 7, 0, 0, 2, 8] });
    expect(await inbox.receive(7)).toEqual(
      ['héllo', Buffer.of(2, 3), 'onetwo?', '', '', 'ab', Buffer.from('000000000000f03f', 'hex')].map((bytes) =>
        Buffer.from(bytes as string),
      ),
    );
  });

  it.each([
    [{ more: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ oob: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ toString: true }, 'ERR_INVALID_ARG_VALUE'],
    [{ dontRoute: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
    [{ confirm: 1 }, 'ERR_INVALID_ARG_TYPE'],
  ])('refuses the flags %o before anything is sent', (flags, code) => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    expect(() => socket.sendmmsg(['x'], flags as never)).toThrow(expect.objectContaining({ code }));
    expect(socket.sendmmsg(['x'], { dontRoute: false, confirm: true }).sent).toBe(1);
  });

  it('gathers as the example of the man page does: two messages, the first of two buffers', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    expect(socket.sendmmsg([['one', 'two'], 'three']).lengths).toEqual([6, 5]);
    expect(await inbox.receiveText(2)).toEqual(['onetwo', 'three']);
  });

  it('sends each datagram to its own destination', async () => {
    using first = new Inbox({ bind: LOCAL });
    using second = new Inbox({ bind: { address: '127.0.0.2' } });
    using socket = DatagramSocket.open();
    const [one, two] = [first.endpoint, second.endpoint];
    for (let round = 0; round < 2; round++) {
      const { sent } = socket.sendmmsg([
        { payload: 'a', ...one },
        { payload: 'b', ...two },
        { payload: 'c', to: endpoint(one.address, one.port) },
        { payload: 'd', ...two },
      ]);
      expect(sent).toBe(4);
      expect(await first.receiveText(2)).toEqual(['a', 'c']);
      expect(await second.receiveText(2)).toEqual(['b', 'd']);
    }
  });

  it('of nothing sends nothing', () => {
    using socket = DatagramSocket.open();
    expect(socket.sendmmsg([])).toEqual({ sent: 0, lengths: [] });
  });

  it.each([
    [1023, 1023],
    [1024, 1024],
    [1025, 1024],
    [2000, 1024],
  ])('of %i datagrams takes %i, and the rest when called again', async (count, taken) => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    const datagrams = Array.from({ length: count }, (_, index) => `n${index}`);
    const { sent, lengths } = socket.sendmmsg(datagrams);
    expect(sent).toBe(taken);
    expect(lengths).toEqual(datagrams.slice(0, taken).map(({ length }) => length));
    expect(await inbox.receiveText(taken)).toEqual(datagrams.slice(0, taken));
    if (taken === count) return;
    expect(socket.sendmmsg(datagrams.slice(sent)).sent).toBe(count - taken);
    expect(await inbox.receiveText(count - taken)).toEqual(datagrams.slice(taken));
  });

  it('takes about 1 MiB by one call; a larger datagram is a short count, and the next call takes it', async () => {
    const path = freshPath();
    using inbox = new Inbox({ type: 'unix', bind: { path } });
    using socket = DatagramSocket.open({ type: 'unix', connect: { path }, sendBufferSize: 4 << 20 });
    const [half, large] = [Buffer.alloc(600_000), Buffer.alloc(2 << 20)];
    expect(socket.sendmmsg([half, half, half]).lengths).toEqual([600_000]);
    expect(socket.sendmmsg(['small', large]).lengths).toEqual([5]);
    expect(socket.sendmmsg([large, 'small']).lengths).toEqual([2 << 20]);
    expect((await inbox.receive(3)).length).toBe(3);
    expect(refusal(() => socket.sendmmsg([Buffer.alloc(32 << 20), 'x'])).code).toBe('EMSGSIZE');
  });

  const invalid: [what: string, bad: (to: object) => unknown, code: string, errno?: number][] = [
    ['too large a datagram', (to) => ({ payload: Buffer.alloc(70_000), ...to }), 'EMSGSIZE', 90],
    ['a broadcast without SO_BROADCAST', () => ({ payload: 'x', address: '255.255.255.255', port: 9 }), 'EACCES', 13],
    ['port 0', () => ({ payload: 'x', ...LOCAL, port: 0 }), 'ERR_SOCKET_BAD_PORT'],
    ['a host name', (to) => ({ payload: 'x', ...to, address: 'localhost' }), 'ERR_INVALID_IP_ADDRESS'],
    ['the other family', (to) => ({ payload: 'x', ...to, address: '::1' }), 'EAFNOSUPPORT', 97],
    ['no destination', () => 'x', 'EDESTADDRREQ', 89],
    ['a number', () => 42, 'ERR_INVALID_ARG_TYPE'],
    ['a number as its payload', (to) => ({ payload: 42, ...to }), 'ERR_INVALID_ARG_TYPE'],
    ['a hole', () => undefined, 'ERR_INVALID_ARG_TYPE'],
  ];
  it.each(invalid)(
    'stops before %s at index 2 of 5; called again from there, it throws',
    async (_what, bad, code, errno) => {
      using inbox = new Inbox({ bind: LOCAL });
      using socket: DatagramSocket = DatagramSocket.open();
      const to = inbox.endpoint;
      const good = (payload: string): DatagramLike => ({ payload, ...to });
      const datagrams = [good('0'), good('1'), bad(to) as DatagramLike, good('3'), good('4')];
      expect(socket.sendmmsg(datagrams)).toEqual({ sent: 2, lengths: [1, 1] });
      const error = refusal(() => socket.sendmmsg(datagrams.slice(2)));
      expect(error.code).toBe(code);
      expect(error.errno).toBe(errno);
      expect(socket.sendmmsg(datagrams.slice(3)).sent).toBe(2);
      expect(await inbox.receiveText(4)).toEqual(['0', '1', '3', '4']);
    },
  );

  it('names the destination that the kernel refused', () => {
    using socket = DatagramSocket.open();
    const error = refusal(() => socket.sendmmsg([{ payload: 'x', address: '255.255.255.255', port: 9 }]));
    expect(error.message).toBe('sendmmsg EACCES 255.255.255.255:9');
    expect(error).toMatchObject({ syscall: 'sendmmsg', address: '255.255.255.255', port: 9 });
    const { fd, libc } = DatagramSocket.nativeOf(socket);
    expect(libc.getsockopt(fd, SOL_SOCKET, SO_BROADCAST)).toBe(0); // nothing was switched on meanwhile
  });

  it('never blocks: a full unix queue is a short count, then EAGAIN, then room again', async () => {
    const path = freshPath();
    using inbox = new Inbox({ type: 'unix', bind: { path } });
    using connected = DatagramSocket.open({ type: 'unix', connect: { path } });
    using unconnected = DatagramSocket.open({ type: 'unix' });
    const texts = Array.from({ length: 1000 }, (_, index) => `n${index}`);
    const { sent } = connected.sendmmsg(texts);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(1000);
    expect(refusal(() => connected.sendmmsg(['x']))).toMatchObject({ code: 'EAGAIN', errno: 11, syscall: 'sendmmsg' });
    expect(refusal(() => unconnected.sendmmsg([{ payload: 'x', path }]))).toMatchObject({ code: 'EAGAIN', path });
    expect(await inbox.receiveText(sent)).toEqual(texts.slice(0, sent));
    expect(
      unconnected.sendmmsg([
        { payload: 'x', path },
        { payload: '', path },
      ]).lengths,
    ).toEqual([1, 0]);
    expect(await inbox.receiveText(2)).toEqual(['x', '']);
  });

  it('after close throws, and writes nothing to the descriptor that took its number', () => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = connectedTo(inbox);
    const { fd } = DatagramSocket.nativeOf(socket);
    socket.close();
    using other = connectedTo(inbox);
    expect(DatagramSocket.nativeOf(other).fd).toBe(fd);
    for (const datagrams of [['x'], []]) {
      expect(refusal(() => socket.sendmmsg(datagrams)).code).toBe('ERR_SOCKET_DGRAM_NOT_RUNNING');
    }
    expect(inbox.take()).toEqual([]);
  });

  it('may be called by a getter of its own datagrams: both calls send what they were given', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    expect(socket.sendmmsg(['before']).sent).toBe(1); // so that there is a ring to be shared by mistake
    expect(await inbox.receiveText(1)).toEqual(['before']);
    const inner: unknown[] = [];
    const nested = (text: string): DatagramLike => ({
      get payload() {
        inner.push(socket.sendmmsg([`inside ${text}`, 'x']));
        return text;
      },
    });
    expect(socket.sendmmsg(['a', nested('b'), nested('c'), 'd'])).toEqual({ sent: 4, lengths: [1, 1, 1, 1] });
    expect(inner).toEqual([
      { sent: 2, lengths: [8, 1] },
      { sent: 2, lengths: [8, 1] },
    ]);
    expect(await inbox.receiveText(8)).toEqual(['inside b', 'x', 'inside c', 'x', 'a', 'b', 'c', 'd']);
    expect(socket.sendmmsg(['after']).sent).toBe(1);
    expect(await inbox.receiveText(1)).toEqual(['after']);
  });

  it('sends nothing more if a getter closes the socket', () => {
    using inbox = new Inbox({ bind: LOCAL });
    const socket = connectedTo(inbox);
    const closing: DatagramLike = {
      get payload() {
        socket.close();
        return 'x';
      },
    };
    expect(refusal(() => socket.sendmmsg(['a', closing])).code).toBe('EBADF');
    expect(inbox.take()).toEqual([]);
  });

  it('stops before a datagram whose getter throws, and throws with its cause when called from there', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    const cause = new Error('from the getter');
    const throwing: DatagramLike = {
      get payload(): string {
        throw cause;
      },
    };
    expect(socket.sendmmsg(['a', throwing, 'c']).sent).toBe(1);
    expect(refusal(() => socket.sendmmsg([throwing, 'c'])).cause).toBe(cause);
    expect(await inbox.receiveText(1)).toEqual(['a']);
  });

  it('forgets the datagrams of a call that failed', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    expect(refusal(() => socket.sendmmsg([Buffer.alloc(70_000), 'left over'])).code).toBe('EMSGSIZE');
    expect(socket.sendmmsg(['fresh'])).toEqual({ sent: 1, lengths: [5] });
    expect(await inbox.receiveText(1)).toEqual(['fresh']);
  });

  it('takes the flags dontRoute and confirm', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    using socket = connectedTo(inbox);
    expect(socket.sendmmsg(['a'], { dontRoute: true, confirm: true }).sent).toBe(1);
    expect(await inbox.receiveText(1)).toEqual(['a']);
  });

  it.each([
    ['a string', 'abc', undefined],
    ['nothing', undefined, undefined],
    ['one datagram', { payload: 'x' }, undefined],
    ['flags that are a number', ['x'], 0x40],
    ['flags that are null', ['x'], null],
  ])('throws ERR_INVALID_ARG_TYPE for %s', (_what, datagrams, flags) => {
    using socket = DatagramSocket.open({ connect: { ...LOCAL, port: 9 } });
    expect(refusal(() => socket.sendmmsg(datagrams as never, flags as never)).code).toBe('ERR_INVALID_ARG_TYPE');
  });

  it('opens no descriptors', () => {
    using socket: DatagramSocket = DatagramSocket.open({ type: 'unix' });
    const before = openDescriptors();
    for (let count = 0; count < 100; count++) expect(() => socket.sendmmsg(['x'])).toThrow('EDESTADDRREQ');
    expect(openDescriptors()).toBe(before);
  });
});
