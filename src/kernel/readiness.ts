/**
 * Waiting until a descriptor is ready: POLLOUT for a blocked sender, POLLIN for a receiver. The one place that decides how.
 *
 * On Node's main thread the event loop waits (`koffi.node.poll`, which is uv_poll). Experiments told how to use it: it makes what
 * it polls non-blocking for good, for all who share the open file description, and aborts where libuv watches the descriptor
 * already, so it gets a duplicate, or of a blocking socket an epoll(7) instance of ours; `stop()` after `close()` segfaults, so each handle is
 * ended exactly once; its callback has no async context, swallows what is thrown, and on Node 26 drains no microtasks, so there it
 * only schedules an immediate.
 *
 * Anywhere else a timer looks, with poll(2) that does not wait. An open uv_poll handle takes the whole process down when its
 * worker thread ends, in whatever way; Bun aborts at the call; and on the thread pool a waiting poll(2) would hold one of its
 * four threads. So there a wait ends up to 4 ms late.
 */
import { isMainThread } from 'node:worker_threads';
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, EPOLLOUT, F_DUPFD_CLOEXEC, F_GETFL, SOCK_NONBLOCK } from './abi.ts';
import { callOut, inContext } from './call-out.ts';
import { type Disarm, eventLoopClockOf, KeepAlive, type Wait } from './clock.ts';
import { systemError } from './errors.ts';
import { findKoffi } from './koffi.ts';
import { type Libc, libc } from './libc.ts';

/** Ends a wait; may be called at any time, more than once. */
export type StopWaiting = () => void;

/** Calls `ready` once, when `fd` can be written to. Until then `keepAlive` has it. */
export function whenWritable(fd: number, keepAlive: KeepAlive, ready: () => void): StopWaiting {
  const stop = watch(fd, EPOLLOUT, keepAlive, () => {
    stop();
    ready();
  });
  return stop;
}

/** Calls `ready` each time there is something to read from `fd`, until stopped. Keeps the process alive until then. */
export function watchReadable(fd: number, ready: () => void): StopWaiting {
  return watch(fd, EPOLLIN, new KeepAlive(), ready);
}

type Watch = (fd: number, events: number, keepAlive: KeepAlive, ready: () => void) => StopWaiting;

const { bun, deno } = process.versions as NodeJS.ProcessVersions & { readonly bun?: string; readonly deno?: string };
const watch: Watch = isMainThread && bun === undefined && deno === undefined ? watchByEventLoop : watchByTimer;

/** From Node.js 26 on the callback of a poll runs none: then it only schedules what is to be done. */
const DRAINS_MICROTASKS: boolean = Number.parseInt(process.versions.node, 10) < 26;

interface PollHandle extends Wait {
  stop(): void;
  close(): void;
}
interface PollOptions {
  readable?: boolean;
  writable?: boolean;
}
type Poll = (fd: number, options: PollOptions, callback: (status: number, events: unknown) => void) => PollHandle;

function watchByEventLoop(fd: number, events: number, keepAlive: KeepAlive, ready: () => void): StopWaiting {
  const calls = libc()!;
  const polled = pollable(calls, fd, events);
  const resume = inContext(ready);
  let isWatched = true;
  let isScheduled = false;
  const poll = (findKoffi().koffi as unknown as { node: { poll: Poll } }).node.poll;
  const handle = poll(polled.fd, polled.options, () => {
    if (!isWatched || isScheduled) return;
    if (DRAINS_MICROTASKS) return callOut(resume);
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      if (isWatched) resume();
    });
  });
  keepAlive.add(handle);
  return () => {
    if (!isWatched) return;
    isWatched = false;
    keepAlive.delete(handle); // ref() of a handle that was closed is as deadly as its stop()
    handle.stop();
    handle.close();
    calls.close(polled.fd);
  };
}

/** A duplicate of a socket that is non-blocking anyway, which is cheaper, or an epoll instance of one that is not. */
function pollable(calls: Libc, fd: number, events: number): { fd: number; options: PollOptions } {
  if ((calls.fcntl(fd, F_GETFL, 0) & SOCK_NONBLOCK) === 0) {
    return { fd: opened(calls, fd, events), options: { readable: true } };
  }
  const duplicate = calls.fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) throw systemError(-duplicate, 'fcntl');
  return { fd: duplicate, options: events === EPOLLIN ? { readable: true } : { writable: true } };
}

/** An epoll instance that is readable while the descriptor is ready: level-triggered, so it may be asked at any time. */
function opened(calls: Libc, fd: number, events: number): number {
  const epoll = calls.epollCreate1(EPOLL_CLOEXEC);
  if (epoll < 0) throw systemError(-epoll, 'epoll_create1');
  const answer = calls.epollCtl(epoll, EPOLL_CTL_ADD, fd, events);
  if (answer >= 0) return epoll;
  calls.close(epoll);
  throw systemError(-answer, 'epoll_ctl');
}

/** Turns of the event loop in which a wait that has just begun looks: a reader that is busy makes room at once. */
const TURNS_BEFORE_TIMER = 8;
/** The longest between two looks: what a wait may be late by, and 250 calls a second for a socket that stays full. */
const MAX_LOOK_MS = 4;

function watchByTimer(fd: number, events: number, keepAlive: KeepAlive, ready: () => void): StopWaiting {
  const calls = libc()!;
  const clock = eventLoopClockOf(keepAlive);
  let isWatched = true;
  let looks = 0;
  let disarm: Disarm;
  const arm = (): void => {
    const ms = looks < TURNS_BEFORE_TIMER ? 0 : Math.min(2 ** (looks - TURNS_BEFORE_TIMER), MAX_LOOK_MS);
    looks++;
    disarm = clock.after(ms, look);
  };
  const look = (): void => {
    if (calls.isReady(fd, events)) {
      looks = 0;
      ready();
    }
    if (isWatched) arm();
  };
  arm();
  return () => {
    isWatched = false;
    disarm();
  };
}
