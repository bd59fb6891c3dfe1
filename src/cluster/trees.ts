/**
 * The Merkle trees of this node's partitions (paper 4.7), kept on every write.
 *
 * A write marks its object; the object's term is worked out when somebody asks for the tree, or a little later, so a key
 * that is written a thousand times a second is hashed once. Keys that are not in memory are in the tree by their rows:
 * after a start the trees are built in the background, and a partition takes part in no exchange before.
 */
import { RANGE_PAGE_ROWS } from '../base/limits.ts';
import type { TreeRow } from '../merkle/diff.ts';
import { leafTerm, MerkleTree, partitionRange } from '../merkle/tree.ts';
import type { Timer, Timers } from '../ports/clock.ts';
import type { Engine } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { positionOf } from '../ring/position.ts';
import type { Database, Keyspace } from '../store/keyspace.ts';
import { COUNTER, IN_TREE, STALE, StoredKey } from '../store/object.ts';
import { DEAD, LISTED_STALE } from '../store/packed.ts';
import { decodeObject } from '../store/rows.ts';
import { REGISTER, STRING } from '../types/kinds.ts';
import { Entry, hashEntry } from '../types/state.ts';

/** Objects whose terms are worked out in one go, and how often that is looked at, in ms. */
const SLICE_OBJECTS = 1000;
const SLICE_MS = 50;
/** A busy node leaves so many to be worked out, since many of them will be written again before anybody asks. */
const LAZY_OBJECTS = 1_000_000;
const BUSY_COMMANDS = 2000;

/** Running sum over an object's live entries, as `KeyState.checksum` has it. */
export function checksumOf(o: StoredKey): number {
  if (o.state !== null) return o.state.checksum();
  if (o.type !== STRING) return 0;
  if (o.flags & COUNTER) return o.toState().checksum();
  return hashEntry(new Entry(REGISTER, o.actor, o.to, String(o.value), o.deadline));
}

export class Trees {
  private readonly trees: MerkleTree[] = [];
  /** Everything of the partition is in its tree. */
  private readonly built: Uint8Array;
  private readonly keys: Keyspace;
  private readonly engine: Engine;
  private readonly log: Log;
  private readonly timers: Timers;
  private timer: Timer | null = null;
  private stopped = false;
  /** Where the build is: rows of this partition and database below this place are in, and of all databases before it. */
  private building = -1;
  private buildingDb = 0;
  private builtTo = 0;

  constructor(parts: { keys: Keyspace; engine: Engine; timers: Timers; log: Log }) {
    this.keys = parts.keys;
    this.engine = parts.engine;
    this.timers = parts.timers;
    this.log = parts.log;
    const q = this.keys.partitions;
    for (let p = 0; p < q; p++) this.trees.push(new MerkleTree(p, q));
    this.built = new Uint8Array(q);
    this.keys.stale = [];
    this.keys.onLoaded = (o) => this.loaded(o);
    this.keys.onLeave = (o) => this.leave(o);
    this.keys.onLeaveRecord = (a) => this.leaveRecord(a);
    this.keys.onFlushed = (db) => this.flushed(db);
  }

  start(): void {
    this.timer = this.timers.every(SLICE_MS, () => this.slice());
    void this.build();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  isReady(p: number): boolean {
    return this.built[p] === 1;
  }

  get readyCount(): number {
    let n = 0;
    for (const b of this.built) n += b;
    return n;
  }

  tree(p: number): MerkleTree {
    return this.trees[p];
  }

  /** A partition's tree with everything in it that has been written. */
  current(p: number): MerkleTree {
    this.refresh(Number.MAX_SAFE_INTEGER);
    return this.trees[p];
  }

  // ------------------------------------------------------------------ terms

  private events = 0;

  private slice(): void {
    const { events } = this.keys.stats;
    const busy = (events - this.events) * (1000 / SLICE_MS) > BUSY_COMMANDS;
    this.events = events;
    const { waiting } = this;
    if (!busy) this.refresh(SLICE_OBJECTS);
    else if (waiting > LAZY_OBJECTS) this.refresh(4 * SLICE_OBJECTS);
  }

  /** Works everything out, in steps that let others have their turn. */
  async settle(): Promise<void> {
    while (this.waiting > 2 * SLICE_OBJECTS && !this.stopped) {
      this.refresh(2 * SLICE_OBJECTS);
      await new Promise<void>((resolve) => this.timers.endOfTick(resolve));
    }
    this.refresh(Number.MAX_SAFE_INTEGER);
  }

  /** Works out the terms of what has changed. */
  refresh(limit: number): void {
    const list = this.keys.stale;
    if (list === null) return;
    const n = Math.min(limit, list.length);
    for (let i = list.length - n; i < list.length; i++) this.update(list[i]);
    list.length -= n;
    const records = this.keys.staleRecords;
    const m = Math.min(limit - n, records.length);
    for (let i = records.length - m; i < records.length; i++) {
      const a = records[i];
      if ((this.keys.packed.flags(a) & DEAD) === 0) this.updateRecord(a);
      this.keys.packed.unlist(a, LISTED_STALE);
    }
    records.length -= m;
  }

  /** The same as `update`, of a packed key. */
  private updateRecord(a: number): void {
    const { packed } = this.keys;
    const flags = packed.flags(a);
    if ((flags & STALE) === 0) return;
    const o = packed.copy(a);
    this.update(o);
    packed.setTerm(a, o.term);
    packed.setFlags(a, (flags & ~(STALE | IN_TREE)) | (o.flags & IN_TREE));
  }

  /** Objects and records whose terms are not worked out. */
  private get waiting(): number {
    return (this.keys.stale?.length ?? 0) + this.keys.staleRecords.length;
  }

  private update(o: StoredKey): void {
    if ((o.flags & STALE) === 0) return;
    o.flags &= ~STALE;
    const tree = this.trees[this.keys.partitionOf(o.slot)];
    const pos = positionOf(o.slot, o.key);
    const hash = o.contextHash();
    const term = hash === 0 ? 0 : leafTerm(o.db, pos, hash, checksumOf(o));
    if (o.flags & IN_TREE) {
      if (hash === 0) {
        tree.remove(pos, o.term);
        o.flags &= ~IN_TREE;
      } else tree.replace(pos, o.term, term);
    } else if (hash !== 0) {
      tree.add(pos, term);
      o.flags |= IN_TREE;
    }
    o.term = term;
  }

  /** An object came in from its row: if that is in the tree, so is the object. */
  private loaded(o: StoredKey): void {
    const pos = positionOf(o.slot, o.key);
    if (this.hasRow(o.db, o.slot, pos)) {
      const hash = o.contextHash();
      if (hash === 0) return;
      o.term = leafTerm(o.db, pos, hash, checksumOf(o));
      o.flags |= IN_TREE;
    }
  }

  /** Is the row of such a key in its tree, if there is one? What the build has not come to will be added by that. */
  private hasRow(db: number, slot: number, pos: number): boolean {
    const p = this.keys.partitionOf(slot);
    if (this.built[p] === 1) return true;
    return this.building === p && (db < this.buildingDb || (db === this.buildingDb && pos < this.builtTo));
  }

  /** An object leaves memory: its row must stand for it. */
  private leave(o: StoredKey): void {
    const pos = positionOf(o.slot, o.key);
    if (this.hasRow(o.db, o.slot, pos)) {
      this.update(o);
      return;
    }
    if (o.flags & IN_TREE) this.trees[this.keys.partitionOf(o.slot)].remove(pos, o.term);
    o.flags &= ~(STALE | IN_TREE);
  }

  private leaveRecord(a: number): void {
    const { packed } = this.keys;
    const o = packed.copy(a);
    this.leave(o);
    packed.setTerm(a, o.term);
    packed.setFlags(a, (packed.flags(a) & ~(STALE | IN_TREE)) | (o.flags & IN_TREE));
  }

  private flushed(db: Database): void {
    // a floor concerns all partitions: build them again from what is left
    this.building = -1;
    // objects that went with it count for nothing; one that was evicted has been worked out as it left
    const { stale } = this.keys;
    if (stale !== null)
      this.keys.stale = stale.filter((o) => {
        if (o.db !== db.index || this.keys.shard(db, o.slot).objects.get(o.key) === o) return true;
        o.flags &= ~STALE;
        return false;
      });
    const { packed } = this.keys;
    for (const tree of this.trees) tree.clear();
    this.built.fill(0);
    for (const d of this.keys.databases)
      for (const shard of d.shards) {
        for (const o of shard.objects.values()) o.flags &= ~IN_TREE;
        for (const a of shard.records.values()) packed.setFlags(a, packed.flags(a) & ~IN_TREE);
      }
    this.timers.endOfTick(() => void this.build());
  }

  // ------------------------------------------------------------------ building

  private builds = 0;

  private async build(): Promise<void> {
    const run = ++this.builds;
    try {
      for (let p = 0; p < this.trees.length; p++) {
        if (this.stopped || run !== this.builds) return;
        if (this.built[p] === 1) continue;
        await this.buildOne(p, run);
        if ((p & 63) === 63) await new Promise<void>((resolve) => this.timers.after(1, resolve));
      }
      this.log.debug({ partitions: this.trees.length }, 'the Merkle trees are built');
    } catch (error) {
      if (!this.stopped) this.log.error({ error: String(error) }, 'building the Merkle trees stopped');
    }
  }

  private async buildOne(p: number, run: number): Promise<void> {
    const { first, span } = partitionRange(p, this.trees.length);
    const end = first + span;
    for (const db of this.keys.databases) {
      const shard = db.shards[p];
      if (!shard.complete) await this.buildFromRows(db, p, first, end, run);
      if (run !== this.builds) return;
      for (const o of shard.objects.values()) {
        if (o.flags & IN_TREE) continue;
        o.flags |= STALE;
        this.update(o);
      }
      const { packed } = this.keys;
      for (const a of shard.records.values()) {
        const flags = packed.flags(a);
        if (flags & IN_TREE) continue;
        packed.setFlags(a, flags | STALE);
        this.updateRecord(a);
      }
    }
    this.building = -1;
    this.built[p] = 1;
  }

  private async buildFromRows(db: Database, p: number, first: number, end: number, run: number): Promise<void> {
    const shard = db.shards[p];
    let from = first;
    this.building = p;
    this.buildingDb = db.index;
    this.builtTo = first;
    for (;;) {
      const rows = await this.engine.range(db.index, from, end, RANGE_PAGE_ROWS);
      if (this.stopped || run !== this.builds) return;
      const next = rows.length < RANGE_PAGE_ROWS ? end : rows[rows.length - 1].pos + 1;
      for (const row of rows) {
        if (shard.has(row.key)) continue;
        const o = new StoredKey(row.key, 0, row.db);
        const entries = row.spread ? await this.engine.entries(row.db, row.pos, row.key) : null;
        try {
          decodeObject(this.keys, o, row.state, entries);
        } catch {
          continue;
        }
        const hash = o.contextHash();
        if (hash !== 0 && !shard.has(row.key))
          this.trees[p].add(row.pos, leafTerm(row.db, row.pos, hash, checksumOf(o)));
      }
      this.builtTo = next;
      if (next >= end) return;
      from = next;
    }
  }

  // ------------------------------------------------------------------ scanning

  /** All keys of a partition, tombstones among them. */
  async keysOf(db: Database, p: number): Promise<string[]> {
    const shard = db.shards[p];
    if (shard.complete) return [...shard.names()];
    const tree = this.trees[p];
    const names = new Set(await this.engine.keyNames(db.index, tree.first, tree.first + tree.span));
    for (const key of shard.names()) names.add(key);
    return [...names];
  }

  /** The tree's rows with first <= pos < end, of all databases, in order of place. */
  async scan(p: number, first: number, end: number): Promise<TreeRow[]> {
    await this.settle();
    const rows: TreeRow[] = [];
    for (const db of this.keys.databases) {
      const shard = db.shards[p];
      const seen = new Set<string>();
      if (!shard.complete) {
        for (const row of await this.engine.range(db.index, first, end, Number.MAX_SAFE_INTEGER)) {
          if (shard.has(row.key)) continue;
          const o = new StoredKey(row.key, 0, row.db);
          decodeObject(
            this.keys,
            o,
            row.state,
            row.spread ? await this.engine.entries(row.db, row.pos, row.key) : null,
          );
          if (o.contextHash() === 0) continue;
          seen.add(row.key);
          rows.push({
            db: db.index,
            pos: row.pos,
            key: row.key,
            contextHash: o.contextHash(),
            checksum: checksumOf(o),
          });
        }
      }
      if (shard.size === 0) continue;
      for (const name of shard.inPlaces(first, end)) {
        const o = shard.peek(name)!;
        const hash = o.contextHash();
        if (hash === 0 || seen.has(o.key)) continue;
        const pos = positionOf(o.slot, o.key);
        rows.push({ db: db.index, pos, key: o.key, contextHash: hash, checksum: checksumOf(o) });
      }
    }
    return rows.sort((a, b) => a.pos - b.pos);
  }
}
