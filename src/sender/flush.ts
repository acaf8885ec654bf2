/**
 * The flush loop: hands batch after batch to sendmmsg(2) until the queue is empty, blocked or out of budget, and books each
 * answer. No timers, no polling, no user code: what to wait for is told to the caller.
 *
 * The loop is written as ask and answer (`book`), so that the same code drives a call made inline and one that
 * returns later from the thread pool or from node:dgram. Exactly once rests on two facts of sendmmsg(2): the return
 * value is the number taken, and an errno speaks of the head of that call only (an error behind the first datagram is
 * discarded by the kernel). So `book` takes out exactly what was taken, and a refusal is always the head's.
 */
import { AF_UNIX, MAX_VLEN } from '../kernel/abi.ts';
import type { Clock } from '../kernel/clock.ts';
import { type Disposition, dispositionOf, EAGAIN, EMSGSIZE } from '../kernel/errno.ts';
import { type SendmmsgError, systemError } from '../kernel/errors.ts';
import type { Destination, RejectedDatagram } from '../message/datagram.ts';
import { describeName } from '../message/sockaddr.ts';
import type { Batch } from '../queue/batch.ts';
import type { DatagramQueue } from '../queue/queue.ts';
import type { Transport } from '../socket/transport.ts';
import type { Pace } from './pace.ts';

/** What the loop needs of a socket. */
export type Wire = Pick<
  Transport,
  'backend' | 'family' | 'isConnected' | 'peer' | 'latch' | 'sendmmsg' | 'takeError' | 'reconnect' | 'isShutDown'
>;

/** How to send, and how much at once. */
export interface FlushOptions {
  /** Of every call: MSG_DONTROUTE, MSG_CONFIRM. */
  readonly flags?: number;
  /** Payload bytes of rejections in one run: they hold memory until they are told. */
  readonly mostRejectedBytes: number;
  /**
   * Most that a call is given, but for a message that is larger by itself. Where the answer comes later, that leaves a part of
   * the queue to be filled meanwhile.
   */
  readonly mostInFlight?: { readonly datagrams: number; readonly bytes: number } | undefined;
  /** How fast; `null`: as fast as the kernel takes it. */
  readonly pace?: Pace | null;
  readonly clock: Pick<Clock, 'now'>;
}

/** What the loop wants next. */
export type Verdict =
  /** Another call. */
  | 'again'
  /** Nothing: the queue is empty. */
  | 'drained'
  /** To be called when the socket is writable. */
  | 'blocked'
  /** To be called after {@link FlushLoop.backoffMs}. */
  | 'backoff'
  /** To be called after {@link FlushLoop.paceMs}. */
  | 'paced'
  /** To be called in a later turn of the event loop: the budget is spent. */
  | 'yield'
  /** To be buried: see {@link FlushLoop.fatalError}. */
  | 'fatal';

/** Tries of one datagram while the kernel is short of memory, before it is rejected: 0.6 s in all. */
const MAX_BACKOFFS = 12;
const MAX_BACKOFF_MS = 100;
/** Answers in a row that say nothing of the head (interrupted, or of an earlier datagram), before each waits ever longer. */
const MAX_EMPTY_ANSWERS = 16;
/** A run of this many calls that took one datagram each hints at a dead peer, whose ICMP error the kernel swallows. */
const SINGLES_BEFORE_PROBE = 8;
/** Of {@link FlushLoop.batchSizes}: up to 1, 2, 4, … 1024 (UIO_MAXIOV) datagrams, and above, which takes GSO. */
const BATCH_SIZE_BUCKETS = 12;
/** Calls in one run of the loop; the rest waits for the next turn, so that a failing socket cannot hold the event loop. */
export const CALLS_PER_RUN = 1024;

export class FlushLoop {
  /** Datagrams taken, since `reset`. */
  sent: number = 0;
  /** Payload bytes taken, since `reset`. */
  bytes: number = 0;
  /** Calls made, since `reset`. */
  syscalls: number = 0;
  /** Datagrams the kernel refused, since `reset`. */
  rejected: RejectedDatagram[] = [];
  /** Their payload bytes. */
  rejectedBytes: number = 0;
  /** Calls that took something, ever, by how many datagrams that was: `[n]` for up to 2^n, the last for more. */
  readonly batchSizes: number[] = new Array<number>(BATCH_SIZE_BUCKETS).fill(0);
  /** Calls that took fewer than asked, ever. */
  shortCounts: number = 0;
  /** EAGAIN answers, ever. */
  wouldBlocks: number = 0;
  /** ENOBUFS and ENOMEM answers, ever. */
  backoffs: number = 0;
  /** Errors of earlier datagrams that came in late (ICMP), ever. */
  pendingErrors: number = 0;
  /** Why the verdict was `fatal`. */
  fatalError: SendmmsgError | null = null;

  /** Segmented `mmsghdr`s taken, ever. */
  gsoMessages: number = 0;
  /** Datagrams that went out in them, ever. */
  gsoSegments: number = 0;

  readonly #queue: DatagramQueue;
  readonly #batch: Batch;
  readonly #wire: Wire;
  readonly #options: FlushOptions;
  readonly #flags: number;
  readonly #pace: Pace | null;
  readonly #isUnix: boolean;
  /** Whether each message is a call of its own, sendmsg(2), up to the first that fails. */
  readonly #isOneByOne: boolean;
  /** Whether the socket is asked nothing more. */
  #isDetached = false;
  /** Whether the pace allowed less than there was. */
  #isHeldBack = false;
  /** Why the head that was split was refused; 0 once its first datagram has passed plainly, and the latch knows. */
  #refusal = 0;
  // What the datagram at the head has been through, by its sequence: whoever moves the head need not tell.
  #troubled = -1;
  #troubledLeft = 0;
  /** How often the head had moved then. */
  #troubledAt = -1;
  #backoffsOfHead = 0;
  #emptyAnswers = 0;
  /** Whether it is being tried again, for an error that may have been an earlier datagram's; not once it has waited. */
  #isSecondTry = false;
  /** Such errors, which are late ones if it passes. */
  #suspected: number[] = [];
  /** Whether a firewall has refused it. */
  #wasRefused = false;
  /** The datagram that the last call stopped short of, by its sequence: the kernel does not say why, but the next answer does. */
  #stoppedAt = -1;
  #stoppedLeft = 0;
  #backoffMs = 0;
  #isStarved = false;
  #singles = 0;

  constructor(queue: DatagramQueue, batch: Batch, wire: Wire, options: FlushOptions) {
    this.#queue = queue;
    this.#batch = batch;
    this.#wire = wire;
    this.#options = options;
    this.#flags = options.flags ?? 0;
    this.#pace = options.pace ?? null;
    this.#isUnix = wire.family === AF_UNIX;
    this.#isOneByOne = wire.backend === 'sendmsg';
  }

  /** Forgets the counts of the last report. */
  reset(): void {
    this.sent = 0;
    this.bytes = 0;
    this.syscalls = 0;
    if (this.rejected.length === 0) return;
    this.rejected = [];
    this.rejectedBytes = 0;
  }

  /** Calls until there is nothing to send, or something to wait for. */
  run(budget: number = CALLS_PER_RUN): Verdict {
    const queue = this.#queue;
    for (let calls = 0; queue.datagrams > 0; calls++) {
      if (calls === budget) return this.#yielded();
      const vlen = this.ask();
      if (vlen === 0) return this.whyNone;
      const verdict = this.book(vlen, this.#wire.sendmmsg!(this.#batch, vlen, this.#flags));
      if (verdict !== 'again') return verdict;
      if (this.hasRejectedMuch && budget !== Number.POSITIVE_INFINITY) return this.#yielded();
    }
    return 'drained';
  }

  /** How many messages to hand over next; 0: none may go now, see {@link whyNone}. */
  ask(): number {
    const batch = this.#batch;
    const planned = batch.plan();
    // One datagram alone leaves its ICMP error readable; in a batch the second one would take and lose it.
    const span = this.#singles === SINGLES_BEFORE_PROBE ? Math.min(planned, 1) : this.#limited(planned);
    if (this.#pace === null || span === 0) return span;
    const vlen = this.#pace.grant(batch, span);
    this.#isHeldBack = vlen < span;
    if (vlen === 0) this.#isSecondTry = false;
    return vlen;
  }

  /** Why nothing may go, though something is queued: every destination that it is for is full, or the pace is kept. */
  get whyNone(): 'blocked' | 'paced' {
    return this.#queue.heldBack === this.#queue.datagrams ? 'blocked' : 'paced';
  }

  /** Books the answer to a call for `vlen` messages: the number taken, or `-errno`. */
  book(vlen: number, answer: number): Verdict {
    this.syscalls += this.#callsFor(vlen, answer);
    this.#pace?.repay(this.#batch, Math.max(answer, 0), vlen);
    if (answer > 0) return this.#bookTaken(vlen, answer);
    this.#watchHead();
    // 0 for a vlen above 0 is not in the page; waiting is the answer that can do no harm.
    const errno = answer === 0 ? EAGAIN : -answer;
    const verdict = this.#judge(errno, dispositionOf(errno, this.#batch.isHeadSegmented, this.#isUnix));
    this.#stoppedAt = -1;
    // While it waits, other answers may come in: what it is told then may be another datagram's again.
    if (verdict !== 'again') this.#isSecondTry = false;
    return verdict;
  }

  /** Whether the rejections hold as much memory as they may: they are to be told. */
  get hasRejectedMuch(): boolean {
    return this.rejectedBytes >= this.#options.mostRejectedBytes;
  }

  /** Counts a late error that the socket still holds: the last one would never be heard of. */
  takeLateError(): void {
    if (!this.#isDetached && this.#wire.takeError() > 0) this.pendingErrors++;
  }

  /** Asks nothing more of the socket: what is in flight is only booked. */
  detach(): void {
    this.#isDetached = true;
  }

  /** Milliseconds to wait for the verdict `backoff`: 1, 2, 4, … 100. */
  get backoffMs(): number {
    return this.#backoffMs;
  }

  /** Milliseconds to wait for the verdict `paced`. */
  get paceMs(): number {
    return this.#pace?.msUntilNext(this.#batch) ?? 0;
  }

  #callsFor(vlen: number, answer: number): number {
    if (!this.#isOneByOne || answer < 0) return 1;
    return answer < Math.min(vlen, MAX_VLEN) ? answer + 1 : answer; // the one that failed
  }

  /** Notes how full the calls were that took the first so many messages, which are still queued. */
  #countBatches(messages: number, datagrams: number): void {
    if (!this.#isOneByOne) return this.#countBatch(datagrams);
    for (let index = 0; index < messages; index++) this.#countBatch(this.#batch.segmentsAt(index));
  }

  #countBatch(datagrams: number): void {
    this.batchSizes[Math.min(32 - Math.clz32(datagrams - 1), BATCH_SIZE_BUCKETS - 1)]!++;
  }

  /** In a later turn other answers may have come in, too. */
  #yielded(): Verdict {
    this.#isSecondTry = false;
    return 'yield';
  }

  #judge(errno: number, disposition: Disposition): Verdict {
    const batch = this.#batch;
    switch (disposition) {
      case 'wouldBlock':
        this.wouldBlocks++;
        // Of an unconnected unix socket it is one destination that is full.
        if (this.#queue.destinations === null || !this.#isUnix || this.#wire.isConnected) return 'blocked';
        batch.waitForHead();
        return batch.plan() > 0 ? 'again' : 'blocked';
      case 'backoff':
        this.backoffs++;
        if (++this.#backoffsOfHead <= MAX_BACKOFFS) return this.#backOff(this.#backoffsOfHead);
        if (batch.isHeadSegmented) {
          this.#backoffsOfHead = 0;
          return this.#sendPlainly(errno); // it may be short of large messages only
        }
        this.#isStarved = true;
        return this.#rejectHead(errno);
      case 'lateError':
        this.pendingErrors++;
        return this.#askAgain();
      case 'retryNow':
        return this.#askAgain();
      case 'pendingSocketError':
        return this.#isSecondTry ? this.#rejectHead(errno) : this.#tryOnceMore(errno);
      case 'segmentationRefused':
        // Of segments that are too long, or of an earlier datagram that was.
        return errno === EMSGSIZE && !this.#isSecondTry ? this.#tryOnceMore(errno) : this.#sendPlainly(errno);
      case 'rejectSecondTime':
        if (this.#wasRefused || this.#isAt(this.#stoppedAt, this.#stoppedLeft)) {
          return this.#rejectHead(errno);
        }
        this.#wasRefused = true;
        return 'again';
      case 'rejectDatagram':
        return this.#rejectHead(errno);
      case 'shutDown':
        if (!this.#isDetached && !this.#wire.isShutDown()) return this.#rejectHead(errno);
        this.fatalError = systemError(errno, 'sendmmsg', this.#wire.peer);
        return 'fatal';
      case 'fatal':
        this.fatalError = systemError(errno, 'sendmmsg');
        return 'fatal';
    }
  }

  /** The answer said nothing of the head: at once, but not for ever in one turn. */
  #askAgain(): Verdict {
    const excess = ++this.#emptyAnswers - MAX_EMPTY_ANSWERS;
    return excess < 0 ? 'again' : this.#backOff(excess + 1);
  }

  #backOff(times: number): Verdict {
    this.#backoffMs = Math.min(2 ** (times - 1), MAX_BACKOFF_MS);
    return 'backoff';
  }

  /** The error may have been an earlier datagram's: what else the socket holds of these is taken out of the way. */
  #tryOnceMore(errno: number): Verdict {
    this.#isSecondTry = true;
    this.#suspected.push(errno);
    if (!this.#isUnix) {
      this.takeLateError();
      return 'again';
    }
    const answer = this.#isDetached ? 0 : this.#wire.reconnect();
    return answer < 0 ? this.#rejectHead(-answer, 'connect') : 'again';
  }

  #sendPlainly(errno: number): Verdict {
    this.#isSecondTry = false;
    this.#refusal = errno;
    this.#suspected = this.#suspected.filter((suspect) => suspect !== errno); // it was of its segments
    this.#batch.split();
    return 'again';
  }

  #limited(span: number): number {
    const batch = this.#batch;
    const most = this.#options.mostInFlight;
    if (most === undefined || (this.#queue.datagrams <= most.datagrams && this.#queue.bytes <= most.bytes)) return span;
    let { datagrams, bytes } = most;
    for (let index = 0; index < span; index++) {
      datagrams -= batch.segmentsAt(index);
      bytes -= batch.lengthAt(index);
      if (datagrams < 0 || bytes < 0) return Math.max(index, 1);
    }
    return span;
  }

  #bookTaken(vlen: number, taken: number): Verdict {
    const batch = this.#batch;
    const datagrams = batch.datagramsIn(taken);
    if (this.#suspected.length > 0) {
      if (this.#isAt(this.#troubled, this.#troubledLeft)) this.pendingErrors += this.#suspected.length;
      this.#suspected = [];
    }
    this.#emptyAnswers = 0;
    // Only what was refused segmented and has passed plainly counts: it may have been dropped meanwhile.
    if (this.#refusal > 0 && batch.isSplit) {
      this.#wire.latch.refuse(this.#refusal, batch.headSockaddr, batch.headSize, this.#options.clock.now());
    }
    this.#refusal = 0;
    if (datagrams > taken) {
      const plain = batch.unsegmentedIn(taken);
      this.gsoMessages += taken - plain;
      this.gsoSegments += datagrams - plain;
    }
    this.#countBatches(taken, datagrams);
    this.bytes += batch.take(taken);
    this.sent += datagrams;
    this.#isStarved = false;
    if (this.#singles === SINGLES_BEFORE_PROBE) {
      this.takeLateError();
      this.#singles = 0;
    } else if (taken < vlen) {
      if (!this.#isOneByOne) this.shortCounts++; // a call for one message takes it or fails
      this.#singles = taken === 1 ? this.#singles + 1 : 0;
    } else {
      this.#singles = 0;
    }
    if (this.#queue.datagrams === 0) return 'drained';
    this.#stoppedAt = taken < vlen ? batch.headSequence : -1;
    this.#stoppedLeft = taken < vlen ? batch.headLeft : 0;
    // What falls due meanwhile is left to gather: else each datagram would be a call of its own. But a short count says
    // nothing about the pace: what was granted goes on.
    return this.#isHeldBack && taken === vlen ? 'paced' : 'again';
  }

  /** Where the head goes, or whom all go to. */
  #headDestination(): Destination {
    const name = this.#batch.headName();
    return name.length === 0 ? this.#wire.peer : describeName(name);
  }

  #rejectHead(errno: number, syscall: string = 'sendmmsg'): Verdict {
    const batch = this.#batch;
    const payload = new Uint8Array(batch.headPayload());
    const destination = this.#headDestination();
    const error = systemError(errno, syscall, destination);
    this.rejected.push(Object.freeze({ sequence: batch.headSequence, ...destination, payload, error }));
    this.rejectedBytes += payload.byteLength;
    batch.takeOne();
    this.#refusal = 0; // plainly refused, too: no fault of GSO
    this.#suspected = []; // they were its own
    this.#emptyAnswers = 0;
    return this.#queue.datagrams > 0 ? 'again' : 'drained';
  }

  /** Whether the datagram at the head is this one: see {@link Batch.headLeft}. */
  #isAt(sequence: number, left: number): boolean {
    return this.#batch.headSequence === sequence && this.#batch.headLeft === left;
  }

  #watchHead(): void {
    if (this.#isAt(this.#troubled, this.#troubledLeft)) return;
    this.#troubled = this.#batch.headSequence;
    this.#troubledLeft = this.#batch.headLeft;
    this.#isSecondTry = false;
    this.#suspected = [];
    this.#wasRefused = false;
    // A newer one in the place of another (conflateBy) goes on waiting, or those behind it would wait for ever.
    if (this.#queue.moves === this.#troubledAt) return;
    this.#troubledAt = this.#queue.moves;
    // Once a datagram has waited in vain, those behind it wait a fifth of a second each until something is taken again.
    this.#backoffsOfHead = this.#isStarved ? MAX_BACKOFFS - 2 : 0;
  }
}
