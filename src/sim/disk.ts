/**
 * A machine's disk, and the engine that a process has on it: what `platform/sqlite` promises and not more.
 *
 * A process that is killed leaves everything that the system had taken. A power cut leaves what was fsynced, and of
 * what came after, in each file, any first part: so as the files' write-ahead logs are. The promises are those of the
 * real engine: small values are durable when written; a journal batch is under `always`, and otherwise when the journal
 * is next synced; committed rows are when rows are synced, and an uncommitted transaction is gone with its process.
 *
 * Every call takes time from the seed, in order for each file; half-way through the process may die, with the effect
 * there and nobody told.
 */
import { assert } from '../base/assert.ts';
import { GrammeError } from '../base/errors.ts';
import type { Engine, EntryRow, HintRow, JournalRow, KeyRow, RowBatch, SyncPolicy } from '../ports/engine.ts';
import type { SeededRandom } from './random.ts';
import type { NodeTime } from './time.ts';

/** How long calls take, in ms: a least, and a mean above it. */
export interface DiskTimes {
  call: { min: number; mean: number };
  sync: { min: number; mean: number };
}

export const FAST_DISK: DiskTimes = { call: { min: 0.02, mean: 0.1 }, sync: { min: 0.5, mean: 3 } };
export const SLOW_DISK: DiskTimes = { call: { min: 0.5, mean: 5 }, sync: { min: 10, mean: 120 } };

/** The rows of `data.db`. */
class Rows {
  readonly keys = new Map<string, KeyRow>();
  readonly entries = new Map<string, Map<string, EntryRow>>();
  readonly meta = new Map<string, Buffer>();
  /** Names by place. */
  private places = new Map<string, Set<string>>();
  private deadlines = new Set<string>();
  private sorted: KeyRow[] | null = null;

  put(row: KeyRow): void {
    const name = `${row.db}:${row.key}`;
    const place = `${row.db}:${row.pos}`;
    if (!this.keys.has(name)) {
      const names = this.places.get(place);
      if (names === undefined) this.places.set(place, new Set([name]));
      else names.add(name);
    }
    this.sorted = null;
    this.keys.set(name, row);
    if (row.deadline > 0) this.deadlines.add(name);
    else this.deadlines.delete(name);
  }

  delete(name: string): void {
    const row = this.keys.get(name);
    this.entries.delete(name);
    if (row === undefined) return;
    const place = `${row.db}:${row.pos}`;
    const names = this.places.get(place)!;
    names.delete(name);
    if (names.size === 0) this.places.delete(place);
    this.keys.delete(name);
    this.deadlines.delete(name);
    this.sorted = null;
  }

  clear(db: number): void {
    for (const name of [...this.keys.keys()]) if (name.startsWith(`${db}:`)) this.delete(name);
    for (const name of [...this.entries.keys()]) if (name.startsWith(`${db}:`)) this.entries.delete(name);
  }

  at(db: number, pos: number): KeyRow[] {
    return [...(this.places.get(`${db}:${pos}`) ?? [])].map((name) => this.keys.get(name)!);
  }

  inOrder(): KeyRow[] {
    this.sorted ??= [...this.keys.values()].sort(
      (a, b) => a.db - b.db || a.pos - b.pos || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0),
    );
    return this.sorted;
  }

  due(until: number, limit: number): KeyRow[] {
    const rows = [...this.deadlines].map((name) => this.keys.get(name)!).filter((row) => row.deadline <= until);
    return rows.sort((a, b) => a.deadline - b.deadline || (a.key < b.key ? -1 : 1)).slice(0, limit);
  }

  clone(): Rows {
    const copy = new Rows();
    for (const row of this.keys.values()) copy.put(row);
    for (const [name, rows] of this.entries) copy.entries.set(name, new Map(rows));
    for (const [name, value] of this.meta) copy.meta.set(name, value);
    return copy;
  }
}

class JournalFile {
  readonly rows = new Map<number, Buffer>();

  clone(): JournalFile {
    const copy = new JournalFile();
    for (const [seq, bytes] of this.rows) copy.rows.set(seq, bytes);
    return copy;
  }
}

class HintFile {
  readonly rows = new Map<string, HintRow>();

  clone(): HintFile {
    const copy = new HintFile();
    for (const [name, row] of this.rows) copy.rows.set(name, row);
    return copy;
  }
}

/** One file: what the system shows, what is on the platter, and the changes between the two in order. */
class SimFile<T extends { clone(): T }> {
  cached: T;
  private durable: T;
  private changes: ((content: T) => void)[] = [];
  /** When the calls that are queued on it are through, by the process's monotonic clock. */
  freeAtMs = 0;

  constructor(empty: T) {
    this.cached = empty;
    this.durable = empty.clone();
  }

  change(step: (content: T) => void): void {
    step(this.cached);
    this.changes.push(step);
  }

  sync(): void {
    for (const step of this.changes) step(this.durable);
    this.changes = [];
  }

  get unsynced(): number {
    return this.changes.length;
  }

  /** Keeps the first `kept` of the changes that were not synced. */
  lose(kept: number): void {
    for (const step of this.changes.slice(0, kept)) step(this.durable);
    this.changes = [];
    this.cached = this.durable.clone();
  }
}

/** What survives the process. */
export class SimDisk {
  data = new SimFile(new Rows());
  journal = new SimFile(new JournalFile());
  hints = new SimFile(new HintFile());
  /** `node.db`: each write is synced. */
  values = new Map<string, Buffer>();
  times: DiskTimes = FAST_DISK;
  /** Why writes fail, as a full disk or a broken one says it; null when they don't. */
  failing: string | null = null;
  /** The engine that has it open. */
  owner: SimEngine | null = null;
  readonly random: SeededRandom;

  constructor(random: SeededRandom) {
    this.random = random;
  }

  /** The process that had it is dead: the system closes its files. */
  release(): void {
    this.owner = null;
    this.data.freeAtMs = this.journal.freeAtMs = this.hints.freeAtMs = 0;
  }

  /** Unsynced changes go, from a point of the seed's choosing in each file. */
  powerCut(): void {
    this.release();
    for (const file of [this.data, this.journal, this.hints]) file.lose(this.random.int(file.unsynced + 1));
  }

  /** A new disk. */
  wipe(): void {
    this.release();
    this.data = new SimFile(new Rows());
    this.journal = new SimFile(new JournalFile());
    this.hints = new SimFile(new HintFile());
    this.values = new Map();
  }
}

/** The disk as one process has it. */
export class SimEngine implements Engine {
  private readonly disk: SimDisk;
  private readonly time: NodeTime;
  private policy: SyncPolicy = 'everysec';
  private staged: ((rows: Rows) => void)[] | null = null;
  private readonly reader = { freeAtMs: 0 };
  private readonly node = { freeAtMs: 0 };

  constructor(disk: SimDisk, time: NodeTime) {
    this.disk = disk;
    this.time = time;
  }

  // ------------------------------------------------------------------ calls

  /** One call: it waits for those before it on the same file, takes effect part-way through, and then tells. */
  private call<T>(file: { freeAtMs: number }, syncs: boolean, effect: () => T): Promise<T> {
    const { random, times } = this.disk;
    const { min, mean } = syncs ? times.sync : times.call;
    const takes = min - Math.log(1 - random.next()) * (mean - min);
    const share = random.next();
    const now = this.time.monotonic();
    const start = Math.max(now, file.freeAtMs);
    file.freeAtMs = start + takes;
    return new Promise<T>((resolve, reject) => {
      this.time.after(start + takes * share - now, () => {
        let tell: () => void;
        try {
          const value = effect();
          tell = () => resolve(value);
        } catch (error) {
          tell = () => reject(error);
        }
        this.time.after(takes * (1 - share), tell);
      });
    });
  }

  private write<T>(file: { freeAtMs: number }, syncs: boolean, effect: () => T): Promise<T> {
    return this.call(file, syncs, () => {
      if (this.disk.failing !== null) throw new Error(this.disk.failing);
      return effect();
    });
  }

  private read<T>(effect: () => T): Promise<T> {
    return this.call(this.reader, false, effect);
  }

  // ------------------------------------------------------------------ the port

  async open(): Promise<void> {
    await this.call(this.node, true, () => {
      if (this.disk.owner !== null) throw new GrammeError('DATA_DIR', 'the directory is in use by another server');
      this.disk.owner = this;
    });
  }

  async close(): Promise<void> {
    await this.call(this.node, true, () => {
      // the real one checkpoints its logs when it is closed
      this.disk.data.sync();
      this.disk.journal.sync();
      this.disk.hints.sync();
      if (this.disk.owner === this) this.disk.release();
    });
  }

  getMeta(name: string): Promise<Buffer | null> {
    const from = () => (name.startsWith('rows.') ? this.disk.data.cached.meta : this.disk.values);
    return this.call(this.node, false, () => copyOf(from().get(name)));
  }

  setMeta(name: string, value: Buffer): Promise<void> {
    const copy = Buffer.from(value);
    return this.write(this.node, true, () => void this.disk.values.set(name, copy));
  }

  append(seq: number, bytes: Buffer, length: number): Promise<void> {
    const copy = Buffer.from(bytes.subarray(0, length));
    const always = this.policy === 'always';
    const { journal } = this.disk;
    return this.write(journal, always, () => {
      assert(!journal.cached.rows.has(seq), 'a batch is appended once');
      journal.change((file) => void file.rows.set(seq, copy));
      if (always) journal.sync();
    });
  }

  setSync(policy: SyncPolicy): Promise<void> {
    return this.call(this.disk.journal, false, () => {
      this.policy = policy;
    });
  }

  async syncJournal(): Promise<void> {
    const { journal } = this.disk;
    // beside the connection's own queue, as the real one's fdatasync is
    if (this.policy !== 'always') await this.write({ freeAtMs: 0 }, true, () => journal.sync());
  }

  async readJournal(each: (row: JournalRow) => Promise<void>): Promise<void> {
    const { journal } = this.disk;
    const rows = await this.call(journal, true, () => [...journal.cached.rows].sort(([a], [b]) => a - b));
    for (const [seq, bytes] of rows) await each({ seq, bytes: Buffer.from(bytes) });
  }

  dropJournal(upTo: number): Promise<void> {
    const { journal } = this.disk;
    const always = this.policy === 'always';
    return this.write(journal, always, () => {
      journal.change((file) => {
        for (const seq of [...file.rows.keys()]) if (seq <= upTo) file.rows.delete(seq);
      });
      if (always) journal.sync();
    });
  }

  async beginRows(): Promise<void> {
    await this.write(this.disk.data, false, () => {
      assert(this.staged === null, 'one transaction at a time');
      this.staged = [];
    });
  }

  async writeRows(batch: RowBatch): Promise<void> {
    // the caller reuses the batch's bytes
    const step = rowsStep(batch, Buffer.from(batch.bytes));
    await this.write(this.disk.data, false, () => void this.staged!.push(step));
  }

  async clearDb(db: number): Promise<void> {
    await this.write(this.disk.data, false, () => void this.staged!.push((rows) => rows.clear(db)));
  }

  async commitRows(meta: Record<string, Buffer>): Promise<void> {
    const copies = Object.entries(meta).map(([name, value]) => [name, Buffer.from(value)] as const);
    await this.write(this.disk.data, false, () => {
      const steps = this.staged!;
      this.staged = null;
      this.disk.data.change((rows) => {
        for (const step of steps) step(rows);
        for (const [name, value] of copies) rows.meta.set(name, value);
      });
    });
  }

  async syncRows(): Promise<void> {
    const { data } = this.disk;
    await this.write({ freeAtMs: 0 }, true, () => data.sync());
  }

  async rollbackRows(): Promise<void> {
    await this.call(this.disk.data, false, () => {
      this.staged = null;
    });
  }

  load(places: number[]): Promise<KeyRow[]> {
    return this.read(() => {
      const rows: KeyRow[] = [];
      for (let i = 0; i < places.length; i += 2) rows.push(...this.disk.data.cached.at(places[i], places[i + 1]));
      return [...new Set(rows)].map(freshRow);
    });
  }

  range(db: number, from: number, to: number, limit: number): Promise<KeyRow[]> {
    return this.read(() => {
      const all = this.disk.data.cached.inOrder();
      let at = lowerBound(all, db, from);
      const rows: KeyRow[] = [];
      for (; at < all.length && all[at].db === db && all[at].pos < to; at++) {
        if (rows.length >= limit && rows[rows.length - 1].pos !== all[at].pos) break;
        rows.push(freshRow(all[at]));
      }
      return rows;
    });
  }

  async keyNames(db: number, from: number, to: number): Promise<string[]> {
    return (await this.range(db, from, to, Number.MAX_SAFE_INTEGER)).map((row) => row.key);
  }

  entries(db: number, _pos: number, key: string): Promise<EntryRow[]> {
    return this.read(() =>
      [...(this.disk.data.cached.entries.get(`${db}:${key}`)?.values() ?? [])].map((row) => ({
        ...row,
        payload: Buffer.from(row.payload),
      })),
    );
  }

  due(until: number, limit: number): Promise<{ db: number; pos: number; key: string; deadline: number }[]> {
    return this.read(() =>
      this.disk.data.cached.due(until, limit).map(({ db, pos, key, deadline }) => ({ db, pos, key, deadline })),
    );
  }

  isEmpty(): Promise<boolean> {
    return this.read(() => this.disk.data.cached.keys.size === 0);
  }

  // the port says nothing of how durable a hint is: taken here to be as a journal batch

  private changeHints(change: (rows: Map<string, HintRow>) => void): Promise<void> {
    const { hints } = this.disk;
    const always = this.policy === 'always';
    return this.write(hints, always, () => {
      hints.change((file) => change(file.rows));
      if (always) hints.sync();
    });
  }

  putHints(hints: HintRow[]): Promise<void> {
    const copies = hints.map((h) => ({ ...h }));
    return this.changeHints((rows) => {
      for (const h of copies) rows.set(`${h.owner}:${h.db}:${h.key}`, h);
    });
  }

  dropHints(hints: HintRow[]): Promise<void> {
    const names = hints.map((h) => `${h.owner}:${h.db}:${h.key}`);
    return this.changeHints((rows) => {
      for (const name of names) rows.delete(name);
    });
  }

  readHints(): Promise<HintRow[]> {
    return this.read(() => [...this.disk.hints.cached.rows.values()].map((h) => ({ ...h })));
  }

  async backup(): Promise<void> {
    throw new Error('the simulated disk makes no backups');
  }

  verify(): Promise<string | null> {
    return this.call(this.reader, true, () => null);
  }

  async size(): Promise<{ data: number; journal: number }> {
    let journal = 0;
    for (const bytes of this.disk.journal.cached.rows.values()) journal += bytes.length;
    return { data: this.disk.data.cached.keys.size * 100, journal };
  }
}

function copyOf(value: Buffer | undefined): Buffer | null {
  return value === undefined ? null : Buffer.from(value);
}

/** As if read from a file: nobody shares its bytes. */
function freshRow(row: KeyRow): KeyRow {
  return { ...row, state: Buffer.from(row.state) };
}

function lowerBound(rows: KeyRow[], db: number, pos: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (rows[mid].db < db || (rows[mid].db === db && rows[mid].pos < pos)) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** A batch as a change of the rows, in the order in which the real engine runs its statements. */
function rowsStep(batch: RowBatch, bytes: Buffer): (rows: Rows) => void {
  const text = (start: number, length: number) => bytes.latin1Slice(start, start + length);
  const name = (at: number[]) => `${at[0]}:${text(at[2], at[3])}`;
  const entry = (at: number[]) => `${text(at[4], at[5])}\0${text(at[6], 8)}\0${at[7]}`;
  const { entryClears, deletes, entryDeletes, entryPuts, puts } = batch;
  return (rows) => {
    for (const at of entryClears) rows.entries.delete(name(at));
    for (const at of deletes) rows.delete(name(at));
    for (const at of entryDeletes) rows.entries.get(name(at))?.delete(entry(at));
    for (const at of entryPuts) {
      let of = rows.entries.get(name(at));
      if (of === undefined) rows.entries.set(name(at), (of = new Map()));
      of.set(entry(at), {
        field: text(at[4], at[5]),
        actor: text(at[6], 8),
        hlc: at[7],
        payload: bytes.subarray(at[8], at[8] + at[9]) as Buffer,
      });
    }
    for (const at of puts) {
      rows.put({
        db: at[0],
        pos: at[1],
        key: text(at[2], at[3]),
        deadline: at[4],
        state: bytes.subarray(at[5], at[5] + at[6]) as Buffer,
        spread: at[7] !== 0,
      });
    }
  };
}
