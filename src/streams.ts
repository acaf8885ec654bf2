/**
 * rx-sendmmsg/streams: datagrams from Node.js and WHATWG streams to the network, in batches, through sendmmsg(2). Needs
 * neither rxjs nor ix.
 *
 * A datagram is written when the sender has taken it into its queue; while that is full the write is pending, and what
 * is written behind it waits in the stream, which tells its writer so.
 */
import { Writable } from 'node:stream';
import { WritableStream } from 'node:stream/web';
import { argumentTypeError, argumentValueError } from './kernel/errors.ts';
import type { BatchReport, DatagramLike } from './message/datagram.ts';
import { checkedSegmentSize } from './message/datagram-reader.ts';
import { bytesOf } from './message/payload.ts';
import { type BatchOptions, resolveBatchOptions } from './sender/batch-options.ts';
import { ByteSegments } from './sender/byte-segments.ts';
import type { SenderStats } from './sender/diagnostics.ts';
import { checkSignal, checkSocketSource, Outlet } from './sender/outlet.ts';
import type { DatagramSocket } from './socket/datagram-socket.ts';

export type { Backend } from './kernel/backend.ts';
export type { SchedulerLike } from './kernel/clock.ts';
export { SendmmsgError } from './kernel/errors.ts';
export type { BatchReport, Datagram, DatagramLike, Endpoint, Payload, RejectedDatagram } from './message/datagram.ts';
export { endpoint } from './message/sockaddr.ts';
export type { BatchOptions, PackOptions, PressureObserver } from './sender/batch-options.ts';
export { type BatchObserver, BatchSender } from './sender/batch-sender.ts';
export type { DropReason, GsoStats, SenderStats } from './sender/diagnostics.ts';
export type { PaceOptions } from './sender/pace.ts';
export { DatagramSocket } from './socket/datagram-socket.ts';
export type { SocketOptions } from './socket/socket-options.ts';

/**
 * The options of a batch, and who is told of each flush.
 *
 * `highWaterMark` holds for both queues: the sender's, and the stream's own in front of it, whose `writableHighWaterMark`
 * (or `desiredSize`) it is. `highWaterMarkBytes` holds for the sender's. `overflow` never comes into it.
 *
 * @example
 * ```ts
 * import type { DatagramStreamOptions } from 'rx-sendmmsg/streams';
 * const options: DatagramStreamOptions = {
 *   batchSize: 256,
 *   onReport: ({ rejected }) => rejected.forEach(({ sequence, error }) => console.warn(sequence, error.code)),
 * };
 * ```
 * @see {@link https://nodejs.org/api/stream.html#buffering | Node.js streams, Buffering}
 */
export interface DatagramStreamOptions extends BatchOptions {
  /** Called with the report of each flush: what was sent, dropped and rejected. */
  readonly onReport?: ((report: BatchReport) => void) | undefined;
  /**
   * Takes what is written (bytes or strings) for a stream of bytes, and cuts that into datagrams of so many bytes, wherever its chunks end:
   * what is left of one begins the next datagram, and at the end is a shorter one. Default: each chunk is a datagram. A datagram with an
   * address of its own, or a list, is sent as it is, behind what was written before it.
   *
   * So `7 * 188` keeps the packets of an MPEG transport stream together. Cannot be combined with `pack`.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc2250#section-2 | RFC 2250, section 2}, for MPEG
   */
  readonly segmentSize?: number | undefined;
}

/**
 * The options of {@link createDatagramWritable}.
 *
 * @example
 * ```ts
 * import type { DatagramWritableOptions } from 'rx-sendmmsg/streams';
 * const options: DatagramWritableOptions = { highWaterMark: 1024, signal: AbortSignal.timeout(60_000) };
 * ```
 * @see {@link https://nodejs.org/api/stream.html#new-streamwritableoptions | new stream.Writable(options)}
 */
export interface DatagramWritableOptions extends DatagramStreamOptions {
  /** Destroys the stream when it is aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What both streams have beside what streams have. */
interface WithStats {
  /** Totals since the stream was made; see {@link SenderStats}. */
  readonly stats: SenderStats;
}

/**
 * An object-mode `Writable` of datagrams; made by {@link createDatagramWritable}.
 *
 * @example
 * ```ts
 * import { createDatagramWritable, DatagramSocket, type DatagramWritable } from 'rx-sendmmsg/streams';
 * const writable: DatagramWritable = createDatagramWritable(() => DatagramSocket.open());
 * console.log(writable.stats.queued, writable.writableLength); // 0 0
 * writable.end();
 * ```
 * @see {@link https://nodejs.org/api/stream.html#class-streamwritable | stream.Writable}
 */
export type DatagramWritable = Writable & WithStats;

/**
 * A WHATWG `WritableStream` of datagrams; made by {@link createDatagramWritableStream}.
 *
 * @example
 * ```ts
 * import { createDatagramWritableStream, DatagramSocket, type DatagramWritableStream } from 'rx-sendmmsg/streams';
 * const stream: DatagramWritableStream = createDatagramWritableStream(() => DatagramSocket.open());
 * console.log(stream.stats.queued, stream.getWriter().desiredSize); // 0 4096
 * ```
 * @see {@link https://streams.spec.whatwg.org/#ws | Streams Standard, Writable streams}
 */
export type DatagramWritableStream = WritableStream<DatagramLike> & WithStats;

/**
 * A Node.js stream that sends each datagram written to it, in batches, through sendmmsg(2).
 *
 * Its callback and `drain` mean that the datagram was queued (its bytes are copied then), `finish` that all were handed to
 * the kernel, rejected, or dropped (`maxAgeMs`, `drainTimeoutMs`): `stats` and `onReport` tell. A bad datagram is one
 * rejection; only the socket's own failure (`EBADF`, `ENOTSOCK`, …) destroys the stream. When it is destroyed or aborted,
 * nothing more is sent or told.
 *
 * @param socket - a socket that stays open, or a factory, called at once, whose socket is closed with the stream
 * @param options - see {@link DatagramWritableOptions}; checked at once
 * @throws SendmmsgError for bad options: `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`; for a
 * socket that is closed, `ERR_SOCKET_DGRAM_NOT_RUNNING`
 * @example
 * ```ts
 * import { createReadStream } from 'node:fs';
 * import { createInterface } from 'node:readline';
 * import { pipeline } from 'node:stream/promises';
 * import { createDatagramWritable, DatagramSocket } from 'rx-sendmmsg/streams';
 * const syslog = () => DatagramSocket.open({ connect: { address: '127.0.0.1', port: 514 } });
 * const writable = createDatagramWritable(syslog, { highWaterMark: 1024 });
 * await pipeline(createInterface({ input: createReadStream('/etc/hosts') }), writable);
 * console.log(`${writable.stats.sent} datagrams in ${writable.stats.syscalls} calls`);
 * ```
 * @see {@link https://nodejs.org/api/stream.html#class-streamwritable | stream.Writable}
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 */
export function createDatagramWritable(
  socket: DatagramSocket | (() => DatagramSocket),
  options: DatagramWritableOptions = {},
): DatagramWritable {
  const resolved = resolveStreamOptions(socket, options, ['onReport', 'segmentSize', 'signal']);
  const { signal } = options;
  if (signal !== undefined) checkSignal('"options.signal"', signal);
  const outlet = new Outlet(socket, resolved.batch, {
    next: resolved.onReport,
    error: (error) => void writable.destroy(error as Error),
  });
  const { segments } = resolved;
  const writable = new Writable({
    objectMode: true,
    highWaterMark: resolved.batch.highWaterMark,
    write(datagram: DatagramLike, _encoding, done) {
      try {
        const waiting = segments === null ? outlet.send(datagram) : sendCut(outlet, segments, datagram);
        if (waiting === undefined) done();
        else callBack(waiting, done);
      } catch (error) {
        done(error as Error);
      }
    },
    writev: (chunks, done) => callBack(sendAll(outlet, segments, chunks), done),
    final: (done) => callBack(sendRest(outlet, segments), done),
    destroy(error, done) {
      outlet.destroy();
      done(error);
    },
    ...(signal !== undefined && { signal }),
  });
  return withStats(writable, outlet);
}

/**
 * A WHATWG stream that sends each datagram written to it, in batches, through sendmmsg(2).
 *
 * `write()` resolves when the datagram was queued (its bytes are copied then), `close()` when all were handed to the
 * kernel, rejected, or dropped (`maxAgeMs`, `drainTimeoutMs`): `stats` and `onReport` tell. `ready` and `desiredSize` tell
 * of the room in front of the queue. A bad datagram is one rejection; only the socket's own failure (`EBADF`, `ENOTSOCK`,
 * …) errors the stream. When it is aborted, nothing more is sent or told, and a `close()` that still waits rejects with the reason,
 * as does that `abort()` then. (`pipeTo` first writes what it has read, as the standard has it, and then aborts.)
 *
 * @param socket - a socket that stays open, or a factory, called at once, whose socket is closed with the stream
 * @param options - see {@link DatagramStreamOptions}; checked at once
 * @throws SendmmsgError for bad options: `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`; for a
 * socket that is closed, `ERR_SOCKET_DGRAM_NOT_RUNNING`
 * @example
 * ```ts
 * import { createDatagramWritableStream, DatagramSocket } from 'rx-sendmmsg/streams';
 * const statsd = () => DatagramSocket.open({ connect: { address: '127.0.0.1', port: 8125 } });
 * const stream = createDatagramWritableStream(statsd);
 * await ReadableStream.from(['up:1|g', 'load:2|g']).pipeTo(stream);
 * console.log(stream.stats.sent); // 2
 * ```
 * @see {@link https://streams.spec.whatwg.org/#ws | Streams Standard, Writable streams}
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 */
export function createDatagramWritableStream(
  socket: DatagramSocket | (() => DatagramSocket),
  options: DatagramStreamOptions = {},
): DatagramWritableStream {
  const { batch, onReport, segments } = resolveStreamOptions(socket, options, ['onReport', 'segmentSize']);
  let fail: (error: unknown) => void;
  let failClose: (reason: unknown) => void = () => {};
  const outlet = new Outlet(socket, batch, { next: onReport, error: (error) => fail(error) });
  const stream = new WritableStream<DatagramLike>(
    {
      start(controller) {
        fail = (error) => controller.error(error);
        // The sink's own abort() comes only after a write that is pending, which would still be sent.
        const { signal } = controller as typeof controller & { readonly signal: AbortSignal }; // @types/node 20 lacks it
        const onAbort = (): void => {
          failClose(signal.reason);
          outlet.destroy();
        };
        signal.addEventListener('abort', onAbort, { once: true });
      },
      write: (datagram) => (segments === null ? outlet.send(datagram) : sendCut(outlet, segments, datagram)),
      close: () =>
        new Promise((resolve, reject) => {
          failClose = reject; // the standard lets a close() that is under way succeed in spite of an abort()
          sendRest(outlet, segments).then(resolve, reject);
        }),
    },
    { highWaterMark: batch.highWaterMark },
  );
  return withStats(stream, outlet);
}

function resolveStreamOptions(
  socket: unknown,
  options: DatagramStreamOptions,
  others: readonly (keyof DatagramWritableOptions)[],
) {
  checkSocketSource(socket);
  const batch = resolveBatchOptions(options, others);
  const { onReport = () => {} } = options;
  if (typeof onReport !== 'function') throw argumentTypeError('"options.onReport"', 'a function', onReport);
  if (options.segmentSize === undefined) return { batch, onReport, segments: null };
  const segmentSize = checkedSegmentSize('"options.segmentSize"', options.segmentSize);
  if (batch.pack !== undefined) {
    throw argumentValueError('"options.segmentSize"', 'cannot be combined with pack', segmentSize);
  }
  return { batch, onReport, segments: new ByteSegments(segmentSize, batch.highWaterMarkBytes) };
}

async function sendAll(
  outlet: Outlet,
  segments: ByteSegments | null,
  chunks: readonly { readonly chunk: DatagramLike }[],
): Promise<void> {
  // Node.js forgets what is written, by onReport or a getter, inside the call of writev: clearBuffer() in its writable.js.
  await undefined;
  for (const { chunk } of chunks) {
    const waiting = segments === null ? outlet.send(chunk) : sendCut(outlet, segments, chunk);
    if (waiting !== undefined) await waiting;
  }
}

/** Sends a chunk of a stream of bytes, or, behind what was written before it, a datagram. */
async function sendCut(outlet: Outlet, segments: ByteSegments, chunk: DatagramLike): Promise<void> {
  const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : ArrayBuffer.isView(chunk) ? bytesOf(chunk) : null;
  for (const datagram of bytes === null ? segments.end() : segments.cut(bytes)) await outlet.send(datagram);
  if (bytes === null) await outlet.send(chunk);
}

async function sendRest(outlet: Outlet, segments: ByteSegments | null): Promise<void> {
  for (const datagram of segments?.end() ?? []) await outlet.send(datagram);
  return outlet.sender.delivery.close();
}

/** Calls back when the promise settles; outside it, so that what a callback throws is not taken for a rejection. */
function callBack(promise: Promise<void>, done: (error?: Error | null) => void): void {
  promise.then(
    () => process.nextTick(done),
    (error: Error) => process.nextTick(done, error),
  );
}

function withStats<T extends object>(stream: T, outlet: Outlet): T & WithStats {
  return Object.defineProperty(stream, 'stats', {
    get: () => outlet.sender.delivery.counters.snapshot(),
    enumerable: true,
  }) as T & WithStats;
}
