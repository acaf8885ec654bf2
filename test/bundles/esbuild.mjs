// node esbuild.mjs
import { build } from 'esbuild';

const shared = {
  entryPoints: ['main.js'],
  bundle: true,
  platform: 'node',
  target: 'node20',
  external: ['koffi'],
};
await build({ ...shared, format: 'esm', outfile: 'out/main.mjs' });
await build({ ...shared, format: 'cjs', outfile: 'out/main.cjs' });
