/** What the knobs of a socket do to datagrams, on the real kernel; natively, and through node:dgram. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  AF_INET,
  CMSGHDR_SIZE,
  IOV_LEN,
  IOVEC_SIZE,
  IPPROTO_IP,
  IPPROTO_IPV6,
  MMSGHDR_SIZE,
  MSG_CONTROL,
  MSG_CONTROLLEN,
  MSG_DONTWAIT,
  MSG_IOV,
  MSG_IOVLEN,
  SO_BINDTODEVICE,
  SOL_SOCKET,
} from '../../src/kernel/abi.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { opening } from '../support/backend.ts';
import { childScript, inNamespace, run } from '../support/child.ts';
import { keeper } from '../support/keep.ts';
import { Inbox, refusal } from '../support/lower.ts';
import { requires } from '../support/requires.ts';

const keep = keeper();
const LO = '127.0.0.1';
const GROUP = `239.255.${(process.pid >>> 8) & 255}.${process.pid & 255}`; // a socket also receives for groups of others

/** A receiver, always a native one. */
function inbox(options: SocketOptions): Inbox {
  const { isNative } = opening;
  opening.isNative = true;
  const box = new Inbox(options);
  opening.isNative = isNative;
  keep(box.socket);
  return box;
}

const portOf = (box: Inbox): number => box.endpoint.port;

async function send(socket: DatagramSocket, payload: string, address: string, port: number): Promise<void> {
  const sender = new BatchSender(socket);
  sender.send({ payload, address, port });
  await sender.close();
  expect(sender.stats).toMatchObject({ sent: 1, rejected: 0 });
}

/** The hop limit that the next datagram has come with. */
async function hopsOf(box: Inbox): Promise<number> {
  const { libc, fd } = DatagramSocket.nativeOf(box.socket);
  const arena = libc.allocate(MMSGHDR_SIZE + IOVEC_SIZE + 64 + 64);
  const [iovec, control, payload] = [MMSGHDR_SIZE, MMSGHDR_SIZE + IOVEC_SIZE, MMSGHDR_SIZE + IOVEC_SIZE + 64];
  arena.writePointer(MSG_IOV, iovec);
  arena.u32[MSG_IOVLEN / 4] = 1;
  arena.writePointer(iovec, payload);
  arena.u32[(iovec + IOV_LEN) / 4] = 64;
  arena.writePointer(MSG_CONTROL, control);
  arena.u32[MSG_CONTROLLEN / 4] = 64;
  await expect.poll(() => libc.recvmmsg(fd, arena, 0, 1, MSG_DONTWAIT), { timeout: 5000 }).toBe(1);
  return arena.u32[(control + CMSGHDR_SIZE) / 4]!;
}

/** Asks the kernel to tell it. */
function askForHops(box: Inbox): Inbox {
  const { libc, fd, family } = DatagramSocket.nativeOf(box.socket);
  const [IP_RECVTTL, IPV6_RECVHOPLIMIT] = [12, 51];
  const [level, name] = family === AF_INET ? [IPPROTO_IP, IP_RECVTTL] : [IPPROTO_IPV6, IPV6_RECVHOPLIMIT];
  expect(libc.setsockopt(fd, level, name, 1)).toBe(0);
  return box;
}

describe.each(['sendmmsg', 'node:dgram'])('through %s', (backend) => {
  beforeEach(() => {
    opening.isNative = backend === 'sendmmsg';
  });

  function sender(options: SocketOptions = {}): DatagramSocket {
    const socket = keep(DatagramSocket.open(options));
    expect(DatagramSocket.transportOf(socket).backend).toBe(backend);
    return socket;
  }

  it('a receiver has the TTL that was set, for one host and for a group', async () => {
    const box = askForHops(inbox({ bind: {} }));
    box.socket.addMembership(GROUP, LO);
    const socket = sender();
    socket.setMulticastInterface(LO);
    for (const [ttl, multicastTtl] of [
      [1, 0],
      [7, 9],
      [255, 255],
    ] as const) {
      socket.setTTL(ttl);
      socket.setMulticastTTL(multicastTtl);
      await send(socket, 'x', LO, portOf(box));
      expect(await hopsOf(box)).toBe(ttl);
      await send(socket, 'x', GROUP, portOf(box));
      expect(await hopsOf(box)).toBe(multicastTtl);
    }
  });

  it('IPv6: a receiver has the hop limit that was set', async (context) => {
    let box: Inbox;
    try {
      box = askForHops(inbox({ type: 'udp6', bind: { address: '::1' } }));
    } catch {
      return context.skip('no ::1');
    }
    const socket = sender({ type: 'udp6' });
    for (const ttl of [1, 7, 255]) {
      socket.setTTL(ttl);
      await send(socket, 'x', '::1', portOf(box));
      expect(await hopsOf(box)).toBe(ttl);
    }
  });

  it('broadcasts are refused, let through, and refused again', async () => {
    const socket = sender();
    const attempt = async (): Promise<string> => {
      const batch = new BatchSender(
        socket,
        {},
        { next: ({ rejected }) => codes.push(...rejected.map(({ error }) => error.code)) },
      );
      const codes: string[] = [];
      batch.send({ payload: 'x', address: '127.255.255.255', port: 9 });
      await batch.close();
      return codes[0] ?? 'sent';
    };
    expect(await attempt()).toBe('EACCES');
    socket.setBroadcast(true);
    expect(await attempt()).toBe('sent');
    socket.setBroadcast(false);
    expect(await attempt()).toBe('EACCES');
  });

  it('the buffer sizes that are told are those of the kernel', () => {
    const socket = sender({ sendBufferSize: 20_000 });
    expect(socket.getSendBufferSize()).toBe(40_000);
    socket.setSendBufferSize(30_000);
    socket.setRecvBufferSize(10_000);
    expect([socket.getSendBufferSize(), socket.getRecvBufferSize()]).toEqual([60_000, 20_000]);
  });

  it('a member of a group receives, and after leaving does not; of one source only what that sends', async () => {
    const receiver = keep(memberOf(sender({ bind: {} })));
    const [one, other] = [sender({ bind: { address: LO } }), sender({ bind: { address: '127.0.0.2' } })];
    for (const socket of [one, other]) socket.setMulticastInterface(LO);
    const received = (): Promise<string[]> => receiver.until('end', () => send(one, 'end', LO, receiver.port));
    const sendBoth = async (): Promise<void> => {
      await send(one, 'from one', GROUP, receiver.port);
      await send(other, 'from the other', GROUP, receiver.port);
    };

    await sendBoth();
    expect(await received()).toEqual([]);

    receiver.socket.addMembership(GROUP, LO);
    await sendBoth();
    expect(await received()).toEqual(['from one', 'from the other']);

    receiver.socket.dropMembership(GROUP, LO);
    await sendBoth();
    expect(await received()).toEqual([]);

    receiver.socket.addSourceSpecificMembership('127.0.0.2', GROUP, LO);
    await sendBoth();
    expect(await received()).toEqual(['from the other']);

    receiver.socket.dropSourceSpecificMembership('127.0.0.2', GROUP, LO);
    await sendBoth();
    expect(await received()).toEqual([]);
  });
});

it('IPv6 groups, sources, interfaces, devices and zones, in a network namespace', async (context) => {
  requires(context, 'root', 'ip', 'netns');
  const setup = [
    'ip link add v0 type veth peer name v1',
    'ip link add bare0 type veth peer name bare1',
    'ip addr add fe80::9/64 dev lo nodad',
    ...['v0', 'v1'].flatMap((name, index) => [
      `ip link set ${name} addrgenmode none`,
      `ip addr add fe80::${index + 1}/64 dev ${name} nodad`,
      `ip link set ${name} up`,
    ]),
  ];
  const { code, stdout, stderr } = await run([
    ...inNamespace(setup.join('\n')),
    process.execPath,
    childScript('multicast.mjs'),
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [fromV0, fromV1] = ['v0 fe80::1%v0', 'v1 fe80::2%v0'];
  expect(JSON.parse(stdout)).toEqual({
    before: [],
    joined: [fromV0, fromV1],
    withoutLoopback: [fromV1],
    left: [],
    oneSource: [fromV1],
    zoneOfGroup: [fromV0, fromV1],
    onLo: ['to lo 127.0.0.1'],
    onV0: [],
    known: false,
    bareZone: 'done',
    loZone: 'fe80::9%lo',
    wrongZone: 'EADDRNOTAVAIL',
  });
});

/** A socket that may join groups, received from through `lend`, as a user would. */
function memberOf(socket: DatagramSocket): {
  socket: DatagramSocket;
  port: number;
  until(last: string, trigger: () => Promise<void>): Promise<string[]>;
  close(): void;
} {
  const lent = socket.lend();
  const received: string[] = [];
  lent.on('message', (message) => received.push(String(message)));
  const { port } = lent.address();
  return {
    socket,
    port,
    async until(last, trigger) {
      await trigger();
      await expect.poll(() => received.at(-1), { timeout: 5000 }).toBe(last);
      return received.splice(0).slice(0, -1);
    },
    close: () => {
      if (!socket.closed && DatagramSocket.transportOf(socket).backend === 'sendmmsg') lent.close();
    },
  };
}

describe('bindToDevice', () => {
  beforeEach(() => {
    opening.isNative = true;
  });

  const deviceOf = (socket: DatagramSocket): boolean => {
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    return libc.getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE) !== 0; // the first letters of its name, as an int
  };

  it.each([
    ['as an option', (): DatagramSocket => DatagramSocket.open({ bindToDevice: 'lo' })],
    [
      'later',
      (): DatagramSocket => {
        const socket = DatagramSocket.open();
        expect(deviceOf(socket)).toBe(false);
        socket.bindToDevice('lo');
        return socket;
      },
    ],
  ])('binds to a device by its name: %s', (_how, open) => {
    const socket = keep(open());
    expect(deviceOf(socket)).toBe(true);
  });

  it('and back to any', (context) => {
    requires(context, 'root');
    const socket = keep(DatagramSocket.open({ bindToDevice: 'lo' }));
    socket.bindToDevice('');
    expect(deviceOf(socket)).toBe(false);
  });

  it.each(['nosuch0', 'lo\0', `lo${'x'.repeat(20)}`])('%j is no device: ENODEV, and nothing is left open', (device) => {
    expect(refusal(() => DatagramSocket.open({ bindToDevice: device }))).toMatchObject({
      code: 'ENODEV',
      syscall: 'bindToDevice',
    });
    const socket = keep(DatagramSocket.open());
    expect(refusal(() => socket.bindToDevice(device)).code).toBe('ENODEV');
    expect(deviceOf(socket)).toBe(false);
  });

  it('is asked for a string', () => {
    const device = 5 as unknown as string;
    expect(refusal(() => DatagramSocket.open({ bindToDevice: device })).code).toBe('ERR_INVALID_ARG_TYPE');
    expect(refusal(() => keep(DatagramSocket.open()).bindToDevice(device)).code).toBe('ERR_INVALID_ARG_TYPE');
  });
});

it('reusePort spreads a port over sockets', () => {
  opening.isNative = true;
  const first = keep(DatagramSocket.open({ bind: { address: LO }, reusePort: true }));
  const { port } = first.address() as { port: number };
  expect(refusal(() => DatagramSocket.open({ bind: { address: LO, port } })).code).toBe('EADDRINUSE');
  expect(keep(DatagramSocket.open({ bind: { address: LO, port }, reusePort: true })).address()).toMatchObject({ port });
});
