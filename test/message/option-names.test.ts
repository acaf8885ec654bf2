/** Names of options: what is unknown is refused wherever options are taken, and the error says what was meant. */
import { describe, expect, it } from 'vitest';
import { sendmmsg as sendmmsgIx } from '../../operators/ix/sendmmsg.ts';
import { broadcast } from '../../operators/rxjs/broadcast.ts';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { checkOptionNames, nearestName } from '../../src/message/option-names.ts';
import { type BatchOptions, resolveBatchOptions } from '../../src/sender/batch-options.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { createDatagramWritable, createDatagramWritableStream } from '../../src/streams.ts';
import { keeper } from '../support/keep.ts';
import { refusal } from '../support/lower.ts';

const keep = keeper();
const LOCAL = { address: '127.0.0.1', port: 9 };
const noSocket = (): DatagramSocket => expect.unreachable();

type Door = (options: object) => unknown;
const batch: Record<string, Door> = {
  BatchSender: (options) => new BatchSender(keep(DatagramSocket.open()), options),
  'sendmmsg of RxJS': (options) => sendmmsg(noSocket, options),
  broadcast: (options) => broadcast(noSocket, [], options),
  'sendmmsg of Ix': (options) => sendmmsgIx(noSocket, options),
};
const streams: Record<string, Door> = {
  createDatagramWritable: (options) => createDatagramWritable(noSocket, options),
  createDatagramWritableStream: (options) => createDatagramWritableStream(noSocket, options),
};
const open: Door = (options) => keep(DatagramSocket.open(options));
const call: Door = (flags) => keep(DatagramSocket.open({ connect: LOCAL })).sendmmsg(['x'], flags);

function expectUnknown(run: () => unknown, name: string, suggestion: string | undefined): void {
  const { code, message } = refusal(run);
  expect(code).toBe('ERR_INVALID_ARG_VALUE');
  expect(message).toContain(`"${name}"`);
  if (suggestion === undefined) expect(message).not.toContain('Did you mean');
  else expect(message).toContain(`Did you mean "${suggestion}"?`);
}

describe.each(Object.entries({ ...batch, ...streams }))('%s refuses', (_name, door) => {
  it.each([
    [{ batchsize: 8 }, 'options.batchsize', 'batchSize'],
    [{ flushAfter: 8 }, 'options.flushAfter', 'flushAfterMs'],
    [{ highWaterMarkbytes: 8 }, 'options.highWaterMarkbytes', 'highWaterMarkBytes'],
    [{ batchSize: 8, bufferSize: 9 }, 'options.bufferSize', 'batchSize'],
    [{ batchsize: undefined }, 'options.batchsize', 'batchSize'],
    [{ more: true }, 'options.more', undefined],
    [{ oob: undefined }, 'options.oob', undefined],
    [{ pack: { maxbytes: 5 } }, 'options.pack.maxbytes', 'maxBytes'],
    [{ pack: { delimiter: ' ' } }, 'options.pack.delimiter', 'separator'],
    [{ pace: { rate: 5 } }, 'options.pace.rate', 'datagramsPerSecond'],
    [{ pace: { datagramsPerSecond: 5, burts: 5 } }, 'options.pace.burts', 'burst'],
  ])('%o', (options, name, suggestion) => expectUnknown(() => door(options), name, suggestion));
});

it.each(Object.entries(batch))('%s refuses what only streams have', (_name, door) => {
  expectUnknown(() => door({ onReport: () => {} }), 'options.onReport', undefined);
  expectUnknown(() => door({ signal: undefined }), 'options.signal', undefined);
});

it('the WHATWG stream has no signal, and each stream suggests what it has', () => {
  const [writable, stream] = Object.values(streams);
  expectUnknown(() => stream!({ signal: undefined }), 'options.signal', undefined);
  expectUnknown(() => writable!({ singal: undefined }), 'options.singal', 'signal');
  expectUnknown(() => stream!({ onreport: undefined }), 'options.onreport', 'onReport');
});

it.each([
  [open, { tpye: 'unix' }, 'options.tpye', 'type'],
  [open, { reuseaddr: undefined }, 'options.reuseaddr', 'reuseAddr'],
  [open, { reuseAddress: true }, 'options.reuseAddress', 'reuseAddr'],
  [open, { rcvbuf: 5 }, 'options.rcvbuf', 'recvBufferSize'],
  [open, { lookup: () => {} }, 'options.lookup', undefined],
  [open, { bind: { host: '127.0.0.1' } }, 'options.bind.host', 'address'],
  [open, { connect: { adress: '127.0.0.1', port: 9 } }, 'options.connect.adress', 'address'],
  [open, { connect: { hostname: '127.0.0.1', port: 9 } }, 'options.connect.hostname', 'address'],
  [open, { type: 'unix', bind: { filename: '/x' } }, 'options.bind.filename', 'path'],
  [call, { dontroute: true }, 'flags.dontroute', 'dontRoute'],
  [call, { more: undefined }, 'flags.more', undefined],
])('%o refuses %o', (door, options, name, suggestion) => expectUnknown(() => door(options), name, suggestion));

describe('known names', () => {
  it('of every kind pass, and so does what has been resolved', () => {
    const all: Required<Record<keyof BatchOptions, unknown>> = {
      batchSize: 8,
      batchBytes: 8,
      flushAfterMs: 1,
      highWaterMark: 8,
      highWaterMarkBytes: 8,
      overflow: 'error',
      order: 'destination',
      maxAgeMs: undefined,
      drainTimeoutMs: 5,
      gso: 'off',
      offload: true,
      lanes: 2,
      conflateBy: undefined,
      pack: { maxBytes: 5, separator: ' ', oversize: 'alone' },
      pace: { datagramsPerSecond: 5, bytesPerSecond: 5, burst: 5 },
      pressure: { next: () => {} },
      dontRoute: false,
      confirm: false,
      warn: false,
      scheduler: undefined,
    };
    const resolved = resolveBatchOptions(all as BatchOptions);
    expect(resolveBatchOptions(resolved as BatchOptions)).toEqual(resolved);
    expect([resolved.warn, resolveBatchOptions({}).warn]).toEqual([false, true]);
    expect(() => sendmmsg(noSocket, all as BatchOptions)).not.toThrow();
  });

  it('of a socket pass', () => {
    const all: Required<SocketOptions> = {
      type: 'udp4',
      bind: { address: '127.0.0.1', port: 0 },
      connect: LOCAL,
      reuseAddr: false,
      reusePort: false,
      ipv6Only: false,
      broadcast: false,
      bindToDevice: undefined,
      sendBufferSize: 9000,
      recvBufferSize: 9000,
      native: 'auto',
    };
    expect(keep(DatagramSocket.open(all)).closed).toBe(false);
  });

  it('are own, enumerable and strings; getters of the others are not run', () => {
    const inherited = Object.create({ more: true });
    const hidden = Object.defineProperty({}, 'more', { value: true });
    for (const options of [inherited, hidden, { [Symbol('more')]: true }]) {
      expect(() => checkOptionNames('options', options, [])).not.toThrow();
    }
    const getter = Object.defineProperty({}, 'more', { enumerable: true, get: () => expect.unreachable() });
    expect(refusal(() => checkOptionNames('options', getter, [])).code).toBe('ERR_INVALID_ARG_VALUE');
  });

  it.each(['toString', '__proto__', 'constructor'])('%s is none', (name) => {
    const options = Object.defineProperty({}, name, { value: true, enumerable: true });
    expectUnknown(() => sendmmsg(noSocket, options), `options.${name}`, undefined);
  });
});

it('a name of 100 000 characters is cut', () => {
  for (const name of ['x'.repeat(100_000), `batchSize${' '.repeat(100_000)}`]) {
    const { message } = refusal(() => checkOptionNames('options', { [name]: 1 }, ['batchSize']));
    expect(message.length).toBeLessThan(300);
  }
});

it.each([
  ['BATCHSIZE', 'batchSize'],
  ['bacthSize', 'batchSize'],
  ['batchSiz', 'batchSize'],
  ['bachsize', 'batchSize'],
  ['batchByte', 'batchBytes'],
  ['batchSizeLimit', 'batchSize'],
  ['ga', undefined],
  ['gos', 'gso'],
  ['geo', 'gso'],
  ['', undefined],
  ['to', undefined],
  ['quite another', undefined],
])('nearest to %j is %s', (name, nearest) => {
  expect(nearestName(name, ['batchSize', 'batchBytes', 'gso'])).toBe(nearest);
});
