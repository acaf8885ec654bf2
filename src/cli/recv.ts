/**
 * `mmsg recv`: a bound socket → recvmmsg(2) or node:dgram → standard output, a count or a checksum → a summary.
 */
import { lstatSync, unlinkSync } from 'node:fs';
import { SendmmsgError } from '../kernel/errors.ts';
import type { StopWaiting } from '../kernel/readiness.ts';
import type { DatagramReceiver } from '../receiver/mmsg-receiver.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import { Checksum } from './checksum.ts';
import { DatagramOutput, type OutputFormat } from './datagram-output.ts';
import { hideFallbackWarning } from './fallback.ts';
import * as format from './format.ts';
import { openReceiver } from './open-receiver.ts';
import { describeTarget, resolveTarget, type SocketTarget, type Target } from './target.ts';
import { type EndSignal, exitCodeOf, onEndSignal, onInputEnd, say, showProgress } from './terminal.ts';

export interface RecvOptions {
  readonly count?: number;
  readonly idleTimeout?: number;
  readonly endWithStdin?: boolean;
  readonly framing: 'lines' | 'length-prefixed';
  readonly bytes?: boolean;
  readonly checksum?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly recvBuffer: number;
  readonly batchSize: number;
  readonly maxSize: number;
  readonly gro: boolean;
  readonly reusePort?: boolean;
}

/** Most bytes of a call's buffers. */
const MOST_RECEIVED = 2 ** 30;
/** Calls in a row before the event loop has its turn. */
const CALLS_PER_BURST = 16;
/** How long, after a signal, what the kernel has already queued is read. */
const LAST_READ_MS = 250;

/** Options that make no sense together; `undefined` if they do. `isFramed`: whether the framing was asked for. */
export function conflictOf(target: Target, options: RecvOptions, isFramed: boolean): string | undefined {
  const { reusePort, bytes, batchSize, maxSize } = options;
  if (reusePort === true && 'path' in target) return '--reuse-port is for UDP';
  if (bytes === true && isFramed) return '--bytes cannot be combined with --framing';
  if (batchSize * maxSize > MOST_RECEIVED)
    return '--max-size times --batch-size must be at most 1 GiB: it is kept in memory';
  return undefined;
}

/** Runs the command; returns the exit status. Throws what keeps it from starting. */
export async function recv(target: Target, options: RecvOptions): Promise<number> {
  hideFallbackWarning(); // the summary tells
  const local = await resolveTarget(target);
  const socket = openSocket(local, options);
  try {
    return await new Receiving(socket, options).run();
  } finally {
    socket.close();
  }
}

function openSocket(local: SocketTarget, options: RecvOptions): DatagramSocket {
  const open = (): DatagramSocket =>
    DatagramSocket.open({ type: local.type, bind: local.name, reusePort: options.reusePort === true });
  try {
    return open();
  } catch (error) {
    if (local.type !== 'unix' || !removeStaleSocket(local.name.path, error)) throw error;
    return open();
  }
}

/** A receiver that was killed leaves its path behind: a socket that refuses connections is nobody's. */
function removeStaleSocket(path: string, error: unknown): boolean {
  if (!(error instanceof SendmmsgError) || error.code !== 'EADDRINUSE' || path.startsWith('\0')) return false;
  if (!lstatSync(path).isSocket()) return false;
  try {
    DatagramSocket.open({ type: 'unix', connect: { path } }).close();
    return false;
  } catch (refusal) {
    if ((refusal as SendmmsgError).code !== 'ECONNREFUSED') return false;
  }
  unlinkSync(path);
  return true;
}

/** Why receiving ended. */
type End = 'count' | 'idle' | 'stdin' | 'output' | EndSignal;

/** One run: the polling, and all that is counted of it. */
class Receiving {
  readonly #options: RecvOptions;
  readonly #receiver: DatagramReceiver;
  readonly #address: string;
  readonly #checksum: Checksum | null;
  readonly #output: DatagramOutput | null;
  readonly #sink: (bytes: Buffer, start: number, end: number) => void;
  #datagrams = 0;
  #bytes = 0;
  #firstAt = 0;
  #lastAt = performance.now();
  #stopPolling: StopWaiting | null = null;
  #finish: (end: End) => void = () => {};
  #fail: (error: unknown) => void = () => {};

  constructor(socket: DatagramSocket, options: RecvOptions) {
    this.#options = options;
    this.#receiver = openReceiver(socket, { ...options, recvBufferSize: options.recvBuffer });
    this.#address = describeTarget(socket.address());
    this.#checksum = options.checksum === true ? new Checksum() : null;
    this.#output = this.#createOutput();
    this.#sink = this.#createSink();
  }

  async run(): Promise<number> {
    const { quiet, idleTimeout, endWithStdin } = this.#options;
    const isTerminalTaken = this.#output !== null && process.stdout.isTTY;
    const hideProgress = quiet === true || isTerminalTaken ? () => {} : showProgress(() => this.#progress());
    const leaveSignals = onEndSignal((signal) => void this.#readLast(signal));
    const leaveInput = endWithStdin === true ? onInputEnd(() => void this.#readLast('stdin')) : () => {};
    const stopWatching = idleTimeout === undefined ? () => {} : this.#watchIdle(idleTimeout);
    try {
      const end = await new Promise<End>((resolve, reject) => {
        this.#finish = resolve;
        this.#fail = reject;
        this.#poll();
        // Last: who waits for this line may send, or signal, at once.
        if (quiet !== true) say(`listening on ${this.#address}`);
      });
      this.#output?.flush();
      hideProgress();
      return this.#summarize(end);
    } finally {
      hideProgress();
      this.#pause();
      stopWatching();
      leaveInput();
      leaveSignals();
    }
  }

  #createOutput(): DatagramOutput | null {
    const { json, quiet, bytes, framing } = this.#options;
    if (json === true || quiet === true) return null;
    const outputFormat: OutputFormat = bytes === true ? 'lengths' : framing;
    return new DatagramOutput(
      process.stdout,
      outputFormat,
      () => this.#poll(),
      () => this.#finish('output'),
    );
  }

  #createSink(): (bytes: Buffer, start: number, end: number) => void {
    const most = this.#options.count ?? Number.POSITIVE_INFINITY;
    const checksum = this.#checksum;
    const output = this.#output;
    return (bytes, start, end) => {
      if (this.#datagrams === most) return; // a message may hold more than were asked for
      this.#datagrams++;
      this.#bytes += end - start;
      checksum?.add(bytes, start, end);
      output?.add(bytes, start, end);
    };
  }

  #poll(): void {
    this.#stopPolling ??= this.#receiver.poll(() => this.#onReadable());
  }

  #pause(): void {
    this.#stopPolling?.();
    this.#stopPolling = null;
  }

  #onReadable(): void {
    try {
      this.#readBurst();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Reads until nothing is left, the output is full or it is another's turn; returns whether there may be more. */
  #readBurst(): boolean {
    const most = this.#options.count ?? Number.POSITIVE_INFINITY;
    const before = this.#datagrams;
    let hasMore = true;
    for (let calls = 0; hasMore && calls < CALLS_PER_BURST && this.#datagrams < most; calls++) {
      hasMore = this.#receiver.receive(this.#sink, most - this.#datagrams);
    }
    if (this.#datagrams > before) {
      this.#lastAt = performance.now();
      if (before === 0) this.#firstAt = this.#lastAt;
      this.#output?.flush();
    }
    if (this.#datagrams === most) this.#finish('count');
    else if (this.#output?.hasRoom === false) this.#pause();
    return hasMore;
  }

  /** What was sent before the end is in the kernel's queue: it still counts. */
  async #readLast(end: End): Promise<void> {
    await this.#receiver.caughtUp();
    this.#pause();
    const until = performance.now() + LAST_READ_MS;
    try {
      while (this.#output?.hasRoom !== false && this.#readBurst() && performance.now() < until);
    } catch (error) {
      this.#fail(error);
    }
    this.#finish(end);
  }

  #watchIdle(milliseconds: number): () => void {
    let isWatching = true;
    const check = async (): Promise<void> => {
      // A process that was held up has datagrams waiting; and a full output is no silence of the network.
      await this.#receiver.caughtUp();
      if (!isWatching) return;
      if (this.#output?.hasRoom === false) this.#lastAt = performance.now();
      else this.#onReadable();
      const left = this.#lastAt + milliseconds - performance.now();
      if (left <= 0) this.#finish('idle');
      else timer = setTimeout(check, left);
    };
    let timer = setTimeout(check, milliseconds);
    return () => {
      isWatching = false;
      clearTimeout(timer);
    };
  }

  #progress(): string {
    const { count, rate, ratio, size } = format;
    const seconds = (performance.now() - this.#firstAt) / 1000;
    if (this.#datagrams === 0) return 'waiting for datagrams';
    const { calls } = this.#receiver;
    return [
      `${count(this.#datagrams)} received`,
      size(this.#bytes),
      rate(this.#datagrams / seconds),
      ...(calls === null ? [] : [`${count(calls)} syscalls`, `${ratio(this.#datagrams, calls)} a call`]),
    ].join(' · ');
  }

  #summarize(end: End): number {
    const { count, json } = this.#options;
    const { truncated, dropped } = this.#receiver;
    const isShort = count !== undefined && this.#datagrams < count;
    const seconds = this.#datagrams === 0 ? 0 : (this.#lastAt - this.#firstAt) / 1000;
    const checksum = this.#checksum?.digest();
    if (json === true) this.#printJson({ end, seconds, checksum });
    else if (this.#options.quiet === true || end !== 'output') this.#printSummary(seconds, checksum);
    if (truncated > 0) say(`${format.counted(truncated, 'datagram')} did not fit into --max-size and were cut off`);
    if (dropped > 0) say(`dropped ${format.counted(dropped, 'datagram')}: standard output did not take them in time`);
    if (isShort && end !== 'output') say(`${format.count(this.#datagrams)} of ${format.count(count)} datagrams came`);
    if (truncated > 0 || dropped > 0) return 1;
    if (!isShort || end === 'output') return 0;
    return end === 'SIGINT' || end === 'SIGTERM' ? exitCodeOf(end) : 1;
  }

  #printJson({ end, seconds, checksum }: { end: End; seconds: number; checksum: string | undefined }): void {
    const { backend, calls, truncated, dropped } = this.#receiver;
    const summary = {
      address: this.#address,
      backend,
      datagrams: this.#datagrams,
      bytes: this.#bytes,
      calls,
      meanBatch: calls === null ? null : format.rounded(this.#datagrams / calls),
      truncated,
      dropped,
      seconds: format.rounded(seconds),
      perSecond: Math.round(format.rounded(this.#datagrams / seconds)),
      end,
      ...(checksum !== undefined && { checksum }),
    };
    process.stdout.write(`${JSON.stringify(summary)}\n`);
  }

  #printSummary(seconds: number, checksum: string | undefined): void {
    const { counted, rate, ratio, size } = format;
    const { backend, calls } = this.#receiver;
    const many =
      calls === null ? '' : `${counted(calls, 'syscall')}, ${ratio(this.#datagrams, calls)} datagrams each, `;
    const pace = seconds > 0 ? `, ${rate(this.#datagrams / seconds)}` : '';
    const total = `${counted(this.#datagrams, 'datagram')}, ${size(this.#bytes)} in ${seconds.toFixed(2)} s${pace}`;
    say(`received ${total} (${many}${backend})`);
    if (checksum !== undefined) say(`sha256 ${checksum}`);
  }
}
