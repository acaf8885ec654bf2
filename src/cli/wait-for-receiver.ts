/**
 * `mmsg send --wait`: waits until somebody listens at a unix path.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SendmmsgError } from '../kernel/errors.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';

/** Between two looks: from a few milliseconds, twice as long each time, to this. */
const FIRST_LOOK_MS = 5;
const LONGEST_LOOK_MS = 200;
/** A receiver that is just starting is there sooner. */
const MOMENT_MS = 500;

/** What the kernel answers where nobody has bound the path, or nobody has it open any more, unix(7). */
const GONE: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTCONN']);

/** Whether an error says that nobody listens there now; somebody may come. */
export function isReceiverGone(error: unknown): boolean {
  return error instanceof SendmmsgError && GONE.has(error.code);
}

/** Succeeds where somebody listens at the path. */
export function findReceiver(path: string): void {
  DatagramSocket.open({ type: 'unix', connect: { path } }).close();
}

/**
 * Tries until it is not for want of a receiver that it fails.
 *
 * @param tell - called once, if it takes longer than a moment
 * @returns what was tried for; `undefined` if it was called off
 * @throws what `attempt` throws for any other reason
 */
export async function whenReceived<T>(
  attempt: () => T | Promise<T>,
  calledOff: AbortSignal,
  tell: () => void,
): Promise<T | undefined> {
  const startedAt = performance.now();
  let isTold = false;
  for (let ms = FIRST_LOOK_MS; ; ms = Math.min(2 * ms, LONGEST_LOOK_MS)) {
    if (calledOff.aborted) return undefined;
    try {
      return await attempt();
    } catch (error) {
      if (!isReceiverGone(error)) throw error;
    }
    if (!isTold && performance.now() - startedAt > MOMENT_MS) {
      isTold = true;
      tell();
    }
    await delay(ms, undefined, { signal: calledOff }).catch(() => {});
  }
}
