// Sends many small datagrams to a UDP port on loopback; argv: "at once" | "in turns", port, count. Tells the stats.
import { setImmediate as turn } from 'node:timers/promises';
import { BatchSender, DatagramSocket } from 'rx-sendmmsg';

const [how, port, count] = process.argv.slice(2);
const socket = DatagramSocket.open({ connect: { address: '127.0.0.1', port: Number(port) } });
const sender = new BatchSender(socket, { batchSize: 64 });
for (let index = 0; index < Number(count); index++) {
  if (!sender.send(`requests:${index}|c`)) await sender.ready();
  if (how === 'in turns' && index % 64 === 63) await turn();
}
await sender.close();
console.log(JSON.stringify(sender.stats));
