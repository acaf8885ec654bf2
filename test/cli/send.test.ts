import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MmsgReceiver } from '../../src/receiver/mmsg-receiver.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { checksumOf, Mmsg, mmsg, scratch, writeUntilStuck } from '../support/mmsg.ts';

interface Summary {
  readonly sent: number;
  readonly bytes: number;
  readonly rejected: number;
  readonly dropped: number;
  readonly syscalls: number;
  readonly backend: string;
  readonly complete: boolean;
  readonly checksum: string;
  readonly errors: Record<string, number>;
}

interface ReceivedSummary {
  readonly datagrams: number;
  readonly bytes: number;
  readonly checksum: string;
}

const LINES = Buffer.from('app.requests:1|c|#route:/api/users,status:200\n'.repeat(2000));
const LINE_BYTES = LINES.length / 2000;

/** A unix receiver in this process, which receives when it is told to. */
function quietReceiver(path: string): { socket: DatagramSocket; received: () => number; readAlong: () => () => void } {
  const socket = DatagramSocket.open({ type: 'unix', bind: { path } });
  const receiver = new MmsgReceiver(socket);
  return {
    socket,
    received: () => receiver.datagrams,
    readAlong: () => receiver.poll(() => receiver.receive(() => {})),
  };
}

describe('mmsg send', () => {
  it('sends a file to a unix receiver: nothing lost, the same bytes in the same order', async () => {
    const lines = Array.from({ length: 200_000 }, (_, index) => `app.requests.${index}:${index % 97}|c|#é`);
    writeFileSync(scratch('metrics'), lines.join('\n')); // no newline at the end
    const receiver = new Mmsg(['recv', `unix:${scratch('socket')}`, '--count', '200000', '--checksum', '--json']);
    const target = await receiver.listening();
    const sender = new Mmsg(['send', target, scratch('metrics'), '--checksum', '--json']);
    const sent = await sender.summary<Summary>();
    const received = await receiver.summary<ReceivedSummary>();
    const checksum = checksumOf(lines.map((line) => Buffer.from(line)));
    const bytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0);
    expect(sent).toMatchObject({ code: 0, sent: 200_000, bytes, rejected: 0, dropped: 0, complete: true, checksum });
    expect(received).toMatchObject({ code: 0, datagrams: 200_000, bytes, checksum });
    expect(sent.backend).toBe('sendmmsg');
    expect(sent.syscalls).toBeLessThan(sent.sent);
  });

  it('pauses standard input while the receiver is slow, and drops nothing', async () => {
    const path = scratch('socket');
    const { socket, received, readAlong } = quietReceiver(path);
    const sender = new Mmsg(['send', `unix:${path}`, '--json']);
    const most = 64 << 20;
    const taken = await writeUntilStuck(sender, LINES, most);
    // The queue's 8192 datagrams, a chunk, and what pipes and streams hold: far from all, which would be an unbounded queue.
    expect(taken).toBeLessThan(8 << 20);
    expect(taken).toBeGreaterThan(8192 * LINE_BYTES);
    expect(sender.child.exitCode).toBeNull();
    const stop = readAlong();
    sender.child.stdin.end();
    const summary = await sender.summary<Summary>();
    stop();
    // The kernel holds the last ones for a receiver that has not looked yet.
    const rest = new MmsgReceiver(socket);
    while (rest.receive(() => {}));
    socket.close();
    const count = taken / LINE_BYTES;
    expect(summary).toMatchObject({ code: 0, sent: count, dropped: 0, rejected: 0, complete: true });
    expect(received() + rest.datagrams).toBe(count);
  });

  it('drains the queue on Ctrl-C, and tells that input was left', async () => {
    const path = scratch('socket');
    const { socket, received, readAlong } = quietReceiver(path);
    const sender = new Mmsg(['send', `unix:${path}`, '--json', '--drain-timeout', '20000']);
    await writeUntilStuck(sender, LINES, 64 << 20);
    sender.child.kill('SIGINT');
    const stop = readAlong();
    const summary = await sender.summary<Summary>();
    stop();
    const rest = new MmsgReceiver(socket);
    while (rest.receive(() => {}));
    socket.close();
    expect(summary).toMatchObject({ code: 130, signal: 'SIGINT', complete: false, dropped: 0, rejected: 0 });
    expect(summary.sent).toBe(received() + rest.datagrams);
    expect(summary.sent).toBeGreaterThanOrEqual(8192); // the queue was full
  });

  it('gives up on a receiver that takes nothing after the drain timeout', async () => {
    const path = scratch('socket');
    const { socket } = quietReceiver(path);
    const sender = new Mmsg(['send', `unix:${path}`, '--json', '--drain-timeout', '50']);
    sender.child.stdin.end(LINES);
    const { code, sent, dropped, complete } = await sender.summary<Summary>();
    socket.close();
    expect({ code, complete, all: sent + dropped }).toEqual({ code: 1, complete: true, all: 2000 });
    expect(dropped).toBeGreaterThan(0);
  });

  it('quits at once on the second Ctrl-C', async () => {
    const path = scratch('socket');
    const { socket } = quietReceiver(path);
    const sender = new Mmsg(['send', `unix:${path}`, '--json', '--drain-timeout', '600000']);
    await writeUntilStuck(sender, LINES, 64 << 20);
    // Two signals of a kind that are pending together are one: knock until it opens.
    const knocking = setInterval(() => sender.child.kill('SIGINT'), 100);
    const { code, stdout } = await sender.ended;
    clearInterval(knocking);
    socket.close();
    expect(code).toBe(130);
    expect(stdout.toString()).toBe('');
  });

  it('resolves a host name once, and sends in the family of the answer', async () => {
    const receiver = new Mmsg(['recv', 'localhost:0', '--count', '3']);
    const port = (await receiver.listening()).replace(/^.*:/, '');
    const sent = await mmsg(['send', `localhost:${port}`], 'a\n\nc');
    expect(sent.code).toBe(0);
    const { code, stdout } = await receiver.ended;
    expect({ code, stdout: stdout.toString() }).toEqual({ code: 0, stdout: 'a\n\nc\n' });
  });

  it('reports a truncated length-prefixed input, after sending what came before', async () => {
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--count', '2', '--framing', 'length-prefixed']);
    const input = Buffer.from('\0\0\0\x03abc\0\0\0\0\0\0\0\x05xy');
    const sent = await mmsg(['send', await receiver.listening(), '--framing', 'length-prefixed'], input);
    expect(sent.code).toBe(1);
    expect(sent.stderr).toContain('mmsg: the input is truncated: it ends 2 bytes into a datagram of 5\n');
    const { stdout } = await receiver.ended;
    expect(stdout).toEqual(input.subarray(0, 11));
  });

  it.each([
    ['the kernel takes', 70_000],
    ['the queue takes', 5 << 20],
  ])('makes one rejection of a line that is longer than %s', async (_what, size) => {
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--count', '2']);
    const sender = new Mmsg(['send', await receiver.listening(), '--json']);
    sender.child.stdin.end(`before\n${'x'.repeat(size)}\nafter`);
    const summary = await sender.summary<Summary>();
    expect(summary).toMatchObject({ code: 1, sent: 2, rejected: 1, errors: { EMSGSIZE: 1 }, complete: true });
    expect((await sender.ended).stderr).toContain('datagram 2 was rejected: sendmmsg EMSGSIZE');
    expect((await receiver.ended).stdout.toString()).toBe('before\nafter\n');
  });

  it.each([
    ['fixed:4', 'abcdefghij', 'abcd\nefgh\nij\n'],
    ['lines', 'a\r\nb', 'a\r\nb\n'],
  ])('frames by %s', async (framing, input, expected) => {
    const datagrams = expected.match(/\n/g)!.length;
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--count', String(datagrams)]);
    expect((await mmsg(['send', await receiver.listening(), '--framing', framing], input)).code).toBe(0);
    expect((await receiver.ended).stdout.toString()).toBe(expected);
  });

  it('sends on at the end of a turn what is less than a batch, while the input stays open', async () => {
    const receiver = new Mmsg(['recv', '[::1]:0', '--count', '1']);
    const sender = new Mmsg(['send', await receiver.listening()]);
    sender.child.stdin.write('one\ntw');
    expect((await receiver.ended).stdout.toString()).toBe('one\n');
    expect(sender.child.exitCode).toBeNull();
  });
});

describe('mmsg', () => {
  it.each([
    [['send'], /missing required argument 'target'/],
    [['send', '127.0.0.1:70000'], /The port must be 1 to 65535/],
    [['send', '127.0.0.1:0'], /The port must be 1 to 65535/],
    [['send', '127.0.0.1'], /Expected HOST:PORT/],
    [['send', '::1:9'], /IPv6 address is written in brackets/],
    [['send', `unix:${'x'.repeat(108)}`], /at most 107 bytes/],
    [['send', '127.0.0.1:9', '--framing', 'fixed:0'], /fixed:0.*integer from 1/],
    [['send', '127.0.0.1:9', '--framing', 'csv'], /lines, length-prefixed or fixed:BYTES/],
    [['send', '127.0.0.1:9', '--batch-size', '1e3'], /batch-size.*integer from 1/],
    [['send', '127.0.0.1:9', '--flush-after', '-1'], /flush-after/],
    [['send', '127.0.0.1:9', '--batchsize', '3'], /unknown option '--batchsize' \(Did you mean --batch-size\?\)/],
    [['send', '127.0.0.1:9', 'a', '--file', 'b'], /FILE was given twice/],
    [['recv', '127.0.0.1:0', '--count', '0'], /count.*integer from 1/],
    [['recv', '127.0.0.1:0', '--framing', 'fixed:4'], /lines or length-prefixed/],
    [['sned'], /unknown command 'sned' \(Did you mean send\?\)/],
  ])('%j is a usage error: one line and status 2', async (args, message) => {
    const { code, stdout, stderr } = await mmsg(args);
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect({ code, stdout: stdout.toString() }).toEqual({ code: 2, stdout: '' });
  });

  it.each([
    [
      ['send', 'unix:/nonexistent/socket', '/dev/null'],
      'mmsg: connect ENOENT /nonexistent/socket (--wait waits for it)\n',
    ],
    [['send', '127.0.0.1:9', '/nonexistent'], "mmsg: ENOENT: no such file or directory, open '/nonexistent'\n"],
    [['send', 'nowhere.invalid:9', '/dev/null'], /^mmsg: getaddrinfo E\w+ nowhere\.invalid\n$/],
  ])('%j fails with status 1 and says why', async (args, message) => {
    const { code, stderr } = await mmsg(args);
    expect(code).toBe(1);
    if (typeof message === 'string') expect(stderr).toBe(message);
    else expect(stderr).toMatch(message);
  });

  it('tells its version and its options, with examples', async () => {
    expect((await mmsg(['--version'])).stdout.toString()).toMatch(/^\d+\.\d+\.\d+\n$/);
    for (const command of ['send', 'recv']) {
      const { code, stdout } = await mmsg([command, '--help']);
      expect(code).toBe(0);
      expect(stdout.toString()).toMatch(/Exit status:[\s\S]*Examples:\n {2}\$ mmsg/);
    }
  });
});
