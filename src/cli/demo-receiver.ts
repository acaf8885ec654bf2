/**
 * The receiving side of the demonstration: `mmsg recv` in a process of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** What `mmsg recv --json` says. */
export interface Received {
  readonly datagrams: number;
  readonly bytes: number;
  readonly calls: number;
}

/** If this process is killed, the child ends by itself after so long. */
const ORPHAN_MS = 5000;

export class DemoReceiver {
  /** Where it listens. */
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #summary: Promise<string>;

  private constructor(child: ChildProcess, port: number, summary: Promise<string>) {
    this.#child = child;
    this.port = port;
    this.#summary = summary;
  }

  /** Starts it on any port of the loopback interface. Throws what it said if it could not start. */
  static async start(): Promise<DemoReceiver> {
    const command = fileURLToPath(new URL('./mmsg.js', import.meta.url));
    const child = spawn(
      process.execPath,
      [command, 'recv', '127.0.0.1:0', '--json', '--idle-timeout', String(ORPHAN_MS)],
      // A session of its own: Ctrl-C is for the sender alone, which drains first.
      { stdio: ['ignore', 'pipe', 'pipe'], detached: true },
    );
    const summary = text(child.stdout);
    const lines = createInterface({ input: child.stderr });
    const heard: string[] = [];
    for await (const line of lines) {
      const port = /listening on 127\.0\.0\.1:(\d+)$/.exec(line)?.[1];
      if (port !== undefined) return new DemoReceiver(child, Number(port), summary);
      heard.push(line.replace(/^mmsg: /, ''));
    }
    throw new Error(`the receiver did not start: ${heard.join(' ')}`);
  }

  /** Ends it; what the kernel holds for it by now is counted too. */
  async finish(): Promise<Received> {
    const hasExited = this.#child.exitCode !== null ? Promise.resolve() : once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await hasExited;
    return JSON.parse(await this.#summary) as Received;
  }

  /** Ends it at once, whatever it is doing. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
