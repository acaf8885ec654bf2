/** `BatchSender.broadcast`: one payload, encoded once, for many. */
import { describe, expect, it } from 'vitest';
import { endpoint } from '../../src/index.ts';
import type { Endpoint } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { expectConservation, range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();

function peers(count: number): { receivers: Receiver[]; to: Endpoint[] } {
  const receivers = range(count).map(() => keep(Receiver.udp()));
  return { receivers, to: receivers.map(({ port }) => endpoint('127.0.0.1', port)) };
}

function senderOf(options: BatchOptions = {}): BatchSender {
  return new BatchSender(keep(DatagramSocket.open()), options);
}

describe.each<BatchOptions>([{}, { gso: 'off' }, { offload: true }, { offload: true, lanes: 3 }])(
  'broadcast with %o',
  (options) => {
    it('reaches every peer once, tick after tick, in order', async () => {
      const { receivers, to } = peers(20);
      const sender = senderOf(options);
      for (const tick of range(10)) {
        sender.broadcast(`state ${tick}`, to);
        await sender.ready();
      }
      await sender.close();
      for (const receiver of receivers) {
        expect((await receiver.receive(10)).map(String)).toEqual(range(10).map((tick) => `state ${tick}`));
      }
      expect(sender.stats).toMatchObject({ accepted: 200, sent: 200, queued: 0 });
      expectConservation(sender.stats);
    });

    it('mixes with datagrams for one, which keep their places', async () => {
      const { receivers, to } = peers(2);
      const sender = senderOf(options);
      sender.send({ payload: 'a', to: to[0]! });
      sender.broadcast('b', to);
      sender.send({ payload: 'c', to: to[1]! });
      sender.send({ payload: 'd', to: to[1]! });
      sender.broadcast(['e', new Uint8Array([102])], to);
      await sender.close();
      expect((await receivers[0]!.receive(3)).map(String)).toEqual(['a', 'b', 'ef']);
      expect((await receivers[1]!.receive(4)).map(String)).toEqual(['b', 'c', 'd', 'ef']);
    });

    it('rejects a bad peer alone, and a bad payload for each', async () => {
      const { receivers, to } = peers(2);
      const sender = senderOf({ batchSize: 100, ...options });
      sender.broadcast('x', [to[0]!, endpoint('::1', 9), { address: '127.0.0.1', port: 9 } as Endpoint, to[1]!]);
      sender.broadcast(42 as never, to);
      const rejected: unknown[] = [];
      const report = sender.flush();
      rejected.push(...report.rejected.map(({ sequence, error }) => [sequence, error.code]));
      await sender.close();
      expect(rejected).toEqual([
        [1, 'EAFNOSUPPORT'],
        [2, 'ERR_INVALID_ARG_TYPE'],
        [4, 'ERR_INVALID_ARG_TYPE'],
        [5, 'ERR_INVALID_ARG_TYPE'],
      ]);
      for (const receiver of receivers) expect((await receiver.receive(1)).map(String)).toEqual(['x']);
      expectConservation(sender.stats);
    });

    it('to more peers than the queue holds keeps what the options say, and the books', async () => {
      const { receivers, to } = peers(3);
      const many = range(40).map((n) => to[n % 3]!);
      const sender = senderOf({ highWaterMark: 8, ...options });
      sender.broadcast('0123456789', many);
      await sender.close();
      const { sent, dropped } = sender.stats;
      expect(sent + dropped).toBe(40);
      let received = 0;
      for (const receiver of receivers)
        received += receiver.drain().filter((bytes) => String(bytes) === '0123456789').length;
      expect(received).toBe(sent);
      if (options.offload !== true) expect(dropped).toBe(0);
      expectConservation(sender.stats);
    });
  },
);

it('peers may be any iterable, whose iteration may send on its own', async () => {
  const { receivers, to } = peers(2);
  const sender = senderOf();
  function* joining(): Generator<Endpoint> {
    sender.send({ payload: 'first', to: to[0]! });
    yield* to;
  }
  sender.broadcast('second', joining());
  await sender.close();
  expect((await receivers[0]!.receive(2)).map(String)).toEqual(['first', 'second']);
  expect((await receivers[1]!.receive(1)).map(String)).toEqual(['second']);
});

it('throws for what is not iterable, and once closed', async () => {
  const sender = senderOf();
  expect(() => sender.broadcast('x', 5 as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
  await sender.close();
  expect(() => sender.broadcast('x', [])).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' }));
});
