/** The fallback over node:dgram, driven by a ring as the sender does it. */
import { createSocket } from 'node:dgram';
import { constants } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { AF_INET } from '../../src/kernel/abi.ts';
import type { DatagramLike } from '../../src/message/datagram.ts';
import { nameSizeOf } from '../../src/queue/batch.ts';
import { DgramTransport, type DgramTransportOptions } from '../../src/socket/dgram-transport.ts';
import { Inbox, queueAndBatch, read } from '../support/lower.ts';

const LOCAL = { address: '127.0.0.1' };
const PLAIN = { type: 'udp4', reuseAddr: false, reusePort: false, ipv6Only: false, broadcast: false } as const;
const open: DgramTransport[] = [];

function transport(options: Partial<DgramTransportOptions> = {}): DgramTransport {
  const made = new DgramTransport({ ...PLAIN, ...options });
  open.push(made);
  return made;
}

/** What sending `datagram` is answered with: 1, or `-errno`. */
function send(by: DgramTransport, datagram: DatagramLike): Promise<number> {
  const nameSize = nameSizeOf(AF_INET, by.isConnected);
  const { queue, batch } = queueAndBatch({ capacity: 1, maxBytes: 1 << 17 }, { nameSize }, (bytes) =>
    by.allocate(bytes),
  );
  queue.push(read(datagram, AF_INET, by.isConnected), 0, 0);
  return new Promise((resolve) => by.sendmmsgLater(batch, batch.plan(), 0, resolve));
}

afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

describe('the node:dgram transport', () => {
  it('sends to the address of the head, byte for byte, empty ones included', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    const by = transport();
    for (const payload of ['first', '', 'é']) expect(await send(by, { payload, ...inbox.endpoint })).toBe(1);
    expect(await inbox.receiveText(3)).toEqual(['first', '', 'é']);
  });

  it('sends on a connected socket', async () => {
    using inbox = new Inbox({ bind: LOCAL });
    expect(await send(transport({ connect: inbox.endpoint }), 'connected')).toBe(1);
    expect(await inbox.receiveText(1)).toEqual(['connected']);
  });

  it('answers with the errno of a refusal', async () => {
    const refused = { payload: Buffer.alloc(70_000), ...LOCAL, port: 9 };
    expect(await send(transport(), refused)).toBe(-constants.errno.EMSGSIZE);
  });

  it('answers EBADF once closed', async () => {
    const by = transport();
    by.close();
    by.close();
    expect(by.isClosed).toBe(true);
    expect(await send(by, { payload: 'x', ...LOCAL, port: 9 })).toBe(-constants.errno.EBADF);
  });

  it('throws at once where bind fails', async () => {
    const taken = createSocket('udp4');
    await new Promise<void>((resolve) => taken.bind(0, LOCAL.address, resolve));
    expect(() => transport({ bind: { ...LOCAL, port: taken.address().port } })).toThrow('EADDRINUSE');
    taken.close();
  });

  it('tells its listeners when it is closed, but not those that have left', () => {
    const by = transport();
    const told: string[] = [];
    by.onClose(() => told.push('stayed'));
    by.onClose(() => told.push('left'))();
    by.close();
    expect(told).toEqual(['stayed']);
  });
});
