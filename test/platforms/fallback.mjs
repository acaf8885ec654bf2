// Sends through node:dgram by every door, to both families, and reads it all back: for machines that no native call is made on.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { endianness } from 'node:os';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as fromAsync } from 'ix/asynciterable';
import { BatchSender, DatagramSocket, endpoint, sendmmsg } from 'rx-sendmmsg';
import { sendmmsg as ixSendmmsg } from 'rx-sendmmsg/ix';
import { createDatagramWritable, createDatagramWritableStream } from 'rx-sendmmsg/streams';
import { from, lastValueFrom } from 'rxjs';

const COUNT = 100;
const doors = {
  rxjs: (source, socket) => lastValueFrom(from(source).pipe(sendmmsg(socket))),
  async ix(source, socket) {
    for await (const { rejected } of fromAsync(source).pipe(ixSendmmsg(socket))) assert.deepEqual(rejected, []);
  },
  Writable: (source, socket) => pipeline(Readable.from(source), createDatagramWritable(socket)),
  WritableStream: (source, socket) => ReadableStream.from(source).pipeTo(createDatagramWritableStream(socket)),
};

for (const [type, address] of [
  ['udp4', '127.0.0.1'],
  ['udp6', '::1'],
]) {
  const receiver = createSocket({ type, recvBufferSize: 1 << 20 });
  const received = [];
  let arrived = () => {};
  receiver.on('message', (message, remote) => {
    received.push(`${remote.address} ${message}`);
    arrived();
  });
  receiver.bind(0, address);
  await once(receiver, 'listening');
  const { port } = receiver.address();
  const expected = Array.from({ length: COUNT }, (_, index) => `${address} ${index}`);
  /** What has come since the last look. */
  const arrive = async (count) => {
    while (received.length < count) await new Promise((resolve) => (arrived = resolve));
    return received.splice(0);
  };

  const isConnected = { connected: { connect: { address, port } }, unconnected: { bind: { address } } };
  for (const [name, options] of Object.entries(isConnected)) {
    for (const [door, send] of Object.entries(doors)) {
      const datagrams = Array.from({ length: COUNT }, (_, index) =>
        name === 'connected' ? String(index) : { payload: String(index), address, port },
      );
      await send(datagrams, () => DatagramSocket.open({ type, ...options }));
      assert.deepEqual(await arrive(COUNT), expected, `${type}, ${name}, ${door}`);
    }
  }

  const socket = DatagramSocket.open({ type, bind: { address } });
  assert.equal(socket.backend, 'node:dgram');
  assert.equal(socket.address().address, address);
  const sender = new BatchSender(socket, { warn: false });
  const to = endpoint(address, port);
  sender.send({ payload: ['a', Buffer.from('b')], to });
  sender.send({ payload: 'refused', address: type === 'udp4' ? '::1' : '127.0.0.1', port });
  sender.broadcast('c', [to, to]);
  await sender.close();
  assert.deepEqual(await arrive(3), [`${address} ab`, `${address} c`, `${address} c`]);
  assert.equal(sender.stats.rejected, 1);

  const lent = socket.lend();
  lent.send('lent', port, address);
  assert.deepEqual(await arrive(1), [`${address} lent`]);
  lent.close();
  socket.close();
  receiver.close();
}
console.log(`Node.js ${process.version}, ${process.arch}, ${endianness()}: all arrived`);
