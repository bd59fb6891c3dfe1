/**
 * Serving while the journal is replayed: nobody sees a partition that is behind, whatever is asked for first, and the
 * journal stays until all of it has been applied.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter, TruncatedError } from '../base/bytes.ts';
import { actorNumber } from '../causality/actors.ts';
import type { Timers } from '../ports/clock.ts';
import type { Engine } from '../ports/engine.ts';
import { slotOf } from '../ring/slots.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import { MISS } from './keyspace.ts';
import { MemoryEngine } from './memory-engine.ts';
import { CompactRecord, readRecord, recordOverwrite, recordStep } from './records.ts';
import { Store } from './store.ts';

const KEYS = 60;
const name = (k: number) => `key:${k}`;

/** A store whose replay lets others have their turn after each partition. */
async function open(engine: Engine, time: VirtualTime, sole = true): Promise<Store> {
  let ms = 0;
  const clock = {
    now: () => time.now(),
    monotonic: () => {
      ms += 10;
      return time.monotonic() + ms;
    },
  };
  const random = new SeededRandom(7);
  const log = new QuietLog();
  const options = { databases: 2, partitions: 16, maxSiblings: 10, sync: 'everysec' as const, sole };
  const timers: Timers = {
    after: (after, run) => time.after(after, run),
    every: (every, run) => time.every(every, run),
    endOfTick: (run) => void time.after(1, run),
  };
  const opening = Store.open({ engine, clock, timers, random, log, ...options });
  let opened = false;
  void opening.finally(() => {
    opened = true;
  });
  for (let i = 0; i < 20 && !opened; i++) await Promise.resolve();
  while (!opened) await time.advance(1);
  return opening;
}

/** An engine with the same contents and a life of its own: what a killed process leaves. */
function left(engine: MemoryEngine): MemoryEngine {
  const copy = new MemoryEngine();
  const from = engine as unknown as Record<string, unknown>;
  const tables = from.tables as { keys: Map<string, unknown>; entries: Map<string, Map<string, unknown>> };
  Object.assign(copy, {
    meta: new Map(from.meta as Map<string, Buffer>),
    journal: [...(from.journal as unknown[])],
    tables: { keys: new Map(tables.keys), entries: new Map([...tables.entries].map(([k, v]) => [k, new Map(v)])) },
  });
  return copy;
}

/** Runs as a command would: again, when what it needs is there. */
async function command<T>(store: Store, time: VirtualTime, run: () => T): Promise<T> {
  for (;;) {
    store.keys.now = time.now();
    try {
      return run();
    } catch (error) {
      if (error !== MISS) throw error;
      await until(store.residency.load([store.keys.missing!]), time);
    }
  }
}

async function until<T>(work: Promise<T>, time: VirtualTime): Promise<T> {
  let done = false;
  void work.then(
    () => (done = true),
    () => (done = true),
  );
  for (let i = 0; i < 10_000 && !done; i++) await time.advance(1);
  assert.ok(done, 'it goes on for ever');
  return work;
}

const shown = (store: Store, k: number) => store.keys.peek(store.keys.names[0], name(k))?.text() ?? null;

type Op = { op: 'set' | 'incr' | 'del' | 'append'; key: number; value: number };

function apply(store: Store, model: Map<number, string>, { op, key, value }: Op): void {
  const { keys } = store;
  const db = keys.names[0];
  const slot = slotOf(name(key));
  const found = keys.peekForWrite(db, name(key), slot);
  const any = keys.object(db, name(key), slot);
  const was = model.get(key);
  if (op === 'set') {
    keys.set(db, any, name(key), slot, `v${value}`, 0);
    model.set(key, `v${value}`);
  } else if (op === 'del') {
    if (found !== null) keys.remove(db, found);
    model.delete(key);
  } else if (op === 'append') {
    keys.patch(db, found ?? any, name(key), slot, found?.size() ?? 0, `a${value}`);
    model.set(key, `${was ?? ''}a${value}`);
  } else if (was === undefined || /^-?\d+$/.test(was)) {
    const now = Number(was ?? 0);
    keys.increment(db, any, name(key), slot, now, now + value);
    model.set(key, String(now + value));
  }
}

const op: fc.Arbitrary<Op> = fc.record({
  op: fc.constantFrom(
    'set' as const,
    'set' as const,
    'incr' as const,
    'incr' as const,
    'del' as const,
    'append' as const,
  ),
  key: fc.integer({ min: 0, max: KEYS - 1 }),
  value: fc.integer({ min: 1, max: 99 }),
});
const ops = fc.array(op, { maxLength: 120, size: 'max' });

test('commands between a start and the end of its replay see all that was acknowledged, and so does the start after', async () => {
  let everBehind = 0;
  await fc.assert(
    fc.asyncProperty(ops, ops, ops, fc.boolean(), fc.boolean(), async (folded, unfolded, during, flushed, swapped) => {
      const time = new VirtualTime();
      const engine = new MemoryEngine();
      const model = new Map<number, string>();
      const first = await open(engine, time);
      for (const o of folded) await command(first, time, () => apply(first, model, o));
      await time.advance(20_000);
      if (flushed) {
        for (const o of unfolded.slice(0, 20)) await command(first, time, () => apply(first, model, o));
        await command(first, time, () => first.keys.flush(first.keys.names[0]));
        model.clear();
      }
      if (swapped) first.keys.swap(0, 1);
      if (swapped) first.keys.swap(1, 0);
      for (const o of unfolded) await command(first, time, () => apply(first, model, o));
      await time.advance(30);

      const disk = left(engine);
      const second = await open(disk, time);
      everBehind = Math.max(everBehind, second.keys.behind);
      for (const o of during) {
        const now = await command(second, time, () => shown(second, o.key));
        assert.equal(now, model.get(o.key) ?? null);
        await command(second, time, () => apply(second, model, o));
      }
      await second.journal.flush();
      const third = await open(left(disk), time);
      const keys = Array.from({ length: KEYS }, (_, k) => (k * 37) % KEYS);
      for (const store of [second, third]) {
        for (const k of keys) assert.equal(await command(store, time, () => shown(store, k)), model.get(k) ?? null);
        await command(store, time, () => store.keys.needsAll());
        assert.equal(store.keys.names[0].keys, model.size, 'the count of keys');
      }
      await time.advance(20_000);
      assert.equal((await disk.size()).journal, 0, 'it is folded in the end');
    }),
    { numRuns: 50 },
  );
  assert.ok(everBehind > 8, 'partitions were behind while commands ran');
});

/** A store that is behind: 60 keys whose rows are older than the journal. */
async function behind(): Promise<{ store: Store; engine: MemoryEngine; time: VirtualTime }> {
  const time = new VirtualTime();
  const before = new MemoryEngine();
  const first = await open(before, time);
  const model = new Map<number, string>();
  const fill = async (value: number) => {
    for (let key = 0; key < KEYS; key++)
      await command(first, time, () => apply(first, model, { op: 'set', key, value }));
  };
  await fill(1);
  await time.advance(20_000);
  await fill(2);
  await time.advance(30);
  const engine = left(before);
  const store = await open(engine, time);
  assert.ok(store.keys.behind > 8);
  return { store, engine, time };
}

test('a scan, a count and a flush wait for what they need', async () => {
  for (const what of ['scan', 'flush', 'count'] as const) {
    const { store, time } = await behind();
    const db = store.keys.names[0];
    if (what === 'scan') {
      const seen = new Set<string>();
      let cursor = 0;
      do {
        const step = await until(Promise.resolve(store.scanner.step(db, cursor, 5)), time);
        for (const k of step.keys) seen.add(k);
        cursor = step.cursor;
      } while (cursor !== 0);
      assert.equal(seen.size, KEYS);
    } else if (what === 'flush') {
      assert.throws(
        () => store.keys.flush(db),
        (error) => error === MISS,
      );
      await command(store, time, () => store.keys.flush(db));
      assert.equal(db.keys, 0);
      assert.equal(await command(store, time, () => shown(store, 3)), null);
    } else {
      await command(store, time, () => store.keys.needsAll());
      assert.equal(db.keys, KEYS);
    }
  }
});

test('the journal stays until all of it has been replayed', async () => {
  const { time, engine: before } = await behind();
  const engine = left(before);
  const { journal } = await engine.size();
  const load = engine.load.bind(engine);
  let holding = true;
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = () => {
      holding = false;
      resolve();
    };
  });
  const stuck = slotOf(name(0)) >> 10;
  engine.load = async (places) => {
    // the partition of key 0 takes its time
    if (holding && Math.floor(places[1] / 2 ** 39) >> 10 === stuck) await held;
    return load(places);
  };
  const store = await open(engine, time);
  await time.advance(30_000);
  assert.ok(store.keys.behind > 0);
  assert.ok((await engine.size()).journal >= journal);
  release();
  await time.advance(30_000);
  assert.equal(store.keys.behind, 0);
  assert.equal((await engine.size()).journal, 0);
  assert.equal(await command(store, time, () => shown(store, 0)), 'v2');
});

test('a damaged row: its partition can not be used, others can, and the journal outlives the stop', async () => {
  const { time, engine: before } = await behind();
  const engine = left(before);
  const { journal } = await engine.size();
  const load = engine.load.bind(engine);
  engine.load = async (places) =>
    (await load(places)).map((row) => {
      if (row.key !== name(0)) return row;
      const state = Buffer.from(row.state);
      state[state.length - 4] ^= 0xff;
      return { ...row, state };
    });
  const store = await open(engine, time);
  await time.advance(30_000);
  assert.equal(store.keys.behind, 1);
  const bad = slotOf(name(0)) >> 10;
  for (let k = 0; k < KEYS; k++) {
    const got = command(store, time, () => shown(store, k));
    if (slotOf(name(k)) >> 10 === bad) await assert.rejects(got, /damaged/);
    else assert.equal(await got, 'v2');
  }
  await assert.rejects(until(store.close(), time), /damaged/);
  assert.ok((await engine.size()).journal >= journal);
});

test('a compact record that is read in place says what the general reader says', () => {
  const compact = new CompactRecord();
  const actors = [actorNumber('actor--1'), actorNumber('actor--2')];
  const number = fc.oneof(
    fc.integer({ min: 0, max: 300 }),
    fc.maxSafeInteger().map((n) => Math.floor(Math.abs(n) / 2)),
  );
  const text = fc.string({ maxLength: 200 }).map((s) => Buffer.from(s, 'utf8').latin1Slice());
  const record = fc.tuple(fc.boolean(), text, fc.nat(1), fc.tuple(number, number, number), number, text, fc.double());
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 5 }), fc.nat(), fc.nat(255), (records, where, byte) => {
      const w = new ByteWriter();
      for (const [isStep, key, actor, stamps, deadline, value, sum] of records) {
        const [start, from, last] = [...stamps].sort((a, b) => a - b);
        const to = from === last ? last + 1 : last;
        if (isStep) recordStep(w, 3, key, actors[actor], to, from, start, sum);
        else recordOverwrite(w, 3, key, actors[actor], to, from, start, deadline, value);
      }
      const bytes = w.take();
      const r = new ByteReader(bytes);
      let at = 0;
      for (let general = readRecord(r); general !== null; general = readRecord(r)) {
        assert.ok(general.kind === 'step' || general.kind === 'overwrite');
        assert.ok(compact.read(bytes, at, bytes.length));
        assert.equal(bytes.latin1Slice(compact.keyStart, compact.keyEnd), general.key);
        const { db, actor, to, from, start } = compact;
        assert.deepEqual([db, actor, to, from], [general.db, general.actor, general.to, general.from]);
        if (general.kind === 'step') assert.deepEqual([start, compact.sum], [general.runStart, general.sum]);
        else {
          assert.deepEqual([start, compact.deadline], [general.start, general.deadline]);
          assert.equal(bytes.latin1Slice(compact.valueStart, compact.end), general.value);
        }
        at = compact.end;
      }
      assert.equal(at, bytes.length);
      // whatever the bytes are, it comes to their end or says that they can't be
      bytes[where % bytes.length] = byte;
      try {
        for (at = 0; at < bytes.length; at = compact.end) {
          compact.read(bytes, at, bytes.length);
          assert.ok(compact.end > at && compact.end <= bytes.length);
        }
      } catch (error) {
        if (!(error instanceof TruncatedError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});

test("another node's flush takes no row with it that is newer", async () => {
  const time = new VirtualTime();
  const engine = new MemoryEngine();
  const store = await open(engine, time, false);
  const { keys } = store;
  const db = keys.names[0];
  const set = (k: number) => keys.set(db, keys.object(db, name(k), slotOf(name(k))), name(k), slotOf(name(k)), 'v', 0);
  set(1);
  const floor = store.hlc.next();
  set(2);
  await until(store.fold.drain(), time);
  keys.flushBelow(db, floor);
  assert.deepEqual([shown(store, 1), shown(store, 2)], [null, 'v']);
  await until(store.journal.flush(), time);

  const again = await open(left(engine), time, false);
  for (const [k, value] of [
    [1, null],
    [2, 'v'],
  ] as const)
    assert.equal(await command(again, time, () => shown(again, k)), value, name(k));
  await until(again.fold.drain(), time);
  assert.equal(await command(again, time, () => shown(again, 2)), 'v', 'once its row has been written anew');
});
