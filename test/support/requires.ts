/**
 * What a test needs of the machine. Where it is missing the test is skipped with the reason; in CI it fails, so that no
 * test is ever skipped unseen.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'vitest';

export type Requirement =
  | 'root'
  | 'ip'
  | 'tc'
  | 'netns'
  | 'strace'
  | 'cc'
  | 'bash'
  | 'chart'
  | 'nft'
  | 'bundlers'
  | 'compilers';

const VEGA_LITE = fileURLToPath(new URL('../../benchmarks/node_modules/vega-lite', import.meta.url));
const WEBPACK = fileURLToPath(new URL('../bundles/node_modules/webpack', import.meta.url));
const COMPILER = fileURLToPath(new URL('../typescript/node_modules/typescript-6.0', import.meta.url));

const PROBES: Record<Requirement, readonly [reason: string, isThere: () => boolean]> = {
  root: ['not root', () => process.getuid?.() === 0],
  ip: ['no ip(8)', () => runs('ip', '-V')],
  tc: ['no tc(8)', () => runs('tc', '-V')],
  netns: ['no network namespace may be made', () => runs('unshare', '-n', 'true')],
  strace: ['no strace(1), or no ptrace(2)', () => runs('strace', '-o', '/dev/null', '-e', 'trace=none', 'true')],
  cc: ['no C compiler', () => runs('cc', '--version')],
  bash: ['no bash(1)', () => runs('bash', '--version')],
  nft: ['no nft(8)', () => runs('nft', '--version')],
  chart: ['no chart library (npm ci --prefix benchmarks)', () => existsSync(VEGA_LITE)],
  bundlers: ['no bundlers (npm ci --prefix test/bundles)', () => existsSync(WEBPACK)],
  compilers: ['no compilers (npm ci --prefix test/typescript)', () => existsSync(COMPILER)],
};
const answers = new Map<Requirement, boolean>();

/** Skips the test, with the reason, unless all of it is there. Fails it instead where `CI` is `true`. */
export function requires(context: Pick<TestContext, 'skip'>, ...requirements: readonly Requirement[]): void {
  const missing = requirements.filter((requirement) => !isThere(requirement)).map((name) => PROBES[name][0]);
  if (missing.length === 0) return;
  const reason = missing.join('; ');
  if (process.env['CI'] === 'true') throw new Error(`CI must not skip: ${reason}`);
  context.skip(reason);
}

function isThere(requirement: Requirement): boolean {
  const known = answers.get(requirement);
  if (known !== undefined) return known;
  const answer = PROBES[requirement][1]();
  answers.set(requirement, answer);
  return answer;
}

function runs(command: string, ...args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}
