// Opens sockets, and tells what does the sending, why, and what it is warned of; argv: SocketOptions, and `fd` for fromFd.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { DatagramSocket } from 'rx-sendmmsg';

const options = isMainThread ? JSON.parse(process.argv[2] ?? '{}') : workerData;
const warnings = [];
process.on('warning', ({ name, code, message, detail }) => warnings.push({ name, code, message, detail }));

function open() {
  try {
    const socket = DatagramSocket.open(options);
    const { backend, fallbackReason } = socket;
    socket.close();
    return { backend, fallbackReason };
  } catch ({ name, code, message }) {
    return { name, code, message };
  }
}
function fromFd() {
  try {
    return { backend: DatagramSocket.fromFd(0).backend };
  } catch ({ code, message }) {
    return { code, message };
  }
}
const result = { ...open(), again: open(), fromFd: fromFd() };
await new Promise((resolve) => setTimeout(resolve, 1)); // warnings come in a later turn
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: options });
  const [inWorker] = await once(worker, 'message');
  console.log(JSON.stringify({ ...result, warnings, inWorker }));
} else parentPort.postMessage({ ...result, warnings });
