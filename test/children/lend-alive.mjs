// Whether a lent socket keeps the process alive: prints "alive", or just ends. argv: what is done with it.
import { DatagramSocket } from 'rx-sendmmsg';

const socket = DatagramSocket.open({ bind: { address: '127.0.0.1' } });
const what = process.argv[2];
const lent = socket.lend();
if (what === 'unref') lent.unref();
if (what === 'unref, ref') lent.unref().ref();
if (what === 'closed') lent.close();
if (what === 'owner closed') socket.close();
setTimeout(() => {
  console.log('alive');
  lent.close?.();
}, 200).unref();
