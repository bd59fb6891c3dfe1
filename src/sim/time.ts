/**
 * Virtual time: clock and timers that only move when they are told to. Everything due runs in order of time, then of
 * asking, so that one seed is one history. Between two things that run, all promises that are ready run to where they
 * wait for something else.
 *
 * `VirtualTime` is the time of the world. `NodeTime` is one process's view of it: a wall clock that can be wrong, and
 * timers that stand still while the process does and never fire once it is dead.
 */
import type { Clock, Timer, Timers } from '../ports/clock.ts';

class Due implements Timer {
  at: number;
  order: number;
  /** Null once it has run or was cancelled. */
  run: (() => void) | null;
  readonly every: number;
  private readonly time: VirtualTime;

  constructor(time: VirtualTime, at: number, order: number, run: () => void, every: number) {
    this.time = time;
    this.at = at;
    this.order = order;
    this.run = run;
    this.every = every;
  }

  cancel(): void {
    if (this.run === null) return;
    this.run = null;
    this.time.forget();
  }
}

const START_MS = 1_780_000_000_000;
/** So many steps in a row before the real event loop has its turn (signals, the test runner's timers). */
const STEPS_A_TURN = 4096;
/** A heap with more cancelled timers than this, and than live ones, is swept. */
const SWEEP_AT = 1024;

export class VirtualTime implements Clock, Timers {
  private ms = 0;
  private order = 0;
  /** A binary heap by (at, order). */
  private heap: Due[] = [];
  private cancelled = 0;
  private running = false;
  /** Added to the wall clock: a clock that jumps. */
  skewMs = 0;
  /** Things that ran so far. */
  steps = 0;

  now(): number {
    return Math.floor(START_MS + this.ms + this.skewMs);
  }

  monotonic(): number {
    return this.ms;
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

  /** Resolves when `ms` have passed. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Lets `ms` pass, running what falls due and what their promises lead to. */
  async advance(ms: number): Promise<void> {
    await this.pump(this.ms + ms, () => false);
  }

  /** Lets time pass until the work is done, at most `limitMs`. Throws what it throws, or that it took too long. */
  async until<T>(work: Promise<T>, limitMs: number): Promise<T> {
    let settled = false;
    const done = () => {
      settled = true;
    };
    work.then(done, done);
    await this.pump(this.ms + limitMs, () => settled);
    if (!settled) throw new Error(`not done after ${limitMs} ms of virtual time`);
    return work;
  }

  // ------------------------------------------------------------------ the loop

  /**
   * Runs one due thing after another. Each step is started by `nextTick` from a microtask: the tick queue is looked at
   * only when the microtask queue is empty, so however long a chain of promises is, it has run before the next step,
   * and none of it costs a turn of the real event loop.
   */
  private pump(untilMs: number, done: () => boolean): Promise<void> {
    if (this.running) throw new Error('time is being advanced already');
    this.running = true;
    return new Promise<void>((resolve, reject) => {
      let steps = 0;
      const again = () => void process.nextTick(step);
      const step = () => {
        try {
          const next = done() ? null : this.take(untilMs);
          if (next === null) {
            this.running = false;
            if (!done()) this.ms = untilMs;
            resolve();
            return;
          }
          next();
        } catch (error) {
          this.running = false;
          reject(error);
          return;
        }
        if (++steps % STEPS_A_TURN === 0) setImmediate(step);
        else queueMicrotask(again);
      };
      queueMicrotask(again);
    });
  }

  /** Takes out what is due next, and sets the clock to its time. */
  private take(untilMs: number): (() => void) | null {
    const { heap } = this;
    while (heap.length > 0) {
      const top = heap[0];
      if (top.run === null) {
        this.pop();
        this.cancelled--;
        continue;
      }
      if (top.at > untilMs) return null;
      if (top.at > this.ms) this.ms = top.at;
      this.steps++;
      const { run } = top;
      if (top.every > 0) {
        top.at += top.every;
        top.order = this.order++;
        this.sink(0);
      } else {
        this.pop();
        top.run = null;
      }
      return run;
    }
    return null;
  }

  private add(delay: number, run: () => void, every: number): Timer {
    const due = new Due(this, this.ms + Math.max(0, delay), this.order++, run, every);
    this.heap.push(due);
    this.rise(this.heap.length - 1);
    return due;
  }

  /** @internal one more in the heap has been cancelled */
  forget(): void {
    this.cancelled++;
    if (this.cancelled < SWEEP_AT || this.cancelled * 2 < this.heap.length) return;
    // the order of (at, order) is total: a heap built anew gives the same sequence
    this.heap = this.heap.filter((d) => d.run !== null);
    this.cancelled = 0;
    for (let i = (this.heap.length >> 1) - 1; i >= 0; i--) this.sink(i);
  }

  private pop(): void {
    const last = this.heap.pop()!;
    if (this.heap.length === 0) return;
    this.heap[0] = last;
    this.sink(0);
  }

  private rise(i: number): void {
    const { heap } = this;
    const due = heap[i];
    while (i > 0) {
      const above = (i - 1) >> 1;
      if (!before(due, heap[above])) break;
      heap[i] = heap[above];
      i = above;
    }
    heap[i] = due;
  }

  private sink(i: number): void {
    const { heap } = this;
    const due = heap[i];
    for (;;) {
      let below = 2 * i + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && before(heap[below + 1], heap[below])) below++;
      if (!before(heap[below], due)) break;
      heap[i] = heap[below];
      i = below;
    }
    heap[i] = due;
  }
}

function before(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Lets promises that are ready run to where they wait for something else. */
export async function settle(): Promise<void> {
  // an immediate runs when no microtask is left
  await new Promise((resolve) => setImmediate(resolve));
}

/** Time as one process has it. */
export class NodeTime implements Clock, Timers {
  /** What its wall clock is wrong by, in ms. */
  skewMs: number;
  private readonly base: VirtualTime;
  private readonly startMs: number;
  private readonly onThrow: (error: unknown) => void;
  private held: (() => void)[] = [];
  private stopped = false;
  private dead = false;

  /**
   * @param startMs what its monotonic clock is ahead of the world's: no two processes share a start
   * @param onThrow told of what timers throw: in a real process that is its end
   */
  constructor(base: VirtualTime, startMs = 0, skewMs = 0, onThrow: (error: unknown) => void = rethrow) {
    this.base = base;
    this.startMs = startMs;
    this.skewMs = skewMs;
    this.onThrow = onThrow;
  }

  now(): number {
    return this.base.now() + Math.round(this.skewMs);
  }

  monotonic(): number {
    return this.base.monotonic() + this.startMs;
  }

  get isPaused(): boolean {
    return this.stopped;
  }

  get isDead(): boolean {
    return this.dead;
  }

  after(ms: number, run: () => void): Timer {
    return this.add(ms, run, false);
  }

  every(ms: number, run: () => void): Timer {
    return this.add(ms, run, true);
  }

  endOfTick(run: () => void): void {
    this.add(0, run, false);
  }

  /** Runs something in the process's name, unless it is dead. */
  guard(run: () => void): void {
    if (this.dead) return;
    try {
      run();
    } catch (error) {
      this.onThrow(error);
    }
  }

  /** As SIGSTOP: nothing of the process runs. Its clocks go on. */
  pause(): void {
    this.stopped = true;
  }

  /** As SIGCONT: what fell due meanwhile runs at once, in order, and each interval once. */
  resume(): void {
    this.stopped = false;
    const { held } = this;
    this.held = [];
    for (const fire of held) this.base.after(0, fire);
  }

  /** Nothing of this process runs again. */
  kill(): void {
    this.dead = true;
    this.held = [];
  }

  private add(ms: number, run: () => void, repeats: boolean): Timer {
    let cancelled = false;
    let waits = false;
    let inner: Timer | null = null;
    const fire = () => {
      if (this.dead || cancelled) inner?.cancel();
      else if (this.stopped) {
        if (!waits) this.held.push(late);
        waits = true;
      } else this.guard(run);
    };
    const late = () => {
      waits = false;
      fire();
    };
    inner = repeats ? this.base.every(ms, fire) : this.base.after(ms, fire);
    return {
      cancel() {
        cancelled = true;
        inner?.cancel();
      },
    };
  }
}

function rethrow(error: unknown): void {
  throw error;
}
