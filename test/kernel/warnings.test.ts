/** Loss is not silent: the first of each kind in a thread is a process warning. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { childScript, run } from '../support/child.ts';
import { keeper } from '../support/keep.ts';
import { blocked } from '../support/receiver.ts';

const keep = keeper();
const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
/** What was warned of: of this package only. */
const warned = (): { message: string; code: string; detail: string; type: string }[] =>
  (emitWarning.mock.calls as unknown as [string, { code: string; detail: string; type: string }][])
    .filter(([, options]) => options?.type === 'RxSendmmsgWarning')
    .map(([message, options]) => ({ message, ...options }));
const codes = (): string[] => warned().map(({ code }) => code);

beforeEach(() => {
  vi.resetModules(); // as in a thread that has not warned yet
  emitWarning.mockClear();
});

/** A sender of a fresh copy of the package, on a socket that takes nothing. */
async function fixture(options: BatchOptions) {
  const { BatchSender } = await import('../../src/sender/batch-sender.ts');
  const { DatagramSocket } = await import('../../src/socket/datagram-socket.ts');
  const { receiver } = blocked(keep);
  const make = (more: BatchOptions = {}) => {
    const socket = keep(DatagramSocket.open({ type: 'unix', connect: { path: receiver.path } }));
    const sender = new BatchSender(
      socket,
      { highWaterMark: 4, drainTimeoutMs: 0, ...options, ...more },
      { error() {} },
    );
    while (sender.stats.wouldBlocks === 0) {
      sender.send('filler');
      sender.flush();
    }
    return sender;
  };
  return { make };
}

const loses = {
  overflow: (sender: { send(datagram: never): boolean; flush(): void }) => {
    for (let index = 0; index < 9; index++) sender.send('x' as never);
    sender.flush();
  },
  rejection: (sender: { send(datagram: never): boolean; flush(): void }) => {
    sender.send(42 as never);
    sender.flush();
  },
};

describe.each([
  ['overflow', 'RX_SENDMMSG_OVERFLOW', /dropped: the queue is full \(highWaterMark 4, highWaterMarkBytes \d+\)$/],
  ['rejection', 'RX_SENDMMSG_REJECTED', /^Datagram \d+ was rejected: The payload must be/],
] as const)('the first %s', (kind, code, message) => {
  it('is a warning with a code, the reason, and how to switch it off; those after it, of any sender, are not', async () => {
    const { make } = await fixture({});
    const sender = make();
    expect(codes()).toEqual([]);
    loses[kind](sender);
    expect(codes()).toEqual([code]);
    expect(warned()[0]!.message).toMatch(message);
    expect(warned()[0]!.detail).toContain('{ warn: false }');
    loses[kind](sender);
    loses[kind](make());
    expect(codes()).toEqual([code]);
  });

  it('is none with warn: false, and leaves it to the next sender', async () => {
    const { make } = await fixture({});
    loses[kind](make({ warn: false }));
    expect(codes()).toEqual([]);
    loses[kind](make());
    expect(codes()).toEqual([code]);
  });
});

it('whoever sends in turn where the warning is told loses nothing by it', async () => {
  const { make } = await fixture({});
  const sender = make();
  emitWarning.mockImplementationOnce(() => sender.send(43 as never));
  loses.rejection(sender);
  sender.flush();
  expect(sender.stats).toMatchObject({ rejected: 2, rejectedBy: { ERR_INVALID_ARG_TYPE: 2 } });
});

describe('no warning', () => {
  it("is told where overflow: 'error' ends the stream with it", async () => {
    const { make } = await fixture({ overflow: 'error' });
    const sender = make();
    expect(() => loses.overflow(sender)).toThrow('queue is full');
    expect(sender.stats.droppedBy.overflow).toBe(1);
    expect(codes()).toEqual([]);
  });

  it('is told of what is dropped for other reasons: they were asked for', async () => {
    const { make } = await fixture({});
    const [closed, destroyed] = [make(), make()];
    await closed.close();
    destroyed.destroy();
    expect(closed.stats.droppedBy.drainTimeout + destroyed.stats.droppedBy.teardown).toBeGreaterThan(0);
    expect(codes()).toEqual([]);
  });
});

it('a process, and each of its threads, tells each once', async () => {
  const { stdout, stderr, code } = await run([process.execPath, childScript('warn.mjs')]);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const told = ['RX_SENDMMSG_REJECTED', 'RX_SENDMMSG_OVERFLOW'].map((code) => `RxSendmmsgWarning ${code}`);
  expect(stdout.trim().split('\n')).toEqual(
    ['main', 'worker'].flatMap((thread) => told.map((each) => `${thread} ${each}`)),
  );
});
