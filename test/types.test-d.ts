/**
 * The types of the public API, pinned. `npm run typecheck`, and so `npm test`, compiles this file; nothing runs it.
 *
 * A line under `@ts-expect-error` must not compile: where it does, that comment is the error.
 */
import type { Socket } from 'node:dgram';
import type { OperatorAsyncFunction } from 'ix/interfaces';
import {
  from,
  map,
  type NextObserver,
  type Observable,
  type OperatorFunction,
  of,
  type SchedulerLike,
  type Subject,
} from 'rxjs';
import { expectTypeOf } from 'vitest';
import type * as api from '../src/index.ts';
import {
  type Backend,
  type BatchObserver,
  type BatchOptions,
  type BatchReport,
  BatchSender,
  type BatchSummary,
  broadcast,
  type Datagram,
  type DatagramLike,
  DatagramSocket,
  type DiagnosticsMessages,
  type DropReason,
  type Endpoint,
  endpoint,
  type GsoStats,
  type PackOptions,
  type Payload,
  type PressureObserver,
  type RejectedDatagram,
  type SchedulerLike as Scheduler,
  type SenderStats,
  SendmmsgError,
  type SocketOptions,
  sendmmsg,
  summarize,
} from '../src/index.ts';
import { sendmmsg as sendmmsgIx } from '../src/ix.ts';

declare const anySocket: DatagramSocket;
declare const socketOptions: SocketOptions;
declare const perhapsOptions: SocketOptions | undefined;
const peer = { address: '127.0.0.1', port: 8125 };
const addressed = { payload: 'x', ...peer };
const connected = () => DatagramSocket.open({ connect: peer });
const unconnected = () => DatagramSocket.open({ type: 'udp6', bind: { port: 0 } });

expectTypeOf<keyof typeof api>().toEqualTypeOf<
  'BatchSender' | 'DatagramSocket' | 'SendmmsgError' | 'broadcast' | 'endpoint' | 'sendmmsg' | 'summarize'
>();

// What may be sent.
expectTypeOf<Payload>().toEqualTypeOf<string | ArrayBufferView | readonly (string | ArrayBufferView)[]>();
expectTypeOf<DatagramLike>().toEqualTypeOf<Payload | Datagram>();
expectTypeOf<Buffer>().toExtend<Payload>();
expectTypeOf<DataView>().toExtend<Payload>();
expectTypeOf<readonly ['a', Uint8Array]>().toExtend<Payload>();
expectTypeOf<ArrayBuffer>().not.toExtend<DatagramLike>();
expectTypeOf<number>().not.toExtend<DatagramLike>();
expectTypeOf<null>().not.toExtend<DatagramLike>();
expectTypeOf<Payload>().not.toExtend<Datagram>();
expectTypeOf<{ payload: string; address: string; port: number }>().toExtend<Datagram>();
expectTypeOf<{ payload: Buffer; path: string }>().toExtend<Datagram>();
expectTypeOf<{ payload: string; to: Endpoint }>().toExtend<Datagram>();
expectTypeOf<{ payload: string; address: undefined }>().toExtend<Datagram>();
expectTypeOf<{ address: string; port: number }>().not.toExtend<Datagram>();
expectTypeOf<{ payload: string; port: string }>().not.toExtend<Datagram>();
// @ts-expect-error a misspelt property
({ payload: 'x', adress: '127.0.0.1' }) satisfies Datagram;
expectTypeOf(endpoint).toEqualTypeOf<(address: string, port: number) => Endpoint>();
expectTypeOf<Endpoint>().toExtend<{ address: string; port: number; family: 'IPv4' | 'IPv6'; key: string }>();
// @ts-expect-error an endpoint is what it was made
endpoint('::1', 9).key = '[::2]:9';
// @ts-expect-error only endpoint() makes one
({ ...peer, family: 'IPv4' }) satisfies Endpoint;

// A socket: what may be sent follows from how it was opened, where the types can tell.
expectTypeOf<DatagramSocket['backend']>().toEqualTypeOf<'sendmmsg' | 'sendmsg' | 'node:dgram'>();
expectTypeOf<DatagramSocket['fallbackReason']>().toEqualTypeOf<string | undefined>();
expectTypeOf<SocketOptions['native']>().toEqualTypeOf<'auto' | 'required' | undefined>();
expectTypeOf(DatagramSocket.open()).toEqualTypeOf<DatagramSocket<Datagram>>();
expectTypeOf(DatagramSocket.open({})).toEqualTypeOf<DatagramSocket<Datagram>>();
expectTypeOf(DatagramSocket.open({ connect: undefined })).toEqualTypeOf<DatagramSocket<Datagram>>();
expectTypeOf(unconnected()).toEqualTypeOf<DatagramSocket<Datagram>>();
expectTypeOf(connected()).toEqualTypeOf<DatagramSocket<DatagramLike>>();
expectTypeOf(DatagramSocket.open(socketOptions)).toEqualTypeOf<DatagramSocket>();
expectTypeOf(DatagramSocket.open(perhapsOptions)).toEqualTypeOf<DatagramSocket>();
expectTypeOf(DatagramSocket.open({ type: 'unix', connect: { path: '/dev/log' } })).toEqualTypeOf<DatagramSocket>();
expectTypeOf(DatagramSocket.open({ connect: { path: '/dev/log' } })).toEqualTypeOf<DatagramSocket>();
expectTypeOf(DatagramSocket.open({ connect: { address: '::1', port: 9 } })).toEqualTypeOf<DatagramSocket>();
expectTypeOf(DatagramSocket.open({ bind: { path: '/tmp/x' } })).toEqualTypeOf<DatagramSocket<Datagram>>();
expectTypeOf(DatagramSocket.open({ bind: { address: '::' } })).toEqualTypeOf<DatagramSocket<Datagram>>();
expectTypeOf(DatagramSocket.fromFd).toEqualTypeOf<(fd: number) => DatagramSocket>();
expectTypeOf<DatagramSocket<Datagram>>().toExtend<DatagramSocket>();
expectTypeOf<DatagramSocket['address']>().returns.toEqualTypeOf<
  { address: string; family: 'IPv4' | 'IPv6'; port: number } | { path: string }
>();
expectTypeOf<DatagramSocket['lend']>().toEqualTypeOf<() => Socket>();
expectTypeOf<DatagramSocket['close']>().toEqualTypeOf<() => void>();
expectTypeOf<DatagramSocket['closed']>().toEqualTypeOf<boolean>();
expectTypeOf<DatagramSocket>().toExtend<Disposable>();
expectTypeOf<DatagramSocket['remoteAddress']>().toEqualTypeOf<DatagramSocket['address']>();
anySocket.connect(8125);
anySocket.connect(8125, '::1');
anySocket.connect('/dev/log');
// @ts-expect-error a path has no address
anySocket.connect('/dev/log', '::1');
expectTypeOf<DatagramSocket['disconnect']>().toEqualTypeOf<() => void>();
// Its methods of the same name as those of node:dgram are called alike.
type Configuring = 'setBroadcast' | 'setTTL' | 'setMulticastTTL' | 'setMulticastLoopback' | 'setMulticastInterface';
type Joining = 'addMembership' | 'dropMembership' | 'addSourceSpecificMembership' | 'dropSourceSpecificMembership';
type Sizing = 'getSendBufferSize' | 'setSendBufferSize' | 'getRecvBufferSize' | 'setRecvBufferSize';
expectTypeOf<Pick<DatagramSocket, Configuring | Joining | Sizing>>().toEqualTypeOf<
  Pick<Socket, Configuring | Joining | Sizing>
>();
expectTypeOf<DatagramSocket['bindToDevice']>().toEqualTypeOf<(device: string) => void>();
expectTypeOf(unconnected().unref().ref()).toEqualTypeOf<DatagramSocket<Datagram>>();
// @ts-expect-error an unknown option
DatagramSocket.open({ conect: peer });
// @ts-expect-error an unknown option beside a known one
DatagramSocket.open({ connect: peer, reuseAdress: true });
// @ts-expect-error a peer without a port
DatagramSocket.open({ connect: { address: '127.0.0.1' } });
// @ts-expect-error a type that there is not
DatagramSocket.open({ type: 'tcp' });
// @ts-expect-error only open() and fromFd() make one
new DatagramSocket();

expectTypeOf(anySocket.sendmmsg(['x', addressed])).toEqualTypeOf<{ sent: number; lengths: readonly number[] }>();
connected().sendmmsg(['x', addressed], { dontRoute: true, confirm: false });
unconnected().sendmmsg([addressed]);
// @ts-expect-error a bare payload without a peer
unconnected().sendmmsg([addressed, 'x']);
// @ts-expect-error an unknown flag
anySocket.sendmmsg(['x'], { more: true });

// The operator.
expectTypeOf(sendmmsg(anySocket)).toEqualTypeOf<OperatorFunction<DatagramLike, BatchReport>>();
expectTypeOf(sendmmsg(() => anySocket)).toEqualTypeOf<OperatorFunction<DatagramLike, BatchReport>>();
expectTypeOf(sendmmsg(connected)).toEqualTypeOf<OperatorFunction<DatagramLike, BatchReport>>();
expectTypeOf(sendmmsg(unconnected)).toEqualTypeOf<OperatorFunction<Datagram, BatchReport>>();
expectTypeOf(sendmmsg(unconnected())).toEqualTypeOf<OperatorFunction<Datagram, BatchReport>>();
const widened: DatagramSocket = unconnected();
expectTypeOf(sendmmsg(widened)).toEqualTypeOf<OperatorFunction<DatagramLike, BatchReport>>();
const contract: (
  socket: DatagramSocket | (() => DatagramSocket),
  options?: BatchOptions,
) => OperatorFunction<DatagramLike, BatchReport> = sendmmsg;
contract(unconnected);

expectTypeOf(of('x').pipe(sendmmsg(connected))).toEqualTypeOf(of<BatchReport>());
of('x', Buffer.of(1), ['a', 'b'], addressed).pipe(sendmmsg(anySocket, { batchSize: 8 }));
from([1]).pipe(
  map((n) => `n:${n}|g`),
  sendmmsg(() => connected()),
);
from([1]).pipe(
  map((n) => ({ payload: `n:${n}|g`, ...peer })),
  sendmmsg(() => DatagramSocket.open(), { flushAfterMs: 5 }),
);
of({ payload: 'x', to: endpoint('::1', 9) }).pipe(sendmmsg(unconnected));
of({ payload: 'x', path: '/dev/log' }).pipe(sendmmsg(() => DatagramSocket.open({ type: 'unix' })));
// @ts-expect-error a bare string without a peer
of('x').pipe(sendmmsg(() => DatagramSocket.open()));
// @ts-expect-error bytes without a peer
of(Buffer.of(1)).pipe(sendmmsg(DatagramSocket.open({ bind: { port: 0 } })));
// @ts-expect-error a list without a peer
of(['a', 'b']).pipe(sendmmsg(unconnected()));
// @ts-expect-error some of the input is bare
of('x', addressed).pipe(sendmmsg(unconnected));
// @ts-expect-error no datagram at all
of(1).pipe(sendmmsg(connected));
// @ts-expect-error an object without a payload
of(peer).pipe(sendmmsg(connected));
// @ts-expect-error not a socket
sendmmsg({});

// The same for AsyncIterables, and the broadcast operator.
expectTypeOf(sendmmsgIx(anySocket)).toEqualTypeOf<OperatorAsyncFunction<DatagramLike, BatchReport>>();
expectTypeOf(sendmmsgIx(connected)).toEqualTypeOf<OperatorAsyncFunction<DatagramLike, BatchReport>>();
expectTypeOf(sendmmsgIx(unconnected)).toEqualTypeOf<OperatorAsyncFunction<Datagram, BatchReport>>();
// @ts-expect-error an unknown option
sendmmsgIx(connected, { batchsize: 8 });
expectTypeOf(broadcast).toEqualTypeOf<
  (
    socket: DatagramSocket | (() => DatagramSocket),
    peers:
      | Iterable<Endpoint>
      | ReadonlyMap<unknown, Endpoint>
      | Observable<Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>>,
    options?: BatchOptions,
  ) => OperatorFunction<Payload, BatchReport>
>();
of('x').pipe(broadcast(unconnected, [endpoint('127.0.0.1', 9)], { highWaterMark: 9 }));
declare const players: Map<string, Endpoint>;
of('x').pipe(broadcast(unconnected, players));
of('x').pipe(broadcast(unconnected, of(players)));
new BatchSender(unconnected()).broadcast('x', players);
new BatchSender(unconnected()).broadcast('x', players.values());
// @ts-expect-error a Map of addresses
of('x').pipe(broadcast(unconnected, new Map([['me', '127.0.0.1']])));
// @ts-expect-error the entries of a Map
of('x').pipe(broadcast(unconnected, players.entries()));
// @ts-expect-error an address is no endpoint
of('x').pipe(broadcast(unconnected, [peer]));
// @ts-expect-error its input is payloads
of(addressed).pipe(broadcast(unconnected, []));
// @ts-expect-error an unknown option
of('x').pipe(broadcast(unconnected, [], { batchsize: 8 }));

// Options: an unknown one, or a value that means nothing, does not compile, in a pipe either.
// @ts-expect-error
sendmmsg(connected, { batchsize: 8 });
// @ts-expect-error
of('x').pipe(sendmmsg(connected, { flushAfter: 8 }));
// @ts-expect-error
of('x').pipe(sendmmsg(connected, { batchSize: 8, highWatermark: 9 }), summarize(1000));
// @ts-expect-error
({ batchsize: 8 }) satisfies BatchOptions;
// @ts-expect-error
sendmmsg(connected, { overflow: 'block' });
// @ts-expect-error one of two
sendmmsg(connected, { order: 'any' });
// @ts-expect-error
sendmmsg(connected, { batchSize: '8' });
// @ts-expect-error
sendmmsg(connected, null);
// @ts-expect-error
new BatchSender(anySocket, { batchsize: 8 });
expectTypeOf<BatchOptions>().toExtend<{
  readonly batchSize?: number | undefined;
  readonly batchBytes?: number | undefined;
  readonly flushAfterMs?: number | undefined;
  readonly highWaterMark?: number | undefined;
  readonly highWaterMarkBytes?: number | undefined;
  readonly overflow?: 'drop-oldest' | 'drop-newest' | 'error' | undefined;
  readonly maxAgeMs?: number | undefined;
  readonly drainTimeoutMs?: number | undefined;
  readonly order?: 'total' | 'destination' | undefined;
  readonly gso?: 'auto' | 'off' | undefined;
  readonly offload?: boolean | undefined;
  readonly lanes?: number | undefined;
  readonly conflateBy?: ((datagram: DatagramLike) => unknown) | undefined;
  readonly pack?: PackOptions | undefined;
  readonly warn?: boolean | undefined;
  readonly pressure?: PressureObserver | undefined;
  readonly scheduler?: Scheduler | undefined;
}>();
// rxjs has its own names for these two; what it makes is one of them.
expectTypeOf<SchedulerLike>().toExtend<Scheduler>();
expectTypeOf<NextObserver<boolean>>().toExtend<PressureObserver>();
expectTypeOf<Subject<boolean>>().toExtend<PressureObserver>();
expectTypeOf<PackOptions>().toEqualTypeOf<{
  readonly maxBytes?: number | undefined;
  readonly separator?: string | undefined;
  readonly oversize?: 'alone' | 'reject' | undefined;
}>();
// @ts-expect-error
sendmmsg(connected, { pack: { maxbytes: 512 } });
expectTypeOf<{ batchSize: undefined; scheduler: undefined }>().toExtend<BatchOptions>();

// What is told.
expectTypeOf<BatchReport['rejected']>().toEqualTypeOf<readonly RejectedDatagram[]>();
expectTypeOf<RejectedDatagram['error']>().toEqualTypeOf<SendmmsgError>();
expectTypeOf<RejectedDatagram['payload']>().toEqualTypeOf<Uint8Array>();
expectTypeOf<RejectedDatagram['sequence']>().toEqualTypeOf<number>();
expectTypeOf<RejectedDatagram['port']>().toEqualTypeOf<number | undefined>();
expectTypeOf<SendmmsgError['code']>().toEqualTypeOf<string>();
expectTypeOf<SendmmsgError['errno']>().toEqualTypeOf<number | undefined>();
expectTypeOf(SendmmsgError).instance.toExtend<Error>();
expectTypeOf(SendmmsgError).toBeConstructibleWith('told', { code: 'EPERM', errno: 1, syscall: 'sendmmsg' });
expectTypeOf(summarize).toEqualTypeOf<
  (intervalMs: number, scheduler?: SchedulerLike) => OperatorFunction<BatchReport, BatchSummary>
>();
expectTypeOf<BatchSummary[keyof BatchSummary]>().toEqualTypeOf<number>();
expectTypeOf<BatchReport>().toEqualTypeOf<Readonly<BatchReport>>();
expectTypeOf<SenderStats>().toEqualTypeOf<Readonly<SenderStats>>();
// @ts-expect-error summarize() goes behind sendmmsg()
of('x').pipe(summarize(1000));

// The sender.
const sender = new BatchSender(anySocket, { batchSize: 8 }, { next: (report) => report.sent });
expectTypeOf(sender).toEqualTypeOf<BatchSender>();
expectTypeOf(new BatchSender(unconnected())).toEqualTypeOf<BatchSender<Datagram>>();
expectTypeOf<BatchSender<Datagram>>().toExtend<BatchSender>();
expectTypeOf(sender.send).toEqualTypeOf<(datagram: DatagramLike) => boolean>();
expectTypeOf(sender.broadcast).toEqualTypeOf<
  (payload: Payload, to: Iterable<Endpoint> | ReadonlyMap<unknown, Endpoint>) => boolean
>();
expectTypeOf(sender.ready).toEqualTypeOf<() => Promise<void>>();
expectTypeOf(sender.flush).toEqualTypeOf<() => BatchReport>();
expectTypeOf(sender.close).toEqualTypeOf<() => Promise<void>>();
expectTypeOf(sender).not.toHaveProperty('end');
expectTypeOf(sender).not.toHaveProperty('abort');
expectTypeOf(sender.destroy).toEqualTypeOf<() => void>();
expectTypeOf(sender.closed).toEqualTypeOf<boolean>();
expectTypeOf(sender.stats).toEqualTypeOf<SenderStats>();
expectTypeOf(sender).toExtend<AsyncDisposable>();
new BatchSender(unconnected()).broadcast('x', [endpoint('127.0.0.1', 9)]);
// @ts-expect-error a bare payload without a peer
new BatchSender(unconnected()).send('x');
// @ts-expect-error not a factory: a sender does not close its socket
new BatchSender(connected);
expectTypeOf<BatchObserver>().toEqualTypeOf<{
  next?(report: BatchReport): void;
  error?(error: unknown): void;
  complete?(): void;
}>();

// The statistics.
expectTypeOf<Backend>().toEqualTypeOf<'sendmmsg' | 'sendmsg' | 'node:dgram'>();
expectTypeOf<DropReason>().toEqualTypeOf<'overflow' | 'age' | 'drainTimeout' | 'teardown' | 'failure'>();
expectTypeOf<SenderStats['droppedBy']>().toEqualTypeOf<Readonly<Record<DropReason, number>>>();
expectTypeOf<SenderStats['rejectedBy']>().toEqualTypeOf<Readonly<Record<string, number>>>();
expectTypeOf<SenderStats['batchSizes']>().toEqualTypeOf<readonly number[]>();
expectTypeOf<SenderStats['gso']>().toEqualTypeOf<GsoStats>();
expectTypeOf<GsoStats['state']>().toEqualTypeOf<'on' | 'off' | 'latched'>();
type Counted = Exclude<keyof SenderStats, 'backend' | 'droppedBy' | 'rejectedBy' | 'batchSizes' | 'gso'>;
expectTypeOf<SenderStats[Counted]>().toEqualTypeOf<number>();
expectTypeOf<keyof DiagnosticsMessages>().toEqualTypeOf<
  'rx-sendmmsg:open' | 'rx-sendmmsg:report' | 'rx-sendmmsg:close'
>();
expectTypeOf<DiagnosticsMessages['rx-sendmmsg:report']>().toEqualTypeOf<{
  readonly sender: { readonly stats: SenderStats };
  readonly report: BatchReport;
  readonly stats: SenderStats;
}>();
expectTypeOf<DiagnosticsMessages['rx-sendmmsg:close']['stats']>().toEqualTypeOf<SenderStats>();
expectTypeOf<DiagnosticsMessages['rx-sendmmsg:open']['sender']['stats']>().toEqualTypeOf<SenderStats>();
