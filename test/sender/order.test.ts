/** `order: 'destination'` before the real kernel: gathering, the order of each destination, and one destination that is full. */
import { describe, expect, it } from 'vitest';
import { endpoint } from '../../src/message/sockaddr.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { numberedList, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { freshPath, Inbox } from '../support/lower.ts';

const keep = keeper();
const LOCAL = '127.0.0.1';

function inbox(options: SocketOptions = { bind: { address: LOCAL } }): Inbox {
  const made = new Inbox(options);
  keep(made.socket);
  return made;
}

function peers(count: number): { inboxes: Inbox[]; endpoints: ReturnType<typeof endpoint>[] } {
  const inboxes = range(count).map(() => inbox());
  return { inboxes, endpoints: inboxes.map(({ endpoint: { address, port } }) => endpoint(address, port)) };
}

function sender(options: BatchOptions = {}): BatchSender {
  return new BatchSender(keep(DatagramSocket.open({ type: 'udp4' })), { order: 'destination', ...options });
}

describe('a broadcast of several payloads to several peers', () => {
  it('is a message a peer in one call, each peer gets all of them in order', async () => {
    const { inboxes, endpoints } = peers(10);
    const by = sender();
    const payloads = numberedList(8).map((text) => text.padEnd(200));
    for (const payload of payloads) by.broadcast(payload, endpoints);
    expect(by.stats).toMatchObject({ queued: 80, sent: 0 });
    const report = by.flush();
    expect(report).toMatchObject({ sent: 80, syscalls: 1, bytes: 80 * 200, requeued: 0 });
    expect(by.stats.gso).toMatchObject({ messages: 10, segments: 80 });
    for (const inbox of inboxes) expect(await inbox.receiveText(8)).toEqual(payloads);
    await by.close();
  });

  it('goes at the end of the turn by itself: the batch is as large as the queue by default', async () => {
    const { inboxes, endpoints } = peers(3);
    const by = sender();
    for (const payload of numberedList(300)) by.broadcast(payload, endpoints);
    await new Promise((resolve) => setImmediate(resolve));
    expect(by.stats).toMatchObject({ sent: 900, queued: 0 });
    for (const inbox of inboxes) expect((await inbox.receiveText(300)).length).toBe(300);
    await by.close();
  });

  it('without GSO, with offload and in lanes keeps the order of each destination, too', async () => {
    for (const options of [{ gso: 'off' }, { offload: true }, { offload: true, lanes: 3 }] satisfies BatchOptions[]) {
      const { inboxes, endpoints } = peers(5);
      const by = sender(options);
      const payloads = numberedList(40);
      for (const payload of payloads) by.broadcast(payload, endpoints);
      await by.close();
      expect(by.stats).toMatchObject({ sent: 200, rejected: 0, dropped: 0 });
      for (const inbox of inboxes) expect(await inbox.receiveText(40)).toEqual(payloads);
    }
  });
});

describe('what is bad', () => {
  it('is one rejection, and holds up nobody', async () => {
    const { inboxes, endpoints } = peers(2);
    const by = sender();
    const [one, two] = endpoints as [ReturnType<typeof endpoint>, ReturnType<typeof endpoint>];
    const nowhere = endpoint('255.255.255.255', 9); // without SO_BROADCAST
    for (const text of ['a', 'b', 'c']) for (const to of [one, nowhere, two]) by.send({ payload: text, to });
    by.send({ payload: 'd', to: one });
    const { sent, rejected } = by.flush();
    expect(sent).toBe(7);
    expect(rejected.map(({ sequence, error }) => [sequence, error.code])).toEqual([
      [1, 'EACCES'],
      [4, 'EACCES'],
      [7, 'EACCES'],
    ]);
    expect(await inboxes[0]!.receiveText(4)).toEqual(['a', 'b', 'c', 'd']);
    expect(await inboxes[1]!.receiveText(3)).toEqual(['a', 'b', 'c']);
    await by.close();
  });
});

describe('unconnected unix sockets', () => {
  it('a peer that is full holds back its own datagrams only, and gets all of them in the end, in order', async () => {
    const [full, quick] = [0, 1].map(() => {
      const path = freshPath();
      return { path, inbox: inbox({ type: 'unix', bind: { path } }) };
    }) as [{ path: string; inbox: Inbox }, { path: string; inbox: Inbox }];
    const by = new BatchSender(keep(DatagramSocket.open({ type: 'unix' })), { order: 'destination' });
    const texts = numberedList(100);
    for (const payload of texts) by.send({ payload, path: full.path }); // more than it holds
    expect(by.flush().requeued).toBeGreaterThan(0);
    const received: string[] = [];
    for (const payload of texts) {
      by.send({ payload, path: quick.path });
      by.flush();
      received.push(...quick.inbox.take().map(String));
    }
    expect(received).toEqual(texts);
    const { syscalls, queued, wouldBlocks } = by.stats;
    expect(queued).toBeGreaterThan(0);
    // It waits on a timer, and does not spin; the others go meanwhile, at the end of each turn.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(by.stats.syscalls - syscalls).toBeLessThan(40);
    expect(by.stats.wouldBlocks).toBeGreaterThan(wouldBlocks);
    by.send({ payload: 'soon', path: quick.path });
    await new Promise((resolve) => setImmediate(resolve));
    expect(quick.inbox.take().map(String)).toEqual(['soon']);
    expect(await full.inbox.receiveText(100)).toEqual(texts);
    await by.close();
    expect(by.stats).toMatchObject({ sent: 201, dropped: 0, rejected: 0, queued: 0 });
  });
});

it('while a unix peer is full, the event loop is left alone but for the timer', async () => {
  const path = freshPath();
  inbox({ type: 'unix', bind: { path } });
  let timers = 0;
  const scheduler = {
    now: () => performance.now(),
    schedule(work: () => void, delayMs = 0) {
      timers++;
      const timer = delayMs === 0 ? setImmediate(work) : setTimeout(work, delayMs);
      return {
        unsubscribe: () =>
          delayMs === 0 ? clearImmediate(timer as NodeJS.Immediate) : clearTimeout(timer as NodeJS.Timeout),
      };
    },
  };
  const by = new BatchSender(keep(DatagramSocket.open({ type: 'unix' })), { order: 'destination', scheduler });
  for (const payload of numberedList(100)) by.send({ payload, path });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(by.stats.queued).toBeGreaterThan(0);
  expect(timers).toBeLessThan(50);
  by.destroy();
});

describe('the option', () => {
  const socket = () => keep(DatagramSocket.open());

  it.each([
    [{ order: 'any' }, 'ERR_INVALID_ARG_VALUE'],
    [{ order: 'total', lanes: 2, offload: true }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o is refused', (options, code) => {
    expect(() => new BatchSender(socket(), options as BatchOptions)).toThrow(expect.objectContaining({ code }));
  });

  it.each([
    [{ order: 'total' }],
    [{ order: 'destination', lanes: 2, offload: true }],
    [{ lanes: 2, offload: true }],
    [{ order: undefined }],
  ] as [BatchOptions][])('%o is taken', (options) => {
    new BatchSender(socket(), options).destroy();
  });
});
