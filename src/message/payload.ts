/**
 * Payload values as they are, whatever their owner has done to them: the bytes of a view, the parts of a list.
 */
import { types } from 'node:util';
import { argumentTypeError, SendmmsgError } from '../kernel/errors.ts';

const { isDataView, isUint8Array } = types;
// The engine's own getters: a view's own property named byteLength must not decide what memory is sent.
const TYPED_ARRAY = Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array;
const ofTypedArray: ExtentGetters = extentGetters(TYPED_ARRAY);
const { byteLength: byteLengthGetter } = ofTypedArray;
const ofDataView = extentGetters(DataView.prototype);
const elementAt = TYPED_ARRAY.at;

const { set } = Uint8Array.prototype;

/** `to.set(bytes, at)` without the lookup, which V8 (of Node 20) does not inline for a Buffer: 4 ns. */
export function copyInto(to: Buffer, bytes: Uint8Array, at: number): void {
  set.call(to, bytes, at);
}

/** Bytes of a typed array, whatever properties of its own it has. */
export function lengthOf(bytes: Uint8Array): number {
  return byteLengthGetter.call(bytes);
}

/** Most UTF-8 bytes of one UTF-16 code unit. */
export const MAX_UTF8 = 3;

export const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Lists up to so long get a snapshot that is made for their length: one that claims to be long may claim anything. */
const SHORT_LIST = 16;

/**
 * The elements as strings and bytes, and into `lengths` how many bytes each has; a list inside a list is refused. All are read before any
 * is looked at: reading may run user code, which may change another one.
 *
 * @param pair - what the commonest list, a header and a body, is written to: it needs no list of its own
 */
export function snapshotList(
  list: readonly unknown[],
  lengths: number[],
  pair: (string | Uint8Array)[],
): (string | Uint8Array)[] {
  const { length } = list;
  let parts: unknown[];
  if (length === 2) {
    const first = list[0];
    const second = list[1];
    parts = pair;
    parts[0] = first;
    parts[1] = second;
  } else {
    parts = length <= SHORT_LIST ? new Array<unknown>(length) : [];
    for (let index = 0; index < length; index++) parts[index] = list[index];
  }
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index];
    if (typeof part === 'string') lengths[index] = Buffer.byteLength(part);
    else {
      const bytes = isUint8Array(part) ? part : viewOf(part, index);
      const size = lengthOf(bytes);
      lengths[index] = size;
      parts[index] = size > 0 ? bytes : bytesOf(bytes); // throws if the buffer is detached
    }
  }
  return parts as (string | Uint8Array)[];
}

function viewOf(part: unknown, index: number): Uint8Array {
  if (ArrayBuffer.isView(part)) return bytesOf(part);
  throw argumentTypeError(`payload[${index}]`, 'a string, or a Buffer, TypedArray or DataView', part);
}

/** A view's bytes; runs no user code. Throws for a detached buffer, or one that shrank away from under its view. */
export function bytesOf(view: ArrayBufferView): Uint8Array {
  const { buffer, byteOffset, byteLength } = isDataView(view) ? ofDataView : ofTypedArray;
  try {
    const length = byteLength.call(view);
    // A DataView has thrown by now; a typed array whose bytes are gone says that it is empty, but has no elements.
    if (length === 0 && !isDataView(view)) elementAt.call(view as Uint8Array, 0);
    return new Uint8Array(buffer.call(view), byteOffset.call(view), length);
  } catch (cause) {
    throw new SendmmsgError('The payload views a detached or shrunk buffer', { code: 'ERR_INVALID_ARG_VALUE', cause });
  }
}

interface ExtentGetters {
  readonly buffer: (this: ArrayBufferView) => ArrayBufferLike;
  readonly byteOffset: (this: ArrayBufferView) => number;
  readonly byteLength: (this: ArrayBufferView) => number;
}

function extentGetters(prototype: object): ExtentGetters {
  const getter = (name: string): unknown => Object.getOwnPropertyDescriptor(prototype, name)!.get;
  return {
    buffer: getter('buffer'),
    byteOffset: getter('byteOffset'),
    byteLength: getter('byteLength'),
  } as ExtentGetters;
}

/** A copy of a payload's bytes, as far as they can be read. */
export function copyOf(payload: unknown): Uint8Array {
  if (typeof payload === 'string') return new Uint8Array(Buffer.from(payload));
  try {
    if (ArrayBuffer.isView(payload)) return bytesOf(payload).slice();
    if (Array.isArray(payload)) return new Uint8Array(Buffer.concat(payload.map((part) => copyOf(part))));
  } catch {
    // A detached buffer has no bytes to tell.
  }
  return NO_BYTES.slice();
}
