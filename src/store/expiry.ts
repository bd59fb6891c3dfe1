/**
 * Deadlines: a key past its deadline is hidden at once, by the clock; here it is removed, by an ordinary event.
 *
 * In a cluster that event comes `expire-settle` later. Each node hides by a clock of its own: a coordinator whose clock is
 * a little ahead would otherwise remove for good what others still show, and what a client may still be about to prolong.
 *
 * Rows are found by the deadline index. Keys with short lives may come and go between two folds, so they are also
 * kept in buckets by the second in which they fall due.
 */
import { breaks } from '../base/breaks.ts';
import { EXPIRE_ROUND_KEYS, EXPIRE_ROUND_MS } from '../base/limits.ts';
import type { Clock, Timer, Timers } from '../ports/clock.ts';
import type { Engine } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { slotOfPosition } from '../ring/position.ts';
import { NONE } from '../types/kinds.ts';
import type { Keyspace } from './keyspace.ts';
import type { StoredKey } from './object.ts';
import type { Residency } from './residency.ts';

/** Keys due within this many ms are kept in buckets. */
const SOON_MS = 30_000;
const BUCKET_MS = 250;

export class Expiry {
  active = true;
  /** How long after its deadline a key is removed, in ms; 0 when alone, for then there is one clock. */
  settleMs: () => number = () => 0;
  private readonly buckets = new Map<number, StoredKey[]>();
  private lastBucket = 0;
  private timer: Timer | null = null;
  private busy = false;
  private readonly keys: Keyspace;
  private readonly engine: Engine;
  private readonly residency: Residency;
  private readonly clock: Clock;
  private readonly log: Log;

  constructor(parts: { keys: Keyspace; engine: Engine; residency: Residency; clock: Clock; log: Log }) {
    this.keys = parts.keys;
    this.engine = parts.engine;
    this.residency = parts.residency;
    this.clock = parts.clock;
    this.log = parts.log;
    this.keys.onDeadline = (o) => this.remember(o);
  }

  start(timers: Timers): void {
    this.lastBucket = Math.floor((this.clock.now() - this.settleMs()) / BUCKET_MS);
    this.timer = timers.every(EXPIRE_ROUND_MS / 2, () => void this.round());
  }

  stop(): void {
    this.timer?.cancel();
  }

  private remember(o: StoredKey): void {
    if (o.deadline > this.keys.now + SOON_MS) return;
    const bucket = Math.max(this.lastBucket + 1, Math.floor(o.deadline / BUCKET_MS) + 1);
    const list = this.buckets.get(bucket);
    if (list === undefined) this.buckets.set(bucket, [o]);
    else list.push(o);
  }

  /** One round over what was due `settleMs` ago: the buckets that have come due, then one page of the deadline index. */
  async round(): Promise<void> {
    if (!this.active || this.busy || this.keys.journal.failure !== null) return;
    this.busy = true;
    try {
      this.keys.now = this.clock.now();
      const until = this.keys.now - this.settleMs();
      const current = Math.floor(until / BUCKET_MS);
      for (; this.lastBucket < current; this.lastBucket++) {
        for (const o of this.buckets.get(this.lastBucket + 1) ?? []) this.removeIfDue(o, until);
        this.buckets.delete(this.lastBucket + 1);
      }
      const due = await this.engine.due(until, EXPIRE_ROUND_KEYS);
      if (due.length === 0) return;
      const places = due.map((d) => ({ db: this.keys.databases[d.db], key: d.key, slot: slotOfPosition(d.pos) }));
      await this.residency.load(places);
      this.keys.now = this.clock.now();
      for (const p of places) {
        const o = this.keys.shard(p.db, p.slot).get(p.key);
        if (o !== undefined) this.removeIfDue(o, until);
      }
    } catch (error) {
      this.log.warn({ error: String(error) }, 'a round of expiry failed');
    } finally {
      this.busy = false;
    }
  }

  private removeIfDue(o: StoredKey, until: number): void {
    const db = this.keys.databases[o.db];
    if (o.type === NONE || this.keys.shard(db, o.slot).objects.get(o.key) !== o) return;
    if (breaks.dropsByOwnClock && o.deadline <= until) {
      this.keys.forget(db, o);
      return;
    }
    // whoever coordinates the key removes it; here it stays hidden until that event comes
    if (this.keys.mayExpire !== null && !this.keys.mayExpire(o.slot)) return;
    // a key of several siblings goes whole only when the last of them is overdue
    if (this.keys.isLive(o, until)) this.keys.dropExpiredSiblings(db, o, until);
    else this.keys.expire(db, o);
    this.keys.onOwn?.();
  }
}
