/**
 * Virtual time: clock and timers that only move when they are told to. Everything due runs in order of time, then of
 * asking, so that one seed is one history.
 */
import type { Clock, Timer, Timers } from '../ports/clock.ts';

interface Due {
  at: number;
  order: number;
  run: () => void;
  every: number;
  cancelled: boolean;
}

const START_MS = 1_780_000_000_000;

export class VirtualTime implements Clock, Timers {
  private ms = 0;
  private order = 0;
  private queue: Due[] = [];
  /** Added to the wall clock: a clock that jumps. */
  skewMs = 0;

  now(): number {
    return Math.floor(START_MS + this.ms + this.skewMs);
  }

  monotonic(): number {
    return this.ms;
  }

  private add(delay: number, run: () => void, every: number): Timer {
    const due: Due = { at: this.ms + delay, order: this.order++, run, every, cancelled: false };
    this.queue.push(due);
    return {
      cancel() {
        due.cancelled = true;
      },
    };
  }

  after(ms: number, run: () => void): Timer {
    return this.add(ms, run, 0);
  }

  every(ms: number, run: () => void): Timer {
    return this.add(ms, run, ms);
  }

  endOfTick(run: () => void): void {
    this.add(0, run, 0);
  }

  /** Lets `ms` pass, running what falls due and what their promises lead to. */
  async advance(ms: number): Promise<void> {
    const until = this.ms + ms;
    for (;;) {
      await settle();
      this.queue = this.queue.filter((d) => !d.cancelled);
      let next: Due | null = null;
      for (const d of this.queue)
        if (next === null || d.at < next.at || (d.at === next.at && d.order < next.order)) next = d;
      if (next === null || next.at > until) break;
      this.ms = Math.max(this.ms, next.at);
      if (next.every > 0) {
        next.at += next.every;
        next.order = this.order++;
      } else next.cancelled = true;
      next.run();
    }
    this.ms = until;
    await settle();
  }
}

/** Lets promises that are ready run to where they wait for something else. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
}
