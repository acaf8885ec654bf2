/**
 * `npm run test:faults`: the full product, and then random experiments for as long as it is told to.
 *
 * `--minutes M` (default 2) in all; `--seed N` (default: the time); `--only ID,ID` plays just these, `--times T` (default 1) over;
 * `--match TEXT` those of the product that have it in their name; `--parallel P` processes (default 2); `--worker` in threads.
 */
import { parseArgs } from 'node:util';
import { type CampaignResult, type Failure, FaultLab, summaryOf, type Tally } from './campaign.ts';
import { product } from './product.ts';
import { randomScenario } from './random.ts';
import { BACKENDS, type Backend } from './scenario.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string', default: String(Math.floor(Date.now() / 1000)) },
    parallel: { type: 'string', default: '2' },
    only: { type: 'string' },
    times: { type: 'string', default: '1' },
    match: { type: 'string' },
    worker: { type: 'boolean', default: false },
  },
});

/** Random experiments between two looks at the clock, for each backend. */
const ROUND = 300;
const SHOWN = 50;

const started = performance.now();
const isInTime = (): boolean => performance.now() - started < Number(values.minutes) * 60_000;
const lab = new FaultLab();
const totals = new Map<Backend, Tally>();
const failures: Failure[] = [];

async function play(what: string, ids: readonly string[]): Promise<void> {
  let done = 0;
  const result = await lab.run(ids, {
    parallel: Number(values.parallel),
    inWorker: values.worker,
    onDone: (id, violations) => {
      done++;
      if (violations.length > 0 && failures.length < SHOWN) console.log(`FAILS ${id}\n  ${violations.join('\n  ')}`);
      if (done % 1000 === 0) console.log(`${what}: ${done} of ${ids.length}, ${seconds()} s`);
    },
  });
  add(result);
}

function add({ byBackend, failures: more }: CampaignResult): void {
  failures.push(...more);
  for (const backend of BACKENDS) {
    const total = totals.get(backend);
    if (total === undefined) totals.set(backend, byBackend[backend]);
    else for (const key of Object.keys(total) as (keyof Tally)[]) total[key] += byBackend[backend][key];
  }
}

function seconds(): string {
  return ((performance.now() - started) / 1000).toFixed(0);
}

if (values.only !== undefined) {
  for (let time = 0; time < Number(values.times); time++) await play('only', values.only.split(','));
} else {
  const { match = '' } = values;
  const ids = product().map(({ id }) => id);
  await play(
    'product',
    ids.filter((id) => id.includes(match)),
  );
  const seed = Number(values.seed);
  for (let from = 0; values.match === undefined && isInTime(); from += ROUND) {
    const indexes = Array.from({ length: ROUND }, (_, index) => from + index);
    const round = BACKENDS.flatMap((backend) => indexes.map((index) => randomScenario(backend, seed, index).id));
    await play(`seed ${seed}, from ${from}`, round);
    console.log(`seed ${seed}: ${from + ROUND} of each backend, ${failures.length} failures, ${seconds()} s`);
  }
}
lab.close();
console.table(Object.fromEntries(totals));
if (failures.length > 0) {
  console.log(`${failures.length} FAILURES\n${summaryOf(failures).slice(0, SHOWN).join('\n')}`);
  process.exitCode = 1;
}
