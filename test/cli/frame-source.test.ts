import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameSource } from '../../src/cli/frame-source.ts';
import { createFramer } from '../../src/cli/framing.ts';
import type { Datagram, DatagramLike } from '../../src/message/datagram.ts';
import { endpoint } from '../../src/message/sockaddr.ts';

/** What was emitted, and to whom. */
function shown(datagram: DatagramLike): string {
  if (datagram instanceof Uint8Array) return Buffer.from(datagram).toString();
  const { payload, to } = datagram as Datagram;
  return `${Buffer.from(payload as Uint8Array).toString()} to ${to!.port}`;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('frame source', () => {
  it('emits nothing while it is told that there is no room, and everything in the end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.string({ maxLength: 30 }).map((text) => text.replaceAll('\n', '.')),
          { maxLength: 60 },
        ),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 0, max: 3 }),
        fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1 }),
        async (lines, room, peerCount, takes) => {
          const input = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const pieces = Array.from({ length: Math.ceil(input.length / 50) }, (_, at) =>
            input.subarray(at * 50, at * 50 + 50),
          );
          const peers = Array.from({ length: peerCount }, (_, index) => endpoint('127.0.0.1', 1000 + index));
          const source = new FrameSource(Readable.from(pieces), createFramer({ kind: 'lines' }, 2 ** 20), { peers });
          const seen: string[] = [];
          let queued = 0;
          let most = 0;
          let turns = 0;
          await new Promise<void>((resolve) => {
            // Takes some from the queue in each turn, as a slow receiver does.
            const work = setInterval(() => {
              const wasFull = queued >= room;
              queued = Math.max(queued - takes[turns++ % takes.length]!, 0);
              if (wasFull && queued < room) source.pressure.next(false);
            }, 0);
            source.datagrams.subscribe({
              next(datagram) {
                seen.push(shown(datagram));
                most = Math.max(most, ++queued);
                if (queued === room) source.pressure.next(true);
              },
              complete() {
                clearInterval(work);
                resolve();
              },
            });
          });
          expect(most).toBeLessThanOrEqual(room);
          expect(seen).toEqual(
            lines.flatMap((line) => (peerCount === 0 ? [line] : peers.map(({ port }) => `${line} to ${port}`))),
          );
          expect(source.isExhausted).toBe(true);
          expect(source.emitted).toBe(lines.length);
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
    const source = new FrameSource(long, createFramer({ kind: 'lines' }, 100));
    let emitted = 0;
    source.datagrams.subscribe(() => {
      if (++emitted % 10 === 0) source.pressure.next(true);
    });
    for (let turns = 0; turns < 100; turns++) await turn();
    expect(emitted).toBe(10);
    expect(read).toBeLessThanOrEqual(4000);
    source.pressure.next(false);
    await turn();
    await turn();
    expect(emitted).toBe(20);
    source.stop();
    expect(long.destroyed).toBe(true);
    expect(source.isExhausted).toBe(false);
  });

  it('stopped between two peers, it emits the frame to the others before it completes', async () => {
    const peers = [1, 2, 3].map((port) => endpoint('127.0.0.1', port));
    const source = new FrameSource(Readable.from([Buffer.from('a\nb\n')]), createFramer({ kind: 'lines' }, 100), {
      peers,
    });
    const seen: string[] = [];
    let isComplete = false;
    source.datagrams.subscribe({
      next(datagram) {
        seen.push(shown(datagram));
        source.pressure.next(true);
      },
      complete() {
        isComplete = true;
      },
    });
    while (seen.length === 0) await turn();
    source.stop();
    expect(isComplete).toBe(false);
    for (const expected of [2, 3]) {
      source.pressure.next(false);
      await turn();
      expect(seen.length).toBe(expected);
    }
    source.pressure.next(false);
    await turn();
    expect(seen).toEqual(['a to 1', 'a to 2', 'a to 3']);
    expect(isComplete).toBe(true);
  });

  it('completes, and tells why, when the input fails', async () => {
    const input = new Readable({ read: () => {} });
    const source = new FrameSource(input, createFramer({ kind: 'lines' }, 100));
    const completed = new Promise<void>((resolve) => source.datagrams.subscribe({ complete: resolve }));
    input.destroy(new Error('EIO: the disk is gone'));
    await completed;
    expect(source.problem?.message).toBe('EIO: the disk is gone');
    expect(source.isExhausted).toBe(false);
  });
});
