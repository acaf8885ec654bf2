/**
 * The flush loop: hands the ring to an injected sendmmsg until it is empty, blocked or out of budget, and settles each
 * answer. No timers, no polling, no user code: what to wait for is told to the caller.
 *
 * The loop is written as ask (`span`) and answer (`settle`), so that the same code drives a call made inline and one that
 * returns later from the thread pool or from node:dgram. Exactly once rests on two facts of sendmmsg(2): the return
 * value is the number taken, and an errno speaks of the head of that call only (an error behind the first datagram is
 * discarded by the kernel). So `settle` releases exactly what was taken, and a refusal is always the head's.
 */
import { MAX_VLEN } from '../kernel/abi.ts';
import { type Disposition, dispositionOf, EAGAIN, EMSGSIZE } from '../kernel/errno.ts';
import { type SendmmsgError, systemError } from '../kernel/errors.ts';
import type { Destination, RejectedDatagram } from '../message/datagram.ts';
import { describeName } from '../message/sockaddr.ts';
import { GsoLatch } from '../queue/gso.ts';
import type { MmsgRing } from '../queue/mmsg-ring.ts';
import type { Pace } from './pace.ts';

/** The sending side of a socket, as far as the loop needs it. */
export interface Wire {
  /** Sends the first `vlen` slots: the number taken, or `-errno` if none was. */
  sendmmsg(ring: MmsgRing, vlen: number): number;
  /** Whether it is a unix socket. */
  readonly isUnix: boolean;
  /** Whom it is connected to; empty where each datagram has a destination of its own. */
  readonly peer: Destination;
  /** Reads and clears the socket's pending error (SO_ERROR): a positive errno, or 0. */
  takeError(): number;
  /** Connects again, where a peer that went away leaves the socket unconnected: 0 or `-errno`. */
  reconnect(): number;
  /** Whether each message is a call of its own, sendmsg(2), up to the first that fails. */
  readonly isOneByOne?: boolean;
  /** Whether EPIPE speaks of the socket itself. */
  isShutDown(): boolean;
  /** Milliseconds of a monotonic clock; asked only when GSO was refused. */
  now(): number;
  /**
   * Most that a call is given, but for a message that is larger by itself. Where the answer comes later, that leaves a part of
   * the queue to be filled meanwhile.
   */
  readonly mostInFlight?: { readonly datagrams: number; readonly bytes: number };
  /** Payload bytes of rejections in one run: they hold memory until they are told. */
  readonly mostRejectedBytes: number;
}

/** What the loop wants next. */
export type Verdict =
  /** Another call. */
  | 'again'
  /** Nothing: the ring is empty. */
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

  readonly #ring: MmsgRing;
  #wire: Wire;
  readonly #latch: GsoLatch;
  readonly #pace: Pace | null;
  /** Whether the pace allowed less than there was. */
  #isHeldBack = false;
  /** Why the spilled head was refused; 0 once its first datagram has passed plainly, and the latch knows. */
  #refusal = 0;
  // What the datagram at the head has been through, by its sequence: whoever moves the head need not tell.
  #troubled = -1;
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
  #backoffMs = 0;
  #isStarved = false;
  #singles = 0;

  constructor(ring: MmsgRing, wire: Wire, latch: GsoLatch = new GsoLatch(), pace: Pace | null = null) {
    this.#ring = ring;
    this.#wire = wire;
    this.#latch = latch;
    this.#pace = pace;
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
    const ring = this.#ring;
    for (let calls = 0; ring.slots > 0; calls++) {
      if (calls === budget) return this.#yielded();
      const vlen = this.ask();
      if (vlen === 0) return 'paced';
      const verdict = this.settle(vlen, this.#wire.sendmmsg(ring, vlen));
      if (verdict !== 'again') return verdict;
      if (this.hasRejectedMuch && budget !== Number.POSITIVE_INFINITY) return this.#yielded();
    }
    return 'drained';
  }

  /** How many messages to hand over next; 0: the pace allows none, and the verdict is `paced`. */
  ask(): number {
    const ring = this.#ring;
    ring.commit();
    // What was segmented before the latch fell would only be refused once more.
    if (!this.#latch.isOpen && ring.isHeadSegmented() && !this.#latch.allows(ring.headSockaddr(), ring.headSize())) {
      ring.spillHead();
    }
    // One datagram alone leaves its ICMP error readable; in a batch the second one would take and lose it.
    const span = this.#singles === SINGLES_BEFORE_PROBE ? Math.min(ring.span(), 1) : this.#limited(ring.span());
    if (this.#pace === null) return span;
    const vlen = this.#pace.grant(ring, span);
    this.#isHeldBack = vlen < span;
    if (vlen === 0) this.#isSecondTry = false;
    return vlen;
  }

  /** Books the answer to a call for `vlen` slots: the number taken, or `-errno`. */
  settle(vlen: number, answer: number): Verdict {
    this.syscalls += this.#callsFor(vlen, answer);
    this.#pace?.repay(this.#ring, Math.max(answer, 0), vlen);
    if (answer > 0) return this.#settleTaken(vlen, answer);
    this.#watchHead();
    // 0 for a vlen above 0 is not in the page; waiting is the answer that can do no harm.
    const errno = answer === 0 ? EAGAIN : -answer;
    const verdict = this.#judge(errno, dispositionOf(errno, this.#ring.isHeadSegmented(), this.#wire.isUnix));
    this.#stoppedAt = -1;
    // While it waits, other answers may come in: what it is told then may be another datagram's again.
    if (verdict !== 'again') this.#isSecondTry = false;
    return verdict;
  }

  /** Whether the rejections hold as much memory as they may: they are to be told. */
  get hasRejectedMuch(): boolean {
    return this.rejectedBytes >= this.#wire.mostRejectedBytes;
  }

  /** Counts a late error that the socket still holds: the last one would never be heard of. */
  takeLateError(): void {
    if (this.#wire.takeError() > 0) this.pendingErrors++;
  }

  /** Asks nothing more of the socket: what is in flight is only booked. */
  detach(): void {
    this.#wire = { ...this.#wire, takeError: () => 0, reconnect: () => 0, isShutDown: () => true };
  }

  /** Milliseconds to wait for the verdict `backoff`: 1, 2, 4, … 100. */
  get backoffMs(): number {
    return this.#backoffMs;
  }

  /** Milliseconds to wait for the verdict `paced`. */
  get paceMs(): number {
    return this.#pace?.msUntilNext(this.#ring) ?? 0;
  }

  #callsFor(vlen: number, answer: number): number {
    if (this.#wire.isOneByOne !== true || answer < 0) return 1;
    return answer < Math.min(vlen, MAX_VLEN) ? answer + 1 : answer; // the one that failed
  }

  /** Notes how full the calls were that took the first so many messages, which are still queued. */
  #countBatches(messages: number, datagrams: number): void {
    if (this.#wire.isOneByOne !== true) return this.#countBatch(datagrams);
    for (let index = 0; index < messages; index++) this.#countBatch(this.#ring.segmentsAt(index));
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
    const ring = this.#ring;
    switch (disposition) {
      case 'wouldBlock':
        this.wouldBlocks++;
        return 'blocked';
      case 'backoff':
        this.backoffs++;
        if (++this.#backoffsOfHead <= MAX_BACKOFFS) return this.#backOff(this.#backoffsOfHead);
        if (ring.isHeadSegmented()) {
          this.#backoffsOfHead = 0;
          return this.#sendPlainly(errno); // it may be short of large messages only
        }
        this.#isStarved = true;
        return this.#rejectHead(systemError(errno, 'sendmmsg', this.#headDestination()));
      case 'lateError':
        this.pendingErrors++;
        return this.#askAgain();
      case 'retryNow':
        return this.#askAgain();
      case 'pendingSocketError':
        return this.#isSecondTry
          ? this.#rejectHead(systemError(errno, 'sendmmsg', this.#headDestination()))
          : this.#tryOnceMore(errno);
      case 'segmentationRefused':
        // Of segments that are too long, or of an earlier datagram that was.
        return errno === EMSGSIZE && !this.#isSecondTry ? this.#tryOnceMore(errno) : this.#sendPlainly(errno);
      case 'rejectSecondTime':
        if (this.#wasRefused || ring.headSequence() === this.#stoppedAt) {
          return this.#rejectHead(systemError(errno, 'sendmmsg', this.#headDestination()));
        }
        this.#wasRefused = true;
        return 'again';
      case 'rejectDatagram':
        return this.#rejectHead(systemError(errno, 'sendmmsg', this.#headDestination()));
      case 'shutDown':
        if (!this.#wire.isShutDown()) return this.#rejectHead(systemError(errno, 'sendmmsg', this.#headDestination()));
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
    if (!this.#wire.isUnix) {
      this.takeLateError();
      return 'again';
    }
    const answer = this.#wire.reconnect();
    return answer < 0 ? this.#rejectHead(systemError(-answer, 'connect', this.#headDestination())) : 'again';
  }

  #sendPlainly(errno: number): Verdict {
    this.#isSecondTry = false;
    this.#refusal = errno;
    this.#suspected = this.#suspected.filter((suspect) => suspect !== errno); // it was of its segments
    this.#ring.spillHead();
    return 'again';
  }

  #limited(span: number): number {
    const ring = this.#ring;
    const most = this.#wire.mostInFlight;
    if (most === undefined || (ring.datagrams <= most.datagrams && ring.bytes <= most.bytes)) return span;
    let { datagrams, bytes } = most;
    for (let index = 0; index < span; index++) {
      datagrams -= ring.segmentsAt(index);
      bytes -= ring.lengthAt(index);
      if (datagrams < 0 || bytes < 0) return Math.max(index, 1);
    }
    return span;
  }

  #settleTaken(vlen: number, taken: number): Verdict {
    const ring = this.#ring;
    const datagrams = ring.datagramsIn(taken);
    if (this.#suspected.length > 0) {
      if (ring.headSequence() === this.#troubled) this.pendingErrors += this.#suspected.length;
      this.#suspected = [];
    }
    this.#emptyAnswers = 0;
    // Only what was refused segmented and has passed plainly counts: it may have been dropped meanwhile.
    if (this.#refusal > 0 && ring.isHeadSpilled()) {
      this.#latch.refuse(this.#refusal, ring.headSockaddr(), ring.headSize(), this.#wire.now());
    }
    this.#refusal = 0;
    if (datagrams > taken) {
      const plain = ring.unsegmentedIn(taken);
      this.gsoMessages += taken - plain;
      this.gsoSegments += datagrams - plain;
    }
    this.#countBatches(taken, datagrams);
    this.bytes += ring.release(datagrams);
    this.sent += datagrams;
    this.#isStarved = false;
    if (this.#singles === SINGLES_BEFORE_PROBE) {
      this.takeLateError();
      this.#singles = 0;
    } else if (taken < vlen) {
      if (this.#wire.isOneByOne !== true) this.shortCounts++; // a call for one message takes it or fails
      this.#singles = taken === 1 ? this.#singles + 1 : 0;
    } else {
      this.#singles = 0;
    }
    if (ring.slots === 0) return 'drained';
    this.#stoppedAt = taken < vlen ? ring.headSequence() : -1;
    // What falls due meanwhile is left to gather: else each datagram would be a call of its own. But a short count says
    // nothing about the pace: what was granted goes on.
    return this.#isHeldBack && taken === vlen ? 'paced' : 'again';
  }

  /** Where the head goes, or whom all go to. */
  #headDestination(): Destination {
    const name = this.#ring.nameAt(0);
    return name.length === 0 ? this.#wire.peer : describeName(name);
  }

  #rejectHead(error: SendmmsgError): Verdict {
    const ring = this.#ring;
    const payload = ring.payloadAt(0);
    this.rejected.push(Object.freeze({ sequence: ring.headSequence(), ...this.#headDestination(), payload, error }));
    this.rejectedBytes += payload.byteLength;
    ring.release(1);
    this.#refusal = 0; // plainly refused, too: no fault of GSO
    this.#suspected = []; // they were its own
    this.#emptyAnswers = 0;
    return ring.slots > 0 ? 'again' : 'drained';
  }

  #watchHead(): void {
    const sequence = this.#ring.headSequence();
    if (sequence === this.#troubled) return;
    this.#troubled = sequence;
    this.#isSecondTry = false;
    this.#suspected = [];
    this.#wasRefused = false;
    // A newer one in the place of another (conflateBy) goes on waiting, or those behind it would wait for ever.
    if (this.#ring.moves === this.#troubledAt) return;
    this.#troubledAt = this.#ring.moves;
    // Once a datagram has waited in vain, those behind it wait a fifth of a second each until something is taken again.
    this.#backoffsOfHead = this.#isStarved ? MAX_BACKOFFS - 2 : 0;
  }
}
