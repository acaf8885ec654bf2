/** The reader's process, from outside. */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Channel } from './channel.ts';
import type { ChannelState, Question, ReceiverPlan, Sabotage } from './receiver-plan.ts';

export type { ChannelState } from './receiver-plan.ts';

export class ReceiverProcess {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #addresses: ReadonlyMap<string, string | number>;

  private constructor(child: ChildProcess, folder: string, addresses: ReadonlyMap<string, string | number>) {
    this.#child = child;
    this.#folder = folder;
    this.#addresses = addresses;
  }

  static async start(channels: readonly Channel[], seed: number, sabotage: Sabotage | ''): Promise<ReceiverProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-soak-'));
    const paths = channels.map(({ type }, index) => (type === 'unix' ? join(folder, String(index)) : ''));
    const plan: ReceiverPlan = { channels, paths, seed, sabotage };
    const child = fork(fileURLToPath(new URL('./receiver.js', import.meta.url)), [JSON.stringify(plan)]);
    const ports = await answer<readonly number[]>(child);
    const addresses = new Map(channels.map(({ name }, index) => [name, paths[index] || ports[index]!]));
    return new ReceiverProcess(child, folder, addresses);
  }

  /** The path of a channel, or its port. */
  addressOf({ name }: Channel): string | number {
    return this.#addresses.get(name)!;
  }

  /** How each channel stands, in the order of the channels; rejects if the process has ended. */
  ask(question: Question): Promise<readonly ChannelState[]> {
    const states = answer<readonly ChannelState[]>(this.#child);
    this.#child.send(question);
    return states;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.connected) this.#child.disconnect();
    if (this.#child.exitCode === null) await ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function answer<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null): void => reject(new Error(`The receiver has ended with ${code}`));
    child.once('exit', onExit);
    child.once('message', (message) => {
      child.off('exit', onExit);
      resolve(message as T);
    });
  });
}
