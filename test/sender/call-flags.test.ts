/** `dontRoute` and `confirm`: what the kernel is given with each call, as strace sees it. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { send } from '../support/child.ts';
import { numbersOf, range } from '../support/datagrams.ts';
import { MODES } from '../support/modes.ts';
import { freshPath } from '../support/receiver.ts';
import { requires } from '../support/requires.ts';

describe.each(MODES)('$name', ({ options }) => {
  it.for([
    [{}, ['MSG_DONTWAIT', 'MSG_NOSIGNAL']],
    [{ dontRoute: false, confirm: true }, ['MSG_CONFIRM', 'MSG_DONTWAIT', 'MSG_NOSIGNAL']],
    [{ dontRoute: true, confirm: true }, ['MSG_CONFIRM', 'MSG_DONTROUTE', 'MSG_DONTWAIT', 'MSG_NOSIGNAL']],
  ] as const)('%o: each call has %o', async ([flags, expected], context) => {
    requires(context, 'strace');
    const log = freshPath();
    const plan = {
      count: 40,
      options: { batchSize: 16, ...options, ...flags },
      receive: { type: 'udp4', address: '127.0.0.1' },
    } as const;
    const { received } = await send(plan, ['strace', '-f', '-qq', '-o', log, '-e', 'trace=sendmmsg']);
    expect(numbersOf(received)).toEqual(range(40));
    // The first call has no descriptor: it asks whether there is a sendmmsg.
    const calls = readFileSync(log, 'utf8').matchAll(/sendmmsg\((?!-1).*?, (MSG_[A-Z_|]+)/g);
    const seen = Array.from(calls, ([, names]) => names!.split('|').sort());
    expect(seen.length).toBeGreaterThan(0);
    expect(seen).toEqual(seen.map(() => [...expected]));
  });
});
