// Sends numbered datagrams through the operator and tells what became of them; argv: a SendPlan of support/child.ts.
import { createSocket } from 'node:dgram';
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { DatagramSocket, sendmmsg } from 'rx-sendmmsg';
import { from, lastValueFrom, tap } from 'rxjs';

const plan = JSON.parse(process.argv[2]);
const received = [];
const sources = new Set();
let to = plan.to;
let receiver;
if (plan.receive !== undefined) {
  receiver = createSocket({ type: plan.receive.type, recvBufferSize: 4 << 20 });
  receiver.on('message', (message, { address }) => {
    received.push(message.toString('latin1'));
    sources.add(address);
  });
  receiver.bind(0, plan.receive.address);
  await once(receiver, 'listening');
  to = { address: plan.receive.address, ...to, port: receiver.address().port };
}

const odd = new Map(plan.odd?.map(([index, size, address, marks]) => [index, { size, address, marks }]));
const datagrams = Array.from({ length: plan.count }, (_, index) => {
  const size = odd.get(index)?.size ?? plan.size ?? 12;
  const { address, marks } = odd.get(index) ?? {};
  const payload = size === 0 ? '' : `${index}:`.padEnd(size, String.fromCharCode(97 + (index % 26)));
  return to === undefined ? payload : { payload, ...to, ...(address && { address }), ...marks };
});

const result = { stats: null, rejected: [], received, turns: 0 };
subscribe('rx-sendmmsg:close', ({ stats }) => {
  result.stats = stats;
});
const count = setInterval(() => result.turns++, 1);
const socket = DatagramSocket.open(plan.open);
try {
  await lastValueFrom(
    from(datagrams).pipe(
      sendmmsg(socket, { drainTimeoutMs: 15_000, warn: false, ...plan.options }),
      tap(({ rejected }) => {
        for (const { sequence, error } of rejected) result.rejected.push([sequence, error.code]);
      }),
    ),
  );
} catch (error) {
  result.error = error.code ?? String(error);
}
socket.close();
for (let waits = 0; receiver !== undefined && received.length < result.stats?.sent && waits < 500; waits++) {
  await sleep(10);
}
clearInterval(count);
receiver?.close();
console.log(JSON.stringify({ ...result, sources: [...sources] }));
