/** Runs experiments in processes whose system calls go through the shim, and sums up what they tell. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Arrivals } from './arrivals.ts';
import { FaultControl } from './control.ts';
import type { Figures, RunnerLine, RunnerPlan } from './runner.ts';
import { BACKENDS, type Backend } from './scenario.ts';
import { scenarioOf } from './scenarios.ts';

/** An experiment that went wrong. */
export interface Failure {
  readonly id: string;
  readonly violations: readonly string[];
}

/** What was done. */
export type Tally = { -readonly [key in keyof Figures]: number } & {
  scenarios: number;
  /** Processes that ran. */
  processes: number;
};

export interface CampaignResult {
  readonly byBackend: Readonly<Record<Backend, Tally>>;
  readonly failures: readonly Failure[];
}

export interface CampaignOptions {
  /** Processes at a time; default 2. */
  readonly parallel?: number;
  /** In worker threads instead of main threads. */
  readonly inWorker?: boolean;
  readonly onDone?: (id: string, violations: readonly string[]) => void;
}

/** Experiments in one process: enough that starting it does not matter, few enough to be spread. */
const CHUNK = 250;
/** A process that tells nothing for so long hangs: no experiment may take that time. */
const SILENT_MS = 45_000;
/** A process that is done has nothing left to wait for. */
const EXIT_MS = 3000;
const UNIX_RECEIVERS = 4;

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/dist\/$/, '');

/** The shim and the receiver, compiled; in a folder that goes with {@link FaultLab.close}. */
export class FaultLab {
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-faults-'));
  readonly #shim: string = join(this.#folder, 'shim.so');
  readonly #receiver: string = join(this.#folder, 'receiver');
  #processes = 0;

  /** Throws what the compiler says, if it says anything. */
  constructor() {
    const source = (name: string): string => join(ROOT, 'test/faults', name);
    const strict = ['-O1', '-Wall', '-Wextra', '-Werror'];
    compile([...strict, '-shared', '-fPIC', '-o', this.#shim, source('shim.c'), '-ldl', '-lpthread']);
    compile([...strict, '-o', this.#receiver, source('receiver.c')]);
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Plays all of these, whatever goes wrong. */
  async run(
    ids: readonly string[],
    { parallel = 2, inWorker = false, onDone }: CampaignOptions = {},
  ): Promise<CampaignResult> {
    const byBackend: Record<Backend, Tally> = {
      sendmmsg: nothing(),
      sendmsg: nothing(),
      'node:dgram': nothing(),
    };
    const unknown = ids.find((id) => scenarioOf(id) === undefined);
    if (unknown !== undefined) throw new RangeError(`No such experiment: ${unknown}`);
    const failures: Failure[] = [];
    const chunks = BACKENDS.flatMap((backend) => {
      const own = ids.filter((id) => scenarioOf(id)?.backend === backend);
      return Array.from({ length: Math.ceil(own.length / CHUNK) }, (_, index) => ({
        backend,
        ids: own.slice(index * CHUNK, (index + 1) * CHUNK),
      }));
    });
    const work = async (): Promise<void> => {
      for (let chunk = chunks.shift(); chunk !== undefined; chunk = chunks.shift()) {
        const { backend } = chunk;
        const done = new Set<string>();
        const fail = (id: string, violations: readonly string[]): void => {
          done.add(id);
          if (violations.length > 0) failures.push({ id, violations });
          onDone?.(id, violations);
        };
        // A process that dies takes one experiment with it, not those behind it.
        for (let left = chunk.ids; left.length > 0; left = left.filter((id) => !done.has(id))) {
          await this.#runProcess(backend, left, inWorker, byBackend[backend], fail);
        }
      }
    };
    await Promise.all(Array.from({ length: parallel }, work));
    return { byBackend, failures };
  }

  async #runProcess(
    backend: Backend,
    ids: readonly string[],
    inWorker: boolean,
    tally: Tally,
    onDone: (id: string, violations: readonly string[]) => void,
  ): Promise<void> {
    const folder = join(this.#folder, String(this.#processes++));
    mkdirSync(folder);
    const name = (file: string): string => join(folder, file);
    const paths = Array.from({ length: UNIX_RECEIVERS }, (_, index) => name(`unix${index}`));
    const plan: RunnerPlan = { control: name('control'), arrivals: name('arrivals'), paths, ids, inWorker };
    FaultControl.create(plan.control, { isSendmmsgAbsent: backend === 'sendmsg' });
    Arrivals.create(plan.arrivals);
    const receiver = await this.#startReceiver(plan);
    const planFile = name('plan.json');
    writeFileSync(planFile, JSON.stringify(plan));
    const runner = spawn(
      process.execPath,
      [
        '--no-warnings',
        ...(backend === 'node:dgram' ? ['--no-addons'] : []),
        join(ROOT, 'dist/test/faults/runner.js'),
        planFile,
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, NODE_OPTIONS: '', LD_PRELOAD: this.#shim, RX_SENDMMSG_FAULTS: plan.control },
      },
    );
    let errors = '';
    runner.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    let about = '';
    let last = '';
    let isFinished = false;
    let watchdog = setTimeout(() => runner.kill('SIGKILL'), SILENT_MS);
    createInterface({ input: runner.stdout }).on('line', (text) => {
      clearTimeout(watchdog);
      const line = JSON.parse(text) as RunnerLine;
      isFinished = 'finished' in line;
      watchdog = setTimeout(() => runner.kill('SIGKILL'), isFinished ? EXIT_MS : SILENT_MS);
      if ('about' in line) about = line.about;
      if (!('done' in line)) return;
      about = '';
      last = line.done;
      tally.scenarios++;
      for (const count of ['told', 'cut', 'calls', 'datagrams', 'segmented', 'retried'] as const)
        tally[count] += line[count];
      onDone(line.done, line.violations);
    });
    const ending = await new Promise<string>((resolve, reject) => {
      runner.once('error', reject);
      runner.once('close', (code, signal) => resolve(String(signal ?? code)));
    });
    clearTimeout(watchdog);
    receiver.kill();
    rmSync(folder, { recursive: true }); // megabytes, and a long campaign has thousands of these
    tally.processes++;
    if (about !== '') onDone(about, [`the process ends with ${ending}: ${errors.trim()}`]);
    else if (!isFinished) onDone(last || ids[0]!, [`the process ends with ${ending} after this: ${errors.trim()}`]);
    else if (ending !== '0')
      onDone(last, [`the process ends with ${ending} when all is done, at the latest after this`]);
  }

  async #startReceiver({ arrivals, paths }: RunnerPlan): Promise<ChildProcess> {
    // It ends when its standard input does, also if this process is killed.
    const receiver = spawn(this.#receiver, [arrivals, ...paths], { stdio: ['pipe', 'inherit', 'inherit'] });
    const file = new Arrivals(arrivals);
    while (file.port === 0) {
      if (receiver.exitCode !== null) throw new Error(`The receiver ends with ${receiver.exitCode}`);
      await sleep(1);
    }
    file.close();
    return receiver;
  }
}

/** The failures, those of a kind together, each kind with how to repeat some. */
export function summaryOf(failures: readonly Failure[]): string[] {
  const kinds = new Map<string, string[]>();
  for (const { id, violations } of failures) {
    const kind = [...new Set(violations.map((text) => text.replace(/\d+/g, 'n')))].join('; ');
    kinds.set(kind, [...(kinds.get(kind) ?? []), id]);
  }
  return [...kinds].map(
    ([kind, ids]) => `${ids.length} × ${kind}: npm run test:faults -- --only ${ids.slice(0, 3).join(',')}`,
  );
}

function compile(args: readonly string[]): void {
  const { status, stderr, error } = spawnSync('cc', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cc ${args.join(' ')}: ${error?.message ?? stderr}`);
}

function nothing(): Tally {
  return { scenarios: 0, told: 0, cut: 0, calls: 0, datagrams: 0, segmented: 0, retried: 0, processes: 0 };
}
