/**
 * The senders of this checkout over the library of another: so both are measured by the same scripts and the same clocks, and
 * a workload may be newer than the commit that it is compared with.
 *
 * A folder that looks like a checkout: the benchmarks are copies, all else are links. Node.js resolves a link before it looks
 * for imports, so the library finds its own files and its own packages.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** This checkout, with a slash behind it: this file runs from dist/benchmarks. */
export const HERE: string = fileURLToPath(new URL('../..', import.meta.url));

const COPIES = ['package.json', 'dist/benchmarks', 'dist/src/cli/bench'];

const ENCODER = 'dist/benchmarks/senders/encode.js';

/** The command of a sender, to run it over that library instead. */
export type Stage = (command: readonly string[]) => readonly string[];

/** Whether there is a compiled library. */
export function isBuilt(checkout: string): boolean {
  return existsSync(join(checkout, 'dist/src/index.js'));
}

/** Whether that library knows an option, or a field of a datagram, by this name. */
export function knows(checkout: string, name: string): boolean {
  const library = join(checkout, 'dist/src');
  return readdirSync(library, { recursive: true, encoding: 'utf8' }).some(
    (file) => file.endsWith('.d.ts') && readFileSync(join(library, file), 'utf8').includes(`readonly ${name}?`),
  );
}

export function stage(checkout: string): Stage {
  const root = mkdtempSync(join(tmpdir(), 'mmsg-stage-'));
  process.once('exit', () => rmSync(root, { recursive: true, force: true }));
  for (const name of COPIES) cpSync(join(HERE, name), join(root, name), { recursive: true });
  // What encoding costs is asked of the inside of a library: each brings its own script.
  cpSync(join(checkout, ENCODER), join(root, ENCODER));
  mkdirSync(join(root, 'dist/src'), { recursive: true });
  const library = readdirSync(join(checkout, 'dist/src')).filter((name) => name !== 'cli');
  for (const name of ['node_modules', ...library.map((name) => `dist/src/${name}`)]) {
    symlinkSync(resolve(checkout, name), join(root, name));
  }
  return (command) => command.map((word) => (word.startsWith(HERE) ? join(root, word.slice(HERE.length)) : word));
}
