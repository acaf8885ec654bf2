// IPv6 multicast, devices and zones between the two ends of a veth pair, v0 and v1, in one network namespace; prints JSON.
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { DatagramSocket } from 'rx-sendmmsg';

const GROUP = 'ff12::7777';
const sockets = [];
const open = (options) => {
  const socket = DatagramSocket.open(options);
  sockets.push(socket);
  return socket;
};
const attempt = (run) => {
  try {
    run();
    return 'done';
  } catch ({ code }) {
    return code;
  }
};

/** A bound socket and what has come to it, with the addresses that it came from. */
function receiver(options) {
  const socket = open({ bind: {}, ...options });
  const lent = socket.lend();
  sockets.push(lent);
  const received = [];
  lent.on('message', (message, { address }) => received.push(`${message} ${address}`));
  const { port } = socket.address();
  return {
    socket,
    port,
    received,
    /** Takes what has come: a datagram to itself, sent last, has come last. */
    async take() {
      const last = open({ type: options.type });
      const to = options.type === 'udp6' ? '::1' : '127.0.0.1';
      last.sendmmsg([{ payload: 'last', address: to, port }]);
      while (!received.at(-1)?.startsWith('last')) await sleep(1);
      return received.splice(0).slice(0, -1).sort();
    },
  };
}

const result = {};

// Which interface: v0 has joined, v1 sends, then v0 itself.
const member = receiver({ type: 'udp6' });
const [v0, v1] = ['v0', 'v1'].map((name) => {
  const socket = open({ type: 'udp6' });
  socket.setMulticastInterface(`::%${name}`);
  return socket;
});
const sendBoth = () => {
  for (const [name, socket] of Object.entries({ v0, v1 })) {
    socket.sendmmsg([{ payload: name, address: GROUP, port: member.port }]);
  }
};
sendBoth();
result.before = await member.take();
member.socket.addMembership(GROUP, '::%v0');
sendBoth();
result.joined = await member.take();
v0.setMulticastLoopback(false);
sendBoth();
result.withoutLoopback = await member.take();
v0.setMulticastLoopback(true);
member.socket.dropMembership(GROUP, '::%v0');
sendBoth();
result.left = await member.take();
member.socket.addSourceSpecificMembership('fe80::2', GROUP, '::%v0');
sendBoth();
result.oneSource = await member.take();
member.socket.dropSourceSpecificMembership('fe80::2', GROUP, '::%v0');
// A group with a zone and no interface is joined there, by number, too.
member.socket.addMembership(`${GROUP}%v0`);
sendBoth();
result.zoneOfGroup = await member.take();

// Two sockets share a port, each on its device.
const onLo = receiver({ type: 'udp4', bindToDevice: 'lo' });
const onV0 = receiver({ type: 'udp4', bind: { port: onLo.port }, bindToDevice: 'v0' });
const to = { address: '127.0.0.1', port: onLo.port };
open().sendmmsg([{ payload: 'to lo', ...to }]);
result.onLo = await onLo.take();
result.onV0 = onV0.received;

// An interface without an address is a zone as any other.
result.known = Object.keys(networkInterfaces()).includes('bare0');
result.bareZone = attempt(() => open({ type: 'udp6' }).setMulticastInterface('::%bare0'));
result.loZone = open({ type: 'udp6', bind: { address: 'fe80::9%lo' } }).address().address;
result.wrongZone = attempt(() => open({ type: 'udp6', bind: { address: 'fe80::9%v0' } }));

for (const socket of sockets) socket.close();
console.log(JSON.stringify(result));
