/**
 * `mmsg send`: a file or standard input → frames → the operator → a connected socket → a summary.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { BatchReport } from '../datagram.ts';
import { DatagramSocket } from '../datagram-socket.ts';
import { CLOSE_CHANNEL, type SenderStats } from '../diagnostics.ts';
import { Checksum } from './checksum.ts';
import * as format from './format.ts';
import { FrameSource } from './frame-source.ts';
import { createFramer, type Framing } from './framing.ts';
import { describeTarget, resolveTarget, type SocketTarget, type Target } from './target.ts';
import { type EndSignal, exitCodeOf, onEndSignal, say, showProgress } from './terminal.ts';

export interface SendOptions {
  readonly file?: string;
  readonly framing: Framing;
  readonly skipEmpty?: boolean;
  readonly batchSize: number;
  readonly flushAfter: number;
  readonly highWaterMark: number;
  readonly highWaterMarkBytes: number;
  readonly drainTimeout?: number;
  readonly bind?: Target;
  readonly broadcast?: boolean;
  readonly sendBuffer?: number;
  readonly checksum?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const READ_BYTES = 256 * 1024;
/** How long the queue is waited for after a signal, unless the options say. */
const INTERRUPTED_DRAIN_MS = 5000;
/** The longest that a timer takes: without the option, a slow receiver is waited for, as a pipe would. */
const NO_DRAIN_TIMEOUT_MS = 2 ** 31 - 1;
/** What the kernel answers on a unix socket whose receiver has closed: the first time, and from then on. */
const RECEIVER_GONE: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTCONN']);
/** Rejections that are told one by one. */
const TOLD_REJECTIONS = 3;

/** Runs the command; returns the exit status. Throws what keeps it from starting. */
export async function send(target: Target, options: SendOptions): Promise<number> {
  const peer = await resolveTarget(target);
  const socket = await openSocket(peer, options);
  const sending = new Sending(await openInput(options.file), socket, peer, options);
  return await sending.run();
}

async function openSocket(peer: SocketTarget, options: SendOptions): Promise<DatagramSocket> {
  const bind = options.bind === undefined ? {} : { bind: (await resolveTarget(options.bind)).name };
  return DatagramSocket.open({
    type: peer.type,
    connect: peer.name,
    ...bind,
    broadcast: options.broadcast === true,
    sendBufferSize: options.sendBuffer,
  });
}

async function openInput(file: string | undefined): Promise<Readable> {
  if (file !== undefined && file !== '-') return (await open(file)).createReadStream({ highWaterMark: READ_BYTES });
  // What Node makes of a redirected file reads it in small pieces; a pipe or a terminal it knows best.
  if (!fstatSync(0).isFile()) return process.stdin;
  return (await open('/dev/stdin')).createReadStream({ highWaterMark: READ_BYTES });
}

/** One run: the stream, and all that is counted of it. */
class Sending {
  readonly #socket: DatagramSocket;
  readonly #peer: SocketTarget;
  readonly #options: SendOptions;
  readonly #source: FrameSource;
  readonly #checksum: Checksum | null;
  readonly #startedAt: number = performance.now();
  // For the progress; the summary is the sender's own account.
  #sent = 0;
  #syscalls = 0;
  #rejected = 0;
  readonly #errors: Map<string, number> = new Map();
  #stats: SenderStats | null = null;
  #failure: Error | null = null;
  #signal: EndSignal | null = null;

  constructor(input: Readable, socket: DatagramSocket, peer: SocketTarget, options: SendOptions) {
    const { framing, skipEmpty, checksum, highWaterMarkBytes } = options;
    this.#socket = socket;
    this.#peer = peer;
    this.#options = options;
    const sum = checksum === true ? new Checksum() : null;
    this.#checksum = sum;
    this.#source = new FrameSource(
      input,
      createFramer(framing, highWaterMarkBytes, { skipEmpty: skipEmpty === true }),
      options,
      sum === null ? undefined : (frame) => sum.add(frame),
    );
  }

  async run(): Promise<number> {
    const { quiet } = this.#options;
    const hideProgress = quiet === true ? () => {} : showProgress(() => this.#progress());
    const onClose = (message: unknown): void => {
      this.#stats = (message as { stats: SenderStats }).stats;
    };
    subscribe(CLOSE_CHANNEL, onClose);
    await this.#stream();
    unsubscribe(CLOSE_CHANNEL, onClose);
    hideProgress();
    this.#socket.close();
    return this.#summarize((performance.now() - this.#startedAt) / 1000);
  }

  #stream(): Promise<void> {
    const { batchSize, flushAfter, highWaterMark, highWaterMarkBytes, drainTimeout } = this.#options;
    const operator = sendmmsg(this.#socket, {
      batchSize,
      // The source stops short of the byte mark, so a flush must not wait for that mark to be reached.
      batchBytes: Math.max(1, highWaterMarkBytes >>> 1),
      flushAfterMs: flushAfter,
      highWaterMark,
      highWaterMarkBytes,
      overflow: 'error', // never happens: the source makes sure of it
      drainTimeoutMs: drainTimeout ?? NO_DRAIN_TIMEOUT_MS,
    });
    return new Promise((resolve) => {
      let giveUp: NodeJS.Timeout | undefined;
      const leaveSignals = onEndSignal((signal) => {
        this.#signal = signal;
        giveUp = setTimeout(() => subscription.unsubscribe(), drainTimeout ?? INTERRUPTED_DRAIN_MS);
        this.#source.stop();
      });
      const subscription = this.#source.frames.pipe(operator).subscribe({
        next: (report) => this.#book(report),
        error: (error: Error) => {
          this.#failure = error;
        },
      });
      subscription.add(() => {
        clearTimeout(giveUp);
        leaveSignals();
        resolve();
      });
    });
  }

  #book(report: BatchReport): void {
    this.#sent += report.sent;
    this.#syscalls += report.syscalls;
    for (const { sequence, error } of report.rejected) {
      if (this.#rejected++ < TOLD_REJECTIONS) say(`datagram ${sequence + 1} was rejected: ${error.message}`);
      this.#errors.set(error.code, (this.#errors.get(error.code) ?? 0) + 1);
      // A unix receiver that is gone does not come back to this socket; the rest of the input need not be tried.
      if (this.#peer.type === 'unix' && RECEIVER_GONE.has(error.code)) this.#source.stop();
    }
    this.#source.settle(report);
  }

  #progress(): string {
    const { count, rate, ratio } = format;
    const seconds = (performance.now() - this.#startedAt) / 1000;
    return [
      `${count(this.#sent)} sent`,
      rate(this.#sent / seconds),
      `${count(this.#syscalls)} syscalls`,
      `${ratio(this.#sent, this.#syscalls)} a call`,
      `queue ${count(this.#source.queued)}`,
      ...(this.#rejected > 0 ? [`${count(this.#rejected)} rejected`] : []),
      ...(this.#signal === null ? [] : ['draining; once more to quit at once']),
    ].join(' · ');
  }

  #summarize(seconds: number): number {
    const problem = this.#failure ?? this.#source.problem;
    const { json, quiet } = this.#options;
    const stats = this.#stats!;
    const isCutShort = !this.#source.isExhausted || this.#source.problem !== null;
    const checksum = this.#checksum?.digest();
    if (json === true) this.#printJson(stats, seconds, checksum, isCutShort);
    else if (quiet !== true) this.#printSummary(stats, seconds, checksum);
    if (problem !== null) say(problem.message);
    if (stats.rejected > 0 || stats.dropped > 0 || problem !== null) return 1;
    return this.#signal !== null && isCutShort ? exitCodeOf(this.#signal) : 0;
  }

  #printJson(stats: SenderStats, seconds: number, checksum: string | undefined, isCutShort: boolean): void {
    const { sent, bytes, syscalls, rejected, dropped, backend, wouldBlocks, shortCounts } = stats;
    const problem = this.#failure ?? this.#source.problem;
    const summary = {
      target: describeTarget(this.#peer.name),
      backend,
      sent,
      bytes,
      syscalls,
      meanBatch: format.rounded(sent / syscalls),
      rejected,
      dropped,
      errors: Object.fromEntries(this.#errors),
      wouldBlocks,
      shortCounts,
      seconds: format.rounded(seconds),
      perSecond: Math.round(sent / seconds),
      complete: !isCutShort,
      ...(checksum !== undefined && { checksum }),
      ...(this.#signal !== null && { signal: this.#signal }),
      ...(problem !== null && { problem: problem.message }),
    };
    process.stdout.write(`${JSON.stringify(summary)}\n`);
  }

  #printSummary(stats: SenderStats, seconds: number, checksum: string | undefined): void {
    const { sent, bytes, syscalls, rejected, dropped, backend } = stats;
    const { count, counted, rate, ratio, size } = format;
    const how = `${counted(syscalls, 'syscall')}, ${ratio(sent, syscalls)} datagrams each, ${backend}`;
    say(
      `sent ${counted(sent, 'datagram')}, ${size(bytes)} in ${seconds.toFixed(2)} s, ${rate(sent / seconds)} (${how})`,
    );
    if (rejected > 0) {
      const codes = [...this.#errors].map(([code, times]) => `${code} ${count(times)}`);
      say(`rejected ${counted(rejected, 'datagram')} (${codes.join(', ')})`);
    }
    if (dropped > 0) say(`dropped ${counted(dropped, 'datagram')}: the receiver did not take them in time`);
    if (this.#signal !== null) say(`ended by ${this.#signal}`);
    if (checksum !== undefined) say(`sha256 ${checksum}`);
  }
}
