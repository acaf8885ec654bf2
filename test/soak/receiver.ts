/**
 * The reader, in a process of its own: it stalls at random, for up to two seconds, reads at random speeds, and sometimes closes a
 * socket and binds its path again. It knows nothing of the library: system calls through koffi, one datagram a call.
 *
 * argv: a JSON {@link ReceiverPlan}. Tells the ports of its UDP channels first, then answers each {@link Question}.
 */
import { unlinkSync } from 'node:fs';
import koffi from 'koffi';
import { Dice } from '../faults/random.ts';
import { type Channel, roomyBuffer } from './channel.ts';
import type { ChannelState, Question, ReceiverPlan, Sabotage } from './receiver-plan.ts';
import { StreamCheck } from './stream-check.ts';

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const MSG_DONTWAIT = 0x40;
const SHUT_RD = 0;
const POLLIN = 1;
const RECEIVE_BUFFER = 4 << 20;

const MAX_STALL_MS = 2000;
/** Datagrams a millisecond; the slow ones keep the queues full. */
const SPEEDS = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 20, 4, 1];
/** Datagrams of one channel before it is the others' turn. */
const BURST = 64;
const MAX_POLL_MS = 5;
const SABOTAGED = 1000;

const library = koffi.load(null);
const socket = library.func('int socket(int domain, int type, int protocol)');
const bind = library.func('int bind(int fd, void *address, unsigned int length)');
const connect = library.func('int connect(int fd, void *address, unsigned int length)');
const getsockname = library.func('int getsockname(int fd, void *address, void *length)');
const setsockopt = library.func('int setsockopt(int fd, int level, int name, void *value, unsigned int length)');
const shutdown = library.func('int shutdown(int fd, int how)');
const close = library.func('int close(int fd)');
const recv = library.func('intptr_t recv(int fd, void *buffer, size_t length, int flags)');
const poll = library.func('int poll(void *fds, unsigned long count, int timeout)');

function checked(result: number, call: string): number {
  if (result < 0) throw new Error(`${call}: errno ${koffi.errno()}`);
  return result;
}

function openUnix(path: string): number {
  const fd = checked(socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), 'socket');
  const address = unixAddress(path);
  checked(bind(fd, address, address.length), 'bind');
  return fd;
}

/** struct sockaddr_un */
function unixAddress(path: string): Buffer {
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + 1);
  address.writeUInt16LE(AF_UNIX);
  address.write(path, 2);
  return address;
}

function openUdp(): { fd: number; port: number } {
  const fd = checked(socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket');
  const size = Int32Array.of(RECEIVE_BUFFER);
  // Past net.core.rmem_max, where root may.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4) < 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, 4);
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET);
  address.set([127, 0, 0, 1], 4);
  checked(bind(fd, address, address.length), 'bind');
  checked(getsockname(fd, address, Int32Array.of(address.length)), 'getsockname');
  return { fd, port: address.readUInt16BE(2) };
}

const buffer = roomyBuffer();

/** One channel: its socket, and the moods of its reader. */
class Reader {
  readonly check: StreamCheck;
  readonly port: number = 0;
  returns: number = 0;
  /** -1 while it is away. */
  fd: number;
  readonly #path: string;
  readonly #dice: Dice;
  readonly #sabotage: Sabotage | '';
  #isCalm = false;
  #isStalled = false;
  #moodUntil = 0;
  #leavesAt = Number.POSITIVE_INFINITY;
  /** Datagrams that may be read now, and how fast that grows. */
  #allowance = 0;
  #perMs = Number.POSITIVE_INFINITY;
  #refilledAt = 0;
  /** When it last read something, or could not have. */
  #busyAt = 0;
  #held: Buffer | undefined;

  constructor(channel: Channel, path: string, dice: Dice, sabotage: Sabotage | '', now: number) {
    this.check = new StreamCheck(channel);
    this.#path = path;
    this.#dice = dice;
    this.#sabotage = sabotage;
    this.#busyAt = now;
    if (channel.type === 'unix') this.fd = openUnix(path);
    else ({ fd: this.fd, port: this.port } = openUdp());
  }

  get isReading(): boolean {
    return this.fd >= 0 && !this.#isStalled && this.#allowance >= 1;
  }

  /** From now on it may go away: there are sockets connected to it. */
  begin(now: number): void {
    if (this.check.channel.leaves === null || this.#leavesAt !== Number.POSITIVE_INFINITY) return;
    this.#leavesAt = now + this.#dice.between(500, 4000);
  }

  /** Changes its mood when it is time. */
  step(now: number): void {
    if (now >= this.#leavesAt && !this.#isCalm) this.#leaveOrReturn(now);
    if (this.check.channel.stalls && now >= this.#moodUntil && !this.#isCalm) {
      this.#isStalled = !this.#isStalled && this.#dice.chance(0.5);
      this.#moodUntil = now + this.#dice.between(0, this.#isStalled ? MAX_STALL_MS : 2 * MAX_STALL_MS);
      this.#perMs = this.#dice.one(SPEEDS);
    }
    if (this.fd < 0 || this.#isStalled) this.#busyAt = now;
    this.#allowance = Math.min(BURST, this.#allowance + (now - this.#refilledAt) * this.#perMs);
    if (Number.isNaN(this.#allowance)) this.#allowance = BURST; // no time at no limit
    this.#refilledAt = now;
  }

  /** Reads as much as it may. */
  read(now: number): void {
    let count = 0;
    while (count < this.#allowance && this.#readOne()) count++;
    this.#allowance -= count;
    if (count > 0) this.#busyAt = now;
  }

  calm(): void {
    this.#isCalm = true;
    this.#isStalled = false;
    this.#perMs = Number.POSITIVE_INFINITY;
    if (this.fd < 0) this.#return();
  }

  /** All that is there. */
  readToTheEnd(): void {
    while (this.#readOne());
  }

  state(all: boolean, now: number): ChannelState {
    const { received, bytes, violations, told, lastByKey } = this.check;
    return {
      received,
      bytes,
      idleMs: now - this.#busyAt,
      isStalled: this.fd < 0 || this.#isStalled,
      violations,
      told,
      ended: this.check.takeEnded(all),
      lastByKey: all && this.check.channel.order === 'latest' ? lastByKey : [],
      returns: this.returns,
    };
  }

  #readOne(): boolean {
    const length = recv(this.fd, buffer, buffer.length, MSG_DONTWAIT) as number;
    if (length < 0) return false;
    const datagram = buffer.subarray(0, length);
    if (this.#sabotage !== '' && this.check.received === SABOTAGED) this.#takeWrongly(datagram);
    else this.check.take(datagram);
    return true;
  }

  #leaveOrReturn(now: number): void {
    if (this.fd < 0) {
      this.#return();
      this.#leavesAt = now + this.#dice.between(500, 4000);
      return;
    }
    const address = unixAddress(this.#path);
    if (this.check.channel.leaves === 'by shutdown') checked(shutdown(this.fd, SHUT_RD), 'shutdown');
    else checked(connect(this.fd, address, address.length), 'connect');
    // Nothing comes in any more, so nothing that was sent is lost in here. Behind SHUT_RD the end is 0 and not EAGAIN.
    for (let length = 1; length > 0; ) {
      length = recv(this.fd, buffer, buffer.length, MSG_DONTWAIT) as number;
      if (length > 0) this.check.take(buffer.subarray(0, length));
    }
    checked(close(this.fd), 'close');
    this.fd = -1;
    // The path stays behind half of the time: ECONNREFUSED instead of ENOENT.
    if (this.#dice.chance(0.5)) unlinkSync(this.#path);
    this.#leavesAt = now + this.#dice.between(0, 500);
  }

  #return(): void {
    try {
      unlinkSync(this.#path);
    } catch {
      // It is gone already.
    }
    this.fd = openUnix(this.#path);
    this.returns++;
  }

  #takeWrongly(datagram: Buffer): void {
    const copy = Buffer.from(datagram);
    if (this.#sabotage === 'swap' && this.#held === undefined) {
      this.#held = copy;
      return;
    }
    if (this.#sabotage === 'alter') copy[copy.length >> 1]! ^= 1;
    if (this.#sabotage === 'lose') this.check.received++;
    else this.check.take(copy);
    if (this.#sabotage === 'double') this.check.take(copy);
    if (this.#held !== undefined) this.check.take(this.#held);
  }
}

const plan = JSON.parse(process.argv[2]!) as ReceiverPlan;
const started = performance.now();
const readers = plan.channels.map(
  (channel, index) =>
    new Reader(
      channel,
      plan.paths[index]!,
      new Dice(plan.seed * 1009 + index),
      index === 0 ? plan.sabotage : '',
      started,
    ),
);
const fds = Buffer.alloc(8 * readers.length); // struct pollfd { int fd; short events; short revents; }

function loop(): void {
  const before = performance.now();
  for (const reader of readers) reader.step(before);
  const reading = readers.filter(({ isReading }) => isReading);
  for (const [index, { fd }] of reading.entries()) {
    fds.writeInt32LE(fd, index * 8);
    fds.writeInt16LE(POLLIN, index * 8 + 4);
    fds.writeInt16LE(0, index * 8 + 6);
  }
  poll(fds, reading.length, reading.length === readers.length ? MAX_POLL_MS : 1);
  const now = performance.now();
  for (const [index, reader] of reading.entries()) if (fds.readInt16LE(index * 8 + 6) !== 0) reader.read(now);
  setImmediate(loop);
}

process.on('SIGINT', () => {}); // Ctrl-C is for the sender, which says when to end
process.once('disconnect', () => process.exit());
process.on('message', (question: Question) => {
  if (question === 'look') for (const reader of readers) reader.begin(performance.now());
  if (question === 'calm') for (const reader of readers) reader.calm();
  if (question === 'finish') for (const reader of readers) reader.readToTheEnd();
  const now = performance.now();
  process.send!(readers.map((reader) => reader.state(question === 'finish', now)));
});
process.send!(readers.map(({ port }) => port));
loop();
