/**
 * The options of a batch, checked once when an operator or a sender is made: bad ones throw at once.
 */
import type { SchedulerLike } from '../kernel/clock.ts';
import { argumentTypeError, argumentValueError, outOfRangeError } from '../kernel/errors.ts';
import type { DatagramLike } from '../message/datagram.ts';
import { checkOptionNames } from '../message/option-names.ts';
import type { Packing } from '../queue/queue.ts';
import type { PaceOptions } from './pace.ts';

/**
 * When to flush, how much to queue, and what to do when the queue is full.
 *
 * @example
 * ```ts
 * import type { BatchOptions } from 'rx-sendmmsg';
 * const telemetry: BatchOptions = { batchSize: 256, flushAfterMs: 10, highWaterMark: 16_384, overflow: 'drop-oldest' };
 * ```
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}, for `vlen`
 */
export interface BatchOptions {
  /** Flush at this many queued datagrams; default 64. Above 1024 a flush takes several system calls. */
  readonly batchSize?: number | undefined;
  /** Flush at this many queued payload bytes; default: no such trigger. */
  readonly batchBytes?: number | undefined;
  /** Flush this long after the first queued datagram, ms; default 0: at the end of this event-loop turn. */
  readonly flushAfterMs?: number | undefined;
  /** Most datagrams queued; default 4096, at most 1 048 576. */
  readonly highWaterMark?: number | undefined;
  /**
   * Most payload bytes queued; default 4 MiB, at most 1 GiB. As long as there are fewer, one more datagram is queued whole, so they may
   * be exceeded by one. A datagram that is larger by itself is rejected with EMSGSIZE.
   */
  readonly highWaterMarkBytes?: number | undefined;
  /** What to do with one more when the queue is full: `'drop-oldest'` (default), `'drop-newest'`, or `'error'` (ENOBUFS). */
  readonly overflow?: 'drop-oldest' | 'drop-newest' | 'error' | undefined;
  /** A queued datagram older than this is dropped instead of sent, ms; default: none is. */
  readonly maxAgeMs?: number | undefined;
  /**
   * On completion, give up when the kernel has taken nothing for so long, and drop what is left, ms; default 5000. It begins anew
   * whenever the kernel takes something, and while a `pace` holds back it does not run. Through node:dgram what is in flight has as
   * long again.
   */
  readonly drainTimeoutMs?: number | undefined;
  /**
   * Which order holds: `'total'` (default), that of the input, or `'destination'`, that of the input for each destination. Then datagrams
   * to different destinations may overtake each other, and those to one are gathered into GSO messages, though others came between: a
   * broadcast of several payloads to many peers, the first to all, then the second to all, is one message a peer. A destination of an
   * unconnected unix socket that is full holds back its own datagrams only.
   *
   * `batchSize` is then `highWaterMark` by default. With `lanes` the order of each destination holds without gathering; with an explicit
   * `'total'` they throw.
   */
  readonly order?: 'total' | 'destination' | undefined;
  /**
   * UDP GSO: `'auto'` (default) hands a run of equally long datagrams to one destination to the kernel as one message, and
   * falls back where that is refused; `'off'` never does.
   */
  readonly gso?: 'auto' | 'off' | undefined;
  /**
   * Flush on libuv's thread pool (default false): the event loop goes on while the kernel works. What is in flight cannot be
   * dropped any more: while the queue is full of it, the newest gives way.
   */
  readonly offload?: boolean | undefined;
  /**
   * With `offload`: how many flushes may be in flight at once, 1 (default) to 8. A destination always takes the same
   * lane, so order holds for each destination, not between destinations. With more lanes than cores, a lane that waits for the
   * event loop leaves none idle; each takes a thread of the pool (`UV_THREADPOOL_SIZE`, 4) while in flight.
   */
  readonly lanes?: number | undefined;
  /**
   * For state of which only the latest counts: while a datagram with the same key is still queued, a newer one takes its
   * place, so that a congested socket sends no stale state. The key is compared as in a `Map`; `undefined` is never replaced.
   * Datagrams of one key should have one destination. Cannot be combined with `pack` or `maxAgeMs`.
   */
  readonly conflateBy?: ((datagram: DatagramLike) => unknown) | undefined;
  /** Packs lines: those that go to one destination share a datagram until it is full. */
  readonly pack?: PackOptions | undefined;
  /**
   * Send no faster than this; default: as fast as the kernel takes it. The triggers say when a flush is due, the pace how much
   * of it goes; the rest waits in the queue. All `lanes` share one pace. See {@link PaceOptions}.
   */
  readonly pace?: PaceOptions | undefined;
  /**
   * Told `true` when the queue has become full (`send` returns false then), and `false` when it is half empty again; never the same
   * twice in a row. A source that can be paused need not lose anything. What it throws is thrown outside, as RxJS does it.
   *
   * While the queue is drained it is still told; before `complete` or `error` a last `true` is taken back. After an unsubscribe it
   * is told nothing more, `false` neither.
   */
  readonly pressure?: PressureObserver | undefined;
  /** MSG_DONTROUTE: send only to hosts on a directly connected network; default false. Not through node:dgram. */
  readonly dontRoute?: boolean | undefined;
  /** MSG_CONFIRM: tell the link layer that the peer answers, so that it is not probed by ARP; default false. Not through node:dgram. */
  readonly confirm?: boolean | undefined;
  /**
   * Whether the first loss of each kind in this thread (a datagram dropped by `overflow`, a datagram rejected) is told
   * by a process warning, with a code; default true.
   */
  readonly warn?: boolean | undefined;
  /** Time for all timers; default: the event loop's own monotonic ones. */
  readonly scheduler?: SchedulerLike | undefined;
}

/**
 * How lines are packed into datagrams, as statsd and its kin expect them.
 *
 * A line is what was emitted, string or bytes. Those that follow one another to one destination share a datagram, with the
 * separator between them; it is flushed by the triggers as any other (`batchSize` counts datagrams, not lines).
 *
 * @example
 * ```ts
 * import { interval, map, take } from 'rxjs';
 * import { DatagramSocket, type PackOptions, sendmmsg } from 'rx-sendmmsg';
 * const pack: PackOptions = { maxBytes: 1432 };
 * interval(1)
 *   .pipe(
 *     take(1000),
 *     map((n) => ({ payload: `ticks:${n}|g`, address: '127.0.0.1', port: 8125 })),
 *     sendmmsg(() => DatagramSocket.open(), { pack, flushAfterMs: 100 }),
 *   )
 *   .subscribe(({ sent, bytes }) => console.log(`${sent} datagrams, ${bytes} bytes`));
 * ```
 * @see {@link https://github.com/statsd/statsd/blob/master/docs/metric_types.md#multi-metric-packets | statsd, multi-metric packets}
 */
export interface PackOptions {
  /** Most bytes of a packed datagram, separators included; default 1432 (what an Ethernet frame carries), at most 65 507. */
  readonly maxBytes?: number | undefined;
  /** What stands between two lines; default a newline. */
  readonly separator?: string | undefined;
  /** What becomes of a line longer than `maxBytes`: it goes `'alone'` (default), or is rejected with EMSGSIZE. */
  readonly oversize?: 'alone' | 'reject' | undefined;
}

/**
 * Who is told how full the queue is: any observer of booleans, an RxJS `Subject` too.
 *
 * @example
 * ```ts
 * import type { PressureObserver } from 'rx-sendmmsg';
 * const pressure: PressureObserver = { next: (isFull) => (isFull ? process.stdin.pause() : process.stdin.resume()) };
 * ```
 * @see {@link https://rxjs.dev/guide/observer | RxJS, Observer}
 */
export interface PressureObserver {
  /** Called with `true` when the queue has become full, with `false` when it is half empty again. */
  next(isFull: boolean): void;
}

/** The options, checked and filled in. */
export interface ResolvedBatchOptions {
  readonly batchSize: number;
  readonly batchBytes: number;
  readonly flushAfterMs: number;
  readonly highWaterMark: number;
  readonly highWaterMarkBytes: number;
  readonly overflow: 'drop-oldest' | 'drop-newest' | 'error';
  readonly maxAgeMs: number;
  readonly drainTimeoutMs: number;
  /** `undefined`: the order of the input, as far as the lanes keep it. */
  readonly order: 'total' | 'destination' | undefined;
  readonly gso: 'auto' | 'off';
  readonly offload: boolean;
  readonly lanes: number;
  readonly conflateBy: ((datagram: DatagramLike) => unknown) | undefined;
  readonly pack: Packing | undefined;
  readonly pace: PaceOptions | undefined;
  readonly pressure: PressureObserver | undefined;
  readonly dontRoute: boolean;
  readonly confirm: boolean;
  readonly warn: boolean;
  readonly scheduler: SchedulerLike | undefined;
}

/** The longest that setTimeout(3) takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const MAX_SLOTS = 2 ** 20;
const MAX_QUEUED_BYTES = 2 ** 30;
/** What a UDP datagram over IPv4 may hold. */
const MAX_PACKED_BYTES = 65_507;

/**
 * Reads every option once. Throws SendmmsgError that names the option and the value.
 *
 * @param others - names of options that are not of the batch, and whose values are not looked at here
 */
export function resolveBatchOptions(options: BatchOptions, others: readonly string[] = []): ResolvedBatchOptions {
  if (typeof options !== 'object' || options === null) throw argumentTypeError('"options"', 'an object', options);
  checkOptionNames('options', options, [...BATCH_OPTIONS, ...others]);
  return resolved(options);
}

function resolved(options: BatchOptions): ResolvedBatchOptions {
  const { overflow = 'drop-oldest', order, gso = 'auto', conflateBy, pressure, scheduler } = options;
  if (overflow !== 'drop-oldest' && overflow !== 'drop-newest' && overflow !== 'error') {
    throw argumentValueError('"options.overflow"', "must be 'drop-oldest', 'drop-newest' or 'error'", overflow);
  }
  if (order !== undefined && order !== 'total' && order !== 'destination') {
    throw argumentValueError('"options.order"', "must be 'total' or 'destination'", order);
  }
  if (gso !== 'auto' && gso !== 'off') throw argumentValueError('"options.gso"', "must be 'auto' or 'off'", gso);
  const offload = flag('offload', options.offload);
  const lanes = integer('lanes', options.lanes, 1, 1, 8);
  if (lanes > 1 && !offload) throw argumentValueError('"options.lanes"', 'above 1 needs offload: true', lanes);
  if (lanes > 1 && order === 'total') {
    throw argumentValueError('"options.order"', `cannot be 'total' with ${lanes} lanes`, order);
  }
  if (scheduler !== undefined && (typeof scheduler?.schedule !== 'function' || typeof scheduler.now !== 'function')) {
    throw argumentTypeError('"options.scheduler"', 'an RxJS scheduler', scheduler);
  }
  if (conflateBy !== undefined && typeof conflateBy !== 'function') {
    throw argumentTypeError('"options.conflateBy"', 'a function', conflateBy);
  }
  const pack = resolvePackOptions(options.pack);
  // Infinity, the default, may be said: options that were checked once can be checked again.
  const maxAgeMs = options.maxAgeMs === Infinity ? Infinity : milliseconds('maxAgeMs', options.maxAgeMs, Infinity);
  if (conflateBy !== undefined && pack !== undefined) {
    throw argumentValueError('"options.conflateBy"', 'cannot be combined with pack', conflateBy);
  }
  if (conflateBy !== undefined && maxAgeMs !== Infinity) {
    throw argumentValueError('"options.conflateBy"', 'cannot be combined with maxAgeMs', conflateBy);
  }
  if (pressure !== undefined && typeof pressure?.next !== 'function') {
    throw argumentTypeError('"options.pressure"', 'an observer with a next method', pressure);
  }
  const highWaterMark = integer('highWaterMark', options.highWaterMark, 4096, 1, MAX_SLOTS);
  return {
    batchSize: integer('batchSize', options.batchSize, order === 'destination' ? highWaterMark : 64, 1, MAX_SLOTS),
    batchBytes: integer('batchBytes', options.batchBytes, Number.MAX_SAFE_INTEGER, 1, Number.MAX_SAFE_INTEGER),
    flushAfterMs: milliseconds('flushAfterMs', options.flushAfterMs, 0),
    highWaterMark,
    highWaterMarkBytes: integer('highWaterMarkBytes', options.highWaterMarkBytes, 4 << 20, 1, MAX_QUEUED_BYTES),
    overflow,
    maxAgeMs,
    drainTimeoutMs: milliseconds('drainTimeoutMs', options.drainTimeoutMs, 5000),
    order,
    gso,
    offload,
    lanes,
    conflateBy,
    pack,
    pace: pace(options.pace),
    pressure,
    dontRoute: flag('dontRoute', options.dontRoute),
    confirm: flag('confirm', options.confirm),
    warn: flag('warn', options.warn, true),
    scheduler,
  };
}

/** What there is: what comes of none, for each has its place there. */
const BATCH_OPTIONS = Object.keys(resolved({}));

const PACK_OPTIONS: readonly (keyof PackOptions)[] = ['maxBytes', 'separator', 'oversize'];

function resolvePackOptions(pack: unknown): Packing | undefined {
  if (pack === undefined) return undefined;
  if (typeof pack !== 'object' || pack === null) throw argumentTypeError('"options.pack"', 'an object', pack);
  checkOptionNames('options.pack', pack, PACK_OPTIONS);
  const { maxBytes, separator = '\n', oversize = 'alone' } = pack as { [key in keyof PackOptions]: unknown };
  if (typeof separator !== 'string') throw argumentTypeError('"options.pack.separator"', 'a string', separator);
  if (oversize !== 'alone' && oversize !== 'reject') {
    throw argumentValueError('"options.pack.oversize"', "must be 'alone' or 'reject'", oversize);
  }
  return { maxBytes: integer('pack.maxBytes', maxBytes, 1432, 1, MAX_PACKED_BYTES), separator, oversize };
}

function integer(name: string, value: unknown, fallback: number, lowest: number, highest: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number') throw argumentTypeError(`"options.${name}"`, 'a number', value);
  if (!Number.isInteger(value) || value < lowest || value > highest) {
    throw outOfRangeError(`"options.${name}"`, `an integer >= ${lowest} and <= ${highest}`, value);
  }
  return value;
}

function flag(name: string, value: unknown, fallback = false): boolean {
  if (value === undefined) return fallback;
  if (typeof value !== 'boolean') throw argumentTypeError(`"options.${name}"`, 'a boolean', value);
  return value;
}

function milliseconds(name: string, value: unknown, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number') throw argumentTypeError(`"options.${name}"`, 'a number', value);
  if (!(value >= 0 && value <= MAX_TIMER_MS)) {
    throw outOfRangeError(`"options.${name}"`, `milliseconds >= 0 and <= ${MAX_TIMER_MS}`, value);
  }
  return value;
}

const PACE_OPTIONS: readonly (keyof PaceOptions)[] = ['datagramsPerSecond', 'bytesPerSecond', 'burst'];

function pace(value: PaceOptions | undefined): PaceOptions | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null) throw argumentTypeError('"options.pace"', 'an object', value);
  checkOptionNames('options.pace', value, PACE_OPTIONS);
  const datagramsPerSecond = rate('datagramsPerSecond', value.datagramsPerSecond);
  const bytesPerSecond = rate('bytesPerSecond', value.bytesPerSecond);
  if (datagramsPerSecond === undefined && bytesPerSecond === undefined) {
    throw argumentValueError('"options.pace"', 'must hold datagramsPerSecond or bytesPerSecond', value);
  }
  const burst = value.burst;
  return {
    datagramsPerSecond,
    bytesPerSecond,
    burst: burst === undefined ? undefined : integer('pace.burst', burst, 1, 1, MAX_SLOTS),
  };
}

function rate(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw argumentTypeError(`"options.pace.${name}"`, 'a number', value);
  if (!(value > 0 && value < Infinity)) throw outOfRangeError(`"options.pace.${name}"`, '> 0 and finite', value);
  return value;
}
