/**
 * The receiving end, a process of its own: counts with recvmmsg(2) and GRO, at once or slowly, or lets the kernel drop. Where there
 * is no recvmmsg(2), node:dgram counts.
 *
 * `node receiver.js count|slow|drop|latency [PATH]`: prints a {@link ReceiverAddress} on the first line. Each line on stdin is
 * answered with a {@link ReceiverCount}; `reset` forgets the latencies so far.
 */
import { createInterface } from 'node:readline';
import { DatagramSocket } from '../../index.ts';
import { type DatagramReceiver, type DatagramSink, MmsgReceiver } from '../../receiver/mmsg-receiver.ts';
import { hideFallbackWarning } from '../fallback.ts';
import { openReceiver } from '../open-receiver.ts';
import { quantile } from './statistics.ts';
import type { ReceiverAddress, ReceiverCount } from './workload.ts';

const [mode, path] = process.argv.slice(2);
const isDropping = mode === 'drop';
hideFallbackWarning(); // the table tells
// Bound to all of 127/8 alike: the destinations of a broadcast are 127.1.x.y. A full buffer makes the kernel drop.
const socket =
  path === undefined
    ? DatagramSocket.open({ bind: { address: '0.0.0.0' }, ...(isDropping && { recvBufferSize: 1 }) })
    : DatagramSocket.open({ type: 'unix', bind: { path } });
let datagrams = 0;
let bytes = 0;
let latencies: number[] = [];

const count: DatagramSink = (_bytes, start, end) => {
  datagrams++;
  bytes += end - start;
};
/** A payload begins with the nanoseconds of CLOCK_MONOTONIC at which it was emitted; 0 in the warm-up. */
const time: DatagramSink = (buffer, start, end) => {
  const now = process.hrtime.bigint();
  count(buffer, start, end);
  const emitted = buffer.readBigUInt64LE(start);
  if (emitted > 0n) latencies.push(Number(now - emitted));
};

/**
 * Looks every 0.1 ms instead of waiting for the socket: a process that waits has to be woken at the sender's cost, but only by a
 * sender that leaves it time to fall asleep: no loop in C that floods it.
 */
function look(receiver: MmsgReceiver): void {
  const until = performance.now() + 10;
  while (performance.now() < until) {
    while (receiver.receive(count) && performance.now() < until);
    Atomics.wait(NEVER, 0, 0, 0.1);
  }
  setImmediate(look, receiver); // stdin has its turn
}

/** Reads what is there, but at most {@link MOST_AT_ONCE} calls of it, and then nothing for 1 ms. */
function dawdle(receiver: MmsgReceiver): void {
  for (let calls = 0; calls < MOST_AT_ONCE && receiver.receive(count); calls++);
  Atomics.wait(NEVER, 0, 0, 1);
  setImmediate(dawdle, receiver); // stdin has its turn
}
/** A sender on another core goes on while it reads: there may always be more. */
const MOST_AT_ONCE = 16;
const NEVER = new Int32Array(new SharedArrayBuffer(4));

/** Reads what comes, as soon as it is told of it. */
function wait(receiver: DatagramReceiver): void {
  const sink = mode === 'latency' ? time : count;
  receiver.poll(() => {
    for (let calls = 0; calls < 64 && receiver.receive(sink); calls++);
  });
}

const receiver = isDropping ? undefined : openReceiver(socket, { recvBufferSize: 64 << 20 });
const local = socket.address();
const address: ReceiverAddress = {
  port: 'port' in local ? local.port : 0,
  receivesBy: receiver === undefined ? 'nothing' : receiver.backend,
};
process.stdout.write(`${JSON.stringify(address)}\n`);

// It waits where it sets the pace (a unix socket), where its waking is part of what is measured, and where, without
// privilege, its buffer is too small to be left alone.
if (receiver instanceof MmsgReceiver) {
  if (mode === 'count' && path === undefined && receiver.recvBufferSize >= 4 << 20) look(receiver);
  else if (mode === 'slow') dawdle(receiver);
  else wait(receiver);
} else if (receiver !== undefined) wait(receiver);

createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'reset') latencies = [];
    const latency = { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) };
    const answer: ReceiverCount = { datagrams, bytes, ...(latencies.length > 0 && { latency }) };
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  })
  .on('close', () => process.exit(0));
