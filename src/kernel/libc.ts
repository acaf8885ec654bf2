/**
 * The system calls, each returning a count or `-errno`: one number, with errno read inside the call.
 *
 * One of the only three files that know koffi. Pointers are made here and nowhere else: an {@link Arena} is one
 * ArrayBuffer whose backing store does not move, addressed by byte offset; a call takes the arena itself, so it is
 * referenced until the call has returned (on the thread pool, by the callback's closure).
 *
 * Loading is lazy and never throws on import: where koffi has no build, or on anything but 64-bit little-endian Linux,
 * {@link libc} is `undefined`, {@link findSender} says why, and the socket falls back to node:dgram.
 */
import {
  EPOLL_EVENT_SIZE,
  IFNAMSIZ,
  IS_LITTLE_ENDIAN,
  MAX_VLEN,
  MMSGHDR_SIZE,
  MSG_LEN,
  SYS_RECVMMSG,
  SYS_SENDMMSG,
} from './abi.ts';
import { EBADF, EFAULT, EINVAL, ENOMEM, errnoName } from './errno.ts';
import { SendmmsgError } from './errors.ts';
import { type FoundKoffi, findKoffi } from './koffi.ts';

type Call = (...args: (number | bigint | string | Uint8Array | Int32Array | Uint32Array | null)[]) => number;
type AsyncCall = (...args: [...(number | bigint)[], (error: unknown, result: number) => void]) => void;

/** One allocation, handed to the kernel by offset. Pointers in it point into it. */
export class Arena {
  readonly u8: Buffer;
  readonly u32: Uint32Array;
  readonly #base: number;
  /** The two halves of it. */
  readonly #low: number;
  readonly #high: number;

  constructor(buffer: ArrayBuffer, base: number) {
    this.u8 = Buffer.from(buffer);
    this.u32 = new Uint32Array(buffer);
    this.#base = base;
    this.#high = Math.floor(base / 4294967296);
    this.#low = base - this.#high * 4294967296;
  }

  /** Writes at byte `at` (a multiple of 4) the pointer to byte `target` of this arena, or of another one. */
  writePointer(at: number, target: number, arena: Arena = this): void {
    const pointer = arena.#base + target;
    this.u32[at >>> 2] = pointer;
    this.u32[(at >>> 2) + 1] = pointer / 4294967296;
  }

  /**
   * Writes at byte `at` an iovec: `length` bytes from byte `offset` on of an arena. Only what changes is written: a line of memory that
   * another core reads, too, stays with both.
   */
  writeIovec(at: number, arena: Arena, offset: number, length: number): void {
    const { u32 } = this;
    const word = at >>> 2;
    let low = arena.#low + offset;
    let high = arena.#high;
    if (low > 0xffffffff) {
      low -= 4294967296;
      high++;
    }
    if (u32[word] !== low) u32[word] = low;
    if (u32[word + 1] !== high) u32[word + 1] = high;
    if (u32[word + 2] !== length) u32[word + 2] = length;
  }

  /** @internal for this file: the address of byte `at`, below 2^53 as every user-space address is. */
  static addressOf(arena: Arena, at: number): number {
    return arena.#base + at;
  }
}

/** Which call does the sending. */
export type NativeBackend = 'sendmmsg' | 'sendmsg';

/** The calls, bound once per thread. All return ≥ 0, or `-errno`. */
export interface Libc {
  allocate(bytes: number): Arena;
  /** Sends one datagram; only where nothing else of it matters. */
  sendto(fd: number, payload: Uint8Array, flags: number, sockaddr: Uint8Array): number;
  recvmmsg(fd: number, arena: Arena, at: number, vlen: number, flags: number): number;
  /** Into the `msghdr` at byte `at`: the length of the datagram. */
  recvmsg(fd: number, arena: Arena, at: number, flags: number): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, sockaddr: Uint8Array): number;
  connect(fd: number, sockaddr: Uint8Array): number;
  getsockname(fd: number): Uint8Array | number;
  getpeername(fd: number): Uint8Array | number;
  /** Sets an option to an int, or to the bytes of a struct. */
  setsockopt(fd: number, level: number, name: number, value: number | Uint8Array): number;
  /** The option's value (an int ≥ 0), or `-errno`. */
  getsockopt(fd: number, level: number, name: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  /** The number of an interface; 0 if there is none of that name. */
  ifNametoindex(name: string): number;
  /** The name of an interface; `''` if there is none of that number. */
  ifIndextoname(index: number): string;
  /** Makes `to` another number of what `fd` is, whatever it was before. */
  dup3(fd: number, to: number, flags: number): number;
  epollCreate1(flags: number): number;
  epollCtl(epoll: number, operation: number, fd: number, events: number): number;
  /** Whether poll(2), which does not wait here, tells any of `events`, or an error. */
  isReady(fd: number, events: number): boolean;
  close(fd: number): number;
}

/** The same with a call that sends many. */
export interface SendingLibc extends Libc {
  readonly backend: NativeBackend;
  sendmmsg(fd: number, arena: Arena, at: number, vlen: number, flags: number): number;
  /**
   * The same on libuv's thread pool; `done` gets what {@link sendmmsg} would have returned. Where that takes a call for each
   * message, `isWanted` is asked before each but the first.
   */
  sendmmsgAsync(
    fd: number,
    arena: Arena,
    at: number,
    vlen: number,
    flags: number,
    done: (n: number) => void,
    isWanted: () => boolean,
  ): void;
}

/** Why something cannot be had, and what to do about it. */
export interface Lack {
  readonly reason: string;
  readonly remedy: string;
}

/** The calls of a sender, and why they are not those that were wanted, or why there are none. */
export interface FoundSender {
  readonly libc?: SendingLibc;
  readonly lack?: Lack;
}

/** The bound calls; `undefined` where there are none to be had. Loaded on first use. */
export function libc(): Libc | undefined {
  return bindings().bound?.calls;
}

/** The calls that send: with sendmmsg(2), if that is wanted and not missing, else with sendmsg(2) in its place. */
export function findSender(wanted: NativeBackend): FoundSender {
  const { bound, lack } = bindings();
  if (bound === undefined) return { lack: lack! };
  if (wanted === 'sendmsg') return { libc: bound.sendmsg };
  // Not before it is wanted: a filter may end the process that makes the call.
  missing ??= whatIsMissing(bound.sendmmsg);
  return missing === PRESENT ? { libc: bound.sendmmsg } : { libc: bound.sendmsg, lack: missing };
}

interface Bound {
  readonly calls: Libc;
  readonly sendmmsg: SendingLibc;
  readonly sendmsg: SendingLibc;
}
interface Bindings {
  readonly bound?: Bound;
  readonly lack?: Lack;
}

const PRESENT: Lack = { reason: '', remedy: '' };
let found: Bindings | undefined;
let missing: Lack | undefined;

function bindings(): Bindings {
  found ??= find();
  return found;
}

function find(): Bindings {
  const { platform, arch } = process;
  const nothing = 'Nothing is to be done about it here.';
  if (platform !== 'linux') return { lack: { reason: `there is no sendmmsg(2) on ${platform}`, remedy: nothing } };
  if (!IS_LITTLE_ENDIAN || !(arch in SYS_SENDMMSG)) {
    const reason = `native calls are made on ${Object.keys(SYS_SENDMMSG).join(', ')}, little-endian, and not on ${arch}`;
    return { lack: { reason: `${reason}, ${IS_LITTLE_ENDIAN ? 'little' : 'big'}-endian`, remedy: nothing } };
  }
  const { koffi, failure } = findKoffi();
  if (koffi === undefined) {
    return { lack: { reason: failure, remedy: 'A bundle leaves koffi out, and has it installed beside it.' } };
  }
  return { bound: bind(koffi) };
}

/**
 * Asks for nothing, vlen 0, of no descriptor. The call itself answers that with EBADF, or, where it is emulated and looks at its
 * arguments in another order, with 0, EFAULT or EINVAL (qemu-user, gVisor). What else comes is said by something in front of it: a
 * seccomp filter, whose author chooses the errno. Docker has EPERM, newer runtimes ENOSYS for what they do not know, systemd
 * any (`SystemCallErrorNumber=`). Of sendmsg(2), which is tried next, such filters know.
 */
function whatIsMissing({ allocate, sendmmsg }: SendingLibc): Lack {
  const answer = sendmmsg(-1, allocate(MMSGHDR_SIZE), 0, 0, 0);
  if (answer >= 0 || answer === -EBADF || answer === -EFAULT || answer === -EINVAL) return PRESENT;
  const reason = `sendmmsg(2) is answered with ${errnoName(-answer)}`;
  return {
    reason,
    remedy: 'Most likely it is a seccomp filter (of a container, or a service) that does not allow it: let it.',
  };
}

/**
 * Memory for a queue and its batch where no system call will read it (the node:dgram fallback): pointers are plain offsets.
 */
export function allocateDetached(bytes: number): Arena {
  return new Arena(newMemory(bytes), 0);
}

function newMemory(bytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(bytes);
  } catch (cause) {
    const remedy = 'lower "highWaterMark", "highWaterMarkBytes" or "lanes"';
    throw new SendmmsgError(`There is no memory for ${bytes} bytes of a queue: ${remedy}`, {
      code: 'ENOMEM',
      errno: ENOMEM,
      cause,
    });
  }
}

function bind(ffi: NonNullable<FoundKoffi['koffi']>): Bound {
  const library = ffi.load(null); // the process's own symbols: its libc, whatever its path
  const declare = (prototype: string): Call & { async: AsyncCall } =>
    library.func(prototype) as Call & { async: AsyncCall };
  const errno = ffi.errno as () => number;
  const checked =
    (call: Call): Call =>
    (...args) => {
      const result = call(...args);
      return result < 0 ? -errno() : result;
    };

  // By number, past the C library: musl's sendmmsg() is a loop over sendmsg(2), and what wraps one library in another (gcompat)
  // hides which it is. The variadic integers of syscall(2) travel in registers on every architecture of SYS_SENDMMSG.
  const sendmmsg = declare(
    'intptr_t syscall(intptr_t number, intptr_t fd, uint64_t msgvec, intptr_t vlen, intptr_t flags)',
  );
  const recvmmsg = declare(
    'intptr_t syscall(intptr_t number, intptr_t fd, uint64_t msgvec, intptr_t vlen, intptr_t flags, intptr_t timeout)',
  );
  const sendNumber = SYS_SENDMMSG[process.arch]!;
  const receiveNumber = SYS_RECVMMSG[process.arch]!;
  const sendmsg = declare('intptr_t sendmsg(int fd, uint64_t msg, int flags)');
  const sendto = checked(
    declare('intptr_t sendto(int fd, void *buffer, size_t length, int flags, void *addr, unsigned int len)'),
  );
  const recvmsg = declare('intptr_t recvmsg(int fd, uint64_t msg, int flags)');
  const socket = checked(declare('int socket(int domain, int type, int protocol)'));
  const bindCall = checked(declare('int bind(int fd, void *addr, unsigned int len)'));
  const connect = checked(declare('int connect(int fd, void *addr, unsigned int len)'));
  const getsockname = checked(declare('int getsockname(int fd, void *addr, void *len)'));
  const getpeername = checked(declare('int getpeername(int fd, void *addr, void *len)'));
  const setsockopt = checked(declare('int setsockopt(int fd, int level, int name, void *value, unsigned int len)'));
  const getsockopt = checked(declare('int getsockopt(int fd, int level, int name, void *value, void *len)'));
  const ifNametoindex = declare('unsigned int if_nametoindex(const char *name)');
  const ifIndextoname = declare('uintptr_t if_indextoname(unsigned int index, void *name)');
  const fcntl = checked(declare('int fcntl(int fd, int command, int argument)'));
  const close = checked(declare('int close(int fd)'));
  const dup3 = checked(declare('int dup3(int fd, int to, int flags)'));
  const epollCreate1 = checked(declare('int epoll_create1(int flags)'));
  const epollCtl = checked(declare('int epoll_ctl(int epoll, int operation, int fd, void *event)'));
  const poll = declare('int poll(void *fds, unsigned long count, int timeout)');
  const pollfd = new Int32Array(2); // struct pollfd { int fd; short events; short revents; }

  const name = (call: Call, fd: number): Uint8Array | number => {
    const bytes = new Uint8Array(128);
    const length = Int32Array.of(bytes.length);
    const result = call(fd, bytes, length);
    return result < 0 ? result : bytes.subarray(0, Math.min(length[0]!, bytes.length));
  };

  const calls: Libc = {
    allocate(bytes) {
      const buffer = newMemory(bytes);
      return new Arena(buffer, Number(ffi.address(new Uint8Array(buffer))));
    },
    sendto: (fd, payload, flags, sockaddr) =>
      sendto(fd, payload, payload.byteLength, flags, sockaddr, sockaddr.byteLength),
    recvmmsg(fd, arena, at, vlen, flags) {
      const n = recvmmsg(receiveNumber, fd, Arena.addressOf(arena, at), vlen, flags, 0);
      return n < 0 ? -errno() : n;
    },
    recvmsg(fd, arena, at, flags) {
      const n = recvmsg(fd, Arena.addressOf(arena, at), flags);
      return n < 0 ? -errno() : n;
    },
    socket,
    bind: (fd, sockaddr) => bindCall(fd, sockaddr, sockaddr.byteLength),
    connect: (fd, sockaddr) => connect(fd, sockaddr, sockaddr.byteLength),
    getsockname: (fd) => name(getsockname, fd),
    getpeername: (fd) => name(getpeername, fd),
    setsockopt(fd, level, option, value) {
      const bytes = typeof value === 'number' ? Int32Array.of(value) : value;
      return setsockopt(fd, level, option, bytes, bytes.byteLength);
    },
    getsockopt(fd, level, option) {
      const value = new Int32Array(1);
      const result = getsockopt(fd, level, option, value, Int32Array.of(4));
      return result < 0 ? result : value[0]!;
    },
    ifNametoindex,
    ifIndextoname(index) {
      const bytes = Buffer.alloc(IFNAMSIZ);
      return ifIndextoname(index, bytes) ? bytes.toString('utf8', 0, bytes.indexOf(0)) : '';
    },
    fcntl,
    dup3,
    epollCreate1,
    epollCtl(epoll, operation, fd, events) {
      const event = new Uint32Array(EPOLL_EVENT_SIZE / 4);
      event[0] = events;
      return epollCtl(epoll, operation, fd, event);
    },
    isReady(fd, events) {
      pollfd[0] = fd;
      pollfd[1] = events;
      return poll(pollfd, 1, 0) > 0;
    },
    close,
  };

  /** sendmmsg(2) as its page tells it, over sendmsg(2): a count, or `-errno` only if the first was refused. */
  const sendEach = (fd: number, arena: Arena, at: number, vlen: number, flags: number): number => {
    const count = Math.min(vlen, MAX_VLEN);
    for (let index = 0; index < count; index++) {
      const header = at + index * MMSGHDR_SIZE;
      const n = sendmsg(fd, Arena.addressOf(arena, header), flags);
      if (n < 0) return index > 0 ? index : -errno();
      arena.u32[(header + MSG_LEN) >>> 2] = n;
    }
    return count;
  };
  /** The same on the thread pool: one after another, since the next one must not overtake, and must not go where one has failed. */
  const sendEachAsync: SendingLibc['sendmmsgAsync'] = (fd, arena, at, vlen, flags, done, isWanted) => {
    const count = Math.min(vlen, MAX_VLEN);
    let index = 0;
    const start = (): void =>
      sendmsg.async(fd, Arena.addressOf(arena, at + index * MMSGHDR_SIZE), flags, (_error, n) => {
        if (n < 0) return done(index > 0 ? index : -errno());
        // Writing there keeps the memory alive until the call has returned, too.
        arena.u32[(at + index * MMSGHDR_SIZE + MSG_LEN) >>> 2] = n;
        index++;
        if (index === count || !isWanted()) return done(index);
        try {
          start();
        } catch {
          done(index); // no more calls at once (`max_async_calls`): the rest is asked for anew
        }
      });
    start();
  };
  return {
    calls,
    sendmmsg: {
      ...calls,
      backend: 'sendmmsg',
      sendmmsg(fd, arena, at, vlen, flags) {
        const n = sendmmsg(sendNumber, fd, Arena.addressOf(arena, at), vlen, flags);
        return n < 0 ? -errno() : n;
      },
      sendmmsgAsync(fd, arena, at, vlen, flags, done) {
        sendmmsg.async(sendNumber, fd, Arena.addressOf(arena, at), vlen, flags, (_error, n) => {
          // Naming the arena here keeps its memory alive until the call has returned.
          done(n < 0 && arena !== undefined ? -errno() : n);
        });
      },
    },
    sendmsg: {
      ...calls,
      backend: 'sendmsg',
      sendmmsg: sendEach,
      sendmmsgAsync: sendEachAsync,
    },
  };
}
