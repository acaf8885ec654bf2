/** The `mmsg` command as its user runs it: a process of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach } from 'vitest';

const COMMAND = fileURLToPath(new URL('../../dist/src/cli/mmsg.js', import.meta.url));

/** The compiled command, by this runtime. */
export const NATIVE: readonly string[] = [process.execPath, COMMAND];

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** A running command; what is left of it at the end of the test is killed. */
export class Mmsg {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
  #stderr = '';
  #listeners: (() => void)[] = [];

  /**
   * @param readsOutput - whether its standard output is read from the start
   * @param command - what runs it, where that is not the compiled command as it is
   */
  constructor(args: readonly string[], readsOutput = true, command: readonly string[] = NATIVE) {
    const { CI: _ci, NODE_OPTIONS: _options, ...env } = process.env;
    this.child = spawn(command[0]!, [...command.slice(1), ...args], { env });
    running.add(this);
    const stdout: Buffer[] = [];
    if (readsOutput) this.child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    this.child.stdin.on('error', () => {}); // EPIPE, where it ended without reading all
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      for (const listener of this.#listeners) listener();
    });
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => {
        running.delete(this);
        resolve({ code, signal, stdout: Buffer.concat(stdout), stderr: this.#stderr });
      });
    });
  }

  /** Waits until it says something on standard error; the first group of it. */
  async says(pattern: RegExp): Promise<string> {
    const said = new Promise<string>((resolve) => {
      const look = (): void => {
        const match = pattern.exec(this.#stderr);
        if (match !== null) resolve(match[1] ?? match[0]);
      };
      this.#listeners.push(look);
      look();
    });
    const failed = this.ended.then(({ code, stderr }) => {
      throw new Error(`mmsg ended with ${code} and did not say ${pattern}: ${stderr}`);
    });
    return await Promise.race([said, failed]);
  }

  /** Where a receiver listens, as an argument for `mmsg send`. */
  listening(): Promise<string> {
    return this.says(/listening on (\S+)/);
  }

  /** The summary of a command that was run with `--json`. */
  async summary<T = Record<string, unknown>>(): Promise<T & { code: number | null }> {
    const { code, stdout, stderr } = await this.ended;
    if (stdout.length === 0) throw new Error(`mmsg ended with ${code} and no summary: ${stderr}`);
    return { ...(JSON.parse(stdout.toString()) as T), code };
  }
}

const running = new Set<Mmsg>();
let folder: string | undefined;

afterEach(async () => {
  const left = [...running];
  for (const { child } of left) child.kill('SIGKILL');
  await Promise.all(left.map(({ ended }) => ended));
  if (folder !== undefined) rmSync(folder, { recursive: true });
  folder = undefined;
});

/** Runs a command to its end, with something on its standard input. */
export function mmsg(args: readonly string[], input: string | Uint8Array = ''): Promise<Ended> {
  const command = new Mmsg(args);
  command.child.stdin.end(input);
  return command.ended;
}

/** A path in a folder of this test's own. */
export function scratch(name: string): string {
  folder ??= mkdtempSync(join(tmpdir(), 'rx-sendmmsg-'));
  return join(folder, name);
}

/** The checksum of the command line, computed the obvious way. */
export function checksumOf(datagrams: Iterable<Uint8Array>): string {
  const hash = createHash('sha256');
  const prefix = Buffer.alloc(4);
  for (const datagram of datagrams) {
    prefix.writeUInt32BE(datagram.length);
    hash.update(prefix).update(datagram);
  }
  return hash.digest('hex');
}

/** How long nothing may move before a writer counts as stuck; at first the command has to start. */
const STUCK_MS = 1500;
const START_MS = 20_000;

/**
 * Writes chunks to a command's standard input, at its pace, until it takes no more.
 *
 * @returns the bytes it took; all of them if it never got stuck
 */
export async function writeUntilStuck({ child }: Mmsg, chunk: Buffer, most: number): Promise<number> {
  let written = 0;
  let patience = START_MS;
  while (written < most) {
    written += chunk.length;
    if (child.stdin.write(chunk)) continue;
    const isStuck = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(resolve, patience, true);
      child.stdin.once('drain', () => {
        clearTimeout(timer);
        resolve(false);
      });
    });
    if (isStuck) break;
    patience = STUCK_MS;
  }
  return written;
}
