/**
 * The bare system call, for those who want no stream: `socket.sendmmsg()`.
 */
import { MAX_VLEN, MSG_CONFIRM, MSG_DONTROUTE } from '../kernel/abi.ts';
import { argumentTypeError, argumentValueError, systemError } from '../kernel/errors.ts';
import type { Arena } from '../kernel/libc.ts';
import type { DatagramLike } from '../message/datagram.ts';
import { DatagramReader } from '../message/datagram-reader.ts';
import { checkOptionNames } from '../message/option-names.ts';
import { describeName } from '../message/sockaddr.ts';
import { Batch, nameSizeOf } from '../queue/batch.ts';
import { DatagramQueue } from '../queue/queue.ts';
import type { NativeTransport } from './transport.ts';

/** Payload bytes that one call takes; more are a short count, larger single datagrams grow it. */
const CALL_BYTES = 1 << 20;

/** The calls of one socket, and the queue that they share. */
export class SendmmsgCall {
  #call: Call | null = null;

  send(
    transport: NativeTransport,
    datagrams: readonly DatagramLike[],
    flags: number,
  ): { sent: number; lengths: readonly number[] } {
    const { queue, batch } = this.#encode(datagrams, transport);
    const vlen = batch.plan();
    const answer = transport.sendmmsg(batch, vlen, flags);
    const lengths = Array.from({ length: Math.max(0, answer) }, (_, index) => batch.sentLengthAt(index));
    const target = answer < 0 && !transport.isConnected ? describeName(batch.headName()) : transport.peer;
    queue.drop(queue.datagrams);
    if (answer < 0) throw systemError(-answer, 'sendmmsg', target);
    return { sent: answer, lengths };
  }

  /** Lets go of the queue: the socket was closed, or is connected or not as it was not when the batch was laid out. */
  forget(): void {
    this.#call = null;
  }

  /** The datagrams of one call, in a queue that is kept for the next. Stops before the first that is invalid or too much. */
  #encode(datagrams: readonly DatagramLike[], transport: NativeTransport): Call {
    const { family, isConnected, supportsControl, cutsDatagrams } = transport;
    const reader = new DatagramReader(family, isConnected, supportsControl, cutsDatagrams);
    let call = this.#call ?? newCall(transport, CALL_BYTES);
    this.#call = null; // a getter may call sendmmsg() again: it gets a queue of its own
    const leave = transport.onClose(() => {}); // … but must not connect the socket, for which this one is laid out
    try {
      const count = Math.min(datagrams.length, MAX_VLEN);
      for (let index = 0; index < count; index++) {
        reader.read(datagrams[index]!);
        if (reader.segmentSize > 0) {
          throw argumentValueError(
            '"segmentSize"',
            'is for a sender, where a payload may take several calls',
            reader.segmentSize,
          );
        }
        if (index === 0 && reader.byteLength > call.queue.maxBytes) call = newCall(transport, reader.byteLength);
        const { queue } = call;
        // A call has a limit of its own, which none exceeds.
        const isMuch = queue.bytes + reader.byteLength > queue.maxBytes;
        if (index > 0 && isMuch) {
          queue.commit();
          if (queue.bytes + reader.exactLength() > queue.maxBytes) break;
        }
        if (!queue.push(reader, index, 0)) break;
      }
    } catch (error) {
      if (call.queue.datagrams === 0) throw error;
    } finally {
      leave();
      this.#call = call;
    }
    return call;
  }
}

interface Call {
  readonly queue: DatagramQueue;
  readonly batch: Batch;
}

function newCall(transport: NativeTransport, maxBytes: number): Call {
  const allocate = (bytes: number): Arena => transport.allocate(bytes);
  const queue = new DatagramQueue({ capacity: MAX_VLEN, maxBytes }, allocate);
  const nameSize = nameSizeOf(transport.family, transport.isConnected);
  return { queue, batch: new Batch(queue, { nameSize, maxSegments: 1, maxSegmentedBytes: 0 }, null, allocate) };
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
