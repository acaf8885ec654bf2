/** The loop against an interpreter of what a kernel answered: what is rejected, counted, asked again and waited for, exactly. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { range } from '../support/datagrams.ts';
import { type Call, flushFixture, type Wait } from '../support/scripted-kernel.ts';

const EPERM = 1;
const EINTR = 4;
const EBADF = 9;
const EAGAIN = 11;
const EPIPE = 32;
const EMSGSIZE = 90;
const ENOBUFS = 105;
const ECONNREFUSED = 111;
const PENDING = [13, 101, 104, 107];
/** Of an earlier datagram over IP, certain on a unix socket. */
const PENDING_OVER_IP = [EMSGSIZE];
const BACKOFF = [ENOBUFS, 12];
const REFUSED = [22, 97];
const ERRNOS = [EAGAIN, EINTR, ECONNREFUSED, EPERM, EPIPE, ...PENDING, ...PENDING_OVER_IP, ...BACKOFF, ...REFUSED];

/** How a kernel may answer: a short count, everything, or an errno. */
const answer = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 9 }) },
  { weight: 2, arbitrary: fc.constant(1024) },
  { weight: 6, arbitrary: fc.constantFrom(...ERRNOS).map((errno) => -errno) },
  { weight: 1, arbitrary: fc.constantFrom(EINTR, ECONNREFUSED).map((errno) => -errno) },
);
/** The same errno again and again, as a kernel in trouble gives it. */
const script = fc
  .array(fc.tuple(answer, fc.constantFrom(1, 1, 1, 2, 3, 20)), { maxLength: 40, size: 'max' })
  .map((runs) => runs.flatMap(([each, times]) => (each < 0 ? new Array<number>(times).fill(each) : [each])));

interface Kernel {
  readonly isUnix: boolean;
  /** What connecting again answers. */
  readonly reconnectAnswer: number;
  /** What SO_ERROR answers. */
  readonly pendingError: number;
}
const kernelKind = fc.record<Kernel>({
  isUnix: fc.boolean(),
  reconnectAnswer: fc.constantFrom(0, 0, -2, -ECONNREFUSED),
  pendingError: fc.constantFrom(0, 0, ECONNREFUSED),
});

interface Outcome {
  readonly rejected: readonly (readonly [sequence: number, errno: number])[];
  readonly waits: readonly Wait[];
  readonly pendingErrors: number;
  readonly errorsRead: number;
}

/** What these calls, with a budget that is never spent, must have come to. */
function interpreted(calls: readonly Call[], { isUnix, reconnectAnswer, pendingError }: Kernel): Outcome {
  const rejected: [number, number][] = [];
  const waits: Wait[] = [];
  let [pendingErrors, errorsRead, emptyAnswers, singles, isStarved, stoppedAt] = [0, 0, 0, 0, false, -1];
  let head = { number: -1, shortages: 0, isSecondTry: false, suspected: 0, wasRefused: false, isPresumed: false };
  const readError = (): void => {
    errorsRead++;
    if (pendingError > 0) pendingErrors++;
  };
  const wait = (...what: Wait): void => {
    waits.push(what);
    head.isSecondTry = false;
  };
  const reject = (errno: number): void => {
    rejected.push([head.number, errno]);
    emptyAnswers = 0;
  };
  const backOff = (times: number): void => wait('backoff', Math.min(2 ** (times - 1), 100));
  for (const call of calls) {
    const errno = -call.answer;
    if (errno < 0) {
      if (call.head === head.number) pendingErrors += head.suspected;
      [emptyAnswers, isStarved] = [0, false];
      if (call.answer < call.vlen) stoppedAt = call.head + call.answer;
      // Eight single ones in a row: the ninth goes alone, and SO_ERROR is read behind it.
      if (singles === 8) {
        readError();
        singles = 0;
      } else singles = call.answer === 1 && call.answer < call.vlen ? singles + 1 : 0;
      continue;
    }
    if (call.head !== head.number) {
      const shortages = isStarved ? 10 : 0;
      const wasRefused = call.head === stoppedAt;
      head = { number: call.head, shortages, isSecondTry: false, suspected: 0, wasRefused, isPresumed: wasRefused };
    }
    if (errno !== EPERM && head.isPresumed) head.wasRefused = false;
    head.isPresumed = false;
    if (errno === EAGAIN) wait('blocked');
    else if (errno === EINTR || (errno === ECONNREFUSED && !isUnix)) {
      if (errno === ECONNREFUSED) pendingErrors++;
      if (++emptyAnswers >= 16) backOff(emptyAnswers - 15);
    } else if (BACKOFF.includes(errno)) {
      if (++head.shortages <= 12) backOff(head.shortages);
      else {
        isStarved = true;
        reject(errno);
      }
    } else if (errno === EPERM) {
      if (head.wasRefused) reject(errno);
      head.wasRefused = true;
    } else if (PENDING.includes(errno) || errno === ECONNREFUSED || (PENDING_OVER_IP.includes(errno) && !isUnix)) {
      if (head.isSecondTry) reject(errno);
      else if (isUnix && reconnectAnswer < 0) reject(-reconnectAnswer);
      else {
        head.isSecondTry = true;
        head.suspected++;
        if (!isUnix) readError();
      }
    } else reject(errno);
  }
  return { rejected, waits, pendingErrors, errorsRead };
}

describe('any kernel, told by a script', () => {
  it('conserves, sends exactly once, keeps the order, and waits, counts and rejects as each errno asks for', () => {
    fc.assert(
      fc.property(
        script,
        fc.integer({ min: 1, max: 80 }),
        fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 20, size: 'max' }),
        kernelKind,
        (script, count, arrivals, kind) => {
          const fixture = flushFixture(
            count,
            (_head, vlen, call) => {
              const next = script[call] ?? 1024;
              return next > 0 ? Math.min(next, vlen) : next;
            },
            { capacity: 97, isUnix: kind.isUnix },
          );
          const { loop, kernel, queue } = fixture;
          const { reconnectAnswer, pendingError } = kind;
          Object.assign(kernel, { reconnectAnswer, pendingError, isDown: false });
          const waits: Wait[] = [];
          let accepted = count;
          for (let turn = 0; ; turn++) {
            const verdict = loop.run();
            if (verdict !== 'drained') waits.push(verdict === 'backoff' ? [verdict, loop.backoffMs] : [verdict]);
            expect(loop.sent + loop.rejected.length + queue.datagrams).toBe(accepted);
            for (let arrival = arrivals[turn] ?? 0; arrival > 0; arrival--) if (fixture.push()) accepted++;
            if (verdict === 'drained' && queue.datagrams === 0) break;
            expect(turn).toBeLessThan(1000);
          }
          const expected = interpreted(kernel.calls, kind);
          const rejected = loop.rejected.map(({ sequence, error }) => [sequence, error.errno]);
          expect(rejected).toEqual(expected.rejected);
          expect(waits).toEqual(expected.waits);
          expect(loop.pendingErrors).toBe(expected.pendingErrors);
          expect(kernel.errorsRead).toBe(expected.errorsRead);
          expect(kernel.taken).toEqual(
            range(
              accepted,
              loop.rejected.map(({ sequence }) => sequence),
            ),
          );
          expect(loop.sent).toBe(kernel.taken.length);
          expect(loop.bytes).toBe(kernel.taken.reduce((sum, number) => sum + String(number).length, 0));
          expect(loop.syscalls).toBe(kernel.calls.length);
          // Each datagram behind the script takes one call at most.
          expect(kernel.calls.length).toBeLessThanOrEqual(script.length + accepted + 20);
        },
      ),
      { numRuns: 600 },
    );
  });

  it('a fatal errno at any call stops the loop there, with every datagram on one side of it', () => {
    fc.assert(
      fc.property(script, fc.integer({ min: 1, max: 60 }), fc.constantFrom(EBADF, EPIPE), (script, count, fatal) => {
        const living = script.filter((answer) => answer !== -EPIPE);
        const { loop, kernel, queue } = flushFixture(count, (_head, vlen, call) => {
          const next = living[call];
          if (next === undefined) return -fatal;
          return next > 0 ? Math.min(next, vlen) : next;
        });
        let verdict = loop.run();
        for (let turn = 0; verdict !== 'fatal' && verdict !== 'drained'; turn++) {
          expect(turn).toBeLessThan(1000);
          verdict = loop.run();
        }
        expect(loop.sent + loop.rejected.length + queue.datagrams).toBe(count);
        if (verdict === 'drained') return;
        expect(kernel.calls).toHaveLength(living.length + 1);
        expect(loop.fatalError?.errno).toBe(fatal);
        expect(queue.datagrams).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});
