/**
 * IPv6 zones: which interface a scoped address belongs to, by its number or its name, RFC 4007 section 11.
 *
 * The C library knows every interface. Without it, Node knows those that have an address: a zone is exact there if its
 * interface has a link-local address, and is the default one (0) if it has others only.
 */
import { networkInterfaces } from 'node:os';
import { IFNAMSIZ } from '../kernel/abi.ts';
import { nativeCalls } from '../kernel/backend.ts';
import { shortened } from '../kernel/errors.ts';

/** The number of a zone that is written as a number or as the name of an interface; `undefined`: there is no such one. */
export function zoneIndex(zone: string): number | undefined {
  if (/^\d{1,10}$/.test(zone) && Number(zone) <= 0xffffffff) return Number(zone);
  const calls = nativeCalls();
  if (calls !== undefined) return isInterfaceName(zone) ? calls.ifNametoindex(zone) || undefined : undefined;
  const interfaces = networkInterfaces();
  const entries = Object.hasOwn(interfaces, zone) ? interfaces[zone]! : [];
  const scopes = entries.flatMap((entry) => (entry.family === 'IPv6' ? [entry.scopeid] : []));
  return scopes.length === 0 ? undefined : Math.max(...scopes);
}

/** The name of the interface of a number; `undefined`: there is no such one. */
export function zoneName(index: number): string | undefined {
  const calls = nativeCalls();
  if (calls !== undefined) return calls.ifIndextoname(index) || undefined;
  const found = Object.entries(networkInterfaces()).find(([, entries]) =>
    entries?.some((entry) => entry.family === 'IPv6' && entry.scopeid === index),
  );
  return found?.[0];
}

/** What is said of a zone that there is not. */
export function unknownZone(zone: string): string {
  return `this host has no interface named "${shortened(zone)}"`;
}

/** Whether an interface of Linux can have this name: a longer one, or one with a NUL, would be cut to that of another. */
export function isInterfaceName(name: string): boolean {
  return name !== '' && !name.includes('\0') && Buffer.byteLength(name) < IFNAMSIZ;
}

/**
 * The address with its zone written as libuv reads it: by name, on Windows by number. libuv takes what it does not know for
 * no zone at all.
 *
 * @returns `undefined` if there is no such interface
 */
export function withCanonicalZone(address: string): string | undefined {
  const percent = address.indexOf('%');
  if (percent < 0) return address;
  const index = zoneIndex(address.slice(percent + 1));
  if (index === undefined) return undefined;
  if (index === 0) return address;
  const zone = process.platform === 'win32' ? index : zoneName(index);
  return zone === undefined ? undefined : `${address.slice(0, percent)}%${zone}`;
}
