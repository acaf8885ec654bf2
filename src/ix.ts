/**
 * rx-sendmmsg/ix: datagrams from AsyncIterables to the network, in batches, through sendmmsg(2). Needs no rxjs.
 */
export { sendmmsg } from '../operators/ix/sendmmsg.ts';
export type { Backend } from './backend.ts';
export type { BatchOptions, PackOptions, PressureObserver } from './batch-options.ts';
export type { SchedulerLike } from './clock.ts';
export type { BatchReport, Datagram, DatagramLike, Endpoint, Payload, RejectedDatagram } from './datagram.ts';
export { DatagramSocket } from './datagram-socket.ts';
export { SendmmsgError } from './errors.ts';
export type { PaceOptions } from './pace.ts';
export { endpoint } from './sockaddr.ts';
export type { SocketOptions } from './socket-options.ts';
