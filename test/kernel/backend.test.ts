/** Which backend a socket gets, why, and who is told: by what the machine has, the environment, and the options. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { DatagramSocket } from '../../src/socket/datagram-socket.ts';
import type { SocketOptions } from '../../src/socket/socket-options.ts';
import { withBackend } from '../support/backend.ts';
import { childScript, run } from '../support/child.ts';
import { keeper } from '../support/keep.ts';
import { openDescriptors, refusal } from '../support/lower.ts';
import { filtered } from '../support/seccomp.ts';

const keep = keeper();
const LOCAL = { address: '127.0.0.1' };
const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
afterEach(() => emitWarning.mockClear());

const open = (value: string | undefined, options: SocketOptions = {}): DatagramSocket =>
  withBackend(value, () => keep(DatagramSocket.open(options)));

describe('RX_SENDMMSG_BACKEND', () => {
  it.each([
    [undefined, 'sendmmsg'],
    ['', 'sendmmsg'],
    ['sendmmsg', 'sendmmsg'],
    ['sendmsg', 'sendmsg'],
    ['dgram', 'node:dgram'],
    ['node:dgram', 'node:dgram'],
  ])('%s: the backend is %s, which tells why, and nobody is warned', (value, backend) => {
    const socket = open(value);
    expect(socket.backend).toBe(backend);
    const reason = `RX_SENDMMSG_BACKEND=${value} is set in the environment`;
    expect(socket.fallbackReason).toBe(backend === 'sendmmsg' ? undefined : reason);
    socket.close();
    expect(socket.backend).toBe(backend);
    expect(emitWarning).not.toHaveBeenCalled();
  });

  it.each(['native', 'DGRAM', 'toString', ' '])('%j is ERR_INVALID_ARG_VALUE, naming the variable', (value) => {
    for (const attempt of [() => open(value), () => withBackend(value, () => DatagramSocket.fromFd(0))]) {
      expect(refusal(attempt)).toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
        message: `The environment variable RX_SENDMMSG_BACKEND must be 'sendmmsg', 'sendmsg' or 'dgram', or not be set. Received string ('${value}')`,
      });
    }
  });

  it('sendmsg: fromFd has it, too', () => {
    const { fd } = DatagramSocket.nativeOf(open(undefined));
    const socket = withBackend('sendmsg', () => keep(DatagramSocket.fromFd(fd)));
    expect([socket.backend, socket.fallbackReason]).toEqual([
      'sendmsg',
      expect.stringContaining('RX_SENDMMSG_BACKEND'),
    ]);
  });

  it('dgram: what it cannot do is refused with the reason', () => {
    for (const attempt of [
      () => open('dgram', { type: 'unix' }),
      () => withBackend('dgram', () => DatagramSocket.fromFd(0)),
    ]) {
      const { code, message } = refusal(attempt);
      expect([code, message]).toEqual([
        'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM',
        expect.stringMatching(/not available here: RX_SENDMMSG_BACKEND=dgram/),
      ]);
    }
  });
});

describe('native', () => {
  it.each([undefined, 'sendmsg'])("'required' is content with native calls, RX_SENDMMSG_BACKEND=%s", (value) => {
    expect(open(value, { native: 'required' }).closed).toBe(false);
    expect(open(value, { native: 'auto' }).closed).toBe(false);
  });

  it("'required' throws instead of node:dgram, with the reason, and opens nothing", () => {
    const before = openDescriptors();
    expect(refusal(() => open('dgram', { native: 'required', bind: LOCAL }))).toMatchObject({
      code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM',
      message:
        '"options.native": \'required\' is not available here: RX_SENDMMSG_BACKEND=dgram is set in the environment',
    });
    expect(openDescriptors()).toBe(before);
    expect(open('dgram', { native: 'auto' }).backend).toBe('node:dgram');
  });

  it.each([true, 'yes', null, 'Required'])('%j is ERR_INVALID_ARG_VALUE', (native) => {
    const { code, message } = refusal(() => open(undefined, { native: native as never }));
    expect(code).toBe('ERR_INVALID_ARG_VALUE');
    expect(message).toMatch(/"options\.native" must be 'auto' or 'required'/);
  });
});

interface Opened {
  readonly backend?: string;
  readonly fallbackReason?: string;
  readonly code?: string;
  readonly message?: string;
}
interface Told extends Opened {
  readonly again: Opened;
  readonly fromFd: Opened;
  readonly warnings: readonly { name: string; code: string; message: string; detail: string }[];
}
type ToldByChild = Told & { readonly inWorker: Told };

async function told(command: readonly string[]): Promise<ToldByChild> {
  const { code, signal, stdout, stderr } = await withBackend(undefined, () => run(command));
  expect({ code, signal, stderr }).toMatchObject({ code: 0, signal: null });
  return JSON.parse(stdout) as ToldByChild;
}

/** One warning in each thread, whatever is opened there. */
function expectOneWarning(told: ToldByChild, backend: string, reason: string | RegExp, remedy: RegExp): void {
  for (const thread of [told, told.inWorker]) {
    expect(thread.backend).toBe(backend);
    expect(thread.fallbackReason).toMatch(reason);
    expect(thread.again).toEqual({ backend, fallbackReason: thread.fallbackReason });
    expect(thread.warnings).toEqual([
      {
        name: 'RxSendmmsgWarning',
        code: 'RX_SENDMMSG_FALLBACK',
        message: `Datagrams are sent through ${backend}, not sendmmsg(2): ${thread.fallbackReason}`,
        detail: expect.stringMatching(remedy),
      },
    ]);
  }
}

describe('a filter answers sendmmsg(2) with', () => {
  it.for(['ENOSYS', 'EPERM', 'EACCES', 'EOPNOTSUPP'] as const)(
    '%s: sendmsg, and one warning a thread',
    async (errno, context) => {
      const result = await told([...filtered(context, errno), process.execPath, childScript('backend.mjs')]);
      expectOneWarning(
        result,
        'sendmsg',
        `sendmmsg(2) is answered with ${errno}`,
        /seccomp .*RX_SENDMMSG_BACKEND=sendmsg/,
      );
    },
  );

  it.for(['EFAULT', 'EINVAL', 'EBADF'] as const)(
    '%s where there is no such descriptor, as emulators do: there is a sendmmsg(2)',
    async (errno, context) => {
      const prefix = filtered(context, errno, 'probe');
      const result = await told([...prefix, process.execPath, childScript('backend.mjs')]);
      expect(result).toMatchObject({
        backend: 'sendmmsg',
        warnings: [],
        inWorker: { backend: 'sendmmsg', warnings: [] },
      });
    },
  );

  it("'required' takes sendmsg(2) for native", async (context) => {
    const script = [process.execPath, childScript('backend.mjs'), '{"native":"required"}'];
    const { backend } = await told([...filtered(context, 'EPERM'), ...script]);
    expect(backend).toBe('sendmsg');
  });

  it('anything, and RX_SENDMMSG_BACKEND=sendmsg has been asked for: nobody is warned, and it is not tried', async (context) => {
    const script = [process.execPath, childScript('backend.mjs')];
    const result = await told([...filtered(context, 'EPERM'), 'env', 'RX_SENDMMSG_BACKEND=sendmsg', ...script]);
    expect(result).toMatchObject({ backend: 'sendmsg', warnings: [], inWorker: { warnings: [] } });
  });
});

describe('without the native package', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'rx-sendmmsg-backend-'));
  const script = join(folder, 'backend.mjs');
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  beforeAll(() => {
    const installed = join(folder, 'node_modules', 'rx-sendmmsg');
    mkdirSync(installed, { recursive: true });
    cpSync(join(root, 'package.json'), join(installed, 'package.json'));
    cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true });
    symlinkSync(join(root, 'node_modules', 'rxjs'), join(folder, 'node_modules', 'rxjs'));
    cpSync(childScript('backend.mjs'), script);
  });

  it('node:dgram, and one warning a thread that says what to do', async () => {
    const result = await told([process.execPath, script]);
    const reason = /^koffi was not found from .*\. Install it/;
    expectOneWarning(result, 'node:dgram', reason, /^A bundle leaves koffi out.*RX_SENDMMSG_BACKEND=dgram/);
    expect(result.fromFd.code).toBe('ERR_FEATURE_UNAVAILABLE_ON_PLATFORM');
  });

  it('node --no-addons: the same', async () => {
    const result = await told([process.execPath, '--no-addons', childScript('backend.mjs')]);
    expectOneWarning(
      result,
      'node:dgram',
      /^koffi .* cannot be loaded: .*\. Allow native addons/,
      /RX_SENDMMSG_BACKEND=dgram/,
    );
  });

  it.each(['dgram', 'node:dgram'])('RX_SENDMMSG_BACKEND=%s has been asked for: nobody is warned', async (value) => {
    const result = await told(['env', `RX_SENDMMSG_BACKEND=${value}`, process.execPath, script]);
    expect(result).toMatchObject({ backend: 'node:dgram', warnings: [], inWorker: { warnings: [] } });
  });

  it("'required' throws, with the reason", async () => {
    const { code, message } = await told([process.execPath, script, '{"native":"required"}']);
    expect(code).toBe('ERR_FEATURE_UNAVAILABLE_ON_PLATFORM');
    expect(message).toContain('koffi was not found from');
  });
});

describe('elsewhere', () => {
  const { platform, arch } = process;
  const pretend = async (of: { platform?: string; arch?: string }): Promise<DatagramSocket> => {
    for (const [name, value] of Object.entries(of)) Object.defineProperty(process, name, { value });
    vi.resetModules();
    const { DatagramSocket: Fresh } = await import('../../src/socket/datagram-socket.ts');
    return keep(withBackend(undefined, () => Fresh.open({ bind: LOCAL })));
  };
  beforeEach(() => emitWarning.mockClear());
  afterEach(() => {
    Object.defineProperty(process, 'platform', { value: platform });
    Object.defineProperty(process, 'arch', { value: arch });
  });

  it.each(['darwin', 'win32', 'freebsd'])('%s: node:dgram, and nobody is warned', async (name) => {
    const { backend, fallbackReason } = await pretend({ platform: name });
    expect([backend, fallbackReason]).toEqual(['node:dgram', `there is no sendmmsg(2) on ${name}`]);
    expect(emitWarning).not.toHaveBeenCalled();
  });

  it.each([
    ['arm', false],
    ['ia32', false],
    ['s390x', true],
  ])('Linux on %s: node:dgram, warned of where addresses are 64 bits wide: %s', async (name, isWarned) => {
    const { backend, fallbackReason } = await pretend({ arch: name });
    expect([backend, fallbackReason]).toEqual(['node:dgram', expect.stringContaining(`not on ${name}`)]);
    expect(emitWarning).toHaveBeenCalledTimes(isWarned ? 1 : 0);
  });
});
