/**
 * What the journal holds beyond the rows, brought back after a start, partition by partition.
 *
 * One pass over the journal tells which partitions it says something of, and where; a record costs it next to nothing,
 * so a large journal keeps nobody waiting for long. From then until its records have been applied a partition is
 * *behind*: it shows no key and knows of none that is absent, so that whoever needs one of its keys waits
 * (`Residency.load`), and it is applied next. Partitions that nobody asks for follow by themselves. A partition's records
 * are applied in order and without a break, onto its keys' rows, which were read before.
 *
 * Records of two partitions have nothing to do with each other, but a flush is of all: before one, everything that was
 * done before it is applied.
 */
import { ByteReader, TruncatedError } from '../base/bytes.ts';
import { GrammeError } from '../base/errors.ts';
import type { HybridClock } from '../causality/clock.ts';
import type { Clock, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import { slotOf, slotOfBytes } from '../ring/slots.ts';
import type { Database, KeyPlace, Keyspace } from './keyspace.ts';
import { CompactRecord, readRecord } from './records.ts';
import { replayCompact } from './replica.ts';
import type { Residency } from './residency.ts';
import type { Behind, Shard } from './shard.ts';

/** Batches below this many bytes are put together into blocks of that many, so that there are not too many to keep. */
const BLOCK_BYTES = 1024 * 1024;
/** After so many ms of replay others have their turn. */
const SLICE_MS = 4;
/** A partition whose rows could not be read is tried again after this many ms. */
const RETRY_MS = 1000;

/** Room for so many places at first. */
const FIRST_PLACES = 65_536;
const NO_PLACES = new Float64Array(0);

interface Waiting {
  resolve: () => void;
  reject: (error: unknown) => void;
}

interface Part {
  db: Database;
  partition: number;
}

export class Replay {
  /** What it has done. */
  batches = 0;
  events = 0;
  ms = 0;

  /** The journal's bytes; a record's place counts through all of them. */
  private blocks: Buffer[] = [];
  private starts: number[] = [];
  private size = 0;
  /** The block that small batches are put into, and how much of it is taken. */
  private open: Buffer | null = null;
  private taken = 0;

  /** Places of records, and the number of the partition that each is of, until they have been shared out. */
  private places: Float64Array = NO_PLACES;
  private owners = new Int32Array(0);
  private noted = 0;

  /** Partitions that are behind; those that somebody waits for come first. */
  private parts: Part[] = [];
  private wanted: Part[] = [];
  private waiting = new Map<Behind, Waiting[]>();
  private waitingForAll: Waiting[] = [];
  /** The pass over the journal is not through. */
  private reading = true;
  private running = false;
  private stopped = false;
  private readonly record = new CompactRecord();
  private readonly keys: Keyspace;
  private readonly residency: Residency;
  private readonly hlc: HybridClock;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly log: Log;

  constructor(parts: {
    keys: Keyspace;
    residency: Residency;
    hlc: HybridClock;
    clock: Clock;
    timers: Timers;
    log: Log;
  }) {
    this.keys = parts.keys;
    this.residency = parts.residency;
    this.hlc = parts.hlc;
    this.clock = parts.clock;
    this.timers = parts.timers;
    this.log = parts.log;
    this.keys.catchUp = (db, partition) => this.catchUp(db, partition);
    this.keys.catchUpAll = () => this.catchUpAll();
  }

  // ------------------------------------------------------------------ the pass over the journal

  /**
   * Takes the next batch.
   * @param swaps false when the rows' names of databases have this batch's SWAPDBs already
   */
  async add(seq: number, bytes: Buffer, swaps: boolean): Promise<void> {
    this.batches++;
    const block = this.keep(bytes);
    const start = this.starts[this.starts.length - 1];
    const end = block.end;
    try {
      for (let at = this.addCompact(block.buf, block.from, end, start); at < end; ) {
        await this.addOther(block.buf, at, start + at, swaps);
        at = this.addCompact(block.buf, this.record.end, end, start);
      }
    } catch (error) {
      if (!(error instanceof TruncatedError)) throw error;
      throw new GrammeError(
        'DATA_DAMAGED',
        `journal batch ${seq} has a good checksum and bad contents; was it written by a newer version?`,
      );
    }
  }

  /** Notes the compact records from `at` on; returns where another kind comes, or the end. */
  private addCompact(buf: Buffer, at: number, end: number, start: number): number {
    const { record, hlc } = this;
    for (; at < end; at = record.end) {
      if (!record.skim(buf, at, end)) return at;
      this.note(record.db, slotOfBytes(buf, record.keyStart, record.keyEnd), start + at);
      hlc.observe(record.to);
    }
    return at;
  }

  /** A record that is not compact is read whole: what can't be read must be known now, and not when it is applied. */
  private async addOther(buf: Buffer, at: number, place: number, swaps: boolean): Promise<void> {
    const { end } = this.record;
    const record = readRecord(new ByteReader(buf, at, end));
    if (record === null) throw new TruncatedError();
    if (record.kind === 'flush') {
      const db = this.database(record.db);
      this.hlc.observe(record.floor);
      if (db.floor < record.floor) {
        this.share();
        await this.catchUpAll();
        // it may be another node's: then rows may be newer than its floor, and those must be in memory, for all rows go
        if (!this.keys.sole) for (let p = 0; p < db.shards.length; p++) await this.residency.loadPartition(db, p);
        this.keys.applyFlush(db, record.floor);
      }
    } else if (record.kind === 'swap') {
      if (swaps) this.keys.applySwap(record.a, record.b);
    } else {
      this.note(record.db, slotOf(record.key), place);
      if (record.kind === 'event') this.hlc.observe(record.event.to);
      else if (record.kind === 'state') this.hlc.observe(record.state.context.highest());
    }
    this.record.end = end;
  }

  private database(index: number): Database {
    const db = this.keys.databases[index];
    if (db === undefined)
      throw new GrammeError('CONFIG', `the journal has keys in database ${index}; raise 'databases'`);
    return db;
  }

  /** Keeps a batch's bytes until they have been applied. */
  private keep(bytes: Buffer): { buf: Buffer; from: number; end: number } {
    if (bytes.length > BLOCK_BYTES / 2) {
      this.open = null;
      this.addBlock(bytes, bytes.length);
      return { buf: bytes, from: 0, end: bytes.length };
    }
    if (this.open === null || this.taken + bytes.length > BLOCK_BYTES) {
      this.open = Buffer.allocUnsafeSlow(BLOCK_BYTES);
      this.taken = 0;
      this.addBlock(this.open, BLOCK_BYTES);
    }
    const from = this.taken;
    bytes.copy(this.open, from);
    this.taken += bytes.length;
    return { buf: this.open, from, end: this.taken };
  }

  private addBlock(block: Buffer, size: number): void {
    this.starts.push(this.size);
    this.blocks.push(block);
    this.size += size;
  }

  private note(index: number, slot: number, place: number): void {
    const db = this.keys.databases[index] ?? this.database(index);
    const partition = this.keys.partitionOf(slot);
    let shard = db.shards[partition];
    if (shard.behind === null) {
      const { complete } = shard;
      let kept: Shard | null = null;
      if (shard.size > 0) {
        // what came before a flush in the journal has been applied: these keys are old now, and nobody must see them
        kept = shard;
        shard = this.keys.hideShard(db, partition);
      }
      shard.behind = { places: NO_PLACES, complete, kept };
      shard.complete = false;
      this.keys.behind++;
      this.parts.push({ db, partition });
    }
    const n = this.noted++;
    if (n === this.places.length) this.grow();
    this.places[n] = place;
    this.owners[n] = index * this.keys.partitions + partition;
  }

  private grow(): void {
    const size = Math.max(FIRST_PLACES, this.noted * 2);
    const places = new Float64Array(size);
    const owners = new Int32Array(size);
    places.set(this.places);
    owners.set(this.owners);
    this.places = places;
    this.owners = owners;
  }

  /** Gives each partition that is behind the places that were noted of it, in order. */
  private share(): void {
    const { noted, places, owners, keys } = this;
    const ends = new Int32Array(keys.databases.length * keys.partitions);
    for (let i = 0; i < noted; i++) ends[owners[i]]++;
    let end = 0;
    for (let i = 0; i < ends.length; i++) {
      const count = ends[i];
      ends[i] = end;
      end += count;
    }
    const shared = new Float64Array(noted);
    for (let i = 0; i < noted; i++) shared[ends[owners[i]]++] = places[i];
    for (const { db, partition } of this.parts) {
      const owner = db.index * keys.partitions + partition;
      db.shards[partition].behind!.places = shared.subarray(owner === 0 ? 0 : ends[owner - 1], ends[owner]);
    }
    this.noted = 0;
  }

  /** All batches have been added. */
  read(): void {
    this.reading = false;
    this.share();
    this.places = NO_PLACES;
    this.owners = new Int32Array(0);
    this.release();
  }

  private release(): void {
    if (this.reading || this.keys.behind > 0) return;
    this.blocks = [];
    this.starts = [];
    this.open = null;
  }

  // ------------------------------------------------------------------ catching up

  /** Resolves when the partition's records have been applied: it is one of the next. */
  private catchUp(db: Database, partition: number): Promise<void> {
    const { behind } = db.shards[partition];
    if (behind === null) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const list = this.waiting.get(behind);
      if (list === undefined) {
        this.waiting.set(behind, [{ resolve, reject }]);
        this.wanted.push({ db, partition });
      } else list.push({ resolve, reject });
      this.goOn();
    });
  }

  /** Resolves when everything has been applied; rejects when a part of it can't be now. */
  catchUpAll(): Promise<void> {
    if (this.keys.behind === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.waitingForAll.push({ resolve, reject });
      this.goOn();
    });
  }

  /** The same, but what can't be applied is tried again for as long as it takes. */
  async finish(): Promise<void> {
    for (;;) {
      try {
        await this.catchUpAll();
        return;
      } catch {
        await new Promise<void>((resolve) => this.timers.after(RETRY_MS, resolve));
        if (this.stopped) return new Promise(() => {});
      }
    }
  }

  stop(): void {
    this.stopped = true;
  }

  private goOn(): void {
    if (!this.running) void this.run();
  }

  private async run(): Promise<void> {
    this.running = true;
    // in order of place, as the fold likes them
    const all = this.parts.sort((a, b) => b.db.index - a.db.index || b.partition - a.partition);
    this.parts = [];
    let failure: unknown = null;
    let began = this.clock.monotonic();
    for (;;) {
      const part = this.wanted.shift() ?? (this.waitingForAll.length > 0 ? all.pop() : undefined);
      if (part === undefined) break;
      const { behind } = part.db.shards[part.partition];
      if (behind === null) continue;
      const waiting = () => {
        const list = this.waiting.get(behind) ?? [];
        this.waiting.delete(behind);
        return list;
      };
      try {
        await this.apply(part, behind);
        for (const w of waiting()) w.resolve();
      } catch (error) {
        failure = error;
        this.parts.push(part);
        this.log.error(
          { db: part.db.index, partition: part.partition, error: String(error) },
          'the journal can not be replayed onto what the rows of a partition hold; its keys can not be used, and nothing is folded',
        );
        for (const w of waiting()) w.reject(error);
      }
      const now = this.clock.monotonic();
      if (now - began < SLICE_MS) continue;
      this.ms += now - began;
      await new Promise<void>((resolve) => this.timers.endOfTick(resolve));
      began = this.clock.monotonic();
    }
    this.ms += this.clock.monotonic() - began;
    this.parts.push(...all);
    this.running = false;
    this.release();
    for (const w of this.waitingForAll.splice(0)) {
      if (this.keys.behind === 0) w.resolve();
      else w.reject(failure);
    }
  }

  private async apply({ db, partition }: Part, behind: Behind): Promise<void> {
    const found = behind.complete ? [] : await this.residency.fetch(this.keysOf(db, behind));
    const shard = behind.kept ?? db.shards[partition];
    // from here on in one go: nobody sees a part of it
    db.shards[partition] = shard;
    shard.behind = null;
    shard.complete = behind.complete;
    try {
      for (const o of found) {
        this.keys.onLoaded?.(o);
        this.keys.admit(shard, o);
      }
      this.applyAll(db, behind.places);
      this.keys.behind--;
    } catch (error) {
      // what is half done must not be seen
      this.keys.clearShard(db, partition, false).behind = { ...behind, kept: null };
      throw error;
    }
  }

  /** The keys that records are about, without those that are in memory. */
  private keysOf(db: Database, behind: Behind): KeyPlace[] {
    const places = new Map<string, KeyPlace>();
    const { record } = this;
    const block = new Cursor(this.blocks, this.starts);
    for (const place of behind.places) {
      const at = block.seek(place);
      record.read(block.buf, at, block.buf.length);
      const key = block.buf.latin1Slice(record.keyStart, record.keyEnd);
      if (!places.has(key) && !behind.kept?.has(key)) places.set(key, { db, key, slot: slotOf(key) });
    }
    return [...places.values()];
  }

  private applyAll(db: Database, places: Float64Array): void {
    const { keys, record } = this;
    const block = new Cursor(this.blocks, this.starts);
    for (const place of places) {
      const at = block.seek(place);
      const { buf } = block;
      if (!record.read(buf, at, buf.length)) {
        this.applyOther(db, buf, at);
        continue;
      }
      const left = replayCompact(keys, db, record, buf);
      if (left !== null) keys.replay(db, left.key, left.event);
    }
    this.events += places.length;
  }

  private applyOther(db: Database, buf: Buffer, at: number): void {
    const { keys } = this;
    const record = readRecord(new ByteReader(buf, at, this.record.end));
    if (record === null || !('key' in record)) throw new TruncatedError();
    if (record.kind === 'event') keys.replay(db, record.key, record.event);
    else if (record.kind === 'state') keys.joinState(db, record.key, slotOf(record.key), record.state, false);
    else if (record.kind === 'forget') {
      const o = keys.object(db, record.key, slotOf(record.key));
      if (o !== null) keys.forget(db, o);
    }
  }
}

/** The blocks, walked by places that grow. */
class Cursor {
  buf: Buffer;
  private start: number;
  private end: number;
  private readonly blocks: Buffer[];
  private readonly starts: number[];

  constructor(blocks: Buffer[], starts: number[]) {
    this.blocks = blocks;
    this.starts = starts;
    this.buf = blocks[0];
    this.start = 0;
    this.end = starts[1] ?? Number.POSITIVE_INFINITY;
  }

  /** Goes to the block of a place; returns where in it that is. */
  seek(place: number): number {
    if (place >= this.end) {
      let lo = 0;
      let hi = this.starts.length;
      while (hi - lo > 1) {
        const mid = (lo + hi) >>> 1;
        if (this.starts[mid] <= place) lo = mid;
        else hi = mid;
      }
      this.buf = this.blocks[lo];
      this.start = this.starts[lo];
      this.end = this.starts[lo + 1] ?? Number.POSITIVE_INFINITY;
    }
    return place - this.start;
  }
}
