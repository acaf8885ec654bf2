/**
 * The destinations of a broadcast: an iterable of endpoints, or a Map whose values they are.
 */
import { types } from 'node:util';
import { argumentTypeError, argumentValueError, type SendmmsgError } from '../kernel/errors.ts';
import type { Endpoint } from './datagram.ts';

const { isMap, isSet } = types;
const valuesOf = Map.prototype.values;

/** Those to whom a payload goes. */
export type Peers = Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>;

/** The endpoints as they are now. Throws what the iterator throws. */
export function listPeers(peers: Peers): Endpoint[] {
  return [...(isMap(peers) ? (valuesOf.call(peers) as Iterable<Endpoint>) : (peers as Iterable<Endpoint>))];
}

/** Whether it can be iterated over at all. */
export function isIterable(value: unknown): value is Iterable<Endpoint> {
  return typeof (value as Partial<Iterable<Endpoint>> | null | undefined)?.[Symbol.iterator] === 'function';
}

/**
 * Why peers cannot be those of every payload to come; `undefined` if they can. An iterator can be walked once only: the
 * second payload would go to nobody.
 *
 * @param expected - what they are to be, for the error
 */
export function lastingPeersError(peers: unknown, expected: string): SendmmsgError | undefined {
  if (!isIterable(peers)) return argumentTypeError('"peers"', expected, peers);
  if (!isOneShot(peers)) return undefined;
  const why = 'can be iterated over only once, but are needed for each payload: pass the Set, Map or array itself';
  return argumentValueError('"peers"', why, peers);
}

function isOneShot(peers: Iterable<Endpoint>): boolean {
  if (Array.isArray(peers) || isSet(peers) || isMap(peers)) return false;
  try {
    return (peers[Symbol.iterator]() as unknown) === peers;
  } catch {
    return false; // what it throws is told when it is walked
  }
}
