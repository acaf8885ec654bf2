/**
 * rx-sendmmsg: datagrams from Observables to the network, in batches, through sendmmsg(2).
 */
export { broadcast } from '../operators/rxjs/broadcast.ts';
export { sendmmsg } from '../operators/rxjs/sendmmsg.ts';
export { type BatchSummary, summarize } from '../operators/rxjs/summarize.ts';
export type { Backend } from './backend.ts';
export type { BatchOptions, PackOptions, PressureObserver } from './batch-options.ts';
export { type BatchObserver, BatchSender } from './batch-sender.ts';
export type { SchedulerLike } from './clock.ts';
export type { BatchReport, Datagram, DatagramLike, Endpoint, Payload, RejectedDatagram } from './datagram.ts';
export { DatagramSocket } from './datagram-socket.ts';
export type { DiagnosticsMessages, DropReason, GsoStats, SenderStats } from './diagnostics.ts';
export { SendmmsgError } from './errors.ts';
export type { PaceOptions } from './pace.ts';
export { endpoint } from './sockaddr.ts';
export type { SocketOptions } from './socket-options.ts';
