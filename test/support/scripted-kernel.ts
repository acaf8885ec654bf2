/** A kernel that answers as a test tells it to, and remembers every call: the other side of a FlushLoop. */
import { AF_INET, AF_UNIX } from '../../src/kernel/abi.ts';
import { allocateDetached } from '../../src/kernel/libc.ts';
import { DatagramReader } from '../../src/message/datagram-reader.ts';
import { Batch } from '../../src/queue/batch.ts';
import { GsoLatch } from '../../src/queue/gso.ts';
import { DatagramQueue } from '../../src/queue/queue.ts';
import { FlushLoop, type FlushOptions, type Verdict, type Wire } from '../../src/sender/flush.ts';

/** One call: the numbers of the datagrams it was given (of the first and how many), and the answer. */
export interface Call {
  readonly head: number;
  readonly vlen: number;
  readonly answer: number;
}

/**
 * What to answer to a call for `vlen` messages from datagram `head` on: how many are taken, or `-errno`. `segments` are the
 * datagrams of each message.
 */
export type Behaviour = (head: number, vlen: number, call: number, segments: readonly number[]) => number;

export class ScriptedKernel implements Wire {
  readonly calls: Call[] = [];
  /** The numbers taken, in order. */
  readonly taken: number[] = [];
  /** What SO_ERROR answers. */
  pendingError = 0;
  errorsRead = 0;
  behaviour: Behaviour;
  readonly backend = 'sendmmsg';
  readonly isConnected = true;
  readonly latch = new GsoLatch();
  family: number = AF_INET;
  peer = { address: '192.0.2.1', port: 9 };
  /** What connecting again answers, and how often it was asked. */
  reconnectAnswer = 0;
  reconnects = 0;
  isDown = true;

  constructor(behaviour: Behaviour) {
    this.behaviour = behaviour;
  }

  sendmmsg(batch: Batch, vlen: number): number {
    const head = Number(batch.headPayload().toString());
    const segments = Array.from({ length: vlen }, (_, index) => batch.segmentsAt(index));
    const answer = this.behaviour(head, vlen, this.calls.length, segments);
    this.calls.push({ head, vlen, answer });
    const datagrams = segments.slice(0, Math.max(answer, 0)).reduce((sum, each) => sum + each, 0);
    for (let index = 0; index < datagrams; index++) this.taken.push(head + index);
    return answer;
  }

  takeError(): number {
    this.errorsRead++;
    return this.pendingError;
  }

  reconnect(): number {
    this.reconnects++;
    return this.reconnectAnswer;
  }

  isShutDown(): boolean {
    return this.isDown;
  }
}

interface FixtureOptions extends Partial<FlushOptions> {
  readonly capacity?: number;
  /** With GSO: most datagrams of a message. */
  readonly maxSegments?: number;
  readonly isUnix?: boolean;
}

interface Fixture {
  readonly queue: DatagramQueue;
  readonly batch: Batch;
  readonly kernel: ScriptedKernel;
  readonly latch: GsoLatch;
  readonly loop: FlushLoop;
  push(): boolean;
}

/** A queue with datagrams 0 … count-1, whose payloads are their numbers (with GSO in four digits), before a scripted kernel. */
export function flushFixture(
  count: number,
  behaviour: Behaviour,
  { capacity = Math.max(count, 1), maxSegments = 1, isUnix = false, ...options }: FixtureOptions = {},
): Fixture {
  const reader = new DatagramReader(AF_INET, true);
  const kernel = new ScriptedKernel(behaviour);
  if (isUnix) kernel.family = AF_UNIX;
  const { latch } = kernel;
  const queue = new DatagramQueue({ capacity, maxBytes: capacity * 8 }, allocateDetached);
  const batch = new Batch(queue, { nameSize: 0, maxSegments, maxSegmentedBytes: 65_507 }, latch, allocateDetached);
  let next = 0;
  const push = (): boolean => {
    reader.read(maxSegments > 1 ? String(next).padStart(4, '0') : String(next));
    const hasRoom = queue.push(reader, next, 0);
    if (hasRoom) next++;
    return hasRoom;
  };
  for (let index = 0; index < count; index++) push();
  const loop = new FlushLoop(queue, batch, kernel, { mostRejectedBytes: 1 << 20, clock: { now: () => 0 }, ...options });
  return { queue, batch, kernel, latch, loop, push };
}

/** A kernel that takes at most `chunk` a call, and refuses some datagrams, as sendmmsg(2) does: the head, or a short count. */
export function refusing(bad: readonly number[], errno: number, chunk = 1024): Behaviour {
  return (head, vlen) => {
    const first = bad.find((number) => number >= head && number < head + Math.min(vlen, chunk));
    if (first === head) return -errno;
    return first === undefined ? Math.min(vlen, chunk) : first - head;
  };
}

/** What a run ended with, and how long it wants to wait. */
export type Wait = readonly [verdict: Verdict, ms?: number];

/** Runs the loop, as often as it waits, until there is nothing left to wait for; `meanwhile` is called while it waits. */
export function drive(
  loop: FlushLoop,
  { turns = 10_000, budget, meanwhile }: { turns?: number; budget?: number; meanwhile?: (wait: Wait) => void } = {},
): { verdict: Verdict; waits: Wait[] } {
  const waits: Wait[] = [];
  for (let turn = 0; turn < turns; turn++) {
    const verdict = loop.run(budget);
    if (verdict === 'drained' || verdict === 'fatal') return { verdict, waits };
    const wait: Wait = verdict === 'backoff' ? [verdict, loop.backoffMs] : [verdict];
    waits.push(wait);
    meanwhile?.(wait);
  }
  throw new Error('It does not end');
}
