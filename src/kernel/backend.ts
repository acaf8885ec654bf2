/**
 * What does the sending here: sendmmsg(2), or, where that is not to be had or not wanted, sendmsg(2) or node:dgram.
 *
 * `RX_SENDMMSG_BACKEND` is looked at each time a socket is opened: for tests, and for users who want to rule something out.
 */
import { argumentValueError } from './errors.ts';
import { findSender, type Lack, type Libc, libc, type NativeBackend, type SendingLibc } from './libc.ts';
import { warnOfFallback } from './warnings.ts';

/** What does the sending: the system call, its elder brother one by one, or node:dgram one by one. */
export type Backend = NativeBackend | 'node:dgram';

/** The calls to send with (none: node:dgram), and why it is not sendmmsg(2). */
export interface ChosenBackend {
  readonly libc: SendingLibc | undefined;
  readonly fallbackReason: string | undefined;
}

const VARIABLE = 'RX_SENDMMSG_BACKEND';
const BY_VALUE: Readonly<Record<string, Backend>> = {
  '': 'sendmmsg',
  sendmmsg: 'sendmmsg',
  sendmsg: 'sendmsg',
  dgram: 'node:dgram',
  'node:dgram': 'node:dgram',
};
/** `process.arch` of machines whose addresses are 32 bits wide: there nobody expects more. */
const NARROW: ReadonlySet<string> = new Set(['arm', 'ia32', 'mips', 'mipsel', 'ppc', 's390']);

/**
 * Decides for a socket that is about to be opened, and warns of a fallback that nobody has asked for.
 *
 * Throws SendmmsgError `ERR_INVALID_ARG_VALUE` if the variable has a value that means nothing.
 */
export function chooseBackend(): ChosenBackend {
  const value = variable();
  if (!Object.hasOwn(BY_VALUE, value)) {
    const choices = "must be 'sendmmsg', 'sendmsg' or 'dgram', or not be set";
    throw argumentValueError(`environment variable ${VARIABLE}`, choices, value);
  }
  const wanted = BY_VALUE[value]!;
  const asked = `${VARIABLE}=${value} is set in the environment`;
  if (wanted === 'node:dgram') return { libc: undefined, fallbackReason: asked };
  const { libc: calls, lack } = findSender(wanted);
  if (lack === undefined) return { libc: calls, fallbackReason: wanted === 'sendmmsg' ? undefined : asked };
  warn(calls?.backend ?? 'node:dgram', lack);
  return { libc: calls, fallbackReason: lack.reason };
}

/** The calls of the C library, where native calls are to be had and wanted. Never throws. */
export function nativeCalls(): Libc | undefined {
  return BY_VALUE[variable()] === 'node:dgram' ? undefined : libc();
}

function warn(backend: Backend, { reason, remedy }: Lack): void {
  if (process.platform === 'linux' && !NARROW.has(process.arch)) warnOfFallback(backend, reason, remedy);
}

function variable(): string {
  try {
    return process.env[VARIABLE] ?? '';
  } catch {
    return ''; // Deno without --allow-env
  }
}
