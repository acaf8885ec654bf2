/** The `mmsg` command where sendmmsg(2), recvmmsg(2) or koffi is not to be had. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { checksumOf, Mmsg, NATIVE, scratch } from '../support/mmsg.ts';
import { PLACES } from '../support/places.ts';

interface Received {
  readonly backend: string;
  readonly datagrams: number;
  readonly bytes: number;
  readonly calls: number | null;
  readonly meanBatch: number | null;
  readonly end: string;
  readonly truncated: number;
  readonly checksum: string;
}

const LINES = Array.from({ length: 500 }, (_, index) => (index % 50 === 7 ? '' : `metric.${index}:é`));
const CHECKSUM = checksumOf(LINES.map((line) => Buffer.from(line)));
const BYTES = Buffer.byteLength(LINES.join(''));

describe.each(Object.values(PLACES))('mmsg that sends by $sendsBy and receives by $receivesBy', (place) => {
  const { sendsBy, receivesBy } = place;

  it('demo: all that was sent was received, and how is told once', async (context) => {
    const { code, stdout, stderr } = await new Mmsg(['demo'], true, place.command(context)).ended;
    const text = stdout.toString();
    expect(stderr).toBe('');
    expect(text).toContain('Every metric that was sent was received.');
    expect(text.match(/^Sending through .*$/gm) ?? []).toHaveLength(sendsBy === 'sendmmsg' ? 0 : 1);
    expect(text).toContain(sendsBy);
    expect(text).toMatch(new RegExp(`^  receiver .*${receivesBy}`, 'm'));
    expect(code).toBe(0);
  });

  it('recv and send: the same datagrams, counts and checksums', async (context) => {
    const command = place.command(context);
    const target = receivesBy === 'node:dgram' ? '127.0.0.1:0' : `unix:${scratch('socket')}`;
    const receiver = new Mmsg(['recv', target, '--count', '500', '--checksum', '--json'], true, command);
    const to = await receiver.listening();
    const sender = new Mmsg(['send', to, '--rate', '5000', '--checksum', '--json'], true, command);
    sender.child.stdin.end(LINES.join('\n'));
    const totals = { code: 0, bytes: BYTES, checksum: CHECKSUM };
    expect(await sender.summary()).toMatchObject({ ...totals, backend: sendsBy, sent: 500, rejected: 0, dropped: 0 });
    const received = await receiver.summary<Received>();
    expect(received).toMatchObject({ ...totals, backend: receivesBy, datagrams: 500, truncated: 0, end: 'count' });
    const isTold = receivesBy !== 'node:dgram';
    expect([received.calls, received.meanBatch]).toEqual(
      isTold ? [expect.any(Number), expect.any(Number)] : [null, null],
    );
  });

  it('recv prints lines, cuts what is too long, and ends when nothing comes', async (context) => {
    const command = place.command(context);
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--idle-timeout', '1500', '--max-size', '4'], true, command);
    const port = Number((await receiver.listening()).replace(/^.*:/, ''));
    using socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    socket.sendmmsg(['one', '', 'three']);
    const { code, stdout, stderr } = await receiver.ended;
    expect(stdout.toString()).toBe('one\n\nthre\n');
    expect(stderr).toContain('1 datagram did not fit into --max-size');
    expect(stderr).toMatch(new RegExp(`received 3 datagrams, .*${receivesBy}\\)\n`));
    expect(code).toBe(1);
  });

  it('recv tells all that was sent before Ctrl-C', async (context) => {
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--json'], true, place.command(context));
    const port = Number((await receiver.listening()).replace(/^.*:/, ''));
    using socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    receiver.child.kill('SIGSTOP');
    socket.sendmmsg(Array.from({ length: 150 }, () => 'x'));
    receiver.child.kill('SIGINT');
    receiver.child.kill('SIGCONT');
    expect(await receiver.summary<Received>()).toMatchObject({ code: 0, datagrams: 150, end: 'SIGINT' });
  });

  it('recv --end-with-stdin does the same when its standard input ends', async (context) => {
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--json', '--end-with-stdin'], true, place.command(context));
    const port = Number((await receiver.listening()).replace(/^.*:/, ''));
    using socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    receiver.child.stdin.write('thrown away\n');
    receiver.child.kill('SIGSTOP');
    socket.sendmmsg(Array.from({ length: 150 }, () => 'x'));
    receiver.child.stdin.end();
    receiver.child.kill('SIGCONT');
    expect(await receiver.summary<Received>()).toMatchObject({ code: 0, datagrams: 150, end: 'stdin' });
  });
});

describe('mmsg without koffi', () => {
  it.for(['recv', 'send'])('%s of a unix socket fails with status 1 and says why', async (command, context) => {
    const target = `unix:${scratch('socket')}`;
    const { code, stderr } = await new Mmsg([command, target], true, PLACES.noKoffi.command(context)).ended;
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^mmsg: A unix datagram socket is not available here: .+\n$/),
    ]);
  });

  it('recv keeps --recv-buffer bytes while nobody takes its output; the rest is told as dropped', async (context) => {
    const args = ['recv', '127.0.0.1:0', '--recv-buffer', '100000'];
    const receiver = new Mmsg(args, false, PLACES.noKoffi.command(context));
    const port = Number((await receiver.listening()).replace(/^.*:/, ''));
    using socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    const burst = Array.from({ length: 20 }, () => 'x'.repeat(999));
    // What its standard output, the pipe and its room take is some hundred kilobytes.
    for (let n = 0; n < 100; n++) {
      socket.sendmmsg(burst);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    receiver.child.kill('SIGINT');
    let printed = 0;
    receiver.child.stdout.on('data', (chunk: Buffer) => {
      printed += chunk.length;
    });
    const { code, stderr } = await receiver.ended;
    const dropped = Number(/dropped ([\d,]+) datagrams: standard output/.exec(stderr)?.[1]?.replaceAll(',', ''));
    expect(dropped).toBeGreaterThan(0);
    expect(printed % 1000).toBe(0);
    expect(printed / 1000 + dropped).toBeLessThanOrEqual(2000);
    expect(code).toBe(1);
  });

  it('bench counts by node:dgram, and says so', { timeout: 120_000 }, async (context) => {
    const { code, stdout, stderr } = await new Mmsg(['bench'], true, PLACES.noKoffi.command(context)).ended;
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.toString()).toMatch(/^Linux .*Node v/);
    expect(stdout.toString()).toMatch(/\nSending through node:dgram, .*\n.* counts, by node:dgram\./);
    expect(stdout.toString().match(/ rx-sendmmsg.*\d %/g)).toHaveLength(5);
  });
});

describe('standard input that is a file', () => {
  it('is read on from where it is, not from its beginning', async () => {
    const receiver = new Mmsg(['recv', `unix:${scratch('socket')}`, '--count', '2']);
    const target = await receiver.listening();
    writeFileSync(scratch('lines'), 'a header\none\ntwo\n');
    const input = openSync(scratch('lines'), 'r');
    readSync(input, Buffer.alloc(9));
    const [file, ...args] = [...NATIVE, 'send', target];
    const { status } = spawnSync(file!, args, { stdio: [input, 'ignore', 'inherit'] });
    closeSync(input);
    expect(status).toBe(0);
    expect((await receiver.ended).stdout.toString()).toBe('one\ntwo\n');
  });
});
