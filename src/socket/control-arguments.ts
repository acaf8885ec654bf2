/**
 * The arguments of a socket's knobs, checked alike for both transports. Where this is stricter than node:dgram, that would have taken
 * something else for what it was given (a TTL of 1.5 or NaN, a zone that there is not).
 */
import { EINVAL, ENODEV } from '../kernel/errno.ts';
import { argumentTypeError, badBufferSizeError, systemError } from '../kernel/errors.ts';
import { unknownZone, withCanonicalZone } from '../message/zone.ts';

export function checkText(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string') throw argumentTypeError(`"${name}" argument`, 'of type string', value);
}

export function checkFlag(value: unknown): void {
  if (typeof value !== 'boolean') throw argumentTypeError('"flag" argument', 'of type boolean', value);
}

export function checkTtl(call: string, ttl: unknown, lowest: 0 | 1): void {
  if (typeof ttl !== 'number') throw argumentTypeError('"ttl" argument', 'of type number', ttl);
  if (!Number.isInteger(ttl) || ttl < lowest || ttl > 255) throw systemError(EINVAL, call);
}

export function checkSize(size: unknown): void {
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 1 || size > 0xffffffff) {
    throw badBufferSizeError('size', size);
  }
}

/** An address with its zone as both transports read it. libuv would not see what stands behind a NUL. */
export function located(call: string, at: unknown): string | undefined {
  if (at === undefined || at === null) return undefined;
  checkText('multicastInterface', at);
  if (at.includes('\0')) throw systemError(EINVAL, call);
  const canonical = withCanonicalZone(at);
  if (canonical === undefined) throw systemError(ENODEV, call, {}, unknownZone(at.slice(at.indexOf('%') + 1)));
  return canonical;
}
