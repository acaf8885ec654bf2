import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/build.ts'],
    // A process a file: the tests open descriptors, fork receivers and count what stays alive.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
