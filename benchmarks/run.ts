/**
 * `npm run bench [-- WORKLOAD… options]`: every sender in turn, round after round; medians, spreads and ratios; counted at
 * the receiver. See README.md.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { withLongQueue } from '../src/cli/bench/long-queue.ts';
import type { Entry, Peer } from '../src/cli/bench/peers.ts';
import { measureEntry } from '../src/cli/bench/processes.ts';
import {
  type Result,
  type Run,
  renderEncode,
  renderHead,
  renderResult,
  renderRun,
  selectFrom,
} from '../src/cli/bench/report.ts';
import { compareWith } from './against.ts';
import { renderSvg } from './chart.ts';
import { measureEncoding } from './encode.ts';
import { describeMachine } from './machine.ts';
import { renderComparisons, renderVerdict, verdictOf } from './paired.ts';
import { HOW_TO_INSTALL, versionOf } from './peer-packages.ts';
import { isAvailable } from './peers.ts';
import { ROSTER } from './roster.ts';
import { isBuilt } from './stage.ts';

const USAGE = `npm run bench -- [WORKLOAD…] [--rounds N] [--seconds S] [--senders TEXT] [--json] [--svg FILE] [--from FILE]
       npm run bench -- --against DIR [WORKLOAD…] [--rounds N] [--seconds S] [--senders TEXT] [--json]

  WORKLOAD…       encode, ${ROSTER.map(({ shape }) => shape.name).join(', ')}; default: all
  --rounds N      rounds of each sender; default 5, with --against 40
  --seconds S     how long a sender sends in a round; default 0.4, with --against 0.15
  --senders TEXT  only senders whose name has one of these texts (comma-separated)
  --json          print JSON instead of Markdown
  --svg FILE      write the chart, too (${HOW_TO_INSTALL})
  --from FILE     measure nothing: show the JSON of an earlier run, or those parts of it
  --against DIR   compare the CPU time of our own senders with those of another checkout, which is built; exit status 1
                  where one is more than 5 % slower here
`;

function readArguments(): { names: readonly string[]; settings: Run['settings']; values: Values } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      senders: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
      svg: { type: 'string' },
      from: { type: 'string' },
      against: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) end(0, USAGE);
  const known = ['encode', ...ROSTER.map(({ shape }) => shape.name)];
  const unknown = positionals.filter((name) => !known.includes(name));
  if (unknown.length > 0) end(2, `no such workload: ${unknown.join(', ')}\n\n${USAGE}`);
  const [rounds, seconds] = values.against === undefined ? [5, 0.4] : [40, 0.15];
  const settings = { rounds: Number(values.rounds ?? rounds), seconds: Number(values.seconds ?? seconds) };
  if (!(settings.rounds >= 1 && settings.seconds > 0)) end(2, `--rounds or --seconds is no such number\n\n${USAGE}`);
  if (values.svg !== undefined && versionOf('vega-lite') === undefined) end(2, `--svg needs: ${HOW_TO_INSTALL}\n`);
  if (values.against !== undefined && !isBuilt(values.against)) end(2, `${values.against} has no compiled library\n`);
  return { names: positionals.length > 0 ? positionals : known, settings, values };
}
interface Values {
  readonly senders: string;
  readonly json: boolean;
  readonly svg?: string | undefined;
  readonly from?: string | undefined;
  readonly against?: string | undefined;
}

/** Measures, and tells each workload as soon as it is done. */
async function measureAll(
  names: readonly string[],
  settings: Run['settings'],
  isNamed: (sender: string) => boolean,
): Promise<Run> {
  const wanted = ({ name }: Peer): boolean => isNamed(name);
  const entries = ROSTER.filter(({ shape }) => names.includes(shape.name));
  const missing = missingParts(entries.flatMap(({ peers }) => peers.filter(wanted)));
  if (entries.some(({ receivers }) => receivers.includes('slow')) && withLongQueue() === undefined) {
    missing.push('The queue of unix-slow is short: to make it 512 datagrams takes root and unshare(1).');
  }
  const results: Result[] = [];
  const head = { machine: describeMachine(), settings, missing, results };
  say(renderHead(head));
  const encode = names.includes('encode') ? measureEncoding() : undefined;
  if (encode !== undefined) say(`\n${renderEncode(encode)}`);
  for (const entry of entries) {
    const peers = entry.peers.filter((peer) => wanted(peer) && isAvailable(peer));
    if (peers.length > 0) await measureReceivers(entry, peers, settings, results, missing);
  }
  return { ...head, ...(encode !== undefined && { encode }) };
}

async function measureReceivers(
  entry: Entry,
  peers: readonly Peer[],
  settings: Run['settings'],
  results: Result[],
  missing: string[],
): Promise<void> {
  for (const mode of entry.receivers) {
    const { result, failures } = await measureEntry(entry, mode, peers, settings);
    results.push(result);
    say(`\n${renderResult(result)}`);
    for (const { sender, reason } of failures) {
      missing.push(`${entry.shape.name}: ${sender} failed: ${reason}`);
      process.stderr.write(`\n${sender} failed: ${reason}\n`);
      process.exitCode = 1;
    }
  }
}

/** What is not there, a line each. */
function missingParts(peers: readonly Peer[]): string[] {
  const needs = new Set(peers.filter((peer) => !isAvailable(peer)).map(({ needs }) => needs!));
  const packages = [...needs].filter((name) => name !== 'cc');
  return [
    ...(needs.has('cc') ? ['No C compiler (cc), so no C senders, and no ratios to them.'] : []),
    ...(packages.length > 0 ? [`Not installed: ${packages.join(', ')}. To install: \`${HOW_TO_INSTALL}\`.`] : []),
  ];
}

/** Measures or reads a run; tables, JSON and chart of it. */
async function present(): Promise<void> {
  let run: Run;
  if (values.from === undefined) {
    run = await measureAll(names, settings, isNamed);
  } else {
    run = selectFrom(JSON.parse(readFileSync(values.from, 'utf8')) as Run, names, isNamed);
    say(renderRun(run));
  }
  if (values.json) process.stdout.write(`${JSON.stringify(run, null, 2)}\n`);
  if (values.svg !== undefined) writeFileSync(values.svg, await renderSvg(run));
}

async function compare(checkout: string): Promise<void> {
  const isWanted = (workload: string, sender: string): boolean => names.includes(workload) && isNamed(sender);
  const comparisons = await compareWith(checkout, isWanted, settings, (some) => say(`${renderComparisons(some)}\n`));
  if (comparisons.length === 0) end(2, 'no sender of our own has such a name\n');
  say(renderVerdict(comparisons));
  if (values.json) process.stdout.write(`${JSON.stringify(comparisons, null, 2)}\n`);
  if (comparisons.some((comparison) => verdictOf(comparison).isSlower)) process.exitCode = 1;
}

function say(text: string): void {
  if (!values.json) process.stdout.write(`${text}\n`);
}

function end(status: number, text: string): never {
  (status === 0 ? process.stdout : process.stderr).write(text);
  process.exit(status);
}

const { names, settings, values } = readArguments();
const isNamed = (sender: string): boolean => values.senders.split(',').some((text) => sender.includes(text.trim()));
if (values.against !== undefined) await compare(values.against);
else await present();
