// A worker that does one thing and ends in one way: see threads.test.ts. workerData: { scenario, end, path, port, afterMs }.
import { parentPort, workerData } from 'node:worker_threads';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';
import { createDatagramWritable } from 'rx-sendmmsg/streams';

const { scenario, end, path, port, afterMs } = workerData;
const long = { drainTimeoutMs: 600_000 };
const fill = (sender, count, datagramOf) => {
  for (let n = 0; n < count; n++) sender.send(datagramOf(n));
};

const scenarios = {
  idle() {
    return DatagramSocket.open({ type: 'unix', connect: { path } });
  },
  blocked() {
    const socket = DatagramSocket.open({ type: 'unix', connect: { path } });
    fill(new BatchSender(socket, long), 100, (n) => `${n}`);
    return socket;
  },
  'blocked, offload'() {
    const socket = DatagramSocket.open({ type: 'unix', connect: { path } });
    fill(new BatchSender(socket, { ...long, offload: true }), 100, (n) => `${n}`);
    return socket;
  },
  'blocked, unconnected'() {
    const socket = DatagramSocket.open({ type: 'unix' });
    fill(new BatchSender(socket, long), 100, (n) => ({ payload: `${n}`, path }));
    return socket;
  },
  'in flight'() {
    const socket = DatagramSocket.open();
    const sender = new BatchSender(socket, { ...long, offload: true, lanes: 4, batchSize: 256, gso: 'off' });
    const payload = new Uint8Array(1200);
    const spin = () => {
      if (socket.closed) return;
      fill(sender, 500, (n) => ({ payload, address: `127.0.0.${1 + (n % 9)}`, port }));
      setImmediate(spin);
    };
    spin();
    return socket;
  },
  paced() {
    const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port } });
    fill(new BatchSender(socket, { ...long, pace: { datagramsPerSecond: 100 } }), 100, (n) => `${n}`);
    return socket;
  },
  stream() {
    const socket = DatagramSocket.open({ type: 'unix', connect: { path } });
    const stream = createDatagramWritable(socket, { highWaterMark: 16 });
    for (let n = 0; n < 100; n++) stream.write(`${n}`);
    return socket;
  },
};

const ends = {
  terminate() {}, // the main thread's to do
  exit: () => process.exit(0),
  throw() {
    throw new Error('thrown on purpose');
  },
  unref: (socket) => socket.unref(),
  close: (socket) => socket.close(),
};

const socket = scenarios[scenario]();
socket.ref();
parentPort.postMessage('started');
setTimeout(() => ends[end](socket), afterMs);
