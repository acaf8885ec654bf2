/** The package as npm publishes it, unpacked into projects of its users that have what they have installed, and nothing else. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { run } from './child.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PATIENCE_MS = 60_000;
let folder: string | undefined;
let projects = 0;
afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true });
});

export interface Packed {
  readonly tarball: string;
  /** Where it is unpacked; nothing that it depends on can be found from there. */
  readonly contents: string;
}

/** What `npm pack --json` tells of a package. */
interface NpmPacked {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

/** A package that this repository has installed. */
export function installed(name: string): string {
  return join(ROOT, 'node_modules', name);
}

/** A package of `test/typescript`. */
export function alias(name: string): string {
  return join(ROOT, 'test/typescript/node_modules', name);
}

/** Packs what was compiled. */
export async function pack(): Promise<Packed> {
  folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-packed-'));
  const options = ['--ignore-scripts', '--offline', '--json', '--pack-destination', folder];
  const [packed] = JSON.parse(await output(['npm', 'pack', ROOT, ...options])) as [NpmPacked];
  const contents = join(folder, 'package');
  for (const { path } of packed.files) cpSync(join(ROOT, path), join(contents, path)); // tar(1) need not be there
  return { tarball: join(folder, packed.filename), contents };
}

/** A project that has the package, and other packages, by name and where they are. */
export function projectWith({ contents }: Packed, packages: Readonly<Record<string, string>>): string {
  const project = join(folder!, `project-${projects++}`);
  const modules = join(project, 'node_modules');
  cpSync(contents, join(modules, 'rx-sendmmsg'), { recursive: true });
  for (const [name, path] of Object.entries(packages)) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(path, join(modules, name));
  }
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
  return project;
}

async function output(command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, { timeoutMs: PATIENCE_MS });
  if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${stderr}`);
  return stdout;
}
