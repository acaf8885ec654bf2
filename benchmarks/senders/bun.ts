/** Bun's `sendMany`, 64 datagrams a call, connected or not. Runs on Bun alone. */
import { measure, readWorkload } from '../../src/cli/bench/measure.ts';
import { addressesOf, lineOf } from '../../src/cli/bench/workload.ts';

type Payload = string | Uint8Array;
/** What is used of Bun. */
interface UdpSocket {
  /** The number of datagrams that the kernel took; payload, port, address in turn unless connected. */
  sendMany(packets: readonly (Payload | number)[]): number;
  close(): void;
}
declare const Bun: {
  udpSocket(options: { connect?: { hostname: string; port: number }; socket: { drain(): void } }): Promise<UdpSocket>;
};

const workload = readWorkload();
const isConnected = process.argv.at(-2) === 'connected';
const { lines, port } = workload;
const addresses = addressesOf(workload);
const payload = new Uint8Array(workload.bytes).fill(120);
const BATCH = 64;
let onDrain = (): void => {};
const socket = await Bun.udpSocket({
  ...(isConnected && { connect: { hostname: addresses[0]!, port } }),
  socket: { drain: () => onDrain() },
});

function batchFrom(n: number): (Payload | number)[] {
  const packets: (Payload | number)[] = [];
  for (let i = n; i < n + BATCH; i++) {
    packets.push(lines === undefined ? payload : lineOf(lines, i));
    if (!isConnected) packets.push(port, addresses[i % addresses.length] as never);
  }
  return packets;
}

let syscalls = 0;
await measure(
  workload,
  async (isOver) => {
    let n = 0;
    while (!isOver()) {
      for (const end = n + 1024; n < end; ) {
        const taken = socket.sendMany(batchFrom(n));
        syscalls++;
        n += taken;
        if (taken === 0) {
          await new Promise<void>((resolve) => {
            onDrain = resolve;
          });
        }
      }
    }
    return n;
  },
  () => ({ syscalls }),
);
socket.close();
