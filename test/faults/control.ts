/**
 * How the shim is told what to do, and what it has seen: a file that it maps, read and written by plain calls of `node:fs`, so
 * that nothing of the library under test stands between. The layout is that of `shim.c`.
 */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';

/** What a rule goes by; see {@link Rule.at}. */
export type RuleKind = 'call' | 'message' | 'datagram';

/** One instruction to the shim. */
export interface Rule {
  readonly by: RuleKind;
  /** The first call, message taken or datagram that it strikes, counted from 0 when the script begins. */
  readonly at: number;
  /** And every so many after that; 0, the default: no other. */
  readonly every?: number;
  /** By call: how often in all. By message or datagram: how often each of them. Default 1; `Infinity`: for ever. */
  readonly times?: number;
  /** What is answered, positive; 0: nothing. */
  readonly errno: number;
  /** By call, without errno: a call takes at most so many messages. */
  readonly take?: number;
  /** Whether an error behind the head of a call, which the kernel discards, is used up: as a pending error of the socket is. */
  readonly isUsedUpUnseen?: boolean;
  /** Only messages of several segments are struck: UDP GSO is refused where plain datagrams pass. */
  readonly isForSegmented?: boolean;
}

/** One call, as the caller saw it. */
export interface CallRecord {
  /** Messages taken, or `-errno`. */
  readonly answer: number;
  /** An error was told, the call was cut short, or the answer is the kernel's own. */
  readonly injected: 'error' | 'cut' | 'none';
  readonly vlen: number;
  /** The number of the first datagram of the first message. */
  readonly head: number;
  /** Datagrams in the first message. */
  readonly segments: number;
  /** Datagrams taken. */
  readonly datagrams: number;
  readonly ms: number;
}

/** What the shim has counted since the script began. */
export interface CallLog {
  readonly calls: number;
  readonly datagrams: number;
  /** Errors told. */
  readonly told: number;
  /** Calls cut short: by a limit, or before an error that was discarded. */
  readonly cut: number;
  /** The calls; the last {@link LOG_RECORDS} of them. */
  readonly records: readonly CallRecord[];
}

const KINDS: readonly RuleKind[] = ['call', 'message', 'datagram'];
const HEADER_WORDS = 16;
const MAX_RULES = 16;
const RULE_WORDS = 8;
const RECORD_WORDS = 8;
const RULES_AT = HEADER_WORDS * 4;
const LOG_AT = RULES_AT + MAX_RULES * RULE_WORDS * 4;
export const LOG_RECORDS = 32_768;
const FILE_SIZE = LOG_AT + LOG_RECORDS * RECORD_WORDS * 4;
const FOR_EVER = 0xffff_ffff;

const COUNTS_DISCARDED = 1;
const SEGMENTED_ONLY = 2;

/** Words of the header. */
const GENERATION = 1;
const SEEN = 3;
const CALLS = 4;
const DATAGRAMS = 6;
const TOLD = 7;
const CUT = 8;
const EVER = 9;

export class FaultControl {
  readonly #fd: number;
  #generation: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'r+');
    this.#generation = this.#header()[GENERATION]!;
  }

  /** Makes the file, for processes that are started after this. */
  static create(path: string, { isSendmmsgAbsent = false }: { isSendmmsgAbsent?: boolean } = {}): void {
    const fd = openSync(path, 'w');
    ftruncateSync(fd, FILE_SIZE);
    writeSync(fd, Uint32Array.of(isSendmmsgAbsent ? 1 : 0), 0, 4, 0);
    closeSync(fd);
  }

  /** Begins a script: what is counted, is counted from here. */
  arm(rules: readonly Rule[]): void {
    if (rules.length > MAX_RULES) throw new RangeError(`At most ${MAX_RULES} rules`);
    const words = new Uint32Array(MAX_RULES * RULE_WORDS);
    for (const [index, rule] of rules.entries()) {
      const flags = (rule.isUsedUpUnseen ? COUNTS_DISCARDED : 0) | (rule.isForSegmented ? SEGMENTED_ONLY : 0);
      const times = rule.times === Number.POSITIVE_INFINITY ? FOR_EVER : (rule.times ?? 1);
      const { at, every = 0, errno, take = 0 } = rule;
      words.set([KINDS.indexOf(rule.by) + 1, at, every, times, errno, take, flags, 0], index * RULE_WORDS);
    }
    writeSync(this.#fd, words, 0, words.byteLength, RULES_AT);
    // The rules first: the shim reads them when it sees the new generation.
    writeSync(this.#fd, Uint32Array.of(rules.length), 0, 4, (GENERATION + 1) * 4);
    writeSync(this.#fd, Uint32Array.of(++this.#generation), 0, 4, GENERATION * 4);
  }

  /** Calls since the process began. */
  get callsEver(): number {
    return this.#header()[EVER]!;
  }

  /** What has happened since the script began. */
  read(): CallLog {
    const header = this.#header();
    // No call yet: the counters are those of the script before.
    if (header[SEEN] !== this.#generation) return { calls: 0, datagrams: 0, told: 0, cut: 0, records: [] };
    const calls = header[CALLS]!;
    const count = Math.min(calls, LOG_RECORDS);
    const words = new Int32Array(count * RECORD_WORDS);
    if (count > 0) readSync(this.#fd, words, 0, words.byteLength, LOG_AT);
    const records = Array.from({ length: count }, (_, index): CallRecord => {
      const at = (calls > LOG_RECORDS ? (calls + index) % LOG_RECORDS : index) * RECORD_WORDS;
      const [answer, injected, vlen, head, segments, datagrams, micros] = words.subarray(at, at + RECORD_WORDS);
      return {
        answer: answer!,
        injected: injected === 1 ? 'error' : injected === 2 ? 'cut' : 'none',
        vlen: vlen!,
        head: head!,
        segments: segments!,
        datagrams: datagrams!,
        ms: micros! / 1000,
      };
    });
    return { calls, datagrams: header[DATAGRAMS]!, told: header[TOLD]!, cut: header[CUT]!, records };
  }

  close(): void {
    closeSync(this.#fd);
  }

  #header(): Uint32Array {
    const words = new Uint32Array(HEADER_WORDS);
    readSync(this.#fd, words, 0, words.byteLength, 0);
    return words;
  }
}
