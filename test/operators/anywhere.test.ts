/** On any machine, by whatever sends there: what is sent arrives at a receiver that is node:dgram's own. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { endpoint } from '../../src/message/sockaddr.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { numberedList } from '../support/datagrams.ts';
import { DOORS } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';

const keep = keeper();
/** Fits the receive buffer that anybody may have. */
const TEXTS = numberedList(100).map((text, index) => (index % 20 === 19 ? '' : text));

async function listen(): Promise<{ socket: Socket; port: number }> {
  const socket = keep(createSocket('udp4'));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return { socket, port: socket.address().port };
}

function receive(socket: Socket, count: number): Promise<string[]> {
  const texts: string[] = [];
  return new Promise((resolve) => {
    socket.on('message', (message) => {
      if (texts.push(message.toString()) === count) resolve(texts);
    });
  });
}

describe.each(DOORS)('$name', ({ send }) => {
  it.each(['connected', 'to an address', 'to an endpoint'])(
    '%s: all arrive, in order, boundaries kept',
    async (way) => {
      const { socket: receiver, port } = await listen();
      const received = receive(receiver, TEXTS.length);
      const connect = { address: '127.0.0.1', port };
      const to = endpoint(connect.address, port);
      const datagrams = TEXTS.map((payload) =>
        way === 'connected' ? payload : way === 'to an address' ? { payload, ...connect } : { payload, to },
      );
      const socket = (): DatagramSocket => DatagramSocket.open(way === 'connected' ? { connect } : {});
      const { reports } = await send(socket, {}, datagrams);
      expect(await received).toEqual(TEXTS);
      expect(reports.reduce((sum, { sent }) => sum + sent, 0)).toBe(TEXTS.length);
      expect(reports.flatMap(({ rejected }) => rejected)).toEqual([]);
    },
  );
});
