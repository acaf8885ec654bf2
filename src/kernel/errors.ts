/**
 * The one error class. `code` first: either an errno name (`'EMSGSIZE'`, with `errno` and `syscall`), or one of Node's
 * own codes for bad arguments (`'ERR_SOCKET_BAD_PORT'`).
 */
import { inspect, types } from 'node:util';
import { errnoName } from './errno.ts';

const { isProxy } = types;

/** Longer than any path of a socket, and any address with its zone. */
const LONGEST_QUOTE = 128;

/**
 * Every error this package throws, rejects with or reports.
 *
 * `code` is spelled as Node spells it; `errno` is positive and only there when a system call failed (or would have).
 *
 * @example
 * ```ts
 * import { DatagramSocket, SendmmsgError } from 'rx-sendmmsg';
 * try {
 *   DatagramSocket.open({ bind: { address: '192.0.2.1' } });
 * } catch (error) {
 *   if (error instanceof SendmmsgError) console.log(error.code, error.syscall); // EADDRNOTAVAIL bind
 * }
 * ```
 * @see {@link https://nodejs.org/api/errors.html#nodejs-error-codes | Node.js error codes}
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2), ERRORS}
 */
export class SendmmsgError extends Error {
  /** An errno name or a Node.js error code. */
  readonly code: string;
  /** Positive errno, where a system call failed. */
  declare readonly errno?: number;
  /** The system call that failed: `'sendmmsg'`, `'bind'`, … */
  declare readonly syscall?: string;
  /** Destination address, where there is one. */
  declare readonly address?: string;
  /** Destination port, where there is one. */
  declare readonly port?: number;
  /** Destination path of a unix socket, where there is one. */
  declare readonly path?: string;

  constructor(
    message: string,
    properties: {
      code: string;
      errno?: number;
      syscall?: string;
      address?: string | undefined;
      port?: number | undefined;
      path?: string | undefined;
      cause?: unknown;
    },
  ) {
    super(message, properties.cause === undefined ? undefined : { cause: properties.cause });
    this.code = properties.code;
    for (const key of ['errno', 'syscall', 'address', 'port', 'path'] as const) {
      const value = properties[key];
      if (value !== undefined) Object.defineProperty(this, key, { value, enumerable: true });
    }
  }
}
Object.defineProperty(SendmmsgError.prototype, 'name', { value: 'SendmmsgError', configurable: true, writable: true });

/** Where a datagram was going, for error messages. */
export type ErrorTarget = Pick<ConstructorParameters<typeof SendmmsgError>[1], 'address' | 'port' | 'path'>;

/** A failed system call: `sendmmsg EMSGSIZE 127.0.0.1:9`, as Node words it, and behind a colon what to do. */
export function systemError(errno: number, syscall: string, target: ErrorTarget = {}, remedy = ''): SendmmsgError {
  const code = errnoName(errno);
  const where = describeTarget(target);
  const message = `${syscall} ${code}${where && ` ${where}`}${remedy && `: ${remedy}`}`;
  return new SendmmsgError(message, { code, errno, syscall, ...target });
}

/** A value of the wrong type: `ERR_INVALID_ARG_TYPE`. */
export function argumentTypeError(name: string, expected: string, value: unknown): SendmmsgError {
  return new SendmmsgError(`The ${name} must be ${expected}. Received ${received(value)}`, {
    code: 'ERR_INVALID_ARG_TYPE',
  });
}

/** A value of the right type that means nothing: `ERR_INVALID_ARG_VALUE`. */
export function argumentValueError(name: string, why: string, value: unknown, cause?: unknown): SendmmsgError {
  return new SendmmsgError(`The ${name} ${why}. Received ${received(value)}`, { code: 'ERR_INVALID_ARG_VALUE', cause });
}

/** A number outside its range: `ERR_OUT_OF_RANGE`. */
export function outOfRangeError(name: string, range: string, value: unknown): SendmmsgError {
  return new SendmmsgError(`The value of ${name} is out of range. It must be ${range}. Received ${received(value)}`, {
    code: 'ERR_OUT_OF_RANGE',
  });
}

/** A port that is not an integer from 1 to 65535: `ERR_SOCKET_BAD_PORT`. */
export function badPortError(port: unknown, lowest: 0 | 1, remedy = ''): SendmmsgError {
  const message = `Port should be >= ${lowest} and < 65536. Received ${received(port)}${remedy && `; ${remedy}`}`;
  return new SendmmsgError(message, { code: 'ERR_SOCKET_BAD_PORT' });
}

/** An argument left out: `ERR_MISSING_ARGS`. */
export function missingArgumentError(name: string): SendmmsgError {
  return new SendmmsgError(`The "${name}" argument must be specified`, { code: 'ERR_MISSING_ARGS' });
}

/** A buffer size that is none: `ERR_SOCKET_BAD_BUFFER_SIZE`. */
export function badBufferSizeError(name: string, value: unknown): SendmmsgError {
  return new SendmmsgError(`Buffer size must be a positive integer: ${name}. Received ${received(value)}`, {
    code: 'ERR_SOCKET_BAD_BUFFER_SIZE',
  });
}

/** What cannot be had through node:dgram: `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`. */
export function unavailableError(what: string, why = 'node:dgram does the sending, see fallbackReason'): SendmmsgError {
  return new SendmmsgError(`${what} is not available here: ${why}`, { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' });
}

/** An error of node:dgram, its errno made positive. */
export function dgramError(cause: unknown): SendmmsgError {
  const { code = 'EIO', errno, syscall, message } = cause as NodeJS.ErrnoException;
  return new SendmmsgError(message, {
    code,
    ...(errno !== undefined && { errno: Math.abs(errno) }),
    ...(syscall !== undefined && { syscall }),
    cause,
  });
}

/** A socket without a peer: `ERR_SOCKET_DGRAM_NOT_CONNECTED`. */
export function notConnectedError(): SendmmsgError {
  return new SendmmsgError('Not connected', { code: 'ERR_SOCKET_DGRAM_NOT_CONNECTED' });
}

/** A socket, or a sender, that was closed: `ERR_SOCKET_DGRAM_NOT_RUNNING`. */
export function notRunningError(what: 'socket' | 'sender'): SendmmsgError {
  const remedy = what === 'socket' ? 'open a new one' : 'make a new one';
  return new SendmmsgError(`Not running: the ${what} is closed; ${remedy}`, { code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
}

/** A type of socket that there is not: `ERR_SOCKET_BAD_TYPE`. */
export function badSocketTypeError(type: unknown): SendmmsgError {
  const expected = `"options.type" must be 'udp4', 'udp6' or 'unix'`;
  return new SendmmsgError(`Bad socket type specified. ${expected}. Received ${received(type)}`, {
    code: 'ERR_SOCKET_BAD_TYPE',
  });
}

/** What was received, named and cut short; never runs user code (no getters, no traps, no `toString`). */
function received(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object') return classOf(value);
  return `${typeof value} (${shortened(inspect(value, { breakLength: Infinity, maxStringLength: 64 }))})`;
}

/** What a user wrote, as it may stand in a message: a log line has room for an address or a path, not for any text. */
export function shortened(text: string): string {
  return text.length <= LONGEST_QUOTE ? text : `${text.slice(0, LONGEST_QUOTE)}…`;
}

/** Read from property descriptors: `inspect` would run an object's own `Symbol.toStringTag` and its class's `name`. */
function classOf(value: object): string {
  for (let at: object | null = value; at !== null && !isProxy(at); at = Object.getPrototypeOf(at) as object | null) {
    const maker: unknown = Object.getOwnPropertyDescriptor(at, 'constructor')?.value;
    if (typeof maker !== 'function' || isProxy(maker)) continue;
    const name: unknown = Object.getOwnPropertyDescriptor(maker, 'name')?.value;
    if (typeof name === 'string' && name !== '') return `an instance of ${shortened(name)}`;
  }
  return 'an object';
}

function describeTarget({ address, port, path }: ErrorTarget): string {
  if (path !== undefined) return shortened(path.startsWith('\0') ? `@${path.slice(1)}` : path);
  if (address === undefined) return '';
  return address.includes(':') ? `[${shortened(address)}]:${port}` : `${shortened(address)}:${port}`;
}
