/** The full product: errnos × placements × targets × ways of sending. */
import type { BatchOptions } from '../../src/index.ts';
import type { Rule } from './control.ts';
import { dutyOf, ERRNO_NAMES, ERRNOS, type ErrnoName, SEGMENTATION_ERRNOS, type Target } from './errnos.ts';
import type { Backend, Scenario } from './scenario.ts';

interface Way {
  readonly backend: Backend;
  readonly options: BatchOptions;
  readonly destinations: number;
}

const WAYS: Readonly<Record<string, Way>> = {
  inline: { backend: 'sendmmsg', options: { gso: 'off' }, destinations: 1 },
  gso: { backend: 'sendmmsg', options: {}, destinations: 1 },
  offload: { backend: 'sendmmsg', options: { offload: true }, destinations: 1 },
  lanes: { backend: 'sendmmsg', options: { offload: true, lanes: 2 }, destinations: 4 },
  sendmsg: { backend: 'sendmsg', options: {}, destinations: 1 },
  dgram: { backend: 'node:dgram', options: {}, destinations: 1 },
};

const COUNT = 72;
const MIDDLE = 39;
const RUN = 6;
const BATCH_SIZE = 24;
const SHORT_DRAIN_MS = 150;

interface Placement {
  readonly rules: (errno: number) => readonly Rule[];
  readonly batchSize?: number;
  /** It never passes. */
  readonly isEndless?: boolean;
  /** Default: a short one for what is endless and waited for, which nothing else will end. */
  readonly drainTimeoutMs?: number;
  /** For so few errnos that a sample takes all. */
  readonly isRare?: boolean;
  readonly isFor?: (errno: number, way: string, target: Target) => boolean;
}

const PLACEMENTS: Readonly<Record<string, Placement>> = {
  first: { rules: (errno) => [{ by: 'datagram', at: 0, errno }] },
  middle: { rules: (errno) => [{ by: 'datagram', at: MIDDLE, errno }] },
  last: { rules: (errno) => [{ by: 'datagram', at: COUNT - 1, errno }] },
  /** Behind the head of a call: discarded by the kernel, and nobody is the wiser. */
  unseen: { rules: (errno) => [{ by: 'datagram', at: MIDDLE, errno, isUsedUpUnseen: true }] },
  twice: { rules: (errno) => [{ by: 'datagram', at: MIDDLE, times: 2, errno }] },
  thrice: { rules: (errno) => [{ by: 'datagram', at: MIDDLE, times: 3, errno }] },
  everySeventhCall: {
    rules: (errno) => [{ by: 'call', at: 1, every: 7, times: Number.POSITIVE_INFINITY, errno }],
    batchSize: 3,
  },
  everyFifthDatagram: { rules: (errno) => [{ by: 'datagram', at: 0, every: 5, errno }] },
  everyThirdMessage: { rules: (errno) => [{ by: 'message', at: 1, every: 3, errno }], batchSize: 12 },
  shortCounts: {
    rules: (errno) => [
      { by: 'call', at: 0, every: 2, times: Number.POSITIVE_INFINITY, errno: 0, take: 2 },
      { by: 'call', at: 5, every: 6, times: 3, errno },
      { by: 'datagram', at: MIDDLE, errno },
    ],
  },
  eightInARow: { rules: (errno) => [{ by: 'call', at: 1, every: 1, times: 8, errno }], batchSize: 12 },
  oneForEver: {
    rules: (errno) => [{ by: 'datagram', at: MIDDLE, times: Number.POSITIVE_INFINITY, errno }],
    isEndless: true,
  },
  allForEver: {
    rules: (errno) => [{ by: 'call', at: 1, every: 1, times: Number.POSITIVE_INFINITY, errno }],
    isEndless: true,
  },
  /** The same, and time enough to give that datagram up: the others arrive. */
  starved: {
    rules: (errno) => [{ by: 'datagram', at: MIDDLE, times: Number.POSITIVE_INFINITY, errno }],
    isEndless: true,
    drainTimeoutMs: 10_000,
    isRare: true,
    isFor: (errno, way, target) => dutyOf(errno, target) === 'waitBounded' && way === 'inline',
  },
  /** The kernel takes one after each failure: longer than the drain timeout in all, but never for so long nothing. */
  trickle: {
    rules: (errno) => [
      { by: 'call', at: 0, every: 2, times: Number.POSITIVE_INFINITY, errno: 0, take: 1 },
      { by: 'call', at: 1, every: 2, times: Number.POSITIVE_INFINITY, errno },
    ],
    drainTimeoutMs: 60,
    isRare: true,
    isFor: (errno, way, target) => dutyOf(errno, target) === 'waitBounded' && way === 'inline',
  },
  /** UDP GSO is refused; plain datagrams pass. */
  segmented: {
    rules: (errno) => [
      { by: 'message', at: 0, every: 1, times: Number.POSITIVE_INFINITY, errno, isForSegmented: true },
    ],
    batchSize: 12,
    isRare: true,
    isFor: (errno, way) => SEGMENTATION_ERRNOS.has(errno) && ['gso', 'offload', 'lanes', 'sendmsg'].includes(way),
  },
};

const TARGETS: readonly Target[] = ['unix-connected', 'unix', 'udp-connected', 'udp'];

/** libuv itself waits for POLLOUT, calls again at once or falls back to another call: for ever, if need be. */
const KEPT_BY_LIBUV: ReadonlySet<ErrnoName> = new Set(['EAGAIN', 'ENOBUFS', 'EINTR']);

/** All there is, in a fixed order. */
export function product(): Scenario[] {
  return combinations(() => true);
}

/** A quarter of it, in which each errno meets each placement, and both meet each target and way of sending. */
export function sample(): Scenario[] {
  return combinations((rank, placement) => rank % 4 === 0 || PLACEMENTS[placement]!.isRare === true);
}

/** What is chosen: `rank` grows by one with each step along any of the dimensions. */
function combinations(isChosen: (rank: number, placement: string) => boolean): Scenario[] {
  const scenarios: Scenario[] = [];
  for (const [targetRank, target] of TARGETS.entries()) {
    for (const [wayRank, way] of Object.keys(WAYS).entries()) {
      for (const [errnoRank, errno] of ERRNO_NAMES.entries()) {
        for (const [placementRank, placement] of Object.keys(PLACEMENTS).entries()) {
          if (!isPossible(target, way, errno, placement)) continue;
          if (!isChosen(targetRank + wayRank + errnoRank + placementRank, placement)) continue;
          scenarios.push(combine(target, way, errno, placement));
        }
      }
    }
  }
  return scenarios;
}

/** The experiment of that name, `udp-connected.gso.EMSGSIZE.middle`; `undefined` if there is none. */
export function productScenario(id: string): Scenario | undefined {
  const [target, way, errno, placement] = id.split('.');
  const isKnown = TARGETS.includes(target as Target) && way! in WAYS && errno! in ERRNOS && placement! in PLACEMENTS;
  if (!isKnown || !isPossible(target as Target, way!, errno as ErrnoName, placement!)) return undefined;
  return combine(target as Target, way!, errno as ErrnoName, placement!);
}

function isPossible(target: Target, way: string, errno: ErrnoName, placement: string): boolean {
  const { isEndless = false, isFor } = PLACEMENTS[placement]!;
  if (target.startsWith('unix') && (way === 'gso' || way === 'dgram')) return false;
  if (target.startsWith('unix') && placement === 'segmented') return false;
  if (way === 'dgram' && isEndless && KEPT_BY_LIBUV.has(errno)) return false;
  return isFor === undefined || isFor(ERRNOS[errno], way, target);
}

function combine(target: Target, way: string, errno: ErrnoName, placement: string): Scenario {
  const { backend, options, destinations } = WAYS[way]!;
  const { rules, batchSize = BATCH_SIZE, isEndless = false, ...rest } = PLACEMENTS[placement]!;
  const isWaitedFor = isEndless && dutyOf(ERRNOS[errno], target).startsWith('wait');
  const drainTimeoutMs = rest.drainTimeoutMs ?? (isWaitedFor ? SHORT_DRAIN_MS : undefined);
  const id = [target, way, errno, placement].join('.');
  return {
    id,
    backend,
    target,
    count: COUNT,
    run: RUN,
    destinations: target.endsWith('connected') ? 1 : destinations,
    options: {
      batchSize,
      ...options,
      ...(drainTimeoutMs !== undefined && { drainTimeoutMs }),
    },
    rules: rules(ERRNOS[errno]),
    through: id.length % 2 === 0 ? 'operator' : 'sender',
    perTurn: COUNT,
    end: 'complete',
    mustStrike: true,
    isPlain: true,
  };
}
