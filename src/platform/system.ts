/** The real clock, timers, randomness and process: `ports/clock` and `ports/host` over Node. */
import { randomBytes } from 'node:crypto';
import * as os from 'node:os';
import { performance } from 'node:perf_hooks';
import * as v8 from 'node:v8';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { Host } from '../ports/host.ts';

/**
 * Keeps the heap near what is live: V8 otherwise lets garbage pile up to several times that before it looks, which a
 * server with a small `maxmemory` can't afford. Costs some more collections.
 */
export function keepHeapTight(): void {
  v8.setFlagsFromString('--heap-growing-percent=25');
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

export const systemRandom: Random = {
  bytes: (n) => randomBytes(n),
  next: () => Math.random(),
};

export const systemTimers: Timers = {
  after(ms: number, run: () => void): Timer {
    const t = setTimeout(run, ms);
    return { cancel: () => clearTimeout(t) };
  },
  every(ms: number, run: () => void): Timer {
    const t = setInterval(run, ms);
    return { cancel: () => clearInterval(t) };
  },
  endOfTick(run: () => void): void {
    setImmediate(run);
  },
};

export const systemHost: Host = {
  pid: process.pid,
  os: `${os.type()} ${os.release()} ${os.arch()}`,
  arch: os.arch(),
  runtime: `node ${process.version}`,
  residentBytes: () => process.memoryUsage.rss(),
  heapUsedBytes: () => process.memoryUsage().heapUsed,
  heapLimitBytes: () => v8.getHeapStatistics().heap_size_limit,
  totalMemoryBytes: () => os.totalmem(),
  cpu() {
    const { user, system } = process.cpuUsage();
    return { user: user / 1e6, system: system / 1e6 };
  },
  executable: process.argv[1] ?? process.execPath,
};
