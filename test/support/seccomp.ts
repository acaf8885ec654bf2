/** Commands in which a system call is answered by a seccomp filter. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'vitest';
import { requires } from './requires.ts';

const folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-seccomp-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const compiled = new Set<string>();

/**
 * What to put in front of a command; skips the test where that cannot be compiled.
 *
 * @param which - `'probe'`: only the call that asks whether there is such a call, of descriptor -1
 */
export function filtered(
  context: TestContext,
  errno: keyof typeof constants.errno,
  which: 'probe' | 'all' = 'all',
  call: 'sendmmsg' | 'recvmmsg' = 'sendmmsg',
): readonly string[] {
  requires(context, 'cc');
  const wrapper = join(folder, `no-${call}`);
  if (!compiled.has(call)) {
    const source = fileURLToPath(new URL('./no-sendmmsg.c', import.meta.url));
    const { status, stderr } = spawnSync('cc', [`-DFORBIDDEN=SYS_${call}`, '-o', wrapper, source], {
      encoding: 'utf8',
    });
    if (status !== 0) context.skip(`The seccomp wrapper does not compile here: ${stderr}`);
    compiled.add(call);
  }
  return [wrapper, String(constants.errno[errno]), ...(which === 'all' ? [] : [which])];
}
