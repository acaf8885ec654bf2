/**
 * The bare system call, for those who want no stream: `socket.sendmmsg()`.
 */
import { MAX_VLEN, MSG_CONFIRM, MSG_DONTROUTE } from '../kernel/abi.ts';
import { argumentTypeError, systemError } from '../kernel/errors.ts';
import type { DatagramLike } from '../message/datagram.ts';
import { DatagramReader } from '../message/datagram-reader.ts';
import { checkOptionNames } from '../message/option-names.ts';
import { describeName } from '../message/sockaddr.ts';
import { MmsgRing } from '../queue/mmsg-ring.ts';
import { nameSizeOf } from '../queue/mmsg-table.ts';
import type { NativeTransport } from './transport.ts';

/** Payload bytes that one call takes; more are a short count, larger single datagrams grow it. */
const CALL_BYTES = 1 << 20;

/** The calls of one socket, and the ring that they share. */
export class SendmmsgCall {
  #ring: MmsgRing | null = null;

  send(
    transport: NativeTransport,
    datagrams: readonly DatagramLike[],
    flags: number,
  ): { sent: number; lengths: readonly number[] } {
    const ring = this.#encode(datagrams, transport);
    const vlen = ring.span();
    const answer = transport.sendmmsg(ring, vlen, flags);
    const lengths = Array.from({ length: Math.max(0, answer) }, (_, index) => ring.sentLengthAt(index));
    const target = answer < 0 && !transport.isConnected ? describeName(ring.nameAt(0)) : transport.peer;
    ring.release(ring.datagrams);
    if (answer < 0) throw systemError(-answer, 'sendmmsg', target);
    return { sent: answer, lengths };
  }

  /** Lets go of the ring: the socket was closed, or is connected or not as it was not when the ring was laid out. */
  forget(): void {
    this.#ring = null;
  }

  /** The datagrams of one call, in a ring that is kept for the next. Stops before the first that is invalid or too much. */
  #encode(datagrams: readonly DatagramLike[], transport: NativeTransport): MmsgRing {
    const { family, isConnected, supportsControl, cutsDatagrams } = transport;
    const reader = new DatagramReader(family, isConnected, supportsControl, cutsDatagrams);
    let ring = this.#ring ?? callRing(transport, CALL_BYTES);
    this.#ring = null; // a getter may call sendmmsg() again: it gets a ring of its own
    const leave = transport.onClose(() => {}); // … but must not connect the socket, for which this one is laid out
    try {
      const count = Math.min(datagrams.length, MAX_VLEN);
      for (let index = 0; index < count; index++) {
        reader.read(datagrams[index]!);
        if (index === 0 && reader.byteLength > ring.maxBytes) ring = callRing(transport, reader.byteLength);
        // A call has a limit of its own, which none exceeds.
        const isMuch = ring.bytes + reader.byteLength > ring.maxBytes;
        if (index > 0 && isMuch && ring.bytes + reader.exactLength() > ring.maxBytes) break;
        if (!ring.push(reader, index, 0)) break;
      }
    } catch (error) {
      if (ring.datagrams === 0) throw error;
    } finally {
      leave();
      this.#ring = ring;
    }
    return ring;
  }
}

function callRing(transport: NativeTransport, maxBytes: number): MmsgRing {
  const nameSize = nameSizeOf(transport.family, transport.isConnected);
  const layout = { slots: MAX_VLEN, maxBytes, nameSize, maxSegments: 1, maxSegmentedBytes: 0 };
  return new MmsgRing(layout, (bytes) => transport.allocate(bytes));
}

type Flag = 'dontRoute' | 'confirm';
const FLAG_BITS: Readonly<Record<Flag, number>> = { dontRoute: MSG_DONTROUTE, confirm: MSG_CONFIRM };
const FLAGS = Object.keys(FLAG_BITS) as Flag[];

/**
 * The bits of a call's flags. There are no others: MSG_MORE would merge a batch into one datagram, MSG_OOB means
 * nothing here.
 */
export function flagBits(flags: { readonly [flag in Flag]?: unknown }): number {
  checkOptionNames('flags', flags, FLAGS);
  let bits = 0;
  for (const name of FLAGS) {
    const value = flags[name];
    if (value !== undefined && typeof value !== 'boolean')
      throw argumentTypeError(`"flags.${name}"`, 'a boolean', value);
    if (value === true) bits |= FLAG_BITS[name];
  }
  return bits;
}
