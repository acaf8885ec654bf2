/**
 * The types of the packed package, as its users have them: by the compilers that the README names, and with
 * `skipLibCheck: false`, so that our declarations are checked, too.
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { childScript, run } from '../support/child.ts';
import { alias, installed, type Packed, pack, projectWith } from '../support/packed.ts';
import { requires } from '../support/requires.ts';

const PATIENCE_MS = 120_000;
vi.setConfig({ testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS });

const NODE_20 = installed('@types/node');
const NODE_NEWEST = alias('types-node-newest');

interface Compiler {
  readonly version: string;
  readonly tsc: string;
  /** The newest types of Node.js that it can read. */
  readonly nodeTypes: string;
}
const COMPILERS: readonly Compiler[] = [
  ...['5.0', '5.2', '5.4'].map((version) => ({ version, tsc: tscOf(version), nodeTypes: NODE_20 })),
  ...['5.9', '6.0'].map((version) => ({ version, tsc: tscOf(version), nodeTypes: NODE_NEWEST })),
  { version: '7.0', tsc: join(installed('typescript'), 'bin/tsc'), nodeTypes: NODE_NEWEST },
];

/** Who uses an entry, and what is to be had there: the peers, and the libraries of the language. */
interface User {
  readonly entry: 'rxjs' | 'ix' | 'streams';
  readonly declarations: string;
  readonly peers: readonly string[];
  readonly lib: readonly string[];
}
const ENTRIES: readonly User[] = [
  { entry: 'rxjs', declarations: 'index', peers: ['rxjs'], lib: ['es2020'] },
  // The types of ix itself name StreamPipeOptions, which only the DOM has.
  { entry: 'ix', declarations: 'ix', peers: ['ix'], lib: ['es2020', 'dom'] },
  { entry: 'streams', declarations: 'streams', peers: [], lib: ['es2020'] },
];

let packed: Packed;
beforeAll(async () => {
  packed = await pack();
});

it('the compilers are those that their names say', (context) => {
  requires(context, 'compilers');
  for (const { version, tsc } of COMPILERS) {
    const told = JSON.parse(readFileSync(join(tsc, '../../package.json'), 'utf8')) as { version: string };
    expect(told.version).toMatch(new RegExp(`^${version}\\.`));
  }
});

describe.each(COMPILERS.map((compiler) => [compiler.version, compiler] as const))(
  'TypeScript %s',
  (_version, { tsc, nodeTypes }) => {
    it('with module nodenext, @types/node 20 and the oldest rxjs whose types that finds: no error', async (context) => {
      requires(context, 'compilers');
      const packages = { '@types/node': NODE_20, rxjs: alias('rxjs-oldest-typed'), ix: installed('ix') };
      const options = { module: 'nodenext', target: 'es2020', lib: ['es2020', 'dom'] };
      expect(await complaintsOf(tsc, ENTRIES, packages, options)).toBe('');
    });

    it('with moduleResolution bundler, and new packages beside it: no error', async (context) => {
      requires(context, 'compilers');
      const packages = { '@types/node': nodeTypes, rxjs: installed('rxjs'), ix: installed('ix') };
      const options = { module: 'esnext', moduleResolution: 'bundler', target: 'es2022' };
      expect(await complaintsOf(tsc, ENTRIES, packages, options)).toBe('');
    });
  },
);

describe.each(ENTRIES.map((user) => [user.entry, user] as const))('the entry for %s', (_entry, user) => {
  const { declarations, peers, lib } = user;

  it.for([COMPILERS.at(0)!, COMPILERS.at(-1)!].map(({ version, tsc }) => [version, tsc] as const))(
    'names no package but its own peer, and nothing outside its lib: no error by TypeScript %s without the others',
    async ([, tsc], context) => {
      requires(context, 'compilers');
      const options = { module: 'nodenext', target: 'es2020', lib };
      const packages = Object.fromEntries(peers.map((name) => [name, installed(name)]));
      expect(await complaintsOf(tsc, [user], { '@types/node': NODE_20, ...packages }, options)).toBe('');
    },
  );

  it('exports each type of the package that its exports name', async (context) => {
    requires(context, 'compilers');
    const compiler = join(alias('typescript-5.9'), 'lib/typescript.js');
    const entry = join(packed.contents, `dist/src/${declarations}.d.ts`);
    const command = [process.execPath, childScript('unnamed-types.mjs'), compiler, packed.contents, entry];
    const { code, stdout, stderr } = await run(command, { timeoutMs: PATIENCE_MS });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { named, unnamed } = JSON.parse(stdout) as { named: readonly string[]; unnamed: readonly string[] };
    expect(named).toEqual(expect.arrayContaining(['Backend', 'BatchReport', 'PaceOptions', 'SendmmsgError']));
    expect(unnamed).toEqual([]);
  });
});

function tscOf(version: string): string {
  return join(alias(`typescript-${version}`), 'bin/tsc');
}

/** What a compiler says of users of these entries, who have these packages installed, by name and where they are. */
async function complaintsOf(
  tsc: string,
  entries: readonly User[],
  packages: Readonly<Record<string, string>>,
  options: Readonly<Record<string, unknown>>,
): Promise<string> {
  const project = projectWith(packed, { koffi: installed('koffi'), ...packages });
  const files = entries.map(({ entry }) => `${entry}.ts`);
  for (const file of files) {
    copyFileSync(fileURLToPath(new URL(`../consumers/${file}`, import.meta.url)), join(project, file));
  }
  const compilerOptions = { noEmit: true, strict: true, skipLibCheck: false, ...options };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const { code, stdout, stderr } = await run([process.execPath, tsc, '-p', project], { timeoutMs: PATIENCE_MS });
  return code === 0 ? stdout : stdout || `It ended with ${code}: ${stderr}`;
}
