/**
 * One node's data over the memory engine and virtual time: the fast paths against the general rules, replay, fold,
 * eviction, deadlines, scans. What a real disk does is in `platform/sqlite.test.ts` and the black-box tests.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { addLongDouble, formatLongDouble, parseLongDouble } from '../base/longdouble.ts';
import { slotOfPosition } from '../ring/position.ts';
import { slotOf } from '../ring/slots.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import { decodeState, encodeState, fingerprint, KeyState } from '../types/state.ts';
import { MISS, type Seen } from './keyspace.ts';
import { MemoryEngine } from './memory-engine.ts';
import { StoredKey } from './object.ts';
import { eventOf, readRecord } from './records.ts';
import { decodeObject, encodeObject } from './rows.ts';
import { Store } from './store.ts';

async function open(engine: MemoryEngine, time: VirtualTime, options: { sole?: boolean } = {}): Promise<Store> {
  const opening = Store.open({
    engine,
    clock: time,
    timers: time,
    random: new SeededRandom(7),
    log: new QuietLog(),
    databases: 4,
    partitions: 16,
    maxSiblings: 10,
    sync: 'everysec',
  });
  let opened = false;
  void opening.then(() => {
    opened = true;
  });
  while (!opened) await time.advance(0);
  const store = await opening;
  store.keys.sole = options.sole ?? true;
  store.keys.now = time.now();
  return store;
}

type Op =
  | { op: 'set' | 'patch' | 'append'; key: number; value: string; offset: number; ttl: number }
  | { op: 'del' | 'incr' | 'float' | 'persist' | 'expire' | 'remember' | 'load'; key: number; by: number }
  | { op: 'dset' | 'ddel'; key: number; value: string; stale: boolean }
  | { op: 'flush' }
  | { op: 'wait'; ms: number };

const key = fc.integer({ min: 0, max: 3 });
const value = fc.oneof(
  fc.constantFrom('', '0', '10', '-7', '3.5', 'abc', '9007199254740993'),
  fc.string({ maxLength: 12 }).map(latin1),
);
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom('set' as const, 'patch' as const, 'append' as const),
      key,
      value,
      offset: fc.constantFrom(0, 1, 5, 4090, 9000),
      ttl: fc.constantFrom(0, 0, 50, 100_000),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constantFrom(
        'del' as const,
        'incr' as const,
        'incr' as const,
        'float' as const,
        'persist' as const,
        'expire' as const,
        'remember' as const,
      ),
      key,
      by: fc.integer({ min: -5, max: 100 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom('dset' as const, 'dset' as const, 'ddel' as const),
      key,
      value,
      stale: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.oneof(
      fc.constant({ op: 'flush' as const }),
      fc.record({ op: fc.constant('wait' as const), ms: fc.constantFrom(1, 60, 3000) }),
    ),
  },
);
const ops = fc.array(op, { maxLength: 60, size: 'max' });

function latin1(s: string): string {
  return Buffer.from(s, 'utf8').latin1Slice();
}

function seenOf(o: StoredKey | null): Seen {
  const state = o?.toState() ?? new KeyState();
  const sums = new Map<string, { hlc: number; sum: string }>();
  for (const e of state.entries())
    if (e.field[0] === 'i') sums.set(e.field.slice(1), { hlc: e.hlc, sum: e.data === '' ? String(e.num) : e.data });
  return { context: o?.context() ?? new KeyState().context, gone: state.goneList(), sums };
}

/** Runs operations as commands would. */
class Driver {
  readonly store: Store;
  readonly time: VirtualTime;
  private readonly remembered = new Map<string, Seen>();

  constructor(store: Store, time: VirtualTime) {
    this.store = store;
    this.time = time;
  }

  async run(list: Op[]): Promise<void> {
    for (const o of list) {
      if (o.op === 'wait') await this.time.advance(o.ms);
      else await this.now(o);
    }
  }

  private async now(o: Op): Promise<void> {
    for (;;) {
      this.store.keys.now = this.time.now();
      try {
        this.apply(o);
        return;
      } catch (error) {
        if (error !== MISS) throw error;
        const loaded = this.store.residency.load([this.store.keys.missing!]);
        await this.time.advance(1);
        await loaded;
      }
    }
  }

  private apply(o: Op): void {
    const { keys } = this.store;
    const db = keys.names[0];
    if (o.op === 'flush') {
      keys.flush(db);
      return;
    }
    if (o.op === 'wait') return;
    const name = `key:${o.key}`;
    const slot = slotOf(name);
    const found = keys.peekForWrite(db, name, slot);
    const any = keys.object(db, name, slot);
    switch (o.op) {
      case 'set':
        keys.set(db, any, name, slot, o.value, o.ttl === 0 ? 0 : keys.now + o.ttl);
        break;
      case 'patch':
        if (o.value !== '') keys.patch(db, found ?? any, name, slot, o.offset, o.value);
        break;
      case 'append':
        if (o.value !== '') keys.patch(db, found ?? any, name, slot, found?.size() ?? 0, o.value);
        break;
      case 'del':
        if (found !== null) keys.remove(db, found);
        break;
      case 'incr': {
        const now = found === null ? 0 : Number(found.text());
        if (!Number.isSafeInteger(now) || (found !== null && String(now) !== found.text())) break;
        keys.increment(db, any, name, slot, now, now + o.by);
        break;
      }
      case 'float': {
        const now = parseLongDouble(found === null ? '0' : found.text());
        if (now === null) break;
        const delta = `${o.by}.5`;
        keys.incrementBy(db, any, name, slot, delta, formatLongDouble(addLongDouble(now, parseLongDouble(delta)!)));
        break;
      }
      case 'persist':
      case 'expire':
        if (found !== null) keys.setDeadline(db, found, o.op === 'expire' ? keys.now + 100_000 + o.by : 0);
        break;
      case 'remember':
        this.remembered.set(name, seenOf(any));
        break;
      case 'dset':
      case 'ddel': {
        const seen = o.stale ? (this.remembered.get(name) ?? null) : seenOf(any);
        try {
          if (o.op === 'dset') keys.putSibling(db, name, slot, o.value, 0, seen);
          else if (seen !== null) keys.removeSeen(db, name, slot, seen);
        } catch (error) {
          if (!String((error as { message: string }).message).startsWith('TOOMANYSIBLINGS')) throw error;
        }
        break;
      }
      default:
        break;
    }
  }

  /** What a client would see of every key. */
  visible(): string[] {
    this.store.keys.now = this.time.now();
    const db = this.store.keys.names[0];
    return [0, 1, 2, 3].map((k) => {
      const o = this.store.keys.peek(db, `key:${k}`);
      return o === null ? '-' : JSON.stringify([o.type, o.text(), o.deadline, o.size()]);
    });
  }
}

test('the fast paths make what the general rules make: the journal, replayed event by event, gives the same states', async () => {
  await fc.assert(
    fc.asyncProperty(ops, async (list) => {
      const time = new VirtualTime();
      const store = await open(new MemoryEngine(), time, { sole: false });
      const states = new Map<string, KeyState>();
      const batches: Buffer[] = [];
      const append = store.engine.append.bind(store.engine);
      store.engine.append = async (seq, bytes, length) => {
        batches.push(Buffer.from(bytes.subarray(0, length)));
        await append(seq, bytes, length);
      };
      const driver = new Driver(store, time);
      // a flush is a floor and not an event
      await driver.run(list.filter((o) => o.op !== 'flush'));
      await time.advance(50);
      for (const batch of batches) {
        const r = new ByteReader(batch);
        for (let record = readRecord(r); record !== null; record = readRecord(r)) {
          assert.ok(record.kind === 'event' || record.kind === 'overwrite' || record.kind === 'step');
          const name = `${record.db}:${record.key}`;
          if (!states.has(name)) states.set(name, new KeyState());
          states.get(name)!.apply(eventOf(record));
        }
      }
      for (const db of store.keys.databases) {
        for (const shard of db.shards) {
          for (const o of shard.values()) {
            const expected = states.get(`${db.index}:${o.key}`);
            assert.equal(fingerprint(o.toState()), fingerprint(expected ?? new KeyState()), o.key);
          }
        }
      }
    }),
    { numRuns: 250 },
  );
});

test('a crash at any moment, with any part of the journal folded, shows the same keys', async () => {
  await fc.assert(
    fc.asyncProperty(ops, ops, fc.boolean(), async (before, after, sole) => {
      const time = new VirtualTime();
      const engine = new MemoryEngine();
      const first = await open(engine, time, { sole });
      const driver = new Driver(first, time);
      await driver.run(before);
      await time.advance(5000);
      await driver.run(after);
      await time.advance(30);
      const want = driver.visible();
      const keysBefore = first.keys.databases[0].keys;
      const copy = cloneEngine(engine);
      const second = await open(copy, time, { sole });
      const back = new Driver(second, time);
      await load(second, time);
      assert.deepEqual(back.visible(), want);
      assert.equal(second.keys.databases[0].keys, keysBefore, 'the count of keys');
    }),
    { numRuns: 150 },
  );
});

async function load(store: Store, time: VirtualTime): Promise<void> {
  const db = store.keys.databases[0];
  const done = store.residency.load([0, 1, 2, 3].map((k) => ({ db, key: `key:${k}`, slot: slotOf(`key:${k}`) })));
  await time.advance(2);
  await done;
}

/** An engine with the same contents and a life of its own. */
function cloneEngine(engine: MemoryEngine): MemoryEngine {
  const copy = new MemoryEngine();
  const from = engine as unknown as Record<string, unknown>;
  const to = copy as unknown as Record<string, unknown>;
  to.meta = new Map(from.meta as Map<string, Buffer>);
  to.journal = [...(from.journal as unknown[])];
  const tables = from.tables as { keys: Map<string, unknown>; entries: Map<string, Map<string, unknown>> };
  to.tables = { keys: new Map(tables.keys), entries: new Map([...tables.entries].map(([k, v]) => [k, new Map(v)])) };
  return copy;
}

test('keys that leave memory come back as they were', async () => {
  await fc.assert(
    fc.asyncProperty(ops, async (list) => {
      const time = new VirtualTime();
      const store = await open(new MemoryEngine(), time);
      const driver = new Driver(store, time);
      // the clock is about to run far ahead
      await driver.run(list.filter((o) => o.op !== 'expire').map((o) => ('ttl' in o ? { ...o, ttl: 0 } : o)));
      await time.advance(6000);
      const want = driver.visible();
      store.setMemoryLimit(1);
      for (let i = 0; i < 20; i++) {
        time.skewMs += 100_000;
        await time.advance(200);
      }
      time.skewMs = 0;
      const resident = store.keys.databases[0].shards.reduce((n, s) => n + s.size, 0);
      assert.equal(resident, 0, 'something clean stayed in memory');
      store.setMemoryLimit(1e9);
      await load(store, time);
      assert.deepEqual(driver.visible(), want);
    }),
    { numRuns: 100 },
  );
});

test('the direct row codec and the general one agree to the byte', async () => {
  await fc.assert(
    fc.asyncProperty(ops, async (list) => {
      const time = new VirtualTime();
      const store = await open(new MemoryEngine(), time);
      await new Driver(store, time).run(list);
      for (const shard of store.keys.databases[0].shards) {
        for (const o of shard.values()) {
          const direct = new ByteWriter();
          const general = new ByteWriter();
          encodeObject(direct, o, false);
          encodeState(general, o.toState(), false);
          assert.deepEqual(direct.take(), general.take());
          const back = new StoredKey(o.key, o.slot, o.db);
          decodeObject(store.keys, back, direct.take(), null);
          assert.equal(fingerprint(back.toState()), fingerprint(o.toState()));
          assert.equal(fingerprint(decodeState(new ByteReader(direct.take()))), fingerprint(o.toState()));
          assert.deepEqual([back.type, back.text(), back.deadline], [o.type, o.text(), o.deadline]);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('a scan sees every key that is there throughout, while others come, go and are folded and evicted', async () => {
  const time = new VirtualTime();
  const store = await open(new MemoryEngine(), time);
  const db = store.keys.names[0];
  const random = new SeededRandom(3);
  const put = (name: string) =>
    store.keys.set(db, store.keys.object(db, name, slotOf(name)), name, slotOf(name), 'v', 0);
  const stable = Array.from({ length: 500 }, (_, i) => `stable:${i}`);
  for (const name of stable) put(name);
  for (const limit of [1e9, 1]) {
    store.setMemoryLimit(limit);
    await time.advance(20_000);
    time.skewMs += 1_000_000;
    await time.advance(20_000);
    const seen = new Set<string>();
    let cursor = 0;
    do {
      const step = store.scanner.step(db, cursor, 7);
      let done = false;
      const both = Promise.resolve(step).then((s) => {
        done = true;
        return s;
      });
      for (let i = 0; i < 50 && !done; i++) await time.advance(1);
      const { keys, cursor: next } = await both;
      for (const k of keys) seen.add(k);
      cursor = next;
      try {
        put(`coming:${random.int(1000)}`);
      } catch (error) {
        if (error !== MISS) throw error;
      }
      if (random.int(3) === 0) await time.advance(2500);
    } while (cursor !== 0);
    assert.deepEqual(
      stable.filter((k) => !seen.has(k)),
      [],
    );
  }
});

test('keys past their deadlines are hidden at once and removed soon', async () => {
  const time = new VirtualTime();
  const store = await open(new MemoryEngine(), time);
  const db = store.keys.names[0];
  const expired: string[] = [];
  store.keys.notify = (_, event, name) => void (event === 'expired' && expired.push(name));
  for (const [name, ttl] of [
    ['short', 300],
    ['long', 60_000],
  ] as const) {
    store.keys.set(db, null, name, slotOf(name), 'v', time.now() + ttl);
  }
  await time.advance(301);
  store.keys.now = time.now();
  assert.equal(store.keys.peek(db, 'short'), null);
  await time.advance(1000);
  assert.deepEqual(expired, ['short']);
  assert.equal(db.keys, 1);
  await time.advance(60_000);
  assert.deepEqual(expired, ['short', 'long']);
  assert.equal(db.keys, 0);
  assert.equal(db.expires, 0);
});

test('a disk that refuses: writes are kept and go out when it takes them again', async () => {
  const time = new VirtualTime();
  const engine = new MemoryEngine();
  const store = await open(engine, time);
  const db = store.keys.names[0];
  engine.failing = 'SQLITE_FULL: database or disk is full';
  store.keys.set(db, null, 'a', slotOf('a'), '1', 0);
  await time.advance(100);
  assert.match(store.journal.failure ?? '', /FULL/);
  engine.failing = null;
  await time.advance(1000);
  assert.equal(store.journal.failure, null);
  const copy = cloneEngine(engine);
  const second = await open(copy, time);
  await load(second, time);
  assert.equal(second.keys.peek(second.keys.names[0], 'a')?.text(), '1');
});

test('a fold waits while the machine is busy, but not for ever, and writes in order of place over its transactions', async () => {
  const time = new VirtualTime();
  const engine = new MemoryEngine();
  const store = await open(engine, time);
  const { keys, fold } = store;
  const db = keys.names[0];
  const slots: number[] = [];
  const { writeRows } = engine;
  engine.writeRows = (batch) => {
    for (const [, pos] of batch.puts) slots.push(slotOfPosition(pos));
    return writeRows.call(engine, batch);
  };
  const write = () => {
    for (let i = 0; i < 10_000; i++)
      keys.set(db, keys.object(db, `k${i}`, slotOf(`k${i}`)), `k${i}`, slotOf(`k${i}`), 'v', 0);
  };
  let idle = 0;
  fold.idleShare = () => idle;
  write();
  await time.advance(60_000);
  assert.equal(fold.rows, 0);
  await time.advance(120_000);
  assert.equal(fold.rows, 10_000, 'its time has come');
  assert.deepEqual(
    slots,
    slots.slice().sort((a, b) => a - b),
  );
  idle = 1;
  await time.advance(5000);
  write();
  await time.advance(5000);
  assert.equal(fold.rows, 20_000, 'nobody needs the machine');
});

test('two writes with the same old context stay side by side; one that has seen both settles them', async () => {
  const time = new VirtualTime();
  const store = await open(new MemoryEngine(), time);
  const { keys } = store;
  const db = keys.names[0];
  const s = slotOf('k');
  keys.set(db, null, 'k', s, 'base', 0);
  const seen = seenOf(keys.object(db, 'k', s));
  keys.putSibling(db, 'k', s, 'x', 0, seen);
  keys.putSibling(db, 'k', s, 'y', 0, seen);
  const o = keys.peek(db, 'k')!;
  assert.equal(o.toState().count, 2);
  assert.equal(o.text(), 'y');
  keys.putSibling(db, 'k', s, 'z', 0, seenOf(o));
  assert.equal(keys.peek(db, 'k')!.toState().count, 1);
  for (let i = 0; i < 9; i++) keys.putSibling(db, 'k', s, `${i}`, 0, null);
  assert.throws(() => keys.putSibling(db, 'k', s, 'one more', 0, null), { message: /^TOOMANYSIBLINGS/ });
});

test('reads are counted by the versions that they find', async () => {
  const time = new VirtualTime();
  const store = await open(new MemoryEngine(), time);
  const { keys } = store;
  const db = keys.names[0];
  /** What one read adds, by number of versions. */
  const read = (key: string): Record<number, number> => {
    const before = [...keys.stats.siblings];
    keys.findString(db, key, slotOf(key));
    return Object.fromEntries(
      keys.stats.siblings.flatMap((n, i) => (n > before[i] ? [[i, n - before[i]] as [number, number]] : [])),
    );
  };
  const put = (value: string, deadline = 0, seen: Seen | null = null) =>
    keys.putSibling(db, 'k', slotOf('k'), value, deadline, seen);
  assert.deepEqual(read('k'), {}, 'a key that is not there has no versions');
  keys.set(db, null, 'plain', slotOf('plain'), 'v', 0);
  assert.deepEqual(read('plain'), { 1: 1 });
  keys.incrementBy(db, null, 'counter', slotOf('counter'), '1', '1');
  assert.deepEqual(read('counter'), { 1: 1 });
  for (let n = 1; n <= 10; n++) {
    put(`v${n}`);
    assert.deepEqual(read('k'), { [n]: 1 });
  }
  keys.maxSiblings = 20;
  for (let n = 11; n <= 13; n++) put(`v${n}`);
  assert.deepEqual(read('k'), { 10: 1 }, 'ten or more');
  // a write that has seen them all settles them
  put('one', 0, seenOf(keys.object(db, 'k', slotOf('k'))));
  assert.deepEqual(read('k'), { 1: 1 });
  // a version past its deadline is shown to nobody
  put('short', keys.now + 100);
  assert.deepEqual(read('k'), { 2: 1 });
  keys.now += 101;
  assert.deepEqual(read('k'), { 1: 1 });
  // looks that are no reads of the value
  const counts = [...keys.stats.siblings];
  keys.peek(db, 'k');
  keys.find(db, 'k', slotOf('k'));
  keys.findStringForWrite(db, 'k', slotOf('k'));
  assert.deepEqual(keys.stats.siblings, counts);
});
