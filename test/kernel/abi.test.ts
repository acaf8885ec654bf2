/** The layout that the arena is written in, against koffi's own idea of the structs of <sys/socket.h>. */
import { constants as fs } from 'node:fs';
import { endianness } from 'node:os';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import * as abi from '../../src/kernel/abi.ts';
import { libc } from '../../src/kernel/libc.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { Inbox, queueAndBatch, read } from '../support/lower.ts';

const iovec = koffi.struct('abi_iovec', { iov_base: 'void *', iov_len: 'size_t' });
const msghdr = koffi.struct('abi_msghdr', {
  msg_name: 'void *',
  msg_namelen: 'uint32_t',
  msg_iov: koffi.pointer(iovec),
  msg_iovlen: 'size_t',
  msg_control: 'void *',
  msg_controllen: 'size_t',
  msg_flags: 'int',
});
const mmsghdr = koffi.struct('abi_mmsghdr', { msg_hdr: msghdr, msg_len: 'unsigned int' });
const cmsghdr = koffi.struct('abi_cmsghdr', { cmsg_len: 'size_t', cmsg_level: 'int', cmsg_type: 'int' });
const sockaddrIn = koffi.struct('abi_sockaddr_in', {
  sin_family: 'uint16_t',
  sin_port: 'uint16_t',
  sin_addr: 'uint32_t',
  sin_zero: koffi.array('uint8_t', 8),
});
const sockaddrIn6 = koffi.struct('abi_sockaddr_in6', {
  sin6_family: 'uint16_t',
  sin6_port: 'uint16_t',
  sin6_flowinfo: 'uint32_t',
  sin6_addr: koffi.array('uint8_t', 16),
  sin6_scope_id: 'uint32_t',
});
const sockaddrUn = koffi.struct('abi_sockaddr_un', {
  sun_family: 'uint16_t',
  sun_path: koffi.array('char', abi.SUN_PATH_SIZE),
});

const inPktinfo = koffi.struct('abi_in_pktinfo', {
  ipi_ifindex: 'int',
  ipi_spec_dst: 'uint32_t',
  ipi_addr: 'uint32_t',
});
const in6Pktinfo = koffi.struct('abi_in6_pktinfo', {
  ipi6_addr: koffi.array('uint8_t', 16),
  ipi6_ifindex: 'unsigned int',
});

describe('struct layout', () => {
  it.each([
    ['mmsghdr', mmsghdr, abi.MMSGHDR_SIZE],
    ['iovec', iovec, abi.IOVEC_SIZE],
    ['cmsghdr', cmsghdr, abi.CMSGHDR_SIZE],
    ['sockaddr_in', sockaddrIn, abi.SOCKADDR_IN_SIZE],
    ['sockaddr_in6', sockaddrIn6, abi.SOCKADDR_IN6_SIZE],
    ['sockaddr_un', sockaddrUn, abi.SOCKADDR_UN_SIZE],
    ['in_pktinfo', inPktinfo, abi.IN_PKTINFO_SIZE],
    ['in6_pktinfo', in6Pktinfo, abi.IN6_PKTINFO_SIZE],
  ])('struct %s is as large as koffi says', (_name, type, size) => {
    expect(size).toBe(koffi.sizeof(type));
  });

  it.each([
    ['msg_name', abi.MSG_NAME, msghdr],
    ['msg_namelen', abi.MSG_NAMELEN, msghdr],
    ['msg_iov', abi.MSG_IOV, msghdr],
    ['msg_iovlen', abi.MSG_IOVLEN, msghdr],
    ['msg_control', abi.MSG_CONTROL, msghdr],
    ['msg_controllen', abi.MSG_CONTROLLEN, msghdr],
    ['msg_flags', abi.MSG_FLAGS, msghdr],
    ['msg_len', abi.MSG_LEN, mmsghdr],
    ['iov_base', abi.IOV_BASE, iovec],
    ['iov_len', abi.IOV_LEN, iovec],
    ['cmsg_level', abi.CMSG_LEVEL, cmsghdr],
    ['cmsg_type', abi.CMSG_TYPE, cmsghdr],
  ])('%s lies where koffi says', (field, offset, type) => {
    expect(offset).toBe(koffi.offsetof(type, field));
  });

  it('puts msg_hdr first in mmsghdr, so that the offsets of msghdr hold in it', () => {
    expect(koffi.offsetof(mmsghdr, 'msg_hdr')).toBe(0);
  });
});

describe('constants', () => {
  it('agree with those that Node knows', () => {
    expect(abi.SOCK_NONBLOCK).toBe(fs.O_NONBLOCK);
    expect(endianness()).toBe('LE');
  });

  it('name a sendmmsg(2) in SYS_SENDMMSG for this architecture', async () => {
    using inbox = new Inbox({ bind: { address: '127.0.0.1' } });
    using socket = DatagramSocket.open({ connect: inbox.endpoint });
    const { fd, libc: calls } = DatagramSocket.nativeOf(socket);
    const { queue, batch } = queueAndBatch({ capacity: 2, maxBytes: 9 }, {}, (bytes) => calls.allocate(bytes));
    for (const text of ['one', 'two']) queue.push(read(text, abi.AF_INET, true), 0, 0);
    expect(batch.plan()).toBe(2);
    const syscall = koffi
      .load(null)
      .func('intptr_t syscall(intptr_t number, intptr_t fd, void *msgvec, intptr_t vlen, intptr_t flags)');
    expect(syscall(abi.SYS_SENDMMSG[process.arch], fd, batch.arena.u8, 2, abi.MSG_DONTWAIT)).toBe(2);
    expect(await inbox.receiveText(2)).toEqual(['one', 'two']);
  });

  it.each([
    ['AF_INET', abi.AF_INET],
    ['AF_INET6', abi.AF_INET6],
    ['AF_UNIX', abi.AF_UNIX],
  ])('open a close-on-exec, non-blocking datagram socket: %s', (_name, family) => {
    const calls = libc()!;
    const fd = calls.socket(family, abi.SOCK_DGRAM | abi.SOCK_NONBLOCK | abi.SOCK_CLOEXEC, 0);
    const [F_GETFD, F_GETFL, FD_CLOEXEC] = [1, 3, 1];
    try {
      expect(calls.getsockopt(fd, abi.SOL_SOCKET, abi.SO_DOMAIN)).toBe(family);
      expect(calls.getsockopt(fd, abi.SOL_SOCKET, abi.SO_TYPE)).toBe(abi.SOCK_DGRAM);
      expect(calls.fcntl(fd, F_GETFL, 0) & fs.O_NONBLOCK).toBe(fs.O_NONBLOCK);
      expect(calls.fcntl(fd, F_GETFD, 0) & FD_CLOEXEC).toBe(FD_CLOEXEC);
      const duplicate = calls.fcntl(fd, abi.F_DUPFD_CLOEXEC, 0);
      expect(calls.fcntl(duplicate, F_GETFD, 0) & FD_CLOEXEC).toBe(FD_CLOEXEC);
      calls.close(duplicate);
    } finally {
      expect(calls.close(fd)).toBe(0);
    }
  });
});
