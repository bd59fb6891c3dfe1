/**
 * Packed keys: what a record holds is what was put in, a table of records is a map in order of coming, and a record's
 * memory is free when it has left its key and no list names it any more, and not before.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { actorNumber } from '../causality/actors.ts';
import { NONE, STRING } from '../types/kinds.ts';
import { secretHash, secretHashOfBytes } from './key-map.ts';
import { COUNTED, COUNTER, DIRTY, FOLDING, IN_TREE, RAW, StoredKey } from './object.ts';
import {
  canPack,
  DEAD,
  isPackable,
  LISTED_DIRTY,
  LISTED_FOLD,
  LISTED_STALE,
  PackedKeys,
  RecordList,
} from './packed.ts';
import { MAX_RECORD_BYTES } from './slab.ts';

const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).latin1Slice();
const HEADER = MAX_RECORD_BYTES - longestValue(0);

/** The longest value that can be packed with a key of so many bytes. */
function longestValue(keyBytes: number): number {
  let n = 0;
  while (isPackable(keyBytes, n + 1)) n++;
  return n;
}

/** Packed keys of one partition. */
class Table {
  readonly keys: PackedKeys;
  private readonly list: RecordList;

  constructor() {
    this.keys = new PackedKeys(() => this.list);
    this.list = new RecordList(this.keys);
  }

  get size(): number {
    return this.keys.size;
  }

  find(buf: Buffer, start: number, end: number): number {
    return this.keys.find(0, buf, start, end);
  }

  findKey(key: string): number {
    return this.keys.findKey(0, key);
  }

  add(a: number): void {
    this.keys.add(a);
  }

  addMissed(a: number): void {
    this.keys.addMissed(a);
  }

  remove(a: number): void {
    this.keys.remove(a);
  }

  replace(a: number, b: number): void {
    this.keys.replace(a, b);
  }

  *values(): IterableIterator<number> {
    this.keys.distribute();
    yield* this.list.values();
  }
}

/** A record made of bytes, as SET makes one: with something else around them. */
function make(keys: PackedKeys, key: string, value: string, db = 0, slot = 0): number {
  const buf = Buffer.from(`*3${key}$7${value}\r\n`, 'latin1');
  const end = 2 + key.length;
  const a = keys.make(db, slot, buf, 2, end, value.length);
  keys.setStamps(a, 1, 2, 3);
  keys.setUsed(a, 0);
  keys.setValue(a, buf, end + 2, end + 2 + value.length);
  return a;
}

function valueIn(keys: PackedKeys, a: number): string {
  const start = keys.valueStart(a);
  return keys.bytes(a).latin1Slice(start, start + keys.valueBytes(a));
}

const text = (maxLength: number) => fc.uint8Array({ maxLength }).map((bytes) => Buffer.from(bytes).latin1Slice());
const stamp = fc.oneof(
  fc.constantFrom(1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 52, Number.MAX_SAFE_INTEGER),
  fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
);

test('an object and its record say the same, and so does the object that is made of that', () => {
  fc.assert(
    fc.property(
      fc.record({
        key: text(60),
        value: text(300),
        db: fc.constantFrom(0, 1, 15, 16383),
        slot: fc.integer({ min: 0, max: 16383 }),
        from: stamp,
        to: stamp,
        term: fc.oneof(fc.constant(0), stamp),
        used: fc.constantFrom(0, 1_800_000_000, 2 ** 31, 2 ** 32 - 1),
        flags: fc.constantFrom(COUNTED, COUNTED | RAW, COUNTED | IN_TREE | DIRTY),
      }),
      (x) => {
        const keys = new Table().keys;
        const o = new StoredKey(x.key, x.slot, x.db);
        o.type = STRING;
        o.value = x.value;
        o.actor = actorNumber('\x00\xff345678');
        Object.assign(o, { from: x.from, to: x.to, term: x.term, used: x.used, flags: x.flags });
        assert.ok(canPack(o));
        const a = keys.pack(o);
        assert.equal(keys.key(a), x.key);
        assert.equal(valueIn(keys, a), x.value);
        assert.equal(keys.contextHash(a), o.contextHash());
        assert.equal(keys.used(a), x.used);
        const back = keys.copy(a);
        for (const name of [
          'key',
          'db',
          'slot',
          'type',
          'value',
          'actor',
          'from',
          'to',
          'term',
          'used',
          'flags',
        ] as const)
          assert.equal(back[name], o[name], name);
        const b = keys.move(a, x.value.length + 100);
        assert.equal(keys.key(b), x.key);
        assert.ok(keys.fits(b, x.value.length + 100));
        keys.setValue(b, Buffer.from(x.value, 'latin1'), 0, x.value.length);
        assert.equal(keys.copy(b).value, x.value);
        assert.deepEqual([keys.from(b), keys.to(b), keys.term(b)], [x.from, x.to, x.term]);
      },
    ),
    { numRuns: 300 },
  );
});

test('keys and values of all bytes, of none, and of as many as can be', () => {
  const table = new Table();
  const { keys } = table;
  const longKey = ALL_BYTES.repeat(4);
  assert.equal(isPackable(longKey.length, 0), true);
  assert.equal(isPackable(longKey.length + 1, 0), false);
  assert.equal(HEADER + longestValue(0), MAX_RECORD_BYTES);
  const all = new Map<string, string>();
  for (const key of ['', ALL_BYTES, longKey, '\0', '\0\0', '\xff'])
    for (const value of ['', ALL_BYTES]) {
      all.set(key, value);
      const buf = Buffer.from(key, 'latin1');
      const old = table.find(buf, 0, buf.length);
      if (old !== 0) {
        assert.equal(valueIn(keys, old), '');
        table.remove(old);
        keys.leave(old);
      }
      table.add(make(keys, key, value));
    }
  const long = ALL_BYTES.repeat(8).slice(0, longestValue(3));
  all.set('abc', long);
  table.add(make(keys, 'abc', long));
  assert.equal(table.size, all.size);
  for (const [key, value] of all) {
    assert.equal(valueIn(keys, table.findKey(key)), value);
    assert.equal(secretHash(key), secretHashOfBytes(Buffer.from(`x${key}`, 'latin1'), 1, key.length + 1));
  }
  assert.throws(() => make(keys, 'abc', `${long}x`));
});

test('what can not be packed is not', () => {
  const packable = () => {
    const o = new StoredKey('k', 1, 0);
    o.type = STRING;
    o.value = 'v';
    o.to = 5;
    return o;
  };
  assert.ok(canPack(packable()));
  const changes: Partial<StoredKey>[] = [
    { type: NONE },
    { deadline: 1 },
    { value: 7 },
    { value: null },
    { value: 'x'.repeat(MAX_RECORD_BYTES) },
    { to: 0 },
    { flags: COUNTER },
    { rest: packable().context() },
    { state: packable().toState() },
    { bytes: Buffer.alloc(1) },
  ];
  for (const change of changes) assert.equal(canPack(Object.assign(packable(), change)), false, Object.keys(change)[0]);
});

type Step = { op: 'put' | 'grow' | 'remove' | 'look' | 'rush' | 'drop'; key: number; size: number };

test('a table of records is a map in order of coming', () => {
  const step: fc.Arbitrary<Step> = fc.record({
    op: fc.constantFrom(
      'put' as const,
      'put' as const,
      'grow' as const,
      'remove' as const,
      'look' as const,
      'rush' as const,
      'drop' as const,
    ),
    key: fc.nat(40),
    size: fc.constantFrom(0, 1, 30, 200, 900),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (list) => {
      const table = new Table();
      const { keys } = table;
      const model = new Map<string, string>();
      let marks = 0;
      const put = (key: string, value: string) => {
        const buf = Buffer.from(`${key}`, 'latin1');
        const a = table.find(buf, 0, buf.length);
        assert.equal(a !== 0, model.has(key));
        assert.equal(table.findKey(key), a);
        if (a !== 0) {
          keys.setValue(a, Buffer.from(value.slice(0, 1)), 0, Math.min(1, value.length));
          model.set(key, value.slice(0, 1));
          return;
        }
        const b = make(keys, key, value);
        // it is put in and out in between, as a partition that is loaded does
        table.add(b);
        table.remove(b);
        table.addMissed(b);
        model.set(key, value);
      };
      const remove = (key: string) => {
        const a = table.findKey(key);
        assert.equal(a !== 0, model.delete(key));
        if (a === 0) return;
        table.remove(a);
        keys.leave(a);
      };
      for (const { op, key, size } of list) {
        const name = `key:${key}`;
        const value = String.fromCharCode(marks++ & 0xff).repeat(size);
        if (op === 'put') put(name, value);
        else if (op === 'remove') remove(name);
        else if (op === 'look') assert.equal([...table.values()].length, model.size);
        else if (op === 'rush') for (let n = 0; n < size; n++) put(`${name}:${n}`, value.slice(0, 40));
        else if (op === 'drop') for (let n = 0; n < size; n++) remove(`${name}:${n}`);
        else if (op === 'grow' && model.has(name)) {
          const a = table.findKey(name);
          if (keys.fits(a, size)) continue;
          const b = keys.move(a, size);
          keys.setValue(b, Buffer.from(value, 'latin1'), 0, value.length);
          table.replace(a, b);
          keys.leave(a);
          model.set(name, value);
        }
        assert.equal(table.size, model.size);
      }
      const found: [string, string][] = [];
      for (const a of table.values()) found.push([keys.key(a), valueIn(keys, a)]);
      assert.deepEqual(found, [...model]);
      let room = 0;
      for (const a of table.values()) room += keys.slab.room(a);
      assert.equal(keys.slab.recordBytes, room, 'records that no key has');
      for (const key of [...model.keys()]) remove(key);
      assert.equal(table.size, 0);
      assert.equal(keys.slab.recordBytes, 0);
      assert.deepEqual([...table.values()], []);
    }),
    { numRuns: 150 },
  );
});

test('keys of several databases and partitions have their own places', () => {
  const lists: RecordList[] = [];
  const keys = new PackedKeys((db, slot) => lists[2 * db + slot]);
  for (let i = 0; i < 4; i++) lists.push(new RecordList(keys));
  const made = [0, 1].flatMap((db) => [0, 1].map((slot) => make(keys, `k${slot}`, `v${db}${slot}`, db, slot)));
  for (const a of made) keys.add(a);
  for (const db of [0, 1])
    for (const slot of [0, 1]) assert.equal(valueIn(keys, keys.findKey(db, `k${slot}`)), `v${db}${slot}`);
  keys.distribute();
  assert.deepEqual(
    lists.map((list) => [...list.values()]),
    made.map((a) => [a]),
  );
  keys.remove(made[2]);
  assert.equal(keys.findKey(1, 'k0'), 0);
  assert.equal(valueIn(keys, keys.findKey(0, 'k0')), 'v00');
  assert.deepEqual([...lists[2].values()], []);
});

test('records whose places in the table collide are told apart', () => {
  const table = new Table();
  const { keys } = table;
  // of many names some share their place, whatever the secret is
  const names = Array.from({ length: 5000 }, (_, i) => `k${i}`);
  for (const name of names) table.add(make(keys, name, name));
  for (let i = 0; i < names.length; i += 3) {
    const a = table.findKey(names[i]);
    table.remove(a);
    keys.leave(a);
  }
  for (const [i, name] of names.entries()) {
    const buf = Buffer.from(name);
    const a = table.find(buf, 0, buf.length);
    assert.equal(a === 0 ? null : valueIn(keys, a), i % 3 === 0 ? null : name);
  }
});

test('a record that lists name stays until the last of them has been gone through, and is freed once', () => {
  const lists = [LISTED_DIRTY, LISTED_STALE, LISTED_FOLD];
  fc.assert(
    fc.property(fc.subarray(lists), fc.shuffledSubarray(lists, { minLength: 3 }), fc.nat(3), (named, order, when) => {
      const keys = new Table().keys;
      const a = make(keys, 'k', 'v');
      const room = keys.slab.room(a);
      keys.setFlags(
        a,
        named.reduce((flags, l) => flags | l, COUNTED | FOLDING | DIRTY),
      );
      let left = named.length;
      let freed = false;
      const check = (gone: boolean) => {
        const free = gone && left === 0;
        assert.equal(keys.slab.recordBytes, free ? 0 : room);
        if (!free) {
          assert.equal((keys.flags(a) & DEAD) !== 0, gone);
          assert.deepEqual([keys.key(a), valueIn(keys, a)], ['k', 'v']);
        }
        freed = free;
      };
      for (let i = 0; i <= 3; i++) {
        if (i === when) keys.leave(a);
        check(i >= when);
        if (i === 3 || !named.includes(order[i])) continue;
        left--;
        keys.unlist(a, order[i]);
        check(i >= when);
      }
      assert.ok(freed || when > 3 || left > 0);
      const b = make(keys, 'other', 'v');
      const c = make(keys, 'third', 'v');
      assert.notEqual(b, c, 'the same memory for two records: it was freed twice');
    }),
    { numRuns: 200 },
  );
});

test('a record that has been moved is on no list, and what is to be done for the key goes with it', () => {
  const keys = new Table().keys;
  const a = make(keys, 'k', 'v');
  keys.setFlags(a, COUNTED | DIRTY | FOLDING | LISTED_DIRTY | LISTED_STALE | LISTED_FOLD);
  assert.equal(keys.flags(keys.move(a, 1)), COUNTED | DIRTY | FOLDING);
  assert.equal(keys.copy(a).flags, COUNTED | DIRTY | FOLDING);
});
