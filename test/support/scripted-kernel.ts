/** A kernel that answers as a test tells it to, and remembers every call: the other side of a FlushLoop. */
import { AF_INET } from '../../src/abi.ts';
import { DatagramReader } from '../../src/datagram-reader.ts';
import { FlushLoop, type Verdict, type Wire } from '../../src/flush.ts';
import { allocateDetached } from '../../src/libc.ts';
import { MmsgRing } from '../../src/mmsg-ring.ts';

/** One call: the numbers of the datagrams it was given (of the first and how many), and the answer. */
export interface Call {
  readonly head: number;
  readonly vlen: number;
  readonly answer: number;
}

/** What to answer to a call for `vlen` datagrams from number `head` on: how many are taken, or `-errno`. */
export type Behaviour = (head: number, vlen: number, call: number) => number;

export class ScriptedKernel implements Wire {
  readonly calls: Call[] = [];
  /** The numbers taken, in order. */
  readonly taken: number[] = [];
  /** What SO_ERROR answers. */
  pendingError = 0;
  errorsRead = 0;
  behaviour: Behaviour;
  mostInFlight?: NonNullable<Wire['mostInFlight']>;

  constructor(behaviour: Behaviour) {
    this.behaviour = behaviour;
  }

  sendmmsg(ring: MmsgRing, vlen: number): number {
    const number = (index: number): number => Number(Buffer.from(ring.payloadAt(index)).toString());
    const head = number(0);
    const answer = this.behaviour(head, vlen, this.calls.length);
    this.calls.push({ head, vlen, answer });
    for (let index = 0; index < answer; index++) this.taken.push(number(index));
    return answer;
  }

  now(): number {
    return 0;
  }

  takeError(): number {
    this.errorsRead++;
    return this.pendingError;
  }
}

/** A ring with datagrams 0 … count-1, whose payloads are their numbers, before a scripted kernel. */
export function flushFixture(
  count: number,
  behaviour: Behaviour,
  slots: number = Math.max(count, 1),
): { ring: MmsgRing; kernel: ScriptedKernel; loop: FlushLoop; push(): boolean } {
  const reader = new DatagramReader(AF_INET, true);
  const layout = { slots, maxBytes: slots * 8, nameSize: 0, maxSegments: 1, maxSegmentedBytes: 65_507 };
  const ring = new MmsgRing(layout, allocateDetached);
  let next = 0;
  const push = (): boolean => {
    reader.read(String(next));
    const hasRoom = ring.push(reader, next, 0);
    if (hasRoom) next++;
    return hasRoom;
  };
  for (let index = 0; index < count; index++) push();
  const kernel = new ScriptedKernel(behaviour);
  return { ring, kernel, loop: new FlushLoop(ring, kernel), push };
}

/** Runs the loop, as often as it waits, until there is nothing left to wait for. */
export function drive(loop: FlushLoop, turns: number = 10_000): { verdict: Verdict; waits: Verdict[] } {
  const waits: Verdict[] = [];
  for (let turn = 0; turn < turns; turn++) {
    const verdict = loop.run();
    if (verdict === 'drained' || verdict === 'fatal') return { verdict, waits };
    waits.push(verdict);
  }
  throw new Error('It does not end');
}
