/**
 * The journal: what was done, in order, until it has been folded into rows (docs/STORAGE.md).
 *
 * Commands write records into `w`; a *batch* is all of a tick, or of up to 20 ms of ticks, and goes to the engine as
 * one row. A command's records, and those of a transaction, are always in one batch: all of it or nothing.
 * One batch is in flight at a time. A batch that the disk refuses is kept and tried again; meanwhile `failure` says
 * why, and the server takes no writes.
 */
import { ByteWriter } from '../base/bytes.ts';
import { JOURNAL_BATCH_BYTES, JOURNAL_FLUSH_MS, JOURNAL_SYNC_MS } from '../base/limits.ts';
import type { Clock, Timer, Timers } from '../ports/clock.ts';
import type { Engine, SyncPolicy } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';

const RETRY_MS = 500;

export class Journal {
  /** Records of the batch that is being filled. */
  w = new ByteWriter(256 * 1024);
  policy: SyncPolicy;
  /** Bytes appended and not yet folded. */
  backlogBytes = 0;
  /** Why the last append failed, or null. */
  failure: string | null = null;
  /** Number of the last batch that was sealed, and of the last one that the engine has. */
  sealed = 0;
  committed = 0;
  /** Called when batches have been committed (or, under `always`, lost their claim to an ack). */
  onCommitted: (upTo: number) => void = () => {};
  onFailure: (upTo: number, why: string) => void = () => {};
  onRecovered: () => void = () => {};
  /** Told how many ms an fsync took. */
  onSynced: (ms: number) => void = () => {};
  /** fsyncs that took place, and the last one's ms, for INFO and LATENCY. */
  syncs = 0;

  private spare: ByteWriter | null = new ByteWriter(256 * 1024);
  private inFlight: { w: ByteWriter; seq: number } | null = null;
  /** Sizes of the appended batches that a fold has not dropped yet. */
  private sizes: { seq: number; bytes: number }[] = [];
  private unsynced = false;
  private timers: Timer[] = [];
  private waiters: { seq: number; resolve: () => void }[] = [];
  private readonly engine: Engine;
  private readonly clock: Clock;
  private readonly schedule: Timers;
  private readonly log: Log;
  private syncing: Promise<void> | null = null;
  private started = false;

  constructor(engine: Engine, clock: Clock, timers: Timers, log: Log, policy: SyncPolicy) {
    this.engine = engine;
    this.clock = clock;
    this.schedule = timers;
    this.log = log;
    this.policy = policy;
  }

  /** @param lastSeq number of the newest row found at start */
  start(lastSeq: number): void {
    this.sealed = this.committed = lastSeq;
    this.started = true;
    this.timers.push(this.schedule.every(JOURNAL_FLUSH_MS, () => this.flushIfIdle()));
    this.timers.push(this.schedule.every(JOURNAL_SYNC_MS, () => void this.sync()));
  }

  /** Adds a row found at start to the backlog. */
  found(seq: number, bytes: number): void {
    this.sizes.push({ seq, bytes });
    this.backlogBytes += bytes;
  }

  /**
   * Called at the end of each tick. Returns the batch that replies of this tick must wait for, 0 for none.
   */
  tickEnd(): number {
    // a disk that refuses is told of at once: nobody waits for it
    if (this.policy === 'always' && this.failure === null) {
      if (this.inFlight === null && this.w.pos > 0) this.seal();
      if (this.w.pos > 0) return this.sealed + 1;
      return this.sealed > this.committed ? this.sealed : 0;
    }
    if (this.w.pos >= JOURNAL_BATCH_BYTES) this.flushIfIdle();
    return 0;
  }

  private flushIfIdle(): void {
    if (this.inFlight === null && this.w.pos > 0) this.seal();
  }

  private seal(): void {
    const w = this.w;
    this.w = this.spare ?? new ByteWriter(256 * 1024);
    this.spare = null;
    const batch = { w, seq: ++this.sealed };
    this.inFlight = batch;
    this.sizes.push({ seq: batch.seq, bytes: w.pos });
    this.backlogBytes += w.pos;
    void this.append(batch);
  }

  private async append(batch: { w: ByteWriter; seq: number }): Promise<void> {
    for (;;) {
      try {
        await this.engine.append(batch.seq, batch.w.buf, batch.w.pos);
        break;
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        if (this.failure === null)
          this.log.error({ error: why }, 'the journal can not be written; taking no writes until it can');
        this.failure = why;
        this.onFailure(batch.seq, why);
        await new Promise<void>((resolve) => this.schedule.after(RETRY_MS, resolve));
        if (!this.started) return;
      }
    }
    if (this.failure !== null) {
      this.failure = null;
      this.log.info({}, 'the journal can be written again');
      this.onRecovered();
    }
    this.inFlight = null;
    this.committed = batch.seq;
    this.unsynced = true;
    batch.w.reset();
    // a batch of unusual size must not pin its buffer for ever
    this.spare = batch.w.buf.length > 8 * JOURNAL_BATCH_BYTES ? new ByteWriter(256 * 1024) : batch.w;
    this.onCommitted(batch.seq);
    while (this.waiters.length > 0 && this.waiters[0].seq <= batch.seq) this.waiters.shift()!.resolve();
    if (this.waiters.length > 0 && this.policy !== 'always') this.flushIfIdle();
  }

  /** Resolves once everything recorded so far has been appended. Call it between ticks. */
  flush(): Promise<void> {
    const target = this.w.pos > 0 ? this.sealed + 1 : this.sealed;
    if (target <= this.committed) return Promise.resolve();
    this.flushIfIdle();
    return new Promise((resolve) => {
      this.waiters.push({ seq: target, resolve });
    });
  }

  /** fsyncs what has been appended, unless the policy leaves that to the system. A forced one rejects when it failed. */
  async sync(force = false): Promise<void> {
    // one that began before the latest append says nothing of it
    while (force && this.syncing !== null) await this.syncing.catch(() => {});
    if (this.syncing !== null || !this.unsynced || (!force && this.policy !== 'everysec')) return;
    this.syncing = this.syncNow();
    try {
      await this.syncing;
    } catch (error) {
      if (force) throw error;
    } finally {
      this.syncing = null;
    }
  }

  private async syncNow(): Promise<void> {
    this.unsynced = false;
    const started = this.clock.monotonic();
    try {
      await this.engine.syncJournal();
      this.syncs++;
      this.onSynced(this.clock.monotonic() - started);
    } catch (error) {
      this.unsynced = true;
      this.log.error({ error: String(error) }, 'the journal could not be fsynced');
      throw error;
    }
  }

  async setPolicy(policy: SyncPolicy): Promise<void> {
    await this.engine.setSync(policy);
    this.policy = policy;
  }

  /** Drops batches up to `seq` from the engine: their effect is in rows, durably. */
  async drop(seq: number): Promise<void> {
    await this.engine.dropJournal(seq);
    while (this.sizes.length > 0 && this.sizes[0].seq <= seq) this.backlogBytes -= this.sizes.shift()!.bytes;
  }

  stop(): void {
    this.started = false;
    for (const t of this.timers) t.cancel();
    this.timers = [];
  }
}
