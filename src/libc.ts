/**
 * The system calls, each returning a count or `-errno`: one number, with errno read inside the call.
 *
 * One of the only two files that touch koffi. Pointers are made here and nowhere else: an {@link Arena} is one
 * ArrayBuffer whose backing store does not move, addressed by byte offset; a call takes the arena itself, so it is
 * referenced until the call has returned (on the thread pool, by the callback's closure).
 *
 * Loading is lazy and never throws on import: where koffi has no build, or on anything but 64-bit little-endian Linux,
 * {@link libc} is `undefined` and the socket falls back to node:dgram.
 */
import { createRequire } from 'node:module';
import { endianness } from 'node:os';
import { EPOLL_EVENT_SIZE, IFNAMSIZ, MAX_VLEN, MMSGHDR_SIZE, MSG_LEN, SYS_SENDMMSG } from './abi.ts';
import { EBADF } from './errno.ts';

type Koffi = typeof import('koffi');
type Call = (...args: (number | bigint | string | Uint8Array | Int32Array | Uint32Array | null)[]) => number;
type AsyncCall = (...args: [...(number | bigint)[], (error: unknown, result: number) => void]) => void;

/** One allocation, handed to the kernel by offset. Pointers in it point into it. */
export class Arena {
  readonly u8: Buffer;
  readonly u32: Uint32Array;
  readonly #base: number;

  constructor(buffer: ArrayBuffer, base: number) {
    this.u8 = Buffer.from(buffer);
    this.u32 = new Uint32Array(buffer);
    this.#base = base;
  }

  /** Writes at byte `at` (a multiple of 4) the pointer to byte `target` of this arena, or of another one. */
  writePointer(at: number, target: number, arena: Arena = this): void {
    const pointer = arena.#base + target;
    this.u32[at >>> 2] = pointer;
    this.u32[(at >>> 2) + 1] = pointer / 4294967296;
  }

  /** @internal for this file: the address of byte `at`, below 2^53 as every user-space address is. */
  static addressOf(arena: Arena, at: number): number {
    return arena.#base + at;
  }
}

/** Which call does the sending. */
export type NativeBackend = 'sendmmsg' | 'sendmsg';

/** The calls, bound once per process. All return ≥ 0, or `-errno`. */
export interface Libc {
  readonly backend: NativeBackend;
  allocate(bytes: number): Arena;
  sendmmsg(fd: number, arena: Arena, at: number, vlen: number, flags: number): number;
  /** The same on libuv's thread pool; `done` gets what {@link sendmmsg} would have returned. */
  sendmmsgAsync(fd: number, arena: Arena, at: number, vlen: number, flags: number, done: (n: number) => void): void;
  /** Sends one datagram; only where nothing else of it matters. */
  sendto(fd: number, payload: Uint8Array, flags: number, sockaddr: Uint8Array): number;
  recvmmsg(fd: number, arena: Arena, at: number, vlen: number, flags: number): number;
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

/** koffi itself, for `readiness.ts`; `undefined` where it has no build for this platform. */
export function loadKoffi(): Koffi | undefined {
  if (koffi === null) {
    try {
      koffi = createRequire(import.meta.url)('koffi') as Koffi;
    } catch {
      koffi = undefined;
    }
  }
  return koffi;
}
let koffi: Koffi | undefined | null = null;

/** The bound calls; `undefined` where there is no sendmmsg(2) or sendmsg(2) to be had. Loaded on first use. */
export function libc(): Libc | undefined {
  if (bound === null) bound = isSupportedPlatform() ? bind() : undefined;
  return bound;
}
let bound: Libc | undefined | null = null;

function isSupportedPlatform(): boolean {
  return process.platform === 'linux' && endianness() === 'LE' && process.arch in SYS_SENDMMSG;
}

/**
 * Memory for a ring where no system call will read it (the node:dgram fallback): pointers are plain offsets.
 */
export function allocateDetached(bytes: number): Arena {
  return new Arena(new ArrayBuffer(bytes), 0);
}

function bind(): Libc | undefined {
  const ffi = loadKoffi();
  if (ffi === undefined) return undefined;
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

  const sendmmsg = isMusl(library)
    ? bindSyscall(declare)
    : declare('int sendmmsg(int fd, uint64_t msgvec, unsigned int vlen, int flags)');
  const sendmsg = declare('intptr_t sendmsg(int fd, uint64_t msg, int flags)');
  const sendto = checked(
    declare('intptr_t sendto(int fd, void *buffer, size_t length, int flags, void *addr, unsigned int len)'),
  );
  const recvmmsg = declare('int recvmmsg(int fd, uint64_t msgvec, unsigned int vlen, int flags, void *timeout)');
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

  const calls: Omit<Libc, 'backend' | 'sendmmsg' | 'sendmmsgAsync'> = {
    allocate(bytes) {
      const buffer = new ArrayBuffer(bytes);
      return new Arena(buffer, Number(ffi.address(new Uint8Array(buffer))));
    },
    sendto: (fd, payload, flags, sockaddr) =>
      sendto(fd, payload, payload.byteLength, flags, sockaddr, sockaddr.byteLength),
    recvmmsg(fd, arena, at, vlen, flags) {
      const n = recvmmsg(fd, Arena.addressOf(arena, at), vlen, flags, null);
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

  // A seccomp filter answers with ENOSYS or EPERM before the kernel looks at the descriptor; the kernel itself with EBADF.
  const isMissing = sendmmsg(-1, 0, 0, 0) < 0 && errno() !== EBADF;
  if (!isMissing) {
    return {
      ...calls,
      backend: 'sendmmsg',
      sendmmsg(fd, arena, at, vlen, flags) {
        const n = sendmmsg(fd, Arena.addressOf(arena, at), vlen, flags);
        return n < 0 ? -errno() : n;
      },
      sendmmsgAsync(fd, arena, at, vlen, flags, done) {
        sendmmsg.async(fd, Arena.addressOf(arena, at), vlen, flags, (_error, n) => {
          // Naming the arena here keeps its memory alive until the call has returned.
          done(n < 0 && arena !== undefined ? -errno() : n);
        });
      },
    };
  }

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
  return {
    ...calls,
    backend: 'sendmsg',
    sendmmsg: sendEach,
    sendmmsgAsync: (fd, arena, at, vlen, flags, done) =>
      void setImmediate(() => done(sendEach(fd, arena, at, vlen, flags))),
  };
}

function isMusl(library: { func(prototype: string): unknown }): boolean {
  try {
    library.func('const char *gnu_get_libc_version()');
    return false;
  } catch {
    return true;
  }
}

/** sendmmsg through syscall(2): its variadic integers travel in registers on every architecture of SYS_SENDMMSG. */
function bindSyscall(declare: (prototype: string) => Call & { async: AsyncCall }): Call & { async: AsyncCall } {
  const syscall = declare(
    'intptr_t syscall(intptr_t number, intptr_t fd, uint64_t msgvec, intptr_t vlen, intptr_t flags)',
  );
  const number = SYS_SENDMMSG[process.arch]!;
  const call: Call = (...args) => syscall(number, ...args);
  return Object.assign(call, { async: (...args: Parameters<AsyncCall>) => syscall.async(number, ...args) });
}
