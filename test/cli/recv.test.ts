import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SOL_UDP, UDP_SEGMENT } from '../../src/kernel/abi.ts';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import { checksumOf, Mmsg, mmsg, scratch, writeUntilStuck } from '../support/mmsg.ts';

interface Summary {
  readonly datagrams: number;
  readonly bytes: number;
  readonly calls: number;
  readonly truncated: number;
  readonly end: string;
  readonly checksum: string;
}

/** A socket connected to where a receiver says it listens. */
function connectTo(target: string): DatagramSocket {
  if (target.startsWith('unix:')) return DatagramSocket.open({ type: 'unix', connect: { path: target.slice(5) } });
  return DatagramSocket.open({ connect: { address: '127.0.0.1', port: Number(target.replace(/^.*:/, '')) } });
}

describe('mmsg recv', () => {
  it('prints datagrams as lines, their bytes as they are', async () => {
    const receiver = new Mmsg(['recv', `unix:${scratch('socket')}`, '--count', '3']);
    using socket = connectTo(await receiver.listening());
    socket.sendmmsg([Uint8Array.of(0xff, 0, 0x0a), '', 'é']);
    const { code, stdout, stderr } = await receiver.ended;
    expect(stdout).toEqual(Buffer.from([0xff, 0, 0x0a, 0x0a, 0x0a, 0xc3, 0xa9, 0x0a]));
    expect(stderr).toMatch(/received 3 datagrams, 5 B/);
    expect(code).toBe(0);
    expect(existsSync(scratch('socket'))).toBe(false);
  });

  it('prints lengths, or length-prefixed datagrams', async () => {
    const lengths = new Mmsg(['recv', '127.0.0.1:0', '--count', '2', '--bytes']);
    using first = connectTo(await lengths.listening());
    first.sendmmsg(['', 'x'.repeat(60_000)]);
    expect((await lengths.ended).stdout.toString()).toBe('0\n60000\n');

    const prefixed = new Mmsg(['recv', '127.0.0.1:0', '--count', '2', '--framing', 'length-prefixed']);
    using second = connectTo(await prefixed.listening());
    second.sendmmsg(['a\nb', '']);
    expect((await prefixed.ended).stdout.toString()).toBe('\0\0\0\x03a\nb\0\0\0\0');
  });

  it.each([
    [[], 1],
    [['--no-gro'], 10],
  ])('takes apart what the kernel has merged: %j', async (options, slots) => {
    const receiver = new Mmsg([
      'recv',
      '127.0.0.1:0',
      '--count',
      '10',
      '--json',
      '--checksum',
      '--batch-size',
      '1',
      ...options,
    ]);
    using socket = connectTo(await receiver.listening());
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    expect(libc.setsockopt(fd, SOL_UDP, UDP_SEGMENT, 10)).toBe(0);
    const bytes = Buffer.from(Array.from({ length: 95 }, (_, index) => index));
    socket.sendmmsg([bytes]);
    const summary = await receiver.summary<Summary>();
    const datagrams = Array.from({ length: 10 }, (_, index) => bytes.subarray(10 * index, 10 * index + 10));
    expect(summary).toMatchObject({ code: 0, datagrams: 10, bytes: 95, checksum: checksumOf(datagrams) });
    expect(summary.calls).toBe(slots); // one mmsghdr a call: merged, they are one
  });

  it('stops after --count in the middle of merged datagrams', async () => {
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--count', '3', '--bytes']);
    using socket = connectTo(await receiver.listening());
    const { libc, fd } = DatagramSocket.nativeOf(socket);
    libc.setsockopt(fd, SOL_UDP, UDP_SEGMENT, 10);
    socket.sendmmsg([Buffer.alloc(95)]);
    const { code, stdout } = await receiver.ended;
    expect({ code, stdout: stdout.toString() }).toEqual({ code: 0, stdout: '10\n10\n10\n' });
  });

  it('notices a datagram that is too large', async () => {
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--count', '2', '--max-size', '10']);
    using socket = connectTo(await receiver.listening());
    socket.sendmmsg(['0123456789abc', '0123456789']);
    const { code, stdout, stderr } = await receiver.ended;
    expect(stdout.toString()).toBe('0123456789\n0123456789\n');
    expect(stderr).toContain('mmsg: 1 datagram did not fit into --max-size and were cut off\n');
    expect(code).toBe(1);
  });

  it('ends when nothing comes, with status 1 if that is too few', async () => {
    const few = new Mmsg(['recv', '127.0.0.1:0', '--count', '2', '--idle-timeout', '3000', '--json']);
    using socket = connectTo(await few.listening());
    socket.sendmmsg(['one']);
    expect(await few.summary<Summary>()).toMatchObject({ code: 1, datagrams: 1, end: 'idle' });
    const any = await new Mmsg(['recv', '127.0.0.1:0', '--idle-timeout', '50', '--json']).summary<Summary>();
    expect(any).toMatchObject({ code: 0, datagrams: 0, end: 'idle' });
  });

  it.each([
    [[], 'SIGINT', 0],
    [[], 'SIGTERM', 0],
    [['--count', '1000'], 'SIGINT', 130],
    [['--count', '1000'], 'SIGTERM', 143],
  ] as const)('tells all that was sent before a signal: %j %s', async (options, signal, status) => {
    // One datagram a call: more than a turn of the event loop reads are queued when the signal comes.
    const slowly = ['--batch-size', '1', '--no-gro'];
    const receiver = new Mmsg(['recv', '127.0.0.1:0', '--json', ...slowly, ...options]);
    using socket = connectTo(await receiver.listening());
    receiver.child.kill('SIGSTOP');
    socket.sendmmsg(Array.from({ length: 200 }, () => 'x'));
    receiver.child.kill(signal);
    receiver.child.kill('SIGCONT');
    expect(await receiver.summary<Summary>()).toMatchObject({ code: status, datagrams: 200, end: signal });
  });

  it('replaces the path that a killed receiver left, and no other', async () => {
    const target = `unix:${scratch('socket')}`;
    const first = new Mmsg(['recv', target]);
    await first.listening();
    const refused = await mmsg(['recv', target]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^mmsg: bind EADDRINUSE \S+\n$/);
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(scratch('socket'))).toBe(true);
    const second = new Mmsg(['recv', target, '--count', '1']);
    using socket = connectTo(await second.listening());
    socket.sendmmsg(['x']);
    expect((await second.ended).stdout.toString()).toBe('x\n');
  });

  it('leaves the datagrams to the kernel while nobody takes its output, and loses none', async () => {
    const target = `unix:${scratch('socket')}`;
    const receiver = new Mmsg(['recv', target, '--checksum'], false);
    await receiver.listening();
    const sender = new Mmsg(['send', target, '--json', '--checksum']);
    const chunk = Buffer.from(`${'x'.repeat(999)}\n`.repeat(50));
    const taken = await writeUntilStuck(sender, chunk, 96 << 20);
    expect(taken).toBeLessThan(16 << 20);
    let printed = 0;
    receiver.child.stdout.on('data', (piece: Buffer) => {
      printed += piece.length;
    });
    sender.child.stdin.end();
    const { code, sent, checksum } = await sender.summary<{ sent: number; checksum: string }>();
    expect({ code, sent }).toEqual({ code: 0, sent: taken / 1000 });
    // Everything is received before it is ended: what it prints is what it has taken.
    while (printed < taken) await new Promise((resolve) => receiver.child.stdout.once('data', resolve));
    receiver.child.kill('SIGTERM');
    const { stderr } = await receiver.ended;
    expect(stderr).toContain(`sha256 ${checksum}`);
    expect(printed).toBe(taken);
  });

  it('ends quietly when nobody reads its output any more', async () => {
    const receiver = new Mmsg(['recv', `unix:${scratch('socket')}`], false);
    using socket = connectTo(await receiver.listening());
    receiver.child.stdout.destroy();
    const sending = setInterval(() => {
      try {
        socket.sendmmsg(['x']); // it notices when it writes
      } catch {
        clearInterval(sending); // it has gone
      }
    }, 20);
    const { code, signal, stderr } = await receiver.ended;
    clearInterval(sending);
    expect({ code, signal }).toEqual({ code: 0, signal: null });
    expect(stderr).toMatch(/^mmsg: listening on \S+\n$/);
  });
});
