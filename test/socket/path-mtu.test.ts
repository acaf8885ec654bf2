/** For those who probe the path: the Don't Fragment bit, and the MTU that the kernel knows. */
import { describe, expect, it } from 'vitest';
import { IP_MTU_DISCOVER, IPPROTO_IP, IPPROTO_IPV6, IPV6_MTU_DISCOVER } from '../../src/kernel/abi.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { childScript, inNamespace, run } from '../support/child.ts';
import { keeper } from '../support/keep.ts';
import { refusal } from '../support/lower.ts';
import { requires } from '../support/requires.ts';

const keep = keeper();
const [DONT, WANT, PROBE] = [0, 1, 3];

describe('setDontFragment', () => {
  it.each([
    ['udp4', [[IPPROTO_IP, IP_MTU_DISCOVER]]],
    [
      'udp6',
      [
        [IPPROTO_IPV6, IPV6_MTU_DISCOVER],
        [IPPROTO_IP, IP_MTU_DISCOVER],
      ],
    ],
  ] as const)('of a %s socket sets IP_MTU_DISCOVER, and takes it back', (type, options) => {
    const socket = keep(DatagramSocket.open({ type }));
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    const now = (): number[] => options.map(([level, name]) => libc.getsockopt(fd, level, name));
    expect(now()).toEqual(options.map(() => WANT));
    for (const [flag, value] of [
      [true, PROBE],
      [false, DONT],
      [true, PROBE],
    ] as const) {
      expect(socket.setDontFragment(flag)).toBeUndefined();
      expect(now()).toEqual(options.map(() => value));
    }
  });

  it('takes a boolean', () => {
    const socket = keep(DatagramSocket.open());
    for (const flag of [undefined, 1, 'true', null]) {
      expect(refusal(() => socket.setDontFragment(flag as never)).code).toBe('ERR_INVALID_ARG_TYPE');
    }
  });
});

describe('mtu', () => {
  it('is that of the way to the peer', () => {
    expect(keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } })).mtu).toBe(65_535);
  });

  it('of a socket without a peer is ENOTCONN, and so is that of one that was disconnected', () => {
    expect(refusal(() => keep(DatagramSocket.open()).mtu)).toMatchObject({ code: 'ENOTCONN', syscall: 'mtu' });
    const socket = keep(DatagramSocket.open({ connect: { address: '127.0.0.1', port: 9 } }));
    socket.disconnect();
    expect(refusal(() => socket.mtu).code).toBe('ENOTCONN');
  });
});

it.each([
  ['a unix socket', () => keep(DatagramSocket.open({ type: 'unix' })), 'EOPNOTSUPP'],
  [
    'a closed socket',
    () => {
      const socket = DatagramSocket.open();
      socket.close();
      return socket;
    },
    'ERR_SOCKET_DGRAM_NOT_RUNNING',
  ],
])('%s has neither: %s', (_what, open, code) => {
  const socket = open();
  expect(refusal(() => socket.setDontFragment(true)).code).toBe(code);
  expect(refusal(() => socket.mtu).code).toBe(code);
});

describe('in a network namespace, where nothing is known of any path', () => {
  const inside = async (setUp: string): Promise<unknown> => {
    const { stdout, stderr } = await run([...inNamespace(setUp), process.execPath, childScript('dont-fragment.mjs')]);
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  };

  it('a datagram that is larger than the interface takes is refused with the bit, and fragmented without', async (context) => {
    requires(context, 'root', 'ip', 'netns');
    const expected = { mtu: 1500, tries: [1, 'EMSGSIZE', 1, 'EMSGSIZE'] };
    expect(await inside('ip link set lo mtu 1500')).toEqual({ udp4: expected, udp6: expected, mapped: expected });
  });

  // Elsewhere it hangs on what the kernel has learnt: an ICMPv6 answer to a larger datagram makes it 65 535 for ten minutes.
  it('the MTU is that of the interface, and over IPv4 what a packet can be', async (context) => {
    requires(context, 'root', 'ip', 'netns');
    const tries = [1, 1, 1, 1];
    const [udp4, udp6] = [
      { mtu: 65_535, tries },
      { mtu: 65_536, tries },
    ];
    expect(await inside('')).toMatchObject({ udp4, udp6 });
  });
});
