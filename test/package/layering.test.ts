import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The rooms from the ground up: each file imports from its own and from those below. Two on one level do not know each other. */
const ROOMS: readonly (readonly RegExp[])[] = [
  [/^src\/kernel\//],
  [/^src\/message\//],
  [/^src\/queue\//],
  [/^src\/socket\//],
  [/^src\/sender\//, /^src\/receiver\//],
  [/^operators\/rxjs\//, /^operators\/ix\//, /^src\/streams\.ts$/],
  [/^src\/index\.ts$/, /^src\/ix\.ts$/],
  [/^src\/cli\//],
];

interface Import {
  readonly from: string;
  readonly isTypeOnly: boolean;
}

const files = ['src', 'operators'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `${folder}/${name}`),
);
const code = new Map(files.map((file) => [file, withoutComments(readFileSync(join(ROOT, file), 'utf8'))]));

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[\s;{}(),])\/\/.*$/gm, '$1');
}

/** Every module that a text names: import, export … from, import(), require(). */
function importsIn(text: string): Import[] {
  const clauses = /(?:^|[;\n])\s*(import|export)\s+(type\s+)?(?:[\w$*\s{},]+?\sfrom\s*)?['"]([^'"]+)['"]/g;
  const calls = /(typeof\s+)?(?:\bimport|\brequire|createRequire\([^)]*\))\s*\(\s*['"]([^'"]+)['"]/g;
  return [
    ...Array.from(text.matchAll(clauses), ([, , type, from]) => ({ from: from!, isTypeOnly: type !== undefined })),
    ...Array.from(text.matchAll(calls), ([, type, from]) => ({ from: from!, isTypeOnly: type !== undefined })),
  ];
}

function levelOf(file: string): number {
  return ROOMS.findIndex((rooms) => rooms.some((room) => room.test(file)));
}

/** Which room of its level a file is in. */
function roomOf(file: string): RegExp | undefined {
  return ROOMS.flat().find((room) => room.test(file));
}

/** Whether a file may import another: of its own room, or of one further down. */
function maySee(file: string, other: string): boolean {
  return levelOf(other) < levelOf(file) || roomOf(other) === roomOf(file);
}

/** The files of this package that a file imports. */
function localImports(file: string): string[] {
  return importsIn(code.get(file)!)
    .filter(({ from }) => from.startsWith('.'))
    .map(({ from }) => relative(ROOT, join(ROOT, dirname(file), from)));
}

/** The files that match, for a message that names them. */
function filesWith(pattern: RegExp): string[] {
  return files.filter((file) => pattern.test(code.get(file)!));
}

describe('layers', () => {
  it('reads imports of every form, and none out of comments', () => {
    const text = `
      /** import { a } from 'in-a-doc'; */
      import type { A } from './type-only.ts';
      import b, { type B } from 'value'; // import 'in-a-comment'
      import 'bare';
      export {
        c,
      } from './re-export.ts';
      type D = typeof import('type-query');
      const e = createRequire(import.meta.url)('required');
      const f = await import('dynamic');`;
    expect(
      importsIn(withoutComments(text)).map(({ from, isTypeOnly }) => `${from}${isTypeOnly ? ' (type)' : ''}`),
    ).toEqual(['./type-only.ts (type)', 'value', 'bare', './re-export.ts', 'type-query (type)', 'required', 'dynamic']);
  });

  it('CONTRIBUTING.md has the rooms as they are', () => {
    const table = readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8');
    const told = Array.from(table.matchAll(/^\| (\d) \| (.*?) \|/gm), ([, level, names]) =>
      Array.from(names!.matchAll(/`([\w./-]+)`/g), ([, name]) => `${level} ${name}`),
    ).flat();
    const places = files.map((file) => file.replace(/^(src|operators)\/([^/]+)\/.*$/, '$1/$2/'));
    expect(told.sort()).toEqual([...new Set(places.map((place) => `${levelOf(place)} ${place}`))].sort());
  });

  it('CONTRIBUTING.md tells the way of a datagram as it is: each step has its file, its method, and finds the next one', () => {
    const text = readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8');
    const steps = Array.from(text.matchAll(/^\| \d+\. \| `([\w./-]+)` \| `(\w+)` \|/gm), ([, file, method]) => ({
      file: file!,
      method: method!,
    }));
    expect(steps.length).toBeGreaterThan(7);
    for (const { file, method } of steps) {
      expect(code.get(file), file).toMatch(new RegExp(`^ +(?:protected override )?${method}\\(`, 'm'));
    }
    // Each method is called by a file of an earlier step, but for the first.
    for (const [index, { file, method }] of steps.entries()) {
      if (index === 0) continue;
      const before = steps.slice(0, index).map((step) => code.get(step.file)!);
      expect(
        before.some((text) => new RegExp(`\\.${method}!?\\(`).test(text)),
        `${file} ${method}`,
      ).toBe(true);
    }
  });

  it.each(files)('%s is in a room, and imports nothing from above', (file) => {
    expect(levelOf(file), 'give it a room').toBeGreaterThanOrEqual(0);
    const imports = localImports(file);
    expect(imports.filter((other) => !files.includes(other))).toEqual([]);
    expect(imports.filter((other) => !maySee(file, other))).toEqual([]);
  });

  it('has no import cycle, types included', () => {
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (file: string, trail: readonly string[]): void => {
      if (trail.includes(file)) cycles.push([...trail.slice(trail.indexOf(file)), file].join(' -> '));
      if (done.has(file) || trail.includes(file)) return;
      for (const other of localImports(file)) visit(other, [...trail, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it('names koffi in koffi.ts, libc.ts and readiness.ts only, and imports it in koffi.ts only', () => {
    const importers = files.filter((file) => importsIn(code.get(file)!).some(({ from }) => from.startsWith('koffi')));
    expect(importers).toEqual(['src/kernel/koffi.ts']);
    expect(filesWith(/koffi/i).sort()).toEqual([
      'src/kernel/koffi.ts',
      'src/kernel/libc.ts',
      'src/kernel/readiness.ts',
    ]);
  });

  it('loads nothing by a require of its own making but koffi, and the package.json for the command', () => {
    const loading = /\bcreateRequire\b|['"](?:node:)?module['"]|\bgetBuiltinModule\b|\bdlopen\b|\brequire\s*\(/;
    for (const text of ["import * as m from 'node:module'", 'process.dlopen(m, path)', "require('koffi')"]) {
      expect(text).toMatch(loading);
    }
    expect(filesWith(loading).sort()).toEqual(['src/cli/mmsg.ts', 'src/kernel/koffi.ts']);
    const loaded = Array.from(
      code.get('src/kernel/koffi.ts')!.matchAll(/\bload(?:\.resolve)?\(([^)]*)\)/g),
      ([, what]) => what,
    );
    expect(loaded).toEqual(["'koffi'", 'path']);
  });

  it('takes only types from rxjs below the operators, and nothing from ix', () => {
    const values = files
      .filter((file) => levelOf(file) < 5)
      .filter((file) =>
        importsIn(code.get(file)!).some(({ from, isTypeOnly }) => /^(rxjs|ix)\b/.test(from) && !isTypeOnly),
      );
    expect(values).toEqual([]);
  });

  it.each([
    ['src/index.ts', ['rxjs']],
    ['src/ix.ts', ['ix']],
    ['src/streams.ts', []],
  ])('%s needs no peer at run time but %j', (entry, peers) => {
    const reached = new Set<string>();
    const needed = new Set<string>();
    const visit = (file: string): void => {
      if (reached.has(file)) return;
      reached.add(file);
      for (const { from, isTypeOnly } of importsIn(code.get(file)!)) {
        if (isTypeOnly) continue;
        if (from.startsWith('.')) visit(relative(ROOT, join(ROOT, dirname(file), from)));
        else if (/^(rxjs|ix)\b/.test(from)) needed.add(from.split('/')[0]!);
      }
    };
    visit(entry);
    expect([...needed]).toEqual(peers);
  });

  it('reaches for no internals of its dependencies', () => {
    const deep = files.flatMap((file) =>
      importsIn(code.get(file)!).filter(({ from }) =>
        /^(rxjs\/(internal|dist|src)|ix\/(targets|Ix)|koffi\/)/.test(from),
      ),
    );
    expect(deep).toEqual([]);
  });
});

describe('code', () => {
  it('has no default exports', () => {
    expect(filesWith(/\bexport\s+default\b|\bas\s+default\b/)).toEqual([]);
  });

  it('has no `any` type', () => {
    const anyType = /(?::|\bas|<|[|&])\s*any\b(?!\s*[.(:])|\bany\s*(?:\[\]|>|[|&][^|&])/;
    for (const text of ['x: any;', 'y as any', 'Record<string, any>', 'any[]', 'Array<any>', 'A | any']) {
      expect(text).toMatch(anyType);
    }
    expect(filesWith(anyType)).toEqual([]);
  });

  it('moves the head of the queue in release() only, and back to the front where nothing is left', () => {
    const text = code.get('src/queue/queue.ts')!;
    const methods = Array.from(text.matchAll(/^ {2}(#?\w+)\([^\n]*\n[\s\S]*?^ {2}\}$/gm), ([body, name]) => ({
      name,
      body: body!,
    }));
    const assignment =
      /\bthis\.head\s*(?:[-+*/%&|^]|<<|>>>?|\?\?)?=(?!=)|\bthis\.head\s*(?:\+\+|--)|(?:\+\+|--)this\.head\b/;
    expect(methods.filter(({ body }) => assignment.test(body)).map(({ name }) => name)).toEqual([
      'release',
      '#restart',
    ]);
    expect(files.filter((file) => /\bqueue\.head\s*=[^=]/.test(code.get(file)!))).toEqual([]);
    expect(text.match(/#restart\(\)/g)).toHaveLength(2); // it is called by release()
  });
});
