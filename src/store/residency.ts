/**
 * What is in memory: keys are loaded when a command needs them, warmed up after a start, and leave when memory is
 * short. Memory is a cache bounded by `maxmemory`; what has not been folded yet is pinned.
 */
import { EVICT_STEP_OBJECTS, RANGE_PAGE_ROWS } from '../base/limits.ts';
import type { Timers } from '../ports/clock.ts';
import type { Engine, EntryRow, KeyRow } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { firstPositionOfSlot, POSITIONS, positionOf, slotOfPosition } from '../ring/position.ts';
import { SLOTS } from '../ring/slots.ts';
import { NONE } from '../types/kinds.ts';
import { KeyFilter } from './key-filter.ts';
import type { Database, KeyPlace, Keyspace } from './keyspace.ts';
import { COUNTED, COUNTED_EXPIRES, DIRTY, FOLDING, ROW_EXISTS, ROW_EXPIRES, ROW_LIVE, StoredKey } from './object.ts';
import { decodeObject } from './rows.ts';
import type { Shard } from './shard.ts';

/** So many keys are read at a time for the replay of a partition. */
const FETCH_KEYS = 4096;
/** More keys than this are not remembered as dropped without asking whether a read still cares. */
const MAX_DROPPED = 100_000;

/** A step of packing looks at so many objects, in no more partitions than this. */
const PACK_STEP_OBJECTS = 500;
const PACK_STEP_SHARDS = 64;
/** Objects that nobody has used for so many seconds are packed. */
const PACK_IDLE_SECONDS = 10;

interface Waiting {
  places: KeyPlace[];
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** The row of a key can't be read back: its command fails, others go on. */
class DamagedKeyError extends Error {
  constructor(key: string) {
    super(`the row of key ${JSON.stringify(key)} is damaged`);
    this.name = 'DamagedKeyError';
  }
}

export class Residency {
  /** Bytes that resident objects may take. */
  limit = Number.MAX_SAFE_INTEGER;
  loads = 0;
  evictions = 0;
  /** Keys whose rows were found damaged, by name, for the log and INFO. */
  damaged = 0;
  warming = false;

  private queue: Waiting[] = [];
  private scheduled = false;
  /** Keys that left memory while reads were under way, with the number of the newest read: older ones may have old rows. */
  private readonly dropped = new Map<string, number>();
  /** Reads under way, by number. */
  private readonly reads = new Set<number>();
  private lastRead = 0;
  private hand = 0;
  /** Objects of the hand's partition, and records of packed keys. */
  private handIterator: IterableIterator<StoredKey | number> | null = null;
  /** The partition that it goes through: a flush puts another in its place. */
  private handShard: Shard | null = null;
  private packHand = 0;
  /** Objects of the packing hand's partition. */
  private packIterator: IterableIterator<StoredKey> | null = null;
  private packShard: Shard | null = null;
  /** Objects that nobody has used for so long are packed. */
  packIdleSeconds = PACK_IDLE_SECONDS;
  /** When there was last no memory to be given back. */
  private tidySeconds = 0;
  private idleSeconds = 64;
  private stopped = false;
  private whole = false;
  private evictionsWhenWhole = 0;
  private wholeChecked = -1;
  private readonly engine: Engine;
  private readonly keys: Keyspace;
  private readonly timers: Timers;
  private readonly log: Log;

  constructor(engine: Engine, keys: Keyspace, timers: Timers, log: Log) {
    this.engine = engine;
    this.keys = keys;
    this.timers = timers;
    this.log = log;
    const evict = keys.evict.bind(keys);
    keys.evict = (db, o) => {
      if (this.reads.size > 0) this.dropped.set(`${o.db}:${o.key}`, this.lastRead);
      evict(db, o);
    };
  }

  /** Everything is in memory: nothing can be missing. */
  get isWhole(): boolean {
    if (this.whole && this.evictions === this.evictionsWhenWhole) return true;
    if (this.wholeChecked === this.keys.seconds) return this.whole && this.evictions === this.evictionsWhenWhole;
    this.wholeChecked = this.keys.seconds;
    this.whole = this.keys.databases.every((db) => db.shards.every((s) => s.complete));
    this.evictionsWhenWhole = this.evictions;
    return this.whole;
  }

  /** Resolves once all of these are resident (known to be absent counts). Reads of a tick go together. */
  load(places: KeyPlace[]): Promise<void> {
    if (this.keys.behind > 0) {
      const behind = this.caughtUp(places);
      if (behind !== null) return behind.then(() => this.load(places));
    }
    return new Promise((resolve, reject) => {
      this.queue.push({ places, resolve, reject });
      if (this.scheduled) return;
      this.scheduled = true;
      this.timers.endOfTick(() => {
        this.scheduled = false;
        void this.loadQueued();
      });
    });
  }

  /** Resolves when the partitions of these are no longer behind the journal; null when they are not. */
  private caughtUp(places: KeyPlace[]): Promise<unknown> | null {
    const { keys } = this;
    if (places.some((p) => p.whole)) return keys.catchUpAll();
    const behind = places.filter((p) => keys.shard(p.db, p.slot).behind !== null);
    if (behind.length === 0) return null;
    return Promise.all(behind.map((p) => keys.catchUp(p.db, keys.partitionOf(p.slot))));
  }

  private async loadQueued(): Promise<void> {
    const queue = this.queue;
    this.queue = [];
    const wanted = new Map<string, KeyPlace>();
    const flat: number[] = [];
    for (const w of queue) {
      for (const p of w.places) {
        const name = `${p.db.index}:${p.key}`;
        if (p.whole || this.keys.isResident(p.db, p.key, p.slot) || wanted.has(name)) continue;
        wanted.set(name, p);
        flat.push(p.db.index, positionOf(p.slot, p.key));
      }
    }
    const damaged = new Set<string>();
    try {
      if (wanted.size > 0) {
        this.loads += wanted.size;
        await this.read(async (read) => {
          for (const row of await this.engine.load(flat)) {
            const name = `${row.db}:${row.key}`;
            if (!wanted.has(name)) continue;
            if (!(await this.install(row, read))) damaged.add(name);
            wanted.delete(name);
          }
          for (const p of wanted.values()) this.installAbsent(p, read);
        });
      }
      for (const w of queue) {
        const bad = damaged.size > 0 && w.places.find((p) => damaged.has(`${p.db.index}:${p.key}`));
        if (bad) w.reject(new DamagedKeyError(bad.key));
        else w.resolve();
      }
    } catch (error) {
      for (const w of queue) w.reject(error);
    }
  }

  /** Runs a read. Keys that are dropped while it is under way are not installed from it. */
  private async read<T>(work: (read: number) => Promise<T>): Promise<T> {
    const read = ++this.lastRead;
    this.reads.add(read);
    try {
      return await work(read);
    } finally {
      this.reads.delete(read);
      if (this.reads.size === 0) this.dropped.clear();
      else if (this.dropped.size > MAX_DROPPED) this.forgetDropped();
    }
  }

  /** Drops what no read under way is older than. */
  private forgetDropped(): void {
    const oldest = Math.min(...this.reads);
    for (const [name, at] of this.dropped) if (at < oldest) this.dropped.delete(name);
  }

  /** True when the key left memory after this read began. */
  private isStale(name: string, read: number): boolean {
    const at = this.dropped.get(name);
    return at !== undefined && at >= read;
  }

  private async install(row: KeyRow, read: number): Promise<boolean> {
    const db = this.keys.databases[row.db];
    const slot = slotOfPosition(row.pos);
    const entries = row.spread ? await this.engine.entries(row.db, row.pos, row.key) : null;
    const shard = this.keys.shard(db, slot);
    if (shard.has(row.key) || this.isStale(`${row.db}:${row.key}`, read)) return true;
    const o = this.objectOf(row, slot, entries);
    if (o === null) return false;
    if ((o.flags & ROW_EXISTS) === 0) {
      this.installAbsent({ db, key: row.key, slot }, read);
      return true;
    }
    this.keys.onLoaded?.(o);
    this.keys.admit(shard, o);
    return true;
  }

  /** The object that a row holds, one without anything when the row has been flushed; null when it is damaged. */
  private objectOf(row: KeyRow, slot: number, entries: EntryRow[] | null): StoredKey | null {
    const o = new StoredKey(row.key, slot, row.db);
    try {
      decodeObject(this.keys, o, row.state, entries);
    } catch (error) {
      this.damaged++;
      this.log.error({ key: row.key, db: row.db, error: String(error) }, 'the row of a key is damaged');
      return null;
    }
    if ((o.state?.context.highest() ?? o.to) <= this.keys.databases[row.db].floor) {
      // its row only waits to be cleared away
      return this.absent(row.key, slot, row.db);
    }
    o.used = this.keys.seconds;
    o.flags |= ROW_EXISTS;
    if (o.type !== NONE) {
      o.flags |= ROW_LIVE | COUNTED;
      if (o.deadline !== 0) o.flags |= ROW_EXPIRES | COUNTED_EXPIRES;
    }
    return o;
  }

  private absent(key: string, slot: number, db: number): StoredKey {
    const o = new StoredKey(key, slot, db);
    o.used = this.keys.seconds;
    return o;
  }

  /**
   * What rows hold of these keys, as objects that are in no partition yet, one for each key; the keys are of partitions
   * that are behind, so nothing else brings them in. Rejects when a row is damaged.
   */
  async fetch(places: KeyPlace[]): Promise<StoredKey[]> {
    const found: StoredKey[] = [];
    for (let at = 0; at < places.length; at += FETCH_KEYS) {
      const wanted = new Map<string, KeyPlace>();
      const flat: number[] = [];
      for (const p of places.slice(at, at + FETCH_KEYS)) {
        wanted.set(`${p.db.index}:${p.key}`, p);
        flat.push(p.db.index, positionOf(p.slot, p.key));
      }
      this.loads += wanted.size;
      for (const row of await this.engine.load(flat)) {
        const name = `${row.db}:${row.key}`;
        const place = wanted.get(name);
        if (place === undefined) continue;
        wanted.delete(name);
        const entries = row.spread ? await this.engine.entries(row.db, row.pos, row.key) : null;
        const o = this.objectOf(row, place.slot, entries);
        if (o === null) throw new DamagedKeyError(row.key);
        found.push(o);
      }
      for (const p of wanted.values()) found.push(this.absent(p.key, p.slot, p.db.index));
    }
    return found;
  }

  /** Remembers that a key has no row, until it is evicted like any other. */
  private installAbsent(p: KeyPlace, read: number): void {
    const shard = this.keys.shard(p.db, p.slot);
    if (shard.complete || shard.has(p.key) || this.isStale(`${p.db.index}:${p.key}`, read)) return;
    this.keys.adopt(shard, this.absent(p.key, p.slot, p.db.index));
  }

  // ------------------------------------------------------------------ whole partitions

  /** Makes a partition complete, page by page. Returns false when keys left memory meanwhile. */
  async loadPartition(db: Database, partition: number): Promise<boolean> {
    if (db.shards[partition].behind !== null) await this.keys.catchUp(db, partition);
    const shard = db.shards[partition];
    if (shard.complete) return true;
    const slots = SLOTS / this.keys.partitions;
    const end = firstPositionOfSlot((partition + 1) * slots);
    let from = firstPositionOfSlot(partition * slots);
    const evictions = this.evictions;
    let whole = true;
    await this.read(async (read) => {
      for (;;) {
        const rows = await this.engine.range(db.index, from, end, RANGE_PAGE_ROWS);
        for (const row of rows) if (!(await this.install(row, read))) whole = false;
        if (rows.length < RANGE_PAGE_ROWS) break;
        from = rows[rows.length - 1].pos + 1;
      }
    });
    // a partition with damage in it is never complete: its damaged keys must not look absent
    if (!whole || evictions !== this.evictions || db.shards[partition] !== shard) return db.shards[partition].complete;
    shard.complete = true;
    shard.filter = null;
    return true;
  }

  /** Learns which keys of a partition have rows, where there is no room for the keys themselves. */
  private async learnPartition(db: Database, partition: number): Promise<void> {
    if (db.shards[partition].behind !== null) await this.keys.catchUp(db, partition);
    const shard = db.shards[partition];
    if (shard.complete || shard.filter !== null) return;
    const slots = SLOTS / this.keys.partitions;
    const filter = new KeyFilter();
    // a key that is folded and leaves while the names are read is in the keys dropped meanwhile
    await this.read(async (read) => {
      const from = firstPositionOfSlot(partition * slots);
      const names = await this.engine.keyNames(db.index, from, firstPositionOfSlot((partition + 1) * slots));
      for (const name of names) filter.add(name);
      const prefix = `${db.index}:`;
      for (const [name, at] of this.dropped)
        if (at >= read && name.startsWith(prefix)) filter.add(name.slice(prefix.length));
    });
    if (db.shards[partition] === shard && !shard.complete) shard.filter = filter;
  }

  /** After a start: brings partitions in while there is room. */
  async warmUp(): Promise<void> {
    this.warming = true;
    let loaded = 0;
    let partly = false;
    try {
      for (const db of this.keys.databases) {
        if (db.keys === 0) {
          // counts are exact, so a database without keys needs no reading, unless tombstones are kept
          const bare = this.keys.sole || (await this.engine.range(db.index, 0, POSITIONS, 1)).length === 0;
          if (bare) for (const shard of db.shards) if (shard.size === 0) shard.complete = true;
          if (this.keys.sole || bare) continue;
        }
        for (let p = 0; p < db.shards.length; p++) {
          if (this.stopped) return;
          if (db.shards[p].complete) continue;
          if (this.keys.bytes > this.limit * 0.7) {
            await this.learnPartition(db, p);
            partly = true;
            continue;
          }
          await this.loadPartition(db, p);
          loaded++;
        }
      }
      if (loaded > 0 || partly) {
        this.log.info(
          { partitions: loaded, bytes: this.keys.bytes },
          partly ? 'memory is warm' : 'all keys are in memory',
        );
      }
    } catch (error) {
      this.log.error({ error: String(error) }, 'warming up stopped');
    } finally {
      this.warming = false;
    }
  }

  stop(): void {
    this.stopped = true;
  }

  // ------------------------------------------------------------------ eviction

  /** Takes cold clean objects out of memory until it fits, or this step's share of work is done. */
  evict(): void {
    if (this.keys.bytes <= this.limit) {
      if (this.idleSeconds < 64) this.idleSeconds *= 2;
      return;
    }
    const { databases } = this.keys;
    const shards = this.keys.partitions;
    const total = databases.length * shards;
    let looked = 0;
    let visited = 0;
    while (looked < EVICT_STEP_OBJECTS && visited <= total && this.keys.bytes > this.limit) {
      const db = databases[Math.floor(this.hand / shards) % databases.length];
      const shard: Shard = db.shards[this.hand % shards];
      if (this.handIterator === null || this.handShard !== shard) {
        this.handIterator = residents(shard);
        this.handShard = shard;
      }
      const next = this.handIterator.next();
      if (next.done) {
        this.handIterator = null;
        this.handShard = null;
        this.hand = (this.hand + 1) % total;
        visited++;
        if (this.hand === 0) this.idleSeconds = Math.max(0, Math.floor(this.idleSeconds / 2));
        continue;
      }
      looked++;
      const x = next.value;
      if (!this.isCold(x)) continue;
      if (shard.complete) {
        // from now on the filter says which keys have a row elsewhere: so far, none
        shard.filter = new KeyFilter();
        shard.complete = false;
      }
      shard.sorted = null;
      this.evictions++;
      if (typeof x !== 'number') this.keys.evict(db, x);
      else {
        if (this.reads.size > 0) this.dropped.set(`${db.index}:${this.keys.packed.key(x)}`, this.lastRead);
        this.keys.evictRecord(shard, x);
      }
    }
  }

  /** Has it been folded, and not been used for a while? */
  private isCold(x: StoredKey | number): boolean {
    const { packed, seconds } = this.keys;
    if (typeof x !== 'number') {
      if (x.flags & (DIRTY | FOLDING)) return false;
      return x.type === NONE || seconds - x.used >= this.idleSeconds;
    }
    return (packed.flags(x) & (DIRTY | FOLDING)) === 0 && seconds - packed.used(x) >= this.idleSeconds;
  }

  // ------------------------------------------------------------------ packing

  /** Packs objects that could be and that nobody has used for a while, and gives back memory. Called every few ms. */
  pack(): void {
    const { keys } = this;
    if (keys.seconds !== this.tidySeconds && !keys.packed.tidy()) this.tidySeconds = keys.seconds;
    const { databases, partitions } = keys;
    let looked = 0;
    for (let n = 0; n < PACK_STEP_SHARDS && looked < PACK_STEP_OBJECTS; ) {
      const db = databases[Math.floor(this.packHand / partitions) % databases.length];
      const shard = db.shards[this.packHand % partitions];
      if (shard.objects.size > 0) {
        if (this.packIterator === null || this.packShard !== shard) {
          this.packIterator = shard.objects.values();
          this.packShard = shard;
        }
        const next = this.packIterator.next();
        if (!next.done) {
          looked++;
          const o = next.value;
          if (keys.seconds - o.used >= this.packIdleSeconds) keys.repack(shard, o);
          continue;
        }
      }
      this.packIterator = null;
      this.packShard = null;
      this.packHand = (this.packHand + 1) % (databases.length * partitions);
      n++;
    }
  }
}

/** What of a shard is in memory: objects, and records of packed keys. */
function* residents(shard: Shard): IterableIterator<StoredKey | number> {
  yield* shard.objects.values();
  yield* shard.records.values();
}
