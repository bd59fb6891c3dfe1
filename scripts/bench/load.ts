/**
 * Loads: `redis-benchmark`, which both servers' users know, and a steady writer of unique keys for what it can't do.
 */
import { spawn } from 'node:child_process';
import { Pipeline } from '../../compat-tests/durability/pipeline.ts';

/** Commands that a row of the table is made of; `__rand_int__` is redis-benchmark's. */
export const WORKLOADS = {
  set: ['SET key:__rand_int__ __data__'],
  get: ['GET key:__rand_int__'],
  incr: ['INCR counter:__rand_int__'],
  // redis-benchmark sends one command a run, so a mix is several of them side by side
  mix: ['GET key:__rand_int__', 'GET key:__rand_int__', 'GET key:__rand_int__', 'SET key:__rand_int__ __data__'],
} as const;
export type Workload = keyof typeof WORKLOADS;

export interface LoadOptions {
  requests: number;
  clients?: number;
  pipeline?: number;
  keyspace?: number;
  valueBytes?: number;
}

export interface Measured {
  perSecond: number;
  p50: number;
  p99: number;
}

/** Runs redis-benchmark with one command. */
function once(port: number, command: string, options: Required<LoadOptions>): Promise<Measured> {
  const words = command.replace('__data__', 'x'.repeat(options.valueBytes)).split(' ');
  const args = [
    '-p',
    String(port),
    '-c',
    String(options.clients),
    '-n',
    String(options.requests),
    '-r',
    String(options.keyspace),
  ];
  args.push('-P', String(options.pipeline), '--csv', ...words);
  return new Promise((resolve, reject) => {
    const child = spawn('redis-benchmark', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.once('error', reject);
    child.once('close', () => {
      // "test","rps","avg_latency_ms","min","p50","p95","p99","max"
      const row = output.trim().split('\n').pop() ?? '';
      const fields = row.match(/"[\d.]+"(?=,|$)/g)?.map((f) => Number(f.slice(1, -1))) ?? [];
      if (fields.length < 7) reject(new Error(`redis-benchmark said: ${output}`));
      else resolve({ perSecond: fields[0], p50: fields[3], p99: fields[5] });
    });
  });
}

/** Runs a workload; of several commands side by side the rates add up. */
export async function run(port: number, workload: Workload, options: LoadOptions): Promise<Measured> {
  const all = { clients: 50, pipeline: 1, keyspace: 1_000_000, valueBytes: 100, ...options };
  const commands = WORKLOADS[workload];
  const share = {
    ...all,
    requests: Math.ceil(all.requests / commands.length),
    clients: Math.ceil(all.clients / commands.length),
  };
  const parts = await Promise.all(commands.map((command) => once(port, command, share)));
  const worst = (of: (m: Measured) => number) => Math.max(...parts.map(of));
  return {
    perSecond: parts.reduce((sum, m) => sum + m.perSecond, 0),
    p50: worst((m) => m.p50),
    p99: worst((m) => m.p99),
  };
}

/** Writes keys 0 .. n-1 in order, and waits for every ack. */
export async function fill(
  port: number,
  keys: number,
  valueBytes: number,
  onProgress: (done: number) => void = () => {},
): Promise<void> {
  const clients = await Promise.all(Array.from({ length: 4 }, () => Pipeline.connect(port)));
  const value = 'x'.repeat(valueBytes - 12);
  let next = 0;
  let failed = '';
  await Promise.all(
    clients.map(async (client) => {
      while (next < keys && failed === '') {
        const i = next++;
        const name = String(i).padStart(12, '0');
        client.send(['SET', `key:${name}`, name + value], (reply) => {
          if (reply !== '+OK\r\n') failed = String(reply);
        });
        if (i % 1000 === 0) onProgress(i);
        await client.room(200);
      }
      await client.drained();
      client.close();
    }),
  );
  if (failed !== '') throw new Error(`a write was answered ${failed}`);
}

/** What `fill` wrote under key number i. */
export function filled(i: number, valueBytes: number): string {
  return String(i).padStart(12, '0') + 'x'.repeat(valueBytes - 12);
}
