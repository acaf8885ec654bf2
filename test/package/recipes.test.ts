/** The recipes of docs/observability.md, run against real senders. */
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import { Registry } from 'prom-client';
import { from, lastValueFrom } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { observeSenders } from '../../examples/metrics/opentelemetry.ts';
import { collectSenders } from '../../examples/metrics/prom-client.ts';
import { sendmmsg } from '../../operators/rxjs/sendmmsg.ts';
import { BatchSender } from '../../src/sender/batch-sender.ts';
import type { SenderStats } from '../../src/sender/diagnostics.ts';
import { numberedList } from '../support/datagrams.ts';
import { keeper } from '../support/keep.ts';
import { Receiver } from '../support/receiver.ts';

const keep = keeper();

class ManualReader extends MetricReader {
  protected async onForceFlush(): Promise<void> {}
  protected async onShutdown(): Promise<void> {}
}

/** A way to set up a recipe; what comes back reads every sample, as `name{label=value}`, and stops. */
interface Recipe {
  readonly name: string;
  start(): { read(): Promise<Record<string, number>>; stop(): void };
}

const RECIPES: readonly Recipe[] = [
  {
    name: 'prom-client',
    start() {
      const registry = new Registry();
      const stop = collectSenders(registry);
      const read = async (): Promise<Record<string, number>> => {
        const lines = (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
        return Object.fromEntries(
          lines.map((line) => {
            const [, name, value] = /^(\S+) (\S+)$/.exec(line)!;
            return [name!.replaceAll('"', '').replace(/^rx_sendmmsg_(\w+?)(_total)?(?=\{|$)/, '$1'), Number(value)];
          }),
        );
      };
      return { read, stop };
    },
  },
  {
    name: 'OpenTelemetry',
    start() {
      const reader = new ManualReader();
      const provider = new MeterProvider({ readers: [reader] });
      const stop = observeSenders(provider.getMeter('rx-sendmmsg'));
      const read = async (): Promise<Record<string, number>> => {
        const { resourceMetrics, errors } = await reader.collect();
        expect(errors).toEqual([]);
        const samples = resourceMetrics.scopeMetrics.flatMap(({ metrics }) =>
          metrics.flatMap(({ descriptor, dataPoints }) =>
            dataPoints.map(({ attributes, value }) => {
              const labels = Object.entries(attributes).map(([label, of]) => `${label}=${of}`);
              const name = descriptor.name.replace('rx_sendmmsg.', '');
              return [labels.length === 0 ? name : `${name}{${labels}}`, value as number] as const;
            }),
          ),
        );
        return Object.fromEntries(samples);
      };
      return { read, stop };
    },
  },
];

describe.each(RECIPES)('the recipe for $name', ({ start }) => {
  let recipe: ReturnType<Recipe['start']>;
  afterEach(() => recipe.stop());

  /** A subscription that has ended: 70 datagrams of 12 bytes, sent by 64 and 6, and one that was refused. */
  async function sendSome(): Promise<void> {
    const { sender: socket, receiver } = Receiver.pair(1 << 20);
    keep(receiver);
    const source = from([...numberedList(70), 7 as unknown as string]);
    await lastValueFrom(source.pipe(sendmmsg(keep(socket), { batchSize: 64 })));
  }

  /** A sender that is blocked, and has dropped most of what it got. */
  function block(): BatchSender {
    const receiver = keep(Receiver.unix());
    const sender = new BatchSender(keep(receiver.connected()), { highWaterMark: 100, batchSize: 100 });
    for (const text of numberedList(2000)) sender.send(text);
    return sender;
  }

  it('tells the totals of what has ended', async () => {
    recipe = start();
    await sendSome();
    expect(await recipe.read()).toMatchObject({
      sent: 70,
      sent_bytes: 840,
      syscalls: 2,
      queued: 0,
      'rejected{code=ERR_INVALID_ARG_TYPE}': 1,
      'dropped{reason=overflow}': 0,
      'batch_size_bucket{le=1}': 0,
      'batch_size_bucket{le=8}': 1,
      'batch_size_bucket{le=32}': 1,
      'batch_size_bucket{le=64}': 2,
      'batch_size_bucket{le=1024}': 2,
      'batch_size_bucket{le=+Inf}': 2,
    });
  });

  it('adds up over open and ended senders, those that are blocked and tell nothing included; counters never fall', async () => {
    recipe = start();
    await sendSome();
    const sender = block();
    const expected = ({ sent, queued, droppedBy }: SenderStats): object => ({
      sent: 70 + sent,
      queued,
      'dropped{reason=overflow}': droppedBy.overflow,
      'dropped{reason=teardown}': droppedBy.teardown,
    });
    expect(sender.stats).toMatchObject({ queued: 100 });
    expect(await recipe.read()).toMatchObject(expected(sender.stats));
    const blocked = (await recipe.read())['blocked_seconds']!;
    expect((await recipe.read())['blocked_seconds']).toBeGreaterThan(blocked);
    sender.destroy();
    expect(sender.stats).toMatchObject({ queued: 0, droppedBy: { teardown: 100 } });
    const last = await recipe.read();
    expect(last).toMatchObject(expected(sender.stats));
    expect(last['blocked_seconds']).toBeCloseTo(sender.stats.blockedMs / 1000, 6);
    expect(last['blocked_seconds']).toBeGreaterThan(blocked);
  });

  it('once stopped, hears of no new sender', async () => {
    recipe = start();
    recipe.stop();
    await sendSome();
    expect((await recipe.read())['sent'] ?? 0).toBe(0);
  });
});
