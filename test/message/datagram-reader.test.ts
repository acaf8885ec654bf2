/** What comes out of a payload as the user wrote it, or why nothing does. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AF_INET } from '../../src/kernel/abi.ts';
import type { Payload } from '../../src/message/datagram.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { encoded, read, refusal } from '../support/lower.ts';

const HERE = { address: '127.0.0.1', port: 9 };

const detach = <View extends ArrayBufferView>(view: View): View => {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
  return view;
};
// Node 20 has resizable buffers, the ES2023 library does not know them.
const ResizableBuffer = ArrayBuffer as unknown as new (
  length: number,
  options: { maxByteLength: number },
) => ArrayBuffer;
const resizable = (length: number): ArrayBuffer => new ResizableBuffer(length, { maxByteLength: 64 });
const shrunk = (view: ArrayBufferView, length: number): ArrayBufferView => {
  (view.buffer as unknown as { resize(length: number): void }).resize(length);
  return view;
};
const shared = (...bytes: number[]): Uint8Array => {
  const view = new Uint8Array(new SharedArrayBuffer(bytes.length));
  view.set(bytes);
  return view;
};

describe('a payload', () => {
  const cases: [what: string, payload: Payload, bytes: Uint8Array | string][] = [
    ['a string', 'héllo €😀', 'héllo €😀'],
    ['lone surrogates, as Node writes them', '\ud800a\udc00', Buffer.from('efbfbd61efbfbd', 'hex')],
    ['an empty string', '', ''],
    ['a Uint8Array', Uint8Array.of(1, 2, 3), Buffer.of(1, 2, 3)],
    ['an empty Uint8Array', new Uint8Array(0), ''],
    ['a Buffer', Buffer.from('pooled'), 'pooled'],
    ['a subarray', Uint8Array.of(1, 2, 3, 4, 5).subarray(1, 4), Buffer.of(2, 3, 4)],
    ['a Float64Array', Float64Array.of(1.5), Buffer.from('000000000000f83f', 'hex')],
    [
      'a Float64Array with an offset',
      new Float64Array(Float64Array.of(0, 1.5).buffer, 8),
      Buffer.from('000000000000f83f', 'hex'),
    ],
    ['a Uint8ClampedArray', Uint8ClampedArray.of(7), Buffer.of(7)],
    ['a BigInt64Array', BigInt64Array.of(-1n), Buffer.alloc(8, 255)],
    ['a DataView with an offset', new DataView(Uint8Array.of(1, 2, 3, 4).buffer, 1, 2), Buffer.of(2, 3)],
    ['a shared Uint8Array', shared(4, 5), Buffer.of(4, 5)],
    ['a shared DataView', new DataView(shared(4, 5).buffer), Buffer.of(4, 5)],
    ['a view of a resizable buffer', new Uint8Array(resizable(3), 1, 2), Buffer.of(0, 0)],
    ['a view that follows its shrunk buffer', shrunk(new Uint8Array(resizable(8)), 2), Buffer.of(0, 0)],
    ['a view that follows its buffer to nothing', shrunk(new Uint8Array(resizable(8)), 0), ''],
    ['a list', ['a', Uint8Array.of(98), Buffer.from('c'), new DataView(Uint8Array.of(0, 100).buffer, 1), '€'], 'abcd€'],
    ['a list of shared bytes', [shared(97), shared(98)], 'ab'],
    ['a list of surrogates that do not pair across parts', ['\ud83d', '\ude00'], Buffer.from('efbfbdefbfbd', 'hex')],
    ['an empty list', [], ''],
    ['a list of empty parts', ['', new Uint8Array(0), ''], ''],
  ];

  it.each(cases)('may be %s', (_what, payload, bytes) => {
    expect(encoded(read({ payload, ...HERE }))).toEqual(Buffer.from(bytes as string));
    expect(encoded(read({ payload }, AF_INET, true))).toEqual(Buffer.from(bytes as string));
    expect(encoded(read(payload, AF_INET, true))).toEqual(Buffer.from(bytes as string));
  });

  it.each(cases)('is copied for a rejection: %s', (_what, payload, bytes) => {
    const reader = read({ payload, ...HERE });
    const identity = reader.identify();
    expect(identity).toEqual({ ...HERE, payload: new Uint8Array(Buffer.from(bytes as string)) });
    expect(Object.getPrototypeOf(identity.payload)).toBe(Uint8Array.prototype);
    expect(identity.payload.buffer).toBeInstanceOf(ArrayBuffer);
  });

  it('arrives as Buffer would write it, whatever it is made of', () => {
    const unit = fc.constantFrom('a', 'é', '€', '😀', '\ud800', '\udc00', '\0');
    const part = fc.oneof(fc.string({ unit, maxLength: 20 }), fc.uint8Array({ maxLength: 20 }));
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const reader = new DatagramReader(AF_INET, true);
        reader.read(parts);
        expect(encoded(reader)).toEqual(Buffer.concat(parts.map((each) => Buffer.from(each as string))));
        for (const each of parts) {
          reader.read(each);
          expect(encoded(reader)).toEqual(Buffer.from(each as string));
        }
      }),
    );
  });

  it.each([
    ['a number', 42],
    ['a boolean', true],
    ['null', null],
    ['undefined', undefined],
    ['a bigint', 1n],
    ['a symbol', Symbol('s')],
    ['a function', () => 'x'],
    ['an object', { length: 1, 0: 'a' }],
    ['an ArrayBuffer without a view', new ArrayBuffer(4)],
    ['a Set', new Set(['a'])],
    ['a list with a number', ['a', 1]],
    ['a list with a hole', new Array(1)],
    ['a list in a list', [['a']]],
    ['a String object', new String('x')],
  ])('that is %s is refused: ERR_INVALID_ARG_TYPE', (_what, payload) => {
    expect(refusal(() => read({ payload, ...HERE })).code).toBe('ERR_INVALID_ARG_TYPE');
    expect(refusal(() => read({ payload }, AF_INET, true)).code).toBe('ERR_INVALID_ARG_TYPE');
  });

  it.each([42, null, undefined, true, Symbol('s'), () => 'x', [1]])(
    'that is a bare %s is refused for its type, connected or not',
    (payload) => {
      expect(refusal(() => read(payload, AF_INET, true)).code).toBe('ERR_INVALID_ARG_TYPE');
      expect(refusal(() => read(payload, AF_INET, false)).code).toBe('ERR_INVALID_ARG_TYPE');
    },
  );

  const gone: [what: string, make: () => ArrayBufferView][] = [
    ['a detached Uint8Array', () => detach(Uint8Array.of(1))],
    ['a detached Float64Array', () => detach(Float64Array.of(1))],
    ['a detached DataView', () => detach(new DataView(new ArrayBuffer(4)))],
    ['a Uint8Array whose buffer shrank away', () => shrunk(new Uint8Array(resizable(8), 4, 4), 2)],
    ['a Float64Array whose buffer shrank away', () => shrunk(new Float64Array(resizable(16), 8, 1), 12)],
    ['a DataView whose buffer shrank away', () => shrunk(new DataView(resizable(8), 4, 4), 6)],
  ];
  it.each(gone)('that is %s is refused, not sent empty', (_what, make) => {
    for (const payload of [make(), ['a', make()]]) {
      const reader = new DatagramReader(AF_INET, false);
      expect(refusal(() => reader.read({ payload, ...HERE })).code).toBe('ERR_INVALID_ARG_VALUE');
      expect(reader.identify()).toEqual({ ...HERE, payload: new Uint8Array(0) });
    }
    expect(refusal(() => read(make(), AF_INET, true)).code).toBe('ERR_INVALID_ARG_VALUE');
  });

  it('in a list that a later part takes away is refused, not sent without it', () => {
    const first = Uint8Array.of(1, 2);
    const list = [first, 'second'];
    Object.defineProperty(list, 1, {
      get() {
        detach(first);
        return 'second';
      },
    });
    expect(refusal(() => read({ payload: list, ...HERE })).code).toBe('ERR_INVALID_ARG_VALUE');
  });

  it('cannot make the reader look past its bytes by properties of its own', () => {
    const calls: string[] = [];
    const spoof = <View extends ArrayBufferView>(view: View): View => {
      const secret = new Uint8Array(64).fill(0x53).buffer;
      for (const [key, value] of Object.entries({ byteLength: 32, length: 32, byteOffset: 0, buffer: secret })) {
        const get = (): unknown => {
          calls.push(key);
          return value;
        };
        Object.defineProperty(view, key, { get });
      }
      return view;
    };
    const inside = (): ArrayBuffer => new Uint8Array(64).fill(0x53).fill(1, 8, 16).buffer;
    const makers = [
      () => new Uint8Array(inside(), 8, 8),
      () => Buffer.from(inside(), 8, 8),
      () => new Float64Array(inside(), 8, 1),
      () => new DataView(inside(), 8, 8),
    ];
    const ones = Buffer.alloc(8, 1);
    for (const make of makers) {
      const reader = read({ payload: spoof(make()), ...HERE });
      expect(encoded(reader)).toEqual(ones);
      expect(Buffer.from(reader.identify().payload)).toEqual(ones);
      expect(encoded(read(spoof(make()), AF_INET, true))).toEqual(ones);
      expect(encoded(read({ payload: [spoof(make())], ...HERE }))).toEqual(ones);
    }
    expect(encoded(read(spoof(new Uint8Array(0)), AF_INET, true))).toEqual(Buffer.alloc(0));
    expect(calls).toEqual([]);
  });
});
