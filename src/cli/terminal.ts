/**
 * What the command says and hears: progress, messages, signals, the end of standard output.
 */
import { constants } from 'node:os';
import yoctoSpinner from 'yocto-spinner';

/** Between two redraws of the progress. */
const REDRAW_MS = 100;

/** The signals that end a command in an orderly way. */
export type EndSignal = 'SIGINT' | 'SIGTERM';

/** One line on standard error. */
export function say(message: string): void {
  process.stderr.write(`mmsg: ${message}\n`);
}

/** The exit status of a command that a signal ended. */
export function exitCodeOf(signal: EndSignal): number {
  return 128 + constants.signals[signal];
}

/**
 * Shows a line of progress on standard error while it is a terminal, and nothing where it is not.
 *
 * @returns takes the line away
 */
export function showProgress(line: () => string): () => void {
  const { stderr, env } = process;
  if (!stderr.isTTY || env['TERM'] === 'dumb' || 'CI' in env) return () => {};
  const spinner = yoctoSpinner({ stream: stderr, handleSignals: false }).start(line());
  const timer = setInterval(() => {
    spinner.text = line();
  }, REDRAW_MS);
  const hide = (): void => {
    clearInterval(timer);
    spinner.stop();
    process.off('exit', hide);
  };
  // Quitting at once must not leave the cursor hidden.
  process.once('exit', hide);
  return hide;
}

/**
 * Calls `end` on the first SIGINT or SIGTERM; the second one quits at once.
 *
 * @returns leaves the signals alone again
 */
export function onEndSignal(end: (signal: EndSignal) => void): () => void {
  let isEnding = false;
  const listener = (signal: NodeJS.Signals): void => {
    const name = signal as EndSignal;
    if (isEnding) process.exit(exitCodeOf(name));
    isEnding = true;
    end(name);
  };
  process.on('SIGINT', listener);
  process.on('SIGTERM', listener);
  return () => {
    process.off('SIGINT', listener);
    process.off('SIGTERM', listener);
  };
}

/**
 * Calls `end` when standard input ends, or fails; what comes on it is thrown away.
 *
 * @returns lets go of standard input, which would keep the process alive
 */
export function onInputEnd(end: () => void): () => void {
  const { stdin } = process;
  stdin.once('end', end).once('error', end).resume();
  return () => {
    stdin.off('end', end).off('error', end);
    stdin.on('error', () => {}).destroy();
  };
}

/** Whether nothing that is written to standard output gets anywhere any more. */
export function isOutputBroken(): boolean {
  return process.stdout.errored !== null;
}

/**
 * Resolves when all that was written to standard output has left the process.
 *
 * @returns why some of it has not; `null` if all has, or if its reader has gone (`mmsg recv … | head`), who wants no more
 */
export async function outputFlushed(): Promise<Error | null> {
  const { stdout } = process;
  // A write that is asynchronous (a pipe of Windows) fails only in its callback.
  const failure: Error | null = isOutputBroken()
    ? stdout.errored
    : await new Promise((resolve) => stdout.write('', (error) => resolve(error ?? null)));
  return (failure as NodeJS.ErrnoException | null)?.code === 'EPIPE' ? null : failure;
}
