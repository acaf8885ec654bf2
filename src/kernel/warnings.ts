/**
 * Loss is not silent, nor is a slower way of sending: the first of each kind in a thread is a process warning. Reports and stats
 * have all of it; this is for those who do not look at them yet.
 */

import { callOut } from './call-out.ts';

const OFF = 'Said once in a thread; { warn: false } switches it off.';
const told = new Set<string>();

/** The queue was full, and a datagram gave way to another. */
export function warnOfOverflow({
  highWaterMark,
  highWaterMarkBytes,
}: Record<'highWaterMark' | 'highWaterMarkBytes', number>): void {
  warn(
    'RX_SENDMMSG_OVERFLOW',
    `A datagram was dropped: the queue is full (highWaterMark ${highWaterMark}, highWaterMarkBytes ${highWaterMarkBytes})`,
    'The source is faster than the socket. Raise these options, pause the source when `pressure` says so (or use a door that ' +
      `waits: rx-sendmmsg/ix, rx-sendmmsg/streams), or keep the newest with conflateBy. Reports count it as "dropped". ${OFF}`,
  );
}

/** A datagram was refused. */
export function warnOfRejection({ error, sequence }: { readonly error: Error; readonly sequence: number }): void {
  warn(
    'RX_SENDMMSG_REJECTED',
    `Datagram ${sequence} was rejected: ${error.message}`,
    `Each report has those that were refused in "rejected", with the reason. ${OFF}`,
  );
}

/** Datagrams go one by one where sendmmsg(2) was to be expected. */
export function warnOfFallback(backend: string, reason: string, remedy: string): void {
  warn(
    'RX_SENDMMSG_FALLBACK',
    `Datagrams are sent through ${backend}, not sendmmsg(2): ${reason}`,
    `${remedy} RX_SENDMMSG_BACKEND=${backend === 'sendmsg' ? backend : 'dgram'} in the environment says that it is meant so; ` +
      "DatagramSocket.open({ native: 'required' }) throws where there is nothing but node:dgram. Said once in a thread.",
  );
}

function warn(code: string, message: string, detail: string): void {
  if (told.has(code)) return;
  told.add(code);
  callOut(() => process.emitWarning(message, { type: 'RxSendmmsgWarning', code, detail }));
}
