// Sends ten datagrams over UDP, with the rxjs that is installed here, and tells what became of them.
// argv: the port.

import { DatagramSocket, sendmmsg } from 'rx-sendmmsg';
import { from } from 'rxjs';

const connect = { address: '127.0.0.1', port: Number(process.argv[2]) };
let sent = 0;
await from(Array.from({ length: 10 }, (_, index) => `${index}:`.padEnd(12, String.fromCharCode(97 + index))))
  .pipe(sendmmsg(() => DatagramSocket.open({ connect }), { batchSize: 4 }))
  .forEach((report) => {
    sent += report.sent;
  });
console.log(JSON.stringify({ sent }));
