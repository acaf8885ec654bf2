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
  /** Fresh metric lines instead of one reused buffer: of equal or of mixed lengths. */
  readonly lines?: 'equal' | 'mixed';
  /** How long to send, seconds. */
  readonly seconds: number;
  /** Where the receiver listens. */
  readonly port: number;
}

/** What a sender prints (one JSON line). */
export interface SenderResult {
  /** Datagrams of the measured time. */
  readonly datagrams: number;
  /** The same and those of the warm-up, where there was one. */
  readonly total?: number;
  readonly seconds: number;
  /** CPU time of the main thread, seconds. */
  readonly busySeconds: number;
  readonly syscalls?: number;
  readonly backend?: string;
}

/** The addresses of a workload's destinations. */
export function addressesOf({ destinations }: Workload): string[] {
  if (destinations === 1) return ['127.0.0.1'];
  return Array.from({ length: destinations }, (_, index) => `127.1.${index >>> 8}.${index & 255}`);
}

/** A fresh metric string of 40 characters, or of 29 to 55. */
export function lineOf(workload: Workload, n: number): string {
  const id = 100_000 + (n % 900_000);
  if (workload.lines === 'equal') return `app.requests.${id}:1|c|#env:prod,dc:fra`;
  return `app.requests.${id}:${n % 977}|ms|#${TAGS[n % TAGS.length]}`;
}
const TAGS = ['env:prod', 'env:prod,dc:fra', 'env:prod,dc:fra,host:web-01', 'e:p'];

/** The workload in the last argument. */
export function readWorkload(): Workload {
  return JSON.parse(process.argv.at(-1)!) as Workload;
}

/** Sends chunk after chunk until the time is up, after a warm-up of a quarter; prints the result. */
export async function measure(
  workload: Workload,
  sendChunk: () => number | Promise<number>,
  details: () => Partial<SenderResult> = () => ({}),
): Promise<void> {
  const until = async (seconds: number): Promise<SenderResult> => {
    let datagrams = 0;
    const start = performance.now();
    const cpu = process.cpuUsage();
    let elapsed = 0;
    while (elapsed < seconds * 1000) {
      const sent = sendChunk();
      datagrams += typeof sent === 'number' ? sent : await sent;
      elapsed = performance.now() - start;
    }
    const { user, system } = process.cpuUsage(cpu);
    return { datagrams, seconds: elapsed / 1000, busySeconds: (user + system) / 1e6 };
  };
  const warmUp = await until(workload.seconds / 4);
  const result = await until(workload.seconds);
  const total = warmUp.datagrams + result.datagrams;
  process.stdout.write(`${JSON.stringify({ ...result, total, ...details() })}\n`);
}
