/**
 * Global setup: the child processes of the tests import the package by its name, compiled. It is compiled if it is older
 * than its sources.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export function setup(): void {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const modified = (path: string): number => statSync(`${root}/${path}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const isStale = ['src', 'operators', 'test/faults', 'test/soak'].some((folder) =>
    readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' }).some(
      (name) =>
        name.endsWith('.ts') &&
        modified(`${folder}/${name}`) > modified(`dist/${folder}/${name.replace(/\.ts$/, '.js')}`),
    ),
  );
  if (!isStale) return;
  const { status, stdout } = spawnSync(process.execPath, [`${root}/node_modules/typescript/bin/tsc`], { cwd: root });
  if (status !== 0) console.warn(`The tests run what could be compiled:\n${stdout}`);
}
