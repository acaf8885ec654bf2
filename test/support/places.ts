/** Places to run the `mmsg` command in that lack something. */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, type TestContext } from 'vitest';
import { NATIVE } from './mmsg.ts';
import { filtered } from './seccomp.ts';

export interface Place {
  readonly sendsBy: 'sendmmsg' | 'sendmsg' | 'node:dgram';
  readonly receivesBy: 'recvmmsg' | 'recvmsg' | 'node:dgram';
  /** What runs the command there. */
  command(context: TestContext): readonly string[];
}

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string | undefined;
let noKoffi: readonly string[] | undefined;
afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true });
});

/** A project that has the compiled package and all that the command needs, but no koffi. */
function withoutKoffi(): readonly string[] {
  noKoffi ??= projectWithoutKoffi();
  return noKoffi;
}

function projectWithoutKoffi(): readonly string[] {
  folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-places-'));
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'rx-sendmmsg');
  mkdirSync(installed, { recursive: true });
  copyFileSync(join(root, 'package.json'), join(installed, 'package.json'));
  cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true });
  for (const name of ['rxjs', 'commander', 'yocto-spinner', 'yoctocolors']) {
    symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
  return [process.execPath, join(installed, 'dist/src/cli/mmsg.js')];
}

/** Behind seccomp filters that forbid a system call each. */
function forbidding(context: TestContext, ...calls: readonly ('sendmmsg' | 'recvmmsg')[]): readonly string[] {
  return [...calls.flatMap((call) => filtered(context, 'ENOSYS', 'all', call)), ...NATIVE];
}

/** As it is meant to be; without koffi, as on macOS and Windows; and in containers that forbid the calls. */
export const PLACES: Readonly<Record<'native' | 'noKoffi' | 'noSendmmsg' | 'noMmsg', Place>> = {
  native: { sendsBy: 'sendmmsg', receivesBy: 'recvmmsg', command: () => NATIVE },
  noKoffi: { sendsBy: 'node:dgram', receivesBy: 'node:dgram', command: withoutKoffi },
  noSendmmsg: {
    sendsBy: 'sendmsg',
    receivesBy: 'recvmmsg',
    command: (context) => forbidding(context, 'sendmmsg'),
  },
  noMmsg: {
    sendsBy: 'sendmsg',
    receivesBy: 'recvmsg',
    command: (context) => forbidding(context, 'sendmmsg', 'recvmmsg'),
  },
};
