/**
 * A load with a fixed rate: commands are sent when they are due and not when the one before was answered, and each
 * one's time counts from when it was due. So what a stall keeps waiting is counted, all of it.
 */
import { Pipeline } from '../../compat-tests/durability/pipeline.ts';

const TICK_MS = 1;
const CONNECTIONS = 50;
const KEYS = 1_000_000;

export interface Paced {
  perSecond: number;
  p50: number;
  p99: number;
  p999: number;
  max: number;
  errors: number;
}

export function percentile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/**
 * Half SET, half GET, over all servers in turn.
 * @param rate commands a second, all servers together
 */
export async function paced(ports: readonly number[], rate: number, seconds: number, valueBytes = 100): Promise<Paced> {
  const clients = await Promise.all(
    Array.from({ length: CONNECTIONS }, (_, i) => Pipeline.connect(ports[i % ports.length])),
  );
  const value = 'x'.repeat(valueBytes);
  const total = Math.floor(rate * seconds);
  const times = new Float64Array(total);
  let sent = 0;
  let answered = 0;
  let errors = 0;
  const began = performance.now();
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min(total, Math.floor(((performance.now() - began) * rate) / 1000));
      while (sent < due) {
        const i = sent++;
        const dueAt = began + (i * 1000) / rate;
        const key = `key:${String(Math.floor(Math.random() * KEYS)).padStart(12, '0')}`;
        clients[i % CONNECTIONS].send(i % 2 === 0 ? ['SET', key, value] : ['GET', key], (reply) => {
          times[answered++] = performance.now() - dueAt;
          if (reply === null || reply[0] === '-') errors++;
        });
      }
      if (sent === total) {
        clearInterval(timer);
        resolve();
      }
    }, TICK_MS);
  });
  await Promise.all(clients.map((c) => c.drained()));
  const tookMs = performance.now() - began;
  for (const c of clients) c.close();
  const sorted = times.subarray(0, answered).sort();
  return {
    perSecond: answered / (tookMs / 1000),
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    p999: percentile(sorted, 0.999),
    max: percentile(sorted, 1),
    errors,
  };
}
