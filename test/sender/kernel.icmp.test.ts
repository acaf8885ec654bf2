/** Each ICMP and ICMPv6 answer that a connected socket is told is late: it costs no datagram, and is counted once. */
import { describe, expect, it } from 'vitest';
import { errnoName } from '../../src/kernel/errno.ts';
import type { BatchReport } from '../../src/message/datagram.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { numbered, numbersOf, range } from '../support/datagrams.ts';
import { answerWith, type IcmpAnswer } from '../support/icmp.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const keep = keeper();
const IPPROTO_IP = 0;
const IP_RECVERR = 11;
const IPPROTO_IPV6 = 41;
const IPV6_RECVERR = 25;
/** The path MTU that an answer tells is kept for minutes, and is other tests' too: one that makes no difference. */
const LOOPBACK_MTU = 65_536;

const icmp = (type: number, code: number, word?: number): IcmpAnswer => ({
  protocol: 'ICMP',
  type,
  code,
  word: word ?? 0,
});
const icmpv6 = (type: number, code: number, word?: number): IcmpAnswer => ({
  ...icmp(type, code, word),
  protocol: 'ICMPv6',
});

/** What a connected socket is told as it is. */
const TOLD: readonly (readonly [string, IcmpAnswer, code: string])[] = [
  ['protocol-unreachable', icmp(3, 2), 'ENOPROTOOPT'],
  ['port-unreachable', icmp(3, 3), 'ECONNREFUSED'],
  ['fragmentation-needed', icmp(3, 4, LOOPBACK_MTU - 1), 'EMSGSIZE'],
  ['network-unknown', icmp(3, 6), 'ENETUNREACH'],
  ['host-unknown', icmp(3, 7), 'EHOSTDOWN'],
  ['host-isolated', icmp(3, 8), 'ENONET'],
  ['network-prohibited', icmp(3, 9), 'ENETUNREACH'],
  ['host-prohibited', icmp(3, 10), 'EHOSTUNREACH'],
  ['admin-prohibited', icmp(3, 13), 'EHOSTUNREACH'],
  ['precedence-violation', icmp(3, 14), 'EHOSTUNREACH'],
  ['precedence-cutoff', icmp(3, 15), 'EHOSTUNREACH'],
  ['parameter-problem', icmp(12, 0), 'EPROTO'],
  ['v6 admin-prohibited', icmpv6(1, 1), 'EACCES'],
  ['v6 port-unreachable', icmpv6(1, 4), 'ECONNREFUSED'],
  ['v6 policy-fail', icmpv6(1, 5), 'EACCES'],
  ['v6 reject-route', icmpv6(1, 6), 'EACCES'],
  ['v6 parameter-problem', icmpv6(4, 1), 'EPROTO'],
];

/** What it is told where its owner has set IP_RECVERR. */
const TOLD_ON_REQUEST: typeof TOLD = [
  ['network-unreachable', icmp(3, 0), 'ENETUNREACH'],
  ['host-unreachable', icmp(3, 1), 'EHOSTUNREACH'],
  ['source-route-failed', icmp(3, 5), 'EOPNOTSUPP'],
  ['network-unreachable-for-tos', icmp(3, 11), 'ENETUNREACH'],
  ['host-unreachable-for-tos', icmp(3, 12), 'EHOSTUNREACH'],
  ['time-exceeded', icmp(11, 0), 'EHOSTUNREACH'],
  ['v6 no-route', icmpv6(1, 0), 'ENETUNREACH'],
  ['v6 beyond-scope', icmpv6(1, 2), 'EHOSTUNREACH'],
  ['v6 address-unreachable', icmpv6(1, 3), 'EHOSTUNREACH'],
  ['v6 packet-too-big', icmpv6(2, 0, LOOPBACK_MTU - 1), 'EMSGSIZE'],
  ['v6 time-exceeded', icmpv6(3, 0), 'EHOSTUNREACH'],
];

/** A socket connected to a receiver, and how to answer what it has sent. */
function pair(answer: IcmpAnswer, isOnRequest: boolean) {
  const [type, address] = answer.protocol === 'ICMP' ? (['udp4', '127.0.0.1'] as const) : (['udp6', '::1'] as const);
  const receiver = keep(Receiver.udp(type));
  const socket = keep(DatagramSocket.open({ bind: { address }, connect: { address, port: receiver.port } }));
  const native = DatagramSocket.nativeOf(socket);
  if (isOnRequest) {
    native.libc.setsockopt(native.fd, IPPROTO_IP, IP_RECVERR, 1);
    native.libc.setsockopt(native.fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
  }
  const { port } = socket.address() as { port: number };
  return {
    socket,
    receiver,
    pending: () => native.takeError(),
    answers: () => answerWith(answer, port, receiver.port),
  };
}

describe.each([
  ['as it is', TOLD, false],
  ['with IP_RECVERR', TOLD_ON_REQUEST, true],
] as const)('a connected socket, %s, is told by ICMP', (_name, answers, isOnRequest) => {
  it.for(answers)('%s (%o, %s): no datagram is lost, and it is counted once', async ([, answer, code], context) => {
    requires(context, 'root');
    const { socket, receiver, answers, pending } = pair(answer, isOnRequest);
    answers();
    expect(errnoName(pending())).toBe(code);

    const reports: BatchReport[] = [];
    const sender = new BatchSender(socket, { batchSize: 4 }, { next: (report) => reports.push(report) });
    const send = (from: number, to: number): void => {
      for (let index = from; index < to; index++) sender.send(numbered(index, 500));
      sender.flush();
    };
    send(0, 4);
    answers();
    send(4, 8);
    answers();
    await sender.close(); // the last one is asked for

    expect(reports.flatMap(({ rejected }) => rejected)).toEqual([]);
    expect(numbersOf(await receiver.receive(8))).toEqual(range(8));
    expect(reports.reduce((sum, { pendingErrors }) => sum + pendingErrors, 0)).toBe(2);
    expect(sender.stats).toMatchObject({ sent: 8, pendingErrors: 2, gso: { destinationsOff: 0, state: 'on' } });
  });
});
