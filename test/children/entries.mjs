// Sends five datagrams through an entry of the package; or one, and leaves it open.
// argv: entry, path of a unix receiver, then packages that cannot be had, or 'idle'.
import module from 'node:module';

const [entry, path, ...missing] = process.argv.slice(2);
const isIdle = missing[0] === 'idle';
function resolve(specifier, context, next) {
  if (missing.includes(specifier.split('/')[0])) throw new Error(`Not to be had: ${specifier}`);
  return next(specifier, context);
}
// Node.js 20 has only the second, of which Node.js 26 warns.
if (module.registerHooks) module.registerHooks({ resolve });
else {
  const hooks = `const missing = ${JSON.stringify(missing)}; export ${resolve}`;
  module.register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}
for (const name of isIdle ? [] : missing) {
  const found = await import(name === 'ix' ? 'ix/asynciterable' : name).catch(() => null);
  if (found !== null) throw new Error(`${name} can be had`);
}

const library = await import(entry);
const socket = () => library.DatagramSocket.open({ type: 'unix', connect: { path } });
const datagrams = Array.from({ length: 5 }, (_, index) =>
  `${index}:`.padEnd(12, String.fromCharCode(97 + (index % 26))),
);
const never = new Promise(() => {});
async function* source() {
  if (!isIdle) return yield* datagrams;
  yield datagrams[0];
  await never;
}
const sent = [];
const onReport = (report) => sent.push(report.sent);
const long = { drainTimeoutMs: 600_000 };

const entries = {
  async 'rx-sendmmsg'() {
    const { from } = await import('rxjs');
    await from(source()).pipe(library.sendmmsg(socket, long)).forEach(onReport);
  },
  async 'rx-sendmmsg/ix'() {
    for await (const report of library.sendmmsg(socket, long)(source())) onReport(report);
  },
  async 'rx-sendmmsg/streams'() {
    const { pipeline } = await import('node:stream/promises');
    await pipeline(source, library.createDatagramWritable(socket, { ...long, onReport }));
  },
};
const done = entries[entry]();
if (!isIdle) {
  await done;
  console.log(JSON.stringify({ sent, missing }));
}
