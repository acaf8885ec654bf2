/**
 * The packages that the benchmarks compare with or draw with: an install of their own, which may be missing.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The folder of the sources: this file runs from dist/benchmarks, and in the tests as it is. */
export const SOURCES: string = sourcesFrom(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(join(SOURCES, 'package.json'));

/** How to get what is missing. */
export const HOW_TO_INSTALL = 'npm ci --prefix benchmarks';

/** The version of a package, here or in the main install; `undefined` where it is not installed. */
export function versionOf(name: string): string | undefined {
  const folder = [SOURCES, dirname(SOURCES)].find((root) => existsSync(join(root, 'node_modules', name)));
  if (folder === undefined) return undefined;
  const manifest = readFileSync(join(folder, 'node_modules', name, 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}

/** Where an executable of the benchmarks' own install is. */
export function binaryOf(name: string): string {
  return join(SOURCES, 'node_modules', '.bin', name);
}

export function requirePeer(name: string): unknown {
  return require(name);
}

/** A package that is an ES module only. */
export function importPeer(name: string): Promise<unknown> {
  return import(pathToFileURL(require.resolve(name)).href);
}

function sourcesFrom(here: string): string {
  return existsSync(join(here, 'package.json')) ? here : join(here, '../../benchmarks');
}
