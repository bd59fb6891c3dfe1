/**
 * The resident keys of one node, and every way in which a command may change one.
 *
 * A change is an event: it is applied to the object in place and recorded in the journal, in one synchronous step.
 * The simple forms (`store/object`) are changed here without building an event; everything else goes through
 * `commit`, which is DESIGN section 3 to the letter. A test replays the journal through the general rules alone
 * and must arrive at the same states.
 *
 * A key that is not resident, in a shard that isn't complete, is asked for with `throw MISS`: the command stops
 * without a trace, `missing` says what to load, and it runs again when that is there.
 */

import { breaks } from '../base/breaks.ts';
import { MERGE_OVERFLOW, TOO_MANY_SIBLINGS, WRONG_TYPE } from '../base/errors.ts';
import { CHUNK_BYTES, LARGE_CONTEXT_INTERVALS } from '../base/limits.ts';
import type { HybridClock } from '../causality/clock.ts';
import { Context } from '../causality/context.ts';
import { SLOTS, STRETCHES, slotOf, stretchOf } from '../ring/slots.ts';
import { chunkField } from '../types/chunks.ts';
import { registerName } from '../types/deadline.ts';
import { addDecimals, basisOf, recordsForOverwrite, runField, sumPayload, sumText } from '../types/increment.ts';
import { CHUNK, DEADLINE, INCREMENT, NONE, RECORD, REGISTER, STRING } from '../types/kinds.ts';
import { alive, liveSiblings, shownSibling } from '../types/register.ts';
import { type Addition, Entry, type EntryRef, type KeyEvent, KeyState } from '../types/state.ts';
import { viewOf } from '../types/view.ts';
import type { Journal } from './journal.ts';
import type { MadeRecords } from './made-records.ts';
import {
  COUNTED,
  COUNTED_EXPIRES,
  COUNTER,
  DIRTY,
  FOLDING,
  OVERFLOW,
  RAW,
  ROW_EXISTS,
  ROW_EXPIRES,
  ROW_LIVE,
  STALE,
  StoredKey,
  TEXT,
} from './object.ts';
import { canPack, isPackable, LISTED_DIRTY, LISTED_STALE, PackedKeys } from './packed.ts';
import {
  recordEvent,
  recordFlush,
  recordForget,
  recordOverwrite,
  recordOverwriteBytes,
  recordState,
  recordStateBytes,
  recordStep,
  recordSwap,
} from './records.ts';
import { Shard } from './shard.ts';

/** Thrown when a command needs a key that is not resident. */
export const MISS = { miss: true };

/** Reads that found so many siblings, or more, are counted together. */
export const MOST_SIBLINGS = 10;
/** So many of the latest news are known by slot: some ms' worth under the heaviest load. */
export const RECENT_NEWS = 4096;

export interface KeyPlace {
  db: Database;
  key: string;
  slot: number;
  /** It stands for all keys there are: what is needed is that no partition is behind. */
  whole?: boolean;
}

export class Database {
  /** Its number in rows and records; clients' numbers are mapped to it (`SWAPDB`). */
  readonly index: number;
  readonly shards: Shard[] = [];
  /** By partition: a key that is not packed does not exist. */
  readonly plain: Uint8Array;
  /** Live keys (those past their deadlines included until they are removed), and how many have a deadline. */
  keys = 0;
  expires = 0;
  /** Everything at or below this hlc is void (`FLUSHDB`). */
  floor = 0;

  constructor(index: number, partitions: number) {
    this.index = index;
    this.plain = new Uint8Array(partitions);
  }
}

/** What a client's token says that it has seen of a key. */
export interface Seen {
  context: Context;
  gone: EntryRef[];
  /** Run → [hlc, sum]. */
  sums: Map<string, { hlc: number; sum: string }>;
}

export class Keyspace {
  readonly databases: Database[] = [];
  /** The records of packed keys. */
  readonly packed = new PackedKeys((db, slot) => this.databases[db].shards[slot >> this.shift].list);
  /** Client's database number → database. */
  names: Database[] = [];
  /** What the last MISS needs. */
  missing: KeyPlace | null = null;
  /** Wall-clock ms, set at the start of each command or batch of commands. */
  now = 0;
  /** Seconds, for idle times. */
  seconds = 0;
  /** Reckoned bytes of all resident objects. */
  private objectBytes = 0;
  /** Objects and records to fold. */
  dirty: StoredKey[] = [];
  dirtyRecords: number[] = [];
  /** This node's actor. */
  actor: number;
  /** This node is the only member: nothing concurrent can be elsewhere, so chains survive restarts and records can go. */
  sole = true;
  /** Own stamps at or below this were made before this process held the keys. */
  chainStart = 0;
  maxSiblings: number;
  /** In a cluster: the records made here that `cluster/replicator` has not looked at. Null while alone. */
  made: MadeRecords | null = null;
  /** The reply of the command at hand rests on the state: the contexts that its records are made on are kept too. */
  firm = false;
  /** In a cluster: objects whose Merkle terms are to be worked out again. Null while alone. */
  stale: StoredKey[] | null = null;
  staleRecords: number[] = [];
  /** Counts what other nodes' events have changed here. */
  news = 0;
  /** When a key of each stretch of slots was last one of these; the slots of the latest, by their numbers. */
  private readonly newsAt = new Float64Array(STRETCHES);
  private readonly newsSlots = new Uint16Array(RECENT_NEWS);
  /** Told of the slot. */
  onNews: ((slot: number) => void) | null = null;
  /** How often something has been undone in each slot, to see whether it has been again. */
  readonly undoneAt = new Uint16Array(SLOTS);
  /** The interval of the last event that was made in the general way. */
  readonly last = { from: 0, to: 0 };
  /** Called after a change that no command has made, or one that has to run again. */
  onOwn: (() => void) | null = null;
  /** The object that was looked up last: of a command on one key, that key's. */
  lastFound: StoredKey | null = null;
  /** Its record, when it is packed; else 0. */
  lastRecord = 0;
  onLoaded: ((o: StoredKey) => void) | null = null;
  onLeave: ((o: StoredKey) => void) | null = null;
  onLeaveRecord: ((a: number) => void) | null = null;
  onFlushed: ((db: Database) => void) | null = null;
  /** In a cluster: this node may remove the keys of this slot that are past their deadlines. */
  mayExpire: ((slot: number) => boolean) | null = null;
  /** Called for each change of a key, as keyspace notifications name it. */
  notify: ((db: Database, event: string, key: string, kind: string) => void) | null = null;
  /** Partitions that are behind the journal, from a start until it has been replayed. */
  behind = 0;
  /** Set by the replay: applies what a partition is behind by, or all. */
  catchUp: (db: Database, partition: number) => Promise<void> = () => Promise.resolve();
  catchUpAll: () => Promise<void> = () => Promise.resolve();
  stats = {
    hits: 0,
    misses: 0,
    expired: 0,
    events: 0,
    largeContexts: 0,
    siblings: new Array<number>(MOST_SIBLINGS + 1).fill(0),
  };

  private readonly clock: HybridClock;
  readonly journal: Journal;
  private readonly shift: number;
  readonly partitions: number;

  constructor(options: {
    actor: number;
    clock: HybridClock;
    journal: Journal;
    databases: number;
    partitions: number;
    maxSiblings: number;
    complete: boolean;
  }) {
    this.actor = options.actor;
    this.clock = options.clock;
    this.journal = options.journal;
    this.maxSiblings = options.maxSiblings;
    this.partitions = options.partitions;
    this.shift = Math.log2(SLOTS / options.partitions);
    for (let i = 0; i < options.databases; i++) {
      const db = new Database(i, options.partitions);
      for (let p = 0; p < options.partitions; p++) db.shards.push(this.newShard(db, p, options.complete));
      this.databases.push(db);
    }
    this.names = [...this.databases];
  }

  // ------------------------------------------------------------------ finding

  private newShard(db: Database, partition: number, complete: boolean): Shard {
    const place = { db: db.index, partition, plain: db.plain };
    return new Shard(place, complete, this.packed, this.unpack);
  }

  /** Forgets what is in memory of a partition, as if nothing of it had come in: its new shard. */
  clearShard(db: Database, partition: number, complete: boolean): Shard {
    const shard = db.shards[partition];
    const uncount = (flags: number) => {
      db.keys -= (flags & COUNTED ? 1 : 0) - (flags & ROW_LIVE ? 1 : 0);
      db.expires -= (flags & COUNTED_EXPIRES ? 1 : 0) - (flags & ROW_EXPIRES ? 1 : 0);
    };
    for (const o of shard.objects.values()) {
      this.objectBytes -= o.cost;
      uncount(o.flags);
      // lists may name it still
      o.flags &= ~(DIRTY | STALE);
    }
    for (const a of [...shard.records.values()]) {
      uncount(this.packed.flags(a));
      this.dropRecord(a);
    }
    db.shards[partition] = this.newShard(db, partition, complete);
    return db.shards[partition];
  }

  /** Sets a partition's keys aside, where nobody finds them: its new shard, of which nothing is known. */
  hideShard(db: Database, partition: number): Shard {
    const shard = db.shards[partition];
    for (const a of [...shard.records.values()]) this.unpack(shard, a);
    db.shards[partition] = this.newShard(db, partition, false);
    return db.shards[partition];
  }

  shard(db: Database, slot: number): Shard {
    return db.shards[slot >> this.shift];
  }

  partitionOf(slot: number): number {
    return slot >> this.shift;
  }

  /** Reckoned bytes of all that is resident. */
  get bytes(): number {
    return this.objectBytes + this.packed.keyBytes;
  }

  /** The object of a key in whatever state, or null where it is known not to exist. Throws MISS. */
  object(db: Database, key: string, slot: number): StoredKey | null {
    const shard = db.shards[slot >> this.shift];
    const o = shard.get(key);
    if (o !== undefined) {
      // written only when it changes: a read should not dirty the object's memory
      if (o.used !== this.seconds) o.used = this.seconds;
      this.lastFound = o;
      this.lastRecord = 0;
      return o;
    }
    this.absent(shard, db, key, slot);
    return null;
  }

  /** A key is not in memory: throws MISS unless it is known not to exist. */
  private absent(shard: Shard, db: Database, key: string, slot: number): void {
    if (!shard.lacks(key)) {
      this.missing = { db, key, slot };
      throw MISS;
    }
    this.lastFound = null;
    this.lastRecord = 0;
  }

  /**
   * The record of the key in buf[start, end), a live string; 0 for a key that is not packed: look for its object. Counts
   * a hit, and a read of its value.
   */
  findRecord(db: Database, buf: Uint8Array, start: number, end: number): number {
    const a = this.touchRecord(db, buf, start, end);
    if (a !== 0) this.stats.siblings[1]++;
    return a;
  }

  /** As `findRecord`, of who does not read the value. */
  touchRecord(db: Database, buf: Uint8Array, start: number, end: number): number {
    const a = this.peekRecord(db, buf, start, end);
    if (a === 0) return 0;
    this.packed.setUsed(a, this.seconds);
    this.stats.hits++;
    return a;
  }

  /** As `findRecord`, of who leaves no trace. */
  peekRecord(db: Database, buf: Uint8Array, start: number, end: number): number {
    const a = this.packed.find(db.index, buf, start, end);
    if (a !== 0) this.lastRecord = a;
    return a;
  }

  /** The hash of the context of the key that was looked up last. */
  lastHash(): number {
    return this.lastRecord !== 0 ? this.packed.contextHash(this.lastRecord) : (this.lastFound?.contextHash() ?? 0);
  }

  /** Hash of the context of the key in buf[start, end). Throws MISS. */
  hashOf(db: Database, buf: Buffer, start: number, end: number, slot: number): number {
    const a = this.packed.find(db.index, buf, start, end);
    if (a !== 0) {
      this.packed.setUsed(a, this.seconds);
      return this.packed.contextHash(a);
    }
    const key = buf.latin1Slice(start, end);
    const shard = db.shards[slot >> this.shift];
    const o = shard.objects.get(key);
    if (o === undefined) this.absent(shard, db, key, slot);
    else if (o.used !== this.seconds) o.used = this.seconds;
    return o?.contextHash() ?? 0;
  }

  /** For what needs all keys, or their number: throws MISS while a part of the journal has not been replayed. */
  needsAll(): void {
    if (this.behind === 0) return;
    this.missing = { db: this.databases[0], key: '', slot: 0, whole: true };
    throw MISS;
  }

  /** True when `object` would not throw. */
  isResident(db: Database, key: string, slot: number): boolean {
    const shard = db.shards[slot >> this.shift];
    return shard.has(key) || shard.lacks(key);
  }

  /** A live key, or null. Counts a hit or a miss. Throws MISS. */
  find(db: Database, key: string, slot: number): StoredKey | null {
    const o = this.object(db, key, slot);
    if (o !== null && o.type !== NONE && (o.deadline === 0 || o.deadline > this.now || this.outlives(o))) {
      this.stats.hits++;
      return o;
    }
    if (o !== null && o.type !== NONE) this.removeOnSight(db, o);
    this.stats.misses++;
    return null;
  }

  /** A reader met a key past its deadline. Alone, this node may remove it at once; in a cluster its coordinator does. */
  private removeOnSight(db: Database, o: StoredKey): void {
    if (this.sole && this.journal.failure === null) this.expire(db, o);
  }

  /** As `find`, without counting. */
  peek(db: Database, key: string, slot = slotOf(key)): StoredKey | null {
    const o = this.object(db, key, slot);
    if (o === null || o.type === NONE) return null;
    if (this.isLive(o)) return o;
    this.removeOnSight(db, o);
    return null;
  }

  isLive(o: StoredKey, now = this.now): boolean {
    return o.type !== NONE && (o.deadline === 0 || o.deadline > now || this.outlives(o, now));
  }

  /** The shown sibling has passed its deadline: is there another that has not? */
  private outlives(o: StoredKey, now = this.now): boolean {
    if (o.state === null) return false;
    this.refresh(o);
    return o.isLive(now);
  }

  /** As `find`; a key of another type throws WRONGTYPE. */
  findString(db: Database, key: string, slot: number): StoredKey | null {
    const o = this.find(db, key, slot);
    if (o !== null && o.type !== STRING) throw WRONG_TYPE;
    if (o !== null) this.countSiblings(o);
    return o;
  }

  /** Counts a read of a string by the versions that the reader could see: those not past their deadlines (paper 6.3). */
  countSiblings(o: StoredKey): void {
    let n = 0;
    if (o.state !== null) for (let e = o.state.get(REGISTER); e !== null; e = e.next) if (alive(e, this.now)) n++;
    this.stats.siblings[Math.min(Math.max(1, n), MOST_SIBLINGS)]++;
  }

  /** As `peek`, for a command that will write: a key past its deadline is removed first. */
  peekForWrite(db: Database, key: string, slot: number): StoredKey | null {
    const o = this.object(db, key, slot);
    if (o === null || o.type === NONE) return null;
    if (!this.isLive(o)) {
      this.expire(db, o);
      return null;
    }
    return o;
  }

  /** As `peekForWrite`; a key of another type throws WRONGTYPE. */
  findStringForWrite(db: Database, key: string, slot: number): StoredKey | null {
    const o = this.peekForWrite(db, key, slot);
    if (o !== null && o.type !== STRING) throw WRONG_TYPE;
    return o;
  }

  /** The key's object, made when there is none. */
  private ensure(db: Database, key: string, slot: number): StoredKey {
    return this.object(db, key, slot) ?? this.create(db, key, slot);
  }

  /** A new object for a key that `object` has just found to have none. */
  private create(db: Database, key: string, slot: number): StoredKey {
    const o = new StoredKey(key, slot, db.index);
    o.used = this.seconds;
    this.adopt(db.shards[slot >> this.shift], o);
    return o;
  }

  /** Puts an object into its shard. */
  adopt(shard: Shard, o: StoredKey): void {
    shard.put(o);
    this.account(o);
  }

  /** Puts in an object that has just been made of something else: packed, if it can be. */
  admit(shard: Shard, o: StoredKey): void {
    if (canPack(o) && o.flags & COUNTED && !this.packed.slab.isFull) {
      this.packInto(o);
    } else this.adopt(shard, o);
  }

  /** A record in place of an object; returns it. */
  private packInto(o: StoredKey): number {
    const a = this.packed.pack(o);
    this.packed.add(a);
    return a;
  }

  /** A packed key becomes an object. Lists that name the record will find it DEAD, and the object in their stead. */
  private readonly unpack = (shard: Shard, a: number): StoredKey => {
    const o = this.packed.copy(a);
    this.dropRecord(a);
    this.adopt(shard, o);
    if (o.flags & DIRTY) this.dirty.push(o);
    if (o.flags & STALE) this.stale?.push(o);
    return o;
  };

  private dropRecord(a: number): void {
    this.packed.remove(a);
    this.packed.leave(a);
  }

  /** Packs an object that nobody has used for a while, if it can be and nothing is still to be done for it. */
  repack(shard: Shard, o: StoredKey): void {
    if (o.flags & (DIRTY | STALE | FOLDING) || !canPack(o) || !(o.flags & COUNTED) || this.packed.slab.isFull) return;
    shard.drop(o);
    this.objectBytes -= o.cost;
    o.cost = 0;
    this.packInto(o);
  }

  /** Is this key of a shard live? */
  livesIn(shard: Shard, name: string): boolean {
    if (shard.record(name) !== 0) return true;
    const o = shard.objects.get(name);
    return o !== undefined && this.isLive(o);
  }

  /** Takes an object out of memory. */
  evict(db: Database, o: StoredKey): void {
    this.onLeave?.(o);
    const shard = db.shards[o.slot >> this.shift];
    shard.drop(o);
    // one without a row is gone altogether
    if (o.flags & ROW_EXISTS) shard.filter?.add(o.key);
    this.objectBytes -= o.cost;
    o.cost = 0;
  }

  /** The same of a packed key. */
  evictRecord(shard: Shard, a: number): void {
    this.onLeaveRecord?.(a);
    if (this.packed.flags(a) & ROW_EXISTS) shard.filter?.add(this.packed.key(a));
    this.dropRecord(a);
  }

  private account(o: StoredKey): void {
    const cost = o.reckon();
    this.objectBytes += cost - o.cost;
    o.cost = cost;
  }

  // ------------------------------------------------------------------ after a change

  /** Set by expiry: told of each write that leaves a deadline. */
  onDeadline: (o: StoredKey) => void = () => {};

  private changed(db: Database, o: StoredKey): void {
    this.count(db, o);
    this.account(o);
    this.stats.events++;
    const intervals = o.state?.context.size ?? 0;
    if (intervals > LARGE_CONTEXT_INTERVALS) this.stats.largeContexts++;
    if (o.deadline !== 0) this.onDeadline(o);
    if (this.stale !== null && (o.flags & STALE) === 0) {
      o.flags |= STALE;
      this.stale.push(o);
    }
    if ((o.flags & DIRTY) === 0) {
      o.flags |= DIRTY;
      this.dirty.push(o);
    }
  }

  /** The same of a packed key. */
  private changedRecord(a: number, flags: number): void {
    this.stats.events++;
    if (this.stale !== null && (flags & STALE) === 0) {
      flags |= STALE;
      if ((flags & LISTED_STALE) === 0) {
        flags |= LISTED_STALE;
        this.staleRecords.push(a);
      }
    }
    if ((flags & DIRTY) === 0) {
      flags |= DIRTY;
      if ((flags & LISTED_DIRTY) === 0) {
        flags |= LISTED_DIRTY;
        this.dirtyRecords.push(a);
      }
    }
    this.packed.setFlags(a, flags);
  }

  /** Puts a value into a record, or into a larger one in its place; returns which. */
  private setRecordValue(a: number, buf: Uint8Array, start: number, end: number): number {
    const { packed } = this;
    let b = a;
    if (!packed.fits(a, end - start)) {
      b = packed.move(a, end - start);
      packed.replace(a, b);
      packed.leave(a);
      // lists name the old one, which they will find dead
      const flags = packed.flags(b);
      let listed = 0;
      if (flags & DIRTY) {
        listed |= LISTED_DIRTY;
        this.dirtyRecords.push(b);
      }
      if (flags & STALE) {
        listed |= LISTED_STALE;
        this.staleRecords.push(b);
      }
      packed.setFlags(b, flags | listed);
    }
    packed.setValue(b, buf, start, end);
    return b;
  }

  /** Is nothing known of a key that is not packed, nor on disk? Throws MISS where that can't be told. */
  private isNew(db: Database, buf: Buffer, start: number, end: number, slot: number): boolean {
    const p = slot >> this.shift;
    if (db.plain[p] === 1) return true;
    const shard = db.shards[p];
    const key = buf.latin1Slice(start, end);
    if (shard.objects.has(key)) return false;
    this.absent(shard, db, key, slot);
    return true;
  }

  /** A record for a key that has just been found not to have one. */
  private newRecord(
    db: Database,
    slot: number,
    buf: Uint8Array,
    keyStart: number,
    keyEnd: number,
    valueBytes: number,
  ): number {
    const a = this.packed.make(db.index, slot, buf, keyStart, keyEnd, valueBytes);
    this.packed.addMissed(a);
    db.keys++;
    return a;
  }

  /** Brings the database's counts up to date with one object. */
  count(db: Database, o: StoredKey): void {
    const live = o.type !== NONE;
    if (live !== ((o.flags & COUNTED) !== 0)) {
      o.flags ^= COUNTED;
      db.keys += live ? 1 : -1;
    }
    const expires = live && o.deadline !== 0;
    if (expires !== ((o.flags & COUNTED_EXPIRES) !== 0)) {
      o.flags ^= COUNTED_EXPIRES;
      db.expires += expires ? 1 : -1;
    }
  }

  /** Caches what a full state shows, and goes back to a simple form when the state is one. */
  refresh(o: StoredKey): void {
    const s = o.state;
    if (s === null) return;
    o.run = null;
    const view = viewOf(s, this.now);
    o.type = view.type;
    o.deadline = view.deadline;
    o.value = view.value;
    o.bytes = view.bytes;
    o.length = view.bytes?.length ?? 0;
    o.flags = view.overflow ? o.flags | OVERFLOW : o.flags & ~OVERFLOW;
    if (s.count <= 1 && s.gone === null && s.removedRows === null) this.simplify(o, s);
  }

  private simplify(o: StoredKey, s: KeyState): void {
    const c = s.context;
    if (s.count === 0) {
      const i = c.actors.length - 1;
      if (i < 0) return;
      this.setSimple(o, c, i);
      o.flags &= ~COUNTER;
      return;
    }
    const e: Entry = s.fields.values().next().value!;
    const kind = e.field.charAt(0);
    let i = c.actors.length - 1;
    while (i >= 0 && (c.actors[i] !== e.actor || c.tos[i] !== e.hlc)) i--;
    if (i < 0) return;
    if (kind === REGISTER) {
      o.value = e.data;
      o.deadline = e.num;
      o.flags &= ~COUNTER;
    } else if (kind === INCREMENT && e.data === '' && e.aux === '' && e.field === runField(e.actor, c.froms[i] + 1)) {
      o.value = e.num;
      o.deadline = 0;
      o.flags |= COUNTER;
    } else return;
    this.setSimple(o, c, i);
  }

  private setSimple(o: StoredKey, c: Context, i: number): void {
    o.actor = c.actors[i];
    o.from = c.froms[i];
    o.to = c.tos[i];
    if (c.actors.length === 1) o.rest = null;
    else {
      o.rest = c;
      c.actors.splice(i, 1);
      c.froms.splice(i, 1);
      c.tos.splice(i, 1);
    }
    o.state = null;
    o.run = null;
    o.bytes = null;
  }

  /** The object's full state, which then is its form. */
  private expand(o: StoredKey): KeyState {
    if (o.state === null) {
      o.state = o.toState();
      for (const e of o.state.entries()) e.dirty = true;
      o.rest = null;
      o.flags &= ~COUNTER;
    }
    return o.state;
  }

  // ------------------------------------------------------------------ events

  /** The stamp before `to` in this node's own chain on the key: the event's `from`. */
  private chainFrom(previous: number, to: number): number {
    return previous > 0 && (this.sole || previous > this.chainStart) ? previous : to - 1;
  }

  /** Notes a record that does not say itself what it is made on. */
  private noteAfter(slot: number, before: number, seen: Context | StoredKey): void {
    const context = this.firm ? (seen instanceof Context ? seen.clone() : seen.context()) : null;
    this.made!.add(slot, before, context, this.journal);
  }

  /** Makes an event, applies it, records it. */
  private commit(
    db: Database,
    o: StoredKey,
    make: { covers?: Context | null; gone?: EntryRef[]; removes?: EntryRef[]; adds?: Addition[] },
    to = this.clock.next(),
  ): void {
    const s = this.expand(o);
    if (this.made !== null) this.noteAfter(o.slot, s.context.hash(), s.context);
    const event: KeyEvent = {
      actor: this.actor,
      from: this.chainFrom(s.context.max(this.actor), to),
      to,
      covers: make.covers ?? null,
      coversGone: make.gone ?? [],
      removes: make.removes ?? [],
      adds: make.adds ?? [],
    };
    this.last.from = event.from;
    this.last.to = to;
    s.apply(event);
    recordEvent(this.journal.w, db.index, o.key, event);
    this.settleSole(o);
    this.refresh(o);
    this.changed(db, o);
  }

  /**
   * As the only member, what a whole-key overwrite leaves needs no memory of what it replaced: nobody else can hold
   * it. That is a reap round with one voter (DESIGN section 4).
   */
  private settleSole(o: StoredKey): void {
    const s = o.state;
    if (!(this.sole || breaks.compactsAlone) || s === null || s.gone !== null) return;
    const c = s.context;
    if (c.size < 2) return;
    for (const e of s.entries()) if (e.actor !== this.actor) return;
    const from = c.froms[c.actors.indexOf(this.actor)];
    const to = c.max(this.actor);
    if (to > 0) s.context = Context.of(this.actor, from, to);
  }

  /** Another node's event changes a key of the slot. */
  private noteNews(slot: number): void {
    const n = ++this.news;
    this.newsAt[stretchOf(slot)] = n;
    this.newsSlots[n % RECENT_NEWS] = slot;
    if (this.onNews !== null) this.onNews(slot);
  }

  /**
   * Has a key of the slot been changed by another node's event since `news` was `since`? Of what is long ago only the stretch
   * is known, and the answer is yes when that has been.
   */
  hadNews(slot: number, since: number): boolean {
    const oldest = this.news - RECENT_NEWS;
    let n = this.newsAt[stretchOf(slot)];
    for (; n > since && n > oldest; n--) if (this.newsSlots[n % RECENT_NEWS] === slot) return true;
    return n > since;
  }

  /**
   * An overwrite read from the journal, or sent by its coordinator: by far the most there are, so the simple case is done
   * without an event. Its key is buf[keyStart, keyEnd), its value buf[valueStart, valueEnd).
   * False when it is not simple, or not next in its key's chain.
   */
  replayOverwrite(
    db: Database,
    buf: Buffer,
    keyStart: number,
    keyEnd: number,
    slot: number,
    actor: number,
    to: number,
    from: number,
    start: number,
    deadline: number,
    valueStart: number,
    valueEnd: number,
  ): boolean {
    if (to <= db.floor) return true;
    if (deadline === 0 && isPackable(keyEnd - keyStart, valueEnd - valueStart)) {
      const { packed } = this;
      let a = packed.find(db.index, buf, keyStart, keyEnd);
      if (a !== 0) {
        if (packed.to(a) !== from || packed.actor(a) !== actor || packed.from(a) !== start) return false;
        a = this.setRecordValue(a, buf, valueStart, valueEnd);
        packed.setTo(a, to);
        packed.setUsed(a, this.seconds);
      } else if (!this.packed.slab.isFull && this.isNew(db, buf, keyStart, keyEnd, slot)) {
        a = this.newRecord(db, slot, buf, keyStart, keyEnd, valueEnd - valueStart);
        packed.setStamps(a, actor, start, to);
        packed.setUsed(a, this.seconds);
        packed.setValue(a, buf, valueStart, valueEnd);
      }
      if (a !== 0) {
        this.clock.observe(to);
        this.noteNews(slot);
        this.changedRecord(a, packed.flags(a) & ~(RAW | TEXT));
        return true;
      }
    }
    const o = this.ensure(db, buf.latin1Slice(keyStart, keyEnd), slot);
    if (o.state !== null || o.rest !== null || o.flags & COUNTER) return false;
    if (o.to === 0) {
      o.actor = actor;
      o.from = start;
    } else if (o.actor !== actor || o.from !== start || o.to !== from) return false;
    this.clock.observe(to);
    this.noteNews(slot);
    o.to = to;
    o.type = STRING;
    o.value = buf.latin1Slice(valueStart, valueEnd);
    o.deadline = deadline;
    this.changed(db, o);
    return true;
  }

  /** The same for a step of a counter. */
  replayStep(
    db: Database,
    key: string,
    slot: number,
    actor: number,
    to: number,
    from: number,
    runStart: number,
    sum: number,
  ): boolean {
    if (to <= db.floor) return true;
    const o = this.ensure(db, key, slot);
    if (o.state !== null || o.rest !== null) return false;
    if (o.to === 0) {
      if (from >= runStart) return false;
      o.actor = actor;
      o.from = runStart - 1;
    } else if ((o.flags & COUNTER) === 0 || o.actor !== actor || o.from !== runStart - 1 || o.to !== from) return false;
    this.clock.observe(to);
    this.noteNews(slot);
    o.flags = (o.flags & ~(RAW | TEXT)) | COUNTER;
    o.to = to;
    o.type = STRING;
    o.value = sum;
    o.deadline = 0;
    this.changed(db, o);
    return true;
  }

  /** Applies an event that was read from the journal. Idempotent. */
  replay(db: Database, key: string, event: KeyEvent): void {
    if (event.to <= db.floor) return;
    this.clock.observe(event.to);
    const slot = slotOf(key);
    const o = this.ensure(db, key, slot);
    if (event.actor === o.actor && o.state === null && o.rest === null && event.to <= o.to && event.to > o.from) return;
    const s = this.expand(o);
    if (s.context.has(event.actor, event.to)) {
      this.refresh(o);
      return;
    }
    this.noteNews(slot);
    s.apply(event);
    if (event.covers !== null) this.settleSole(o);
    this.refresh(o);
    this.changed(db, o);
  }

  // ------------------------------------------------------------------ other replicas

  /**
   * Joins what another replica holds of a key. Returns true when it had something new.
   * @param record false when it is being replayed from the journal
   */
  joinState(db: Database, key: string, slot: number, state: KeyState, record: boolean): boolean {
    if (state.context.highest() <= db.floor) return false;
    const o = this.ensure(db, key, slot);
    const s = this.expand(o);
    const before = s.context.hash();
    const gone = s.gone?.size ?? 0;
    // a lost row must not spread as a delete: equal contexts have nothing to tell each other
    if (before === state.context.hash() && (state.gone?.size ?? 0) === 0 && !breaks.joinsLosses) {
      // replayed: a copy that took the place of a damaged one
      if (!record && s.checksum() !== state.checksum()) {
        o.state = state.clone();
        this.refresh(o);
        this.changed(db, o);
        return false;
      }
      this.refresh(o);
      return false;
    }
    this.clock.observe(state.context.highest());
    const sum = breaks.joinsLosses ? s.checksum() : 0;
    s.join(state);
    if (breaks.joinsByTimestamp) keepLatest(s);
    const news = s.context.hash() !== before || (breaks.joinsLosses && s.checksum() !== sum);
    if (news) this.noteNews(slot);
    if (news || (s.gone?.size ?? 0) !== gone) {
      if (record) recordState(this.journal.w, db.index, key, state);
      this.refresh(o);
      this.changed(db, o);
    } else this.refresh(o);
    return news;
  }

  /**
   * `joinState` of a simple register for a key of which nothing is known here, as a new home gets them by the thousand: the
   * object that was read is taken as it is, and its bytes go into the journal as they came.
   * @param fresh in no partition yet; its state is buf[start, end)
   * @returns whether it was news; null when something is known of the key: join it
   */
  takeSimple(db: Database, fresh: StoredKey, buf: Uint8Array, start: number, end: number): boolean | null {
    if (fresh.to <= db.floor) return false;
    const known = this.object(db, fresh.key, fresh.slot);
    const o = known ?? fresh;
    if (known === null) fresh.used = this.seconds;
    else {
      if (o.state !== null || o.rest !== null || o.to !== 0) return null;
      o.actor = fresh.actor;
      o.from = fresh.from;
      o.to = fresh.to;
      o.type = fresh.type;
      o.value = fresh.value;
      o.deadline = fresh.deadline;
    }
    this.clock.observe(o.to);
    this.noteNews(o.slot);
    recordStateBytes(this.journal.w, db.index, o.key, buf, start, end);
    if (known === null && canPack(o) && !this.packed.slab.isFull) {
      const a = this.packInto(o);
      db.keys++;
      this.changedRecord(a, this.packed.flags(a) | COUNTED);
      return true;
    }
    if (known === null) this.adopt(db.shards[o.slot >> this.shift], o);
    this.changed(db, o);
    return true;
  }

  /** Takes another replica's copy in place of a damaged one: same context, other entries. Never a join. */
  replaceState(db: Database, key: string, slot: number, state: KeyState): void {
    const o = this.ensure(db, key, slot);
    this.noteNews(slot);
    o.state = state.clone();
    o.rest = null;
    o.flags &= ~COUNTER;
    recordState(this.journal.w, db.index, key, state);
    this.refresh(o);
    this.changed(db, o);
  }

  /** Takes a key out of this node altogether: its owners have it. Not an event; nobody else is told. */
  forget(db: Database, o: StoredKey): void {
    o.state = null;
    o.rest = null;
    o.run = null;
    o.bytes = null;
    o.actor = o.from = o.to = 0;
    o.type = NONE;
    o.value = null;
    o.deadline = 0;
    o.flags &= ~(COUNTER | OVERFLOW | RAW | TEXT);
    recordForget(this.journal.w, db.index, o.key);
    this.changed(db, o);
  }

  /** What a key is now, so that a command can be undone. */
  snapshot(o: StoredKey | null): KeyState | null {
    return o === null ? null : o.state === null ? o.toState() : o.state.clone();
  }

  /**
   * Undoes what this node wrote to a key from `since` to `until`, by an event: what it added goes, and what it removed
   * comes back, as far as `theirs` had not lost it too. What was written later stays. Without `theirs` another node has
   * run the same command: what that took away it took away as well, and nothing comes back.
   * Returns whether anything that it had added was still there.
   * @param after the stamp of that run: what is younger it can't have taken away, and that comes back all the same
   * @param others stamps, from and to in turn, of what else is being undone: it does not come back either
   */
  undo(
    db: Database,
    key: string,
    slot: number,
    since: number,
    until: number,
    before: KeyState | null,
    theirs: KeyState | null,
    others: readonly number[] = [],
    after = Number.POSITIVE_INFINITY,
  ): boolean {
    const o = this.ensure(db, key, slot);
    const s = o.toState();
    const removes: EntryRef[] = [];
    for (const e of s.entries())
      if (e.actor === this.actor && e.hlc >= since && e.hlc <= until)
        removes.push({ field: e.field, actor: e.actor, hlc: e.hlc });
    const adds: Addition[] = [];
    // an overwrite that came later has taken the place of all that, and nothing is to come back beside it
    if (removes.length > 0 || s.count === 0) {
      for (const e of before?.entries() ?? []) {
        if (s.find(e.field, e.actor, e.hlc) !== null) continue;
        if (theirs === null && e.hlc <= after) continue;
        if (theirs?.context.has(e.actor, e.hlc) && theirs.find(e.field, e.actor, e.hlc) === null) continue;
        // an increment comes back with its run, and is taken from that
        if (e.actor === this.actor && e.field.charAt(0) !== INCREMENT && isWithin(e.hlc, others)) continue;
        adds.push({ field: e.field, data: e.data, num: e.num, aux: e.aux });
      }
    }
    if (removes.length > 0 || adds.length > 0) this.commit(db, o, { removes, adds });
    return removes.length > 0;
  }

  /**
   * Takes back an increment that this node has made: its run may have gone on since, so what was added is subtracted.
   * @param until the increment's stamp; an overwrite that has seen it has taken it back already: then it returns false
   */
  undoIncrement(db: Database, key: string, slot: number, delta: string, until: number, float: boolean): boolean {
    const o = this.ensure(db, key, slot);
    if (o.type !== STRING) return false;
    const s = o.toState();
    // runs follow one another in time: it is in the first that goes on for so long
    let run: Entry | null = null;
    for (const e of s.entries()) {
      if (e.field.charAt(0) !== INCREMENT || e.actor !== this.actor || e.hlc < until) continue;
      if (run === null || e.hlc < run.hlc) run = e;
    }
    if (run === null) return false;
    const record = s.get(RECORD + run.field.slice(1));
    if (record !== null && record.num >= until) return false;
    const back = delta.startsWith('-') ? delta.slice(1) : `-${delta}`;
    this.incrementBy(db, o, key, slot, back, addDecimals(o.text(), back), float);
    return true;
  }

  // ------------------------------------------------------------------ strings

  /**
   * As `set`, without a deadline, of a key and a value as bytes: buf[keyStart, keyEnd) and buf[valueStart, valueEnd).
   * False, and nothing is done, when that takes an object.
   */
  setBytes(
    db: Database,
    buf: Buffer,
    keyStart: number,
    keyEnd: number,
    slot: number,
    valueStart: number,
    valueEnd: number,
  ): boolean {
    if (!isPackable(keyEnd - keyStart, valueEnd - valueStart)) return false;
    const { packed } = this;
    const me = this.actor;
    let a = packed.find(db.index, buf, keyStart, keyEnd);
    let from: number;
    let start: number;
    let to: number;
    if (a !== 0) {
      from = packed.to(a);
      if (packed.actor(a) !== me || !(this.sole || from > this.chainStart)) return false;
      start = packed.from(a);
      to = this.clock.next();
      a = this.setRecordValue(a, buf, valueStart, valueEnd);
      packed.setTo(a, to);
    } else {
      if (packed.slab.isFull || !this.isNew(db, buf, keyStart, keyEnd, slot)) return false;
      to = this.clock.next();
      from = start = to - 1;
      a = this.newRecord(db, slot, buf, keyStart, keyEnd, valueEnd - valueStart);
      packed.setStamps(a, me, start, to);
      packed.setValue(a, buf, valueStart, valueEnd);
    }
    packed.setUsed(a, this.seconds);
    this.made?.add(slot, -1, null, this.journal);
    recordOverwriteBytes(this.journal.w, db.index, buf, keyStart, keyEnd, me, to, from, start, valueStart, valueEnd);
    this.changedRecord(a, packed.flags(a) & ~(RAW | TEXT));
    return true;
  }

  /**
   * Overwrites the key, of whatever type, with a register. `o` is what `object` gave for it.
   * @param deadline wall-clock ms, 0 for never
   */
  set(db: Database, o: StoredKey | null, key: string, slot: number, value: string, deadline: number): StoredKey {
    if (o === null) o = this.create(db, key, slot);
    o.flags &= ~(RAW | TEXT);
    const simple = o.state === null && (o.flags & COUNTER) === 0;
    if (simple || (this.sole && (o.state === null || this.onlyOwn(o.state)))) {
      const me = this.actor;
      if (o.state !== null) {
        const c = o.state.context;
        o.actor = me;
        o.from = c.froms[0];
        o.to = c.max(me);
        o.rest = null;
        o.state = null;
        o.run = null;
        o.bytes = null;
        o.flags &= ~OVERFLOW;
      }
      if (o.to === 0 || (o.actor === me && (this.sole || o.to > this.chainStart))) {
        const to = this.clock.next();
        const fresh = o.to === 0;
        const from = fresh ? to - 1 : o.to;
        if (fresh) {
          o.actor = me;
          o.from = from;
        }
        o.flags &= ~COUNTER;
        if (this.made !== null) {
          if (o.rest === null) this.made.add(slot, -1, null, this.journal);
          else this.noteAfter(slot, o.contextHash(), o);
        }
        if (o.rest === null)
          recordOverwrite(this.journal.w, db.index, key, me, to, from, fresh ? from : o.from, deadline, value);
        else {
          const covers = o.context();
          recordEvent(this.journal.w, db.index, key, {
            actor: me,
            from,
            to,
            covers,
            coversGone: [],
            removes: [],
            adds: [{ field: REGISTER, data: value, num: deadline, aux: '' }],
          });
          if (this.sole) o.rest = null;
        }
        o.to = to;
        o.type = STRING;
        o.value = value;
        o.deadline = deadline;
        this.changed(db, o);
        return o;
      }
    }
    this.overwrite(db, o, [{ field: REGISTER, data: value, num: deadline, aux: '' }]);
    return o;
  }

  /** True for a state of this actor's own making alone that is kept in one row: `set` may then replace it in one go. */
  private onlyOwn(s: KeyState): boolean {
    return s.gone === null && s.removedRows === null && s.context.size === 1 && s.context.actors[0] === this.actor;
  }

  /** Whole-key removal of everything seen, and these entries in its place. */
  private overwrite(db: Database, o: StoredKey, adds: Addition[]): void {
    const s = this.expand(o);
    const all = this.sole ? adds : [...adds, ...recordsForOverwrite(s)];
    this.commit(db, o, { covers: s.context.clone(), gone: s.goneList(), adds: all });
  }

  /** Removes the key, of whatever type. */
  remove(db: Database, o: StoredKey): void {
    const me = this.actor;
    if (
      o.state === null &&
      o.rest === null &&
      o.actor === me &&
      (this.sole || ((o.flags & COUNTER) === 0 && o.to > this.chainStart))
    ) {
      const to = this.clock.next();
      if (this.made !== null) this.noteAfter(o.slot, o.contextHash(), o);
      recordEvent(this.journal.w, db.index, o.key, {
        actor: me,
        from: o.to,
        to,
        covers: Context.of(me, o.from, o.to),
        coversGone: [],
        removes: [],
        adds: [],
      });
      o.to = to;
      o.type = NONE;
      o.value = null;
      o.deadline = 0;
      o.flags &= ~COUNTER;
      this.changed(db, o);
      return;
    }
    this.overwrite(db, o, []);
  }

  /** Removes the siblings whose own deadlines are not after `until`, when another keeps the key alive. */
  dropExpiredSiblings(db: Database, o: StoredKey, until: number): void {
    const removes: EntryRef[] = [];
    for (let e = o.state?.get(REGISTER) ?? null; e !== null; e = e.next) {
      if (!alive(e, until)) removes.push({ field: REGISTER, actor: e.actor, hlc: e.hlc });
    }
    if (removes.length > 0) this.commit(db, o, { removes });
  }

  /** Removes a key whose deadline has passed. */
  expire(db: Database, o: StoredKey): void {
    this.remove(db, o);
    this.stats.expired++;
    this.notify?.(db, 'expired', o.key, 'x');
  }

  /**
   * Adds to a counter whose value is the integer `o` shows. `o` is what `object` gave; the caller has checked type,
   * number and overflow.
   * @param value the value now, @param result the value after
   */
  increment(db: Database, o: StoredKey | null, key: string, slot: number, value: number, result: number): void {
    if (o === null) o = this.create(db, key, slot);
    o.flags &= ~(RAW | TEXT);
    const me = this.actor;
    if (o.state === null && o.rest === null) {
      const chained = o.actor === me && (this.sole || o.to > this.chainStart);
      if (o.flags & COUNTER && chained) {
        const to = this.clock.next();
        if (this.made !== null) this.made.add(slot, -1, null, this.journal);
        recordStep(this.journal.w, db.index, key, me, to, o.to, o.from + 1, result);
        o.to = to;
        o.value = result;
        this.changed(db, o);
        return;
      }
      if (o.to === 0) {
        const to = this.clock.next();
        if (this.made !== null) this.made.add(slot, -1, null, this.journal);
        recordStep(this.journal.w, db.index, key, me, to, to - 1, to, result);
        o.actor = me;
        o.from = to - 1;
        o.to = to;
        o.type = STRING;
        o.value = result;
        o.deadline = 0;
        o.flags |= COUNTER;
        this.changed(db, o);
        return;
      }
    }
    this.incrementBy(db, o, key, slot, String(result - value), String(result));
  }

  /** Adds to a counter in decimal: floats, and integers that a double can't hold. */
  incrementBy(
    db: Database,
    o: StoredKey | null,
    key: string,
    slot: number,
    delta: string,
    result: string,
    float = false,
  ): void {
    if (o === null) o = this.ensure(db, key, slot);
    o.flags = (o.flags & ~(RAW | TEXT)) | (float ? TEXT : 0);
    const s = this.expand(o);
    const run = o.run !== null && s.find(o.run.field, o.run.actor, o.run.hlc) === o.run ? o.run : this.ownRun(s);
    const to = this.clock.next();
    const field = run?.field ?? runField(this.actor, to);
    const sum = run === null ? delta : addDecimals(sumText(run), delta);
    const basis = basisOf(s, field);
    const aux = basis === '' && result === sum ? '' : `${basis}:${result}`;
    const removes = run === null ? [] : [{ field, actor: run.actor, hlc: run.hlc }];
    this.commit(db, o, { removes, adds: [{ field, ...sumPayload(sum), aux }] }, to);
    if (o.state !== null) o.run = this.ownRun(o.state);
  }

  /** The run of this actor that can go on: live, its chain unbroken, and not recorded by an overwrite. */
  private ownRun(s: KeyState): Entry | null {
    for (const e of s.entries()) {
      if (e.field.charAt(0) !== INCREMENT || e.actor !== this.actor) continue;
      if (!this.sole && e.hlc <= this.chainStart) continue;
      if (s.get(RECORD + e.field.slice(1)) === null) return e;
    }
    return null;
  }

  /** The value as a number for the counting commands; throws when a merge left 64 bits. */
  checkOverflow(o: StoredKey): void {
    if (o.flags & OVERFLOW) throw MERGE_OVERFLOW;
  }

  /**
   * Writes `patch` at `offset` of a string, zero-filling a gap: SETRANGE, APPEND, SETBIT and BITFIELD. Keeps the
   * deadline. Strings of one chunk or less are rewritten as registers; longer ones chunk by chunk.
   */
  patch(db: Database, o: StoredKey | null, key: string, slot: number, offset: number, patch: string): void {
    if (o === null || o.type === NONE) {
      if (offset + patch.length <= CHUNK_BYTES) {
        this.set(db, o ?? this.object(db, key, slot), key, slot, '\0'.repeat(offset) + patch, 0).flags |= RAW;
        return;
      }
      o = o ?? this.ensure(db, key, slot);
    }
    const size = o.type === NONE ? 0 : o.size();
    const end = Math.max(size, offset + patch.length);
    if (end <= CHUNK_BYTES && o.bytes === null) {
      const old = o.text();
      const head = offset <= old.length ? old.slice(0, offset) : old + '\0'.repeat(offset - old.length);
      this.rewrite(db, o, head + patch + old.slice(offset + patch.length));
      return;
    }
    const bytes = this.growBytes(o, end);
    bytes.latin1Write(patch, offset);
    // a gap that the write jumped over belongs to it
    this.writeChunks(db, o, bytes, Math.min(offset, size), offset + patch.length, end);
  }

  /** A register in place of the value, with the deadline that the key has. */
  private rewrite(db: Database, o: StoredKey, value: string): void {
    this.set(db, o, o.key, o.slot, value, o.deadline);
    o.flags |= RAW;
  }

  /** The object's bytes with room for `end`, zero-filled. */
  private growBytes(o: StoredKey, end: number): Buffer {
    const size = o.type === NONE ? 0 : o.size();
    let bytes = o.bytes;
    if (bytes === null || bytes.length < end) {
      const next = Buffer.alloc(Math.max(end, bytes === null ? end : Math.min(end * 2, end + 16 * 1024 * 1024)));
      if (bytes !== null) bytes.copy(next, 0, 0, size);
      else if (size > 0) next.latin1Write(o.text(), 0);
      bytes = next;
    }
    return bytes;
  }

  private writeChunks(db: Database, o: StoredKey, bytes: Buffer, from: number, to: number, length: number): void {
    const s = this.expand(o);
    const adds: Addition[] = [];
    const removes: EntryRef[] = [];
    for (let i = Math.floor(from / CHUNK_BYTES); i * CHUNK_BYTES < to; i++) {
      const field = chunkField(i);
      for (let e = s.get(field); e !== null; e = e.next) removes.push({ field, actor: e.actor, hlc: e.hlc });
      const data = bytes.latin1Slice(i * CHUNK_BYTES, Math.min(length, (i + 1) * CHUNK_BYTES));
      adds.push({ field, data, num: 0, aux: '' });
    }
    const to2 = this.clock.next();
    if (this.made !== null) this.noteAfter(o.slot, s.context.hash(), s.context);
    const event: KeyEvent = {
      actor: this.actor,
      from: this.chainFrom(s.context.max(this.actor), to2),
      to: to2,
      covers: null,
      coversGone: [],
      removes,
      adds,
    };
    s.apply(event);
    recordEvent(this.journal.w, db.index, o.key, event);
    // the view is kept up to date in place: rebuilding it would cost the whole value at each write
    o.type = STRING;
    o.bytes = bytes;
    o.length = length;
    o.value = null;
    o.run = null;
    this.changed(db, o);
  }

  // ------------------------------------------------------------------ deadlines

  /** Gives a live key a deadline (0 takes it away). */
  setDeadline(db: Database, o: StoredKey, deadline: number): void {
    if (o.state === null && (o.flags & COUNTER) === 0 && o.type === STRING) {
      const raw = o.flags & RAW;
      this.set(db, o, o.key, o.slot, o.text(), deadline);
      o.flags |= raw;
      return;
    }
    const s = this.expand(o);
    const register = o.type === STRING ? shownSibling(s, this.now) : null;
    const plain =
      register !== null && ![...s.fields.keys()].some((f) => f.charAt(0) === CHUNK || f.charAt(0) === INCREMENT);
    const removes: EntryRef[] = [];
    // among siblings a deadline is the whole key's: the others must not come to light when the shown one goes
    if (plain && (deadline === 0 || s.get(REGISTER)!.next === null)) {
      removes.push({ field: REGISTER, actor: register.actor, hlc: register.hlc });
      for (let e = s.get(DEADLINE); e !== null; e = e.next)
        removes.push({ field: DEADLINE, actor: e.actor, hlc: e.hlc });
      this.commit(db, o, { removes, adds: [{ field: REGISTER, data: register.data, num: deadline, aux: '' }] });
      return;
    }
    for (let e = s.get(DEADLINE); e !== null; e = e.next) removes.push({ field: DEADLINE, actor: e.actor, hlc: e.hlc });
    this.commit(db, o, { removes, adds: [{ field: DEADLINE, data: '', num: deadline, aux: registerName(register) }] });
  }

  // ------------------------------------------------------------------ Dynamo's own

  /** Adds a sibling that replaces exactly what `seen` covers. */
  putSibling(db: Database, key: string, slot: number, value: string, deadline: number, seen: Seen | null): StoredKey {
    const found = this.object(db, key, slot);
    if (found !== null && this.isLive(found) && found.type !== STRING) throw WRONG_TYPE;
    const before = found?.toState();
    if (before !== undefined) {
      const kept = liveSiblings(before, this.now).filter((e) => seen === null || !seen.context.has(e.actor, e.hlc));
      if (kept.length >= this.maxSiblings) throw TOO_MANY_SIBLINGS;
    }
    const o = found ?? this.ensure(db, key, slot);
    const adds: Addition[] = [{ field: REGISTER, data: value, num: deadline, aux: '' }];
    this.commit(db, o, { ...coverage(seen), adds: [...adds, ...seenRecords(seen)] });
    return o;
  }

  /** Removes exactly what `seen` covers. */
  removeSeen(db: Database, key: string, slot: number, seen: Seen): StoredKey {
    const o = this.object(db, key, slot) ?? this.ensure(db, key, slot);
    this.commit(db, o, { ...coverage(seen), adds: seenRecords(seen) });
    return o;
  }

  // ------------------------------------------------------------------ whole keys

  /** Makes `target` show what `source` shows, siblings included; whatever `target` held is overwritten. */
  copyTo(source: StoredKey, targetDb: Database, key: string, slot: number): void {
    const old = this.object(targetDb, key, slot);
    const siblings = source.state === null ? [] : liveSiblings(source.state, this.now);
    if (siblings.length < 2) {
      const copied = this.set(targetDb, old, key, slot, source.text(), source.deadline);
      copied.flags |= source.flags & RAW;
      return;
    }
    const list = siblings.map((e) => ({ data: e.data, num: e.num })).reverse();
    const o = this.set(targetDb, old, key, slot, list[0].data, list[0].num);
    for (const { data, num } of list.slice(1))
      this.commit(targetDb, o, { adds: [{ field: REGISTER, data, num, aux: '' }] });
  }

  // ------------------------------------------------------------------ databases

  /** Voids everything that a database holds now. */
  flush(db: Database): void {
    this.needsAll();
    const floor = this.clock.next();
    recordFlush(this.journal.w, db.index, floor);
    this.applyFlush(db, floor);
  }

  /** A flush that another node has made. What this node has written since then stays. */
  flushBelow(db: Database, floor: number): void {
    this.clock.observe(floor);
    recordFlush(this.journal.w, db.index, floor);
    this.applyFlush(db, floor);
  }

  applyFlush(db: Database, floor: number): void {
    db.floor = floor;
    const kept: StoredKey[] = [];
    const { packed } = this;
    // rows that are still there are below the floor, so an empty complete shard tells the truth
    for (let i = 0; i < db.shards.length; i++) {
      const shard = db.shards[i];
      for (const o of shard.objects.values()) if ((o.state?.context.highest() ?? o.to) > floor) kept.push(o);
      for (const a of shard.records.values()) if (packed.to(a) > floor) kept.push(packed.copy(a));
      this.clearShard(db, i, true);
    }
    this.dirty = this.dirty.filter((o) => o.db !== db.index);
    db.keys = 0;
    db.expires = 0;
    for (const o of kept) this.readopt(db, o);
    this.onFlush(db);
    this.onFlushed?.(db);
  }

  /** An object that outlives a flush: its row goes with the others, and comes again. */
  private readopt(db: Database, o: StoredKey): void {
    o.cost = 0;
    o.flags &= ~(COUNTED | COUNTED_EXPIRES | DIRTY | FOLDING | ROW_EXISTS | ROW_LIVE | ROW_EXPIRES);
    for (const e of o.state?.entries() ?? []) e.dirty = true;
    if (o.state !== null) o.state.removedRows = null;
    this.adopt(db.shards[o.slot >> this.shift], o);
    this.changed(db, o);
  }

  /** Set by the fold: the rows of a flushed database must go. */
  onFlush: (db: Database) => void = () => {};

  /** Exchanges two databases' names, as clients know them. */
  swap(a: number, b: number): void {
    recordSwap(this.journal.w, a, b);
    this.applySwap(a, b);
  }

  applySwap(a: number, b: number): void {
    const t = this.names[a];
    this.names[a] = this.names[b];
    this.names[b] = t;
    this.onSwap();
  }

  onSwap: () => void = () => {};
}

/** Is it in one of these intervals, given by their ends in turn? */
function isWithin(hlc: number, intervals: readonly number[]): boolean {
  for (let i = 0; i < intervals.length; i += 2) if (hlc >= intervals[i] && hlc <= intervals[i + 1]) return true;
  return false;
}

/** For `breaks.joinsByTimestamp`: all siblings but the latest go, as if they had been seen and replaced. */
function keepLatest(s: KeyState): void {
  let latest = s.get(REGISTER);
  for (let e = latest; e !== null; e = e.next) if (e.hlc > latest!.hlc) latest = e;
  const kept = new KeyState(s.context.clone());
  for (const e of s.entries())
    if (e.field !== REGISTER || e.hlc === latest!.hlc)
      kept.insert(new Entry(e.field, e.actor, e.hlc, e.data, e.num, e.aux));
  s.join(kept);
}

/** What a token makes an event cover. */
function coverage(seen: Seen | null): { covers: Context | null; gone: EntryRef[] } {
  if (seen === null || seen.context.size === 0) return { covers: null, gone: [] };
  return { covers: seen.context.clone(), gone: seen.gone };
}

/** The sums that a token's reader saw, as the overwrite's records. */
function seenRecords(seen: Seen | null): Addition[] {
  const adds: Addition[] = [];
  if (seen !== null)
    for (const [run, { hlc, sum }] of seen.sums) adds.push({ field: RECORD + run, data: sum, num: hlc, aux: '' });
  return adds;
}
