/**
 * What is in a data directory that no server runs on: every key with its siblings, those of the journal too.
 *
 * The files are copied and the copy is opened, as a server would open it: reading a write-ahead log means writing beside
 * it, replaying a journal means loading what it speaks of, and the original must stay as it was found, whatever happens.
 * Of damaged files what can be read is given, and what can't is counted and said.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { ByteReader } from '../base/bytes.ts';
import { GrammeError } from '../base/errors.ts';
import { actorHex } from '../causality/actors.ts';
import { msOfHlc } from '../causality/clock.ts';
import { isInUse, SqliteEngine } from '../platform/sqlite.ts';
import { systemClock, systemRandom, systemTimers } from '../platform/system.ts';
import type { Log } from '../ports/log.ts';
import { POSITIONS } from '../ring/position.ts';
import { slotOf } from '../ring/slots.ts';
import type { Database, KeyPlace } from '../store/keyspace.ts';
import { COUNTER, type StoredKey } from '../store/object.ts';
import { readRecord } from '../store/records.ts';
import { Store } from '../store/store.ts';
import { INCREMENT, NONE, STRING } from '../types/kinds.ts';
import { liveSiblings } from '../types/register.ts';

const FILES = ['data.db', 'journal.db', 'node.db'];
const SUFFIXES = ['', '-wal'];
const PARTITIONS = 1024;
const DATABASES = 16;
const LOAD_KEYS = 256;
const MEMORY_BYTES = 256 * 1024 * 1024;
const CACHE_BYTES = 32 * 1024 * 1024;
/** A file that turns out to be damaged is left out at the next try, and there are three. */
const MAX_OPENS = 4;

/** One write: what a context covers, or does not. */
export interface Dot {
  /** Sixteen hex digits. */
  actor: string;
  hlc: number;
}

export interface Salvaged {
  value: string;
  /** The writes that made it: one, but for counters and for strings that were patched. */
  dots: Dot[];
  /** When it was written last, in ms since 1970. */
  at: number;
  /** Ms since 1970; 0 for never. */
  deadline: number;
}

export interface SalvagedKey {
  /** The database as clients number it. */
  db: number;
  /** Bytes, one character each; so are values. */
  key: string;
  /** A sum of increments, or with some on top: no sibling can stand for it beside another count. */
  counter: boolean;
  siblings: Salvaged[];
  deadline: number;
}

export interface Salvage {
  keys(): AsyncGenerator<SalvagedKey>;
  /** What could not be read, for people. */
  readonly damage: string[];
  close(): Promise<void>;
}

/** Puts the files, or what was set aside of them, into an empty directory. */
function copyFiles(from: string, to: string, damage: string[]): void {
  const names = fs.readdirSync(from);
  let found = 0;
  for (const name of FILES) {
    let source = name;
    if (!names.includes(name)) {
      // a damaged file was set aside under its name and the time
      const aside = names.filter((n) => n.startsWith(`${name}.damaged-`) && !/-(wal|shm)$/.test(n)).sort();
      if (aside.length === 0) continue;
      source = aside[aside.length - 1];
      damage.push(`there is no ${name}: ${source} is read instead`);
    }
    if (name !== 'node.db') found++;
    for (const suffix of SUFFIXES) {
      if (!names.includes(source + suffix)) continue;
      const target = path.join(to, name + suffix);
      fs.copyFileSync(path.join(from, source + suffix), target, fs.constants.COPYFILE_FICLONE);
    }
  }
  if (found === 0) throw new Error(`${from} is no data directory: it has neither data.db nor journal.db`);
}

async function refuseIfInUse(directory: string): Promise<void> {
  if (await isInUse(directory)) throw new Error(`${directory} is in use by a server; stop it first`);
}

/** Databases that rows or journal speak of. */
async function databasesIn(engine: SqliteEngine): Promise<number> {
  const meta = await engine.getMeta('rows.meta');
  let n = meta === null ? DATABASES : (JSON.parse(meta.latin1Slice()) as { keys: number[] }).keys.length;
  await engine.readJournal(async ({ bytes }) => {
    const r = new ByteReader(bytes);
    for (let record = readRecord(r); record !== null; record = readRecord(r))
      if ('db' in record) n = Math.max(n, record.db + 1);
  });
  return n;
}

async function openStore(directory: string, log: Log): Promise<Store> {
  const make = () => new SqliteEngine({ directory, log, cacheBytes: CACHE_BYTES });
  const first = make();
  let databases: number;
  try {
    await first.open();
    databases = await databasesIn(first);
  } finally {
    await first.close().catch(() => {});
  }
  const engine = make();
  try {
    const store = await Store.open({
      engine,
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log,
      databases,
      partitions: PARTITIONS,
      maxSiblings: Number.MAX_SAFE_INTEGER,
      sync: 'no',
      sole: false,
    });
    // what is past its deadline is part of what is there
    store.expiry.active = false;
    store.setMemoryLimit(MEMORY_BYTES);
    return store;
  } catch (error) {
    await engine.close().catch(() => {});
    throw error;
  }
}

/** @param work where the copy is made; it goes when `close` is called, or when the process ends */
export async function openSalvage(directory: string, work: string = os.tmpdir()): Promise<Salvage> {
  if (!fs.existsSync(directory)) throw new Error(`${directory} does not exist`);
  await refuseIfInUse(directory);
  const copy = fs.mkdtempSync(path.join(work, 'gramme-recover-'));
  const remove = () => fs.rmSync(copy, { recursive: true, force: true });
  process.once('exit', remove);
  const damage: string[] = [];
  const found = (fields: object, message: string) => {
    damage.push(`${message} ${JSON.stringify(fields)}`);
  };
  const log: Log = { debug() {}, info() {}, warn: found, error: found };
  try {
    copyFiles(directory, copy, damage);
    // a server that was started meanwhile may have written while we copied
    await refuseIfInUse(directory);
    for (let tries = 1; ; tries++) {
      try {
        return new OpenSalvage(await openStore(copy, log), damage, remove);
      } catch (error) {
        if (!(error instanceof GrammeError) || error.code !== 'DATA_DAMAGED' || tries === MAX_OPENS) throw error;
        damage.push(error.message.replace(/ and has been set aside.*/, ': the rest is read without it'));
      }
    }
  } catch (error) {
    remove();
    throw error;
  }
}

class OpenSalvage implements Salvage {
  readonly damage: string[];
  private readonly store: Store;
  private readonly remove: () => void;

  constructor(store: Store, damage: string[], remove: () => void) {
    this.store = store;
    this.damage = damage;
    this.remove = remove;
  }

  async *keys(): AsyncGenerator<SalvagedKey> {
    const { names } = this.store.keys;
    for (let n = 0; n < names.length; n++)
      for (let p = 0; p < PARTITIONS; p++) for await (const key of this.partition(names[n], n, p)) yield key;
  }

  private async *partition(db: Database, n: number, p: number): AsyncGenerator<SalvagedKey> {
    const names = await this.namesIn(db, p);
    for (let i = 0; i < names.length; i += LOAD_KEYS) {
      const places = names.slice(i, i + LOAD_KEYS).map((key) => this.store.placeOf(db, key));
      const bad = await this.load(places);
      for (const place of places) {
        if (bad.has(place.key)) continue;
        const o = this.store.keys.shard(db, place.slot).get(place.key);
        const key = o === undefined ? null : salvaged(o, n);
        if (key !== null) yield key;
      }
    }
  }

  /** Keys of rows, and those that only the journal knew. */
  private async namesIn(db: Database, p: number): Promise<string[]> {
    const span = POSITIONS / PARTITIONS;
    const names = new Set<string>(db.shards[p].names());
    try {
      for (const key of await this.store.engine.keyNames(db.index, p * span, (p + 1) * span)) names.add(key);
    } catch (error) {
      this.damage.push(`a part of data.db can not be read (partition ${p} of ${PARTITIONS}): ${String(error)}`);
    }
    return [...names];
  }

  /** Makes keys resident; gives those that can't be read. */
  private async load(places: KeyPlace[]): Promise<Set<string>> {
    const { keys, residency } = this.store;
    const bad = new Set<string>();
    const missing = places.filter((x) => !keys.isResident(x.db, x.key, x.slot));
    if (missing.length === 0) return bad;
    try {
      await residency.load(missing);
    } catch {
      for (const place of missing) {
        await residency.load([place]).catch((error) => {
          bad.add(place.key);
          this.damage.push(`a key can not be read: ${JSON.stringify(place.key)}: ${String(error)}`);
        });
      }
    }
    return bad;
  }

  async close(): Promise<void> {
    // a copy that can't be folded is thrown away all the same
    await this.store.close().catch(() => {});
    this.remove();
  }
}

/** A key as it is told; null for the trace of a delete. */
function salvaged(o: StoredKey, db: number): SalvagedKey | null {
  if (o.type === NONE) return null;
  const siblings: Salvaged[] = [];
  const state = o.toState();
  const all = [...state.entries()];
  const dotOf = (e: { actor: number; hlc: number }): Dot => ({ actor: actorHex(e.actor), hlc: e.hlc });
  const lastAt = (hlc: number) => Math.floor(msOfHlc(hlc));
  const counter = o.state === null ? (o.flags & COUNTER) !== 0 : all.some((e) => e.field.charAt(0) === INCREMENT);
  if (o.type === STRING && !counter && o.bytes === null) {
    // all of them: a deadline that has passed is for the reader to judge
    for (const e of liveSiblings(state, 0))
      siblings.push({ value: e.data, dots: [dotOf(e)], at: lastAt(e.hlc), deadline: e.num });
  } else if (o.type === STRING) {
    const highest = all.reduce((h, e) => Math.max(h, e.hlc), 0);
    siblings.push({ value: o.text(), dots: all.map(dotOf), at: lastAt(highest), deadline: o.deadline });
    const rest = liveSiblings(state, 0).slice(1);
    for (const e of rest) siblings.push({ value: e.data, dots: [dotOf(e)], at: lastAt(e.hlc), deadline: e.num });
  }
  if (slotOf(o.key) !== o.slot || siblings.length === 0) return null;
  return { db, key: o.key, counter, siblings, deadline: o.deadline };
}
