/**
 * A telemetry stream as a busy service would have it: several live sources, merged, as statsd lines.
 */
import { freemem, loadavg } from 'node:os';
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { finalize, interval, map, merge, mergeMap, type Observable, range, timer } from 'rxjs';

/** How often the fast source wakes; each time it emits all that has become due since. */
const TICK_MS = 2;
/** Most that a late tick catches up on at once: after a stall, a burst would only overrun a receiver. */
const MOST_A_TICK = 512;

const ROUTES = ['/', '/login', '/api/users', '/api/orders', '/api/search', '/static/app.js'] as const;
const STATUSES = [200, 200, 200, 200, 204, 301, 404, 500] as const;

/** All sources; it never completes. `requestsPerSecond` is the pace of the made-up requests, two metrics each. */
export function telemetry(requestsPerSecond: number): Observable<string> {
  return merge(requests(requestsPerSecond), cpu(), memory(), eventLoopDelay(), system());
}

/** Requests of a made-up server: a counter and a timing for each. */
function requests(perSecond: number): Observable<string> {
  const startedAt = performance.now();
  let emitted = 0;
  const due = (): number => {
    const total = Math.floor(((performance.now() - startedAt) / 1000) * perSecond);
    const wanted = Math.min(total - emitted, MOST_A_TICK / 2);
    const from = emitted;
    emitted = total;
    return total > from ? wanted : 0;
  };
  return interval(TICK_MS).pipe(
    mergeMap((tick) => range(tick, due())),
    mergeMap((seed) => {
      const route = ROUTES[(seed * 7) % ROUTES.length];
      const status = STATUSES[(seed * 5) % STATUSES.length];
      const milliseconds = 2 + ((seed * 37) % 180);
      return [
        `demo.http.requests:1|c|#route:${route},status:${status}`,
        `demo.http.duration:${milliseconds}|ms|#route:${route}`,
      ];
    }),
  );
}

function cpu(): Observable<string> {
  let last = process.cpuUsage();
  return interval(20).pipe(
    mergeMap(() => {
      const used = process.cpuUsage(last);
      last = process.cpuUsage();
      return [`demo.cpu.user:${used.user}|c`, `demo.cpu.system:${used.system}|c`];
    }),
  );
}

function memory(): Observable<string> {
  return interval(50).pipe(
    map(() => process.memoryUsage()),
    mergeMap(({ rss, heapUsed, external }) => [
      `demo.memory.rss:${rss}|g`,
      `demo.memory.heap_used:${heapUsed}|g`,
      `demo.memory.external:${external}|g`,
    ]),
  );
}

function eventLoopDelay(): Observable<string> {
  const histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: 10 });
  histogram.enable();
  return interval(100).pipe(
    mergeMap(() => {
      const milliseconds = [50, 99].map((percentile) => (histogram.percentile(percentile) / 1e6).toFixed(3));
      histogram.reset();
      return [`demo.loop.p50:${milliseconds[0]}|g`, `demo.loop.p99:${milliseconds[1]}|g`];
    }),
    finalize(() => histogram.disable()),
  );
}

function system(): Observable<string> {
  return timer(0, 500).pipe(mergeMap(() => [`demo.host.free:${freemem()}|g`, `demo.host.load1:${loadavg()[0]}|g`]));
}
