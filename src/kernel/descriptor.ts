/**
 * Descriptors that end with their thread. A worker may end at any instant, in any way, and runs no code of ours then; the kernel
 * closes a descriptor only with the process.
 *
 * But Node closes what a worker has opened with `fs.openSync` (`trackUnmanagedFds` of Worker). So there the socket is moved to a
 * number that came from there: dup3(2) puts it in the place of what was opened.
 */
import { closeSync, openSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { O_CLOEXEC } from './abi.ts';
import type { Libc } from './libc.ts';

/** A descriptor of ours: its number, and how to close it. */
export interface Descriptor {
  readonly fd: number;
  close(): void;
}

/** Takes over `fd`; from here on it is {@link Descriptor.fd} and no other number. */
export function adopt(libc: Libc, fd: number): Descriptor {
  const kept = isMainThread ? -1 : moved(libc, fd);
  if (kept < 0) return { fd, close: () => void libc.close(fd) };
  return { fd: kept, close: () => closeSync(kept) };
}

/** The number that `fd` was moved to; -1 where there is none to be had: no descriptor left, or no right to open a file. */
function moved(libc: Libc, fd: number): number {
  try {
    const kept = openSync('/dev/null', 'r');
    if (libc.dup3(fd, kept, O_CLOEXEC) >= 0) {
      libc.close(fd);
      return kept;
    }
    closeSync(kept);
  } catch {
    // Without it the worker works all the same, and leaves a descriptor behind if it is terminated.
  }
  return -1;
}
