/** All experiments by name. */
import { productScenario } from './product.ts';
import { randomScenarioOf } from './random.ts';
import type { Scenario } from './scenario.ts';

/** The experiment of that name; `undefined` if there is none. */
export function scenarioOf(id: string): Scenario | undefined {
  return randomScenarioOf(id) ?? productScenario(id);
}
