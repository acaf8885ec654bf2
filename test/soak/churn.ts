/**
 * Senders that come and go: sockets are opened and closed again and again, and each sender ends in another way. What was queued
 * then is told by the diagnostics channel only, and what the kernel had taken is what must arrive.
 */
import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { Observable } from 'rxjs';
import {
  type BatchOptions,
  type BatchReport,
  BatchSender,
  type DatagramSocket,
  SendmmsgError,
  sendmmsg,
} from '../../src/index.ts';
import { sendmmsg as ixSendmmsg } from '../../src/ix.ts';
import { createDatagramWritable, createDatagramWritableStream } from '../../src/streams.ts';
import { type Channel, channel, textOf } from './channel.ts';
import type { Account } from './ledger.ts';
import { type Bench, open, PATIENT_MS, pause, type Workload } from './workload.ts';

/** One life: a sender that is made, used and ended; all that is left to say is in its account. */
interface Life {
  readonly bench: Bench;
  readonly socket: () => DatagramSocket;
  readonly options: BatchOptions;
  /** Datagrams that are emitted, if it lasts so long. */
  readonly count: number;
  datagram(sequence: number): string;
}

const SOURCE_ERROR = new Error('the source has failed, on purpose');
const MAX_COUNT = 1500;
const PER_TURN = 50;

/** Emits all, and then ends as it is told to. */
function emitting({ count, datagram }: Life, end: 'complete' | 'error'): Observable<string> {
  return new Observable((subscriber) => {
    let sequence = 0;
    const emit = (): void => {
      for (let more = 0; more < PER_TURN && sequence < count; more++) subscriber.next(datagram(sequence++));
      if (subscriber.closed) return;
      if (sequence < count) setImmediate(emit);
      else if (end === 'complete') subscriber.complete();
      else subscriber.error(SOURCE_ERROR);
    };
    emit();
  });
}

function toEnd(reports: Observable<BatchReport>): Promise<unknown> {
  return new Promise((resolve) => {
    reports.subscribe({ error: resolve, complete: () => resolve(undefined) });
  });
}

async function rxCompletes(life: Life): Promise<void> {
  const error = await toEnd(emitting(life, 'complete').pipe(sendmmsg(life.socket, life.options)));
  if (error !== undefined) throw error;
}

async function rxSourceFails(life: Life): Promise<void> {
  const error = await toEnd(emitting(life, 'error').pipe(sendmmsg(life.socket, life.options)));
  if (error !== SOURCE_ERROR) throw new Error('The error of the source was not told', { cause: error });
}

async function rxUnsubscribes(life: Life): Promise<void> {
  const { bench } = life;
  const subscription = emitting(life, 'complete').pipe(sendmmsg(life.socket, life.options)).subscribe();
  await pause(bench, bench.dice.between(0, 40));
  subscription.unsubscribe();
}

async function rxOverflows(life: Life): Promise<void> {
  const options = { ...life.options, highWaterMark: 20, overflow: 'error' } as const;
  const error = await toEnd(emitting(life, 'complete').pipe(sendmmsg(life.socket, options)));
  // Where the reader is quick enough, it is none.
  if (error !== undefined && !(error instanceof SendmmsgError && error.code === 'ENOBUFS')) throw error;
}

async function ixBreaks(life: Life): Promise<void> {
  const until = life.bench.dice.between(1, 20);
  let reports = 0;
  async function* source() {
    for (let n = 0; n < life.count; n++) yield life.datagram(n);
  }
  for await (const _ of ixSendmmsg(life.socket, life.options)(source())) if (++reports === until) break;
}

async function writableEnds(life: Life): Promise<void> {
  const stream = createDatagramWritable(life.socket, { ...life.options, highWaterMark: 64 });
  for (let n = 0; n < life.count; n++) if (!stream.write(life.datagram(n))) await once(stream, 'drain');
  stream.end();
  await finished(stream);
}

async function writableIsDestroyed(life: Life): Promise<void> {
  const stream = createDatagramWritable(life.socket, { ...life.options, highWaterMark: 64 });
  for (let n = 0; n < life.count; n++) stream.write(life.datagram(n));
  await pause(life.bench, life.bench.dice.between(0, 40));
  stream.destroy();
}

async function webAborts(life: Life): Promise<void> {
  const stream = createDatagramWritableStream(life.socket, { ...life.options, highWaterMark: 64 });
  const writer = stream.getWriter();
  writer.closed.catch(() => {});
  for (let n = 0; n < life.count; n++) {
    writer.ready.catch(() => {});
    writer.write(life.datagram(n)).catch(() => {});
  }
  await pause(life.bench, life.bench.dice.between(0, 40));
  await writer.abort();
}

/** Does what is told with a sender that has been given all. */
function withSender(
  end: (sender: BatchSender, life: Life, socket: DatagramSocket) => Promise<void>,
): (life: Life) => Promise<void> {
  return async (life) => {
    const socket = life.socket();
    const sender = new BatchSender(socket, life.options);
    for (let n = 0; n < life.count; n++) {
      sender.send(life.datagram(n));
      if (n % PER_TURN === 0) await turn();
    }
    await end(sender, life, socket);
    socket.close();
  };
}

const LIVES: Readonly<Record<string, (life: Life) => Promise<void>>> = {
  rxCompletes,
  rxSourceFails,
  rxUnsubscribes,
  rxOverflows,
  ixBreaks,
  writableEnds,
  writableIsDestroyed,
  webAborts,
  senderCloses: withSender((sender) => sender.close()),
  senderIsDestroyed: withSender(async (sender, { bench }) => {
    await pause(bench, bench.dice.between(0, 40));
    sender.destroy();
  }),
  socketCloses: withSender(async (sender, _life, socket) => {
    socket.close();
    // An idle sender would learn of it with its next datagram only, and there is none.
    if (sender.stats.queued === 0) sender.destroy();
  }),
};

/** The socket's own failure is an error of its sender, which tells nobody here. */
const LIFE_NAMES = Object.keys(LIVES);

function churning(name: string, to: Channel): Workload {
  return {
    name,
    channels: [to],
    mayDrop: ['teardown', 'failure', 'overflow', 'drainTimeout'],
    isSilenced: true,
    async run(bench) {
      for (let generation = 0; !bench.over.aborted; generation++) {
        await live(bench, name, to, generation);
        await pause(bench, bench.dice.between(0, 10));
      }
    },
  };
}

async function live(bench: Bench, name: string, to: Channel, generation: number): Promise<void> {
  const { dice } = bench;
  const how = dice.one(LIFE_NAMES);
  let account: Account | undefined;
  const offload = dice.chance(0.3);
  const life: Life = {
    bench,
    socket: () => {
      account = bench.ledger.claim(name);
      return open(bench.addressOf(to));
    },
    options: {
      highWaterMark: MAX_COUNT,
      batchSize: dice.one([1, 16, 64, 300]),
      drainTimeoutMs: dice.chance(0.2) ? 100 : PATIENT_MS,
      offload,
      ...(offload && { lanes: dice.between(1, 3) }),
      ...(dice.chance(0.3) && { flushAfterMs: dice.between(1, 20) }),
    },
    count: dice.between(0, MAX_COUNT),
    datagram: (sequence) => textOf(generation, sequence),
  };
  try {
    await LIVES[how]!(life);
  } catch (error) {
    bench.fail(`${name}, ${how}: ${String(error)}`);
  }
  if (account === undefined) return; // nothing was pulled, so nothing was opened
  const { sent } = await account.closed;
  bench.expect(to, generation, sent, sent);
}

export const CHURN: readonly Workload[] = [0, 1, 2].map((index) =>
  churning(`senders that come and go ${index}`, channel(`churn ${index}`, 'prefix', 'text')),
);
