/** `BatchSender`, with each option that changes what becomes of a datagram. */
import { DatagramSocket } from '../../src/index.ts';
import { bytesOf, type Channel, channel, KEYS, keyOf, partsOf, roomyBuffer, textOf } from './channel.ts';
import { type Bench, open, sendEagerly, senderOf, sendSteadily, type Workload } from './workload.ts';

type Run = (bench: Bench, name: string, socket: DatagramSocket) => Promise<void>;

/** A workload with one socket, connected to its only channel. */
function connected(name: string, to: Channel, run: Run, other: Partial<Workload> = {}): Workload {
  return {
    name,
    channels: [to],
    async run(bench) {
      const socket = open(bench.addressOf(to));
      try {
        await run(bench, name, socket);
      } finally {
        socket.close();
      }
    },
    ...other,
  };
}

const strings = connected('strings', channel('strings', 'exact', 'text'), async (bench, name, socket) => {
  const sender = senderOf(bench, name, socket, { batchSize: 128, highWaterMark: 1024 });
  await sendEagerly(bench, sender, (n) => textOf(0, n));
  await sender.close();
});

const ofAnySize = channel('sizes', 'exact', 'any size');
const sizes = connected('buffers, 0 to 60000 bytes', ofAnySize, async (bench, name, socket) => {
  const sender = senderOf(bench, name, socket, { highWaterMarkBytes: 1 << 20, flushAfterMs: 2 });
  const buffer = roomyBuffer(); // used again for each: it is copied when it is accepted
  await sendEagerly(bench, sender, (n) => bytesOf(ofAnySize, 0, n, buffer));
  await sender.close();
});

const lists = connected('gathered lists', channel('lists', 'exact', 'text'), async (bench, name, socket) => {
  const sender = senderOf(bench, name, socket, { highWaterMark: 300 });
  await sendEagerly(bench, sender, (n) => partsOf(0, n));
  await sender.close();
});

const pack = connected('pack', channel('pack', 'lines', 'text'), async (bench, name, socket) => {
  const sender = senderOf(bench, name, socket, { pack: { maxBytes: 1432 }, highWaterMark: 200 });
  await sendEagerly(bench, sender, (n) => textOf(0, n));
  await sender.close();
});

const states = channel('conflateBy', 'latest', 'text');
const conflate = connected('conflateBy', states, async (bench, name, socket) => {
  const sender = senderOf(bench, name, socket, {
    conflateBy: (datagram) => keyOf(Number(/\.(\d+)\|/.exec(datagram as string)![1])),
  });
  const last = Array.from({ length: KEYS }, () => -1);
  await sendSteadily(bench, sender, { everyMs: 5, count: 30 }, (n) => {
    last[keyOf(n)] = n;
    return textOf(0, n);
  });
  await sender.close();
  bench.expectLatest(states, last);
});

const pooled = channel('offload', 'exact', 'any size');
const offload = connected('offload', pooled, async (bench, name, socket) => {
  const sender = senderOf(bench, name, socket, { offload: true, highWaterMark: 500 });
  const buffer = roomyBuffer();
  await sendEagerly(bench, sender, (n) => bytesOf(pooled, 0, n, buffer));
  await sender.close();
});

const destinations = [0, 1, 2, 3, 4, 5].map((index) => channel(`lanes ${index}`, 'exact', 'text'));
const lanes: Workload = {
  name: 'offload, 3 lanes',
  channels: destinations,
  async run(bench) {
    const socket = DatagramSocket.open({ type: 'unix' });
    const sender = senderOf(bench, this.name, socket, { offload: true, lanes: 3, highWaterMark: 600 });
    const paths = destinations.map((each) => bench.addressOf(each) as string);
    const next = paths.map(() => 0);
    await sendEagerly(bench, sender, () => {
      const to = bench.dice.between(0, paths.length - 1);
      return { payload: textOf(0, next[to]!++), path: paths[to]! };
    });
    await sender.close();
    socket.close();
  },
};

const STEADILY = { everyMs: 5, count: 30 };

const age = connected(
  'maxAgeMs',
  channel('maxAgeMs', 'increasing', 'text'),
  async (bench, name, socket) => {
    const sender = senderOf(bench, name, socket, { maxAgeMs: 40, warn: false });
    await sendSteadily(bench, sender, STEADILY, (n) => textOf(0, n));
    await sender.close();
  },
  { mayDrop: ['age', 'overflow'] },
);

const oldest = connected(
  'drop-oldest',
  channel('drop-oldest', 'increasing', 'text'),
  async (bench, name, socket) => {
    const sender = senderOf(bench, name, socket, { highWaterMark: 64, warn: false });
    await sendSteadily(bench, sender, STEADILY, (n) => textOf(0, n));
    await sender.close();
  },
  { mayDrop: ['overflow'] },
);

const newest = connected(
  'drop-newest, offload',
  channel('drop-newest', 'increasing', 'text'),
  async (bench, name, socket) => {
    const options = { highWaterMark: 100, overflow: 'drop-newest', offload: true, warn: false } as const;
    const sender = senderOf(bench, name, socket, options);
    await sendSteadily(bench, sender, STEADILY, (n) => textOf(0, n));
    await sender.close();
  },
  { mayDrop: ['overflow'] },
);

/** One bad datagram in so many, of two kinds. */
const BAD_EVERY = 25;
/** More than the send buffer of a unix socket. */
const TOO_LARGE = Buffer.alloc(300_000);
const bad = connected(
  'bad datagrams between good ones',
  channel('bad', 'increasing', 'text'),
  async (bench, name, socket) => {
    let rejected = 0;
    const sender = senderOf(bench, name, socket, { warn: false }, (report) => {
      for (const { sequence, error } of report.rejected) {
        rejected++;
        const code = badCode(sequence);
        if (error.code !== code) bench.fail(`${name}: ${sequence} was rejected with ${error.code} and not ${code}`);
      }
    });
    const emitted = await sendEagerly(bench, sender, (n) => {
      const code = badCode(n);
      if (code === undefined) return textOf(0, n);
      return code === 'EMSGSIZE' ? TOO_LARGE : (n as never);
    });
    await sender.close();
    const expected = Math.floor(emitted / BAD_EVERY);
    if (rejected !== expected) bench.fail(`${name}: ${rejected} rejected and not ${expected}`);
  },
  { mayReject: ['EMSGSIZE', 'ERR_INVALID_ARG_TYPE'] },
);

function badCode(sequence: number): string | undefined {
  if (sequence % BAD_EVERY !== BAD_EVERY - 1) return undefined;
  return sequence % 1000 === 999 ? 'EMSGSIZE' : 'ERR_INVALID_ARG_TYPE';
}

const GONE = ['ECONNREFUSED', 'ENOENT'];
const FEW = { everyMs: 5, count: 8 };

const restarted = connected(
  'a reader that is restarted',
  // Not by shutdown: on a connected socket EPIPE is the end of the stream.
  channel('restarted', 'increasing', 'text', { leaves: 'by connecting' }),
  async (bench, name, socket) => {
    const sender = senderOf(bench, name, socket, { warn: false });
    await sendSteadily(bench, sender, FEW, (n) => textOf(0, n));
    await sender.close();
  },
  { mayReject: ['EPERM', ...GONE], mayDrop: ['overflow'] },
);

const restartedPath = channel('restarted, by path', 'increasing', 'text', { leaves: 'by shutdown' });
const unconnected: Workload = {
  name: 'the same, unconnected',
  channels: [restartedPath],
  mayReject: ['EPIPE', ...GONE],
  mayDrop: ['overflow'],
  async run(bench) {
    const socket = DatagramSocket.open({ type: 'unix' });
    const path = bench.addressOf(restartedPath) as string;
    const sender = senderOf(bench, this.name, socket, { warn: false });
    await sendSteadily(bench, sender, FEW, (n) => ({ payload: textOf(0, n), path }));
    await sender.close();
    socket.close();
  },
};

const segmented = channel('gso', 'increasing', 'equal', { type: 'udp', stalls: false });
const gso = connected('udp, gso', segmented, async (bench, name, socket) => {
  const pace = { datagramsPerSecond: 5000, burst: 200 };
  const sender = senderOf(bench, name, socket, { pace, flushAfterMs: 10, batchSize: 500, highWaterMark: 1000 });
  const buffer = roomyBuffer();
  await sendEagerly(bench, sender, (n) => bytesOf(segmented, 0, n, buffer));
  await sender.close();
});

export const SENDERS: readonly Workload[] = [
  strings,
  sizes,
  lists,
  pack,
  conflate,
  offload,
  lanes,
  age,
  oldest,
  newest,
  bad,
  restarted,
  unconnected,
  gso,
];
