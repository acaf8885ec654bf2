/**
 * The receiving side of the demonstration: `mmsg recv` in a process of its own.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** What `mmsg recv --json` says. */
export interface Received {
  readonly datagrams: number;
  readonly bytes: number;
  /** `null` where it is not told. */
  readonly calls: number | null;
  readonly backend: string;
}

export class DemoReceiver {
  /** Where it listens. */
  readonly port: number;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #summary: Promise<string>;

  private constructor(child: ChildProcessWithoutNullStreams, port: number, summary: Promise<string>) {
    this.#child = child;
    this.port = port;
    this.#summary = summary;
  }

  /** Starts it on any port of the loopback interface. Throws what it said if it could not start. */
  static async start(): Promise<DemoReceiver> {
    const command = fileURLToPath(new URL('./mmsg.js', import.meta.url));
    const child = spawn(process.execPath, [command, 'recv', '127.0.0.1:0', '--json', '--end-with-stdin'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // A session of its own: Ctrl-C is for the sender alone, which drains first. On Windows not with a window of its own.
      detached: true,
      windowsHide: true,
    });
    child.stdin.on('error', () => {}); // it has ended: told by what it said, or did not
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

  /**
   * Ends it; what the kernel holds for it by now is counted too. It ends with its standard input, as it does where this process is
   * killed: on Windows a signal would leave it no time to tell.
   */
  async finish(): Promise<Received> {
    this.#child.stdin.end();
    return JSON.parse(await this.#summary) as Received;
  }

  /** Ends it at once, whatever it is doing. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
