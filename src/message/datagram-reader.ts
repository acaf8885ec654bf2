/**
 * Reads what the user emitted: what is sent is read here once, before the first byte is written, and what comes out is a
 * snapshot that no user code can change until the queue has copied it. Nothing that is read elsewhere is sent: `conflateBy` sees the
 * datagram before this does, and an error about a missing destination looks for what was meant.
 *
 * One instance a sender, its fields overwritten by each `read`: for bytes and strings the hot path allocates nothing here, for
 * a gathered list its snapshot.
 */
import { types } from 'node:util';
import { AF_UNIX } from '../kernel/abi.ts';
import {
  argumentTypeError,
  argumentValueError,
  outOfRangeError,
  SendmmsgError,
  unavailableError,
} from '../kernel/errors.ts';
import { type Control, controlOf, keepingWhole } from './cmsg.ts';
import { type Datagram, type DatagramLike, Endpoint, type RejectedDatagram, type Sockaddr } from './datagram.ts';
import { connectedError, noDestinationError, wrongFamilyError } from './destination-errors.ts';
import { bytesOf, copyOf, lengthOf, MAX_UTF8, NO_BYTES, snapshotList } from './payload.ts';
import { checkedPort, describeName, sockaddrBytes, sockaddrOfAddress, sockaddrOfPath } from './sockaddr.ts';

const { isUint8Array } = types;
const { isView } = ArrayBuffer;

const NO_PARTS: readonly (string | Uint8Array)[] = [];

/** What kind of payload the snapshot holds. */
export const TEXT = 0;
export const BYTES = 1;
export const PARTS = 2;

/** The part of a rejection that tells which datagram it was. */
export type DatagramIdentity = Pick<RejectedDatagram, 'address' | 'port' | 'path' | 'payload'>;

type DatagramFields = Partial<Record<keyof Datagram, unknown>>;

export class DatagramReader {
  /** {@link TEXT}, {@link BYTES} or {@link PARTS}: which of the next three is meant. */
  kind: number = BYTES;
  text: string = '';
  bytes: Uint8Array = NO_BYTES;
  parts: readonly (string | Uint8Array)[] = NO_PARTS;
  /** Bytes of each part. */
  readonly partLengths: number[] = [];
  readonly #pair: (string | Uint8Array)[] = ['', ''];
  /** What a newer datagram replaces it by, while it is queued; set by the sender. */
  key: unknown = undefined;
  /** Whether the payload goes to several destinations, one after another. */
  isShared: boolean = false;
  /** Bytes; of a text only the upper bound: it is counted as it is written. */
  byteLength: number = 0;
  /** Where to; `null` on a connected socket. */
  sockaddr: Sockaddr | null = null;
  port: number = 0;
  /** What the datagram says about itself in control messages; `null` where it says nothing. */
  control: Control | null = null;
  /** Bytes of the datagrams that the payload is to be cut into; 0 if it is one. */
  segmentSize: number = 0;

  readonly #family: number;
  readonly #isConnected: boolean;
  readonly #supportsControl: boolean;
  readonly #cutsDatagrams: boolean;
  // What `sockaddr` came from, for the commonest case: the same destination again.
  #lastEndpoint: unknown;
  #lastAddress: unknown;
  // The same of `control`.
  #lastDscp: unknown;
  #lastEcn: unknown;
  #lastFrom: unknown;
  /** What was emitted, where it was refused. */
  #refused: DatagramFields | null = null;

  /**
   * @param family - AF_INET, AF_INET6 or AF_UNIX
   * @param supportsControl - whether control messages can be sent
   * @param cutsDatagrams - whether the socket cuts a datagram that does not say otherwise
   */
  constructor(family: number, isConnected: boolean, supportsControl = true, cutsDatagrams = false) {
    this.#family = family;
    this.#isConnected = isConnected;
    this.#supportsControl = supportsControl;
    this.#cutsDatagrams = cutsDatagrams;
    if (cutsDatagrams) this.control = keepingWhole(null);
  }

  /** Takes a snapshot. Throws SendmmsgError if the datagram cannot be sent on this socket. */
  read(datagram: DatagramLike): void {
    let payload: unknown = datagram;
    let address: unknown;
    let port: unknown;
    let path: unknown;
    let to: unknown;
    let dscp: unknown;
    let ecn: unknown;
    let from: unknown;
    let segmentSize: unknown;
    let isBare = typeof datagram !== 'object' || datagram === null || isView(datagram);
    if (!isBare) {
      try {
        isBare = Array.isArray(datagram);
        if (!isBare) ({ payload, address, port, path, to, dscp, ecn, from, segmentSize } = datagram as DatagramFields);
      } catch (cause) {
        throw this.#unreadable(datagram, cause, address, port, path);
      }
    }
    this.segmentSize = 0;
    // The commonest shapes first: a string or some bytes to where the datagram before went.
    if (
      segmentSize === undefined &&
      (isBare ? this.#isConnected : this.#isSameDestination(address, port, path, to)) &&
      this.#isSameControl(dscp, ecn, from)
    ) {
      if (typeof payload === 'string') {
        this.kind = TEXT;
        this.text = payload;
        this.byteLength = payload.length * MAX_UTF8;
        return;
      }
      if (isUint8Array(payload)) return this.#readBytes(payload);
      if (Array.isArray(payload)) return this.#readParts(this.#snapshot(payload, address, port, path));
    }
    // In methods of their own, so that this one is short enough for V8 to inline (460 bytes of bytecode).
    this.#readAny(datagram, payload, address, port, path, to);
    this.#readMarks(dscp, ecn, from, segmentSize);
  }

  /** Takes a snapshot of a payload that goes to many: {@link readPeer} then says where to. */
  readShared(payload: unknown): void {
    let parts = payload;
    this.#refused = {};
    if (Array.isArray(payload)) parts = snapshotList(payload, this.partLengths, this.#pair);
    this.#refused = { payload: parts };
    this.#readPayload(parts);
    this.#readControl(undefined, undefined, undefined);
    this.segmentSize = 0;
    this.#refused = null;
    this.isShared = true;
  }

  /** The next destination of a shared payload. */
  readPeer(to: unknown): void {
    try {
      if (to === undefined) throw argumentTypeError('"to"', 'made by endpoint()', to);
      this.#readDestination(undefined, undefined, undefined, to);
    } catch (error) {
      this.#refused = { payload: this.#parsed().payload, to };
      throw error;
    }
  }

  /** The length in bytes; of a text, counted. */
  exactLength(): number {
    if (this.kind === TEXT) this.byteLength = Buffer.byteLength(this.text);
    return this.byteLength;
  }

  /** Which datagram was refused last, with a copy of its bytes as far as they can be read. */
  identify(): DatagramIdentity {
    const { payload, to, ...given } = this.#refused ?? this.#parsed();
    this.#refused = null;
    const isEndpoint = typeof to === 'object' && to !== null && Endpoint.sockaddrOf(to as Endpoint) !== undefined;
    const { address, port, path } = isEndpoint ? { ...(to as Endpoint), path: undefined } : given;
    return {
      ...(typeof address === 'string' && { address }),
      ...(typeof port === 'number' && { port }),
      ...(typeof path === 'string' && { path }),
      payload: copyOf(payload),
    };
  }

  /** Lets go of the user's buffers. */
  clear(): void {
    this.isShared = false;
    this.key = undefined;
    this.text = '';
    this.bytes = NO_BYTES;
    this.parts = NO_PARTS;
    this.#pair[0] = this.#pair[1] = '';
    this.#refused = null;
  }

  /** What was read, where the queue refused it. */
  #parsed(): DatagramFields {
    const { kind, sockaddr, port } = this;
    return {
      payload: kind === TEXT ? this.text : kind === BYTES ? this.bytes : this.parts,
      ...(sockaddr !== null && describeName(sockaddrBytes({ sockaddr, port }))),
    };
  }

  /** Whether the datagram goes where the one before went. */
  #isSameDestination(address: unknown, port: unknown, path: unknown, to: unknown): boolean {
    if (path !== undefined) return false;
    if (to !== undefined) return to === this.#lastEndpoint && address === undefined && port === undefined;
    if (address !== undefined) return address === this.#lastAddress && port === this.port;
    return this.#isConnected && port === undefined;
  }

  #isSameControl(dscp: unknown, ecn: unknown, from: unknown): boolean {
    return dscp === this.#lastDscp && ecn === this.#lastEcn && from === this.#lastFrom;
  }

  /** What is not of the commonest shapes. */
  #readAny(datagram: unknown, payload: unknown, address: unknown, port: unknown, path: unknown, to: unknown): void {
    const parts = Array.isArray(payload) ? this.#snapshot(payload, address, port, path) : payload;
    // From here on no user code runs.
    try {
      this.#readPayload(parts);
      this.#readDestination(address, port, path, to, datagram);
    } catch (error) {
      this.#refused = { payload: parts, address, port, path, to };
      throw error;
    }
  }

  #readMarks(dscp: unknown, ecn: unknown, from: unknown, segmentSize: unknown): void {
    if (!this.#isSameControl(dscp, ecn, from)) this.#readControl(dscp, ecn, from);
    if (segmentSize !== undefined) this.segmentSize = checkedSegmentSize('"segmentSize"', segmentSize);
  }

  /** The parts of a list as they are now: reading them may run user code. */
  #snapshot(
    list: readonly unknown[],
    address: unknown,
    port: unknown,
    path: unknown,
  ): readonly (string | Uint8Array)[] {
    try {
      return snapshotList(list, this.partLengths, this.#pair);
    } catch (cause) {
      const error = this.#unreadable(list, cause, address, port, path);
      throw cause instanceof SendmmsgError ? cause : error;
    }
  }

  /** Reading a value has thrown `cause`. */
  #unreadable(value: unknown, cause: unknown, address: unknown, port: unknown, path: unknown): SendmmsgError {
    this.#refused = { address, port, path };
    return argumentValueError('datagram', 'could not be read', value, cause);
  }

  /** @param datagram - what it is the destination of, for an error to look at */
  #readDestination(address: unknown, port: unknown, path: unknown, to: unknown, datagram?: unknown): void {
    if (this.#isSameDestination(address, port, path, to)) return;
    if (typeof address === 'string' && address === this.#lastAddress && path === undefined && to === undefined) {
      this.port = checkedPort(port);
      return;
    }
    this.#lastEndpoint = this.#lastAddress = undefined;
    const isBare = address === undefined && port === undefined && path === undefined && to === undefined;
    if (this.#isConnected) {
      if (!isBare) throw connectedError();
      this.sockaddr = null;
    } else if (isBare) {
      throw noDestinationError(this.#family, datagram);
    } else if (to !== undefined) {
      this.#readEndpoint(to, address === undefined && port === undefined && path === undefined);
    } else if (path !== undefined) {
      if (address !== undefined || port !== undefined) {
        throw argumentValueError('"path"', 'cannot be combined with "address" or "port"', path);
      }
      const sockaddr = sockaddrOfPath(path);
      if (this.#family !== AF_UNIX) throw wrongFamilyError('sendmmsg', this.#family, { path: path as string });
      this.sockaddr = sockaddr;
      this.port = 0; // where an IP address has its port, a path has its first characters
    } else {
      if (address === undefined) throw noDestinationError(this.#family, datagram);
      const sockaddr = sockaddrOfAddress(address);
      this.port = checkedPort(port);
      this.#checkFamily(sockaddr, address as string, this.port);
      this.sockaddr = sockaddr;
      if (!(address as string).includes('%')) this.#lastAddress = address;
    }
  }

  #readEndpoint(to: unknown, isAlone: boolean): void {
    const sockaddr = typeof to === 'object' && to !== null ? Endpoint.sockaddrOf(to as Endpoint) : undefined;
    if (sockaddr === undefined) throw argumentTypeError('"to"', 'made by endpoint()', to);
    if (!isAlone) throw argumentValueError('"to"', 'cannot be combined with "address", "port" or "path"', to);
    const { address, port } = to as Endpoint;
    this.#checkFamily(sockaddr, address, port);
    this.sockaddr = sockaddr;
    this.port = port;
    this.#lastEndpoint = to;
  }

  #checkFamily(sockaddr: Sockaddr, address: string, port: number): void {
    if (sockaddr.family !== this.#family) throw wrongFamilyError('sendmmsg', this.#family, { address, port });
  }

  #readControl(dscp: unknown, ecn: unknown, from: unknown): void {
    const control = controlOf(this.#family, dscp, ecn, from);
    if (control !== null && !this.#supportsControl) {
      throw unavailableError('A datagram with "dscp", "ecn" or "from"');
    }
    this.control = this.#cutsDatagrams ? keepingWhole(control) : control;
    this.#lastDscp = dscp;
    this.#lastEcn = ecn;
    // A zone's name is looked up each time: nothing equals NaN.
    this.#lastFrom = typeof from === 'string' && from.includes('%') ? Number.NaN : from;
  }

  #readPayload(payload: unknown): void {
    if (typeof payload === 'string') {
      this.kind = TEXT;
      this.text = payload;
      this.byteLength = payload.length * MAX_UTF8;
    } else if (isUint8Array(payload)) {
      this.#readBytes(payload);
    } else if (ArrayBuffer.isView(payload)) {
      this.#readBytes(bytesOf(payload));
    } else if (Array.isArray(payload)) {
      this.#readParts(payload as (string | Uint8Array)[]);
    } else {
      throw argumentTypeError('payload', PAYLOAD_TYPES, payload);
    }
  }

  /** Of a list the snapshot, whose lengths are known. */
  #readParts(parts: readonly (string | Uint8Array)[]): void {
    this.kind = PARTS;
    this.parts = parts;
    let sum = 0;
    for (let index = 0; index < parts.length; index++) sum += this.partLengths[index]!;
    this.byteLength = sum;
  }

  #readBytes(bytes: Uint8Array): void {
    this.kind = BYTES;
    this.bytes = bytes;
    this.byteLength = lengthOf(bytes);
    if (this.byteLength === 0) bytesOf(bytes); // throws if the buffer is detached: its bytes are lost, not none
  }
}

const PAYLOAD_TYPES = 'a string, a Buffer, TypedArray or DataView, or a list of these';

/** The most that a queue may hold. */
const MOST_SEGMENT_SIZE = 2 ** 30;

/** Throws SendmmsgError, which calls it by this name. */
export function checkedSegmentSize(name: string, size: unknown): number {
  if (typeof size !== 'number') throw argumentTypeError(name, 'a number', size);
  if (!Number.isInteger(size) || size < 1 || size > MOST_SEGMENT_SIZE) {
    throw outOfRangeError(name, `an integer >= 1 and <= ${MOST_SEGMENT_SIZE}`, size);
  }
  return size;
}
