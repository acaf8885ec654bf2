// npx rollup -c rollup.config.mjs
import { nodeResolve } from '@rollup/plugin-node-resolve';

export default {
  input: 'main.js',
  output: [
    { file: 'out/main.mjs', format: 'es' },
    { file: 'out/main.cjs', format: 'cjs' },
  ],
  external: ['koffi'],
  plugins: [nodeResolve()],
};
