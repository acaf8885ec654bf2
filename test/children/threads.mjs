// Runs worker threads that end in every way at random moments, beside a reader that drains now and then; prints what is left.
// argv: count, seed, how many at once. The last line is { workers, descriptors, ends }.
import { readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { DatagramSocket } from 'rx-sendmmsg';

const [count, seed, atOnce] = process.argv.slice(2).map(Number);
const SCENARIOS = ['idle', 'blocked', 'blocked, offload', 'blocked, unconnected', 'in flight', 'paced', 'stream'];
const ENDS = ['terminate', 'exit', 'throw', 'unref', 'close'];

let state = seed;
/** mulberry32 */
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const oneOf = (list) => list[Math.floor(random() * list.length)];

const path = join(tmpdir(), `rx-sendmmsg-threads-${process.pid}.sock`);
const unix = DatagramSocket.open({ type: 'unix', bind: { path } });
const udp = DatagramSocket.open({ bind: { address: '0.0.0.0' } });
const { port } = udp.address();
const { MmsgReceiver } = await import('../../dist/src/receiver/mmsg-receiver.js');
const reader = new MmsgReceiver(unix, { batchSize: 16, maxSize: 64 });
// A reader that drains just then is one of the ways to die by.
const reading = setInterval(() => random() < 0.3 && reader.receive(() => {}), 3);

const descriptors = () => readdirSync('/proc/self/fd').length;
const endings = {};

async function run() {
  const scenario = oneOf(SCENARIOS);
  const end = oneOf(ENDS);
  const afterMs = Math.floor(random() * 30);
  const worker = new Worker(new URL('./thread.mjs', import.meta.url), {
    workerData: { scenario, end, path, port, afterMs },
  });
  worker.on('error', (error) => {
    if (error.message !== 'thrown on purpose' && error.code !== 'EBADF') throw error;
  });
  const started = new Promise((resolve) => worker.once('message', resolve));
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  // Not while it loads koffi, whose own start a termination may abort (about a millisecond).
  await Promise.race([started, ended]);
  if (end === 'terminate') {
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await worker.terminate();
  }
  // What is unref'd but in the pool, or not waiting at that moment, may go on.
  const giveUp = setTimeout(() => worker.terminate(), 500);
  await ended;
  clearTimeout(giveUp);
  endings[`${scenario}: ${end}`] = (endings[`${scenario}: ${end}`] ?? 0) + 1;
}

async function lane(share) {
  for (let n = 0; n < share; n++) await run();
}
await lane(3); // what the first workers open for all
const before = descriptors();
await Promise.all(Array.from({ length: atOnce }, () => lane(Math.ceil(count / atOnce))));
await new Promise((resolve) => setTimeout(resolve, 100));
const after = descriptors();
clearInterval(reading);
unix.close();
udp.close();
rmSync(path, { force: true });
console.log(JSON.stringify({ workers: count, leaked: after - before, kinds: Object.keys(endings).length }));
