/**
 * Where to send to or receive at, as it is written on the command line.
 */
import { lookup } from 'node:dns/promises';
import { InvalidArgumentError } from 'commander';
import { sockaddrOfPath } from '../message/sockaddr.ts';

/** A parsed `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or `unix:@ABSTRACT`. */
export type Target = { readonly host: string; readonly port: number } | { readonly path: string };

/** What `DatagramSocket.open` takes as `bind` and `connect`: a path, or a literal address. */
export type SocketTarget =
  | { readonly type: 'udp4' | 'udp6'; readonly name: { readonly address: string; readonly port: number } }
  | { readonly type: 'unix'; readonly name: { readonly path: string } };

/** A peer to send to. Throws InvalidArgumentError. */
export function parsePeer(text: string): Target {
  return parseTarget(text, 1);
}

/** A place to bind to: port 0 means any. Throws InvalidArgumentError. */
export function parseLocal(text: string): Target {
  return parseTarget(text, 0);
}

/** Resolves a host name, once. The family follows the answer. Throws what the resolver throws. */
export async function resolveTarget(target: Target): Promise<SocketTarget> {
  if ('path' in target) return { type: 'unix', name: target };
  const { address, family } = await lookup(target.host);
  return { type: family === 6 ? 'udp6' : 'udp4', name: { address, port: target.port } };
}

/** A socket's name, as it would be written on the command line. */
export function describeTarget(name: { address: string; port: number } | { path: string }): string {
  if ('path' in name) return `unix:${name.path.startsWith('\0') ? `@${name.path.slice(1)}` : name.path}`;
  return name.address.includes(':') ? `[${name.address}]:${name.port}` : `${name.address}:${name.port}`;
}

function parseTarget(text: string, lowestPort: 0 | 1): Target {
  if (text.startsWith('unix:')) return parsePath(text.slice('unix:'.length));
  const colon = text.lastIndexOf(':');
  const host = text.slice(0, Math.max(0, colon));
  const digits = text.slice(colon + 1);
  if (colon < 0 || host === '') throw new InvalidArgumentError('Expected HOST:PORT, [IPV6]:PORT or unix:PATH.');
  const port = Number(digits);
  if (!/^\d{1,5}$/.test(digits) || port < lowestPort || port > 65_535) {
    throw new InvalidArgumentError(`The port must be ${lowestPort} to 65535.`);
  }
  const isBracketed = host.startsWith('[') && host.endsWith(']');
  if (host.includes(':') !== isBracketed) throw new InvalidArgumentError('An IPv6 address is written in brackets.');
  return { host: isBracketed ? host.slice(1, -1) : host, port };
}

function parsePath(text: string): Target {
  if (text === '' || text === '@') throw new InvalidArgumentError('Expected unix:PATH or unix:@NAME.');
  const path = text.startsWith('@') ? `\0${text.slice(1)}` : text;
  try {
    sockaddrOfPath(path);
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
  return { path };
}
