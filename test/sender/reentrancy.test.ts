import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { BatchReport } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { BatchObserver } from '../../src/sender/batch-sender.ts';
import { CLOSE_CHANNEL, REPORT_CHANNEL, type SenderStats } from '../../src/sender/diagnostics.ts';
import { expectConservation, numbered, numberedList, numbersOf, range } from '../support/datagrams.ts';
import { Receiver } from '../support/receiver.ts';
import { WholeSender } from '../support/whole-sender.ts';

const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

function fixture(options: BatchOptions = {}, observer: BatchObserver = {}) {
  const { sender: socket, receiver } = Receiver.pair(1 << 20);
  open.push(socket, receiver);
  return { socket, receiver, sender: new WholeSender(socket, options, observer) };
}

/** What is thrown outside while `run` runs, in place of the test runner's own handlers. */
async function uncaughtDuring(run: () => Promise<void>): Promise<unknown[]> {
  const uncaught: unknown[] = [];
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error));
  try {
    await run();
    await turn();
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
  }
  return uncaught;
}

describe('a getter of a datagram', () => {
  it('may send: the inner one is accepted first, and the account is right in the middle of it', async () => {
    const { sender, receiver } = fixture();
    sender.send(numbered(0));
    sender.send({
      get payload() {
        expectConservation(sender.stats);
        sender.send(numbered(1));
        expectConservation(sender.stats);
        return numbered(2);
      },
    });
    sender.send({
      get payload(): string {
        sender.send(numbered(3));
        throw new Error('no bytes');
      },
    });
    const report = sender.flush();
    expect(numbersOf(receiver.drain())).toEqual(range(4));
    expect(report.rejected).toMatchObject([{ sequence: 4, error: { code: 'ERR_INVALID_ARG_VALUE' } }]);
    expectConservation(sender.stats);
  });

  it.each(['close', 'destroy'] as const)('may %s the sender: its own datagram is dropped and counted', async (end) => {
    const { sender, receiver } = fixture();
    sender.send(numbered(0));
    sender.send({
      get payload() {
        void sender[end]();
        return numbered(1);
      },
    });
    await sender.close();
    expect(numbersOf(receiver.drain())).toEqual(end === 'close' ? [0] : []);
    expect(sender.stats).toMatchObject({ accepted: 2, queued: 0, droppedBy: { teardown: end === 'close' ? 1 : 2 } });
    expectConservation(sender.stats);
  });

  it('may close the socket', async () => {
    const errors: unknown[] = [];
    const { sender, socket } = fixture({ batchSize: 1 }, { error: (error) => errors.push(error) });
    sender.send({
      get payload() {
        socket.close();
        return 'x';
      },
    });
    expect(errors).toMatchObject([{ code: 'EBADF' }]);
    expectConservation(sender.stats);
  });
});

describe('an observer', () => {
  it('sees a true account in every report', () => {
    let told = 0;
    const { sender } = fixture(
      { batchSize: 4 },
      {
        next(report) {
          told += report.sent + report.dropped + report.rejected.length;
          expectConservation(sender.stats);
          expect(told + sender.stats.queued).toBe(sender.stats.accepted);
        },
      },
    );
    for (let index = 0; index < 50; index++) sender.send(index % 7 === 0 ? (undefined as never) : numbered(index));
    sender.flush();
    expect(told).toBe(50);
  });

  it.each([
    ['a full batch', 2, 'x'],
    ['an overflow', 5, 'x'],
    ['a rejection', 1, null],
  ])('that answers each report with %s echoes once a turn, and does not spin', async (_what, count, datagram) => {
    let reports = 0;
    const { sender, receiver } = fixture(
      { batchSize: 2, highWaterMark: 2 },
      {
        next() {
          if (++reports > 100_000) throw new Error('It spins');
          if (!sender.closed) for (let index = 0; index < count; index++) sender.send(datagram as string);
          expectConservation(sender.stats);
        },
      },
    );
    sender.send('first');
    const before = sender.flush();
    expect(before.sent).toBe(1);
    expect(reports).toBeLessThan(3);
    for (let index = 0; index < 5; index++) await turn();
    expect(reports).toBeGreaterThan(2);
    expect(reports).toBeLessThan(20);
    await sender.close();
    expect(receiver.drain()).toHaveLength(sender.stats.sent);
    expect(sender.stats.queued).toBe(0);
  });

  it('that sends keeps the order of acceptance', async () => {
    let next = 0;
    const { sender, receiver } = fixture(
      { batchSize: 2 },
      {
        next() {
          for (let index = 0; index < 3 && next < 40; index++) sender.send(numbered(next++));
        },
      },
    );
    for (let index = 0; index < 5; index++) sender.send(numbered(next++));
    expect(numbersOf(await receiver.receive(40))).toEqual(range(40));
    expect(sender.stats).toMatchObject({ rejected: 0, dropped: 0, sent: 40 });
    sender.destroy();
  });

  it.each(['end', 'destroy', 'abort'] as const)('may %s the sender', async (how) => {
    const told: string[] = [];
    const { sender, receiver } = fixture(
      { batchSize: 3 },
      {
        next(report) {
          told.push(`next ${report.sent}`);
          if (sender.closed) return;
          sender.send('last');
          if (how === 'abort') sender.abort(new Error('enough'));
          else sender[how]();
        },
        error: (error) => told.push((error as Error).message),
        complete: () => told.push('complete'),
      },
    );
    for (let index = 0; index < 3; index++) sender.send('x');
    await turn();
    const expected = {
      end: ['next 3', 'next 1', 'complete'],
      destroy: ['next 3'],
      abort: ['next 3', 'next 1', 'enough'],
    };
    expect(told).toEqual(expected[how]);
    expect(receiver.drain()).toHaveLength(how === 'destroy' ? 3 : 4);
    expect(sender.stats.queued).toBe(0);
    expectConservation(sender.stats);
  });

  it('that throws stops nothing: it is thrown outside, and the sender goes on, wakes and ends', async () => {
    const { sender, receiver } = fixture(
      { batchSize: 2, highWaterMark: 4 },
      {
        next: (report) => {
          throw new Error(`next ${report.sent}`);
        },
        complete: () => {
          throw new Error('complete');
        },
      },
    );
    const uncaught = await uncaughtDuring(async () => {
      for (const text of numberedList(5)) {
        sender.send(text);
        await sender.ready();
      }
      await sender.close();
    });
    expect(numbersOf(receiver.drain())).toEqual(range(5));
    expect(uncaught.map((error) => (error as Error).message)).toEqual(['next 2', 'next 2', 'next 1', 'complete']);
    expectConservation(sender.stats);
  });

  it('may flush', () => {
    const reports: BatchReport[] = [];
    const { sender, receiver } = fixture(
      { batchSize: 2 },
      {
        next(report) {
          reports.push(report);
          if (reports.length > 1) return;
          sender.send(numbered(2));
          expect(sender.flush()).toMatchObject({ sent: 1 });
        },
      },
    );
    sender.send(numbered(0));
    sender.send(numbered(1));
    expect(numbersOf(receiver.drain())).toEqual(range(3));
    expect(reports.map(({ sent }) => sent)).toEqual([2, 1]);
  });
});

describe('the diagnostics channels', () => {
  it('tell each report with the stats, and the end with what was queued', () => {
    const reports: { report: BatchReport; stats: SenderStats }[] = [];
    const ends: { stats: SenderStats }[] = [];
    const onReport = (message: unknown): void => void reports.push(message as (typeof reports)[number]);
    const onEnd = (message: unknown): void => void ends.push(message as (typeof ends)[number]);
    subscribe(REPORT_CHANNEL, onReport);
    subscribe(CLOSE_CHANNEL, onEnd);
    try {
      const { sender } = fixture({ batchSize: 2 });
      for (const text of numberedList(5)) sender.send(text);
      expect(reports.map(({ report, stats }) => [report.sent, stats.sent])).toEqual([
        [2, 2],
        [2, 4],
      ]);
      for (const { stats } of reports) expectConservation(stats);
      sender.destroy();
      sender.destroy();
      expect(ends).toMatchObject([
        { stats: { backend: 'sendmmsg', accepted: 5, queued: 0, droppedBy: { teardown: 1 } } },
      ]);
    } finally {
      unsubscribe(REPORT_CHANNEL, onReport);
      unsubscribe(CLOSE_CHANNEL, onEnd);
    }
  });

  it('a subscriber may destroy the sender: the observer then hears nothing', () => {
    const told: unknown[] = [];
    const { sender } = fixture({}, { next: (report) => told.push(report), complete: () => told.push('complete') });
    const destroy = (): void => sender.destroy();
    subscribe(REPORT_CHANNEL, destroy);
    try {
      sender.send('x');
      sender.end();
      expect(told).toEqual([]);
      expect(sender.closed).toBe(true);
    } finally {
      unsubscribe(REPORT_CHANNEL, destroy);
    }
  });
});
