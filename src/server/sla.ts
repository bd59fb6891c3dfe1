/**
 * How long requests took: how many were answered within `sla-ms`, and within what time 50, 99 and 99.9 % of those of the
 * last minute were (paper section 2.2 promises a latency at the 99.9th percentile, since an average hides those who wait).
 *
 * Requests are counted by ticks, since a tick's replies go out together: each is taken to have waited since its tick
 * began. What waits longer than its tick, for a disk, for a quorum or for another node, is moved to its own time when its
 * reply is there. So a tick costs a few additions and nothing is allocated.
 */
import { bucketAt, bucketEnd, bucketOf } from '../base/histogram.ts';

/** Eight buckets to each power of two: percentiles are at most an eighth above the truth. */
const HISTOGRAM_BITS = 3;
/** Longer ones count as this long, in µs. */
const LONGEST_USEC = 60_000_000;
const BUCKETS = bucketOf(LONGEST_USEC, HISTOGRAM_BITS) + 1;

/** Seconds that are looked back on; each has a histogram of its own. */
export const SLA_WINDOW_SECONDS = 60;

/** So many ticks are remembered. A reply that comes later than all of them is taken from the oldest. */
const TICKS = 8192;

export class Sla {
  requests = 0;
  within = 0;
  limitMs = 0;
  private readonly monotonic: () => number;
  /** Commands run so far. */
  private readonly commands: () => number;
  private counted = 0;
  private begun = 0;

  /** The histograms of the last seconds, as a ring. */
  private readonly counts = new Uint32Array(SLA_WINDOW_SECONDS * BUCKETS);
  private readonly sum = new Float64Array(BUCKETS);
  /** The second that is being counted. */
  private second = 0;

  /** Of the last ticks, as a ring: when each began, and how many there were. */
  private readonly tickBegun = new Float64Array(TICKS);
  /** Second and bucket in which its requests were counted, as one number; -1 while they have not been. */
  private readonly tickCell = new Float64Array(TICKS);
  private readonly tickWithin = new Uint8Array(TICKS);
  private ticks = 0;
  /** Ticks up to the last one whose requests were counted. */
  private sentTicks = 0;

  constructor(monotonic: () => number, commands: () => number) {
    this.monotonic = monotonic;
    this.commands = commands;
  }

  now(): number {
    return this.monotonic();
  }

  /** A tick begins. */
  begin(): void {
    this.begun = this.monotonic();
    const i = this.ticks++ % TICKS;
    this.tickBegun[i] = this.begun;
    this.tickCell[i] = -1;
  }

  /** When the tick began. */
  get at(): number {
    return this.begun;
  }

  /** Commands since the last time. */
  take(): number {
    const all = this.commands();
    // CONFIG RESETSTAT begins again at 0
    const n = all >= this.counted ? all - this.counted : all;
    this.counted = all;
    return n;
  }

  /** Replies to so many requests of a tick that began at `at` go out. */
  sent(requests: number, at: number): void {
    if (requests === 0) return;
    const now = this.monotonic();
    const isWithin = now - at <= this.limitMs;
    this.requests += requests;
    if (isWithin) this.within += requests;
    this.roll(now);
    const bucket = bucketOfMs(now - at);
    this.counts[(this.second % SLA_WINDOW_SECONDS) * BUCKETS + bucket] += requests;
    const tick = this.tickAt(at);
    if (tick < 0) return;
    this.tickCell[tick % TICKS] = this.second * BUCKETS + bucket;
    this.tickWithin[tick % TICKS] = isWithin ? 1 : 0;
    this.sentTicks = Math.max(this.sentTicks, tick + 1);
  }

  /** The reply to a request of that time, which counted as sent with its tick, is only here now. */
  filled(at: number): void {
    let tick = this.tickAt(at);
    if (tick < 0) tick = Math.max(0, this.ticks - TICKS);
    // commands of a tick without replies are counted with the next one's
    while (tick < this.sentTicks && this.tickCell[tick % TICKS] < 0) tick++;
    // it goes out with its tick, and will be counted so
    if (tick >= this.sentTicks) return;
    const now = this.monotonic();
    if (now - at > this.limitMs && this.tickWithin[tick % TICKS] === 1 && this.within > 0) this.within--;
    const cell = this.tickCell[tick % TICKS];
    const second = Math.floor(cell / BUCKETS);
    const before = cell - second * BUCKETS;
    const bucket = bucketOfMs(now - at);
    if (bucket <= before) return;
    this.roll(now);
    const old = (second % SLA_WINDOW_SECONDS) * BUCKETS + before;
    if (second > this.second - SLA_WINDOW_SECONDS && this.counts[old] > 0) this.counts[old]--;
    this.counts[(this.second % SLA_WINDOW_SECONDS) * BUCKETS + bucket]++;
  }

  /** Number of the last remembered tick that had begun then; -1 when there is none. */
  private tickAt(at: number): number {
    let low = Math.max(0, this.ticks - TICKS);
    let high = this.ticks;
    // most often it is the one at hand
    if (high > 0 && this.tickBegun[(high - 1) % TICKS] <= at) return high - 1;
    const oldest = low;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.tickBegun[middle % TICKS] <= at) low = middle + 1;
      else high = middle;
    }
    return low > oldest ? low - 1 : -1;
  }

  /** Empties the histograms of the seconds that have come since the last time. */
  private roll(now: number): void {
    const second = Math.floor(now / 1000);
    if (second === this.second) return;
    if (second - this.second >= SLA_WINDOW_SECONDS) this.counts.fill(0);
    else {
      for (let s = this.second + 1; s <= second; s++) {
        const start = (s % SLA_WINDOW_SECONDS) * BUCKETS;
        this.counts.fill(0, start, start + BUCKETS);
      }
    }
    this.second = second;
  }

  /** Adds up the last seconds, the one that has only begun among them. */
  private addUp(seconds: number): Float64Array {
    this.roll(this.monotonic());
    const { sum, counts } = this;
    sum.fill(0);
    for (let s = Math.max(0, this.second - seconds + 1); s <= this.second; s++) {
      const start = (s % SLA_WINDOW_SECONDS) * BUCKETS;
      for (let i = 0; i < BUCKETS; i++) sum[i] += counts[start + i];
    }
    return sum;
  }

  /** Ms within which this percentage of the last seconds' requests were answered; 0 when there were none. */
  percentile(percent: number, seconds = SLA_WINDOW_SECONDS): number {
    const bucket = bucketAt(this.addUp(seconds), percent);
    return bucket < 0 ? 0 : bucketEnd(bucket, HISTOGRAM_BITS) / 1000;
  }

  /** Requests that were answered in the last seconds. */
  recent(seconds: number): number {
    let n = 0;
    for (const x of this.addUp(seconds)) n += x;
    return n;
  }

  /** Percent of the requests; 100 before the first. */
  attained(): number {
    return this.requests === 0 ? 100 : (this.within / this.requests) * 100;
  }

  reset(): void {
    this.requests = this.within = 0;
    this.counts.fill(0);
    this.tickCell.fill(-1);
    this.sentTicks = 0;
  }
}

function bucketOfMs(ms: number): number {
  return bucketOf(Math.min(ms * 1000, LONGEST_USEC), HISTOGRAM_BITS);
}
