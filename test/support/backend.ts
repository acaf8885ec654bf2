/** Which backend sockets are opened on: `RX_SENDMMSG_BACKEND`, which is looked at each time. */
import { afterEach } from 'vitest';
import type { Backend } from '../../src/kernel/backend.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';

export const VARIABLE = 'RX_SENDMMSG_BACKEND';
const AT_FIRST = process.env[VARIABLE];
afterEach(() => set(AT_FIRST)); // child processes have it, too

/** What sockets are opened on in this run of the tests; see the projects of vitest.config.ts. */
export const BACKEND: Backend =
  AT_FIRST === 'sendmsg' ? 'sendmsg' : AT_FIRST?.endsWith('dgram') ? 'node:dgram' : 'sendmmsg';

/** How many calls so many datagrams may take: those of sendmmsg(2), or one each. */
export function callsFor(batches: number, datagrams: number): number {
  return BACKEND === 'sendmmsg' ? batches : datagrams;
}

/** Runs `open` with the variable set to `value`, or not set. */
export function withBackend<T>(value: string | undefined, open: () => T): T {
  const before = process.env[VARIABLE];
  set(value);
  try {
    return open();
  } finally {
    set(before);
  }
}

/** Opens a socket that receives with recvmmsg(2), whatever the sockets under test send by. */
export function openNative(options: SocketOptions): DatagramSocket {
  return withBackend(undefined, () => DatagramSocket.open(options));
}

/** How sockets are opened from here on, until the test ends: natively, or through node:dgram. */
export const opening = {
  get isNative(): boolean {
    return process.env[VARIABLE] !== 'dgram';
  },
  set isNative(isNative: boolean) {
    set(isNative ? undefined : 'dgram');
  },
};

function set(value: string | undefined): void {
  if (value === undefined) delete process.env[VARIABLE];
  else process.env[VARIABLE] = value;
}
