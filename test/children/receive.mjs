// Reads datagrams as fast as it can; argv: unix <path> | udp4. Tells its address, then answers "count" and "datagrams".
import { createSocket } from 'node:dgram';
import { libc } from '../../dist/src/kernel/libc.js';
import { watchReadable } from '../../dist/src/kernel/readiness.js';
import { DatagramSocket } from '../../dist/src/socket/datagram-socket.js';

const [type, path] = process.argv.slice(2);
const datagrams = [];
process.on('message', (question) => process.send(question === 'count' ? datagrams.length : datagrams));
process.once('disconnect', () => process.exit());

if (type === 'udp4') {
  const socket = createSocket({ type, recvBufferSize: 4 << 20 });
  socket.on('message', (message) => datagrams.push(message.toString('latin1')));
  socket.bind(0, '127.0.0.1', () => process.send(socket.address().port));
} else {
  const { fd } = DatagramSocket.nativeOf(DatagramSocket.open({ type: 'unix', bind: { path } }));
  const size = 4096;
  const arena = libc().allocate(64 + 16 + size);
  arena.writePointer(16, 64); // msg_iov
  arena.u32[24 >>> 2] = 1; // msg_iovlen
  arena.writePointer(64, 80); // iov_base
  arena.u32[72 >>> 2] = size; // iov_len
  watchReadable(fd, () => {
    while (libc().recvmmsg(fd, arena, 0, 1, 0x40) === 1) {
      datagrams.push(arena.u8.toString('latin1', 80, 80 + arena.u32[56 >>> 2]));
    }
  });
  process.send(path);
}
