/**
 * When UDP GSO (UDP_SEGMENT) may be used, and the latch that turns it off where the kernel refuses it.
 *
 * A refusal counts only once the same datagrams have passed plainly: of a size problem (EINVAL or EMSGSIZE, segments over
 * the route's MTU) for that destination and that size, of EIO (no checksum offload, IPsec) for the socket. It is tried
 * again after a while, since routes and devices change. See udp(7), and linux 4.18 (UDP_SEGMENT).
 */
import { release } from 'node:os';
import { EIO } from '../kernel/errno.ts';
import type { Sockaddr } from '../message/datagram.ts';

/** Segments of one message: UDP_MAX_SEGMENTS is 64, and 128 only since Linux 6.10. */
export const MAX_SEGMENTS = 64;
/** Most bytes of a segmented message: what one IPv4 datagram may hold, since an IPv6 socket sends to IPv4-mapped addresses, too. */
export const MAX_SEGMENTED_BYTES = 65_507;

/** How long a refusal is remembered. */
export const GSO_RETRY_MS = 60_000;

/**
 * Whether this machine may use GSO at all: not with `RX_SENDMMSG_GSO=off` in the environment, and not on Linux 7.0 to
 * 7.1.4, which mangle a message whose last segment is as long as the others (tailscale/tailscale#19777).
 */
export function isGsoAllowed(environment: NodeJS.ProcessEnv = process.env, kernel: string = release()): boolean {
  if (environment['RX_SENDMMSG_GSO'] === 'off') return false;
  const [major = 0, minor = 0, patch = 0] = kernel.split(/[.-]/).map((part) => Number.parseInt(part, 10));
  return !(major === 7 && (minor === 0 || (minor === 1 && patch <= 4)));
}

/** What was refused, and until when it is not tried; shared by all senders of a socket. */
export class GsoLatch {
  /** How often it has changed, ever. */
  changes: number = 0;
  #socketUntil = 0;
  /** By destination (`null`: the connected peer): the smallest segment size refused. */
  readonly #destinations = new Map<Sockaddr | null, { size: number; until: number }>();

  /** Whether nothing is latched: the common case, checked first. */
  get isOpen(): boolean {
    return this.#socketUntil === 0 && this.#destinations.size === 0;
  }

  /** Whether the whole socket is latched. */
  get isSocketOff(): boolean {
    return this.#socketUntil > 0;
  }

  /** How many destinations are latched. */
  get destinationsOff(): number {
    return this.#destinations.size;
  }

  /** Whether segments of `size` bytes to this destination may be tried. */
  allows(sockaddr: Sockaddr | null, size: number): boolean {
    if (this.#socketUntil > 0) return false;
    const refused = this.#destinations.get(sockaddr);
    return refused === undefined || size < refused.size;
  }

  /** Remembers that a segmented message was refused with `errno` where its datagrams passed one by one. */
  refuse(errno: number, sockaddr: Sockaddr | null, size: number, now: number): void {
    const until = now + GSO_RETRY_MS;
    this.changes++;
    if (errno === EIO) this.#socketUntil = until;
    else {
      const refused = this.#destinations.get(sockaddr);
      this.#destinations.set(sockaddr, { size: Math.min(size, refused?.size ?? size), until });
    }
  }

  /** Forgets what is due to be tried again. */
  expire(now: number): void {
    if (this.#socketUntil > 0 && this.#socketUntil <= now) {
      this.#socketUntil = 0;
      this.changes++;
    }
    for (const [sockaddr, { until }] of this.#destinations) {
      if (until > now) continue;
      this.#destinations.delete(sockaddr);
      this.changes++;
    }
  }
}
