/** What npm publishes, as it is packed: whole, in order, and working where it is installed. */
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { run } from '../support/child.ts';
import { numberedList } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { alias, installed, type Packed, pack, projectWith } from '../support/packed.ts';
import { Receiver } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

const PATIENCE_MS = 60_000;
vi.setConfig({ testTimeout: PATIENCE_MS, hookTimeout: PATIENCE_MS });
const SEND = fileURLToPath(new URL('../consumers/send.mjs', import.meta.url));
const keep = keeper();
let packed: Packed;
beforeAll(async () => {
  packed = await pack();
});

describe('the packed package', () => {
  it('has the source of each compiled file, and its declarations', () => {
    const names = readdirSync(packed.contents, { recursive: true, encoding: 'utf8' });
    const compiled = names.filter((name) => name.endsWith('.js'));
    const lacking = compiled.filter((name) => {
      const path = join(packed.contents, name);
      const { sources } = JSON.parse(readFileSync(`${path}.map`, 'utf8')) as { sources: readonly string[] };
      return ![path.replace(/js$/, 'd.ts'), ...sources.map((source) => resolve(dirname(path), source))].every(
        existsSync,
      );
    });
    expect(compiled).toContain(join('dist', 'src', 'index.js'));
    expect(lacking).toEqual([]);
  });

  it('has its licence, its readme and its changelog, and nothing of the tests', () => {
    const names = readdirSync(packed.contents, { recursive: true, encoding: 'utf8' });
    expect(names).toEqual(expect.arrayContaining(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']));
    expect(
      names.filter((name) => /\b(test|benchmarks|node_modules)\b/.test(name.split('/').slice(0, 2).join('/'))),
    ).toEqual([]);
  });

  it('leads every import of its entries to their types, as Are The Types Wrong has it for ESM', async (context) => {
    requires(context, 'compilers');
    const attw = join(alias('@arethetypeswrong/cli'), 'dist/index.js');
    const command = [process.execPath, attw, packed.tarball, '--profile', 'esm-only', '--no-color', '--no-emoji'];
    const { code, stdout } = await run(command, { timeoutMs: PATIENCE_MS });
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('"rx-sendmmsg/streams"') });
  });

  it('gives publint nothing to suggest', async (context) => {
    requires(context, 'compilers');
    const publint = join(alias('publint'), 'src/cli.js');
    const { code, stdout } = await run([process.execPath, publint, 'run', packed.tarball, '--strict']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('All good!') });
  });

  it('sends with the oldest rxjs that it asks for', async (context) => {
    requires(context, 'compilers');
    const { peerDependencies } = packageAt(packed.contents);
    expect(peerDependencies?.['rxjs']).toBe(`^${packageAt(alias('rxjs-oldest')).version}`);
    const project = projectWith(packed, { koffi: installed('koffi'), rxjs: alias('rxjs-oldest') });
    copyFileSync(SEND, join(project, 'send.mjs'));
    const receiver = keep(Receiver.udp());
    const { port } = receiver.socket.address() as { port: number };
    const { code, stdout, stderr } = await run([process.execPath, join(project, 'send.mjs'), String(port)]);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '{"sent":10}\n', stderr: '' });
    expect(receiver.drain().map(String)).toEqual(numberedList(10));
  });
});

function packageAt(folder: string): { version: string; peerDependencies?: Record<string, string> } {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
}
