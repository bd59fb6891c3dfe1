/**
 * The `sqlite` engine: package `sqlite3`, and the only file that knows it (docs/STORAGE.md explains the files).
 *
 * `data.db` holds rows, `journal.db` the journal, `node.db` small values. Each is in WAL mode with one writer; reads
 * have a connection of their own. Rows go in many at a time: one blob with all bytes and a JSON array of offsets as
 * the two parameters of one statement, so that nothing is bound row by row.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { crc32 } from 'node:zlib';
import sqlite3 from 'sqlite3';
import { GrammeError } from '../base/errors.ts';
import type { Engine, EntryRow, HintRow, JournalRow, KeyRow, RowBatch, SyncPolicy } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { findBadFrame } from './wal.ts';

const SCHEMA_VERSION = 1;
const DATA = 'data.db';
const JOURNAL = 'journal.db';
const NODE = 'node.db';
const HINTS = 'hints.db';
const LOCK = 'gramme.lock';

/** Batches of the journal that are read at a time. */
const JOURNAL_PAGE_BATCHES = 16;

const DATA_SCHEMA = `
  CREATE TABLE IF NOT EXISTS keys (
    db INTEGER NOT NULL, pos INTEGER NOT NULL, key BLOB NOT NULL,
    deadline INTEGER NOT NULL, spread INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (db, pos, key)) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS keys_deadline ON keys (deadline) WHERE deadline > 0;
  CREATE TABLE IF NOT EXISTS entries (
    db INTEGER NOT NULL, pos INTEGER NOT NULL, key BLOB NOT NULL, field BLOB NOT NULL,
    actor BLOB NOT NULL, hlc INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (db, pos, key, field, actor, hlc)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;`;
const JOURNAL_SCHEMA = `CREATE TABLE IF NOT EXISTS batches (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, bytes BLOB NOT NULL);`;
const NODE_SCHEMA = `CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;`;

const HINTS_SCHEMA = `CREATE TABLE IF NOT EXISTS hints (
  owner TEXT NOT NULL, db INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (owner, db, key)) WITHOUT ROWID;`;
const PUT_HINTS = `INSERT OR IGNORE INTO hints (owner, db, key)
  SELECT value->>0, value->>1, substr(?1, (value->>2) + 1, value->>3) FROM json_each(?2)`;
const DROP_HINTS = `DELETE FROM hints WHERE (owner, db, key) IN
  (SELECT value->>0, value->>1, substr(?1, (value->>2) + 1, value->>3) FROM json_each(?2))`;

/**
 * A key row's numbers as SQLite gets them: decimal digits of fixed widths, one row after the other in a blob of their own.
 * Reading them costs 2 us a row less than JSON would, and key rows are what the fold writes most. In the order of
 * `RowBatch.puts`: db, place, start and length of the key, deadline, start and length of the state, spread.
 */
const PUT_WIDTHS = [4, 16, 10, 10, 16, 10, 10, 1];
const PUT_BYTES = PUT_WIDTHS.reduce((sum, w) => sum + w, 0);

function putKeysSql(): string {
  let at = 0;
  const [db, pos, key, keyLength, deadline, state, stateLength, spread] = PUT_WIDTHS.map((width) => {
    at += width;
    return `CAST(substr(?2, o + ${at - width}, ${width}) AS INTEGER)`;
  });
  return `INSERT OR REPLACE INTO keys (db, pos, key, deadline, spread, state)
  SELECT ${db}, ${pos}, substr(?1, ${key} + 1, ${keyLength}), ${deadline}, ${spread}, substr(?1, ${state} + 1, ${stateLength})
  FROM (WITH RECURSIVE n(o) AS (SELECT 1 UNION ALL SELECT o + ${PUT_BYTES} FROM n LIMIT ?3) SELECT o FROM n)`;
}

/** ?1 is the blob that the offsets point into, ?2 the rows' digits, ?3 how many rows. */
const PUT_KEYS = putKeysSql();

/** Rows of `RowBatch.puts` as `PUT_KEYS` reads them. */
function putDigits(rows: readonly number[][]): Buffer {
  const out = Buffer.allocUnsafe(rows.length * PUT_BYTES);
  let at = 0;
  for (const row of rows)
    for (let i = 0; i < PUT_WIDTHS.length; i++) {
      let v = row[i];
      // a number that isn't one must not become another row's
      if (!Number.isSafeInteger(v) || v < 0) throw new Error(`a row's number ${i} is ${v}`);
      const end = at + PUT_WIDTHS[i];
      for (let d = end - 1; d >= at; d--) {
        const rest = Math.floor(v / 10);
        out[d] = 48 + (v - rest * 10);
        v = rest;
      }
      if (v > 0) throw new Error(`a row's number ${i} has too many digits`);
      at = end;
    }
  return out;
}

// below, `value` is one row's array of numbers; ?1 is the blob that the offsets point into
const DELETE_KEYS = `DELETE FROM keys WHERE (db, pos, key) IN
  (SELECT value->>0, value->>1, substr(?1, (value->>2) + 1, value->>3) FROM json_each(?2))`;
const PUT_ENTRIES = `INSERT OR REPLACE INTO entries (db, pos, key, field, actor, hlc, payload)
  SELECT value->>0, value->>1, substr(?1, (value->>2) + 1, value->>3), substr(?1, (value->>4) + 1, value->>5),
    substr(?1, (value->>6) + 1, 8), value->>7, substr(?1, (value->>8) + 1, value->>9)
  FROM json_each(?2)`;
const DELETE_ENTRIES = `DELETE FROM entries WHERE (db, pos, key, field, actor, hlc) IN
  (SELECT value->>0, value->>1, substr(?1, (value->>2) + 1, value->>3), substr(?1, (value->>4) + 1, value->>5),
    substr(?1, (value->>6) + 1, 8), value->>7 FROM json_each(?2))`;
const CLEAR_ENTRIES = `DELETE FROM entries WHERE (db, pos, key) IN
  (SELECT value->>0, value->>1, substr(?1, (value->>2) + 1, value->>3) FROM json_each(?2))`;

class Handle {
  readonly file: string;
  private db: sqlite3.Database | null = null;
  private statements = new Map<string, sqlite3.Statement>();

  constructor(file: string) {
    this.file = file;
  }

  async open(mode: 'writer' | 'reader' | 'observer'): Promise<void> {
    const create = mode === 'writer' ? sqlite3.OPEN_CREATE : 0;
    const flags = mode === 'observer' ? sqlite3.OPEN_READONLY : sqlite3.OPEN_READWRITE | create;
    await new Promise<void>((resolve, reject) => {
      this.db = new sqlite3.Database(this.file, flags | sqlite3.OPEN_FULLMUTEX, (e) => (e ? reject(e) : resolve()));
    });
  }

  exec(sql: string): Promise<void> {
    return new Promise((resolve, reject) => this.db!.exec(sql, (e) => (e ? reject(e) : resolve())));
  }

  private statement(sql: string): sqlite3.Statement {
    let s = this.statements.get(sql);
    if (s === undefined) {
      s = this.db!.prepare(sql, (e: Error | null) => {
        if (e) this.statements.delete(sql);
      });
      this.statements.set(sql, s);
    }
    return s;
  }

  run(sql: string, ...params: unknown[]): Promise<void> {
    return new Promise((resolve, reject) =>
      this.statement(sql).run(...params, (e: Error | null) => (e ? reject(e) : resolve())),
    );
  }

  all<T>(sql: string, ...params: unknown[]): Promise<T[]> {
    return new Promise((resolve, reject) =>
      this.statement(sql).all(...params, (e: Error | null, rows: unknown[]) => (e ? reject(e) : resolve(rows as T[]))),
    );
  }

  async close(): Promise<void> {
    const db = this.db;
    if (db === null) return;
    this.db = null;
    await Promise.all([...this.statements.values()].map((s) => new Promise<void>((r) => s.finalize(() => r()))));
    this.statements.clear();
    await new Promise<void>((resolve, reject) => db.close((e) => (e ? reject(e) : resolve())));
  }
}

interface RawKeyRow {
  db: number;
  pos: number;
  key: Buffer;
  deadline: number;
  spread: number;
  state: Buffer;
}

export interface SqliteOptions {
  directory: string;
  log: Log;
  /** Bytes of page cache for the writer; readers get a quarter. */
  cacheBytes: number;
}

/**
 * Does a server hold this directory? Asked without writing to its files: whoever owns `node.db` lets nobody else read it.
 * Its lock file alone would not tell, for it outlives a server that is killed.
 */
export async function isInUse(directory: string): Promise<boolean> {
  const file = path.join(directory, NODE);
  // an owner has written to the log, and it goes when the last one closes it
  if (!fs.existsSync(file) || !fs.existsSync(`${file}-wal`)) return false;
  const index = `${file}-shm`;
  const hadIndex = fs.existsSync(index);
  const handle = new Handle(file);
  try {
    await handle.open('observer');
    await handle.exec('SELECT count(*) FROM meta');
    return false;
  } catch (error) {
    return /SQLITE_(BUSY|LOCKED)/.test((error as Error).message);
  } finally {
    await handle.close().catch(() => {});
    // looking into a log takes an index of it, and whoever only looks leaves that behind; an owner has none in a file
    if (!hadIndex) fs.rmSync(index, { force: true });
  }
}

export class SqliteEngine implements Engine {
  private readonly data: Handle;
  private readonly reader: Handle;
  private readonly journal: Handle;
  private readonly node: Handle;
  private readonly hints: Handle;
  private hintsOpen: Promise<void> | null = null;
  private readonly options: SqliteOptions;
  private readonly wal = new Map<string, number>();
  private sync: SyncPolicy = 'everysec';
  /** The directory is ours. */
  private owner = false;
  /** Files that were found damaged and set aside, as an operator should be told. */
  readonly setAside: string[] = [];

  constructor(options: SqliteOptions) {
    this.options = options;
    const at = (name: string) => path.join(options.directory, name);
    this.data = new Handle(at(DATA));
    this.reader = new Handle(at(DATA));
    this.journal = new Handle(at(JOURNAL));
    this.node = new Handle(at(NODE));
    this.hints = new Handle(at(HINTS));
  }

  async open(): Promise<void> {
    const { directory } = this.options;
    try {
      fs.mkdirSync(directory, { recursive: true });
      fs.accessSync(directory, fs.constants.W_OK);
    } catch (error) {
      throw new GrammeError('DATA_DIR', `can't use the data directory ${directory}: ${(error as Error).message}`);
    }
    await this.openFile(this.node, NODE, NODE_SCHEMA, 'FULL', 'EXCLUSIVE');
    fs.writeFileSync(path.join(directory, LOCK), String(process.pid));
    this.owner = true;
    for (const name of [JOURNAL, DATA]) this.inspectLog(name);
    await this.openFile(this.journal, JOURNAL, JOURNAL_SCHEMA, 'NORMAL', 'EXCLUSIVE');
    await this.openFile(this.data, DATA, DATA_SCHEMA, 'NORMAL', 'NORMAL');
    await this.data.exec(
      `PRAGMA cache_size = -${Math.ceil(this.options.cacheBytes / 1024)}; PRAGMA wal_autocheckpoint = 8000; PRAGMA temp_store = MEMORY`,
    );
    await this.journal.exec('PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -4096');
    await this.reader.open('reader');
    await this.reader.exec(
      `PRAGMA query_only = 1; PRAGMA busy_timeout = 5000; PRAGMA cache_size = -${Math.ceil(this.options.cacheBytes / 4096)}; PRAGMA mmap_size = 0`,
    );
  }

  /** A log that is damaged in its middle is copied aside and named; SQLite then goes on with what is before the damage. */
  private inspectLog(name: string): void {
    const file = path.join(this.options.directory, `${name}-wal`);
    const bad = findBadFrame(file);
    if (bad === null) return;
    const aside = `${name}-wal.damaged-${stamp()}`;
    fs.copyFileSync(file, path.join(this.options.directory, aside));
    this.setAside.push(aside);
    this.options.log.error(
      { file: `${name}-wal`, copy: aside, frame: bad.frame, framesBehind: bad.behind },
      'a write-ahead log is damaged: what is behind the damage can not be read, and acknowledged writes may be missing; a copy is kept',
    );
  }

  /** One server a directory: it holds `node.db` exclusively, and leaves its pid for people in a file. */
  private inUse(): string {
    const { directory } = this.options;
    const file = path.join(directory, LOCK);
    const owner = fs.existsSync(file) ? ` (pid ${fs.readFileSync(file, 'latin1')})` : '';
    return `${directory} is in use by another server${owner}`;
  }

  private async openFile(handle: Handle, name: string, schema: string, sync: string, locking: string): Promise<void> {
    try {
      await this.tryOpen(handle, schema, sync, locking);
      return;
    } catch (error) {
      const message = (error as Error).message;
      await handle.close().catch(() => {});
      if (name === NODE && /SQLITE_BUSY/.test(message)) throw new GrammeError('DATA_DIR', this.inUse());
      if (error instanceof GrammeError || !/SQLITE_(CORRUPT|NOTADB)/.test(message)) {
        throw error instanceof GrammeError ? error : new GrammeError('IO', `can't open ${handle.file}: ${message}`);
      }
      throw new GrammeError('DATA_DAMAGED', this.damaged(name, message));
    }
  }

  private async tryOpen(handle: Handle, schema: string, sync: string, locking: string): Promise<void> {
    await handle.open('writer');
    await handle.exec(`PRAGMA locking_mode = ${locking}; PRAGMA journal_mode = WAL; PRAGMA synchronous = ${sync}`);
    const [{ user_version: version }] = await handle.all<{ user_version: number }>('PRAGMA user_version');
    if (version > SCHEMA_VERSION) {
      throw new GrammeError(
        'SCHEMA_NEWER',
        `${handle.file} has schema ${version}, this version knows up to ${SCHEMA_VERSION}`,
      );
    }
    // migrations from older versions go here, one step a version, in one transaction
    await handle.exec(`BEGIN IMMEDIATE; ${schema} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`);
  }

  private damaged(name: string, why: string): string {
    const aside = `${name}.damaged-${stamp()}`;
    for (const suffix of ['', '-wal', '-shm']) {
      const from = path.join(this.options.directory, name + suffix);
      if (fs.existsSync(from)) fs.renameSync(from, path.join(this.options.directory, aside + suffix));
    }
    this.setAside.push(aside);
    return `${name} is damaged (${why}) and has been set aside as ${aside}; restore a backup, or start again to begin without it`;
  }

  async close(): Promise<void> {
    for (const fd of this.wal.values()) fs.closeSync(fd);
    this.wal.clear();
    await this.reader.close();
    await this.data.close();
    await this.journal.close();
    await this.hints.close();
    await this.node.close();
    if (this.owner) fs.rmSync(path.join(this.options.directory, LOCK), { force: true });
    this.owner = false;
  }

  // ------------------------------------------------------------------ hints

  /** Only a node that has peers has the file. */
  private openHints(): Promise<void> {
    this.hintsOpen ??= this.openFile(this.hints, HINTS, HINTS_SCHEMA, 'NORMAL', 'EXCLUSIVE');
    return this.hintsOpen;
  }

  private async changeHints(sql: string, hints: HintRow[]): Promise<void> {
    await this.openHints();
    const keys = Buffer.from(hints.map((h) => h.key).join(''), 'latin1');
    let at = 0;
    const rows = hints.map((h) => {
      const row = [h.owner, h.db, at, h.key.length];
      at += h.key.length;
      return row;
    });
    await this.hints.run(sql, keys, JSON.stringify(rows));
  }

  putHints(hints: HintRow[]): Promise<void> {
    return this.changeHints(PUT_HINTS, hints);
  }

  dropHints(hints: HintRow[]): Promise<void> {
    return this.changeHints(DROP_HINTS, hints);
  }

  async readHints(): Promise<HintRow[]> {
    await this.openHints();
    const rows = await this.hints.all<{ owner: string; db: number; key: Buffer }>('SELECT owner, db, key FROM hints');
    return rows.map((r) => ({ owner: r.owner, db: r.db, key: Buffer.from(r.key).latin1Slice() }));
  }

  async getMeta(name: string): Promise<Buffer | null> {
    const db = name.startsWith('rows.') ? this.data : this.node;
    const rows = await db.all<{ value: Buffer }>('SELECT value FROM meta WHERE name = ?', name);
    return rows[0]?.value ?? null;
  }

  setMeta(name: string, value: Buffer): Promise<void> {
    return this.node.run('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)', name, value);
  }

  // ------------------------------------------------------------------ journal

  append(seq: number, bytes: Buffer, length: number): Promise<void> {
    const blob = bytes.subarray(0, length);
    return this.journal.run('INSERT INTO batches (seq, crc, bytes) VALUES (?, ?, ?)', seq, crc32(blob), blob);
  }

  async setSync(policy: SyncPolicy): Promise<void> {
    this.sync = policy;
    await this.journal.exec(`PRAGMA synchronous = ${policy === 'always' ? 'FULL' : 'NORMAL'}`);
  }

  async syncJournal(): Promise<void> {
    if (this.sync !== 'always') await this.fsyncWal(JOURNAL);
  }

  /**
   * fsyncs a write-ahead log beside SQLite. No lock of SQLite's is on this file, so a descriptor of our own is safe;
   * it stays open, as the file does as long as a connection is.
   */
  private async fsyncWal(name: string): Promise<void> {
    let fd = this.wal.get(name);
    if (fd === undefined) {
      fd = fs.openSync(path.join(this.options.directory, `${name}-wal`), 'r+');
      this.wal.set(name, fd);
    }
    const open = fd;
    await new Promise<void>((resolve, reject) => fs.fdatasync(open, (e) => (e ? reject(e) : resolve())));
  }

  async readJournal(each: (row: JournalRow) => Promise<void>): Promise<void> {
    const sql = 'SELECT seq, crc, bytes FROM batches WHERE seq > ? ORDER BY seq LIMIT ?';
    const page = (after: number) =>
      this.journal.all<{ seq: number; crc: number; bytes: Buffer }>(sql, after, JOURNAL_PAGE_BATCHES);
    // read while the page before is used
    let next = page(-1);
    for (;;) {
      let rows: { seq: number; crc: number; bytes: Buffer }[];
      try {
        rows = await next;
      } catch (error) {
        await this.journal.close().catch(() => {});
        throw new GrammeError('DATA_DAMAGED', this.damaged(JOURNAL, (error as Error).message));
      }
      if (rows.length === 0) return;
      next = page(rows[rows.length - 1].seq);
      // whoever uses this page may give up first
      next.catch(() => {});
      for (const { seq, crc, bytes } of rows) {
        if (crc32(bytes) !== crc) {
          await next.catch(() => {});
          await this.journal.close();
          throw new GrammeError('DATA_DAMAGED', this.damaged(JOURNAL, `batch ${seq} fails its checksum`));
        }
        await each({ seq, bytes });
      }
    }
  }

  dropJournal(upTo: number): Promise<void> {
    return this.journal.run('DELETE FROM batches WHERE seq <= ?', upTo);
  }

  // ------------------------------------------------------------------ rows

  beginRows(): Promise<void> {
    return this.data.exec('BEGIN IMMEDIATE');
  }

  async writeRows(batch: RowBatch): Promise<void> {
    // one after another: the package may run prepared statements of one connection out of order
    const write = async (sql: string, rows: number[][]) => {
      if (rows.length > 0) await this.data.run(sql, batch.bytes, JSON.stringify(rows));
    };
    await write(CLEAR_ENTRIES, batch.entryClears);
    await write(CLEAR_ENTRIES, batch.deletes);
    await write(DELETE_KEYS, batch.deletes);
    await write(DELETE_ENTRIES, batch.entryDeletes);
    await write(PUT_ENTRIES, batch.entryPuts);
    if (batch.puts.length > 0) await this.data.run(PUT_KEYS, batch.bytes, putDigits(batch.puts), batch.puts.length);
  }

  async commitRows(meta: Record<string, Buffer>): Promise<void> {
    for (const [name, value] of Object.entries(meta)) {
      await this.data.run('INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)', name, value);
    }
    await this.data.exec('COMMIT');
  }

  syncRows(): Promise<void> {
    return this.fsyncWal(DATA);
  }

  async rollbackRows(): Promise<void> {
    await this.data.exec('ROLLBACK').catch(() => {});
  }

  async clearDb(db: number): Promise<void> {
    await this.data.run('DELETE FROM keys WHERE db = ?', db);
    await this.data.run('DELETE FROM entries WHERE db = ?', db);
  }

  // ------------------------------------------------------------------ reading

  private keyRow(raw: RawKeyRow): KeyRow {
    return {
      db: raw.db,
      pos: raw.pos,
      key: raw.key.latin1Slice(),
      deadline: raw.deadline,
      state: raw.state,
      spread: raw.spread !== 0,
    };
  }

  async load(places: number[]): Promise<KeyRow[]> {
    if (places.length === 2) {
      const one = await this.reader.all<RawKeyRow>('SELECT * FROM keys WHERE db = ? AND pos = ?', places[0], places[1]);
      return one.map((r) => this.keyRow(r));
    }
    const pairs: number[][] = [];
    for (let i = 0; i < places.length; i += 2) pairs.push([places[i], places[i + 1]]);
    const rows = await this.reader.all<RawKeyRow>(
      'SELECT k.* FROM json_each(?) j CROSS JOIN keys k ON k.db = j.value->>0 AND k.pos = j.value->>1',
      JSON.stringify(pairs),
    );
    return rows.map((r) => this.keyRow(r));
  }

  async range(db: number, from: number, to: number, limit: number): Promise<KeyRow[]> {
    const rows = await this.reader.all<RawKeyRow>(
      'SELECT * FROM keys WHERE db = ? AND pos >= ? AND pos < ? ORDER BY pos LIMIT ?',
      db,
      from,
      to,
      limit,
    );
    if (rows.length === limit) {
      // whoever shares the last place comes along, so that a place is never split
      const last = rows[rows.length - 1].pos;
      const whole = await this.reader.all<RawKeyRow>('SELECT * FROM keys WHERE db = ? AND pos = ?', db, last);
      while (rows.length > 0 && rows[rows.length - 1].pos === last) rows.pop();
      rows.push(...whole);
    }
    return rows.map((r) => this.keyRow(r));
  }

  async keyNames(db: number, from: number, to: number): Promise<string[]> {
    const rows = await this.reader.all<{ key: Buffer }>(
      'SELECT key FROM keys WHERE db = ? AND pos >= ? AND pos < ?',
      db,
      from,
      to,
    );
    return rows.map((r) => r.key.latin1Slice());
  }

  async entries(db: number, pos: number, key: string): Promise<EntryRow[]> {
    const rows = await this.reader.all<{ field: Buffer; actor: Buffer; hlc: number; payload: Buffer }>(
      'SELECT field, actor, hlc, payload FROM entries WHERE db = ? AND pos = ? AND key = ?',
      db,
      pos,
      Buffer.from(key, 'latin1'),
    );
    return rows.map((r) => ({
      field: r.field.latin1Slice(),
      actor: r.actor.latin1Slice(),
      hlc: r.hlc,
      payload: r.payload,
    }));
  }

  async due(until: number, limit: number): Promise<{ db: number; pos: number; key: string; deadline: number }[]> {
    const rows = await this.reader.all<{ db: number; pos: number; key: Buffer; deadline: number }>(
      'SELECT db, pos, key, deadline FROM keys WHERE deadline > 0 AND deadline <= ? ORDER BY deadline LIMIT ?',
      until,
      limit,
    );
    return rows.map((r) => ({ ...r, key: r.key.latin1Slice() }));
  }

  async isEmpty(): Promise<boolean> {
    return (await this.reader.all('SELECT 1 FROM keys LIMIT 1')).length === 0;
  }

  // ------------------------------------------------------------------ care

  async backup(directory: string): Promise<void> {
    fs.mkdirSync(directory, { recursive: true });
    for (const name of [DATA, JOURNAL, NODE]) {
      const file = path.join(directory, name);
      if (fs.existsSync(file)) throw new GrammeError('DATA_DIR', `${file} exists already; give an empty directory`);
    }
    const quote = (file: string) => `'${file.replaceAll("'", "''")}'`;
    // rows first, then the journal: what a fold moves in between is in both, and replaying it twice changes nothing
    await this.reader.exec(
      `PRAGMA query_only = 0; VACUUM INTO ${quote(path.join(directory, DATA))}; PRAGMA query_only = 1`,
    );
    await this.journal.exec(`VACUUM INTO ${quote(path.join(directory, JOURNAL))}`);
    await this.node.exec(`VACUUM INTO ${quote(path.join(directory, NODE))}`);
  }

  async verify(): Promise<string | null> {
    const rows = await this.reader.all<{ quick_check: string }>('PRAGMA quick_check(1)');
    return rows[0]?.quick_check === 'ok' ? null : (rows[0]?.quick_check ?? 'quick_check gave no answer');
  }

  async size(): Promise<{ data: number; journal: number }> {
    const bytes = (name: string) =>
      ['', '-wal'].reduce((sum, suffix) => {
        try {
          return sum + fs.statSync(path.join(this.options.directory, name + suffix)).size;
        } catch {
          return sum;
        }
      }, 0);
    return { data: bytes(DATA), journal: bytes(JOURNAL) };
  }
}

function stamp(): string {
  return new Date().toISOString().replace(/[:.]/g, '-');
}
