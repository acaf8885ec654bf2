#!/usr/bin/env node
/**
 * The `mmsg` command: what it understands, and the exit status.
 */
import { createRequire } from 'node:module';
import { Argument, Command, CommanderError, Option } from 'commander';
import { integer, parseFraming, parseOutputFraming } from './arguments.ts';
import { type BenchOptions, bench } from './bench.ts';
import { parseKeyField } from './conflation-key.ts';
import { demo } from './demo.ts';
import { conflictOf as conflictOfRecv, type RecvOptions, recv } from './recv.ts';
import { conflictOf as conflictOfSend, type SendOptions, send } from './send.ts';
import { parseLocal, parsePeer, type Target } from './target.ts';
import { outputFlushed, say } from './terminal.ts';

const USAGE_ERROR = 2;
const MAX_MS = 2 ** 31 - 1;
const MAX_BYTES = 2 ** 30;

const DRAIN_HELP = 'at the end, wait so long for the queue, then drop it (default: for ever; after Ctrl-C 5000)';

const TARGETS = `
Targets:
  HOST:PORT        a host name is resolved once; its family follows the answer
  [IPV6]:PORT      as in [::1]:8125
  unix:PATH        a unix datagram socket; unix:@NAME is an abstract one`;

const EXIT_STATUS = `
Exit status:
  0    everything was sent, or received
  1    datagrams were rejected, dropped or cut off, the input is truncated, fewer than --count came, or it failed
  2    usage error
  130  ended by Ctrl-C (143: SIGTERM) before all of the input was sent, or before --count was reached`;

const SEND_HELP = `${TARGETS}

Framing:
  lines            a newline ends a datagram and is not sent; a carriage return is. The last line needs no newline.
                   An empty line is an empty datagram, unless --skip-empty
  length-prefixed  4 bytes of length, big-endian, then as many bytes
  fixed:BYTES      as many bytes each; the last datagram may be shorter

Keys (--conflate-by):
  N                the N-th field of a line; fields end at white space and at : = | , ;
  NAME             the member NAME of a line that is a JSON object
                   A line without it is never replaced. Reading never pauses: if the queue is full, the oldest gives way
${EXIT_STATUS}

While the queue is full, reading pauses: nothing is dropped however slow the receiver is, and memory stays constant.
A unix receiver that was restarted is found again. What is sent meanwhile is rejected; with --wait it waits, as the input
does, and is sent first. What the old receiver had queued and not read is lost with it.
The first Ctrl-C stops reading and drains the queue; the second one quits at once.

Examples:
  $ mmsg send localhost:8125 metrics.txt
  $ tail -F app.log | mmsg send --wait unix:/dev/log --flush-after 100
  $ mmsg send 10.0.0.1:9000 --to 10.0.0.2:9000 --rate 5000 events.txt
  $ generate-metrics | mmsg send localhost:8125 --pack
  $ mmsg send [::1]:9000 --framing length-prefixed --json < capture.bin`;

const RECV_HELP = `${TARGETS}

Port 0 binds to any port; it is told on standard error. A stale unix path is replaced. Ctrl-C ends it with a summary.
${EXIT_STATUS}

Examples:
  $ mmsg recv 127.0.0.1:8125
  $ mmsg recv unix:/tmp/metrics.sock --count 1000000 --json --checksum
  $ mmsg recv [::]:9000 --framing length-prefixed --idle-timeout 5000 > capture.bin`;

function createProgram(run: (exitCode: Promise<number>) => Promise<void>): Command {
  const { version } = createRequire(import.meta.url)('rx-sendmmsg/package.json') as { version: string };
  const program = new Command('mmsg')
    .description('Sends and receives datagrams in batches, through sendmmsg(2) and recvmmsg(2).')
    .version(version)
    .exitOverride()
    // One error is one line, the suggestion for a misspelt option included.
    .configureOutput({ outputError: (text, write) => write(`mmsg: ${text.trim().replaceAll('\n', ' ')}\n`) })
    .addHelpText('after', '\nmmsg COMMAND --help tells the options of a command, with examples.');
  addSend(program, run);
  addRecv(program, run);
  program
    .command('bench')
    .description('how fast this machine sends, beside node:dgram: less than 20 seconds')
    .option('--json', 'print the figures on standard output, as one JSON object')
    .action((options: BenchOptions) => run(bench(options)));
  program
    .command('demo')
    .description('a telemetry stream through the operator to a receiver of its own, and the account of it')
    .action(() => run(demo()));
  return program;
}

function addSend(program: Command, run: (exitCode: Promise<number>) => Promise<void>): void {
  program
    .command('send')
    .description('send a file, or standard input, as datagrams')
    .addArgument(new Argument('<target>', 'HOST:PORT, [IPV6]:PORT or unix:PATH').argParser(parsePeer))
    .argument('[file]', 'what to send; - or none: standard input')
    .option('-f, --file <file>', 'the same as an option')
    .addOption(
      option('--framing <framing>', 'lines, length-prefixed or fixed:BYTES', parseFraming).default(
        { kind: 'lines' },
        'lines',
      ),
    )
    .option('--skip-empty', 'leave out empty lines')
    .addOption(option('--batch-size <n>', 'flush at this many datagrams', integer(1, 2 ** 20)).default(1024))
    .addOption(option('--flush-after <ms>', 'or this long after the first one', integer(0, MAX_MS)).default(0))
    .addOption(option('--high-water-mark <n>', 'most datagrams queued', integer(1, 2 ** 20)).default(8192))
    .addOption(option('--high-water-mark-bytes <n>', 'most bytes queued', integer(1, MAX_BYTES)).default(4 << 20))
    .addOption(option('--drain-timeout <ms>', DRAIN_HELP, integer(0, MAX_MS)))
    .addOption(option('--bind <target>', 'send from this address, or unix path', parseLocal))
    .addOption(option('--send-buffer <bytes>', 'SO_SNDBUF', integer(1, MAX_BYTES - 1)))
    .addOption(
      option('-t, --to <target>', 'one more destination (UDP): each datagram goes to all', parsePeer).argParser(
        (text: string, more: readonly Target[] = []) => [...more, parsePeer(text)],
      ),
    )
    .option('--wait', 'wait for the receiver: at the start, and when it goes away (unix sockets)')
    .addOption(
      option('--rate <n>', 'at most so many datagrams a second, evenly; reads a second ahead', integer(1, 1e9)),
    )
    .addOption(
      option('--pack [bytes]', 'put lines into one datagram, up to so many bytes', integer(1, 65_507)).preset('1432'),
    )
    .addOption(
      option('--conflate-by <field>', 'a line replaces the queued one of the same key: see below', parseKeyField),
    )
    .addOption(new Option('--gso <when>', 'UDP segmentation offload').choices(['auto', 'off']).default('auto'))
    .option('--offload', 'send on the thread pool')
    .option('--broadcast', 'allow broadcast addresses (SO_BROADCAST)')
    .option('--checksum', 'SHA-256 over the datagrams, to compare with that of recv')
    .option('--json', 'print the summary on standard output, as one JSON object')
    .option('-q, --quiet', 'no progress, no summary')
    .addHelpText('after', SEND_HELP)
    .action((target: Target, file: string | undefined, options: SendOptions, command: Command) => {
      if (file !== undefined && options.file !== undefined) command.error('error: FILE was given twice');
      const problem = conflictOfSend(target, options);
      if (problem !== undefined) command.error(`error: ${problem}`);
      return run(send(target, file === undefined ? options : { ...options, file }));
    });
}

function addRecv(program: Command, run: (exitCode: Promise<number>) => Promise<void>): void {
  program
    .command('recv')
    .description('receive datagrams and print or count them')
    .addArgument(new Argument('<target>', 'HOST:PORT, [IPV6]:PORT or unix:PATH to bind to').argParser(parseLocal))
    .addOption(option('-n, --count <n>', 'stop after this many', integer(1, Number.MAX_SAFE_INTEGER)))
    .addOption(option('--idle-timeout <ms>', 'stop when nothing came for so long', integer(1, MAX_MS)))
    .option('--end-with-stdin', 'end as by Ctrl-C when standard input ends')
    .addOption(
      option('--framing <framing>', 'print each as a line, or length-prefixed', parseOutputFraming).default('lines'),
    )
    .option('--bytes', 'print the length of each instead of its bytes')
    .option('--checksum', 'SHA-256 over the datagrams, to compare with that of send')
    .option('--json', 'print no datagrams, and the summary on standard output as one JSON object')
    .option('-q, --quiet', 'print no datagrams, no address and no progress, only the summary')
    .addOption(option('--recv-buffer <bytes>', 'SO_RCVBUF', integer(1, MAX_BYTES - 1)).default(16 << 20))
    .addOption(option('--batch-size <n>', 'most datagrams a system call', integer(1, 1024)).default(64))
    .addOption(
      option('--max-size <bytes>', 'largest datagram; larger ones are cut off', integer(1, 1 << 24)).default(262_144),
    )
    .option('--no-gro', 'do not let the kernel merge UDP datagrams on their way (UDP_GRO)')
    .option('--reuse-port', 'share the port with other receivers (SO_REUSEPORT)')
    .addHelpText('after', RECV_HELP)
    .action((target: Target, options: RecvOptions, command: Command) => {
      const isFramed = command.getOptionValueSource('framing') !== 'default';
      const problem = conflictOfRecv(target, options, isFramed);
      if (problem !== undefined) command.error(`error: ${problem}`);
      return run(recv(target, options));
    });
}

function option<T>(flags: string, description: string, parse: (text: string) => T): Option {
  return new Option(flags, description).argParser(parse);
}

/** Ends the process: by itself, or, where a read that nobody waits for any more would hold it, at once. */
async function finish(exitCode: Promise<number>): Promise<void> {
  try {
    process.exitCode = await exitCode;
  } catch (error) {
    say((error as Error).message);
    process.exitCode = 1;
  }
  await end();
}

/** Nothing more is written: an output that got lost is a failure. */
async function end(): Promise<void> {
  const failure = await outputFlushed();
  if (failure !== null) {
    say(`standard output: ${failure.message}`);
    process.exitCode ||= 1;
  }
  if (process.exitCode !== 0) process.exit();
}

// Who writes looks at the stream's state, and the end tells of it. What cannot be said on standard error cannot be told at all.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});
try {
  await createProgram(finish).parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : USAGE_ERROR;
  await end();
}
