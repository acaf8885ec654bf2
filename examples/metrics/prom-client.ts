/**
 * The totals of all senders as Prometheus metrics, through prom-client: `rx_sendmmsg_sent_total` and so on.
 *
 *     collectSenders(register);
 *     createServer(async (_request, response) => response.end(await register.metrics())).listen(9464);
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import { METRICS, SenderTotals } from './sender-totals.ts';

/** Call it before the first sender is made; the function that comes back undoes it. */
export function collectSenders(registry: Registry): () => void {
  const totals = new SenderTotals();
  const names = METRICS.map((metric) => {
    const { label, isGauge } = metric;
    // `_bucket` is the name that histogram_quantile() knows.
    const name = `rx_sendmmsg_${metric.name}${isGauge || metric.name.endsWith('_bucket') ? '' : '_total'}`;
    const collect = (): void => {
      instrument.reset();
      for (const [value, total] of totals.of(metric))
        instrument.inc(label === undefined ? {} : { [label]: value }, total);
    };
    const labelNames = label === undefined ? [] : [label];
    const configuration = { name, help: metric.help, labelNames, registers: [registry], collect };
    const instrument = isGauge ? new Gauge(configuration) : new Counter(configuration);
    return name;
  });
  return () => {
    totals.stop();
    for (const name of names) registry.removeSingleMetric(name);
  };
}
