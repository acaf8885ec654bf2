/** What `mmsg send` can do beside sending: share datagrams, several destinations, a rate, the latest only. */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { parseKeyField } from '../../src/cli/conflation-key.ts';
import { MmsgReceiver } from '../../src/receiver/mmsg-receiver.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { range } from '../support/datagrams.ts';
import { Mmsg, mmsg, NATIVE, scratch } from '../support/mmsg.ts';
import { requires } from '../support/requires.ts';

interface Summary {
  readonly sent: number;
  readonly bytes: number;
  readonly packed: number;
  readonly conflated: number;
  readonly dropped: number;
  readonly rejected: number;
  readonly syscalls: number;
  readonly seconds: number;
  readonly target: string;
}

const LINES = range(5000).map((n) => `requests.${n}:${n % 7}|c${n % 50 === 0 ? '|#größe' : ''}`);

/** Sends `lines` to `mmsg recv` over a unix socket, which loses nothing; what came out there. */
async function through(
  lines: readonly string[],
  ...args: readonly string[]
): Promise<{ summary: Summary; text: string }> {
  const receiver = new Mmsg(['recv', `unix:${scratch('socket')}`]);
  const target = await receiver.listening();
  const sender = new Mmsg(['send', target, '--json', ...args]);
  sender.child.stdin.end(lines.join('\n'));
  const summary = await sender.summary<Summary>();
  receiver.child.kill('SIGTERM');
  return { summary, text: (await receiver.ended).stdout.toString() };
}

describe('mmsg send', () => {
  it.each([
    ['--pack'],
    ['--pack', '600', '--high-water-mark', '16'],
    ['--pack', '--offload'],
    ['--pack', '--high-water-mark-bytes', '4000'],
  ])('%s %s %s puts lines into fewer datagrams, and loses none', async (...args) => {
    const { summary, text } = await through(LINES, ...args);
    expect(text).toBe(`${LINES.join('\n')}\n`);
    expect(summary).toMatchObject({ dropped: 0, rejected: 0, packed: 5000 - summary.sent });
    expect(summary.sent).toBeLessThan(5000 / 15);
  });

  it.each([['--offload'], ['--gso', 'off'], ['--gso', 'auto']])('%s %s sends all the same', async (...args) => {
    const { summary, text } = await through(LINES, ...args);
    expect(text).toBe(`${LINES.join('\n')}\n`);
    expect(summary).toMatchObject({ sent: 5000, dropped: 0 });
  });

  it('--rate spreads the datagrams', async () => {
    const { summary, text } = await through(LINES.slice(0, 400), '--rate', '500');
    expect(text).toBe(`${LINES.slice(0, 400).join('\n')}\n`);
    expect(summary.seconds).toBeGreaterThan(0.7); // 0.8 s, less a small burst
  });

  it.each([[[]], [['--pack', '100', '--high-water-mark', '65536']], [['--to', '127.0.0.1:9']]])(
    '--rate reads ahead by about a second only: Ctrl-C drains it, and drops nothing (%j)',
    async (args) => {
      using socket = DatagramSocket.open({ bind: { address: '127.0.0.1' } });
      const { port } = socket.address() as { port: number };
      const receiver = new MmsgReceiver(socket);
      const sender = new Mmsg(['send', `127.0.0.1:${port}`, '--rate', '1000', '--json', ...args]);
      sender.child.stdin.write('metric:1|c\n'.repeat(400_000));
      await new Promise<void>((resolve) => {
        const stop = receiver.poll(() => {
          while (receiver.receive(() => {}));
          if (receiver.datagrams < 100) return;
          stop();
          resolve();
        });
      });
      sender.child.kill('SIGINT');
      const summary = await sender.summary<Summary>();
      expect(summary).toMatchObject({ code: 130, dropped: 0, rejected: 0 });
      expect(summary.sent).toBeGreaterThanOrEqual(100);
    },
  );

  it('--to sends each datagram to all, more of them than the queue had room for included', async () => {
    const receivers = range(3).map(() => new Mmsg(['recv', '127.0.0.1:0', '--count', '200']));
    const [first, ...more] = await Promise.all(receivers.map((receiver) => receiver.listening()));
    const to = more.flatMap((target) => ['--to', target]);
    const sender = new Mmsg(['send', first!, ...to, '--json', '--high-water-mark', '2']);
    sender.child.stdin.end(LINES.slice(0, 200).join('\n'));
    expect(await sender.summary()).toMatchObject({
      code: 0,
      sent: 600,
      rejected: 0,
      target: [first, ...more].join(','),
    });
    for (const receiver of receivers) {
      expect((await receiver.ended).stdout.toString()).toBe(`${LINES.slice(0, 200).join('\n')}\n`);
    }
  });

  it('--to merges what goes to each target, where lines are equally long', async (context) => {
    requires(context, 'strace');
    const receivers = range(2).map(() => new Mmsg(['recv', '127.0.0.1:0', '--count', '60']));
    const [first, second] = await Promise.all(receivers.map((receiver) => receiver.listening()));
    const log = scratch('calls');
    const strace = ['strace', '-f', '-qq', '-e', 'trace=sendmmsg', '-o', log, ...NATIVE];
    const sender = new Mmsg(['send', first!, '--to', second!, '--json', '--gso', 'auto'], true, strace);
    sender.child.stdin.end('metric:1|c\n'.repeat(60));
    expect(await sender.summary()).toMatchObject({ code: 0, sent: 120, rejected: 0 });
    await Promise.all(receivers.map(({ ended }) => ended));
    const vlens = [...readFileSync(log, 'utf8').matchAll(/\], (\d+), MSG_/g)].map(([, vlen]) => Number(vlen));
    expect(vlens).toEqual([2]);
  });

  it('--conflate-by with a --rate below the number of keys drops none of them', async () => {
    const { summary, text } = await through(
      range(1000).map((n) => `key${n % 100}:${n}`),
      ...['--conflate-by', '1', '--rate', '80'],
    );
    expect(summary).toMatchObject({ dropped: 0, rejected: 0, conflated: 1000 - summary.sent });
    const latest = new Map(
      text
        .trimEnd()
        .split('\n')
        .map((line) => line.split(':') as [string, string]),
    );
    expect([...latest.values()].map(Number).toSorted((a, b) => a - b)).toEqual(range(100).map((key) => 900 + key));
  });

  it('--conflate-by sends the latest of each key to a receiver that is behind, and goes on reading', async () => {
    const path = scratch('socket');
    const socket = DatagramSocket.open({ type: 'unix', bind: { path } });
    const receiver = new MmsgReceiver(socket);
    const sender = new Mmsg(['send', `unix:${path}`, '--conflate-by', '1', '--json']);
    const updates = range(300_000).map((n) => `key${n % 100}:${n}`);
    sender.child.stdin.end(updates.join('\n'));
    // All of the input is read while nobody receives.
    await new Promise((resolve) => sender.child.stdin.once('close', resolve));
    const arrived: string[] = [];
    const sink = (buffer: Buffer, start: number, end: number): void => {
      arrived.push(buffer.toString('utf8', start, end));
    };
    const stop = receiver.poll(() => receiver.receive(sink));
    const summary = await sender.summary<Summary>();
    stop();
    while (receiver.receive(sink));
    socket.close();
    expect(summary).toMatchObject({ code: 0, dropped: 0, rejected: 0, sent: arrived.length });
    expect(summary.conflated).toBe(300_000 - arrived.length);
    const latest = new Map(arrived.map((line) => line.split(':') as [string, string]));
    expect([...latest].sort()).toEqual(
      range(100)
        .map((key) => [`key${key}`, `${299_900 + key}`])
        .sort(),
    );
  });

  it.each([
    [['--pack', '65508'], /integer from 1 to 65507/],
    [['--pack', '--conflate-by', '1'], /--pack cannot be combined with --conflate-by/],
    [['--pack', '--framing', 'fixed:4'], /--pack needs --framing lines/],
    [['--pack', '--to', '127.0.0.1:5'], /--pack cannot be combined with --to/],
    [['--to', 'unix:/tmp/x'], /--to is for UDP/],
    [['--to', '127.0.0.1'], /Expected HOST:PORT/],
    [['--rate', '0'], /rate.*integer from 1/],
    [['--rate', 'fast'], /rate.*integer from 1/],
    [['--gso', 'on'], /Allowed choices are auto, off/],
    [['--conflate-by', '0'], /A field number is 1 to 1000/],
  ])('%j is a usage error', async (args, message) => {
    const { code, stderr } = await mmsg(['send', '127.0.0.1:9', ...args]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });

  it('--to takes one family only', async () => {
    const { code, stderr } = await mmsg(['send', '127.0.0.1:9', '--to', '[::1]:9'], 'x');
    expect([code, stderr]).toEqual([1, 'mmsg: the targets are of IPv4 and of IPv6: one kind only\n']);
  });
});

describe('the key of a line', () => {
  it.each([
    ['1', 'requests:1|c|#a', 'requests'],
    ['2', 'cpu=0.5 host', '0.5'],
    ['3', 'cpu=0.5 host', 'host'],
    ['4', 'cpu=0.5 host', undefined],
    ['1', '', undefined],
    ['id', '{"id":7,"x":1}', 7],
    ['id', '{"id":{"a":1}}', '{"a":1}'],
    ['id', '{"x":1}', undefined],
    ['id', 'not JSON', undefined],
    ['id', 'null', undefined],
  ])('field %s of %s is %s', (field, line, key) => {
    expect(parseKeyField(field)(Buffer.from(line))).toEqual(key);
  });

  it.each(['', '0', '1001'])('%j is refused', (field) => {
    expect(() => parseKeyField(field)).toThrow(InvalidArgumentError);
  });
});
