import { defineConfig } from 'vitest/config';

/** Where the way of sending matters, and what is expected does not hang on it. */
const ANY_BACKEND = ['doors', 'doors.udp', 'kernel.udp'];
const UNIX = [
  'doors.unix',
  'kernel.unix',
  'broadcast',
  'broadcast.operator',
  'batch-sender.hardening',
  'batch-sender.overflow',
  'batch-sender.rejections',
  'sendmmsg.operator',
  'sendmmsg.marbles',
  'ix.operator',
  'ix.ending',
  'ix.backpressure',
  'streams.node',
  'streams.web',
  'pack',
  'conflate',
  'pressure',
  'reconnect',
  'shutdown',
];

/** The tests that are run once more, on sockets of another backend. */
function on(backend: string, names: readonly string[]) {
  return {
    extends: true as const,
    test: {
      name: backend,
      include: names.map((name) => `test/${name}.test.ts`),
      env: { RX_SENDMMSG_BACKEND: backend },
    },
  };
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/build.ts'],
    // A process a file: the tests open descriptors, fork receivers and count what stays alive.
    pool: 'forks',
    // Most tests lose datagrams on purpose; `warnings.test.ts` looks at what is told of that.
    execArgv: ['RX_SENDMMSG_OVERFLOW', 'RX_SENDMMSG_REJECTED'].map((code) => `--disable-warning=${code}`),
    testTimeout: 30_000,
    hookTimeout: 30_000,
    projects: [
      { extends: true, test: { name: 'sendmmsg', include: ['test/**/*.test.ts'] } },
      on('sendmsg', [...ANY_BACKEND, ...UNIX]),
      on('node:dgram', ANY_BACKEND),
    ],
  },
});
