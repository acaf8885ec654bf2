/** Where koffi is looked for, and what is told where it cannot be had. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../support/child.ts';
import { runtimes } from '../support/runtimes.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COMPILED = join(ROOT, 'dist', 'src', 'kernel', 'koffi.js');
const base = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-koffi-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

let folder = '';
let folders = 0;
beforeEach(() => {
  folder = join(base, `${folders++}`);
  mkdirSync(folder);
});

/** The code under test, at a path. */
function code(path: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  copyFileSync(COMPILED, join(folder, path));
}

function file(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

/** A program that tells what the code at a path finds. */
function program(path: string, codePath: string, before = ''): void {
  const url = JSON.stringify(`file://${join(folder, codePath)}`);
  file(
    path,
    `${before};
    import(${url}).then(({ findKoffi }) => {
      const { koffi, failure } = findKoffi();
      console.log(JSON.stringify({ koffi: koffi?.name ?? typeof koffi?.load, failure }));
    });`,
  );
}

/** A package that passes for koffi, for a folder. */
function fake(path: string, version = '3.3.4', before = ''): void {
  const text = `${before}; module.exports = { version: ${JSON.stringify(version)}, name: ${JSON.stringify(path)} };`;
  file(join(path, 'node_modules/koffi/index.js'), text);
}

/** The real one, for a folder. */
function real(path: string): void {
  mkdirSync(join(folder, path, 'node_modules'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules', 'koffi'), join(folder, path, 'node_modules', 'koffi'));
}

interface Told {
  readonly koffi: string;
  readonly failure?: string;
}

/** What a program tells; paths in `failure` are relative to the folder. */
async function told(
  args: readonly string[],
  cwd = '/',
  command: readonly string[] = [process.execPath],
): Promise<Told> {
  const { code, stdout, stderr } = await run(['env', '-C', cwd, ...command, ...args]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { koffi, failure } = JSON.parse(stdout) as Told;
  return failure === undefined ? { koffi } : { koffi, failure: failure.replaceAll(`${folder}/`, '') };
}

const at = (path: string): string => join(folder, path);

describe('koffi is found', () => {
  it('beside the code itself, before the one of the program', async () => {
    fake('app');
    fake('app/node_modules/package');
    code('app/node_modules/package/koffi.js');
    program('app/main.cjs', 'app/node_modules/package/koffi.js');
    expect(await told([at('app/main.cjs')])).toEqual({ koffi: 'app/node_modules/package' });
  });

  it.each([
    ['its path', 'app/main.js'],
    ['its path without an extension', 'app/main'],
    ['its folder', 'app'],
    ['a symlink elsewhere', 'bin/tool'],
  ])('beside the program, started by %s', async (_how, path) => {
    fake('app');
    code('elsewhere/koffi.js');
    program('app/main.js', 'elsewhere/koffi.js');
    file('app/package.json', '{ "main": "main.js" }');
    mkdirSync(at('bin'));
    symlinkSync(at('app/main.js'), at('bin/tool'));
    expect(await told([at(path)])).toEqual({ koffi: 'app' });
  });

  it('beside a worker', async () => {
    fake('app');
    code('elsewhere/koffi.js');
    program('app/worker.cjs', 'elsewhere/koffi.js');
    file('main.mjs', `new (await import('node:worker_threads')).Worker(${JSON.stringify(at('app/worker.cjs'))});`);
    expect(await told([at('main.mjs')])).toEqual({ koffi: 'app' });
  });

  it('beside the runtime itself, which may be program and runtime in one', async () => {
    fake('app');
    symlinkSync(process.execPath, at('app/node'));
    code('elsewhere/koffi.js');
    program('main.cjs', 'elsewhere/koffi.js', `process.execPath = ${JSON.stringify(at('app/node'))}`);
    expect(await told([at('main.cjs')])).toEqual({ koffi: 'app' });
  });

  it('where one nearer is too old', async () => {
    fake('app');
    fake('app/node_modules/package', '3.1.0');
    code('app/node_modules/package/koffi.js');
    program('app/main.cjs', 'app/node_modules/package/koffi.js');
    expect(await told([at('app/main.cjs')])).toEqual({ koffi: 'app' });
  });

  it('on first use, not on import, and once', async () => {
    fake('app', '3.3.4', 'console.log("loaded")');
    code('app/koffi.js');
    file(
      'app/main.mjs',
      `import { findKoffi } from './koffi.js';
      console.log('imported');
      console.log(findKoffi() === findKoffi());`,
    );
    const { stdout } = await run([process.execPath, at('app/main.mjs')]);
    expect(stdout.trim().split('\n')).toEqual(['imported', 'loaded', 'true']);
  });

  it('on first use of the whole package, not on import', async () => {
    const script = `const { DatagramSocket } = await import(${JSON.stringify(join(ROOT, 'dist', 'src', 'index.js'))});
      const isLoaded = () => process.report.getReport().sharedObjects.some((path) => path.endsWith('koffi.node'));
      console.log(isLoaded());
      DatagramSocket.open().close();
      console.log(isLoaded());`;
    const { stdout } = await run([process.execPath, '--input-type=module', '-e', script]);
    expect(stdout).toBe('false\ntrue\n');
  });
});

describe.each(runtimes('Node.js 22', 'Node.js 24', 'Node.js 26', 'Bun', 'Deno'))('on $name', ({ find }) => {
  it.for(['beside the code', 'beside the program'])('the real one is found %s', async (where, context) => {
    const { command } = find(context);
    const path = where === 'beside the code' ? 'app/koffi.js' : 'elsewhere/koffi.js';
    real('app');
    code(path);
    program('app/main.mjs', path);
    expect(await told([at('app/main.mjs')], '/', command)).toEqual({ koffi: 'function' });
  });
});

describe('koffi is not taken', () => {
  it('from the working directory', async () => {
    fake('cwd');
    code('app/koffi.js');
    program('app/main.cjs', 'app/koffi.js');
    const { koffi, failure } = await told([at('app/main.cjs')], at('cwd'));
    expect(koffi).toBe('undefined');
    expect(failure).toMatch(/^koffi was not found from app\/koffi\.js, nor from app\/main\.cjs/);
  });

  it.each(['-e', '--eval', '-p', '-pe'])('from what is an argument of node %s', async (flag) => {
    fake('argument');
    file('argument/main.cjs', '');
    code('app/koffi.js');
    program('app/main.cjs', 'app/koffi.js');
    const { stdout } = await run([
      process.execPath,
      flag,
      `require('${at('app/main.cjs')}'); ''`,
      at('argument/main.cjs'),
    ]);
    const { koffi, failure } = JSON.parse(stdout) as Told;
    expect(koffi).toBe('undefined');
    expect(failure).not.toMatch(/argument/);
  });

  it('from the folder that a bundle was built in: __filename was written down (Bun)', async () => {
    fake('builder');
    code('builder/koffi.js');
    code('app/bundle.js');
    program('app/main.cjs', 'app/bundle.js', `globalThis.__filename = ${JSON.stringify(at('builder/koffi.js'))}`);
    expect((await told([at('app/main.cjs')])).koffi).toBe('undefined');
    fake('app');
    expect(await told([at('app/main.cjs')])).toEqual({ koffi: 'app' });
  });

  it('from the folder that a bundle was built in: import.meta.url was written down (webpack)', async () => {
    fake('builder');
    code('builder/koffi.js');
    program('app/main.cjs', 'builder/koffi.js', 'globalThis.__webpack_require__ = () => {}');
    expect((await told([at('app/main.cjs')])).koffi).toBe('undefined');
    fake('app');
    expect(await told([at('app/main.cjs')])).toEqual({ koffi: 'app' });
  });
});

describe('the failure tells what to do', () => {
  const failureWith = async (options: readonly string[] = []): Promise<string | undefined> => {
    code('app/koffi.js');
    program('app/main.cjs', 'app/koffi.js');
    const { koffi, failure } = await told([...options, at('app/main.cjs')]);
    expect(koffi).toBe('undefined');
    return failure;
  };
  const platform = `${process.platform}-${process.arch}`;

  it('where it is not installed', async () => {
    expect(await failureWith()).toBe(
      `koffi was not found from app/koffi.js, nor from app/main.cjs, nor from ${process.execPath}. ` +
        'Install it beside the program: npm install koffi@3',
    );
  });

  it('where native addons are forbidden', async () => {
    real('app');
    expect(await failureWith(['--no-addons'])).toMatch(
      /^koffi \(.*\) cannot be loaded: Cannot load native addon because loading addons is disabled\. Allow native addons: without --no-addons, /,
    );
  });

  it.for(runtimes('Node.js 24', 'Deno').slice(1))('where $name may not read it', async ({ name, find }, context) => {
    const { command } = find(context);
    real('app');
    code('app/koffi.js');
    program('app/main.mjs', 'app/koffi.js');
    const readable = ['main.mjs', 'koffi.js'].map((readFile) => `--allow-fs-read=${at(`app/${readFile}`)}`);
    const restricted =
      name === 'Deno'
        ? command.map((part) => (part === '--allow-all' ? '--no-prompt' : part))
        : [...command, '--permission', ...readable];
    const { koffi, failure } = await told([at('app/main.mjs')], '/', restricted);
    expect(koffi).toBe('undefined');
    expect(failure).toMatch(
      /^koffi cannot be loaded: .*--allow-(fs-)?read.*\. Allow it to read, and to load native code$/,
    );
  });

  it('where it has no build', async () => {
    fake('app', '3.3.4', 'throw new Error("Cannot find the native Koffi module; did you bundle it correctly?")');
    expect(await failureWith()).toBe(
      'koffi (app/node_modules/koffi/index.js) cannot be loaded: ' +
        'Cannot find the native Koffi module; did you bundle it correctly? ' +
        `Install it for this platform, with its optional dependency @koromix/koffi-${platform}`,
    );
  });

  it('where parts of it are missing', async () => {
    fake('app', '3.3.4', 'require("./gone.cjs")');
    expect(await failureWith()).toMatch(
      /^koffi \(app\/node_modules\/koffi\/index\.js\) cannot be loaded: Cannot find module '\.\/gone\.cjs'\. Install it/,
    );
  });

  it.each(['2.16.0', '3.1.9', '4.0.0', undefined])('where it is koffi %s', async (version) => {
    fake('app', version);
    if (version === undefined) file('app/node_modules/koffi/index.js', '');
    expect(await failureWith()).toBe(
      `koffi ${version} (app/node_modules/koffi/index.js) is not one to work with. Install 3.2 or newer: npm install koffi@3`,
    );
  });

  it.each(['throw null', 'throw "text"', 'throw new Error("")', 'module.exports = null; return'])(
    'where it does %s',
    async (what) => {
      fake('app', '3.3.4', what);
      expect(await failureWith()).toMatch(
        /^koffi \(app\/node_modules\/koffi\/index\.js\) cannot be loaded: .*\. Install it/,
      );
    },
  );
});
