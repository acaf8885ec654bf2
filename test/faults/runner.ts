/**
 * The process under test: plays experiments one after another, and ends by itself. argv: a file with a JSON
 * {@link RunnerPlan}. What it is about to do, and what it has found, goes to standard output, a JSON object a line.
 */
import { readFileSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker } from 'node:worker_threads';
import { Arrivals } from './arrivals.ts';
import { FaultControl } from './control.ts';
import { judge, type Outcome } from './oracle.ts';
import { play } from './player.ts';
import { scenarioOf } from './scenarios.ts';

/** What to play. */
export interface RunnerPlan {
  readonly control: string;
  readonly arrivals: string;
  readonly paths: readonly string[];
  readonly ids: readonly string[];
  /** In a thread of its own. */
  readonly inWorker: boolean;
}

/** One line of its output. */
export type RunnerLine =
  | { readonly about: string }
  | ({ readonly done: string; readonly violations: readonly string[] } & Figures)
  | { readonly finished: true };

/** How much was done in one experiment. */
export interface Figures {
  /** Errors told. */
  readonly told: number;
  /** Calls cut short. */
  readonly cut: number;
  readonly calls: number;
  readonly datagrams: number;
  /** Segmented messages at the head of calls that took some. */
  readonly segmented: number;
  /** Tries again, because of the clock. */
  readonly retried: number;
}

/** What is wrong by the clock alone is tried again: on a machine with other things to do, a timer may be late once. */
const RETRIES_IN_TIME = 2;

function figuresOf({ log: { told, cut, calls, datagrams, records } }: Outcome, retried: number): Figures {
  const segmented = records.filter(({ answer, segments }) => answer > 0 && segments > 1).length;
  return { told, cut, calls, datagrams, segmented, retried };
}

function say(line: RunnerLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

async function playAll(plan: RunnerPlan): Promise<void> {
  const control = new FaultControl(plan.control);
  const arrivals = new Arrivals(plan.arrivals);
  let tags = 0;
  for (const id of plan.ids) {
    const scenario = scenarioOf(id);
    if (scenario === undefined) throw new Error(`No such experiment: ${id}`);
    say({ about: id });
    for (let retried = 0; ; retried++) {
      const outcome = await play(scenario, (tags++).toString(36), control, { arrivals, paths: plan.paths });
      const { violations, isTimed } = judge(scenario, outcome);
      if (violations.length > 0 && isTimed && retried < RETRIES_IN_TIME) continue;
      say({ done: id, violations, ...figuresOf(outcome, retried) });
      break;
    }
  }
  control.close();
  arrivals.close();
  say({ finished: true });
}

const plan = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as RunnerPlan;
if (plan.inWorker && isMainThread) new Worker(fileURLToPath(import.meta.url), { argv: process.argv.slice(2) });
else await playAll(plan);
