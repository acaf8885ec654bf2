/** What must have arrived of senders that come and go, by generation; and of states, the last. */
import type { Channel } from './channel.ts';
import type { ChannelState } from './receiver-plan.ts';

interface Bounds {
  readonly least: number;
  readonly most: number;
}

export class Expectations {
  readonly violations: string[] = [];
  /** Generations met. */
  met: number = 0;
  readonly #byChannel = new Map<string, Map<number, Bounds>>();
  readonly #latest = new Map<string, readonly number[]>();

  /** Of that generation so many must have arrived, once another follows it. */
  expect({ name }: Channel, generation: number, least: number, most: number): void {
    const bounds = this.#byChannel.get(name) ?? new Map<number, Bounds>();
    this.#byChannel.set(name, bounds.set(generation, { least, most }));
  }

  expectLatest({ name }: Channel, lastByKey: readonly number[]): void {
    this.#latest.set(name, lastByKey);
  }

  /** @param isLast - whether nothing more will arrive */
  compare({ name }: Channel, { ended, lastByKey }: ChannelState, isLast: boolean): void {
    const all = this.#byChannel.get(name);
    for (const [generation, received] of ended) {
      const bounds = all?.get(generation);
      all?.delete(generation);
      this.#compareOne(name, generation, received, bounds);
      // Those before it of which nothing came.
      for (const [earlier, none] of all ?? []) if (earlier < generation) this.#forget(name, earlier, none);
    }
    if (!isLast) return;
    for (const [generation, none] of all ?? []) this.#forget(name, generation, none);
    const expected = this.#latest.get(name);
    if (expected !== undefined && expected.join() !== lastByKey.join()) {
      this.violations.push(`${name}: the last states are ${lastByKey} and not ${expected}`);
    }
  }

  #forget(name: string, generation: number, bounds: Bounds): void {
    this.#byChannel.get(name)!.delete(generation);
    this.#compareOne(name, generation, 0, bounds);
  }

  #compareOne(name: string, generation: number, received: number, bounds: Bounds | undefined): void {
    this.met++;
    if (bounds === undefined) {
      // Before any has been expected, generation 0 stands for nothing at all.
      if (received > 0) this.violations.push(`${name}, generation ${generation}: ${received} received of none`);
      return;
    }
    const { least, most } = bounds;
    if (received < least || received > most) {
      const owed = least === most ? `${least}` : `${least} to ${most}`;
      this.violations.push(`${name}, generation ${generation}: ${received} received and not ${owed}`);
    }
  }
}
