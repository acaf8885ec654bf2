/**
 * Other runtimes than the one that runs the tests: `RX_SENDMMSG_RUNTIMES`, executables of Node.js, Bun and Deno with a colon between
 * two. Where a kind is missing, its tests are skipped with the reason; in CI they fail.
 */
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'vitest';

/** How to run a script; the name tells the version. */
export interface Runtime {
  readonly name: string;
  readonly command: readonly string[];
}

const OWN: Runtime = { name: `Node.js ${process.versions.node}`, command: [process.execPath] };
const OTHERS = (process.env['RX_SENDMMSG_RUNTIMES'] ?? '')
  .split(':')
  .filter((path) => path !== '')
  .map(toRuntime);

/** What runs the tests, and each kind that they are to be run on beside it: `'Node.js 26'`, `'Bun'`, `'Deno'`. */
export function runtimes(
  ...kinds: readonly string[]
): { name: string; find(context: Pick<TestContext, 'skip'>): Runtime }[] {
  const others = kinds.map((kind) => ({
    name: kind,
    find(context: Pick<TestContext, 'skip'>): Runtime {
      const found = OTHERS.find(({ name }) => name.startsWith(kind));
      if (found !== undefined) return found;
      const reason = `no ${kind} in RX_SENDMMSG_RUNTIMES`;
      if (process.env['CI'] === 'true') throw new Error(`CI must not skip: ${reason}`);
      context.skip(reason);
      return OWN;
    },
  }));
  return [{ name: OWN.name, find: () => OWN }, ...others];
}

function toRuntime(path: string): Runtime {
  const version = spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout.trim();
  if (version.startsWith('v')) return { name: `Node.js ${version.slice(1)}`, command: [path] };
  // Deno asks before it loads native code.
  if (version.startsWith('deno'))
    return { name: `Deno ${version.split(' ')[1]}`, command: [path, 'run', '--allow-all'] };
  return { name: `Bun ${version}`, command: [path] };
}
