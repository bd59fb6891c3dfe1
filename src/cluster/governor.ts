/**
 * Admission control for background work (paper section 6.5): hints, exchanges, transfers, the hand-over of strays and
 * reaping take turns with clients' requests, and give way when those become slow.
 *
 * The governor looks at the foreground's 99th percentile each second. While it is above the threshold, the share of time
 * that background work may take is halved at each look, down to a minimum that is never taken away; while it is below,
 * the share grows by a tenth. Under traffic that can't be satisfied the share so settles around what clients bear, and a
 * node that nobody asks anything does its background work as fast as it can.
 *
 * Work comes in *pieces*: one partition compared, one frame of keys sent. A piece is never interrupted, so nothing that
 * others wait for with a deadline stands still in its middle. After a piece that took t ms, all background work of this
 * node rests for t * (1 / share - 1) ms. At a share of 1 there is no rest, no timer and no turn to wait for.
 *
 * What clients wait for is no background work and must never ask here: tenure, read repair, a coordinator's reads.
 */
import type { Clock, Timer, Timers } from '../ports/clock.ts';

/** What is known of clients' requests. */
export interface Foreground {
  /** Ms within which this percentage of the requests of the last seconds were answered. */
  percentile(percent: number, seconds: number): number;
  /** Requests that were answered in the last seconds. */
  recent(seconds: number): number;
}

/** Pause between looks, in ms. */
export const LOOK_MS = 1000;
/** What a look takes in. The paper's 60 s are steadier; here a rest costs little, and a late reaction much. */
const WINDOW_SECONDS = 5;
const PERCENT = 99;
/** Below so many requests in the window the 99th percentile is an accident, and there is time for both. */
const FEW_REQUESTS = 20;
/**
 * No reply for so long: nobody asks. A reply is not held longer, since a peer that it waits for has a second to answer
 * (`detector`).
 */
const QUIET_SECONDS = 2;
/** Background work always gets this share of time, or hints and transfers would never end. */
export const MIN_SHARE = 0.2;
const DECREASE = 0.5;
const INCREASE = 0.1;
/** No rest is longer, in ms, so that one long piece does not stop everything, and a larger share is soon felt. */
export const MAX_REST_MS = 500;
/** Keys of one piece while there is something to give way to: they fit into one frame of states. */
export const PIECE_KEYS = 512;

export class Governor {
  /** Of the time, for background work. */
  share = 1;
  stats = { restedMs: 0 };
  /** On the monotonic clock. */
  private restUntil = 0;
  private waiting: (() => void)[] = [];
  private timer: Timer | null = null;
  private wakeUp: Timer | null = null;
  private readonly foreground: Foreground;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly thresholdMs: () => number;

  /** @param parts.thresholdMs the 99th percentile above which background work gives way; 0 for never */
  constructor(parts: { foreground: Foreground; clock: Clock; timers: Timers; thresholdMs: () => number }) {
    this.foreground = parts.foreground;
    this.clock = parts.clock;
    this.timers = parts.timers;
    this.thresholdMs = parts.thresholdMs;
  }

  start(): void {
    this.timer = this.timers.every(LOOK_MS, () => this.look());
  }

  /** Whoever waits for a turn does not get it any more. */
  stop(): void {
    this.timer?.cancel();
    this.wakeUp?.cancel();
    this.timer = this.wakeUp = null;
    this.waiting = [];
  }

  // ------------------------------------------------------------------ the share

  private look(): void {
    this.share = this.nextShare();
    if (this.share === 1) this.endRest();
  }

  private nextShare(): number {
    const { foreground } = this;
    const threshold = this.thresholdMs();
    if (threshold === 0) return 1;
    if (foreground.recent(QUIET_SECONDS) === 0 || foreground.recent(WINDOW_SECONDS) < FEW_REQUESTS) return 1;
    if (foreground.percentile(PERCENT, WINDOW_SECONDS) > threshold) return Math.max(MIN_SHARE, this.share * DECREASE);
    return Math.min(1, this.share + INCREASE);
  }

  // ------------------------------------------------------------------ turns

  /** May a piece of work begin now? */
  mayWork(): boolean {
    return this.share === 1 || this.clock.monotonic() >= this.restUntil;
  }

  /** How many keys one piece should have: those that it would have by itself, or fewer while it must give way. */
  pieceOf(keys: number): number {
    return this.share === 1 ? keys : Math.min(keys, PIECE_KEYS);
  }

  /** Runs one piece of work when its turn has come. The wait may be long: what was known before it may have changed. */
  async piece<T>(work: () => Promise<T>): Promise<T> {
    while (!this.mayWork()) await this.turn();
    const began = this.clock.monotonic();
    try {
      return await work();
    } finally {
      this.worked(this.clock.monotonic() - began);
    }
  }

  /** A piece has taken so many ms. Pieces that ran side by side each count. */
  worked(ms: number): void {
    if (this.share === 1 || ms <= 0) return;
    const now = this.clock.monotonic();
    const from = Math.max(now, this.restUntil);
    const until = Math.min(from + ms * (1 / this.share - 1), now + MAX_REST_MS);
    if (until <= this.restUntil) return;
    this.stats.restedMs += until - from;
    this.restUntil = until;
  }

  private turn(): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.wakeUp ??= this.timers.after(this.restUntil - this.clock.monotonic(), () => this.wake());
    });
  }

  /** All that wait go on together, so that no kind of work keeps another from its turn. */
  private wake(): void {
    this.wakeUp = null;
    const list = this.waiting;
    this.waiting = [];
    for (const go of list) go();
  }

  private endRest(): void {
    this.restUntil = 0;
    this.wakeUp?.cancel();
    this.wake();
  }
}
