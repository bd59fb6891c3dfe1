/**
 * Time, randomness and timers, as everything above `platform` sees them. The simulator fakes all three.
 */
export interface Clock {
  /** Wall clock, ms since 1970. It may jump. */
  now(): number;
  /** Monotonic ms with a fraction, from an arbitrary start. It never goes back. */
  monotonic(): number;
}

export interface Random {
  /** `n` unpredictable bytes. */
  bytes(n: number): Buffer;
  /** A number in [0, 1). */
  next(): number;
}

export interface Timer {
  cancel(): void;
}

export interface Timers {
  after(ms: number, run: () => void): Timer;
  every(ms: number, run: () => void): Timer;
  /** Once, when the event loop has handled the I/O at hand: the end of the tick. */
  endOfTick(run: () => void): void;
}
