/** Where it ran, and with which versions. */
import { execFileSync } from 'node:child_process';
import { cpus, release } from 'node:os';
import { versionOf } from './peer-packages.ts';

const PACKAGES = ['koffi', 'rxjs', 'bun', 'hot-shots', 'udx-native', 'unix-dgram'];

/** Names and versions, those of missing packages left out. */
export function describeMachine(): { [name: string]: string } {
  const versions = PACKAGES.map((name) => [name, versionOf(name)] as const);
  const compiler = compilerVersion();
  return {
    Linux: release(),
    CPU: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
    Node: process.version,
    ...Object.fromEntries(versions.filter(([, version]) => version !== undefined)),
    ...(compiler !== undefined && { cc: compiler }),
  };
}

function compilerVersion(): string | undefined {
  try {
    return execFileSync('cc', ['-dumpfullversion', '-dumpversion'], { stdio: 'pipe', encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}
