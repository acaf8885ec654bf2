/**
 * Finds koffi, the one native package: on first use, and never with an exception.
 *
 * This code may stand in a bundle, where `import.meta.url` can be empty (esbuild, CommonJS), or be the source's path on the machine
 * that built it (webpack), and where koffi is installed beside the output. So it is looked for from every file that this code or its
 * program is known to be in.
 *
 * The working directory is not among them. Native code from there would be whatever is in the folder that a program is
 * started in, of whomever that folder is.
 */
import { existsSync } from 'node:fs';
// As a namespace: webpack replaces each call of an imported `createRequire` by what it makes of its argument, `undefined` here.
import * as nodeModule from 'node:module';
import { basename, isAbsolute } from 'node:path';
import { fileURLToPath } from 'node:url';

type Koffi = typeof import('koffi');

/** koffi itself, or a sentence on why it cannot be had: it is not installed, has no build for this platform, or native code is forbidden. */
export type FoundKoffi =
  | { readonly koffi: Koffi; readonly failure?: undefined }
  | { readonly koffi?: undefined; readonly failure: string };

/** The same answer for the life of the process. */
export function findKoffi(): FoundKoffi {
  found ??= find();
  return found;
}
let found: FoundKoffi | undefined;

function find(): FoundKoffi {
  const files = [...new Set([...ownFiles(), ...programFiles()])];
  let failure: string | undefined;
  for (const file of files) {
    const answer = loadFrom(file);
    if (answer?.koffi !== undefined) return answer;
    failure ??= answer?.failure;
  }
  failure ??= `koffi was not found from ${files.join(', nor from ')}. Install it beside the program: npm install koffi@3`;
  return { failure };
}

/** What is installed for a file; nothing where nothing is. */
function loadFrom(file: string): FoundKoffi | undefined {
  let path: string | undefined;
  try {
    const load = nodeModule.createRequire(file);
    path = load.resolve('koffi');
    const koffi = load(path) as Koffi;
    if (isUsable(koffi.version)) return { koffi };
    return {
      failure: `koffi ${koffi.version} (${path}) is not one to work with. Install 3.2 or newer: npm install koffi@3`,
    };
  } catch (error) {
    const reason: NodeJS.ErrnoException = error instanceof Error ? error : new Error(String(error));
    if (path === undefined && reason.code === 'MODULE_NOT_FOUND') return undefined;
    const what = path === undefined ? 'koffi' : `koffi (${path})`;
    return { failure: `${what} cannot be loaded: ${firstSentence(reason.message)} ${remedyFor(reason)}` };
  }
}

function remedyFor({ code, name }: NodeJS.ErrnoException): string {
  if (code === 'ERR_DLOPEN_DISABLED') {
    return 'Allow native addons: without --no-addons, and with --allow-addons where there is a permission model';
  }
  if (code === 'ERR_ACCESS_DENIED' || name === 'NotCapable') return 'Allow it to read, and to load native code';
  return `Install it for this platform, with its optional dependency @koromix/koffi-${process.platform}-${process.arch}`;
}

/** From 3.2 on the errno of an asynchronous call can be had. */
function isUsable(version: unknown): boolean {
  const [major, minor] = String(version).split('.').map(Number);
  return major === 3 && minor! >= 2;
}

function firstSentence(text: string): string {
  return (text.split('\n', 1)[0] || 'it does not say why').replace(/[^.?]$/, '$&.');
}

declare const __webpack_require__: unknown;

/** The file that this code is in. */
function ownFiles(): string[] {
  const files: unknown[] = [];
  try {
    files.push(__filename); // not `typeof`: webpack takes it for a string where it does not exist
  } catch {}
  try {
    files.push(fileURLToPath(import.meta.url));
  } catch {}
  const existing = files.filter(isPresent);
  // In a bundle, what has the source's name was written down when that was built: webpack does so with import.meta.url, Bun with
  // __filename. Somebody else may have that path on the machine that it runs on.
  const isSource = (file: string): boolean => /^koffi\.[jt]s$/.test(basename(file));
  const isBundle = typeof __webpack_require__ !== 'undefined' || existing.some((file) => !isSource(file));
  return isBundle ? existing.filter((file) => !isSource(file)) : existing;
}

function isPresent(file: unknown): file is string {
  if (typeof file !== 'string' || !isAbsolute(file)) return false;
  try {
    return existsSync(file);
  } catch {
    return true; // it may not be asked (Deno, permission models): loading tells that in its own words
  }
}

/** The program: its main script, or itself where script and runtime are one file (`bun build --compile`). */
function programFiles(): string[] {
  const files: string[] = [];
  const script = process.argv[1];
  // Behind `node -e` there is no script, and this is an argument.
  const isEvaluated = process.execArgv.some((argument) => /^(-e|-p|-pe|--eval|--print)(=|$)/.test(argument));
  if (!isEvaluated && script !== undefined && isAbsolute(script)) {
    try {
      files.push(nodeModule.createRequire(script).resolve(script)); // as Node did: `node .`, a symlink in node_modules/.bin
    } catch {}
  }
  files.push(process.execPath);
  return files;
}
