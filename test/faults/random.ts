/** Scripts and options at random, from a seed: what nobody has thought of. */
import type { BatchOptions } from '../../src/index.ts';
import type { Rule } from './control.ts';
import { dutyOf, ERRNO_NAMES, ERRNOS, type ErrnoName, type Target } from './errnos.ts';
import { BACKENDS, type Backend, type Scenario } from './scenario.ts';

/** Experiment `index` of a seed. */
export function randomScenario(backend: Backend, seed: number, index: number): Scenario {
  const dice = new Dice(seed * 1_000_003 + index * 7919 + BACKENDS.indexOf(backend));
  const targets: readonly Target[] =
    backend === 'node:dgram' ? ['udp-connected', 'udp'] : ['unix-connected', 'unix', 'udp-connected', 'udp'];
  const target = dice.one(targets);
  const count = dice.between(1, 200);
  return {
    id: ['random', backend, seed, index].join('.'),
    backend,
    target,
    count,
    run: dice.one([1, 2, 6, 40]),
    destinations: target.endsWith('connected') ? 1 : dice.between(1, 4),
    options: randomOptions(dice, backend),
    rules: Array.from({ length: dice.between(1, 5) }, () => randomRule(dice, backend, target, count)),
    through: dice.one(['operator', 'sender']),
    perTurn: dice.one([1, 7, 50, 200]),
    end: dice.one(['complete', 'complete', 'complete', 'complete', 'error', 'unsubscribe']),
    mustStrike: false,
    isPlain: false,
  };
}

/** The experiment of that name, `random.sendmmsg.1.17`; `undefined` if it is none. */
export function randomScenarioOf(id: string): Scenario | undefined {
  const match = /^random\.([a-z:]+)\.(\d+)\.(\d+)$/.exec(id);
  if (match === null || !BACKENDS.includes(match[1] as Backend)) return undefined;
  return randomScenario(match[1] as Backend, Number(match[2]), Number(match[3]));
}

function randomOptions(dice: Dice, backend: Backend): BatchOptions {
  const offload = backend !== 'node:dgram' && dice.chance(0.4);
  return {
    batchSize: dice.one([1, 3, 16, 64, 300]),
    drainTimeoutMs: dice.between(60, 250),
    ...(dice.chance(0.4) && { gso: 'off' }),
    ...(offload && { offload, lanes: dice.between(1, 3) }),
    ...(dice.chance(0.3) && { flushAfterMs: dice.between(1, 6) }),
    ...(dice.chance(0.2) && { maxAgeMs: dice.between(2, 30) }),
    ...(dice.chance(0.2) && { pace: { datagramsPerSecond: 20_000, burst: dice.between(1, 50) } }),
    ...(dice.chance(0.3) && {
      highWaterMark: dice.between(1, 60),
      overflow: dice.one(['drop-oldest', 'drop-newest', 'error'] as const),
    }),
  };
}

function randomRule(dice: Dice, backend: Backend, target: Target, count: number): Rule {
  if (dice.chance(0.15)) {
    const take = dice.between(1, 4);
    return {
      by: 'call',
      at: dice.between(0, 5),
      every: dice.between(0, 4),
      times: dice.between(1, 50),
      errno: 0,
      take,
    };
  }
  // A fatal one ends the experiment, so not too often.
  const name = dice.one(ERRNO_NAMES.filter((each) => dutyOf(ERRNOS[each], target) !== 'fatal' || dice.chance(0.2)));
  return {
    by: dice.one(['call', 'message', 'datagram'] as const),
    at: dice.between(0, count - 1),
    every: dice.one([0, 0, 1, 2, 3, 7, 20]),
    times: randomTimes(dice, backend, name),
    errno: ERRNOS[name],
    isUsedUpUnseen: dice.chance(0.5),
    isForSegmented: dice.chance(0.15),
  };
}

function randomTimes(dice: Dice, backend: Backend, errno: ErrnoName): number {
  // libuv calls again by itself, with nobody to stop it.
  const isKeptByLibuv = backend === 'node:dgram' && ['EAGAIN', 'ENOBUFS', 'EINTR'].includes(errno);
  if (!isKeptByLibuv && dice.chance(0.1)) return Number.POSITIVE_INFINITY;
  return dice.one([1, 1, 1, 2, 3, 5, 14]);
}

/** mulberry32. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  between(lowest: number, highest: number): number {
    return lowest + Math.floor(this.next() * (highest - lowest + 1));
  }

  one<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.next() * choices.length)]!;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }
}
