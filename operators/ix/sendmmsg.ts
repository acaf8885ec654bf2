import { AbortError, throwIfAborted } from 'ix/aborterror';
import { AsyncIterableX } from 'ix/asynciterable';
import type { OperatorAsyncFunction } from 'ix/interfaces';
import type { BatchReport, DatagramLike } from '../../src/message/datagram.ts';
import { type BatchOptions, type ResolvedBatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import type { BatchObserver } from '../../src/sender/batch-sender.ts';
import { checkSignal, checkSocketSource, Outlet, type SocketSource } from '../../src/sender/outlet.ts';
import type { DatagramSocket } from '../../src/socket/datagram-socket.ts';

/**
 * Sends each datagram of the source, in batches, through sendmmsg(2); the output is a report for each flush.
 *
 * Pulling the output drives the sending: while a report is asked for, the source is pulled, one `next()` at a time, as
 * long as there is room in the queue; when the kernel takes no more and the queue is full, it is not pulled until a
 * quarter of that is gone. So nothing is dropped for want of room, however slow the receiver, and `overflow` never comes into
 * it. Between two pulls of the output only what is queued already is sent; its reports wait, never more of them than
 * `highWaterMark`.
 *
 * A bad datagram is one rejection in a report. When the source ends, the queue is drained, then the output ends; when it
 * throws, there is one last flush, then the output throws. On `return()` (`break`) and on abort nothing more is sent, and
 * the source's own `return()` is called.
 *
 * @param socket - a socket that stays open, or a factory whose socket is closed with the iteration
 * @param options - see {@link BatchOptions}; checked at once
 * @returns an Ix operator; a plain `AsyncIterable` may be its source, too. Its output throws only if the source does,
 * if the socket itself fails (`EBADF`, `ENOTSOCK`, …; `ERR_SOCKET_DGRAM_NOT_RUNNING` if it was closed before), on
 * abort, Ix's `AbortError`, or, for a `signal` that is none, `ERR_INVALID_ARG_TYPE`
 * @throws SendmmsgError for bad options: `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`
 * @example
 * ```ts
 * import { range } from 'ix/asynciterable';
 * import { map } from 'ix/asynciterable/operators';
 * import { DatagramSocket, sendmmsg } from 'rx-sendmmsg/ix';
 * const statsd = () => DatagramSocket.open({ connect: { address: '127.0.0.1', port: 8125 } });
 * const reports = range(0, 1000).pipe(
 *   map((n) => `app.requests:${n}|c`),
 *   sendmmsg(statsd),
 * );
 * for await (const { sent, syscalls } of reports) console.log(`${sent} datagrams in ${syscalls} calls`);
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 * @see {@link https://github.com/ReactiveX/IxJS | IxJS}
 */
export function sendmmsg<D extends DatagramLike = DatagramLike>(
  socket: DatagramSocket<D> | (() => DatagramSocket<D>),
  options: BatchOptions = {},
): OperatorAsyncFunction<D, BatchReport> {
  checkSocketSource(socket);
  const resolved = resolveBatchOptions(options);
  return (source) => new SendmmsgAsyncIterable(source, socket, resolved);
}

class SendmmsgAsyncIterable extends AsyncIterableX<BatchReport> {
  readonly #source: AsyncIterable<DatagramLike>;
  readonly #socket: SocketSource;
  readonly #options: ResolvedBatchOptions;

  constructor(source: AsyncIterable<DatagramLike>, socket: SocketSource, options: ResolvedBatchOptions) {
    super();
    this.#source = source;
    this.#socket = socket;
    this.#options = options;
  }

  [Symbol.asyncIterator](signal?: AbortSignal): AsyncIterableIterator<BatchReport> {
    const open = (observer: BatchObserver): Outlet => new Outlet(this.#socket, this.#options, observer);
    // Ix hands the signal on this way; other iterables take no notice of it.
    const source = this.#source as { [Symbol.asyncIterator](signal?: AbortSignal): AsyncIterator<DatagramLike> };
    return new Iteration(open, () => source[Symbol.asyncIterator](signal), signal);
  }
}

type Result = IteratorResult<BatchReport, undefined>;

interface Waiter {
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/**
 * One iteration. Not a generator: that would keep `return()` and an abort waiting for a source that does not answer.
 * As with one, nothing is opened, pulled or listened to before the first `next()`.
 */
class Iteration implements AsyncIterableIterator<BatchReport> {
  readonly #open: (observer: BatchObserver) => Outlet;
  readonly #iterate: () => AsyncIterator<DatagramLike>;
  readonly #signal: AbortSignal | undefined;
  #stopListening = (): void => {};
  #outlet: Outlet | null = null;
  /** The source's iterator, until it has ended, failed or been returned. */
  #input: AsyncIterator<DatagramLike> | null = null;
  #isPumping = false;
  /** Whether the source has been asked, and has not answered yet. */
  #isPulling = false;
  #isEnded = false;
  /** What is thrown once the reports have been read. */
  #failure: { readonly error: unknown } | null = null;
  #reports: BatchReport[] = [];
  readonly #waiters: Waiter[] = [];

  constructor(
    open: (observer: BatchObserver) => Outlet,
    iterate: () => AsyncIterator<DatagramLike>,
    signal: AbortSignal | undefined,
  ) {
    this.#open = open;
    this.#iterate = iterate;
    this.#signal = signal;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#answer();
      if (this.#waiters.length > 0 && !this.#isPumping) void this.#pump();
    });
  }

  /** Ends the iteration: nothing more is sent or told. */
  async return(): Promise<Result> {
    this.#reports = [];
    this.#failure = null;
    const isPulling = this.#isPulling;
    const returned = this.#end();
    // A generator answers return() after the next() that it is busy with, which may be never.
    if (isPulling) returned.catch(() => {});
    else await returned;
    return { done: true, value: undefined };
  }

  /** {@link return}, then the error. */
  async throw(error: unknown): Promise<Result> {
    await this.return();
    throw error;
  }

  /** Pulls and sends while a report is asked for. */
  async #pump(): Promise<void> {
    this.#isPumping = true;
    try {
      const outlet = this.#outlet ?? this.#start();
      while (this.#waiters.length > 0 && this.#input !== null) {
        this.#isPulling = true;
        const { done, value } = await this.#input.next();
        this.#isPulling = false;
        if (this.#isEnded) break;
        if (done === true) {
          this.#input = null;
          outlet.sender.delivery.end();
          break;
        }
        const waiting = outlet.send(value);
        if (waiting !== undefined) await waiting;
      }
    } catch (error) {
      this.#onPumpError(error);
    }
    this.#isPulling = false;
    this.#isPumping = false;
  }

  #onPumpError(error: unknown): void {
    if (this.#outlet === null) {
      this.#fail(error);
    } else if (this.#isPulling && this.#input !== null) {
      this.#input = null; // what has thrown is not returned
      this.#outlet.sender.delivery.abort(error);
    }
    // Else the sender has failed, and tells its observer.
  }

  #start(): Outlet {
    if (this.#signal !== undefined) this.#listenTo(this.#signal);
    const outlet = this.#open({
      next: (report) => {
        this.#reports.push(report);
        this.#answer();
      },
      error: (error) => this.#fail(error),
      complete: () => void this.#end(),
    });
    this.#outlet = outlet;
    try {
      this.#input = this.#iterate();
    } catch (error) {
      this.#fail(error);
    }
    // The factory and the source are user code, and may have returned or aborted this iteration.
    if (this.#isEnded) this.#release().catch(() => {});
    return outlet;
  }

  #listenTo(signal: AbortSignal): void {
    checkSignal('"signal"', signal);
    throwIfAborted(signal);
    const onAbort = (): void => {
      this.#reports = [];
      this.#fail(new AbortError());
    };
    signal.addEventListener('abort', onAbort);
    this.#stopListening = () => signal.removeEventListener('abort', onAbort);
  }

  #fail(error: unknown): void {
    if (this.#isEnded) return;
    this.#failure = { error };
    this.#end().catch(() => {}); // the first error is the one that is told
  }

  /** Resolves, or rejects, as the source's `return()` does. */
  #end(): Promise<void> {
    if (this.#isEnded) return Promise.resolve();
    this.#isEnded = true;
    this.#stopListening();
    this.#answer();
    return this.#release();
  }

  async #release(): Promise<void> {
    this.#outlet?.destroy();
    const input = this.#input;
    this.#input = null;
    await input?.return?.();
  }

  /** Gives those who wait what there is: reports, then the failure once, then the end. */
  #answer(): void {
    for (let waiter = this.#waiters[0]; waiter !== undefined; waiter = this.#waiters[0]) {
      const report = this.#reports.shift();
      if (report !== undefined) waiter.resolve({ done: false, value: report });
      else if (!this.#isEnded) return;
      else if (this.#failure === null) waiter.resolve({ done: true, value: undefined });
      else {
        waiter.reject(this.#failure.error);
        this.#failure = null;
      }
      this.#waiters.shift();
    }
  }
}
