/** Child processes that run the compiled package. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach } from 'vitest';
import type { Datagram } from '../../src/message/datagram.ts';
import type { BatchOptions } from '../../src/sender/batch-options.ts';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';

/** What `children/send.mjs` does: see there. */
export interface SendPlan {
  readonly open?: SocketOptions;
  readonly options?: Partial<BatchOptions>;
  readonly count: number;
  readonly size?: number;
  /** Where to, for each datagram; with `receive` the port is its own receiver's. */
  readonly to?: Omit<Datagram, 'payload'>;
  /** Other datagrams in place of the numbered ones. */
  readonly odd?: readonly (readonly [
    index: number,
    size: number,
    address?: string | null,
    marks?: Pick<Datagram, 'dscp' | 'ecn' | 'from'>,
  ])[];
  /** Receive in the same process (the same network namespace), at this address. */
  readonly receive?: { readonly type: 'udp4' | 'udp6'; readonly address: string };
}

/** What it tells. */
export interface SendResult {
  readonly stats: SenderStats;
  readonly rejected: readonly (readonly [sequence: number, code: string])[];
  readonly received: readonly string[];
  /** The addresses that they came from. */
  readonly sources: readonly string[];
  /** Turns of the event loop while it ran. */
  readonly turns: number;
  readonly error?: string;
}

export interface ChildResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly elapsedMs: number;
}

export function childScript(name: string): string {
  return fileURLToPath(new URL(`../children/${name}`, import.meta.url));
}

const running = new Set<ChildProcess>();

// A test that has run out of time must not leave its children to the next one.
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** Runs a command to its end; after `timeoutMs` it is killed, and `signal` says so. */
export function run(command: readonly string[], options: { timeoutMs?: number } = {}): Promise<ChildResult> {
  const [file, ...args] = command;
  const started = performance.now();
  // One thread in the pool: strace counts the calls of each thread by itself.
  const env = { ...process.env, NODE_OPTIONS: '', UV_THREADPOOL_SIZE: '1' };
  const child = spawn(file!, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  running.add(child);
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 20_000);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      resolve({ code, signal, stdout, stderr, elapsedMs: performance.now() - started });
    });
  });
}

/** Runs `children/send.mjs`, behind `prefix` (strace, a namespace). */
export async function send(plan: SendPlan, prefix: readonly string[] = []): Promise<SendResult> {
  const result = await run([...prefix, process.execPath, childScript('send.mjs'), JSON.stringify(plan)]);
  if (result.code !== 0) throw new Error(`The sender ended with ${result.code ?? result.signal}: ${result.stderr}`);
  return JSON.parse(result.stdout) as SendResult;
}

/**
 * A network namespace of its own, set up by a shell script. On one CPU: a qdisc that is emptied by its timer on one CPU and
 * by the sender on another delivers through two backlogs, and the kernel itself reorders the datagrams.
 */
export function inNamespace(setup: string): readonly string[] {
  return ['unshare', '-n', 'taskset', '-c', '0', 'sh', '-ec', `ip link set lo up\n${setup}\nexec "$0" "$@"`];
}
