/** Worker threads that send, and are terminated at random moments: in a wait, in flight, in the middle of a call. */
import { Worker } from 'node:worker_threads';
import { type Channel, channel } from './channel.ts';
import { THREAD_WAYS, type ThreadPlan, type ThreadWay } from './thread-plan.ts';
import { type Bench, pause, type Workload } from './workload.ts';

const MAX_LIFE_MS = 2500;
const EXIT_MS = 10_000;

/** Starts a worker, lets it run, ends it; tells what it has handed over, and what it was told was sent. */
export async function runThread(
  bench: Pick<Bench, 'over' | 'fail'>,
  plan: { readonly way: ThreadWay; readonly path: string; readonly generation: number },
  lifeMs: number,
  figures: Float64Array = new Float64Array(new SharedArrayBuffer(16)),
): Promise<{ accepted: number; sent: number }> {
  const workerData: ThreadPlan = { ...plan, figures: figures.buffer as SharedArrayBuffer };
  const worker = new Worker(new URL('./thread.js', import.meta.url), { workerData });
  worker.on('error', (error) => bench.fail(`A worker (${plan.way}) has failed: ${String(error)}`));
  // Not once(), which would reject, too, where it fails: it exits after that all the same.
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  const started = new Promise((resolve) => worker.once('message', resolve));
  // Not while it loads koffi, whose own start a termination may abort (about a millisecond).
  await Promise.race([started, exited]);
  await pause(bench, lifeMs);
  const timer = setTimeout(() => bench.fail(`A worker (${plan.way}) does not end`), EXIT_MS);
  void worker.terminate();
  await exited;
  clearTimeout(timer);
  return { accepted: figures[0]!, sent: figures[1]! };
}

function threads(name: string, to: Channel): Workload {
  return {
    name,
    channels: [to],
    async run(bench) {
      const { dice, workers } = bench;
      for (let generation = 0; !bench.over.aborted; generation++) {
        const figures = new Float64Array(new SharedArrayBuffer(16));
        const leave = workers.join(() => figures[1]!);
        const plan = { way: dice.one(THREAD_WAYS), path: bench.addressOf(to) as string, generation };
        const lifeMs = dice.chance(0.5) ? dice.between(0, 100) : dice.between(0, MAX_LIFE_MS);
        const { accepted, sent } = await runThread(bench, plan, lifeMs, figures);
        leave();
        bench.expect(to, generation, sent, accepted);
        await pause(bench, dice.between(0, 300));
      }
    },
  };
}

export const WORKERS: readonly Workload[] = [0, 1].map((index) =>
  threads(`workers that are terminated ${index}`, channel(`worker ${index}`, 'prefix', 'text')),
);
