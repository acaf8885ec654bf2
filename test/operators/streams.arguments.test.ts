/** What the two streams refuse alike. */
import { describe, expect, it } from 'vitest';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { createDatagramWritable, createDatagramWritableStream } from '../../src/streams.ts';

describe.each([
  ['createDatagramWritable', createDatagramWritable],
  ['createDatagramWritableStream', createDatagramWritableStream],
] as const)('%s: bad arguments throw at once, before a socket is opened', (_name, create) => {
  it.each([
    ['options.highWaterMark', { highWaterMark: 0 }, 'ERR_OUT_OF_RANGE'],
    ['options.onReport', { onReport: 'log' }, 'ERR_INVALID_ARG_TYPE'],
    ['options.offload', { offload: 1 }, 'ERR_INVALID_ARG_TYPE'],
    ['options', null, 'ERR_INVALID_ARG_TYPE'],
  ])('for bad options: %s %o', (name, options, code) => {
    expect(() => create(() => expect.unreachable(), options as never)).toThrow(
      expect.objectContaining({ name: 'SendmmsgError', code, message: expect.stringContaining(name) }),
    );
  });

  it('for no socket, and what a factory throws', () => {
    for (const wrong of [undefined, null, 5, {}]) {
      expect(() => create(wrong as never)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }));
    }
    const failing = (): DatagramSocket => DatagramSocket.open({ type: 'unix', connect: { path: '/does/not/exist' } });
    expect(() => create(failing)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });
});

it('createDatagramWritable: what is no AbortSignal throws at once, too', () => {
  const create = (): unknown => createDatagramWritable(() => expect.unreachable(), { signal: {} as never });
  expect(create).toThrow(expect.objectContaining({ name: 'SendmmsgError', code: 'ERR_INVALID_ARG_TYPE' }));
});
