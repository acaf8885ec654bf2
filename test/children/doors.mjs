// Sends numbered datagrams by one of the doors, and ends by itself. Runs on Node.js, Bun and Deno; argv: a plan as JSON, see
// runtimes.test.ts. Makes the file `blocked`, if it has the name of one, when the kernel takes no more; prints the sender's last
// totals as JSON.
import { subscribe } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as fromAsync } from 'ix/asynciterable';
import { DatagramSocket, sendmmsg } from 'rx-sendmmsg';
import { sendmmsg as ixSendmmsg } from 'rx-sendmmsg/ix';
import { createDatagramWritable, createDatagramWritableStream } from 'rx-sendmmsg/streams';
import { from, lastValueFrom } from 'rxjs';

const { door, connect, options, count, sizes, blocked } = JSON.parse(process.argv[2]);
const socket = () => DatagramSocket.open({ connect });

function* datagrams() {
  for (let index = 0; index < count; index++) {
    yield `${index}:`.padEnd(sizes[index % sizes.length], String.fromCharCode(97 + (index % 26)));
  }
}

const doors = {
  // An Observable cannot be held back: all of it must fit.
  rxjs: () => lastValueFrom(from(datagrams()).pipe(sendmmsg(socket, { ...options, highWaterMark: count }))),
  async ix() {
    for await (const { rejected } of fromAsync(datagrams()).pipe(ixSendmmsg(socket, options))) {
      if (rejected.length > 0) throw rejected[0].error;
    }
  },
  Writable: () => pipeline(Readable.from(datagrams()), createDatagramWritable(socket, options)),
  WritableStream: () => ReadableStream.from(datagrams()).pipeTo(createDatagramWritableStream(socket, options)),
};

subscribe('rx-sendmmsg:open', ({ sender }) => {
  if (blocked === undefined) return;
  const timer = setInterval(() => {
    if (sender.stats.wouldBlocks === 0) return;
    writeFileSync(blocked, '');
    clearInterval(timer);
  }, 1);
});
subscribe('rx-sendmmsg:close', ({ stats }) => console.log(JSON.stringify(stats)));
await doors[door]();
