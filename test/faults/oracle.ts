/**
 * What must be true of an experiment, told from what the system calls answered and from what arrived. Nothing here knows how
 * the library works: the log says to which datagram which error was told, and the contract says what is owed to it then.
 */
import type { SenderStats } from '../../src/index.ts';
import { type Arrival, hashOf } from './arrivals.ts';
import type { CallLog, CallRecord } from './control.ts';
import { dutyOf, nameOf, SEGMENTATION_ERRNOS, type Target } from './errnos.ts';
import { destinationOf, payloadOf, type Scenario } from './scenario.ts';

/** What happened. */
export interface Outcome {
  /** Marks its datagrams, so that none of another experiment is taken for one of this. */
  readonly tag: string;
  /** How the stream ended. */
  readonly end: 'complete' | 'error' | 'unsubscribe' | 'never';
  /** The code or errno of its error. */
  readonly error?: string | number | undefined;
  /** Of the diagnostics channel `close`. */
  readonly stats?: SenderStats | undefined;
  /** The sums of all reports. */
  readonly reported: { readonly sent: number; readonly dropped: number };
  readonly rejected: readonly { readonly sequence: number; readonly errno: number | undefined }[];
  readonly arrivals: readonly Arrival[];
  readonly log: CallLog;
  readonly elapsedMs: number;
  /** Calls made after the end. */
  readonly lateCalls: number;
  /** Timers that were not armed before, at the end. */
  readonly timersLeft: number;
  /** Descriptors that were not there before. */
  readonly leakedDescriptors: number;
}

/** An error that was told to the datagram at the head of a call. */
interface Told {
  readonly errno: number;
  readonly isSegmented: boolean;
  /** Whether a call before had stopped short of it, or may have. */
  readonly hasStoppedShort: boolean;
}

/** The source's own error. */
export const SOURCE_ERROR = 'ESOURCE';

/** Calls in vain for one datagram that may come without a pause. */
const AT_ONCE = 16;
/** And in all. */
const BURST = 64;
/** Whether the machine is slow or the sender asleep; the full queue of a receiver, say, takes milliseconds. */
const TIME_TO_FINISH_MS = 4000;

/** One bug has many consequences. */
const MOST_TOLD = 5;

/** What was violated. */
export interface Verdict {
  /** In words; empty, if all is well. */
  readonly violations: readonly string[];
  /** Whether all of it is a matter of time: then a machine that stood still may be to blame. */
  readonly isTimed: boolean;
}

export function judge(scenario: Scenario, outcome: Outcome): Verdict {
  const { stats } = outcome;
  const violations: string[] = [];
  let isTimed = true;
  const check: Check = (holds, what, ofTime = false) => {
    if (holds) return;
    if (!ofTime) isTimed = false;
    if (violations.length < MOST_TOLD) violations.push(what);
  };
  if (outcome.end === 'never' || stats === undefined) {
    const what = `never ends (${outcome.elapsedMs.toFixed(0)} ms, ${outcome.log.calls} calls)`;
    return { violations: [what], isTimed: false };
  }
  const told = toldTo(outcome.log.records, scenario.options.lanes ?? 1);
  checkCounts(scenario, outcome, stats, check);
  const missing = checkArrivals(scenario, outcome, stats, check);
  checkRejections(scenario, outcome, told, check);
  checkDrops(scenario, outcome, stats, missing, check);
  checkEnd(scenario, outcome, check);
  checkCalls(scenario, outcome, stats, check);
  return { violations, isTimed };
}

type Check = (holds: boolean, what: string, isTimed?: boolean) => void;

function checkCounts(scenario: Scenario, outcome: Outcome, stats: SenderStats, check: Check): void {
  const { accepted, sent, rejected, dropped, conflated, packed, queued, droppedBy, rejectedBy } = stats;
  const sum = sent + rejected + dropped + conflated + packed + queued;
  check(accepted === sum, `conservation: ${accepted} accepted, ${sum} accounted for`);
  check(queued === 0, `${queued} still queued`);
  check(sumOf(droppedBy) === dropped, `${dropped} dropped, ${sumOf(droppedBy)} by reason`);
  check(sumOf(rejectedBy) === rejected, `${rejected} rejected, ${sumOf(rejectedBy)} by code`);
  check(sent === outcome.log.datagrams, `${sent} sent by its stats, ${outcome.log.datagrams} by the system calls`);
  if (outcome.end === 'complete') check(accepted === scenario.count, `${accepted} of ${scenario.count} accepted`);
  if (outcome.end === 'unsubscribe') return; // the last reports are told to nobody
  check(outcome.reported.sent === sent, `${outcome.reported.sent} reported as sent, ${sent} by its stats`);
  check(
    outcome.reported.dropped === dropped,
    `${outcome.reported.dropped} reported as dropped, ${dropped} by its stats`,
  );
  check(
    outcome.rejected.length === rejected,
    `${outcome.rejected.length} reported as rejected, ${rejected} by its stats`,
  );
}

/** Each at most once, as it was sent, in order. Returns the numbers that have not arrived. */
function checkArrivals(scenario: Scenario, outcome: Outcome, stats: SenderStats, check: Check): Set<number> {
  const missing = new Set(Array.from({ length: stats.accepted }, (_, index) => index));
  const last = new Map<number, number>();
  for (const { socket, length, hash, text } of outcome.arrivals) {
    const [number, tag] = text.split(':');
    const index = Number(number);
    if (tag !== outcome.tag || !(index < stats.accepted)) {
      check(false, `stray datagram ${JSON.stringify(text)}`);
      continue;
    }
    const payload = payloadOf(scenario, index, outcome.tag);
    check(
      payload.length === length && hashOf(payload) === hash,
      `datagram ${index} is mangled: ${length} bytes, ${text}`,
    );
    const destination = destinationOf(scenario, index);
    if (socket > 0) check(socket === destination + 1, `datagram ${index} went to ${socket - 1}, not ${destination}`);
    check(missing.delete(index), `datagram ${index} arrived twice`);
    // Lanes keep the order of each destination, one lane that of all.
    const group = (scenario.options.lanes ?? 1) > 1 || socket > 0 ? destination : 0;
    const before = last.get(group) ?? -1;
    check(index > before, `datagram ${index} arrived after ${before}`);
    last.set(group, Math.max(index, before));
  }
  check(outcome.arrivals.length === stats.sent, `${outcome.arrivals.length} arrived, ${stats.sent} sent`);
  return missing;
}

function checkRejections(scenario: Scenario, outcome: Outcome, told: Map<number, Told[]>, check: Check): void {
  const { target, backend } = scenario;
  const rejected = new Set<number>();
  const arrived = new Set(outcome.arrivals.map(({ text }) => Number.parseInt(text, 10)));
  for (const { sequence, errno } of outcome.rejected) {
    check(!rejected.has(sequence), `datagram ${sequence} is rejected twice`);
    rejected.add(sequence);
    check(!arrived.has(sequence), `datagram ${sequence} is rejected, and has arrived`);
    const answers = told.get(sequence) ?? [];
    const last = answers.at(-1);
    if (last === undefined) {
      check(false, `datagram ${sequence} is rejected with ${nameOf(errno ?? 0)}, but nothing was told to it`);
      continue;
    }
    const said = answers.map(describe).join(', ');
    // libuv has other names for some, and none for others.
    const isNamed = errno === last.errno || backend === 'node:dgram';
    check(isNamed, `datagram ${sequence} is rejected with ${nameOf(errno ?? 0)} after ${said}`);
    check(mayReject(answers, scenario), `datagram ${sequence} is rejected after ${said}`);
  }
  // One by one through sendmsg(2), the library discards errors as the kernel does: the log cannot tell which.
  if (backend === 'sendmsg' || outcome.end === 'unsubscribe') return;
  for (const [sequence, answers] of told) {
    if (sequence >= outcome.stats!.accepted || rejected.has(sequence)) continue;
    check(
      !mustReject(answers, target),
      `datagram ${sequence} is not rejected after ${answers.map(describe).join(', ')}`,
    );
  }
}

function mayReject(answers: readonly Told[], { target, backend }: Scenario): boolean {
  const last = answers.at(-1)!;
  if (last.isSegmented && SEGMENTATION_ERRNOS.has(last.errno)) return false;
  const count = (...duties: string[]): number =>
    answers.filter(({ errno }) => duties.includes(dutyOf(errno, target))).length;
  switch (dutyOf(last.errno, target)) {
    case 'wait':
    case 'fatal':
      return false;
    case 'waitBounded':
      return count('waitBounded') >= 3;
    case 'retryOnce':
      return count('retryOnce', 'rejectOrRetry') >= 2;
    case 'twoTries':
      // What a loop over sendmsg(2) met behind the first message was not told to the library, which presumes EPERM.
      if (backend === 'sendmsg') return answers.length >= 2 || last.hasStoppedShort;
      return count('twoTries') >= 2 || (answers.length === 1 && last.hasStoppedShort);
    case 'rejectOrRetry':
    case 'reject':
      return true;
  }
}

function mustReject(answers: readonly Told[], target: Target): boolean {
  return answers.some(({ errno, isSegmented }, index) => {
    if (isSegmented) return false; // whether of a message of several one is rejected, or all are sent plainly first
    const duty = dutyOf(errno, target);
    if (duty === 'reject') return true;
    const before = answers[index - 1];
    const isSaidAgain = before?.errno === errno && !before.isSegmented;
    return isSaidAgain && (duty === 'retryOnce' || duty === 'twoTries' || duty === 'rejectOrRetry');
  });
}

function checkDrops(
  { options, target, end }: Scenario,
  outcome: Outcome,
  stats: SenderStats,
  missing: Set<number>,
  check: Check,
): void {
  const { overflow, age, drainTimeout, teardown, failure } = stats.droppedBy;
  const unaccounted = missing.size - stats.rejected - stats.dropped;
  check(unaccounted === 0, `${missing.size} are missing, ${stats.rejected} rejected, ${stats.dropped} dropped`);
  check(overflow === 0 || options.highWaterMark !== undefined, `${overflow} dropped by overflow`);
  check(age === 0 || options.maxAgeMs !== undefined, `${age} dropped by age`);
  check(teardown === 0 || end === 'unsubscribe', `${teardown} dropped by teardown`);
  // Unsubscribed in the very report of a failure, it tells no error.
  check(failure === 0 || outcome.end === 'error' || end === 'unsubscribe', `${failure} dropped by failure`);
  if (drainTimeout === 0) return;
  const records = outcome.log.records;
  const waits = records.some(({ answer }) => answer < 0 && dutyOf(-answer, target).startsWith('wait'));
  const hasWaited = waits || options.pace !== undefined;
  check(
    hasWaited,
    `${drainTimeout} dropped by the drain timeout (${outcome.elapsedMs.toFixed(0)} ms), and nothing to wait for`,
    true,
  );
  const lastTaken = records.findLast(({ answer }) => answer > 0)?.ms ?? 0;
  const idleMs = outcome.elapsedMs - lastTaken;
  const { drainTimeoutMs = 5000 } = options;
  // What the thread pool was told may not have come to the event loop yet.
  check(
    idleMs >= drainTimeoutMs - 2 || options.offload === true,
    `${drainTimeout} dropped by the drain timeout, ${idleMs.toFixed(0)} ms after the kernel took one`,
    true,
  );
}

function checkEnd(scenario: Scenario, outcome: Outcome, check: Check): void {
  const { backend, target, options } = scenario;
  const { records } = outcome.log;
  check(outcome.stats!.backend === backend, `sent through ${outcome.stats!.backend}, not ${backend}`);
  const fatal = records.map(({ answer }) => -answer).filter((errno) => errno > 0 && dutyOf(errno, target) === 'fatal');
  if (outcome.end === 'error') {
    const isOverflow = outcome.error === 'ENOBUFS' && options.overflow === 'error';
    const isOfSource = outcome.error === SOURCE_ERROR && scenario.end === 'error';
    const isFatal = typeof outcome.error === 'number' && fatal.includes(outcome.error);
    const name = typeof outcome.error === 'number' ? nameOf(outcome.error) : String(outcome.error);
    check(isOverflow || isOfSource || isFatal, `ends with ${name}`);
    return;
  }
  if (outcome.end === 'unsubscribe') return;
  check(scenario.end === 'complete', `ends with ${outcome.end}, its source with ${scenario.end}`);
  // What a loop over sendmsg(2) discards, and what libuv tries in another way, was not told to the library.
  const last = records.at(-1);
  const isTold = backend === 'sendmmsg' ? fatal.length > 0 : fatal.includes(-(last?.answer ?? 0));
  check(!isTold, `completes after ${fatal.map(nameOf).join(', ')}`);
}

function checkCalls(scenario: Scenario, outcome: Outcome, stats: SenderStats, check: Check): void {
  const { backend, target, count, options } = scenario;
  const { log, elapsedMs, lateCalls, timersLeft, leakedDescriptors } = outcome;
  check(lateCalls === 0, `${lateCalls} calls after the end`);
  check(timersLeft <= 0, `${timersLeft} timers are armed after the end`);
  check(leakedDescriptors <= 0, `${leakedDescriptors} descriptors leaked`);
  const failed = log.records.filter(({ answer }) => answer < 0);
  const isWait = ({ answer }: CallRecord): boolean => answer < 0 && dutyOf(-answer, target).startsWith('wait');
  const waiting = failed.filter(isWait).length;
  const taking = log.calls - failed.length;
  // A few in vain for one head, then no more than a thousand a second; of all else, two for a datagram, and one for a message.
  const excess = countBeyond(log.records.filter(isWait), AT_ONCE);
  check(excess <= BURST + elapsedMs, `${waiting} calls in vain in ${elapsedMs.toFixed(0)} ms`, true);
  const others = failed.length - waiting;
  check(others <= 3 * count + BURST, `${others} calls refused for ${count} datagrams`);
  const { drainTimeoutMs = 0 } = options;
  if (scenario.mustStrike) check(log.told + log.cut > 0, 'no fault was injected', drainTimeoutMs > 0);
  const memory = failed.filter(({ answer }) => dutyOf(-answer, target) === 'waitBounded').length;
  const slack = drainTimeoutMs + memory * 100 + waiting * 64;
  check(elapsedMs < TIME_TO_FINISH_MS + slack, `takes ${elapsedMs.toFixed(0)} ms`, true);
  if (backend !== 'sendmmsg') {
    check(taking <= count, `${taking} calls for ${count} datagrams`);
    return;
  }
  check(stats.syscalls === log.calls, `${stats.syscalls} calls by its stats, ${log.calls} were made`);
  const blocked = failed.filter(({ answer }) => nameOf(-answer) === 'EAGAIN').length;
  check(stats.wouldBlocks === blocked, `${stats.wouldBlocks} EAGAIN by its stats, ${blocked} were answered`);
  check(stats.backoffs === memory, `${stats.backoffs} ENOBUFS or ENOMEM by its stats, ${memory} were answered`);
  // A stream that ends with an error tries once more before it does.
  const early = countEarly(log.records, target);
  check(early <= (outcome.end === 'error' ? 1 : 0), `${early} times it does not wait for memory`);
  if (!scenario.isPlain) return;
  // A call for each batch, and what each failure, short count and lane may cut off from one.
  const batches = Math.ceil(count / (options.batchSize ?? 64)) * (options.lanes ?? 1);
  const most = batches + 3 * (failed.length + log.cut) + 16;
  check(taking <= most, `${taking} calls that took some, where ${most} are enough`);
}

/** How many calls there were for the same head, beyond the first few. */
function countBeyond(records: readonly CallRecord[], few: number): number {
  const calls = new Map<number, number>();
  for (const { head } of records) calls.set(head, (calls.get(head) ?? 0) + 1);
  let beyond = 0;
  for (const count of calls.values()) beyond += Math.max(0, count - few);
  return beyond;
}

/**
 * How often the kernel was asked anew too soon after it had been short of memory for one head: from the third time in a row on, of
 * which the waits are 4, 8, 16, … ms, so that the clock of the event loop, which counts whole milliseconds, has no say in it.
 */
function countEarly(records: readonly CallRecord[], target: Target): number {
  let early = 0;
  let last: CallRecord | undefined;
  let inRow = 0;
  for (const record of records) {
    const isSame = last !== undefined && record.head === last.head && record.segments === last.segments;
    if (!isSame) inRow = 0;
    if (inRow >= 3 && record.ms - last!.ms < Math.min(2 ** (inRow - 2), 50)) early++;
    const isShort = record.answer < 0 && dutyOf(-record.answer, target) === 'waitBounded';
    inRow = isShort ? inRow + 1 : 0;
    last = record;
  }
  return early;
}

/** By number: what was told to each datagram, in order. */
function toldTo(records: readonly CallRecord[], lanes: number): Map<number, Told[]> {
  const told = new Map<number, Told[]>();
  const stops = new Set<number>();
  for (const { answer, vlen, head, segments, datagrams } of records) {
    if (answer >= 0) {
      // With lanes the next one of the same lane has any number above.
      if (answer < vlen) stops.add(lanes > 1 ? ANY : head + datagrams);
      continue;
    }
    const answers = told.get(head) ?? [];
    answers.push({ errno: -answer, isSegmented: segments > 1, hasStoppedShort: stops.has(head) || stops.has(ANY) });
    told.set(head, answers);
  }
  return told;
}
const ANY = -1;

function describe({ errno, isSegmented }: Told): string {
  return isSegmented ? `${nameOf(errno)} (segmented)` : nameOf(errno);
}

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
