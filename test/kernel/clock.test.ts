/** What the event loop waits for, and whether that keeps the process alive. */
import { getActiveResourcesInfo } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import { eventLoopClockOf, KeepAlive } from '../../src/kernel/clock.ts';

/** Timers that keep this process alive. */
const alive = (): number => getActiveResourcesInfo().filter((what) => what === 'Timeout').length;

it('a timer keeps the process alive as its waits do, armed before or after they were told', () => {
  const waits = new KeepAlive();
  const clock = eventLoopClockOf(waits);
  const before = alive();
  const disarm = [clock.after(60_000, () => {})];
  expect(alive()).toBe(before + 1);
  waits.unref();
  waits.unref();
  expect(alive()).toBe(before);
  disarm.push(clock.after(60_000, () => {}));
  expect(alive()).toBe(before);
  waits.ref();
  expect(alive()).toBe(before + 2);
  for (const each of disarm) each();
  expect(alive()).toBe(before);
});

it('a timer that has fired, or was disarmed, is no wait any more', async () => {
  const waits = new KeepAlive();
  const clock = eventLoopClockOf(waits);
  const add = vi.spyOn(waits, 'add');
  const fired = vi.fn();
  clock.after(1, fired);
  clock.after(1, fired)();
  await expect.poll(() => fired.mock.calls.length).toBe(1);
  await sleep(5);
  expect(fired).toHaveBeenCalledTimes(1);
  for (const [wait] of add.mock.calls) {
    const ref = vi.spyOn(wait, 'ref');
    waits.ref();
    expect(ref).not.toHaveBeenCalled();
  }
});

it('the end of this turn comes, whether or not the process is kept alive', async () => {
  const waits = new KeepAlive();
  const clock = eventLoopClockOf(waits);
  waits.unref();
  const before = getActiveResourcesInfo().filter((what) => what === 'Immediate').length;
  const disarmed = vi.fn();
  clock.after(0, disarmed)();
  await new Promise<void>((resolve) => {
    clock.after(0, resolve);
    expect(getActiveResourcesInfo().filter((what) => what === 'Immediate')).toHaveLength(before + 1);
  });
  expect(disarmed).not.toHaveBeenCalled();
});
