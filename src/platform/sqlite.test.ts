/**
 * The `sqlite` engine against its port: what is written is read back, from this process and from the next; what is
 * damaged, newer than we are or somebody else's is refused by name.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, test } from 'node:test';
import sqlite3 from 'sqlite3';
import { GrammeError, type OperatorCode } from '../base/errors.ts';
import type { KeyRow, RowBatch } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import { SqliteEngine } from './sqlite.ts';

const MB = 1024 * 1024;
const NO_LOG: Log = { debug() {}, info() {}, warn() {}, error() {} };

const base = fs.mkdtempSync(path.join(os.tmpdir(), 'gramme-sqlite-'));
after(() => fs.rmSync(base, { recursive: true, force: true }));

let directories = 0;
function freshDirectory(): string {
  return path.join(base, String(directories++));
}

async function open(directory: string): Promise<SqliteEngine> {
  const engine = new SqliteEngine({ directory, log: NO_LOG, cacheBytes: 4 * MB });
  await engine.open();
  return engine;
}

/** Runs SQL on a file as another program would. */
async function sql(file: string, text: string): Promise<void> {
  const db = new sqlite3.Database(file);
  await new Promise<void>((resolve, reject) => db.exec(text, (e) => (e ? reject(e) : resolve())));
  await new Promise<void>((resolve, reject) => db.close((e) => (e ? reject(e) : resolve())));
}

function isCode(code: OperatorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof GrammeError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

interface Put {
  db?: number;
  pos: number;
  key: string;
  state?: string;
  deadline?: number;
  spread?: boolean;
}

interface EntryAt {
  db?: number;
  pos: number;
  key: string;
  field: string;
  actor?: string;
  hlc: number;
  payload?: string;
}

/** A batch whose offsets point behind some junk, as the fold's do. */
function batch(parts: {
  puts?: Put[];
  deletes?: Put[];
  entryPuts?: EntryAt[];
  entryDeletes?: EntryAt[];
  entryClears?: Put[];
}): RowBatch {
  let bytes = Buffer.from('junk');
  const add = (s: string): [number, number] => {
    const at = bytes.length;
    bytes = Buffer.concat([bytes, Buffer.from(s, 'latin1')]);
    return [at, s.length];
  };
  const place = (p: { db?: number; pos: number; key: string }) => [p.db ?? 0, p.pos, ...add(p.key)];
  const name = (e: EntryAt) => [...place(e), ...add(e.field), add(e.actor ?? 'actor--1')[0], e.hlc];
  const { puts = [], deletes = [], entryPuts = [], entryDeletes = [], entryClears = [] } = parts;
  const rows = {
    puts: puts.map((p) => [...place(p), p.deadline ?? 0, ...add(p.state ?? ''), p.spread ? 1 : 0]),
    deletes: deletes.map(place),
    entryPuts: entryPuts.map((e) => [...name(e), ...add(e.payload ?? '')]),
    entryDeletes: entryDeletes.map(name),
    entryClears: entryClears.map(place),
  };
  return { bytes, ...rows };
}

async function transaction(engine: SqliteEngine, ...batches: RowBatch[]): Promise<void> {
  await engine.beginRows();
  for (const b of batches) await engine.writeRows(b);
  await engine.commitRows({});
}

const shown = (rows: KeyRow[]) => rows.map((r) => `${r.db}/${r.pos}/${r.key}=${r.state.latin1Slice()}`);

async function journal(engine: SqliteEngine): Promise<[number, string][]> {
  const rows: [number, string][] = [];
  await engine.readJournal(async ({ seq, bytes }) => void rows.push([seq, bytes.latin1Slice()]));
  return rows;
}

async function append(engine: SqliteEngine, seq: number, text: string): Promise<void> {
  const buf = Buffer.from(`${text}and what was in the buffer before`, 'latin1');
  await engine.append(seq, buf, text.length);
}

test('the journal: appended in order, read in order, dropped up to a batch, there after a reopening', async () => {
  const directory = freshDirectory();
  let engine = await open(directory);
  assert.deepEqual(await journal(engine), []);
  for (let seq = 1; seq <= 200; seq++) await append(engine, seq, `batch ${seq} \0\xff`);
  await engine.dropJournal(150);
  await engine.syncJournal();
  const expected = Array.from({ length: 50 }, (_, i) => [151 + i, `batch ${151 + i} \0\xff`]);
  assert.deepEqual(await journal(engine), expected);
  await engine.close();
  engine = await open(directory);
  assert.deepEqual(await journal(engine), expected);
  await engine.dropJournal(1000);
  assert.deepEqual(await journal(engine), []);
  await engine.close();
});

test('the buffer of an append may be used again at once', async () => {
  const engine = await open(freshDirectory());
  const buf = Buffer.from('first');
  const first = engine.append(1, buf, 5);
  buf.write('other');
  await first;
  assert.deepEqual(await journal(engine), [[1, 'first']]);
  await engine.close();
});

for (const policy of ['always', 'everysec', 'no'] as const) {
  test(`appends under ${policy} are there without a close`, async () => {
    const directory = freshDirectory();
    const engine = await open(directory);
    await engine.setSync(policy);
    await append(engine, 1, 'one');
    await engine.syncJournal();
    // what a killed process would leave
    const copy = freshDirectory();
    fs.cpSync(directory, copy, { recursive: true });
    fs.rmSync(path.join(copy, 'gramme.lock'), { force: true });
    const other = await open(copy);
    assert.deepEqual(await journal(other), [[1, 'one']]);
    await other.close();
    await engine.close();
  });
}

test('a batch that fails its checksum is told, its file set aside and kept', async () => {
  const directory = freshDirectory();
  let engine = await open(directory);
  for (let seq = 1; seq <= 100; seq++) await append(engine, seq, `batch ${seq}`);
  await engine.close();
  await sql(path.join(directory, 'journal.db'), "UPDATE batches SET bytes = CAST('batch 7x' AS BLOB) WHERE seq = 77");
  const size = fs.statSync(path.join(directory, 'journal.db')).size;
  engine = await open(directory);
  await assert.rejects(journal(engine), isCode('DATA_DAMAGED', /batch 77 .*set aside as journal\.db\.damaged-/));
  assert.equal(engine.setAside.length, 1);
  assert.equal(fs.statSync(path.join(directory, engine.setAside[0])).size, size);
  assert.ok(!fs.existsSync(path.join(directory, 'journal.db')));
  await engine.close();
});

for (const name of ['data.db', 'journal.db', 'node.db']) {
  test(`a ${name} that is no database is told, set aside and kept; the next start begins without it`, async () => {
    const directory = freshDirectory();
    let engine = await open(directory);
    await transaction(engine, batch({ puts: [{ pos: 1, key: 'k', state: 's' }] }));
    await engine.close();
    const file = path.join(directory, name);
    const bytes = fs.readFileSync(file);
    bytes.fill(0x55, 0, 64);
    fs.writeFileSync(file, bytes);
    engine = new SqliteEngine({ directory, log: NO_LOG, cacheBytes: MB });
    await assert.rejects(
      engine.open(),
      isCode('DATA_DAMAGED', new RegExp(`^${name} is damaged .* set aside as ${name}\\.damaged-`)),
    );
    const [aside] = engine.setAside;
    assert.deepEqual(fs.readFileSync(path.join(directory, aside)), bytes);
    await engine.close();
    engine = await open(directory);
    assert.equal((await engine.load([0, 1])).length, name === 'data.db' ? 0 : 1);
    await engine.close();
    assert.deepEqual(fs.readFileSync(path.join(directory, aside)), bytes);
  });
}

test('key rows: put, replaced, deleted; bytes are bytes', async () => {
  const engine = await open(freshDirectory());
  assert.ok(await engine.isEmpty());
  const binary = '\0\xff\r\n\'"{}';
  await transaction(
    engine,
    batch({
      puts: [
        { pos: 5, key: 'a', state: 'one' },
        { pos: 5, key: binary, state: binary },
        { pos: 6, key: '', state: '' },
      ],
    }),
  );
  assert.deepEqual(shown(await engine.load([0, 5])).sort(), [`0/5/${binary}=${binary}`, '0/5/a=one'].sort());
  assert.deepEqual(shown(await engine.load([0, 6])), ['0/6/=']);
  assert.deepEqual(await engine.load([0, 7]), []);
  assert.deepEqual(await engine.load([1, 5]), []);
  assert.ok(!(await engine.isEmpty()));
  await transaction(
    engine,
    batch({
      puts: [{ pos: 5, key: 'a', state: 'two', deadline: 99, spread: true }],
      deletes: [
        { pos: 5, key: binary },
        { pos: 8, key: 'none' },
      ],
    }),
  );
  assert.deepEqual(await engine.load([0, 5]), [
    { db: 0, pos: 5, key: 'a', deadline: 99, spread: true, state: Buffer.from('two') },
  ]);
  await engine.close();
});

test('many places at once, in several databases, up to the last place', async () => {
  const engine = await open(freshDirectory());
  const last = Number.MAX_SAFE_INTEGER;
  const puts: Put[] = [];
  for (let i = 0; i < 3000; i++)
    puts.push({ db: i % 3, pos: i === 2999 ? last : i * 1000, key: `k${i}`, state: `s${i}` });
  await transaction(engine, batch({ puts }));
  const places = [...puts.flatMap((p) => [p.db!, p.pos]), 0, 12345, 15, 0];
  assert.deepEqual(
    shown(await engine.load(places)).sort(),
    puts.map((p) => `${p.db}/${p.pos}/${p.key}=${p.state}`).sort(),
  );
  assert.deepEqual(await engine.load([]), []);
  await engine.close();
});

test('entry rows: put, replaced, deleted one by one and all of a key', async () => {
  const engine = await open(freshDirectory());
  const at = { pos: 9, key: 'hash' };
  const entries: EntryAt[] = [
    { ...at, field: 'f\0', hlc: 1, payload: 'p1' },
    { ...at, field: 'g', hlc: Number.MAX_SAFE_INTEGER, payload: '' },
    { ...at, field: 'g', actor: '\0\xff\0\xff\0\xff\0\xff', hlc: 2, payload: '\xff' },
    { ...at, key: 'hash2', field: 'f', hlc: 3, payload: 'other' },
  ];
  const read = async (key = 'hash') =>
    (await engine.entries(0, 9, key)).map((e) => [e.field, e.actor, e.hlc, e.payload.latin1Slice()]).sort();
  await transaction(engine, batch({ entryPuts: entries, puts: [{ ...at, spread: true }] }));
  assert.deepEqual(await read(), [
    ['f\0', 'actor--1', 1, 'p1'],
    ['g', '\0\xff\0\xff\0\xff\0\xff', 2, '\xff'],
    ['g', 'actor--1', Number.MAX_SAFE_INTEGER, ''],
  ]);
  await transaction(engine, batch({ entryDeletes: [entries[1]], entryPuts: [{ ...entries[0], payload: 'p2' }] }));
  assert.deepEqual(await read(), [
    ['f\0', 'actor--1', 1, 'p2'],
    ['g', '\0\xff\0\xff\0\xff\0\xff', 2, '\xff'],
  ]);
  // clearing comes before putting, so a key that is spread anew loses the old rows and keeps the new
  await transaction(engine, batch({ entryClears: [at], entryPuts: [{ ...at, field: 'new', hlc: 5, payload: 'n' }] }));
  assert.deepEqual(await read(), [['new', 'actor--1', 5, 'n']]);
  assert.deepEqual(await read('hash2'), [['f', 'actor--1', 3, 'other']]);
  await engine.close();
});

test('deleting a key deletes its entries', async () => {
  const engine = await open(freshDirectory());
  const at = { pos: 9, key: 'hash' };
  await transaction(engine, batch({ puts: [{ ...at, spread: true }], entryPuts: [{ ...at, field: 'f', hlc: 1 }] }));
  await transaction(engine, batch({ deletes: [at] }));
  assert.deepEqual(await engine.load([0, 9]), []);
  assert.deepEqual(await engine.entries(0, 9, 'hash'), []);
  await engine.close();
});

test('a range comes in order, within its bounds, and never splits a place', async () => {
  const engine = await open(freshDirectory());
  const puts: Put[] = [];
  for (let i = 0; i < 40; i++) puts.push({ pos: 100 + Math.floor(i / 4), key: `k${i}`, state: '' });
  puts.push({ db: 1, pos: 100, key: 'elsewhere' });
  await transaction(engine, batch({ puts }));
  for (let limit = 1; limit <= 41; limit++) {
    const seen: string[] = [];
    for (let from = 101; ; ) {
      const rows = await engine.range(0, from, 109, limit);
      if (rows.length === 0) break;
      assert.ok(rows.every((r, i) => r.pos >= from && r.pos < 109 && (i === 0 || rows[i - 1].pos <= r.pos)));
      for (const r of rows) seen.push(r.key);
      from = rows[rows.length - 1].pos + 1;
    }
    assert.equal(seen.length, 32, `limit ${limit}`);
    assert.equal(new Set(seen).size, 32);
  }
  await engine.close();
});

test('deadlines that are due, earliest first', async () => {
  const engine = await open(freshDirectory());
  const deadlines = [0, 500, 100, 300, 300, 2 ** 45];
  await transaction(engine, batch({ puts: deadlines.map((deadline, i) => ({ pos: i, key: `k${i}`, deadline })) }));
  const due = async (until: number, limit: number) => (await engine.due(until, limit)).map((d) => d.deadline);
  assert.deepEqual(await due(99, 10), []);
  assert.deepEqual(await due(300, 10), [100, 300, 300]);
  assert.deepEqual(await due(300, 2), [100, 300]);
  assert.deepEqual(await due(2 ** 50, 10), [100, 300, 300, 500, 2 ** 45]);
  assert.deepEqual(await engine.due(100, 1), [{ db: 0, pos: 2, key: 'k2', deadline: 100 }]);
  await transaction(engine, batch({ puts: [{ pos: 2, key: 'k2', deadline: 0 }], deletes: [{ pos: 3, key: 'k3' }] }));
  assert.deepEqual(await due(300, 10), [300]);
  await engine.close();
});

test('small values: lasting ones, and those that a transaction commits', async () => {
  const directory = freshDirectory();
  let engine = await open(directory);
  assert.equal(await engine.getMeta('identity'), null);
  assert.equal(await engine.getMeta('rows.meta'), null);
  await engine.setMeta('identity', Buffer.from([0, 1, 255]));
  await engine.setMeta('identity', Buffer.from([7]));
  await engine.beginRows();
  await engine.commitRows({ 'rows.meta': Buffer.from('{}'), 'rows.other': Buffer.alloc(0) });
  await engine.close();
  engine = await open(directory);
  assert.deepEqual(await engine.getMeta('identity'), Buffer.from([7]));
  assert.deepEqual(await engine.getMeta('rows.meta'), Buffer.from('{}'));
  assert.deepEqual(await engine.getMeta('rows.other'), Buffer.alloc(0));
  await engine.close();
});

test('readers see a transaction only once it has been committed, and nothing of one that was rolled back', async () => {
  const engine = await open(freshDirectory());
  await transaction(engine, batch({ puts: [{ pos: 1, key: 'a', state: 'old' }] }));
  await engine.beginRows();
  await engine.writeRows(
    batch({
      puts: [
        { pos: 1, key: 'a', state: 'new' },
        { pos: 2, key: 'b', state: 'new' },
      ],
    }),
  );
  await engine.clearDb(0);
  assert.deepEqual(shown(await engine.load([0, 1, 0, 2])), ['0/1/a=old']);
  await engine.rollbackRows();
  assert.deepEqual(shown(await engine.load([0, 1, 0, 2])), ['0/1/a=old']);
  // and there is no transaction left over: neither a second roll-back nor the next one fails
  await engine.rollbackRows();
  await transaction(engine, batch({ puts: [{ pos: 1, key: 'a', state: 'newer' }] }));
  assert.deepEqual(shown(await engine.load([0, 1])), ['0/1/a=newer']);
  await engine.syncRows();
  await engine.close();
});

test('a bad batch fails, and can be rolled back', async () => {
  const engine = await open(freshDirectory());
  await engine.beginRows();
  const bad = batch({ puts: [{ pos: 1, key: 'a', state: 's' }] });
  bad.puts[0][1] = null as unknown as number;
  await assert.rejects(engine.writeRows(bad));
  await engine.rollbackRows();
  assert.ok(await engine.isEmpty());
  await engine.close();
});

test('clearing one database leaves the others', async () => {
  const engine = await open(freshDirectory());
  const put = (db: number) => ({ db, pos: 1, key: 'k', spread: true });
  const entry = (db: number) => ({ db, pos: 1, key: 'k', field: 'f', hlc: 1 });
  await transaction(engine, batch({ puts: [put(0), put(1)], entryPuts: [entry(0), entry(1)] }));
  await engine.beginRows();
  await engine.clearDb(0);
  await engine.commitRows({});
  assert.deepEqual(shown(await engine.load([0, 1, 1, 1])), ['1/1/k=']);
  assert.deepEqual(await engine.entries(0, 1, 'k'), []);
  assert.equal((await engine.entries(1, 1, 'k')).length, 1);
  await engine.close();
});

test('a backup is whole, opens by itself, and is never written over another', async () => {
  const engine = await open(freshDirectory());
  const copy = path.join(freshDirectory(), "it's here");
  await engine.setMeta('identity', Buffer.from('me'));
  await transaction(engine, batch({ puts: [{ pos: 1, key: 'k', state: 's' }] }));
  await append(engine, 5, 'five');
  await engine.backup(copy);
  await append(engine, 6, 'after');
  await assert.rejects(engine.backup(copy), isCode('DATA_DIR', /exists already/));
  const other = await open(copy);
  assert.deepEqual(shown(await other.load([0, 1])), ['0/1/k=s']);
  assert.deepEqual(await journal(other), [[5, 'five']]);
  assert.deepEqual(await other.getMeta('identity'), Buffer.from('me'));
  await other.close();
  // the original goes on as before: its reader is read-only again, and it writes
  await transaction(engine, batch({ puts: [{ pos: 2, key: 'k2', state: 's' }] }));
  assert.equal((await engine.load([0, 1, 0, 2])).length, 2);
  await engine.close();
});

for (const name of ['data.db', 'journal.db', 'node.db']) {
  test(`a ${name} of a newer version is refused and left alone`, async () => {
    const directory = freshDirectory();
    await (await open(directory)).close();
    const file = path.join(directory, name);
    await sql(file, 'PRAGMA user_version = 1000');
    const bytes = fs.readFileSync(file);
    const engine = new SqliteEngine({ directory, log: NO_LOG, cacheBytes: MB });
    await assert.rejects(engine.open(), isCode('SCHEMA_NEWER', /has schema 1000/));
    await engine.close();
    assert.deepEqual(engine.setAside, []);
    assert.deepEqual(fs.readFileSync(file), bytes);
  });
}

test('a directory in use is refused, by the pid of its owner; a pid that is only left over is not believed', async () => {
  const directory = freshDirectory();
  fs.mkdirSync(directory);
  const lock = path.join(directory, 'gramme.lock');
  // a process that lives and has nothing to do with it: what a reboot or a container leaves
  fs.writeFileSync(lock, String(process.ppid));
  const first = await open(directory);
  assert.equal(fs.readFileSync(lock, 'latin1'), String(process.pid));
  const second = new SqliteEngine({ directory, log: NO_LOG, cacheBytes: MB });
  await assert.rejects(
    second.open(),
    isCode('DATA_DIR', new RegExp(`in use by another server \\(pid ${process.pid}\\)`)),
  );
  await second.close();
  assert.equal(fs.readFileSync(lock, 'latin1'), String(process.pid), 'who was refused leaves the lock');
  await first.close();
  assert.ok(!fs.existsSync(lock));
});

test("a lock file that says nothing is nobody's", async () => {
  const directory = freshDirectory();
  fs.mkdirSync(directory);
  fs.writeFileSync(path.join(directory, 'gramme.lock'), '');
  await (await open(directory)).close();
});

test("a directory that can't be made is refused", async () => {
  const file = path.join(base, 'a-file');
  fs.writeFileSync(file, '');
  const engine = new SqliteEngine({ directory: path.join(file, 'below'), log: NO_LOG, cacheBytes: MB });
  await assert.rejects(engine.open(), isCode('DATA_DIR', /can't use the data directory/));
  await engine.close();
});

test('verify tells a whole file from a damaged one', async () => {
  const directory = freshDirectory();
  let engine = await open(directory);
  const puts = Array.from({ length: 2000 }, (_, i) => ({ pos: i, key: `k${i}`, state: 'x'.repeat(100) }));
  await transaction(engine, batch({ puts }));
  assert.equal(await engine.verify(), null);
  await engine.close();
  const file = path.join(directory, 'data.db');
  const bytes = fs.readFileSync(file);
  const page = Math.floor(bytes.length / 4096 / 2) * 4096;
  bytes.fill(0, page, page + 100);
  fs.writeFileSync(file, bytes);
  engine = await open(directory);
  // either answer is good, silence is not
  const damage = await engine.verify().catch((error) => String(error));
  assert.ok(damage !== null);
  await engine.close();
});

test('sizes are those of the files', async () => {
  const engine = await open(freshDirectory());
  const before = await engine.size();
  for (let seq = 1; seq <= 20; seq++) await append(engine, seq, 'x'.repeat(100_000));
  const later = await engine.size();
  assert.ok(later.journal - before.journal >= 2_000_000);
  assert.ok(later.data > 0);
  await engine.close();
});

test('hints are rows of their own file: there once, dropped by name, and kept over a restart', async () => {
  const directory = freshDirectory();
  const hints = (rows: { owner: string; db: number; key: string }[]) =>
    rows.map((h) => `${h.owner}/${h.db}/${Buffer.from(h.key, 'latin1').toString('hex')}`).sort();
  const key = Buffer.from("\0\xff'%_", 'latin1').latin1Slice();
  let engine = await open(directory);
  assert.ok(!fs.existsSync(path.join(directory, 'hints.db')), 'a node without peers has no such file');
  assert.deepEqual(await engine.readHints(), []);
  const all = ['b', 'c'].flatMap((owner) => [0, 1].flatMap((db) => ['', 'k', key].map((k) => ({ owner, db, key: k }))));
  await engine.putHints(all);
  await engine.putHints([all[0], all[1], { owner: 'd', db: 0, key: 'k' }]);
  await engine.dropHints([
    { owner: 'd', db: 0, key: 'k' },
    { owner: 'd', db: 5, key: 'never' },
  ]);
  await engine.close();
  engine = await open(directory);
  assert.deepEqual(hints(await engine.readHints()), hints(all));
  await engine.dropHints(all.filter((h) => h.key === key));
  await engine.dropHints([]);
  await engine.close();
  engine = await open(directory);
  assert.deepEqual(hints(await engine.readHints()), hints(all.filter((h) => h.key !== key)));
  await engine.close();
});
