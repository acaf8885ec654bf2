/**
 * The Linux ABI that the arena is laid out in: struct sizes and offsets (bytes), and the constants of the calls.
 *
 * Every 64-bit little-endian Linux (glibc and musl) shares this layout; `test/abi.test.ts` checks it against koffi's
 * `sizeof`/`offsetof` of the declared structs. See sendmmsg(2), sendmsg(2), ip(7), ipv6(7), unix(7), cmsg(3).
 */
import { endianness } from 'node:os';

/** Where it is not, no kernel reads what is laid out: node:dgram does the sending. */
export const IS_LITTLE_ENDIAN: boolean = endianness() === 'LE';

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

export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCKADDR_IN_SIZE = 16;
export const SOCKADDR_IN6_SIZE = 28;
export const SOCKADDR_UN_SIZE = 110;
// struct ip_mreq { struct in_addr imr_multiaddr, imr_interface; }, and ip_mreq_source with imr_sourceaddr behind, ip(7)
export const IP_MREQ_SIZE = 8;
export const IP_MREQ_SOURCE_SIZE = 12;
export const IMR_INTERFACE = 4;
export const IMR_SOURCEADDR = 8;
// struct ipv6_mreq { struct in6_addr ipv6mr_multiaddr; unsigned ipv6mr_interface; }, RFC 3493 section 5.2
export const IPV6_MREQ_SIZE = 20;
export const IPV6MR_INTERFACE = 16;
// struct group_source_req { uint32_t gsr_interface; struct sockaddr_storage gsr_group, gsr_source; }, RFC 3678 section 5.2
export const GROUP_SOURCE_REQ_SIZE = 264;
export const GSR_GROUP = 8;
export const GSR_SOURCE = 136;

/** IFNAMSIZ: bytes of an interface's name with its NUL, netdevice(7). */
export const IFNAMSIZ = 16;
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
export const SO_BINDTODEVICE = 25;
export const SO_RCVBUFFORCE = 33;
export const SO_DOMAIN = 39;
export const IPPROTO_IP = 0;
export const IP_TOS = 1;
export const IP_TTL = 2;
export const IP_PKTINFO = 8;
export const IP_MTU_DISCOVER = 10;
export const IP_MTU = 14;
export const IP_MULTICAST_IF = 32;
export const IP_MULTICAST_TTL = 33;
export const IP_MULTICAST_LOOP = 34;
export const IP_ADD_MEMBERSHIP = 35;
export const IP_DROP_MEMBERSHIP = 36;
export const IP_ADD_SOURCE_MEMBERSHIP = 39;
export const IP_DROP_SOURCE_MEMBERSHIP = 40;
/** Of IP_MTU_DISCOVER; those of IPV6_MTU_DISCOVER are the same numbers. */
export const IP_PMTUDISC_DONT = 0;
export const IP_PMTUDISC_PROBE = 3;
export const IPPROTO_IPV6 = 41;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_MULTICAST_IF = 17;
export const IPV6_MULTICAST_HOPS = 18;
export const IPV6_MULTICAST_LOOP = 19;
export const IPV6_ADD_MEMBERSHIP = 20;
export const IPV6_DROP_MEMBERSHIP = 21;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_MTU = 24;
export const IPV6_V6ONLY = 26;
export const IPV6_PKTINFO = 50;
export const IPV6_TCLASS = 67;
export const MCAST_JOIN_SOURCE_GROUP = 46;
export const MCAST_LEAVE_SOURCE_GROUP = 47;
export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

export const MSG_DONTROUTE = 0x4;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_CONFIRM = 0x800;
export const MSG_NOSIGNAL = 0x4000;

export const F_GETFL = 3;
export const F_DUPFD_CLOEXEC = 1030;
export const O_CLOEXEC = 0o2000000;

// struct epoll_event { uint32_t events; epoll_data_t data; }: 12 bytes on x86-64, where it is packed, 16 elsewhere
export const EPOLL_EVENT_SIZE = 16;
export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
// The same bits as POLLIN and POLLOUT, poll(2)
export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;

/** `syscall(2)` numbers of sendmmsg, by `process.arch`. */
export const SYS_SENDMMSG: Readonly<Record<string, number>> = {
  x64: 307,
  arm64: 269,
  riscv64: 269,
  loong64: 269,
  ppc64: 349,
};
/** The same of recvmmsg. */
export const SYS_RECVMMSG: Readonly<Record<string, number>> = {
  x64: 299,
  arm64: 243,
  riscv64: 243,
  loong64: 243,
  ppc64: 343,
};
