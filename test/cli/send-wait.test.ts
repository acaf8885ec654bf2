/** `mmsg send` to a unix receiver that is not there yet, or goes away and comes back. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { range } from '../support/datagrams.ts';
import { checksumOf, Mmsg, mmsg, NATIVE, scratch } from '../support/mmsg.ts';

interface Summary {
  readonly sent: number;
  readonly rejected: number;
  readonly dropped: number;
  readonly packed?: number;
  readonly errors: Record<string, number>;
  readonly complete: boolean;
  readonly checksum: string;
}

/** Its own queue is all that a receiver takes along when it goes: so many datagrams, and one. */
const LOST_AT_MOST = Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'latin1')) + 1;

async function receive(target: string, ...args: readonly string[]): Promise<Mmsg> {
  const receiver = new Mmsg(['recv', target, ...args]);
  await receiver.listening();
  return receiver;
}

async function linesOf(receiver: Mmsg): Promise<string[]> {
  const text = (await receiver.ended).stdout.toString();
  return text === '' ? [] : text.trimEnd().split('\n');
}

/** Writes lines until it says something. */
async function feedUntil(sender: Mmsg, pattern: RegExp, line: () => string): Promise<void> {
  const feeding = setInterval(() => sender.child.stdin.write(`${line()}\n`), 5);
  try {
    await sender.says(pattern);
  } finally {
    clearInterval(feeding);
  }
}

describe('mmsg send', () => {
  it('rejects what is sent while a unix receiver is gone, reads on, and finds it again', async () => {
    const target = `unix:${scratch('socket')}`;
    const first = await receive(target, '--count', '1');
    const sender = new Mmsg(['send', target, '--json']);
    sender.child.stdin.write('before\n');
    expect(await linesOf(first)).toEqual(['before']);
    await feedUntil(sender, /datagram \d+ was rejected: .*(ENOENT|ECONNREFUSED)/, () => 'meanwhile');
    const second = await receive(target);
    let n = 0;
    const heard = new Promise((resolve) => second.child.stdout.once('data', resolve));
    const feeding = setInterval(() => sender.child.stdin.write(`after ${n++}\n`), 5);
    await heard;
    clearInterval(feeding);
    sender.child.stdin.end('last');
    const summary = await sender.summary<Summary>();
    expect(summary).toMatchObject({ code: 1, dropped: 0, complete: true });
    expect(summary.rejected).toBeGreaterThan(0);
    expect(Object.keys(summary.errors).filter((code) => !['ENOENT', 'ECONNREFUSED'].includes(code))).toEqual([]);
    second.child.kill('SIGTERM');
    const lines = await linesOf(second);
    expect(lines.at(-1)).toBe('last');
    expect(summary.sent).toBe(1 + lines.length);
    const { stderr } = await sender.ended;
    expect(stderr.match(/was rejected/g)!.length).toBeLessThanOrEqual(3);
  });

  it('without --wait, a receiver that is not there is an error that names it', async () => {
    const { code, stderr } = await mmsg(['send', `unix:${scratch('socket')}`], 'x');
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^mmsg: connect ENOENT \S+ \(--wait waits for it\)\n$/)]);
  });
});

describe('mmsg send --wait', () => {
  it.each([
    ['is not there', false],
    ['was killed, and left its path', true],
  ])('waits for a receiver that %s', async (_how, isStale) => {
    const target = `unix:${scratch('socket')}`;
    if (isStale) {
      const killed = await receive(target);
      killed.child.kill('SIGKILL');
      await killed.ended;
    }
    const sender = new Mmsg(['send', target, '--wait', '--json']);
    sender.child.stdin.end('one\ntwo');
    await sender.says(/^mmsg: waiting for unix:\S+$/m);
    const receiver = await receive(target, '--count', '2');
    expect(await linesOf(receiver)).toEqual(['one', 'two']);
    expect(await sender.summary<Summary>()).toMatchObject({ code: 0, sent: 2, rejected: 0, complete: true });
  });

  it.each([
    [[]],
    [['--offload']],
    [['--rate', '20000', '--high-water-mark', '100']],
    [['--batch-size', '7', '--high-water-mark', '5']],
  ])('loses only what the old receiver had not read, and keeps the order: %j', async (args) => {
    const target = `unix:${scratch('socket')}`;
    const lines = range(30_000).map((n) => (n % 1000 === 5 ? `${n}:${'x'.repeat(400)}` : String(n)));
    const sender = new Mmsg(['send', target, '--wait', '--json', '--checksum', ...args]);
    sender.child.stdin.end(lines.join('\n'));
    const heard: string[][] = [];
    for (const count of [1, 500, 10_000]) heard.push(await linesOf(await receive(target, '--count', String(count))));
    const last = await receive(target);
    const summary = await sender.summary<Summary>();
    last.child.kill('SIGTERM');
    heard.push(await linesOf(last));
    expect(summary).toMatchObject({ code: 0, sent: 30_000, rejected: 0, dropped: 0, complete: true, errors: {} });
    expect(summary.checksum).toBe(checksumOf(lines.map((line) => Buffer.from(line))));
    const numbers = heard.flat().map((line) => Number.parseInt(line, 10));
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(numbers.at(-1)).toBe(29_999);
    expect(numbers.length).toBeGreaterThanOrEqual(30_000 - 3 * LOST_AT_MOST);
  });

  it('--pack: every line arrives in one of the datagrams, in order, and the account is right', async () => {
    const target = `unix:${scratch('socket')}`;
    const lines = range(50_000).map((n) => `metric.${n}:1|c`);
    const sender = new Mmsg(['send', target, '--wait', '--json', '--pack', '300']);
    sender.child.stdin.end(lines.join('\n'));
    const heard = await linesOf(await receive(target, '--count', '200'));
    const last = await receive(target);
    const summary = await sender.summary<Summary>();
    last.child.kill('SIGTERM');
    heard.push(...(await linesOf(last)));
    expect(summary).toMatchObject({ code: 0, rejected: 0, dropped: 0, complete: true, packed: 50_000 - summary.sent });
    const known = new Set(heard);
    expect(known.size).toBe(heard.length);
    expect(heard).toEqual(lines.filter((line) => known.has(line)));
    expect(heard.at(-1)).toBe(lines.at(-1));
    expect(heard.length).toBeGreaterThanOrEqual(50_000 - LOST_AT_MOST * 30);
  });

  it('tells the position of a datagram that is rejected for another reason', async () => {
    const target = `unix:${scratch('socket')}`;
    const sender = new Mmsg(['send', target, '--wait', '--json', '--high-water-mark', '4']);
    sender.child.stdin.end([...range(100), 'x'.repeat(2 << 20), 'end'].join('\n'));
    await linesOf(await receive(target, '--count', '3'));
    const last = await receive(target);
    expect(await sender.summary<Summary>()).toMatchObject({ code: 1, rejected: 1, errors: { EMSGSIZE: 1 }, sent: 101 });
    expect((await sender.ended).stderr).toContain('datagram 101 was rejected: sendmmsg EMSGSIZE');
    last.child.kill('SIGTERM');
    expect((await linesOf(last)).at(-1)).toBe('end');
  });

  it('is ended by Ctrl-C before there is a receiver, with status 130', async () => {
    const sender = new Mmsg(['send', `unix:${scratch('socket')}`, '--wait', '--json']);
    sender.child.stdin.write('one\n');
    await sender.says(/waiting for/);
    sender.child.kill('SIGINT');
    expect(await sender.summary<Summary>()).toMatchObject({
      code: 130,
      sent: 0,
      rejected: 0,
      dropped: 0,
      complete: false,
    });
  });

  it('is ended by Ctrl-C while the receiver is gone: what was read is told as dropped', async () => {
    const target = `unix:${scratch('socket')}`;
    const first = await receive(target, '--count', '1');
    const sender = new Mmsg(['send', target, '--wait', '--json']);
    let written = 0;
    sender.child.stdin.write(`${written++}\n`);
    await first.ended;
    await feedUntil(sender, /waiting for/, () => String(written++));
    sender.child.kill('SIGINT');
    const { code, sent, dropped, rejected, complete } = await sender.summary<Summary>();
    expect({ code, rejected, complete }).toEqual({ code: 1, rejected: 0, complete: false });
    expect(dropped).toBeGreaterThan(0);
    expect(sent + dropped).toBeLessThanOrEqual(written);
  });

  it.each([
    [['127.0.0.1:9'], /--wait is for unix sockets/],
    [['unix:/tmp/x', '--conflate-by', '1'], /--wait cannot be combined with --conflate-by/],
  ])('%j is a usage error', async (args, message) => {
    const { code, stderr } = await mmsg(['send', '--wait', ...args]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

describe("the README's example of the command", () => {
  it('prints what was sent, ten times out of ten', { timeout: 180_000 }, () => {
    const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8');
    const block = /## The `mmsg` command\n\n```sh\n([\s\S]*?)```/.exec(readme)![1]!;
    const bin = scratch('bin');
    mkdirSync(bin);
    writeFileSync(`${bin}/mmsg`, `#!/bin/sh\nexec ${NATIVE.map((word) => `'${word}'`).join(' ')} "$@"\n`);
    chmodSync(`${bin}/mmsg`, 0o755);
    const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}` };
    for (let run = 0; run < 10; run++) {
      const { stdout, stderr } = spawnSync('sh', ['-c', `${block}\nwait`], { env, encoding: 'utf8', timeout: 20_000 });
      expect(stdout, stderr).toBe('a:1|c\nb:2|c\nc:3|c\n');
    }
  });
});
