/**
 * The key that `mmsg send --conflate-by FIELD` takes from a line: a newer line with the same key replaces a queued one.
 */
import { InvalidArgumentError } from 'commander';

/** From a line's bytes to its key; `undefined` where it has none, and is never replaced. */
export type KeyOf = (line: Uint8Array) => unknown;

/** What stands between the fields of a line of text: as in `requests:1|c`, `cpu=0.5 host`, `a,b`. */
const SEPARATORS = /[\s:=|,;]+/;
const MAX_FIELD = 1000;

/** FIELD: a number from 1 counts the fields of a line, a name is a member of its JSON object. Throws InvalidArgumentError. */
export function parseKeyField(text: string): KeyOf {
  if (/^\d+$/.test(text)) {
    const index = Number(text) - 1;
    if (index < 0 || index >= MAX_FIELD) throw new InvalidArgumentError(`A field number is 1 to ${MAX_FIELD}.`);
    return (line) => textOf(line).split(SEPARATORS, MAX_FIELD)[index] || undefined;
  }
  if (text === '') throw new InvalidArgumentError('It must be the number of a field, or the name of a JSON member.');
  return (line) => memberOf(textOf(line), text);
}

function textOf(line: Uint8Array): string {
  return Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString();
}

function memberOf(line: string, name: string): unknown {
  try {
    const value: unknown = (JSON.parse(line) as Record<string, unknown> | null)?.[name];
    // Objects are never the same key twice; their text is.
    return typeof value === 'object' && value !== null ? JSON.stringify(value) : value;
  } catch {
    return undefined;
  }
}
