/**
 * What can be wrong with where a datagram, or a socket, is to go to, and what to do about it.
 *
 * Only the names of a datagram's own properties are looked at, and only when it is refused: no user code runs.
 */
import { types } from 'node:util';
import { AF_INET, AF_UNIX } from '../kernel/abi.ts';
import { EAFNOSUPPORT, EDESTADDRREQ } from '../kernel/errno.ts';
import { type ErrorTarget, SendmmsgError, shortened, systemError } from '../kernel/errors.ts';
import { nearestName } from './option-names.ts';

const DESTINATION_FIELDS: readonly string[] = ['address', 'port', 'path', 'to'];
/** More names than any datagram has that was written by hand. */
const NAMES_LOOKED_AT = 32;

/**
 * No destination, and no peer: `EDESTADDRREQ`. Says which fields of the datagram look as if they were meant to be one.
 */
export function noDestinationError(family: number, datagram: unknown): SendmmsgError {
  const fields = family === AF_UNIX ? '"path"' : '"address" and "port" (or "to")';
  const meant = lookalikes(datagram).map(([name, field]) => `; it has "${shortened(name)}": did you mean "${field}"?`);
  const remedy = `give the datagram ${fields}, or open the socket with "connect"${meant.join('')}`;
  return systemError(EDESTADDRREQ, 'sendmmsg', {}, remedy);
}

/** A destination on a socket that has a peer: `ERR_SOCKET_DGRAM_IS_CONNECTED`. */
export function connectedError(): SendmmsgError {
  const remedy = 'the socket has a peer; send bare payloads, or open it without "connect"';
  return new SendmmsgError(`Already connected: ${remedy}`, { code: 'ERR_SOCKET_DGRAM_IS_CONNECTED' });
}

/** An address, or a path, of another family than the socket's: `EAFNOSUPPORT`. */
export function wrongFamilyError(syscall: string, family: number, target: ErrorTarget): SendmmsgError {
  return systemError(EAFNOSUPPORT, syscall, target, familyRemedy(family, target));
}

/** What to do about an address of another family than the socket's. */
export function familyRemedy(family: number, target: ErrorTarget): string {
  const type = typeOf(target);
  const what = type === 'unix' ? 'a path' : `an ${type === 'udp6' ? 'IPv6' : 'IPv4'} address`;
  return `${what} on a ${socketType(family)} socket; open the socket with type '${type}'`;
}

/** The type of socket that an address, or a path, is for. */
export function typeOf({ address, path }: ErrorTarget): 'udp4' | 'udp6' | 'unix' {
  if (path !== undefined) return 'unix';
  return address?.includes(':') ? 'udp6' : 'udp4';
}

function socketType(family: number): string {
  if (family === AF_UNIX) return 'unix';
  return family === AF_INET ? 'udp4' : 'udp6';
}

/** Own properties that are no fields of a datagram, each with the field that was probably meant. */
function lookalikes(datagram: unknown): [name: string, field: string][] {
  if (typeof datagram !== 'object' || datagram === null || types.isProxy(datagram)) return [];
  if (Array.isArray(datagram) || ArrayBuffer.isView(datagram)) return [];
  return Object.keys(datagram)
    .slice(0, NAMES_LOOKED_AT)
    .flatMap((name): [string, string][] => {
      const field = DATAGRAM_FIELDS.includes(name) ? undefined : nearestName(name, DESTINATION_FIELDS);
      return field === undefined ? [] : [[name, field]];
    });
}

const DATAGRAM_FIELDS: readonly string[] = [...DESTINATION_FIELDS, 'payload', 'dscp', 'ecn', 'from', 'segmentSize'];
