/** docs/bundling.md: what its recipes make sends natively, from wherever it was shipped to, on each runtime. */
import { copyFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../support/child.ts';
import { range } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { installed, type Packed, pack, projectWith } from '../support/packed.ts';
import { Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';
import { runtimes } from '../support/runtimes.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUNDLES = join(ROOT, 'test', 'bundles');
const keep = keeper();
const base = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-bundles-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let packed: Packed;
beforeAll(async () => {
  packed = await pack();
});

/** The blocks of the page that hold code of a language. */
function blocks(language: string): string[] {
  const page = readFileSync(join(ROOT, 'docs', 'bundling.md'), 'utf8');
  return Array.from(page.matchAll(/^```(\w+)\n(.*?)^```/gms), ([, name, text]) => ({ name, text: text! }))
    .filter(({ name }) => name === language)
    .map(({ text }) => text);
}

const RECIPES = [
  { bundler: 'esbuild', file: 'esbuild.mjs', command: ['node', 'esbuild.mjs'] },
  { bundler: 'webpack', file: 'webpack.config.mjs', command: ['npx', 'webpack'] },
  { bundler: 'rollup', file: 'rollup.config.mjs', command: ['npx', 'rollup', '-c', 'rollup.config.mjs'] },
];
const OUTPUTS = ['main.mjs', 'main.cjs'];

describe('the page', () => {
  it('has the recipes and the guard as they are run here', () => {
    const files = [...RECIPES.map(({ file }) => file), 'guard.js'];
    expect(blocks('js')).toEqual(files.map((file) => readFileSync(join(BUNDLES, file), 'utf8')));
  });
});

describe.each(RECIPES)('a bundle of $bundler', ({ bundler, file, command }) => {
  const shipped = join(base, `${bundler}-shipped`);
  const bare = join(base, `${bundler}-bare`);
  let failure = '';

  /** Builds in a project of its own, ships what the page says, once with koffi and once without, and removes the project. */
  beforeAll(async () => {
    if (!readdirSync(BUNDLES).includes('node_modules')) return;
    const tools = readdirSync(join(BUNDLES, 'node_modules')).map((name) => [name, join(BUNDLES, 'node_modules', name)]);
    const packages = ['rxjs', 'koffi', '@koromix'].map((name) => [name, installed(name)]);
    const built = projectWith(packed, Object.fromEntries([...tools, ...packages]));
    for (const name of ['main.js', 'guard.js', file]) copyFileSync(join(BUNDLES, name), join(built, name));
    failure = await outputOf(['env', '-C', built, ...command]);
    if (failure !== '') return;
    cpSync(join(built, 'out'), bare, { recursive: true });
    failure = await outputOf(['env', '-C', built, 'sh', '-ec', blocks('sh')[0]!]);
    cpSync(join(built, 'out'), shipped, { recursive: true });
    rmSync(built, { recursive: true });
  }, 120_000);

  /** What a command says that fails. */
  async function outputOf(command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await run(command, { timeoutMs: 100_000 });
    return code === 0 ? '' : `${command.join(' ')}: ${code}\n${stdout}${stderr}`;
  }

  /** Starts a program in the root folder, and holds what it tells and what arrives against what it is to send. */
  async function sends(program: readonly string[], backend: string, stderr: unknown, imported: readonly string[] = []) {
    const receiver = keep(Receiver.udp());
    const guard = backend === 'sendmmsg' ? 'guarded' : 'unguarded';
    const ended = await run(['env', '-C', '/', ...program, String(receiver.port), guard, ...imported]);
    expect(ended).toMatchObject({ code: 0, signal: null, stderr });
    const told = JSON.parse(ended.stdout.split('\n').at(-2)!) as object[];
    expect(told).toMatchObject(['main', 'worker'].map((thread) => ({ thread, backend, stats: backend })));
    const expected = ['main', 'worker'].flatMap((thread) =>
      ['operator', 'stream', 'sender'].flatMap((door) => range(100).map((index) => `${thread} ${door} ${index}`)),
    );
    expect((await receiver.receive(expected.length)).map(String)).toEqual(expected);
  }

  it('is built and shipped as the page says', (context) => {
    requires(context, 'bundlers');
    expect(failure).toBe('');
    expect(readdirSync(shipped)).toEqual(expect.arrayContaining([...OUTPUTS, 'node_modules']));
  });

  describe.each(runtimes('Bun', 'Deno'))('on $name', ({ find }) => {
    it.for(OUTPUTS)(
      '%s sends natively, in the main thread and in a worker, and passes the guard',
      async (output, context) => {
        requires(context, 'bundlers');
        await sends([...find(context).command, join(shipped, output)], 'sendmmsg', '');
      },
    );
  });

  it.for(OUTPUTS)('%s, imported by a program that is elsewhere, sends natively', async (output, context) => {
    requires(context, 'bundlers');
    const program = join(base, 'program.mjs');
    writeFileSync(program, 'await import(process.argv[4]);');
    await sends([process.execPath, program], 'sendmmsg', '', [join(shipped, output)]);
  });

  it.for(OUTPUTS)('%s without koffi sends through node:dgram, and says why', async (output, context) => {
    requires(context, 'bundlers');
    const warning = expect.stringMatching(/RX_SENDMMSG_FALLBACK.*koffi was not found from .*npm install koffi@3/);
    await sends([process.execPath, join(bare, output)], 'node:dgram', warning);
  });

  it.for(OUTPUTS)('%s without koffi does not pass the guard', async (output, context) => {
    requires(context, 'bundlers');
    const { code, stderr } = await run([process.execPath, join(bare, output), '9', 'guarded']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/ERR_FEATURE_UNAVAILABLE_ON_PLATFORM .*koffi was not found from/);
  });
});
