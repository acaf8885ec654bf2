/**
 * Names of options: an unknown one is an error that says which was meant, in every object of options alike.
 *
 * Options are optional, so a misspelt one would be a default without a word.
 */
import { SendmmsgError, shortened } from '../kernel/errors.ts';

/**
 * What others call it, in small letters: node:dgram, node:net, RxJS, statsd clients, setsockopt(2). The first that is
 * known here.
 */
const ALIASES: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    address: ['host', 'hostname', 'ip', 'ipaddress', 'remoteaddress', 'localaddress', 'addr'],
    port: ['remoteport', 'localport'],
    path: ['file', 'filename', 'socketpath', 'sockpath'],
    to: ['destination', 'dest', 'dst', 'endpoint', 'target', 'remote', 'peer'],
    connect: ['destination', 'dest', 'dst', 'endpoint', 'target', 'remote', 'peer', 'remoteaddress'],
    bind: ['local', 'localaddress', 'listen'],
    type: ['family', 'protocol', 'sockettype'],
    bindToDevice: ['device', 'interface'],
    sendBufferSize: ['sndbuf', 'so_sndbuf', 'sendbuffer'],
    recvBufferSize: ['rcvbuf', 'so_rcvbuf', 'receivebuffersize', 'receivebuffer', 'recvbuffer'],
    batchSize: ['buffersize', 'buffercount', 'count', 'vlen'],
    batchBytes: ['bufferbytes'],
    flushAfterMs: [
      'buffertime',
      'buffertimespan',
      'bufferflushinterval',
      'flushinterval',
      'flushintervalms',
      'interval',
    ],
    highWaterMark: ['maxqueue', 'maxqueued', 'queuesize', 'maxqueuesize', 'capacity'],
    highWaterMarkBytes: ['maxqueuebytes', 'queuebytes'],
    overflow: ['onoverflow', 'overflowstrategy', 'dropstrategy'],
    drainTimeoutMs: ['closetimeout', 'closetimeoutms'],
    offload: ['async', 'threadpool'],
    lanes: ['concurrency', 'parallelism', 'threads'],
    conflateBy: ['key', 'keyby', 'keyof', 'distinctby'],
    pack: ['maxbuffersize', 'maxbytes', 'mtu', 'separator', 'delimiter'],
    pace: ['rate', 'ratelimit', 'throttle', 'datagramspersecond', 'bytespersecond', 'burst'],
    pressure: ['backpressure', 'onpressure', 'ondrain'],
    maxBytes: ['maxsize', 'mtu', 'size', 'maxbuffersize'],
    separator: ['delimiter', 'newline', 'join'],
    datagramsPerSecond: ['rate', 'persecond', 'packetspersecond', 'pps'],
    bytesPerSecond: ['byterate', 'bps'],
  }).reduce((aliases, [name, others]) => {
    for (const other of others) aliases.set(other, [...(aliases.get(other) ?? []), name]);
    return aliases;
  }, new Map<string, string[]>()),
);

/** No name is longer than this, and comparing a very long one would take its time. */
const LONGEST_NAME = 40;

/**
 * Throws SendmmsgError `ERR_INVALID_ARG_VALUE` if an object of options has an own enumerable property of an unknown
 * name, whatever its value. Runs no getter.
 *
 * @param where - what the object is called: `'options'`, `'options.bind'`
 */
export function checkOptionNames(where: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) if (!known.includes(name)) throw unknownOptionError(where, name, known);
}

/**
 * The known name that is most likely meant by another: the same in other letters, an alias, a misspelling, or a part.
 */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  if (name.length > LONGEST_NAME) return undefined;
  const lower = name.toLowerCase();
  const same = known.find((other) => other.toLowerCase() === lower);
  if (same !== undefined) return same;
  return ALIASES.get(lower)?.find((other) => known.includes(other)) ?? misspelt(lower, known) ?? partOf(lower, known);
}

function unknownOptionError(where: string, name: string, known: readonly string[]): SendmmsgError {
  const nearest = nearestName(name, known);
  const remedy = nearest === undefined ? `There are ${known.join(', ')}` : `Did you mean "${nearest}"?`;
  const message = `The option "${where}.${shortened(name)}" is unknown. ${remedy}`;
  return new SendmmsgError(message, { code: 'ERR_INVALID_ARG_VALUE' });
}

/** One mistake in a short name, two in a longer one. */
function misspelt(lower: string, known: readonly string[]): string | undefined {
  let most = Math.min(2, Math.floor(lower.length / 3));
  let nearest: string | undefined;
  for (const other of known) {
    const edits = editDistance(lower, other.toLowerCase());
    if (edits > most) continue;
    nearest = other;
    most = edits - 1;
  }
  return nearest;
}

/** A name that was cut short, or has something behind it: `flushAfter`, `portNumber`. */
function partOf(lower: string, known: readonly string[]): string | undefined {
  return known.find((other) => {
    const [short, long] = other.length < lower.length ? [other.toLowerCase(), lower] : [lower, other.toLowerCase()];
    return short.length >= 3 && long.startsWith(short);
  });
}

/**
 * Letters to insert, leave out, replace or swap with their neighbour.
 *
 * @see {@link https://en.wikipedia.org/wiki/Damerau%E2%80%93Levenshtein_distance#Optimal_string_alignment_distance | optimal string alignment distance}
 */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const isSame = a[row - 1] === b[column - 1];
      const replaced = above[column - 1]! + (isSame ? 0 : 1);
      const isSwapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      const swapped = isSwapped ? before[column - 2]! + 1 : Infinity;
      current[column] = Math.min(above[column]! + 1, current[column - 1]! + 1, replaced, swapped);
    }
    [before, above] = [above, current];
  }
  return above[b.length]!;
}
