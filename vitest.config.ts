import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{core,parser,builder,snapshotter,runner,cache,image,cli,fixtures,bench,scripts}/**/*.test.ts'],
    setupFiles: ['fixtures/property-seed.ts'],
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
