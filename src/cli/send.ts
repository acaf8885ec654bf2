/**
 * `mmsg send`: a file or standard input → frames → the operator → a connected socket → a summary.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { OperatorFunction } from 'rxjs';
import { broadcast } from '../../operators/rxjs/broadcast.ts';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { BatchOptions } from '../batch-options.ts';
import type { BatchReport, Datagram, DatagramLike } from '../datagram.ts';
import { DatagramSocket } from '../datagram-socket.ts';
import { CLOSE_CHANNEL, type SenderStats } from '../diagnostics.ts';
import { endpoint } from '../sockaddr.ts';
import { Checksum } from './checksum.ts';
import type { KeyOf } from './conflation-key.ts';
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
  readonly to?: readonly Target[];
  readonly rate?: number;
  readonly pack?: number;
  readonly conflateBy?: KeyOf;
  readonly gso: 'auto' | 'off';
  readonly offload?: boolean;
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
/** What the kernel answers on a unix socket whose receiver has closed, or when it is looked for again. */
const RECEIVER_GONE: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTCONN', 'ENOENT']);
/** Rejections that are told one by one. */
const TOLD_REJECTIONS = 3;

/** Options that make no sense together; `undefined` if they do. */
export function conflictOf(target: Target, { to, pack, conflateBy, framing }: SendOptions): string | undefined {
  if (pack !== undefined && conflateBy !== undefined) return '--pack cannot be combined with --conflate-by';
  if (pack !== undefined && framing.kind !== 'lines') return '--pack needs --framing lines';
  if (to === undefined) return undefined;
  if (pack !== undefined) return '--pack cannot be combined with --to';
  return [target, ...to].some((each) => 'path' in each) ? '--to is for UDP' : undefined;
}

/** Runs the command; returns the exit status. Throws what keeps it from starting. */
export async function send(target: Target, options: SendOptions): Promise<number> {
  const peers = await Promise.all([target, ...(options.to ?? [])].map(resolveTarget));
  const [peer] = peers as [SocketTarget];
  if (peers.some(({ type }) => type !== peer.type))
    throw new Error('the targets are of IPv4 and of IPv6: one kind only');
  const socket = await openSocket(peers, options);
  // Room for each datagram to all, and for the next one.
  const highWaterMark = Math.max(options.highWaterMark, peers.length === 1 ? 0 : 2 * peers.length);
  const sending = new Sending(await openInput(options.file), socket, peers, { ...options, highWaterMark });
  return await sending.run();
}

async function openSocket(peers: readonly SocketTarget[], options: SendOptions): Promise<DatagramSocket> {
  const bind = options.bind === undefined ? {} : { bind: (await resolveTarget(options.bind)).name };
  const [peer] = peers as [SocketTarget];
  return DatagramSocket.open({
    type: peer.type,
    ...(peers.length === 1 && { connect: peer.name }),
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

type IpName = { readonly address: string; readonly port: number };

/** The key of a line, or of a line and where it goes. */
function keyOfDatagram(keyOf: KeyOf): (datagram: DatagramLike) => unknown {
  return (datagram) => {
    if (datagram instanceof Uint8Array) return keyOf(datagram);
    const { payload, to } = datagram as Datagram;
    const key = keyOf(payload as Uint8Array);
    return key === undefined ? undefined : `${to!.key} ${String(key)}`;
  };
}

/** One run: the stream, and all that is counted of it. */
class Sending {
  readonly #socket: DatagramSocket;
  readonly #peers: readonly SocketTarget[];
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

  constructor(input: Readable, socket: DatagramSocket, peers: readonly SocketTarget[], options: SendOptions) {
    const { framing, skipEmpty, checksum, highWaterMark, highWaterMarkBytes, pack, conflateBy } = options;
    this.#socket = socket;
    this.#peers = peers;
    this.#options = options;
    const sum = checksum === true ? new Checksum() : null;
    this.#checksum = sum;
    this.#source = new FrameSource(
      input,
      createFramer(framing, highWaterMarkBytes, { skipEmpty: skipEmpty === true }),
      {
        highWaterMark,
        highWaterMarkBytes,
        copies: peers.length,
        packBytes: pack,
        isLatestOnly: conflateBy !== undefined,
      },
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
    const { drainTimeout } = this.#options;
    const operator = this.#operator();
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

  #operator(): OperatorFunction<Uint8Array, BatchReport> {
    const { batchSize, flushAfter, highWaterMark, highWaterMarkBytes, drainTimeout } = this.#options;
    const { rate, pack, conflateBy, gso, offload } = this.#options;
    const options: BatchOptions = {
      batchSize,
      // The source stops short of the byte mark, so a flush must not wait for that mark to be reached.
      batchBytes: Math.max(1, highWaterMarkBytes >>> 1),
      flushAfterMs: flushAfter,
      highWaterMark,
      highWaterMarkBytes,
      // An error never happens: the source makes sure of it, but where only the latest counts.
      overflow: conflateBy === undefined ? 'error' : 'drop-oldest',
      drainTimeoutMs: drainTimeout ?? NO_DRAIN_TIMEOUT_MS,
      gso,
      offload: offload === true,
      warn: false, // the summary tells
      ...(rate !== undefined && { pace: { datagramsPerSecond: rate } }),
      ...(pack !== undefined && { pack: { maxBytes: pack } }),
      ...(conflateBy !== undefined && { conflateBy: keyOfDatagram(conflateBy) }),
    };
    if (this.#peers.length === 1) return sendmmsg(this.#socket, options);
    const peers = this.#peers.map(({ name }) => endpoint((name as IpName).address, (name as IpName).port));
    return broadcast(this.#socket, peers, options);
  }

  #book(report: BatchReport): void {
    this.#sent += report.sent;
    this.#syscalls += report.syscalls;
    for (const { sequence, error } of report.rejected) {
      if (this.#rejected++ < TOLD_REJECTIONS) say(`datagram ${sequence + 1} was rejected: ${error.message}`);
      this.#errors.set(error.code, (this.#errors.get(error.code) ?? 0) + 1);
      // A unix receiver that is gone does not come back to this socket; the rest of the input need not be tried.
      if (this.#peers[0]!.type === 'unix' && RECEIVER_GONE.has(error.code)) this.#source.stop();
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
    const { sent, bytes, syscalls, rejected, dropped, backend, wouldBlocks, shortCounts, pendingErrors } = stats;
    const problem = this.#failure ?? this.#source.problem;
    const summary = {
      target: this.#peers.map(({ name }) => describeTarget(name)).join(','),
      backend,
      sent,
      bytes,
      syscalls,
      meanBatch: format.rounded(sent / syscalls),
      rejected,
      dropped,
      ...(this.#options.pack !== undefined && { packed: stats.packed }),
      ...(this.#options.conflateBy !== undefined && { conflated: stats.conflated }),
      errors: Object.fromEntries(this.#errors),
      wouldBlocks,
      shortCounts,
      pendingErrors,
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
    if (stats.packed > 0) say(`packed ${counted(sent + stats.packed, 'line')} into them`);
    if (stats.conflated > 0)
      say(`replaced ${counted(stats.conflated, 'datagram')} by newer ones before they were sent`);
    if (stats.pendingErrors > 0) say(`nobody listens there, it seems: ${counted(stats.pendingErrors, 'ICMP error')}`);
    if (dropped > 0) say(`dropped ${counted(dropped, 'datagram')}: the receiver did not take them in time`);
    if (this.#signal !== null) say(`ended by ${this.#signal}`);
    if (checksum !== undefined) say(`sha256 ${checksum}`);
  }
}
