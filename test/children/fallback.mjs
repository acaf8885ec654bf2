// What the backend at hand does where the native one would do better; prints one JSON object. argv: scenario.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { BatchSender, DatagramSocket, endpoint } from 'rx-sendmmsg';

const received = [];
const receiver = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
receiver.on('message', (message) => received.push(Number(message)));
receiver.bind(0, '127.0.0.1');
await once(receiver, 'listening');
const { port } = receiver.address();
const settle = async (count) => {
  for (let waits = 0; received.length < count && waits < 500; waits++) await sleep(10);
};

const scenarios = {
  /** A source that is never quite caught up with. */
  async flood() {
    let reportsBefore = 0;
    let reported = 0;
    const sender = new BatchSender(
      DatagramSocket.open({ connect: { address: '127.0.0.1', port } }),
      { batchSize: 16 },
      {
        next(report) {
          reported += report.sent;
          if (!sender.closed) reportsBefore++;
        },
      },
    );
    // In each turn of the event loop more than go in one.
    await new Promise((resolve) => {
      let index = 0;
      const produce = () => {
        for (let n = 0; n < 100; n++) sender.send(String(index++));
        if (index < 2000) setImmediate(produce);
        else resolve();
      };
      produce();
    });
    await sender.close();
    await settle(sender.stats.sent);
    return { reportsBefore, reported, stats: sender.stats, received };
  },
  /** `ready()` and the operator's bounds hold when datagrams are answered one by one. */
  async backpressure() {
    const sender = new BatchSender(DatagramSocket.open(), { highWaterMark: 50 });
    let most = 0;
    for (let index = 0; index < 1000; index++) {
      const hasRoom = sender.send({ payload: String(index), to: endpoint('127.0.0.1', port) });
      most = Math.max(most, sender.stats.queued);
      if (!hasRoom) await sender.ready();
    }
    await sender.close();
    await settle(1000);
    return { most, stats: sender.stats, received };
  },
  /** Answered one by one, they take much longer than the kernel may take nothing for. */
  async drain() {
    const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    const size = { batchSize: 50_000, highWaterMark: 50_000 };
    const sender = new BatchSender(socket, { ...size, flushAfterMs: 1000, drainTimeoutMs: 50 });
    for (let index = 0; index < 50_000; index++) sender.send('x');
    const start = performance.now();
    await sender.close();
    return { elapsedMs: performance.now() - start, stats: sender.stats };
  },
  /** The socket goes while one is in flight. */
  async closed() {
    const errors = [];
    const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    const sender = new BatchSender(socket, { batchSize: 4 }, { error: ({ code }) => errors.push(code) });
    for (let index = 0; index < 10; index++) sender.send(String(index));
    socket.close();
    for (let waits = 0; errors.length === 0 && waits < 100; waits++) await sleep(10);
    await settle(sender.stats.sent);
    return { errors, stats: sender.stats, received };
  },
  async destroyed() {
    const told = [];
    const sender = new BatchSender(
      DatagramSocket.open({ connect: { address: '127.0.0.1', port } }),
      {},
      { next: () => told.push('next'), complete: () => told.push('complete') },
    );
    for (let index = 0; index < 10; index++) sender.send(String(index));
    sender.flush();
    sender.destroy();
    for (let waits = 0; waits < 5; waits++) await turn();
    await sleep(50);
    return { told, stats: sender.stats, received };
  },
  async refusals() {
    const codes = {};
    const attempt = (name, run) => {
      try {
        run();
      } catch (error) {
        codes[name] = error.code;
      }
    };
    attempt('unix', () => DatagramSocket.open({ type: 'unix', bind: { path: '/tmp/never' } }));
    attempt('fromFd', () => DatagramSocket.fromFd(0));
    attempt('sendmmsg', () => DatagramSocket.open().sendmmsg(['x']));
    attempt('unreachable', () => DatagramSocket.open({ connect: { address: '255.255.255.255', port: 9 } }));
    attempt('bindToDevice', () => DatagramSocket.open().bindToDevice('lo'));
    attempt('zone', () => DatagramSocket.open({ type: 'udp6' }).setMulticastInterface('::%nosuch0'));
    attempt('inUse', () => DatagramSocket.open({ bind: { address: '127.0.0.1', port } }));
    const open = DatagramSocket.open({ bind: { address: '127.0.0.1' } });
    const address = open.address();
    open.connect(port);
    const peer = { ...open.remoteAddress(), ttl: open.setTTL(9), isReceiver: open.remoteAddress().port === port };
    open.close();
    return { codes, address, peer };
  },
};
const result = await scenarios[process.argv[2]]();
receiver.close();
console.log(JSON.stringify(result));
