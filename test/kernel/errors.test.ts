import { describe, expect, it } from 'vitest';
import { EMSGSIZE } from '../../src/kernel/errno.ts';
import {
  argumentTypeError,
  argumentValueError,
  badPortError,
  outOfRangeError,
  SendmmsgError,
  systemError,
} from '../../src/kernel/errors.ts';
import { endpoint } from '../../src/message/sockaddr.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { refusal } from '../support/lower.ts';

describe('systemError', () => {
  it.each([
    [{ address: '127.0.0.1', port: 9 }, 'sendmmsg EMSGSIZE 127.0.0.1:9'],
    [{ address: '::1', port: 9 }, 'sendmmsg EMSGSIZE [::1]:9'],
    [{ path: '/dev/log' }, 'sendmmsg EMSGSIZE /dev/log'],
    [{ path: '\0abstract' }, 'sendmmsg EMSGSIZE @abstract'],
    [{}, 'sendmmsg EMSGSIZE'],
  ])('to %j says: %s', (target, message) => {
    const error = systemError(EMSGSIZE, 'sendmmsg', target);
    expect(error.message).toBe(message);
    expect({ ...error }).toEqual({ code: 'EMSGSIZE', errno: EMSGSIZE, syscall: 'sendmmsg', ...target });
    expect(error.errno).toBeGreaterThan(0);
  });

  it('has only the properties it has a value for', () => {
    expect(Object.keys(systemError(EMSGSIZE, 'sendmmsg', { address: undefined, port: undefined }))).toEqual([
      'code',
      'errno',
      'syscall',
    ]);
  });
});

describe('SendmmsgError', () => {
  it('is an Error with a name, and with a cause only where there is one', () => {
    const error = new SendmmsgError('why', { code: 'ERR_X' });
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).toBe('SendmmsgError: why');
    expect(error.stack).toContain('SendmmsgError: why');
    expect('cause' in error).toBe(false);
    const cause = new TypeError('deeper');
    expect(new SendmmsgError('why', { code: 'ERR_X', cause }).cause).toBe(cause);
  });
});

describe('argument errors', () => {
  it.each([
    [argumentTypeError('"options.bind"', 'an object', 5), 'ERR_INVALID_ARG_TYPE', ['"options.bind"', 'an object', '5']],
    [
      argumentValueError('"path"', 'must be a path', 'a\0b'),
      'ERR_INVALID_ARG_VALUE',
      ['"path"', 'must be a path', 'a'],
    ],
    [outOfRangeError('"options.batchSize"', '>= 1', 0), 'ERR_OUT_OF_RANGE', ['"options.batchSize"', '>= 1', '0']],
    [badPortError(65_536, 1), 'ERR_SOCKET_BAD_PORT', ['>= 1', '65536']],
    [badPortError('80', 0), 'ERR_SOCKET_BAD_PORT', ['>= 0', 'string', '80']],
  ])('%s has the code %s, the name and the value', (error, code, parts) => {
    expect(error.code).toBe(code);
    for (const part of parts) expect(error.message).toContain(part);
    expect('errno' in error).toBe(false);
  });

  it.each([
    ['undefined', undefined, 'undefined'],
    ['null', null, 'null'],
    ['a number', -0.5, 'number (-0.5)'],
    ['a bigint', 12n, 'bigint (12n)'],
    ['a symbol', Symbol('s'), 'symbol (Symbol(s))'],
    ['a function', () => {}, 'a function'],
    ['an array', [1, 2], 'an instance of Array'],
    ['an object', {}, 'an instance of Object'],
    ['an instance', new Map(), 'an instance of Map'],
    ['an object without a prototype', Object.create(null), 'an object'],
  ])('tells what was received: %s', (_what, value, text) => {
    expect(argumentTypeError('x', 'y', value).message).toBe(`The x must be y. Received ${text}`);
  });

  it('cuts a long string short', () => {
    expect(argumentTypeError('x', 'y', 'z'.repeat(1e6)).message.length).toBeLessThan(200);
  });

  it('runs no user code to tell what was received', () => {
    const calls: string[] = [];
    const called = (what: string) => (): never => {
      calls.push(what);
      throw new Error(what);
    };
    class Hostile extends Error {}
    Object.defineProperty(Hostile, 'name', { get: called('static name') });
    Object.defineProperty(Hostile, Symbol.hasInstance, { value: called('hasInstance') });
    for (const key of [Symbol.toStringTag, 'stack', 'name', 'message', 'cause']) {
      Object.defineProperty(Hostile.prototype, key, { get: called(`Error ${String(key)}`), configurable: true });
    }
    const custom = Symbol.for('nodejs.util.inspect.custom');
    for (const key of ['toString', 'toJSON', 'valueOf', Symbol.toPrimitive, custom]) {
      Object.defineProperty(Hostile.prototype, key, { value: called(`Error ${String(key)}`), configurable: true });
    }
    const traps = new Proxy({}, { get: (_target, trap) => called(`trap ${String(trap)}`) });
    const getters = {};
    for (const key of ['constructor', 'name', 'message', Symbol.toStringTag, 'toString']) {
      Object.defineProperty(getters, key, { get: called(`getter ${String(key)}`), enumerable: true });
    }
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    const values = [
      Reflect.construct(Object, [], Hostile),
      new Hostile(),
      new Proxy({}, traps),
      new Proxy([], traps),
      Object.create(new Proxy({}, traps)),
      { constructor: new Proxy(class {}, traps) },
      getters,
      revoked.proxy,
      new Proxy(() => {}, traps),
      Object.defineProperty(() => {}, 'toString', { value: called('toString of a function') }),
    ];
    for (const value of values) {
      expect(argumentTypeError('x', 'y', value).code).toBe('ERR_INVALID_ARG_TYPE');
      expect(argumentValueError('x', 'y', value).code).toBe('ERR_INVALID_ARG_VALUE');
    }
    expect(calls).toEqual([]);
  });
});

describe('a value of 100 000 characters is cut in the message of', () => {
  const long = 'x'.repeat(100_000);
  const open = (options: object) => (): unknown => DatagramSocket.open(options);
  const send = (datagram: object) => (): unknown => {
    using socket = DatagramSocket.open();
    return socket.sendmmsg([{ payload: 'x', ...datagram } as never]);
  };
  const call = (method: 'addMembership' | 'bindToDevice' | 'connect', argument: unknown) => (): unknown => {
    using socket = DatagramSocket.open();
    return socket[method](argument as never);
  };

  it.each<[where: string, run: () => unknown]>([
    ['the address of an endpoint', () => endpoint(long, 9)],
    ['its zone', () => endpoint(`fe80::1%${long}`, 9)],
    ['its port', () => endpoint('127.0.0.1', long as never)],
    ['the address of a datagram', send({ address: long, port: 9 })],
    ['its path', send({ path: `/${long}` })],
    ['a path with a NUL', send({ path: `/${long}\0x` })],
    ['its source', send({ address: '127.0.0.1', port: 9, from: long })],
    ['the zone of that', send({ address: '127.0.0.1', port: 9, from: `fe80::1%${long}` })],
    ['its port', send({ address: '127.0.0.1', port: long })],
    ['its dscp, a bigint', send({ address: '127.0.0.1', port: 9, dscp: BigInt('9'.repeat(100_000)) })],
    ['its dscp, a symbol', send({ address: '127.0.0.1', port: 9, dscp: Symbol(long) })],
    ['bind.address', open({ bind: { address: long } })],
    ['connect.path', open({ type: 'unix', connect: { path: `/${long}` } })],
    ['type', open({ type: long })],
    ['bindToDevice', open({ bindToDevice: long })],
    ['socket.bindToDevice()', call('bindToDevice', long)],
    ['socket.connect()', call('connect', long)],
    ['socket.addMembership()', call('addMembership', `ff02::1%${long}`)],
  ])('%s', (_where, run) => {
    const { message } = refusal(run);
    expect(message.length).toBeLessThan(400);
  });
});
