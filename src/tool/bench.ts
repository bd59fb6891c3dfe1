/**
 * `gramme bench`: a little load, to see that a cluster works and about how fast. For measurements there are
 * redis-benchmark and memtier, which work against Gramme unchanged.
 */
import { Cluster, Redis } from 'ioredis';
import { infoFields, passwordOf, print, type Target, withNode } from './target.ts';

export interface BenchOptions extends Target {
  seconds: string;
  clients: string;
  keys: string;
  size: string;
  reads: string;
}

const ms = (x: number) => Number(x.toFixed(2));

export async function bench(options: BenchOptions): Promise<void> {
  const info = await withNode(options, async (node) => infoFields(String(await node.call('INFO', 'cluster'))));
  const isCluster = info['cluster_enabled'] === '1';
  const [seconds, clients, keys, size, reads] = [
    options.seconds,
    options.clients,
    options.keys,
    options.size,
    options.reads,
  ].map((text) => {
    const n = Number(text);
    if (!(n >= 0)) throw new Error(`'${text}' is not a number`);
    return n;
  });
  const node = { host: options.host, port: Number(options.port) };
  const password = passwordOf(options);
  const redis = isCluster ? new Cluster([node], { redisOptions: { password } }) : new Redis({ ...node, password });
  redis.on('error', () => {});
  const value = 'x'.repeat(size);
  const times: number[] = [];
  let errors = 0;
  const started = performance.now();
  const end = started + seconds * 1000;
  const one = async (): Promise<void> => {
    while (performance.now() < end) {
      const key = `bench:${Math.floor(Math.random() * keys)}`;
      const at = performance.now();
      try {
        if (Math.random() * 100 < reads) await redis.get(key);
        else await redis.set(key, value);
      } catch {
        errors++;
      }
      times.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: clients }, one));
  const took = (performance.now() - started) / 1000;
  redis.disconnect();
  times.sort((a, b) => a - b);
  const at = (p: number) => ms(times[Math.min(times.length - 1, Math.floor((p / 100) * times.length))] ?? 0);
  print(options, {
    mode: isCluster ? 'cluster' : 'one node',
    commands: times.length,
    errors,
    'commands per second': Math.round(times.length / took),
    'p50 ms': at(50),
    'p99 ms': at(99),
    'worst ms': at(100),
  });
}
