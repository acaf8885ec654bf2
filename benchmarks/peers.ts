/**
 * Who takes part: how to run each sender as a process of its own.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { label, type Peer, script } from '../src/cli/bench/peers.ts';
import { lengthsOf } from '../src/cli/bench/workload.ts';
import type { BatchOptions } from '../src/index.ts';
import type { EncodedShape } from './encode.ts';
import { binaryOf, SOURCES, versionOf } from './peer-packages.ts';

const here = (name: string): URL => new URL(`./senders/${name}.js`, import.meta.url);
const node = (name: string, argument: object | string, ...flags: readonly string[]): Peer['command'] =>
  script(here(name), argument, ...flags);

/** rx-sendmmsg, through `BatchSender`. */
export function batchSenderPeer(detail: string, options: BatchOptions = {}, broadcast = false): Peer {
  return { name: label('rx-sendmmsg', detail), options, command: node('batch-sender', { options, broadcast }) };
}

export function hotShotsPeer(buffer: 'buffered' | 'unbuffered'): Peer {
  return { name: label('hot-shots', buffer), needs: 'hot-shots', command: node('hot-shots', buffer) };
}

export function udxPeer(): Peer {
  return { name: 'udx-native', needs: 'udx-native', command: node('udx', '') };
}

export function unixDgramPeer(): Peer {
  return { name: 'unix-dgram', needs: 'unix-dgram', command: node('unix-dgram', '') };
}

export function bunPeer(connection: 'connected' | 'unconnected'): Peer {
  return {
    name: label('Bun sendMany', connection === 'connected' && connection),
    needs: 'bun',
    command: (workload) => [binaryOf('bun'), fileURLToPath(here('bun')), connection, JSON.stringify(workload)],
  };
}

const NATIVE_NAMES = {
  plain: 'C sendmmsg',
  gso: 'C sendmmsg + GSO',
  'gso-copy': 'C sendmmsg + GSO, copying',
  gather: 'C sendmmsg + GSO, gathering',
} as const;

/** The C sender: fixed bytes, of the lengths that the others send, 64 messages a call unless it says otherwise. */
export function nativePeer(mode: keyof typeof NATIVE_NAMES, vlen?: number): Peer {
  return {
    name: label(NATIVE_NAMES[mode], mode === 'plain' && vlen !== undefined && `vlen ${vlen}`),
    needs: 'cc',
    command(workload) {
      const { port, path, seconds, destinations, payloadsPerTick } = workload;
      const how = mode === 'gather' ? `gather-${payloadsPerTick}` : mode;
      return [nativeBinary()!, how, path ?? port, lengthsOf(workload).join(), seconds, destinations, vlen ?? 64].map(
        String,
      );
    },
  };
}

/** The latency of the operator, or of node:dgram. */
export function latencyPeer(via: 'operator' | 'dgram', connected: boolean, options: BatchOptions = {}): Peer {
  const name = via === 'operator' ? 'rx-sendmmsg' : 'node:dgram';
  return {
    name: label(name, connected && 'connected', options.offload === true && 'offload'),
    ...(via === 'operator' && { options }),
    command: node('latency', { via, connected, options }),
  };
}

/** The memory of a long run; `share` of its datagrams. */
export function memoryPeer(
  name: string,
  argument: { via: 'operator' | 'batch-sender' | 'dgram'; options?: BatchOptions },
  share = 1,
): Peer {
  const run = node('memory', argument, '--expose-gc');
  return {
    name,
    ...(argument.via !== 'dgram' && { options: argument.options ?? {} }),
    command: (workload) => run({ ...workload, datagrams: Math.ceil(workload.datagrams! * share) }),
  };
}

/** Encoding one shape; its receiver gets nothing. */
export function encodePeer(shape: EncodedShape): Peer {
  return { name: shape, options: {}, command: node('encode', shape) };
}

/** Whether it can run here. */
export function isAvailable({ needs }: Peer): boolean {
  if (needs === undefined) return true;
  return needs === 'cc' ? nativeBinary() !== undefined : versionOf(needs) !== undefined;
}

/** The C sender, compiled once; `undefined` where there is no `cc`. */
function nativeBinary(): string | undefined {
  if (compiled === null) {
    const folder = mkdtempSync(join(tmpdir(), 'mmsg-bench-'));
    process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
    const binary = join(folder, 'sender');
    try {
      execFileSync('cc', ['-O2', '-o', binary, join(SOURCES, 'native/sender.c')], { stdio: 'pipe' });
      compiled = binary;
    } catch {
      compiled = undefined;
    }
  }
  return compiled;
}
let compiled: string | undefined | null = null;
