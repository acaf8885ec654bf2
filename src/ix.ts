/**
 * rx-sendmmsg/ix: datagrams from AsyncIterables to the network, in batches, through sendmmsg(2). Needs no rxjs.
 */
export { sendmmsg } from '../operators/ix/sendmmsg.ts';
export type { Backend } from './kernel/backend.ts';
export type { SchedulerLike } from './kernel/clock.ts';
export { SendmmsgError } from './kernel/errors.ts';
export type { BatchReport, Datagram, DatagramLike, Endpoint, Payload, RejectedDatagram } from './message/datagram.ts';
export { endpoint } from './message/sockaddr.ts';
export type { BatchOptions, PackOptions, PressureObserver } from './sender/batch-options.ts';
export type { PaceOptions } from './sender/pace.ts';
export { DatagramSocket } from './socket/datagram-socket.ts';
export type { SocketOptions } from './socket/socket-options.ts';
