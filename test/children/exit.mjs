// Does one thing, says "ready", and then has nothing more to do: whether the process ends is up to what is left armed.
// argv: scenario, path of a unix receiver.
import { openSync, writeSync } from 'node:fs';
import { BatchSender, DatagramSocket, sendmmsg } from 'rx-sendmmsg';
import { from, NEVER, of, startWith } from 'rxjs';

const [scenario, path] = process.argv.slice(2);
const socket = DatagramSocket.open({ type: 'unix', connect: { path } });
const unconnected = DatagramSocket.open({ type: 'unix' });
const datagrams = Array.from({ length: 100 }, (_, index) =>
  `${index}:`.padEnd(12, String.fromCharCode(97 + (index % 26))),
);
const say = () => writeSync(1, 'ready\n');
const long = { flushAfterMs: 600_000, drainTimeoutMs: 600_000 };

const scenarios = {
  completed: () => of('0:aaaaaaaaaa').pipe(sendmmsg(socket)).subscribe({ complete: say }),
  idle() {
    NEVER.pipe(sendmmsg(socket, long)).subscribe();
    new BatchSender(socket, long);
    say();
  },
  'unsubscribed before a flush'() {
    const subscription = NEVER.pipe(startWith('x'), sendmmsg(socket, long)).subscribe();
    setImmediate(() => {
      subscription.unsubscribe();
      say();
    });
  },
  'unsubscribed while blocked'() {
    const subscription = from(datagrams).pipe(sendmmsg(socket, long)).subscribe();
    setImmediate(() => {
      subscription.unsubscribe();
      say();
    });
  },
  'unsubscribed while a timer retries'() {
    const source = from(datagrams.map((payload) => ({ payload, path })));
    const subscription = source.pipe(sendmmsg(unconnected, long)).subscribe();
    setTimeout(() => {
      subscription.unsubscribe();
      say();
    }, 20);
  },
  'destroyed while blocked'() {
    const sender = new BatchSender(socket, long);
    for (const datagram of datagrams) sender.send(datagram);
    setImmediate(() => {
      sender.destroy();
      say();
    });
  },
  'socket closed while blocked'() {
    const sender = new BatchSender(socket, long, { error: say });
    for (const datagram of datagrams) sender.send(datagram);
    setImmediate(() => socket.close());
  },
  'drain timed out'() {
    const sender = new BatchSender(socket, { drainTimeoutMs: 50 }, { complete: say });
    for (const datagram of datagrams) sender.send(datagram);
    sender.close();
  },
  'waiting for a flush'() {
    new BatchSender(socket, { flushAfterMs: 400 }).send(datagrams[0]);
    say();
  },
  blocked() {
    const sender = new BatchSender(socket, { drainTimeoutMs: 600_000 });
    for (const datagram of datagrams) sender.send(datagram);
    setImmediate(say);
  },
  'blocked with no descriptor left to poll on'() {
    try {
      for (;;) openSync('/dev/null');
    } catch {
      // EMFILE
    }
    scenarios.blocked();
  },
  'blocked, unref'() {
    scenarios.blocked();
    socket.unref();
  },
  'blocked, unref before'() {
    socket.unref();
    scenarios.blocked();
  },
  'blocked, unref and ref'() {
    scenarios.blocked();
    setImmediate(() => socket.unref().ref());
  },
  'blocked, unref, closed'() {
    const sender = new BatchSender(socket, { drainTimeoutMs: 600_000 });
    for (const datagram of datagrams) sender.send(datagram);
    setImmediate(() => {
      sender.destroy();
      socket.unref().ref().close();
      socket.unref().ref();
      say();
    });
  },
  'waiting for a flush, unref'() {
    new BatchSender(socket, long).send(datagrams[0]);
    socket.unref();
    say();
  },
  'blocked on a timer, unref'() {
    unconnected.unref();
    scenarios['blocked on a timer']();
  },
  'draining, unref'() {
    const sender = new BatchSender(socket, long);
    for (const datagram of datagrams) sender.send(datagram);
    sender.close();
    setImmediate(() => {
      socket.unref();
      say();
    });
  },
  'sent at the end of the turn, unref'() {
    socket.unref();
    new BatchSender(socket).send(datagrams[0]);
    say();
  },
  'blocked on a timer'() {
    const sender = new BatchSender(unconnected, { drainTimeoutMs: 600_000 });
    for (const payload of datagrams) sender.send({ payload, path });
    setImmediate(say);
  },
};
scenarios[scenario]();
// For those that are over: longer than any poll or timer of theirs would need to strike, with nothing to keep alive.
if (process.argv[4] !== undefined) setTimeout(() => {}, Number(process.argv[4]));
