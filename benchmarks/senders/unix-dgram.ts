/** unix-dgram: one synchronous send(2) a datagram; where the receiver's queue is full, it waits to be told. */
import { measure, readWorkload } from '../../src/cli/bench/measure.ts';
import { requirePeer } from '../peer-packages.ts';

/** What is used of unix-dgram. */
interface UnixSocket {
  connect(path: string): void;
  send(payload: Buffer, done: (error?: Error & { code: unknown }) => void): void;
  once(event: 'writable', listener: () => void): void;
  close(): void;
}

const workload = readWorkload();
const payload = Buffer.alloc(workload.bytes, 'x');
const { createSocket } = requirePeer('unix-dgram') as { createSocket(type: 'unix_dgram'): UnixSocket };
const socket = createSocket('unix_dgram');
socket.connect(workload.path!);

/** Its code for a full queue; what was refused is not sent, and not kept. */
const CONGESTION = 1;
let isFull = false;
const onSent = (error?: Error & { code: unknown }): void => {
  if (error !== undefined && error.code !== CONGESTION) throw error;
  isFull = error !== undefined;
};

await measure(workload, async (isOver) => {
  let sent = 0;
  while (!isOver()) {
    for (const end = sent + 1024; sent < end; ) {
      socket.send(payload, onSent);
      if (isFull) await new Promise<void>((resolve) => socket.once('writable', resolve));
      else sent++;
    }
  }
  return sent;
});
socket.close();
