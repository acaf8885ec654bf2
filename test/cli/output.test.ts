/** What becomes of the command when what it prints gets lost. */
import { spawnSync } from 'node:child_process';
import { beforeEach, describe, expect, it } from 'vitest';
import { NATIVE, scratch } from '../support/mmsg.ts';
import { requires } from '../support/requires.ts';

const MMSG = NATIVE.map((word) => `'${word}'`).join(' ');

beforeEach((context) => requires(context, 'bash'));

/** Runs a line of shell, in which `mmsg` is the command. */
function shell(line: string): { status: number | null; stdout: string; stderr: string } {
  const script = `set -o pipefail; mmsg() { ${MMSG} "$@"; }\n${line}`;
  return spawnSync('bash', ['-c', script], { encoding: 'utf8', timeout: 30_000 });
}

describe('mmsg whose standard output is a full disk', () => {
  it.each([
    ['echo x | mmsg send 127.0.0.1:9 --json > /dev/full'],
    ['mmsg recv 127.0.0.1:0 --json --quiet --idle-timeout 50 > /dev/full'],
    ['mmsg bench > /dev/full'],
    ['mmsg demo > /dev/full'],
    ['mmsg --help > /dev/full'],
    ['mmsg send --help > /dev/full'],
    ['mmsg --version > /dev/full'],
  ])('ends with status 1 and says so: %s', (line) => {
    const { status, stderr } = shell(line);
    expect(stderr).toMatch(/^mmsg: standard output: ENOSPC: no space left on device, write\n$/m);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect(status).toBe(1);
  });

  it('recv ends at the first datagram that it cannot print', () => {
    const target = `unix:${scratch('socket')}`;
    const { status, stderr } = shell(
      `mmsg recv ${target} > /dev/full & receiver=$!; echo x | mmsg send --wait ${target} -q; wait $receiver`,
    );
    expect(stderr).toContain('mmsg: standard output: ENOSPC');
    expect(status).toBe(1);
  });

  it('keeps a status that tells more', () => {
    const { status } = shell('mmsg send > /dev/full');
    expect(status).toBe(2);
  });
});

describe('mmsg whose reader has gone', () => {
  it.each([
    ['echo x | mmsg send 127.0.0.1:9 --json | true'],
    ['mmsg demo | head -n 1 > /dev/null'],
    ['mmsg --help | true'],
  ])('ends quietly: %s', (line) => {
    expect(shell(line)).toMatchObject({ status: 0, stderr: expect.not.stringMatching(/EPIPE|\n {4}at /) });
  });

  it('goes on where only standard error is lost', () => {
    const { status, stdout } = shell('echo x | mmsg send 127.0.0.1:9 --json 2> /dev/full');
    expect([status, JSON.parse(stdout)]).toMatchObject([0, { sent: 1 }]);
    expect(shell('echo x | mmsg send 127.0.0.1:9 2> /dev/full').status).toBe(0);
  });
});
