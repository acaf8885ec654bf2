/**
 * A unix datagram receiver with a queue as long as on most machines.
 *
 * systemd sets net.unix.max_dgram_qlen to 512, the kernel's own default is 10. With 10 the reader alone sets the pace; with
 * 512 a sender fills its own buffer (SO_SNDBUF) first, which is another way to be blocked: writable again only when most
 * of it has been read. The value counts when the receiver's socket is made, and belongs to the network namespace; a path in the
 * file system does not, so the sender may stay outside.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const QLEN = '/proc/sys/net/unix/max_dgram_qlen';
const LONG = 512;

/** What a command is run by to have it; `undefined` where that takes privileges which are not there. */
export function withLongQueue(): readonly string[] | undefined {
  if (Number(readFileSync(QLEN, 'latin1')) >= LONG) return [];
  const raise = ['-n', 'sh', '-ec', `echo ${LONG} > ${QLEN}; exec "$0" "$@"`];
  try {
    execFileSync('unshare', [...raise, 'true'], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  return ['unshare', ...raise];
}
