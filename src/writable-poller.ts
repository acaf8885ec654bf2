/**
 * Waiting for a descriptor: POLLOUT for a blocked sender, POLLIN for the receiver.
 *
 * One of the only two files that touch koffi, whose `node.poll` (uv_poll) is undocumented. What experiments showed:
 * the callback gets `(status, events)`; polling a descriptor that libuv already watches aborts the process, so a
 * duplicate is polled; `stop()` after `close()` segfaults, so each handle is ended exactly once; a throw inside the
 * callback vanishes, so it is rethrown outside.
 */
import { F_DUPFD_CLOEXEC } from './abi.ts';
import { type Wait, Waits } from './clock.ts';
import { systemError } from './errors.ts';
import { libc, loadKoffi } from './libc.ts';

/** Ends a wait; may be called at any time, more than once. */
export type StopPolling = () => void;

interface PollHandle extends Wait {
  stop(): void;
  close(): void;
}
type Poll = (
  fd: number,
  options: { readable?: boolean; writable?: boolean },
  callback: (status: number, events: number) => void,
) => PollHandle;

/** Calls `ready` once, when `fd` can be written to. Until then it is one of `waits`. */
export function pollWritable(fd: number, waits: Waits, ready: () => void): StopPolling {
  const stop = poll(fd, { writable: true }, waits, () => {
    stop();
    ready();
  });
  return stop;
}

/** Calls `ready` each time there is something to read from `fd`, until stopped. Keeps the process alive until then. */
export function pollReadable(fd: number, ready: () => void): StopPolling {
  return poll(fd, { readable: true }, new Waits(), ready);
}

function poll(
  fd: number,
  events: { readable?: boolean; writable?: boolean },
  waits: Waits,
  ready: () => void,
): StopPolling {
  const calls = libc()!;
  const duplicate = calls.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) throw systemError(-duplicate, 'fcntl');
  let isActive = true;
  const start = (loadKoffi() as unknown as { node: { poll: Poll } }).node.poll;
  const handle = start(duplicate, events, () => {
    if (!isActive) return;
    try {
      ready();
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  });
  waits.add(handle);
  return () => {
    if (!isActive) return;
    isActive = false;
    waits.delete(handle); // ref() of a handle that was closed is as deadly as its stop()
    handle.stop();
    handle.close();
    calls.close(duplicate);
  };
}
