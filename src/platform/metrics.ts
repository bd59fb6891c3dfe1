/** The metrics port over prom-client, and the page that a Prometheus scrapes: `/metrics`. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Metrics } from '../ports/metrics.ts';
import type { Page } from '../ports/pages.ts';

export class PrometheusMetrics implements Metrics {
  private readonly registry = new Registry();

  constructor() {
    // the process's own: CPU, memory, event loop, collections
    collectDefaultMetrics({ register: this.registry });
  }

  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  counter(name: string, help: string, read: () => number): void {
    new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  /** The page that a Prometheus scrapes. */
  get page(): Page {
    const { registry } = this;
    return { path: '/metrics', type: registry.contentType, body: () => registry.metrics() };
  }
}
