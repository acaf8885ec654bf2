/**
 * The options of `DatagramSocket.open`, read once and checked before anything is opened.
 */
import { AF_INET, AF_INET6, AF_UNIX } from '../kernel/abi.ts';
import { EAFNOSUPPORT } from '../kernel/errno.ts';
import {
  argumentTypeError,
  argumentValueError,
  badBufferSizeError,
  badPortError,
  badSocketTypeError,
  SendmmsgError,
  systemError,
} from '../kernel/errors.ts';
import type { Sockaddr } from '../message/datagram.ts';
import { typeOf, wrongFamilyError } from '../message/destination-errors.ts';
import { checkOptionNames } from '../message/option-names.ts';
import { checkedPort, sockaddrOfAddress, sockaddrOfPath } from '../message/sockaddr.ts';

/**
 * How to open a socket; everything is optional.
 *
 * @example
 * ```ts
 * import { DatagramSocket, type SocketOptions } from 'rx-sendmmsg';
 * const options: SocketOptions = { bind: { address: '::1' }, sendBufferSize: 1 << 20 };
 * DatagramSocket.open(options).close();
 * ```
 * @see {@link https://nodejs.org/api/dgram.html#dgramcreatesocketoptions-callback | dgram.createSocket}, {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7)}
 */
export interface SocketOptions {
  /**
   * `'udp4'`, `'udp6'`, or `'unix'` for a unix datagram socket. Default: what the address or the path in `connect`,
   * else in `bind`, is for; `'udp4'` where they say nothing.
   */
  readonly type?: 'udp4' | 'udp6' | 'unix' | undefined;
  /** Local address and port (0 or none: any), or a path; a leading NUL byte names an abstract one. */
  readonly bind?:
    | { readonly address?: string | undefined; readonly port?: number | undefined }
    | { readonly path: string }
    | undefined;
  /** The peer. Bare payloads may be sent then, and addressed datagrams are rejected. */
  readonly connect?: { readonly address: string; readonly port: number } | { readonly path: string } | undefined;
  /** SO_REUSEADDR. */
  readonly reuseAddr?: boolean | undefined;
  /** SO_REUSEPORT: the kernel spreads incoming datagrams over the sockets of a port. */
  readonly reusePort?: boolean | undefined;
  /** IPV6_V6ONLY. */
  readonly ipv6Only?: boolean | undefined;
  /** SO_BROADCAST: without it, the kernel refuses broadcast addresses with EACCES. */
  readonly broadcast?: boolean | undefined;
  /** SO_BINDTODEVICE: the interface, by its name, that all datagrams leave by and come in by. Linux only. */
  readonly bindToDevice?: string | undefined;
  /** SO_SNDBUF, bytes; the kernel doubles it. */
  readonly sendBufferSize?: number | undefined;
  /** SO_RCVBUF, bytes; the kernel doubles it. */
  readonly recvBufferSize?: number | undefined;
  /**
   * Whether the socket has to send by native calls, sendmmsg(2) or sendmsg(2): with `'required'` opening it throws
   * `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`, with the reason, where only node:dgram is to be had. Default `'auto'`.
   */
  readonly native?: 'auto' | 'required' | undefined;
}

/** An address as the kernel takes it, and as it was written. */
export interface SocketName {
  readonly sockaddr: Sockaddr;
  readonly address?: string;
  readonly port?: number;
  readonly path?: string;
}

/** The options, checked. */
export interface ResolvedSocketOptions {
  readonly type: 'udp4' | 'udp6' | 'unix';
  readonly family: number;
  readonly bind: SocketName | undefined;
  readonly connect: SocketName | undefined;
  readonly reuseAddr: boolean;
  readonly reusePort: boolean;
  readonly ipv6Only: boolean;
  readonly broadcast: boolean;
  readonly bindToDevice: string | undefined;
  readonly sendBufferSize: number | undefined;
  readonly recvBufferSize: number | undefined;
  readonly isNativeRequired: boolean;
}

const SOCKET_OPTIONS: readonly (keyof SocketOptions)[] = [
  'type',
  'bind',
  'connect',
  'reuseAddr',
  'reusePort',
  'ipv6Only',
  'broadcast',
  'bindToDevice',
  'sendBufferSize',
  'recvBufferSize',
  'native',
];
const NAME_OPTIONS: readonly string[] = ['address', 'port', 'path'];

type SocketType = 'udp4' | 'udp6' | 'unix';
type NameOption = 'bind' | 'connect';

interface GivenName {
  readonly address?: unknown;
  readonly port?: unknown;
  readonly path?: unknown;
  readonly value: object;
}

const FAMILY = { udp4: AF_INET, udp6: AF_INET6, unix: AF_UNIX } as const;
const ANY_ADDRESS = { udp4: '0.0.0.0', udp6: '::' } as const;
const LOCAL_HOST = { udp4: '127.0.0.1', udp6: '::1' } as const;

/** Checks the options of `DatagramSocket.open`. Throws SendmmsgError. */
export function resolveSocketOptions(options: SocketOptions): ResolvedSocketOptions {
  if (typeof options !== 'object' || options === null) throw argumentTypeError('"options"', 'an object', options);
  checkOptionNames('options', options, SOCKET_OPTIONS);
  const { type: givenType, reuseAddr, reusePort, ipv6Only, broadcast, bindToDevice } = options;
  if (givenType !== undefined && !isSocketType(givenType)) throw badSocketTypeError(givenType);
  const bind = givenName('bind', options.bind);
  const connect = givenName('connect', options.connect);
  const peerType = typeMeant(connect);
  const type = givenType ?? peerType ?? typeMeant(bind) ?? 'udp4';
  const followsPeer = givenType === undefined && peerType !== undefined;
  return {
    type,
    family: FAMILY[type],
    bind: bind === undefined ? undefined : resolveName('bind', type, bind, followsPeer),
    connect: connect === undefined ? undefined : resolveName('connect', type, connect, false),
    reuseAddr: flag('reuseAddr', reuseAddr),
    reusePort: flag('reusePort', reusePort),
    ipv6Only: flag('ipv6Only', ipv6Only),
    broadcast: flag('broadcast', broadcast),
    bindToDevice: text('bindToDevice', bindToDevice),
    sendBufferSize: bufferSize('sendBufferSize', options.sendBufferSize),
    recvBufferSize: bufferSize('recvBufferSize', options.recvBufferSize),
    isNativeRequired: isRequired(options.native),
  };
}

/** The peer of `socket.connect`: a port and an address (as in node:dgram the local host if there is none), or a path. */
export function resolvePeer(family: number, where: unknown, address: unknown): SocketName {
  if (family === AF_UNIX) {
    if (address !== undefined) throw argumentValueError('"address"', `must be left out ${IS_UNIX}`, address);
    if (typeof where !== 'string') throw argumentTypeError('"path"', `a string ${IS_UNIX}`, where);
    return { sockaddr: sockaddrOfPath(where), path: where };
  }
  if (typeof where === 'string' && !/^\d+$/.test(where)) throw badPortError(where, 1, A_PATH);
  const port = checkedPort(where);
  const literal = address === undefined ? LOCAL_HOST[family === AF_INET ? 'udp4' : 'udp6'] : address;
  const sockaddr = sockaddrOfAddress(literal);
  const name = { address: literal as string, port };
  if (sockaddr.family !== family) throw wrongFamilyError('connect', family, name);
  return { sockaddr, ...name };
}

const A_PATH = "a path needs type 'unix'";
const IS_UNIX = "for a unix socket; an address needs type 'udp4' or 'udp6'";

function isSocketType(type: unknown): type is SocketType {
  return typeof type === 'string' && Object.hasOwn(FAMILY, type);
}

/** What `bind` or `connect` hold; read once. */
function givenName(option: NameOption, value: unknown): GivenName | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null) throw argumentTypeError(`"options.${option}"`, 'an object', value);
  checkOptionNames(`options.${option}`, value, NAME_OPTIONS);
  const { address, port, path } = value as Omit<GivenName, 'value'>;
  return { address, port, path, value };
}

/** The type of socket that a name is for, as far as it says so. */
function typeMeant(name: GivenName | undefined): SocketType | undefined {
  if (typeof name?.address === 'string') return typeOf({ address: name.address });
  return name?.path !== undefined && name.address === undefined && name.port === undefined ? 'unix' : undefined;
}

/** @param followsPeer - whether `type` is what `connect` is for */
function resolveName(option: NameOption, type: SocketType, given: GivenName, followsPeer: boolean): SocketName {
  const { address, port, path, value } = given;
  const forType = `for a ${type} socket${followsPeer ? ', as "options.connect" is' : ''}`;
  if (type === 'unix') {
    if (address !== undefined || port !== undefined) {
      const why = `must be { path } ${forType}; an address needs type 'udp4' or 'udp6'`;
      throw argumentValueError(`"options.${option}"`, why, value);
    }
    return { sockaddr: said(option, () => sockaddrOfPath(path)), path: path as string };
  }
  if (path !== undefined) {
    throw argumentValueError(`"options.${option}"`, `must be { address, port } ${forType}; ${A_PATH}`, value);
  }
  const isLocal = option === 'bind';
  const literal = address ?? (isLocal ? ANY_ADDRESS[type] : address);
  const sockaddr = said(option, () => sockaddrOfAddress(literal));
  const checked = said(option, () => checkedPort(port ?? (isLocal ? 0 : port), isLocal ? 0 : 1));
  const name = { address: literal as string, port: checked };
  if (sockaddr.family === FAMILY[type]) return { sockaddr, ...name };
  if (!followsPeer) throw wrongFamilyError(option, FAMILY[type], name);
  const remedy = `"options.connect" is for a ${type} socket, "options.bind" for a ${typeOf(name)} one: give one family`;
  throw systemError(EAFNOSUPPORT, option, name, remedy);
}

/** What is wrong with an address, said of the option that it stands in. */
function said<Parsed>(option: string, parse: () => Parsed): Parsed {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof SendmmsgError)) throw error;
    throw new SendmmsgError(`"options.${option}": ${error.message}`, error);
  }
}

function flag(name: string, value: unknown): boolean {
  if (value !== undefined && typeof value !== 'boolean') {
    throw argumentTypeError(`"options.${name}"`, 'a boolean', value);
  }
  return value === true;
}

function isRequired(native: unknown): boolean {
  if (native === undefined || native === 'auto') return false;
  if (native === 'required') return true;
  throw argumentValueError('"options.native"', "must be 'auto' or 'required'", native);
}

function text(name: string, value: unknown): string | undefined {
  if (value !== undefined && typeof value !== 'string') throw argumentTypeError(`"options.${name}"`, 'a string', value);
  return value;
}

function bufferSize(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number') throw argumentTypeError(`"options.${name}"`, 'a number', value);
  if (!Number.isInteger(value) || value < 1 || value > 0x3fffffff) throw badBufferSizeError(name, value);
  return value;
}
