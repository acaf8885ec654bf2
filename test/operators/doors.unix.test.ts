/** What every way in must hold where the kernel holds it back: only a unix socket does, exactly. */
import { describe, expect, it } from 'vitest';
import { numberedList, numbersOf, range } from '../support/datagrams.ts';
import { CASES, totals } from '../support/doors.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();

describe.each(CASES)('$name', ({ door, options }) => {
  it('held back by SO_SNDBUF: all arrive, in order', async () => {
    const { sender, receiver } = Receiver.pair(4608);
    const done = door.send(keep(sender), { ...options, batchSize: 1024 }, numberedList(2000));
    const arrived = await keep(receiver).receive(Number.POSITIVE_INFINITY, 5, done);
    expect(numbersOf(arrived)).toEqual(range(2000));
    expect(totals(await done)).toMatchObject({ sent: 2000, dropped: 0, rejected: [] });
  });

  it('the end waits for the tail, as long as it may', async () => {
    const receiver = keep(Receiver.unix());
    let isDone = false;
    const done = door.send(keep(receiver.connected()), options, numberedList(100)).finally(() => {
      isDone = true;
    });
    for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(isDone).toBe(false);
    const arrived = await receiver.receive(Number.POSITIVE_INFINITY, undefined, done);
    expect(numbersOf(arrived)).toEqual(range(100));
    expect(totals(await done).sent).toBe(100);
  });

  it('and what is left after that is dropped and told', async () => {
    const receiver = keep(Receiver.unix());
    const outcome = await door.send(keep(receiver.connected()), { ...options, drainTimeoutMs: 20 }, numberedList(100));
    const { sent, dropped } = totals(outcome);
    expect(sent + dropped).toBe(100);
    expect(numbersOf(receiver.drain())).toEqual(range(sent));
    expect(dropped).toBeGreaterThan(50);
  });

  it('a socket that fails is the error of the output', async () => {
    const receiver = keep(Receiver.unix());
    const socket = keep(receiver.connected());
    const done = door.send(socket, options, numberedList(100));
    const failed = expect(done).rejects.toMatchObject({ code: 'EBADF', syscall: 'sendmmsg' });
    setTimeout(() => socket.close(), 10);
    await failed;
  });
});
