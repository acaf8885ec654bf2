/**
 * What the command says where sendmmsg(2) is not to be had.
 */
import type { DatagramSocket } from '../socket/datagram-socket.ts';

/** The process warning that tells of it, too. */
const WARNING = 'RX_SENDMMSG_FALLBACK';

/** One sentence about what does the sending of a socket in place of sendmmsg(2), and why; `undefined` where nothing does. */
export function fallbackOf({ backend, fallbackReason }: DatagramSocket): string | undefined {
  return fallbackReason && `Sending through ${backend}, not sendmmsg(2): ${fallbackReason}`;
}

/** Leaves the warning out, for a command that tells it itself; all others are shown as ever. */
export function hideFallbackWarning(): void {
  const listeners = process.listeners('warning');
  process.removeAllListeners('warning');
  process.on('warning', (warning: Error & { code?: string }) => {
    if (warning.code === WARNING) return;
    for (const listener of listeners) listener.call(process, warning);
  });
}
