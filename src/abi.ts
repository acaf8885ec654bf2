/**
 * The Linux ABI that the arena is laid out in: struct sizes and offsets (bytes), and the constants of the calls.
 *
 * Every 64-bit little-endian Linux (glibc and musl) shares this layout; `test/abi.test.ts` checks it against koffi's
 * `sizeof`/`offsetof` of the declared structs. See sendmmsg(2), sendmsg(2), ip(7), ipv6(7), unix(7), cmsg(3).
 */

// struct mmsghdr { struct msghdr msg_hdr; unsigned msg_len; }
export const MMSGHDR_SIZE = 64;
export const MSG_NAME = 0;
export const MSG_NAMELEN = 8;
export const MSG_IOV = 16;
export const MSG_IOVLEN = 24;
export const MSG_CONTROL = 32;
export const MSG_CONTROLLEN = 40;
export const MSG_FLAGS = 48;
export const MSG_LEN = 56;

// struct iovec { void *iov_base; size_t iov_len; }
export const IOVEC_SIZE = 16;
export const IOV_BASE = 0;
export const IOV_LEN = 8;

// struct cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; }
export const CMSGHDR_SIZE = 16;
export const CMSG_LEVEL = 8;
export const CMSG_TYPE = 12;

// struct in_pktinfo { int ipi_ifindex; struct in_addr ipi_spec_dst, ipi_addr; }
export const IN_PKTINFO_SIZE = 12;
// struct in6_pktinfo { struct in6_addr ipi6_addr; unsigned ipi6_ifindex; }
export const IN6_PKTINFO_SIZE = 20;

/** UIO_MAXIOV: a larger `vlen` is clamped to this without a word, sendmmsg(2). */
export const MAX_VLEN = 1024;

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCKADDR_IN_SIZE = 16;
export const SOCKADDR_IN6_SIZE = 28;
export const SOCKADDR_UN_SIZE = 110;
/** Bytes of `sun_path`, unix(7). */
export const SUN_PATH_SIZE = 108;

export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_TYPE = 3;
export const SO_ERROR = 4;
export const SO_BROADCAST = 6;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_REUSEPORT = 15;
export const SO_RCVBUFFORCE = 33;
export const SO_DOMAIN = 39;
export const IPPROTO_IP = 0;
export const IP_TOS = 1;
export const IP_PKTINFO = 8;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const IPV6_PKTINFO = 50;
export const IPV6_TCLASS = 67;
export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

export const MSG_DONTROUTE = 0x4;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_CONFIRM = 0x800;
export const MSG_NOSIGNAL = 0x4000;

export const F_DUPFD_CLOEXEC = 1030;

/** `syscall(2)` numbers of sendmmsg, by `process.arch`: musl's own `sendmmsg()` is a loop over sendmsg(2). */
export const SYS_SENDMMSG: Readonly<Record<string, number>> = {
  x64: 307,
  arm64: 269,
  riscv64: 269,
  loong64: 269,
  ppc64: 349,
};
