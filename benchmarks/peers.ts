/**
 * Who takes part: how to run each sender as a process of its own.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Workload } from './workload.ts';

/** A sender under test. */
export interface Peer {
  readonly name: string;
  /** The command that sends `workload`; `undefined` if it has no such mode. */
  command(workload: Workload): readonly string[] | undefined;
}

const script = (name: string): string => fileURLToPath(new URL(`./senders/${name}.js`, import.meta.url));
const node = (name: string, argument: string, workload: Workload): string[] => [
  process.execPath,
  script(name),
  argument,
  JSON.stringify(workload),
];

/** rx-sendmmsg with these options. */
export function operatorPeer(name: string, options: object): Peer {
  return { name, command: (workload) => node('operator', JSON.stringify(options), workload) };
}

/** node:dgram; connected only where there is one destination. */
export function dgramPeer(isConnected: boolean): Peer {
  return {
    name: isConnected ? 'node:dgram, connected' : 'node:dgram',
    command: (workload) =>
      isConnected && workload.destinations > 1
        ? undefined
        : node('dgram', isConnected ? 'connected' : 'unconnected', workload),
  };
}

/** The C sender; fixed bytes only. */
export function nativePeer(name: string, binary: string, mode: 'plain' | 'gso', vlen = 64): Peer {
  return {
    name,
    command: ({ port, bytes, seconds, destinations, lines }) =>
      lines === 'mixed' || (mode === 'gso' && destinations > 1)
        ? undefined
        : [binary, mode, port, bytes, seconds, destinations, vlen].map(String),
  };
}

/** Compiles the C sender; `undefined` where there is no `cc`. */
export function compileNative(): string | undefined {
  const source = fileURLToPath(new URL('../../benchmarks/native/sender.c', import.meta.url));
  const binary = join(mkdtempSync(join(tmpdir(), 'mmsg-bench-')), 'sender');
  try {
    execFileSync('cc', ['-O2', '-o', binary, source], { stdio: 'pipe' });
    return binary;
  } catch {
    return undefined;
  }
}
