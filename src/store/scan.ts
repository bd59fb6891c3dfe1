/**
 * Walking a database in order of place: SCAN, KEYS, RANDOMKEY.
 *
 * A cursor is a place on the ring. A key that exists from the start of a walk to its end is seen: in a complete
 * partition from memory, elsewhere from rows with the not yet folded keys laid over them. Keys that share a place
 * are never split between two steps.
 */
import { SCAN_MAX_PARTITIONS } from '../base/limits.ts';
import type { Engine, KeyRow } from '../ports/engine.ts';
import { firstPositionOfSlot, POSITIONS, positionOf, slotOfPosition } from '../ring/position.ts';
import { SLOTS } from '../ring/slots.ts';
import { NONE } from '../types/kinds.ts';
import type { Database, Keyspace } from './keyspace.ts';
import { StoredKey } from './object.ts';
import { decodeObject } from './rows.ts';
import type { Shard } from './shard.ts';

export interface ScanStep {
  keys: string[];
  /** Where to go on; 0 when the walk is over. */
  cursor: number;
}

export class Scanner {
  private readonly keys: Keyspace;
  private readonly engine: Engine;

  constructor(keys: Keyspace, engine: Engine) {
    this.keys = keys;
    this.engine = engine;
  }

  private partitionEnd(partition: number): number {
    return firstPositionOfSlot((partition + 1) * (SLOTS / this.keys.partitions));
  }

  /**
   * Live keys from `cursor` on: about `count` of them. Returns the step at once when memory alone tells, else a
   * promise of it.
   * @param wanted which partitions to walk; all when it is not given
   */
  step(
    db: Database,
    cursor: number,
    count: number,
    wanted?: (partition: number) => boolean,
  ): ScanStep | Promise<ScanStep> {
    const found: string[] = [];
    if (cursor < 0 || cursor >= POSITIONS) return { keys: found, cursor: 0 };
    let at = cursor;
    for (let steps = 0; steps < SCAN_MAX_PARTITIONS; steps++) {
      const partition = this.keys.partitionOf(slotOfPosition(at));
      const shard = db.shards[partition];
      if (wanted !== undefined && !wanted(partition)) {
        at = this.partitionEnd(partition);
        if (at >= POSITIONS) return { keys: found, cursor: 0 };
        continue;
      }
      if (!shard.complete) {
        // what memory gave already is enough for one reply
        if (found.length > 0) return { keys: found, cursor: at };
        if (shard.behind !== null) return this.keys.catchUp(db, partition).then(() => this.step(db, at, count, wanted));
        return this.stepOnDisk(db, partition, at, count);
      }
      const next = this.stepInMemory(shard, at, count - found.length, found);
      at = next < 0 ? this.partitionEnd(partition) : next;
      if (at >= POSITIONS) return { keys: found, cursor: 0 };
      if (found.length >= count) break;
    }
    return { keys: found, cursor: at };
  }

  /** Adds keys at or after `at`; returns the place to go on at, or -1 when the partition is done. */
  private stepInMemory(shard: Shard, at: number, count: number, found: string[]): number {
    if (shard.size === 0) return -1;
    const view = shard.inOrder();
    const { names, places } = view;
    let lo = 0;
    let hi = names.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (places[mid] < at) lo = mid + 1;
      else hi = mid;
    }
    let taken = 0;
    for (let i = lo; i < names.length; i++) {
      if (taken >= count && places[i] !== places[i - 1]) return places[i];
      taken++;
      if (this.keys.livesIn(shard, names[i])) found.push(names[i]);
    }
    return -1;
  }

  private async stepOnDisk(db: Database, partition: number, at: number, count: number): Promise<ScanStep> {
    const end = this.partitionEnd(partition);
    const shard = db.shards[partition];
    // taken before the read: what is folded while it is under way may be in neither
    const overlay: { o: StoredKey; place: number }[] = [];
    for (const o of shard.values()) {
      const place = positionOf(o.slot, o.key);
      if (place >= at) overlay.push({ o, place });
    }
    const rows = await this.engine.range(db.index, at, end, count);
    const upTo = rows.length >= count ? rows[rows.length - 1].pos + 1 : end;
    const found = new Set<string>();
    for (const row of rows) {
      const resident = shard.peek(row.key);
      if (resident !== undefined ? this.keys.isLive(resident) : db.shards[partition] === shard && this.rowLives(row)) {
        found.add(row.key);
      }
    }
    for (const { o, place } of overlay) {
      if (place >= upTo) continue;
      if (!this.keys.isLive(o)) found.delete(o.key);
      else found.add(o.key);
    }
    return { keys: [...found], cursor: upTo >= POSITIONS ? 0 : upTo };
  }

  /** Does a row whose key is not in memory hold something live? Alone, tombstones have no rows. */
  private rowLives(row: KeyRow): boolean {
    const { now, sole } = this.keys;
    if (row.deadline !== 0 && row.deadline <= now) return false;
    if (sole || row.spread) return true;
    const o = new StoredKey(row.key, 0, row.db);
    try {
      decodeObject(this.keys, o, row.state, null);
    } catch {
      return true;
    }
    return o.type !== NONE;
  }
}

/**
 * A live key near a random place, or null when there is none.
 * @param step one step of a walk over the keys, from a cursor
 */
export async function randomKey(
  step: (cursor: number) => ScanStep | Promise<ScanStep>,
  fraction: number,
): Promise<string | null> {
  const start = Math.floor(fraction * POSITIONS);
  for (const [from, to] of [
    [start, POSITIONS],
    [0, start + 1],
  ]) {
    let cursor = from;
    do {
      const { keys, cursor: next } = await step(cursor);
      if (keys.length > 0) return keys[0];
      cursor = next;
    } while (cursor !== 0 && cursor < to);
  }
  return null;
}
