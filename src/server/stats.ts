/**
 * What the server counts: INFO's stats, commandstats, errorstats and latencystats, the slow log, and the latency
 * monitor.
 *
 * Counting must cost next to nothing, so hot counters are plain fields that callers add to, and a command's
 * counters are one object that the command table keeps: a call allocates nothing.
 */
import { bucketAt, bucketEnd, bucketOf } from '../base/histogram.ts';
import type { Clock } from '../ports/clock.ts';
import type { Argv } from '../resp/argv.ts';
import type { Client } from './client.ts';
import type { Config } from './config.ts';

/** The latency histogram of a command has four buckets to each power of two. */
const HISTOGRAM_BITS = 2;
const BUCKETS = 40 << HISTOGRAM_BITS;

/** Instantaneous metrics keep so many samples, one each 100 ms. */
const SAMPLES = 16;

/** An error code beyond these is not counted by itself: clients' scripts could invent codes without end. */
const MAX_ERROR_CODES = 128;

/** Redis's own figures for the slow log. */
const SLOWLOG_MAX_ARGS = 32;
const SLOWLOG_MAX_CHARS = 128;

/** The latency monitor keeps so many samples of each event. */
const LATENCY_HISTORY = 160;

/**
 * Counters of one command. Not every call of a fast command need be timed: `timed` of the `calls` were, and they took
 * `usec` together.
 */
export class CommandStat {
  readonly name: string;
  calls = 0;
  timed = 0;
  usec = 0;
  /** Refused before it ran (arity, auth, ACL, OOM ...), and run but answered with an error. */
  rejected = 0;
  failed = 0;
  /** Made at the first call that is timed: most commands are never called. */
  histogram: Uint32Array | null = null;
  private worst = 0;

  constructor(name: string) {
    this.name = name;
  }

  clear(): void {
    this.calls = this.timed = this.usec = this.rejected = this.failed = this.worst = 0;
    this.histogram = null;
  }

  /** Microseconds of all calls, those that were not timed reckoned as the others. */
  totalUsec(): number {
    return this.timed === 0 ? 0 : (this.usec / this.timed) * this.calls;
  }

  observe(usec: number): void {
    this.histogram ??= new Uint32Array(BUCKETS);
    this.histogram[bucketOf(usec, HISTOGRAM_BITS)]++;
    if (usec > this.worst) this.worst = usec;
  }

  /** Microseconds within which this share of the calls (0 to 100) was done. */
  percentile(p: number): number {
    const h = this.histogram;
    if (h === null) return 0;
    const bucket = bucketAt(h, p);
    return bucket < 0 ? this.worst : Math.min(bucketEnd(bucket, HISTOGRAM_BITS), this.worst);
  }

  /**
   * Pairs for LATENCY HISTOGRAM: calls done within so many microseconds, at the edges where their number grows. The
   * edges double as Redis's do, whose histogram counts nanoseconds with two digits: 1, 2, 4, 8, 16, 33, 66, 132 ...
   */
  cumulative(): [usec: number, calls: number][] {
    const h = this.histogram;
    const pairs: [number, number][] = [];
    if (h === null) return pairs;
    // calls that were not timed are reckoned to be spread as the others
    const share = this.timed === 0 ? 1 : this.calls / this.timed;
    let seen = 0;
    let i = 0;
    for (let k = 0; i < h.length; k++) {
      const edge = Math.floor((1024 * 2 ** k * (129 / 128) - 1) / 1000);
      const before = seen;
      while (i < h.length && bucketEnd(i, HISTOGRAM_BITS) <= edge) seen += h[i++];
      if (seen > before) pairs.push([edge, Math.round(seen * share)]);
    }
    return pairs;
  }
}

/** Samples of a growing counter, for "per second, just now". */
class Rate {
  private readonly samples = new Float64Array(SAMPLES);
  private at = 0;
  private lastMs = -1;
  private lastValue = 0;

  sample(nowMs: number, value: number): void {
    const ms = nowMs - this.lastMs;
    this.samples[this.at] = this.lastMs >= 0 && ms > 0 ? ((value - this.lastValue) * 1000) / ms : 0;
    this.at = (this.at + 1) % SAMPLES;
    this.lastMs = nowMs;
    this.lastValue = value;
  }

  /** The counter went back to 0. */
  restart(): void {
    this.lastValue = 0;
    this.samples.fill(0);
  }

  perSecond(): number {
    let sum = 0;
    for (const s of this.samples) sum += s;
    return Math.max(0, sum / SAMPLES);
  }
}

export interface SlowEntry {
  id: number;
  /** Unix seconds. */
  time: number;
  usec: number;
  args: string[];
  peer: string;
  name: string;
}

export interface LatencyEvent {
  name: string;
  /** The worst ever, in ms. */
  max: number;
  /** Unix seconds and ms, oldest first; one a second, the worst of it. */
  samples: { time: number; ms: number }[];
}

export class Stats {
  // ------------------------------------------------------------------ counters that callers add to
  connectionsReceived = 0;
  connectionsRejected = 0;
  commands = 0;
  netIn = 0;
  netOut = 0;
  totalErrorReplies = 0;
  /** Reads from sockets, and writes to them. */
  readsProcessed = 0;
  writesProcessed = 0;
  peakMemory = 0;

  // ------------------------------------------------------------------ settings, kept up to date from the configuration
  /** Microseconds; -1 for none. */
  slowerThan = 0;
  slowlogMax = 0;
  /** The slow log's threshold is so low that even fast commands may pass it: all must be timed. */
  get timeAll(): boolean {
    return this.slowerThan >= 0 && this.slowerThan < 1000;
  }

  /** Ms; 0 turns the latency monitor off. */
  latencyThreshold = 0;
  /** Keep each command's latency distribution. */
  tracking = true;

  readonly errors = new Map<string, number>();
  /** Oldest first. */
  readonly slowlog: SlowEntry[] = [];
  readonly events = new Map<string, LatencyEvent>();

  private readonly clock: Clock;
  private nextSlowId = 0;
  private readonly operations = new Rate();
  private readonly input = new Rate();
  private readonly output = new Rate();

  constructor(clock: Clock, config: Config) {
    this.clock = clock;
    const settings: [name: string, read: () => void][] = [
      ['slowlog-log-slower-than', () => (this.slowerThan = config.num('slowlog-log-slower-than'))],
      ['slowlog-max-len', () => (this.slowlogMax = config.num('slowlog-max-len'))],
      ['latency-monitor-threshold', () => (this.latencyThreshold = config.num('latency-monitor-threshold'))],
      ['latency-tracking', () => (this.tracking = config.bool('latency-tracking'))],
    ];
    for (const [name, read] of settings) {
      read();
      config.onChange(name, () => {
        read();
      });
    }
  }

  // ------------------------------------------------------------------ commands

  /** A command ran and was timed. */
  called(stat: CommandStat, usec: number): void {
    stat.calls++;
    stat.timed++;
    stat.usec += usec;
    if (this.tracking) stat.observe(usec);
    if (this.latencyThreshold > 0 && usec >= this.latencyThreshold * 1000) this.latency('command', usec / 1000);
  }

  // ------------------------------------------------------------------ errors

  /** An error reply went out: `ERR ...` with or without the leading dash. */
  errorReply(message: string): void {
    this.totalErrorReplies++;
    let end = message.indexOf(' ');
    if (end < 0) end = message.length;
    const code = message.slice(message.charCodeAt(0) === 45 ? 1 : 0, end);
    const n = this.errors.get(code);
    if (n === undefined && this.errors.size >= MAX_ERROR_CODES) return;
    this.errors.set(code, (n ?? 0) + 1);
  }

  // ------------------------------------------------------------------ rates

  /** Called each 100 ms. */
  cron(): void {
    const now = this.clock.monotonic();
    this.operations.sample(now, this.commands);
    this.input.sample(now, this.netIn);
    this.output.sample(now, this.netOut);
  }

  operationsPerSecond(): number {
    return Math.floor(this.operations.perSecond());
  }

  inputKbps(): number {
    return this.input.perSecond() / 1024;
  }

  outputKbps(): number {
    return this.output.perSecond() / 1024;
  }

  // ------------------------------------------------------------------ slow log

  /** Keeps the command if it was slow. */
  slow(usec: number, argv: Argv, client: Client): void {
    if (this.slowerThan < 0 || usec < this.slowerThan || this.slowlogMax === 0) return;
    const n = argv.argc;
    const shown = n > SLOWLOG_MAX_ARGS ? SLOWLOG_MAX_ARGS - 1 : n;
    const args: string[] = [];
    for (let i = 0; i < shown; i++) {
      const length = argv.len(i);
      if (length <= SLOWLOG_MAX_CHARS) args.push(argv.str(i));
      else {
        const start = argv.offsets[2 * i];
        args.push(
          `${argv.buf.latin1Slice(start, start + SLOWLOG_MAX_CHARS)}... (${length - SLOWLOG_MAX_CHARS} more bytes)`,
        );
      }
    }
    if (n > SLOWLOG_MAX_ARGS) args.push(`... (${n - SLOWLOG_MAX_ARGS + 1} more arguments)`);
    const time = Math.floor(this.clock.now() / 1000);
    const { name, connection } = client;
    this.slowlog.push({ id: this.nextSlowId++, time, usec: Math.round(usec), args, peer: connection.remote, name });
    if (this.slowlog.length > this.slowlogMax) this.slowlog.splice(0, this.slowlog.length - this.slowlogMax);
  }

  // ------------------------------------------------------------------ latency monitor

  /** An event (`command`, `fast-command`, `journal-fsync`, `fold` ...) took so many ms. */
  latency(event: string, ms: number): void {
    if (this.latencyThreshold === 0 || ms < this.latencyThreshold) return;
    let e = this.events.get(event);
    if (e === undefined) this.events.set(event, (e = { name: event, max: 0, samples: [] }));
    const took = Math.floor(ms);
    const time = Math.floor(this.clock.now() / 1000);
    if (took > e.max) e.max = took;
    const last = e.samples.at(-1);
    if (last !== undefined && last.time === time) {
      if (took > last.ms) last.ms = took;
      return;
    }
    e.samples.push({ time, ms: took });
    if (e.samples.length > LATENCY_HISTORY) e.samples.shift();
  }

  /** LATENCY RESET: the number of events that were forgotten. */
  resetLatency(names: readonly string[]): number {
    if (names.length === 0) {
      const n = this.events.size;
      this.events.clear();
      return n;
    }
    let n = 0;
    for (const name of names) if (this.events.delete(name)) n++;
    return n;
  }

  // ------------------------------------------------------------------ CONFIG RESETSTAT

  reset(commands: Iterable<CommandStat>): void {
    this.connectionsReceived = this.connectionsRejected = this.commands = this.netIn = this.netOut = 0;
    this.totalErrorReplies = 0;
    this.readsProcessed = this.writesProcessed = 0;
    this.operations.restart();
    this.input.restart();
    this.output.restart();
    this.errors.clear();
    for (const stat of commands) stat.clear();
  }
}
