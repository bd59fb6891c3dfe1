/**
 * The fold: journal to rows, the last state of each key once (DESIGN section 7).
 *
 * It takes the keys written since the last fold in order of place, encodes them from memory a slice at a time, and
 * writes them in few large transactions. Before a transaction commits, the journal holds everything that its rows
 * show; only when the rows are fsynced do journal batches go. So at every moment rows and journal together hold
 * every acknowledged write, and replaying a batch twice changes nothing.
 */
import { ByteWriter } from '../base/bytes.ts';
import {
  FOLD_BUSY_COMMANDS,
  FOLD_IDLE_SHARE,
  FOLD_POLITE_BYTES,
  FOLD_REST,
  FOLD_SLICE_BYTES,
  FOLD_SLICE_ROWS,
  FOLD_START_BUSY_MS,
  FOLD_START_BYTES,
  FOLD_START_MS,
  FOLD_TRANSACTION_ROWS,
  INLINE_STATE_BYTES,
} from '../base/limits.ts';
import { actorName } from '../causality/actors.ts';
import type { Clock, Timers } from '../ports/clock.ts';
import type { Engine, RowBatch } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { positionOf } from '../ring/position.ts';
import { SLOTS } from '../ring/slots.ts';
import { NONE } from '../types/kinds.ts';
import { type Entry, type EntryRef, encodePayload } from '../types/state.ts';
import type { Journal } from './journal.ts';
import type { Database, Keyspace } from './keyspace.ts';
import { DIRTY, FOLDING, ROW_EXISTS, ROW_EXPIRES, ROW_LIVE, type StoredKey } from './object.ts';
import { DEAD, LISTED_DIRTY, LISTED_FOLD } from './packed.ts';
import { encodeObject, rowDeadline } from './rows.ts';

const RETRY_MS = 1000;
/** What an object's flags say of its row. */
const ROW_FLAGS = ROW_EXISTS | ROW_LIVE | ROW_EXPIRES;
/** Objects that are put in order in one go. */
const FOLD_SORT_OBJECTS = 20_000;
/** Whether the server is busy is looked at this often, in ms. */
const FOLD_LOOK_MS = 250;
/** A server counts as busy until it has been calm for so many ms: a fold that begins in a lull is soon in the way. */
const FOLD_LULL_MS = 1000;

/** Counts, floors and database names as of the last committed transaction. */
export interface RowsMeta {
  keys: number[];
  expires: number[];
  floors: number[];
  names: number[];
  /** Batches up to this one have their SWAPDBs in `names`. */
  swapsUpTo: number;
}

export class Fold {
  /** Rows folded since start, and the last fold's ms. */
  rows = 0;
  lastMs = 0;
  running = false;
  failure: string | null = null;
  meta: RowsMeta;
  /** Bytes of journal at which a fold starts; less when memory is small. */
  startBytes = FOLD_START_BYTES;
  /** Bytes of journal up to which a busy server's fold is polite. */
  politeBytes = FOLD_POLITE_BYTES;
  /** Rows of a transaction, and of what is encoded of it in one go. */
  transactionRows = FOLD_TRANSACTION_ROWS;
  sliceRows = FOLD_SLICE_ROWS;
  /** Commands that clients have had so far: tells whether the server is busy. */
  commands: () => number = () => 0;
  /** Share of the machine's CPU time that nobody uses. */
  idleShare: () => number = () => 1;
  onProgress: () => void = () => {};

  private readonly w = new ByteWriter(FOLD_SLICE_BYTES * 2);
  /** Databases flushed since the last fold began: what it encodes of them is void, and so is what it had encoded. */
  private clears = new Set<Database>();
  private held = 0;
  private firstDirtyMs = 0;
  private idle: (() => void)[] = [];
  private pokeMs = 0;
  /** When the server was last seen to be busy. */
  private busyMs = Number.NEGATIVE_INFINITY;
  private pokeCommands = 0;
  private sliceMs = 0;
  private sliceCommands = 0;
  private readonly engine: Engine;
  private readonly keys: Keyspace;
  private readonly journal: Journal;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly log: Log;

  constructor(parts: {
    engine: Engine;
    keys: Keyspace;
    journal: Journal;
    clock: Clock;
    timers: Timers;
    log: Log;
    meta: RowsMeta;
  }) {
    this.engine = parts.engine;
    this.keys = parts.keys;
    this.journal = parts.journal;
    this.clock = parts.clock;
    this.timers = parts.timers;
    this.log = parts.log;
    this.meta = parts.meta;
    this.keys.onFlush = (db) => {
      this.clears.add(db);
    };
  }

  /** Starts a fold when one is due. Called every few ms. */
  poke(): void {
    if (this.running || this.held > 0 || this.failure !== null) return;
    const { dirty, dirtyRecords } = this.keys;
    if (dirty.length + dirtyRecords.length === 0 && this.clears.size === 0 && this.journal.backlogBytes === 0) return;
    const now = this.clock.monotonic();
    if (this.firstDirtyMs === 0) this.firstDirtyMs = now;
    if (now - this.pokeMs >= FOLD_LOOK_MS) {
      const commands = this.commands();
      const busy = (commands - this.pokeCommands) * 1000 > FOLD_BUSY_COMMANDS * (now - this.pokeMs);
      if (busy || this.idleShare() < FOLD_IDLE_SHARE) this.busyMs = now;
      this.pokeCommands = commands;
      this.pokeMs = now;
    }
    const patience = now - this.busyMs < FOLD_LULL_MS ? FOLD_START_BUSY_MS : FOLD_START_MS;
    if (this.journal.backlogBytes >= this.startBytes || now - this.firstDirtyMs >= patience) void this.run();
  }

  /** Folds everything there is now; resolves when it is in rows. Rejects when the disk refuses. */
  async drain(): Promise<void> {
    while (this.running) await new Promise<void>((resolve) => this.idle.push(resolve));
    this.politeBytes = 0;
    await this.run();
    if (this.failure !== null) throw new Error(this.failure);
  }

  /** Keeps the fold from running while `work` does. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    this.held++;
    try {
      while (this.running) await new Promise<void>((resolve) => this.idle.push(resolve));
      return await work();
    } finally {
      this.held--;
    }
  }

  private async run(): Promise<void> {
    this.running = true;
    this.firstDirtyMs = 0;
    const started = this.clock.monotonic();
    try {
      await this.journal.flush();
      const upTo = this.journal.committed;
      await this.foldAll();
      await this.engine.syncRows();
      // what a flush has left of its database is not in rows yet
      if (this.clears.size === 0) await this.journal.drop(upTo);
      this.failure = null;
    } catch (error) {
      this.failure = error instanceof Error ? error.message : String(error);
      this.log.error(
        { error: this.failure },
        'the fold was interrupted; its journal is kept and it will be tried again',
      );
      this.timers.after(RETRY_MS, () => {
        this.failure = null;
      });
    } finally {
      this.running = false;
      this.lastMs = this.clock.monotonic() - started;
      for (const resolve of this.idle.splice(0)) resolve();
      this.onProgress();
    }
  }

  private async foldAll(): Promise<void> {
    const written: (StoredKey | number)[] = this.keys.dirty;
    this.keys.dirty = [];
    for (const a of this.keys.dirtyRecords) written.push(a);
    this.keys.dirtyRecords = [];
    let clears = [...this.clears];
    this.clears.clear();
    // in order of place over all transactions: each page of the table is then written by one of them, and not by all
    const list = await this.inSlotOrder(written);
    let done = 0;
    try {
      do {
        // a commit that takes long is in everybody's way; clients are kept waiting anyway when the backlog is large
        const rows = this.transactionRows * (this.journal.backlogBytes > this.politeBytes ? 4 : 1);
        const end = Math.min(list.length, done + rows);
        await this.transaction(list, done, end, clears);
        clears = [];
        done = end;
      } while (done < list.length);
    } catch (error) {
      for (let i = done; i < list.length; i++) this.putBack(list[i]);
      for (const db of clears) this.clears.add(db);
      throw error;
    }
  }

  /** What was to be folded and was not is to be folded again. */
  private putBack(x: StoredKey | number): void {
    if (x === 0) return;
    const { keys } = this;
    const { packed } = keys;
    if (typeof x !== 'number') {
      // one that has been folded since it was put into the list may have left memory
      if (x.flags & (DIRTY | FOLDING) && this.isCurrent(x)) this.putBackObject(x);
      return;
    }
    if ((packed.flags(x) & LISTED_FOLD) === 0) {
      // it had not come to its turn
      keys.dirtyRecords.push(x);
      return;
    }
    const now = this.currentOf(x);
    if (typeof now === 'number') {
      const flags = packed.flags(now);
      if ((flags & LISTED_DIRTY) === 0) keys.dirtyRecords.push(now);
      packed.setFlags(now, (flags & ~FOLDING) | DIRTY | LISTED_DIRTY);
    } else if (now !== null) this.putBackObject(now);
    packed.unlist(x, LISTED_FOLD);
  }

  private putBackObject(o: StoredKey): void {
    o.flags = (o.flags & ~FOLDING) | DIRTY;
    for (const e of o.state?.entries() ?? []) e.dirty = true;
    if (o.state !== null) o.state.removedRows = null;
    // written to again, it is in the list twice: it is encoded once
    this.keys.dirty.push(o);
  }

  /** What the key of a record is now: that, another record, or an object; null when it is gone. */
  private formOf(a: number): StoredKey | number | null {
    const { keys } = this;
    const { packed } = keys;
    if ((packed.flags(a) & DEAD) === 0) return a;
    const db = keys.databases[packed.db(a)];
    if (this.clears.has(db)) return null;
    const key = packed.key(a);
    const shard = keys.shard(db, packed.slot(a));
    const b = shard.record(key);
    return b !== 0 ? b : (shard.objects.get(key) ?? null);
  }

  /** The same of a record that was encoded, as far as that stands: null when the database has been flushed. */
  private currentOf(a: number): StoredKey | number | null {
    const x = this.formOf(a);
    if (x === null) return null;
    return (typeof x === 'number' ? this.keys.packed.flags(x) : x.flags) & FOLDING ? x : null;
  }

  /** Objects and records by slot, in linear time; a long list in steps, between which clients have their turn. */
  private async inSlotOrder(list: readonly (StoredKey | number)[]): Promise<(StoredKey | number)[]> {
    const { packed } = this.keys;
    const slotOf = (x: StoredKey | number) => (typeof x === 'number' ? packed.slot(x) : x.slot);
    const starts = new Int32Array(SLOTS + 1);
    const out = new Array<StoredKey | number>(list.length);
    const inSteps = async (step: (x: StoredKey | number) => void): Promise<void> => {
      for (let at = 0; at < list.length; ) {
        const end = Math.min(list.length, at + FOLD_SORT_OBJECTS);
        for (; at < end; at++) step(list[at]);
        if (at < list.length) await new Promise<void>((resolve) => this.timers.endOfTick(resolve));
      }
    };
    await inSteps((o) => {
      starts[slotOf(o) + 1]++;
    });
    for (let i = 0; i < SLOTS; i++) starts[i + 1] += starts[i];
    await inSteps((o) => {
      out[starts[slotOf(o)]++] = o;
    });
    return out;
  }

  /** Folds list[start, end) in one transaction. What of it has nothing to be folded is 0 in the list then. */
  private async transaction(
    list: (StoredKey | number)[],
    start: number,
    end: number,
    clears: Database[],
  ): Promise<void> {
    const floors = clears.map((db) => db.floor);
    await this.engine.beginRows();
    this.sliceMs = this.clock.monotonic();
    this.sliceCommands = this.commands();
    const meta: RowsMeta = {
      ...this.meta,
      keys: [...this.meta.keys],
      expires: [...this.meta.expires],
      floors: [...this.meta.floors],
    };
    const rowFlags: number[] = [];
    try {
      for (let i = 0; i < clears.length; i++) {
        await this.engine.clearDb(clears[i].index);
        meta.floors[clears[i].index] = floors[i];
        meta.keys[clears[i].index] = 0;
        meta.expires[clears[i].index] = 0;
      }
      for (let at = start; at < end; ) {
        const batch: RowBatch = {
          bytes: this.w.buf,
          puts: [],
          deletes: [],
          entryPuts: [],
          entryDeletes: [],
          entryClears: [],
        };
        this.w.reset();
        const from = at;
        while (at < end && at - from < this.sliceRows && this.w.pos < FOLD_SLICE_BYTES) {
          rowFlags.push(this.encodeNext(list, at++, batch));
        }
        batch.bytes = this.w.buf.subarray(0, this.w.pos) as Buffer;
        await this.engine.writeRows(batch);
        this.onProgress();
        await this.giveWay();
      }
      this.sliceMs = this.clock.monotonic();
      this.sliceCommands = this.commands();
      await this.journal.flush();
      meta.names = this.keys.names.map((db) => db.index);
      meta.swapsUpTo = this.journal.committed;
      for (let i = start; i < end; i++) this.account(meta, list[i], rowFlags[i - start]);
      await this.engine.commitRows({ 'rows.meta': Buffer.from(JSON.stringify(meta)) });
    } catch (error) {
      await this.engine.rollbackRows();
      throw error;
    }
    this.meta = meta;
    for (let i = start; i < end; i++) this.settle(list[i], rowFlags[i - start]);
    this.rows += end - start;
    await this.giveWay();
  }

  /**
   * Between slices, and after a commit: lets clients have their turn. A busy server's fold, or one on a busy machine,
   * rests far longer than it works, and less and less as the backlog nears its limit; an idle one's goes on at once.
   */
  private async giveWay(): Promise<void> {
    const now = this.clock.monotonic();
    const worked = now - this.sliceMs;
    const commands = this.commands();
    const rate = (commands - this.sliceCommands) / Math.max(1, worked);
    const room = 1 - this.journal.backlogBytes / this.politeBytes;
    if (room > 0 && (rate * 1000 > FOLD_BUSY_COMMANDS || this.idleShare() < FOLD_IDLE_SHARE)) {
      const rest = Math.min(200, worked * FOLD_REST * Math.min(1, room * 4));
      await new Promise<void>((resolve) => this.timers.after(rest, resolve));
    }
    this.sliceMs = this.clock.monotonic();
    this.sliceCommands = this.commands();
  }

  /** False for an object whose database has been flushed since the fold began: its row goes with the others. */
  private isCurrent(o: StoredKey): boolean {
    return !this.clears.has(this.keys.databases[o.db]);
  }

  private account(meta: RowsMeta, x: StoredKey | number, flags: number): void {
    if (x === 0) return;
    const o = typeof x === 'number' ? this.currentOf(x) : this.isCurrent(x) ? x : null;
    if (o === null) return;
    const { packed } = this.keys;
    const before = typeof o === 'number' ? packed.flags(o) : o.flags;
    const db = typeof o === 'number' ? packed.db(o) : o.db;
    meta.keys[db] += (flags & ROW_LIVE ? 1 : 0) - (before & ROW_LIVE ? 1 : 0);
    meta.expires[db] += (flags & ROW_EXPIRES ? 1 : 0) - (before & ROW_EXPIRES ? 1 : 0);
  }

  /** After the commit: the object may leave memory again, and a reaped tombstone does. */
  private settle(o: StoredKey | number, flags: number): void {
    if (o === 0) return;
    if (typeof o === 'number') {
      this.settleRecord(o, flags);
      return;
    }
    o.flags &= ~FOLDING;
    if (!this.isCurrent(o)) return;
    o.flags = (o.flags & ~ROW_FLAGS) | flags;
    if (flags === 0 && (o.flags & DIRTY) === 0) this.keys.evict(this.keys.databases[o.db], o);
  }

  private settleRecord(a: number, flags: number): void {
    const { packed } = this.keys;
    const x = this.currentOf(a);
    if (typeof x === 'number') packed.setFlags(x, (packed.flags(x) & ~(ROW_FLAGS | FOLDING)) | flags);
    else if (x !== null) x.flags = (x.flags & ~(ROW_FLAGS | FOLDING)) | flags;
    packed.unlist(a, LISTED_FOLD);
  }

  /**
   * Encodes the key that list[at] names. A record that its key has left gives way to what the key is now: its write is in
   * the journal that this fold drops. Returns the row's ROW_ flags; -1 when there is nothing to write, and list[at] is 0.
   */
  private encodeNext(list: (StoredKey | number)[], at: number, batch: RowBatch): number {
    const { packed } = this.keys;
    const named = list[at];
    let x: StoredKey | number | null = named;
    if (typeof named === 'number') {
      x = this.formOf(named);
      packed.unlist(named, LISTED_DIRTY);
    }
    list[at] = x ?? 0;
    const flags = x === null ? -1 : typeof x === 'number' ? this.encodeRecord(x, batch) : this.encode(x, batch);
    if (flags < 0) list[at] = 0;
    return flags;
  }

  /** Encodes a record, unless that has been done since it was put into the list. */
  private encodeRecord(a: number, batch: RowBatch): number {
    const { packed, dirtyRecords } = this.keys;
    const flags = packed.flags(a);
    if ((flags & DIRTY) === 0) return -1;
    if (flags & FOLDING) {
      // and it has been written again: that is for the next fold
      if ((flags & LISTED_DIRTY) === 0) dirtyRecords.push(a);
      packed.setFlags(a, flags | LISTED_DIRTY);
      return -1;
    }
    packed.setFlags(a, (flags & ~DIRTY) | FOLDING | LISTED_FOLD);
    return this.encodeRow(packed.copy(a), batch);
  }

  /** Encodes an object, unless that has been done since it was put into the list, or its database has been flushed. */
  private encode(o: StoredKey, batch: RowBatch): number {
    if ((o.flags & (DIRTY | FOLDING)) !== DIRTY || !this.isCurrent(o)) return -1;
    o.flags = (o.flags & ~DIRTY) | FOLDING;
    return this.encodeRow(o, batch);
  }

  private encodeRow(o: StoredKey, batch: RowBatch): number {
    const w = this.w;
    const pos = positionOf(o.slot, o.key);
    const key = w.pos;
    w.rawStr(o.key);
    const at = [o.db, pos, key, o.key.length];
    const s = o.state;
    const wasSpread = s !== null && s.removedRows !== null;
    const spread = s !== null && s.count > 1 && s.bytes > INLINE_STATE_BYTES;
    if (wasSpread && !spread) {
      batch.entryClears.push(at);
      s.removedRows = null;
      this.keys.refresh(o);
    }
    // as the only member this node alone decides that a tombstone has served its time
    const forgotten = o.state === null && o.to === 0 && o.rest === null;
    if (forgotten || (o.type === NONE && this.keys.sole && (o.state === null || o.state.count === 0))) {
      if (o.flags & ROW_EXISTS) batch.deletes.push(at);
      return 0;
    }
    // rows of an earlier spread form, or of an interrupted fold
    if (spread && !wasSpread && o.flags & ROW_EXISTS) batch.entryClears.push(at);
    const state = w.pos;
    encodeObject(w, o, spread);
    batch.puts.push([...at, rowDeadline(o), state, w.pos - state, spread ? 1 : 0]);
    if (spread) this.encodeEntries(o, batch, at, wasSpread);
    return ROW_EXISTS | (o.type !== NONE ? ROW_LIVE : 0) | (o.type !== NONE && o.deadline !== 0 ? ROW_EXPIRES : 0);
  }

  private encodeEntries(o: StoredKey, batch: RowBatch, at: number[], wasSpread: boolean): void {
    const w = this.w;
    const s = o.state!;
    const name = (e: EntryRef | Entry): number[] => {
      const field = w.pos;
      w.rawStr(e.field);
      const actor = w.pos;
      w.rawStr(actorName(e.actor));
      return [field, e.field.length, actor, e.hlc];
    };
    for (const e of s.removedRows ?? []) batch.entryDeletes.push([...at, ...name(e)]);
    s.removedRows = [];
    for (const e of s.entries()) {
      if (wasSpread && !e.dirty) continue;
      e.dirty = false;
      const parts = name(e);
      const payload = w.pos;
      encodePayload(w, e.data, e.num, e.aux);
      batch.entryPuts.push([...at, ...parts, payload, w.pos - payload]);
    }
  }
}
