// In a network namespace whose loopback has a small MTU: what a socket with and without the Don't Fragment bit can send.
import { DatagramSocket } from '../../dist/src/index.js';

const results = {};
for (const [type, address] of [
  ['udp4', '127.0.0.1'],
  ['udp6', '::1'],
  ['mapped', '::ffff:127.0.0.1'],
]) {
  const family = type === 'udp4' ? 'udp4' : 'udp6';
  const receiver = DatagramSocket.open({
    type: family,
    bind: { address: family === 'udp4' ? '127.0.0.1' : '::', port: 0 },
  });
  const socket = DatagramSocket.open({ type: family, connect: { address, port: receiver.address().port } });
  const sent = () => {
    try {
      return socket.sendmmsg([Buffer.alloc(2000)]).sent;
    } catch (error) {
      return error.code;
    }
  };
  const tries = [sent()];
  for (const flag of [true, false, true]) {
    socket.setDontFragment(flag);
    tries.push(sent());
  }
  results[type] = { mtu: socket.mtu, tries };
  socket.close();
  receiver.close();
}
process.stdout.write(JSON.stringify(results));
