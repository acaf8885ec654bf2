import { DatagramSocket } from 'rx-sendmmsg';

/** For the start of a program: throws where node:dgram would have to do the sending, and says why. */
export function expectNativeSending() {
  const socket = DatagramSocket.open({ native: 'required' });
  console.log(`datagrams are sent by ${socket.backend}`);
  socket.close();
}
