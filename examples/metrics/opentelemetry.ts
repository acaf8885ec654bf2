/**
 * The totals of all senders as OpenTelemetry metrics: `rx_sendmmsg.sent` and so on, observed when a reader collects.
 *
 *     observeSenders(metrics.getMeter('rx-sendmmsg'));
 */
import type { BatchObservableCallback, Meter } from '@opentelemetry/api';
import { METRICS, SenderTotals } from './sender-totals.ts';

/** Call it before the first sender is made; the function that comes back undoes it. */
export function observeSenders(meter: Meter): () => void {
  const totals = new SenderTotals();
  const instruments = METRICS.map(({ name, help, unit, isGauge }) => {
    const options = { description: help, unit };
    return isGauge
      ? meter.createObservableUpDownCounter(`rx_sendmmsg.${name}`, options)
      : meter.createObservableCounter(`rx_sendmmsg.${name}`, options);
  });
  const observe: BatchObservableCallback = (result) => {
    for (const [index, metric] of METRICS.entries()) {
      for (const [value, total] of totals.of(metric)) {
        result.observe(instruments[index]!, total, metric.label === undefined ? {} : { [metric.label]: value });
      }
    }
  };
  meter.addBatchObservableCallback(observe, instruments);
  return () => {
    totals.stop();
    meter.removeBatchObservableCallback(observe, instruments);
  };
}
