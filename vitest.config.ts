import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

/** Where the way of sending matters, and what is expected does not hang on it. */
const ANY_BACKEND = ['operators/doors', 'operators/doors.udp', 'sender/kernel.udp'];
const UNIX = [
  'operators/doors.unix',
  'sender/kernel.unix',
  'sender/broadcast',
  'operators/broadcast',
  'sender/hardening',
  'sender/overflow',
  'sender/rejections',
  'operators/sendmmsg',
  'operators/sendmmsg.marbles',
  'operators/ix',
  'operators/ix.ending',
  'operators/ix.backpressure',
  'operators/streams.node',
  'operators/streams.web',
  'sender/pack',
  'sender/conflate',
  'sender/pressure',
  'socket/reconnect',
  'sender/shutdown',
];

/**
 * What is left where sendmmsg(2) is not to be had (no koffi for the platform, a container that forbids it): what asks no kernel, and
 * what brings along what it sends and receives by. The rest reads with recvmmsg(2) what it sent with sendmmsg(2).
 */
const ANYWHERE = [
  'operators/anywhere',
  'cli/bench.paired',
  'cli/bench.report',
  'cli/bench.workload',
  'cli/frame-source',
  'cli/usage',
  'kernel/clock',
  'queue/conflating-ring',
  'message/datagram-reader',
  'message/datagram-reader.destination',
  'kernel/errno',
  'kernel/errors',
  'sender/flush',
  'sender/flush.errno',
  'sender/flush.model',
  'sender/flush.segmented',
  'cli/framing',
  'package/layering',
  'queue/mmsg-ring',
  'queue/mmsg-ring.model',
  'message/option-names',
  'sender/pace',
  'package/package',
  'package/types',
  'queue/packing-ring',
  'operators/summarize.marbles',
];

/** What sockets are opened on here, and why it is not sendmmsg(2), which is taken for granted as long as nothing is compiled. */
async function look(): Promise<{ readonly backend: string; readonly fallbackReason?: string | undefined }> {
  const compiled = new URL('dist/src/index.js', import.meta.url);
  if (!existsSync(compiled)) return { backend: 'sendmmsg' };
  const { DatagramSocket } = (await import(compiled.href)) as typeof import('./src/index.ts');
  const socket = DatagramSocket.open();
  socket.close();
  return socket;
}

function fileOf(name: string): string {
  return `test/${name}.test.ts`;
}

/** The tests that are run once more, on sockets of another backend. */
function on(backend: string, names: readonly string[]) {
  return {
    extends: true as const,
    test: {
      name: backend,
      include: names.map(fileOf),
      env: { RX_SENDMMSG_BACKEND: backend },
    },
  };
}

const here = await look();
const isNative = here.backend === 'sendmmsg';
if (!isNative) {
  const why = `sendmmsg(2) is not to be had here: ${here.fallbackReason}`;
  if (process.env['CI'] === 'true') throw new Error(`CI must not skip: ${why}`);
  console.warn(`${why}\nSkipped: all tests that need it. What is run is told in vitest.config.ts.`);
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/build.ts'],
    // A process a file: the tests open descriptors, fork receivers and count what stays alive.
    pool: 'forks',
    // Most tests lose datagrams on purpose; `warnings.test.ts` looks at what is told of that.
    execArgv: ['OVERFLOW', 'REJECTED', ...(isNative ? [] : ['FALLBACK'])].map(
      (name) => `--disable-warning=RX_SENDMMSG_${name}`,
    ),
    testTimeout: 30_000,
    hookTimeout: 30_000,
    projects: [
      isNative
        ? { extends: true, test: { name: 'sendmmsg', include: ['test/**/*.test.ts'] } }
        : { extends: true, test: { name: 'anywhere', include: ANYWHERE.map(fileOf) } },
      ...(here.backend === 'node:dgram'
        ? []
        : [on('sendmsg', [...ANY_BACKEND, ...UNIX]), on('node:dgram', ANY_BACKEND)]),
    ],
  },
});
