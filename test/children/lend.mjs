// Lends a port and gets a reply on it; prints what came of it, descriptors that stayed open included. argv: how to open.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

const peer = createSocket('udp4');
peer.bind(0, '127.0.0.1');
await once(peer, 'listening');
peer.on('message', (message, { port, address }) => peer.send(`re: ${message}`, port, address));

const descriptors = () => readdirSync('/proc/self/fd').length;
const socket = DatagramSocket.open({ bind: { address: '127.0.0.1' } });
const result = { backend: socket.backend };
for (let warmUp = 0; warmUp < 3; warmUp++) {
  try {
    socket.lend().close();
  } catch {}
  await sleep(10);
}
const before = descriptors();
try {
  const lent = socket.lend();
  const heard = [];
  if (process.versions.bun === undefined) lent.on('listening', () => heard.push('listening'));
  else await once(lent, 'listening');
  lent.on('close', () => heard.push('close'));
  result.isSamePort = lent.address().port === socket.address().port;
  const reply = once(lent, 'message', { signal: AbortSignal.timeout(5000) });
  const sender = new BatchSender(socket);
  sender.send({ payload: 'ping', address: '127.0.0.1', port: peer.address().port });
  await sender.close();
  const [message] = await reply;
  result.reply = String(message);
  lent.close();
  await sleep(10);
  result.heard = heard;
} catch ({ name, code, message }) {
  result.error = { name, code, message };
}
await sleep(10);
result.leaked = descriptors() - before;
result.isOpen = socket.address().port > 0;
socket.close();
peer.close();
console.log(JSON.stringify(result));
