import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/build.ts'],
    // A process a file: the tests open descriptors, fork receivers and count what stays alive.
    pool: 'forks',
    // Most tests lose datagrams on purpose; `warnings.test.ts` looks at what is told of that.
    execArgv: ['RX_SENDMMSG_OVERFLOW', 'RX_SENDMMSG_REJECTED'].map((code) => `--disable-warning=${code}`),
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
