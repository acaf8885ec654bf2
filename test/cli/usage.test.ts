/** What the `mmsg` command refuses before it opens anything: every option that takes a value, with values that it cannot take. */
import { describe, expect, it } from 'vitest';
import { mmsg } from '../support/mmsg.ts';

const HUGE = '99999999999999999999';
const NUMBERS: readonly [command: string, option: string, values: readonly string[]][] = [
  ['send', '--batch-size', ['0', '-1', '1.5', '1e3', 'x', '', HUGE]],
  ['send', '--flush-after', ['-1', 'soon', HUGE]],
  ['send', '--high-water-mark', ['0', '-1', HUGE]],
  ['send', '--high-water-mark-bytes', ['0', '4k', HUGE]],
  ['send', '--drain-timeout', ['-1', '0x10', HUGE]],
  ['send', '--send-buffer', ['0', '-1', HUGE]],
  ['send', '--rate', ['0', '-1', '1e9', HUGE]],
  ['send', '--pack', ['0', '-1', '65508', HUGE]],
  ['recv', '--count', ['0', '-1', '1e3', HUGE]],
  ['recv', '--idle-timeout', ['0', '-1', HUGE]],
  ['recv', '--recv-buffer', ['0', '-1', HUGE]],
  ['recv', '--batch-size', ['0', '1025', HUGE]],
  ['recv', '--max-size', ['0', '-1', HUGE]],
];

const OTHERS: readonly [args: readonly string[], message: RegExp][] = [
  [['send', 'unix:'], /Expected unix:PATH or unix:@NAME/],
  [['send', 'unix:@'], /Expected unix:PATH or unix:@NAME/],
  [['send', '127.0.0.1:'], /The port must be 1 to 65535/],
  [['send', ':9'], /Expected HOST:PORT/],
  [['send', '127.0.0.1:9', '--bind', '127.0.0.1'], /--bind.*Expected HOST:PORT/],
  [['send', '127.0.0.1:9', '--bind', 'unix:/tmp/x'], /--bind and the target are of different kinds/],
  [['send', 'unix:/tmp/x', '--bind', '127.0.0.1:0'], /--bind and the target are of different kinds/],
  [['send', '127.0.0.1:9', '--bind', '[::1]:0'], /--bind and the target are of IPv4 and of IPv6/],
  [['send', 'unix:/tmp/x', '--broadcast'], /--broadcast is for UDP/],
  [['send', '127.0.0.1:9', '--skip-empty', '--framing', 'fixed:3'], /--skip-empty needs --framing lines/],
  [['send', '127.0.0.1:9', '--framing', `fixed:${HUGE}`], /integer from 1/],
  [['send', '127.0.0.1:9', '--rate'], /'--rate <n>' argument missing/],
  [['recv', 'unix:/tmp/x', '--reuse-port'], /--reuse-port is for UDP/],
  [['recv', '127.0.0.1:0', '--bytes', '--framing', 'lines'], /--bytes cannot be combined with --framing/],
  [['recv', '127.0.0.1:0', '--max-size', '16777216', '--batch-size', '1024'], /must be at most 1 GiB/],
  [['recv', '127.0.0.1:0', 'extra'], /too many arguments/],
  [['bench', 'extra'], /too many arguments/],
  [['bench', '--rounds', '3'], /unknown option '--rounds'/],
  [['demo', '--json'], /unknown option '--json'/],
];

async function expectUsageError(args: readonly string[], message: RegExp): Promise<void> {
  const { code, stdout, stderr } = await mmsg(args);
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect({ code, stdout: stdout.toString() }).toEqual({ code: 2, stdout: '' });
}

describe('a usage error is one line and status 2', () => {
  it.each(NUMBERS)('mmsg %s: %s is none of %j', { timeout: 60_000 }, async (command, name, values) => {
    for (const value of values) {
      await expectUsageError(
        [command, '127.0.0.1:9', `${name}=${value}`],
        new RegExp(`'(-n, )?${name} .*an integer from`),
      );
    }
  });

  it.each(OTHERS)('mmsg %j', expectUsageError);
});
