/**
 * Any errno, at any place, whatever does the sending: the system calls of whole processes are answered by a script (see
 * `faults/shim.c`), and what comes of it is compared with what the contract owes to each datagram (`faults/oracle.ts`).
 * This is a sample that is the same each time; `npm run test:faults` plays all of it, and random scripts without end.
 */
import { afterAll, describe, expect, it, type TestContext } from 'vitest';
import { type CampaignResult, FaultLab, summaryOf } from '../faults/campaign.ts';
import { ERRNO_NAMES } from '../faults/errnos.ts';
import { product, sample } from '../faults/product.ts';
import { randomScenario } from '../faults/random.ts';
import { BACKENDS } from '../faults/scenario.ts';
import { scenarioOf } from '../faults/scenarios.ts';
import { requires } from '../support/requires.ts';

const RANDOM_SEED = 1;
const RANDOM_EACH = 150;
const IN_WORKER = 150;
const TIMEOUT_MS = 180_000;

let lab: FaultLab | undefined;
afterAll(() => lab?.close());

async function campaign(context: TestContext, ids: readonly string[], inWorker = false): Promise<CampaignResult> {
  requires(context, 'cc');
  lab ??= new FaultLab();
  return lab.run(ids, { inWorker });
}

describe('the fault campaign', () => {
  const ids = sample().map(({ id }) => id);

  it('has 32 errnos or more, each with each placement, and both with each way of sending', () => {
    const pairs = (all: readonly string[]): Set<string> =>
      new Set(
        all.flatMap((id) => {
          const [target, way, errno, placement] = id.split('.');
          return [`${errno} ${placement}`, `${errno} ${target} ${way}`, `${placement} ${target} ${way}`];
        }),
      );
    expect(ERRNO_NAMES.length).toBeGreaterThanOrEqual(32);
    expect(pairs(ids)).toEqual(pairs(product().map(({ id }) => id)));
  });

  it('can repeat each experiment by its name', () => {
    for (const scenario of sample()) expect(scenarioOf(scenario.id)).toEqual(scenario);
    for (const backend of BACKENDS) {
      const scenario = randomScenario(backend, 7, 3);
      expect(scenarioOf(scenario.id)).toEqual(scenario);
    }
  });

  it(`${ids.length} of the product: nothing lost, nothing twice, in order, without a spin, to the end`, {
    timeout: TIMEOUT_MS,
  }, async (context) => {
    const result = await campaign(context, ids);
    expect(summaryOf(result.failures)).toEqual([]);
    // That the shim was asked, and had something to say, in each way of sending.
    for (const backend of BACKENDS) {
      const { scenarios, told: errors, datagrams } = result.byBackend[backend];
      expect(scenarios).toBe(ids.filter((id) => scenarioOf(id)!.backend === backend).length);
      expect(errors).toBeGreaterThan(scenarios);
      expect(datagrams).toBeGreaterThan(scenarios);
    }
    expect(result.byBackend.sendmmsg.cut).toBeGreaterThan(ids.length);
    expect(result.byBackend.sendmmsg.segmented).toBeGreaterThan(ids.length / 4);
  });

  it(`${IN_WORKER} of them in worker threads`, { timeout: TIMEOUT_MS }, async (context) => {
    const step = Math.floor(ids.length / IN_WORKER);
    const some = ids.filter((_, index) => index % step === 0).slice(0, IN_WORKER);
    expect(summaryOf((await campaign(context, some, true)).failures)).toEqual([]);
  });

  it(`${RANDOM_EACH * BACKENDS.length} at random, seed ${RANDOM_SEED}`, { timeout: TIMEOUT_MS }, async (context) => {
    const random = BACKENDS.flatMap((backend) =>
      Array.from({ length: RANDOM_EACH }, (_, index) => randomScenario(backend, RANDOM_SEED, index).id),
    );
    expect(summaryOf((await campaign(context, random)).failures)).toEqual([]);
  });
});
