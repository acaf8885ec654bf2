/**
 * `mmsg send`: a file or standard input → frames → the operator → a connected socket → a summary.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { createReadStream, fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import type { OperatorFunction, Subscription } from 'rxjs';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import type { Backend } from '../kernel/backend.ts';
import type { BatchReport, Datagram, DatagramLike, RejectedDatagram } from '../message/datagram.ts';
import { endpoint } from '../message/sockaddr.ts';
import type { BatchOptions } from '../sender/batch-options.ts';
import { CLOSE_CHANNEL, type DiagnosticsMessages, OPEN_CHANNEL, type SenderStats } from '../sender/diagnostics.ts';
import { DatagramSocket } from '../socket/datagram-socket.ts';
import { Checksum } from './checksum.ts';
import type { KeyOf } from './conflation-key.ts';
import { fallbackOf, hideFallbackWarning } from './fallback.ts';
import * as format from './format.ts';
import { FrameSource } from './frame-source.ts';
import { createFramer, type Framing } from './framing.ts';
import { describeTarget, resolveTarget, type SocketTarget, type Target } from './target.ts';
import { type EndSignal, exitCodeOf, onEndSignal, say, showProgress } from './terminal.ts';
import { findReceiver, isReceiverGone, whenReceived } from './wait-for-receiver.ts';

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
  readonly wait?: boolean;
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
/** Rejections that are told one by one. */
const TOLD_REJECTIONS = 3;

/** Options that make no sense together; `undefined` if they do. */
export function conflictOf(target: Target, options: SendOptions): string | undefined {
  const { to, pack, conflateBy, framing, wait, bind, broadcast, skipEmpty } = options;
  const isUnix = 'path' in target;
  if (bind !== undefined && isUnix !== 'path' in bind)
    return '--bind and the target are of different kinds: UDP and unix';
  if (bind !== undefined && familyOf(bind) * familyOf(target) === 24)
    return '--bind and the target are of IPv4 and of IPv6';
  if (broadcast === true && isUnix) return '--broadcast is for UDP';
  if (skipEmpty === true && framing.kind !== 'lines') return '--skip-empty needs --framing lines';
  if (wait === true && !isUnix) {
    return '--wait is for unix sockets: whether anybody listens at a UDP port is not to be known';
  }
  if (wait === true && conflateBy !== undefined) {
    return '--wait cannot be combined with --conflate-by: one holds the input back, the other never does';
  }
  if (pack !== undefined && conflateBy !== undefined) return '--pack cannot be combined with --conflate-by';
  if (pack !== undefined && framing.kind !== 'lines') return '--pack needs --framing lines';
  if (to === undefined) return undefined;
  if (pack !== undefined) return '--pack cannot be combined with --to';
  return [target, ...to].some((each) => 'path' in each) ? '--to is for UDP' : undefined;
}

/** 4 or 6; 0 where it takes a look-up to know, or where there is none. */
function familyOf(target: Target): number {
  return 'path' in target ? 0 : isIP(target.host);
}

/** Runs the command; returns the exit status. Throws what keeps it from starting. */
export async function send(target: Target, options: SendOptions): Promise<number> {
  hideFallbackWarning();
  const peers = await Promise.all([target, ...(options.to ?? [])].map(resolveTarget));
  const [peer] = peers as [SocketTarget];
  if (peers.some(({ type }) => type !== peer.type))
    throw new Error('the targets are of IPv4 and of IPv6: one kind only');
  return await new Sending(await openInput(options.file), peers, options).run();
}

async function openSocket(peers: readonly SocketTarget[], options: SendOptions): Promise<DatagramSocket> {
  const bind = options.bind === undefined ? {} : { bind: (await resolveTarget(options.bind)).name };
  const [peer] = peers as [SocketTarget];
  try {
    return DatagramSocket.open({
      type: peer.type,
      ...(peers.length === 1 && { connect: peer.name }),
      ...bind,
      broadcast: options.broadcast === true,
      sendBufferSize: options.sendBuffer,
    });
  } catch (error) {
    if (peer.type !== 'unix' || options.wait === true || !isReceiverGone(error)) throw error;
    throw new Error(`${(error as Error).message} (--wait waits for it)`);
  }
}

async function openInput(file: string | undefined): Promise<Readable> {
  if (file !== undefined && file !== '-') return (await open(file)).createReadStream({ highWaterMark: READ_BYTES });
  // What Node makes of a redirected file reads it in small pieces; a pipe or a terminal it knows best.
  return isRedirectedFile()
    ? createReadStream('', { fd: 0, autoClose: false, highWaterMark: READ_BYTES })
    : process.stdin;
}

function isRedirectedFile(): boolean {
  try {
    return fstatSync(0).isFile();
  } catch {
    return false; // a console of Windows is not to be asked
  }
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

/** What was sent in all, however often the receiver had to be waited for. */
interface Totals {
  backend: Backend | null;
  sent: number;
  bytes: number;
  syscalls: number;
  rejected: number;
  dropped: number;
  conflated: number;
  wouldBlocks: number;
  shortCounts: number;
  pendingErrors: number;
}

/** One run: the stream, or one after another where the receiver is waited for, and all that is counted of it. */
class Sending {
  readonly #peers: readonly SocketTarget[];
  readonly #options: SendOptions;
  readonly #source: FrameSource;
  readonly #checksum: Checksum | null;
  readonly #calledOff: AbortController = new AbortController();
  readonly #totals: Totals = {
    backend: null,
    sent: 0,
    bytes: 0,
    syscalls: 0,
    rejected: 0,
    dropped: 0,
    conflated: 0,
    wouldBlocks: 0,
    shortCounts: 0,
    pendingErrors: 0,
  };
  readonly #errors: Map<string, number> = new Map();
  #startedAt = performance.now();
  #subscription: Subscription | null = null;
  /** The sender of the present stream, for what waits in it. */
  #sender: { readonly stats: SenderStats } | null = null;
  /** Where in the input the present stream began. */
  #firstFrame = 0;
  // For the progress; the summary is the sender's own account.
  #sent = 0;
  #syscalls = 0;
  #rejected = 0;
  /** Rejected for want of a receiver in this stream, and taken back. */
  #takenBack = 0;
  #isWaiting = false;
  #wasReceiverGone = false;
  #failure: Error | null = null;
  #signal: EndSignal | null = null;
  #giveUp: NodeJS.Timeout | undefined;

  constructor(input: Readable, peers: readonly SocketTarget[], options: SendOptions) {
    const { framing, skipEmpty, checksum, highWaterMarkBytes, pack, wait } = options;
    this.#peers = peers;
    this.#options = options;
    const sum = checksum === true ? new Checksum() : null;
    this.#checksum = sum;
    const isConnected = peers.length === 1;
    this.#source = new FrameSource(
      input,
      createFramer(framing, highWaterMarkBytes, { skipEmpty: skipEmpty === true }),
      {
        peers: isConnected ? [] : peers.map(({ name }) => endpoint((name as IpName).address, (name as IpName).port)),
        kept: wait === true ? { separator: pack === undefined ? 0 : 1 } : undefined,
        onFrame: sum === null ? undefined : (frame) => sum.add(frame),
      },
    );
  }

  async run(): Promise<number> {
    const { quiet, wait } = this.#options;
    const hideProgress = quiet === true ? () => {} : showProgress(() => this.#progress());
    const leaveSignals = onEndSignal((signal) => this.#end(signal));
    let socket: DatagramSocket | undefined;
    try {
      const open = (): Promise<DatagramSocket> => openSocket(this.#peers, this.#options);
      socket = wait === true ? await this.#whenReceived(open) : await open();
      if (socket !== undefined) await this.#sendAll(socket);
    } finally {
      clearTimeout(this.#giveUp);
      leaveSignals();
      hideProgress();
      socket?.close();
    }
    return this.#summarize((performance.now() - this.#startedAt) / 1000);
  }

  /** Streams, and again what a receiver that went away did not get, once it is back. */
  async #sendAll(socket: DatagramSocket): Promise<void> {
    const fallback = fallbackOf(socket);
    if (fallback !== undefined && this.#options.quiet !== true) say(fallback);
    this.#startedAt = performance.now();
    do await this.#stream(socket);
    while (this.#source.takenBack > 0 && (await this.#isReceiverBack()));
    this.#totals.dropped += this.#source.takenBack;
  }

  async #isReceiverBack(): Promise<boolean> {
    const { path } = this.#peers[0]!.name as { path: string };
    const isBack = await this.#whenReceived(() => {
      findReceiver(path);
      return true;
    });
    return isBack === true;
  }

  async #whenReceived<T>(attempt: () => T | Promise<T>): Promise<T | undefined> {
    this.#isWaiting = true;
    const tell = (): void => {
      if (this.#options.quiet !== true) say(`waiting for ${describeTarget(this.#peers[0]!.name)}`);
    };
    try {
      return await whenReceived(attempt, this.#calledOff.signal, tell);
    } finally {
      this.#isWaiting = false;
    }
  }

  /** The first signal: what was read is still sent, if anybody takes it. */
  #end(signal: EndSignal): void {
    this.#signal = signal;
    this.#calledOff.abort();
    const giveUp = (): void => this.#subscription?.unsubscribe();
    this.#giveUp = setTimeout(giveUp, this.#options.drainTimeout ?? INTERRUPTED_DRAIN_MS);
    this.#source.stop();
  }

  /** One stream: resolves when all that it has sent, and not sent, is in the totals. */
  #stream(socket: DatagramSocket): Promise<void> {
    this.#firstFrame = this.#source.emitted - this.#source.takenBack;
    this.#takenBack = 0;
    return new Promise((resolve) => {
      const onClose = (message: unknown): void => {
        unsubscribe(CLOSE_CHANNEL, onClose);
        this.#add((message as { stats: SenderStats }).stats);
        resolve();
      };
      const onOpen = (message: unknown): void => {
        unsubscribe(OPEN_CHANNEL, onOpen);
        this.#sender = (message as DiagnosticsMessages[typeof OPEN_CHANNEL]).sender;
      };
      subscribe(OPEN_CHANNEL, onOpen);
      subscribe(CLOSE_CHANNEL, onClose);
      this.#subscription = this.#source.datagrams.pipe(this.#operator(socket)).subscribe({
        next: (report) => this.#book(report),
        error: (error: Error) => {
          this.#failure = error;
        },
      });
    });
  }

  /** What was taken back is neither rejected nor dropped, but sent by the next stream. */
  #add(stats: SenderStats): void {
    const totals = this.#totals;
    const hasTakenBack = this.#takenBack > 0;
    totals.backend = stats.backend;
    totals.rejected += stats.rejected - this.#takenBack;
    totals.dropped += stats.dropped - (hasTakenBack ? stats.droppedBy.teardown : 0);
    for (const each of [
      'sent',
      'bytes',
      'syscalls',
      'conflated',
      'wouldBlocks',
      'shortCounts',
      'pendingErrors',
    ] as const) {
      totals[each] += stats[each];
    }
  }

  #operator(socket: DatagramSocket): OperatorFunction<DatagramLike, BatchReport> {
    const { batchSize, flushAfter, highWaterMark, highWaterMarkBytes, drainTimeout } = this.#options;
    const { rate, pack, conflateBy, gso, offload } = this.#options;
    // A source that waits reads a second's worth ahead of a rate, which Ctrl-C drains in time, and an error never happens. Where only
    // the latest counts it does not wait: there is room for each datagram to all, and for the next one.
    const waiting: BatchOptions = {
      highWaterMark: Math.min(highWaterMark, rate ?? highWaterMark),
      overflow: 'error',
      pressure: this.#source.pressure,
    };
    const peers = this.#peers.length;
    const latestOnly: BatchOptions = {
      highWaterMark: Math.max(highWaterMark, peers === 1 ? 0 : 2 * peers),
      overflow: 'drop-oldest',
    };
    const options: BatchOptions = {
      ...(conflateBy === undefined ? waiting : latestOnly),
      batchSize: Math.min(batchSize, rate ?? batchSize),
      flushAfterMs: flushAfter,
      highWaterMarkBytes,
      drainTimeoutMs: drainTimeout ?? NO_DRAIN_TIMEOUT_MS,
      // Each target's datagrams together: equally long ones can share a message.
      ...(peers > 1 && { order: 'destination' }),
      gso,
      offload: offload === true,
      warn: false, // the summary tells
      ...(rate !== undefined && { pace: { datagramsPerSecond: rate } }),
      ...(pack !== undefined && { pack: { maxBytes: pack } }),
      ...(conflateBy !== undefined && { conflateBy: keyOfDatagram(conflateBy) }),
    };
    return sendmmsg(socket, options);
  }

  #book(report: BatchReport): void {
    const isHeld = this.#options.wait === true && this.#signal === null;
    const gone: Uint8Array[] = [];
    this.#sent += report.sent;
    this.#syscalls += report.syscalls;
    for (const rejection of report.rejected) {
      if (isHeld && isReceiverGone(rejection.error)) gone.push(rejection.payload);
      else this.#reject(rejection);
    }
    this.#source.forget(report);
    if (gone.length === 0) return;
    this.#takenBack += gone.length;
    this.#source.takeBack(gone);
    // What is queued behind them must not overtake them, should the receiver be back just now.
    this.#subscription?.unsubscribe();
  }

  #reject({ sequence, error }: RejectedDatagram): void {
    const position = this.#firstFrame + sequence + 1;
    if (this.#rejected++ < TOLD_REJECTIONS) say(`datagram ${position} was rejected: ${error.message}`);
    this.#errors.set(error.code, (this.#errors.get(error.code) ?? 0) + 1);
    if (this.#peers[0]!.type === 'unix' && isReceiverGone(error)) this.#wasReceiverGone = true;
  }

  #progress(): string {
    const { count, rate, ratio } = format;
    const seconds = (performance.now() - this.#startedAt) / 1000;
    return [
      `${count(this.#sent)} sent`,
      rate(this.#sent / seconds),
      `${count(this.#syscalls)} syscalls`,
      `${ratio(this.#sent, this.#syscalls)} a call`,
      `queue ${count(this.#sender?.stats.queued ?? 0)}`,
      ...(this.#rejected > 0 ? [`${count(this.#rejected)} rejected`] : []),
      ...(this.#isWaiting ? ['waiting for the receiver'] : []),
      ...(this.#signal === null ? [] : ['draining; once more to quit at once']),
    ].join(' · ');
  }

  #summarize(seconds: number): number {
    const problem = this.#failure ?? this.#source.problem;
    const { json, quiet } = this.#options;
    const isCutShort = !this.#source.isExhausted || this.#source.problem !== null;
    const checksum = this.#checksum?.digest();
    if (json === true) this.#printJson(seconds, checksum, isCutShort);
    else if (quiet !== true) this.#printSummary(seconds, checksum);
    if (problem !== null) say(problem.message);
    if (this.#totals.rejected > 0 || this.#totals.dropped > 0 || problem !== null) return 1;
    return this.#signal !== null && isCutShort ? exitCodeOf(this.#signal) : 0;
  }

  /** Lines that share the datagram of an earlier one. */
  get #packed(): number {
    const { sent, rejected, dropped } = this.#totals;
    return this.#options.pack === undefined ? 0 : this.#source.emitted - sent - rejected - dropped;
  }

  #printJson(seconds: number, checksum: string | undefined, isCutShort: boolean): void {
    const { sent, bytes, syscalls, rejected, dropped, backend, wouldBlocks, shortCounts, pendingErrors } = this.#totals;
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
      ...(this.#options.pack !== undefined && { packed: this.#packed }),
      ...(this.#options.conflateBy !== undefined && { conflated: this.#totals.conflated }),
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

  #printSummary(seconds: number, checksum: string | undefined): void {
    const { sent, bytes, syscalls, rejected, dropped, conflated, pendingErrors, backend } = this.#totals;
    const { count, counted, rate, ratio, size } = format;
    const how = `${counted(syscalls, 'syscall')}, ${ratio(sent, syscalls)} datagrams each${backend === null ? '' : `, ${backend}`}`;
    say(
      `sent ${counted(sent, 'datagram')}, ${size(bytes)} in ${seconds.toFixed(2)} s, ${rate(sent / seconds)} (${how})`,
    );
    if (rejected > 0) {
      const codes = [...this.#errors].map(([code, times]) => `${code} ${count(times)}`);
      say(`rejected ${counted(rejected, 'datagram')} (${codes.join(', ')})`);
    }
    if (this.#wasReceiverGone) say('the receiver was gone; with --wait, the input waits for it instead');
    if (this.#packed > 0) say(`packed ${counted(sent + this.#packed, 'line')} into them`);
    if (conflated > 0) say(`replaced ${counted(conflated, 'datagram')} by newer ones before they were sent`);
    if (pendingErrors > 0) say(`nobody listens there, it seems: ${counted(pendingErrors, 'ICMP error')}`);
    if (dropped > 0) say(`dropped ${counted(dropped, 'datagram')}: the receiver did not take them in time`);
    if (this.#signal !== null) say(`ended by ${this.#signal}`);
    if (checksum !== undefined) say(`sha256 ${checksum}`);
  }
}
