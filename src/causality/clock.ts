/**
 * The hybrid logical clock: one 53-bit number is dot, version and timestamp.
 *
 * 41 bits of ms since 2020-01-01 and 12 bits of counter; strictly increasing for a node, for ever: its
 * high-water mark is leased ahead on disk, so not even a restart after the wall clock went back repeats one.
 */
import { MAX_CLOCK_DRIFT_MS } from '../base/limits.ts';
import type { Clock } from '../ports/clock.ts';

const EPOCH_MS = 1577836800000;
/** Stamps in one ms. */
export const COUNTS_PER_MS = 4096;

export function hlcOfMs(ms: number): number {
  return Math.max(0, ms - EPOCH_MS) * COUNTS_PER_MS;
}

/** The wall-clock ms within an HLC. */
export function msOfHlc(hlc: number): number {
  return Math.floor(hlc / COUNTS_PER_MS) + EPOCH_MS;
}

export class HybridClock {
  private last: number;
  private lastMs = 0;
  private readonly clock: Clock;

  /** @param leased high-water mark found on disk: nothing at or below it is handed out again */
  constructor(clock: Clock, leased: number) {
    this.clock = clock;
    this.last = Math.max(leased, hlcOfMs(clock.now()));
  }

  /** The next stamp: greater than every one handed out or observed before. */
  next(): number {
    let n = this.last + 1;
    const ms = this.clock.now();
    if (ms !== this.lastMs) {
      this.lastMs = ms;
      const physical = hlcOfMs(ms);
      if (physical > n) n = physical;
    }
    this.last = n;
    return n;
  }

  /** Takes note of a remote stamp; one too far ahead is not followed, so a broken clock elsewhere can't drag ours. */
  observe(hlc: number): void {
    if (hlc > this.last && hlc <= hlcOfMs(this.clock.now() + MAX_CLOCK_DRIFT_MS)) this.last = hlc;
  }

  current(): number {
    return this.last;
  }
}
