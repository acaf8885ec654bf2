/**
 * What a socket is received from with: recvmmsg(2) where it is to be had, else node:dgram.
 */

import { SendmmsgError } from '../kernel/errors.ts';
import { type DatagramReceiver, MmsgReceiver, type ReceiverOptions } from '../receiver/mmsg-receiver.ts';
import type { DatagramSocket } from '../socket/datagram-socket.ts';
import { DgramReceiver } from './dgram-receiver.ts';

/** @param socket - bound, and the caller's to close */
export function openReceiver(socket: DatagramSocket, options: ReceiverOptions): DatagramReceiver {
  try {
    return new MmsgReceiver(socket, options);
  } catch (error) {
    if (!(error instanceof SendmmsgError) || error.code !== 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM') throw error;
    return new DgramReceiver(socket.lend(), options);
  }
}
