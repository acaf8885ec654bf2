import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameSource } from '../../src/cli/frame-source.ts';
import { createFramer } from '../../src/cli/framing.ts';
import { SendmmsgError } from '../../src/kernel/errors.ts';
import type { BatchReport, RejectedDatagram } from '../../src/message/datagram.ts';

const error = new SendmmsgError('no', { code: 'EMSGSIZE' });

function report(sent: readonly Uint8Array[], rejected: readonly Uint8Array[] = []): BatchReport {
  return {
    sent: sent.length,
    bytes: sent.reduce((sum, { length }) => sum + length, 0),
    syscalls: 1,
    requeued: 0,
    dropped: 0,
    conflated: 0,
    pendingErrors: 0,
    rejected: rejected.map((payload): RejectedDatagram => ({ sequence: 0, payload, error })),
  };
}

describe('frame source', () => {
  it('never emits past the marks, and everything in the end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.string({ maxLength: 30 }).map((text) => text.replaceAll('\n', '.')),
          { maxLength: 60 },
        ),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 100 }),
        fc.array(fc.record({ takes: fc.integer({ min: 1, max: 8 }), refuses: fc.boolean() }), { minLength: 1 }),
        async (lines, highWaterMark, highWaterMarkBytes, answers) => {
          const input = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const pieces = Array.from({ length: Math.ceil(input.length / 50) }, (_, at) =>
            input.subarray(at * 50, at * 50 + 50),
          );
          const framer = createFramer({ kind: 'lines' }, 2 ** 20);
          const source = new FrameSource(Readable.from(pieces), framer, { highWaterMark, highWaterMarkBytes });
          const seen: string[] = [];
          const queue: Uint8Array[] = [];
          const overfull: number[] = [];
          let turn = 0;
          await new Promise<void>((resolve) => {
            // Takes some from the queue's head in each turn, as a slow receiver does.
            const work = setInterval(() => {
              const { takes, refuses } = answers[turn++ % answers.length]!;
              const done = queue.splice(0, takes);
              if (done.length > 0) source.account(refuses ? report([], done) : report(done));
            }, 0);
            source.frames.subscribe({
              next(frame) {
                seen.push(Buffer.from(frame).toString());
                queue.push(Buffer.from(frame));
                const bytes = queue.reduce((sum, { length }) => sum + length, 0);
                const isWithin = queue.length === 1 || (queue.length <= highWaterMark && bytes <= highWaterMarkBytes);
                if (!isWithin || source.queued !== queue.length) overfull.push(queue.length);
              },
              complete() {
                clearInterval(work);
                resolve();
              },
            });
          });
          expect(overfull).toEqual([]);
          expect(seen).toEqual(lines);
          expect(source.isExhausted).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('stops reading while there is no room', async () => {
    let read = 0;
    const long = new Readable({
      highWaterMark: 1000,
      read() {
        read += 1000;
        this.push(read > 100_000 ? null : Buffer.alloc(1000, '123456789\n'));
      },
    });
    const limits = { highWaterMark: 10, highWaterMarkBytes: 1 << 20 };
    const source = new FrameSource(long, createFramer({ kind: 'lines' }, 100), limits);
    const emitted: Uint8Array[] = [];
    source.frames.subscribe((frame) => emitted.push(frame));
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(emitted.length).toBe(10);
    expect(read).toBeLessThanOrEqual(4000);
    source.account(report(emitted.splice(0, 10)));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(emitted.length).toBe(10);
    source.stop();
    expect(long.destroyed).toBe(true);
    expect(source.isExhausted).toBe(false);
  });

  it('completes, and tells why, when the input fails', async () => {
    const input = new Readable({ read: () => {} });
    const source = new FrameSource(input, createFramer({ kind: 'lines' }, 100), {
      highWaterMark: 10,
      highWaterMarkBytes: 100,
    });
    const completed = new Promise<void>((resolve) => source.frames.subscribe({ complete: resolve }));
    input.destroy(new Error('EIO: the disk is gone'));
    await completed;
    expect(source.problem?.message).toBe('EIO: the disk is gone');
    expect(source.isExhausted).toBe(false);
  });
});
