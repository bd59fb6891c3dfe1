/** The metrics port over prom-client, and the page that a Prometheus scrapes: `GET /metrics`. */
import { createServer, type Server } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { GrammeError } from '../base/errors.ts';
import type { Metrics } from '../ports/metrics.ts';

export class PrometheusMetrics implements Metrics {
  private readonly registry = new Registry();
  private server: Server | null = null;

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

  /** Serves the page. Resolves with the address, `host:port`; throws BUSY or IO. */
  listen(host: string, port: number): Promise<string> {
    const server = createServer((request, response) => {
      const path = (request.url ?? '').split('?')[0];
      if (request.method !== 'GET' || path !== '/metrics') {
        response.writeHead(path === '/metrics' ? 405 : 404, { 'content-type': 'text/plain' }).end('GET /metrics\n');
        return;
      }
      this.registry.metrics().then(
        (text) => response.writeHead(200, { 'content-type': this.registry.contentType }).end(text),
        (error) => response.writeHead(500, { 'content-type': 'text/plain' }).end(`${String(error)}\n`),
      );
    });
    this.server = server;
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const code = error.code === 'EADDRINUSE' ? 'BUSY' : 'IO';
        reject(new GrammeError(code, `can't serve metrics on ${host}:${port}: ${error.message}`));
      });
      server.listen(port, host, () => {
        const bound = server.address();
        resolve(`${host}:${typeof bound === 'object' && bound !== null ? bound.port : port}`);
      });
    });
  }

  close(): void {
    this.server?.close();
    this.server?.closeAllConnections();
  }
}
