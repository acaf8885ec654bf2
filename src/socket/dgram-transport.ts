/**
 * The fallback where there is no sendmmsg(2): node:dgram, one datagram at a time.
 *
 * One at a time, because node:dgram says only in a callback what became of a datagram, and the one behind it must not
 * overtake. It reads the same batch: its pointers are plain offsets there.
 */
import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { AF_INET, AF_INET6 } from '../kernel/abi.ts';
import { EBADF, EIO, errnoOf } from '../kernel/errno.ts';
import { dgramError, unavailableError } from '../kernel/errors.ts';
import { type Arena, allocateDetached } from '../kernel/libc.ts';
import { decodeSockaddr } from '../message/sockaddr.ts';
import type { Batch } from '../queue/batch.ts';
import { SharedSocket } from './shared-socket.ts';
import type { SocketControls } from './socket-controls.ts';
import type { SocketName } from './socket-options.ts';
import { destinationOf, type Transport, TransportState } from './transport.ts';

/** How to open it; as in `node:dgram`. */
export interface DgramTransportOptions {
  readonly type: 'udp4' | 'udp6';
  readonly reuseAddr: boolean;
  readonly reusePort: boolean;
  readonly ipv6Only: boolean;
  readonly broadcast: boolean;
  readonly bindToDevice?: string | undefined;
  readonly sendBufferSize?: number | undefined;
  readonly recvBufferSize?: number | undefined;
  readonly bind?: { readonly address?: string | undefined; readonly port?: number } | undefined;
  readonly connect?: { readonly address: string; readonly port: number } | undefined;
}

/** Datagrams sent one after another in a turn of the event loop. */
const ANSWERS_PER_TURN = 64;

export class DgramTransport extends TransportState implements Transport {
  readonly backend = 'node:dgram';
  readonly family: number;
  readonly takesFlags = false;
  readonly supportsGso = false;
  readonly supportsControl = false;
  readonly cutsDatagrams = false;
  readonly sendmmsg = null;
  readonly socket: Socket;
  readonly #shared: SharedSocket;
  #answers = 0;
  /** What reading has told of a datagram that was sent before: as in the kernel the next call answers with it. */
  #pendingError = 0;

  /** Throws what node:dgram throws. Binding and connecting to a literal address is done when this returns. */
  constructor(options: DgramTransportOptions) {
    const { type, reuseAddr, reusePort, ipv6Only, sendBufferSize, recvBufferSize } = options;
    super(options.connect === undefined ? null : destinationOf(options.connect));
    if (process.versions['bun'] !== undefined) {
      throw unavailableError(
        'Sending',
        'node:dgram of Bun binds a socket in a later turn only, and native calls are not to be had',
      );
    }
    if (options.bindToDevice !== undefined) throw unavailableError('bindToDevice');
    if (reusePort && !knowsReusePort()) throw unavailableError('reusePort', 'node:dgram has it from Node.js 22.12 on');
    this.family = type === 'udp4' ? AF_INET : AF_INET6;
    this.socket = createSocket({
      type,
      reuseAddr,
      ...(reusePort && { reusePort }),
      ipv6Only,
      // Addresses are literal here, so the answer can be given at once: bind and connect then act at once, too.
      lookup: (hostname, _options, answer) => answer(null, hostname, isIPv6(hostname) ? 6 : 4),
    });
    const failures: Error[] = [];
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      failures[0] ??= error;
      if (error.syscall === 'recvmsg') this.#pendingError = errnoOf(error.code ?? '');
    });
    this.socket.unref();
    this.#shared = new SharedSocket(this.socket, type);
    this.socket.bind({ port: options.bind?.port ?? 0, address: options.bind?.address, exclusive: true });
    try {
      if (failures[0] !== undefined) throw failures[0]; // a bind that failed may still have an address, 0.0.0.0:0
      this.socket.address();
      if (options.broadcast) this.socket.setBroadcast(true);
      if (sendBufferSize !== undefined) this.socket.setSendBufferSize(sendBufferSize);
      if (recvBufferSize !== undefined) this.socket.setRecvBufferSize(recvBufferSize);
      if (options.connect !== undefined) this.#connect(options.connect);
    } catch (error) {
      this.socket.close();
      throw error;
    }
  }

  get controls(): SocketControls {
    return this.socket;
  }

  bindToDevice(): never {
    throw unavailableError('bindToDevice');
  }

  setDontFragment(): never {
    throw unavailableError('setDontFragment');
  }

  mtu(): never {
    throw unavailableError('mtu');
  }

  allocate(bytes: number): Arena {
    return allocateDetached(bytes);
  }

  sendmmsgLater(batch: Batch, _vlen: number, _flags: number, done: (answer: number) => void): void {
    if (this.isClosed) {
      setImmediate(done, -EBADF);
      return;
    }
    // node:dgram answers before the event loop turns: every so often it is let turn, so that timers and I/O have theirs.
    const tell = (n: number): void => {
      if (++this.#answers % ANSWERS_PER_TURN === 0) setImmediate(done, n);
      else done(n);
    };
    const answer = (error: (Error & { code?: string }) | null): void =>
      tell(error === null ? 1 : -(this.isClosed ? EBADF : errnoOf(error.code ?? '') || EIO));
    const late = this.takeError();
    if (late > 0) {
      setImmediate(done, -late);
      return;
    }
    const target = decodeSockaddr(batch.headName());
    const payload = batch.headPayload();
    try {
      if ('address' in target) this.socket.send(payload, target.port, target.address, answer);
      else this.socket.send(payload, answer);
    } catch (error) {
      setImmediate(answer, error as Error);
    }
  }

  takeError(): number {
    const errno = this.#pendingError;
    this.#pendingError = 0;
    return errno;
  }

  reconnect(): number {
    return 0;
  }

  isShutDown(): boolean {
    return true;
  }

  waitWritable(): null {
    return null;
  }

  protected override applyPeer(name: SocketName | null): void {
    try {
      if (name === null) this.socket.disconnect();
      else this.#connect(name as { address: string; port: number });
    } catch (error) {
      throw dgramError(error);
    }
  }

  /** A socket on the same port that is closed apart. */
  lend(): Socket {
    return this.#shared.lend();
  }

  protected override release(): void {
    this.#shared.close();
  }

  #connect({ address, port }: { address: string; port: number }): void {
    this.socket.connect(port, address);
    this.socket.remoteAddress(); // throws if it did not connect: why is told too late, in an event
  }
}

/** An older node:dgram ignores the option without a word. */
function knowsReusePort(version: string = process.versions.node): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12);
}
