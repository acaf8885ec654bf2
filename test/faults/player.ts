/** Plays one experiment through the public API, and tells what happened. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Observable } from 'rxjs';
import {
  type BatchObserver,
  type BatchReport,
  type DatagramLike,
  DatagramSocket,
  endpoint,
  type SenderStats,
  SendmmsgError,
  type SocketOptions,
  sendmmsg,
} from '../../src/index.ts';
import { WholeSender } from '../support/whole-sender.ts';
import type { Arrivals } from './arrivals.ts';
import type { FaultControl } from './control.ts';
import { type Outcome, SOURCE_ERROR } from './oracle.ts';
import { destinationOf, payloadOf, type Scenario } from './scenario.ts';

/** Where the datagrams go. */
export interface Receivers {
  readonly arrivals: Arrivals;
  readonly paths: readonly string[];
}

/** Longer than any experiment takes whose sender is awake. */
const NEVER_MS = 20_000;
/** How long a datagram that was taken may be under way. */
const ARRIVAL_MS = 3000;

type Result = Pick<Outcome, 'end' | 'error'>;

interface Told {
  sent: number;
  dropped: number;
  readonly rejected: { sequence: number; errno: number | undefined }[];
}

export async function play(
  scenario: Scenario,
  tag: string,
  control: FaultControl,
  { arrivals, paths }: Receivers,
): Promise<Outcome> {
  const datagrams = Array.from({ length: scenario.count }, (_, index) =>
    datagram(scenario, index, tag, arrivals, paths),
  );
  const told: Told = { sent: 0, dropped: 0, rejected: [] };
  const openBefore = openDescriptors();
  const timersBefore = armedTimers();
  const callsBefore = control.callsEver;
  let stats: SenderStats | undefined;
  const onClose = (message: unknown): void => {
    stats = (message as { stats: SenderStats }).stats;
  };
  subscribe('rx-sendmmsg:close', onClose);
  const socket: DatagramSocket = DatagramSocket.open(socketOptions(scenario, arrivals, paths));
  control.arm(scenario.rules);
  const started = performance.now();
  let result: Result = await raced(scenario, (done) => {
    if (scenario.through === 'operator') return throughOperator(socket, scenario, datagrams, told, done);
    return throughSender(socket, scenario, datagrams, told, done);
  });
  // After an unsubscribe, what is in flight is waited for.
  while (stats === undefined && result.end !== 'never') {
    if (performance.now() - started > NEVER_MS) result = { end: 'never' };
    await turn();
  }
  const elapsedMs = performance.now() - started;
  const timersLeft = armedTimers() - timersBefore;
  socket.close();
  unsubscribe('rx-sendmmsg:close', onClose);
  await turn();
  const log = control.read();
  for (let waits = 0; arrivals.waiting < log.datagrams && waits < ARRIVAL_MS; waits++) {
    await (waits < 20 ? turn() : sleep(1));
  }
  // Closing may take until the next turns: of polls, of node:dgram.
  for (let waits = 0; openDescriptors() > openBefore && waits < 50; waits++) await sleep(1);
  return {
    tag,
    ...result,
    stats,
    reported: told,
    rejected: told.rejected,
    arrivals: arrivals.take(),
    log,
    elapsedMs,
    lateCalls: control.callsEver - callsBefore - log.calls,
    timersLeft,
    leakedDescriptors: openDescriptors() - openBefore,
  };
}

function socketOptions({ target }: Scenario, arrivals: Arrivals, paths: readonly string[]): SocketOptions {
  switch (target) {
    case 'unix':
      return { type: 'unix' };
    case 'unix-connected':
      return { type: 'unix', connect: { path: paths[0]! } };
    case 'udp':
      return { type: 'udp4' };
    case 'udp-connected':
      return { type: 'udp4', connect: { address: '127.0.0.1', port: arrivals.port } };
  }
}

function datagram(
  scenario: Scenario,
  index: number,
  tag: string,
  arrivals: Arrivals,
  paths: readonly string[],
): DatagramLike {
  const payload = payloadOf(scenario, index, tag);
  const destination = destinationOf(scenario, index);
  switch (scenario.target) {
    case 'unix':
      return { payload, path: paths[destination]! };
    case 'udp':
      return { payload, to: endpoint(`127.0.0.${destination + 1}`, arrivals.port) };
    default:
      return payload;
  }
}

/** Runs until it says that it is done, or for too long. */
async function raced({ options }: Scenario, start: (done: (result: Result) => void) => void): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const result = await new Promise<Result>((resolve) => {
    timer = setTimeout(() => resolve({ end: 'never' }), NEVER_MS + (options.drainTimeoutMs ?? 0));
    start(resolve);
  });
  clearTimeout(timer);
  return result;
}

function throughOperator(
  socket: DatagramSocket,
  scenario: Scenario,
  datagrams: readonly DatagramLike[],
  told: Told,
  done: (result: Result) => void,
): void {
  const subscription = source(scenario, datagrams, () => {
    subscription.unsubscribe();
    done({ end: 'unsubscribe' });
  })
    .pipe(sendmmsg(socket, scenario.options))
    .subscribe(observer(told, done));
}

function throughSender(
  socket: DatagramSocket,
  scenario: Scenario,
  datagrams: readonly DatagramLike[],
  told: Told,
  done: (result: Result) => void,
): void {
  const sender = new WholeSender(socket, scenario.options, observer(told, done));
  const stop = (): void => {
    sender.destroy();
    done({ end: 'unsubscribe' });
  };
  source(scenario, datagrams, stop).subscribe({
    next: (datagram) => {
      if (!sender.closed) sender.send(datagram);
    },
    error: (error) => sender.abort(error),
    complete: () => sender.end(),
  });
}

function observer(told: Told, done: (result: Result) => void): Required<BatchObserver> {
  return {
    next(report: BatchReport) {
      told.sent += report.sent;
      told.dropped += report.dropped;
      for (const { sequence, error } of report.rejected) told.rejected.push({ sequence, errno: error.errno });
    },
    error(error: unknown) {
      const isOfSocket = error instanceof SendmmsgError && error.syscall !== undefined;
      done({ end: 'error', error: isOfSocket ? error.errno : (error as { code?: string }).code });
    },
    complete: () => done({ end: 'complete' }),
  };
}

/** Emits so many in a turn, and ends; after `stop`, if it is to be unsubscribed from, when half has been emitted. */
function source(
  { perTurn, end }: Scenario,
  datagrams: readonly DatagramLike[],
  stop: () => void,
): Observable<DatagramLike> {
  return new Observable((subscriber) => {
    let index = 0;
    const emit = (): void => {
      const until = Math.min(index + perTurn, datagrams.length);
      while (index < until && !subscriber.closed) subscriber.next(datagrams[index++]!);
      if (subscriber.closed) return;
      if (end === 'unsubscribe' && index * 2 >= datagrams.length) {
        setImmediate(stop);
      } else if (index < datagrams.length) {
        setImmediate(emit);
      } else if (end === 'error') {
        subscriber.error(Object.assign(new Error('the source has failed'), { code: SOURCE_ERROR }));
      } else {
        subscriber.complete();
      }
    };
    emit();
  });
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

function armedTimers(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
}
