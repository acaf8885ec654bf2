/**
 * What is sent: the vocabulary that the runner, the senders and the report share.
 */

/** One workload, as a sender process gets it (JSON in its last argument). */
export interface Workload {
  readonly name: string;
  /** Payload bytes of a datagram; of lines, the mean. */
  readonly bytes: number;
  /** How many destinations, taken in turn: 127.0.0.1, or 127.1.0.0 and on. */
  readonly destinations: number;
  /** So many payloads go to all destinations, one after another, in a tick; default 1. */
  readonly payloadsPerTick?: number;
  /** The payload of a datagram in two parts, the first of so many bytes: a list. */
  readonly headerBytes?: number;
  /** Payloads of so many bytes, each cut into datagrams of `bytes`. */
  readonly chunkBytes?: number;
  /** Fresh metric lines instead of one reused buffer: of equal or of mixed lengths. */
  readonly lines?: 'equal' | 'mixed';
  /** How long to send, seconds. */
  readonly seconds: number;
  /** So many datagrams instead, however long that takes. */
  readonly datagrams?: number;
  /** After the warm-up it sends for `seconds` each time that a line comes on stdin, until that ends. */
  readonly onDemand?: boolean;
  /** Datagrams a second, where the sender is paced. */
  readonly perSecond?: number;
  /** Where the receiver listens: on 127/8, */
  readonly port: number;
  /** or on a unix socket. */
  readonly path?: string;
}

/** What a sender prints (one JSON line). */
export interface SenderResult {
  /** Datagrams of the measured time. */
  readonly datagrams: number;
  /** The same and those of the warm-up, where there was one. */
  readonly total?: number;
  readonly seconds: number;
  /** CPU time of the main thread, seconds; `null` where the system does not tell. */
  readonly busySeconds: number | null;
  /** CPU time of the whole process, the threads of the pool included. */
  readonly cpuSeconds: number;
  readonly syscalls?: number;
  /** Datagrams that the sender gave up itself; the figure is of those sent. */
  readonly dropped?: number;
  /** How long its source waited for room, each time, on average; seconds. */
  readonly meanWaitSeconds?: number;
  /** Where metrics share a datagram: the bytes of all of them, each with a newline. */
  readonly joinedBytes?: number;
  readonly memory?: MemoryResult;
}

/** What became of the memory between the end of the warm-up and the end. */
export interface MemoryResult {
  readonly heapBytes: number;
  readonly externalBytes: number;
  readonly rssBytes: number;
  readonly gcSeconds: number;
  readonly minorCollections: number;
  readonly majorCollections: number;
}

/** Where the receiver listens, and what it receives by. */
export interface ReceiverAddress {
  /** 0 on a unix socket. */
  readonly port: number;
  /** `'nothing'` where it does not read. */
  readonly receivesBy: 'recvmmsg' | 'recvmsg' | 'node:dgram' | 'nothing';
}

/** What the receiver tells when asked. */
export interface ReceiverCount {
  readonly datagrams: number;
  readonly bytes: number;
  /** From the timestamp in the payload to its arrival, since the last reset. */
  readonly latency?: { readonly p50: number; readonly p99: number };
}

/** The addresses of a workload's destinations. */
export function addressesOf({ destinations }: Pick<Workload, 'destinations'>): string[] {
  if (destinations === 1) return ['127.0.0.1'];
  return Array.from(
    { length: destinations },
    (_, index) => `127.${1 + (index >>> 16)}.${(index >>> 8) & 255}.${index & 255}`,
  );
}

/** A fresh metric string of 40 characters, or of 32 to 60. */
export function lineOf(lines: 'equal' | 'mixed', n: number): string {
  if (lines === 'equal') return `${nameOf(n)}:1|c|#${EQUAL_TAGS}`;
  return `${nameOf(n)}:${numberOf(n)}|ms|#${MIXED_TAGS[n % MIXED_TAGS.length]}`;
}

/** The same in its parts, for clients that write the line themselves. */
export function metricOf(lines: 'equal' | 'mixed', n: number): { name: string; value: number; tags: string[] } {
  if (lines === 'equal') return { name: nameOf(n), value: 1, tags: EQUAL_TAGS.split(',') };
  return { name: nameOf(n), value: numberOf(n), tags: MIXED_TAGS[n % MIXED_TAGS.length]!.split(',') };
}

const EQUAL_TAGS = 'env:prod,dc:fra';
const MIXED_TAGS = ['env:prod', 'env:prod,dc:fra', 'env:prod,dc:fra,host:web-01,az:b', 'env:qa'];
const nameOf = (n: number): string => `app.requests.${100_000 + (n % 900_000)}`;
const numberOf = (n: number): number => n % 977;

/** The lengths of the first datagrams, for a sender that makes no strings: one where all are equal. */
export function lengthsOf({ bytes, lines }: Pick<Workload, 'bytes' | 'lines'>): number[] {
  if (lines === undefined) return [bytes];
  return Array.from({ length: lines === 'equal' ? 1 : 64 }, (_, n) => lineOf(lines, n).length);
}
