/**
 * How many requests were answered within `sla-ms` (paper section 2.2 promises a latency at the 99.9th percentile, so what
 * counts is the share that attained it).
 *
 * Requests are counted by ticks, since a tick's replies go out together: each is taken to have waited since its tick
 * began. What waits longer than its tick, for a disk, for a quorum or for another node, is taken out again when it turns
 * out to be late.
 */
export class Sla {
  requests = 0;
  within = 0;
  limitMs = 0;
  private readonly monotonic: () => number;
  /** Commands run so far. */
  private readonly commands: () => number;
  private counted = 0;
  private begun = 0;

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
    this.requests += requests;
    if (this.monotonic() - at <= this.limitMs) this.within += requests;
  }

  /** The reply to a request of that time, which counted as sent with its tick, is only here now. */
  filled(at: number): void {
    if (this.monotonic() - at > this.limitMs && this.within > 0) this.within--;
  }

  /** Percent of the requests; 100 before the first. */
  attained(): number {
    return this.requests === 0 ? 100 : (this.within / this.requests) * 100;
  }

  reset(): void {
    this.requests = this.within = 0;
  }
}
