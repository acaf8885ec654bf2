/** A unix peer that goes away and comes back, as a syslog daemon does when it is restarted. */
import { expect, it } from 'vitest';
import { BatchSender } from '../src/batch-sender.ts';
import { DatagramSocket } from '../src/datagram-socket.ts';
import type { BatchReport } from '../src/index.ts';
import { expectConservation } from './support/datagrams.ts';
import { keeper } from './support/keep.ts';
import { Receiver } from './support/receiver.ts';

const keep = keeper();
const codes = ({ rejected }: BatchReport): string[] => rejected.map(({ error }) => error.code);

it('costs what is sent meanwhile, one rejection each, and is found again', async () => {
  const first = Receiver.unix();
  const { path } = first;
  const socket = keep(DatagramSocket.open({ type: 'unix', connect: { path } }));
  const sender = new BatchSender(socket);
  sender.send('before');
  expect(sender.flush()).toMatchObject({ sent: 1 });
  expect(first.drain().map(String)).toEqual(['before']);
  first.close();

  sender.send('meanwhile');
  sender.send('still');
  const lost = sender.flush();
  expect(codes(lost)).toEqual(['ENOTCONN', 'ENOTCONN']);
  expect(lost.syscalls).toBeLessThan(6);

  const second = keep(Receiver.unix(path));
  sender.send('after');
  sender.send('again');
  expect(sender.flush()).toMatchObject({ sent: 2, rejected: [] });
  expect(second.drain().map(String)).toEqual(['after', 'again']);
  expectConservation(sender.stats);
  await sender.close();
});

it('is not looked for by a socket that something else connected', async () => {
  const { sender: socket, receiver } = Receiver.pair();
  keep(socket);
  receiver.close();
  const sender = new BatchSender(socket);
  sender.send('x');
  expect(codes(sender.flush())).toHaveLength(1);
  await sender.close();
});
