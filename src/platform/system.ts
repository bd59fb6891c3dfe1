/** The real clock, timers, randomness and process: `ports/clock` and `ports/host` over Node. */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
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

/** The machine's idle CPU is looked at this often, in ms. */
const IDLE_LOOK_MS = 200;
/** Linux's own account: a line `cpu` with user, nice, system, idle, iowait, irq, softirq and steal time since the boot. */
const CPU_TIMES = '/proc/stat';

class IdleCpu {
  private file: number | null | undefined;
  private readonly line = Buffer.alloc(256);
  private lookedAt = Number.NEGATIVE_INFINITY;
  private idle = 0;
  private total = 0;
  private share = 1;

  look(now: number): number {
    if (now - this.lookedAt < IDLE_LOOK_MS) return this.share;
    const first = this.lookedAt === Number.NEGATIVE_INFINITY;
    this.lookedAt = now;
    const times = this.read();
    if (times === null) return 1;
    const total = times.slice(0, 8).reduce((sum, t) => sum + t, 0);
    const idle = times[3] + times[4];
    if (!first && total > this.total) this.share = (idle - this.idle) / (total - this.total);
    this.idle = idle;
    this.total = total;
    return this.share;
  }

  private read(): number[] | null {
    try {
      this.file ??= os.type() === 'Linux' ? fs.openSync(CPU_TIMES, 'r') : null;
      if (this.file === null) return null;
      const n = fs.readSync(this.file, this.line, 0, this.line.length, 0);
      const times = this.line.latin1Slice(0, n).split('\n', 1)[0].trim().split(/\s+/).slice(1).map(Number);
      return times.length >= 8 && times.every((t) => t >= 0) ? times : null;
    } catch {
      this.file = null;
      return null;
    }
  }
}

const idleCpu = new IdleCpu();

export const systemHost: Host = {
  pid: process.pid,
  os: `${os.type()} ${os.release()} ${os.arch()}`,
  arch: os.arch(),
  runtime: `node ${process.version}`,
  residentBytes: () => process.memoryUsage.rss(),
  heapUsedBytes: () => process.memoryUsage().heapUsed,
  heapLimitBytes: () => v8.getHeapStatistics().heap_size_limit,
  totalMemoryBytes: () => os.totalmem(),
  idleShare: () => idleCpu.look(performance.now()),
  cpu() {
    const { user, system } = process.cpuUsage();
    return { user: user / 1e6, system: system / 1e6 };
  },
  executable: process.argv[1] ?? process.execPath,
};
