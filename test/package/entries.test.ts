/** The package by its name, compiled, as a user imports it. */
import { describe, expect, it } from 'vitest';
import { childScript, run } from '../support/child.ts';
import { numberedList } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();

describe.each([
  ['rx-sendmmsg', ['ix']],
  ['rx-sendmmsg/ix', ['rxjs']],
  ['rx-sendmmsg/streams', ['rxjs', 'ix']],
])('%s, where %j cannot be had', (entry, missing) => {
  it('sends, and the process ends by itself', async () => {
    const receiver = keep(Receiver.unix());
    const command = [process.execPath, childScript('entries.mjs'), entry, receiver.path, ...missing];
    const { code, stderr, stdout } = await run(command);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(receiver.drain().map(String)).toEqual(numberedList(5));
    expect(JSON.parse(stdout)).toEqual({ sent: [5], missing });
  });

  it('left in the middle of it, with nothing queued, does not keep the process alive', async () => {
    const receiver = keep(Receiver.unix());
    const { code, stderr } = await run([process.execPath, childScript('entries.mjs'), entry, receiver.path, 'idle']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(receiver.drain()).toHaveLength(1);
  });
});
