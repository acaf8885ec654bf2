// npx webpack
import { resolve } from 'node:path';

const path = resolve('out');
const shared = {
  mode: 'production',
  target: 'node20',
  entry: './main.js',
  externals: { koffi: 'node-commonjs koffi' },
};

export default [
  {
    ...shared,
    output: { path, filename: 'main.mjs', module: true },
    experiments: { outputModule: true },
    // import.meta.url is then where the output is, and not where the source was.
    module: { parser: { javascript: { importMeta: false } } },
  },
  { ...shared, output: { path, filename: 'main.cjs' } },
];
