/** Exchanges: equal trees cost one root, all differences are found and nothing else, and few bytes are spent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hash52 } from '../base/hash.ts';
import { positionOf } from '../ring/position.ts';
import { SLOTS, slotOf } from '../ring/slots.ts';
import { Exchange, type ExchangeEffect, type TreeRow } from './diff.ts';
import { leafTerm, MerkleTree } from './tree.ts';

/** One replica of one partition: rows in order of place, and their tree. */
class Side {
  readonly tree: MerkleTree;
  readonly rows: TreeRow[];

  constructor(rows: TreeRow[], partition: number, partitions: number) {
    this.rows = [...rows].sort((a, b) => a.pos - b.pos);
    this.tree = new MerkleTree(partition, partitions);
    for (const r of rows) this.tree.add(r.pos, leafTerm(r.db, r.pos, r.contextHash, r.checksum));
  }

  scan(from: number, end: number): TreeRow[] {
    let lo = 0;
    let hi = this.rows.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (this.rows[mid].pos < from) lo = mid + 1;
      else hi = mid;
    }
    const found: TreeRow[] = [];
    for (let i = lo; i < this.rows.length && this.rows[i].pos < end; i++) found.push(this.rows[i]);
    return found;
  }
}

interface Outcome {
  /** Both sides' findings as the first side would say them: `what db key`. */
  found: string[];
  bytes: number;
  messages: number;
  scannedRows: number;
}

const MIRROR: Record<string, string> = { 'missing-here': 'missing-there', 'missing-there': 'missing-here' };

function run(a: Side, b: Side, page = 7): Outcome {
  const exchanges = [new Exchange(a.tree), new Exchange(b.tree)];
  const outcome: Outcome = { found: [], bytes: 0, messages: 0, scannedRows: 0 };
  const done = [false, false];
  const pending: { side: number; effect: ExchangeEffect }[] = [];
  const push = (side: number, effects: ExchangeEffect[]) =>
    pending.push(...effects.map((effect) => ({ side, effect })));
  push(0, exchanges[0].start());
  while (pending.length > 0) {
    const { side, effect } = pending.shift()!;
    if (effect.kind === 'send') {
      outcome.bytes += effect.bytes.length;
      outcome.messages++;
      push(1 - side, exchanges[1 - side].receive(effect.bytes));
    } else if (effect.kind === 'scan') {
      const rows = [a, b][side].scan(effect.first, effect.end);
      outcome.scannedRows += rows.length;
      for (let i = 0; i <= rows.length; i += page)
        push(side, exchanges[side].scanned(rows.slice(i, i + page), i + page > rows.length));
    } else if (effect.kind === 'difference') {
      const what = side === 0 ? effect.what : (MIRROR[effect.what] ?? effect.what);
      outcome.found.push(`${what} ${effect.db} ${effect.key}`);
    } else done[side] = true;
  }
  assert.deepEqual(done, [true, true], 'both sides know that it is over');
  outcome.found.sort();
  return outcome;
}

function expected(a: TreeRow[], b: TreeRow[]): string[] {
  const other = new Map(b.map((r) => [`${r.db} ${r.key}`, r]));
  const found: string[] = [];
  for (const r of a) {
    const name = `${r.db} ${r.key}`;
    const o = other.get(name);
    other.delete(name);
    if (o === undefined) found.push(`missing-there ${name}`);
    else if (o.contextHash !== r.contextHash) found.push(`differs ${name}`);
    else if (o.checksum !== r.checksum) found.push(`damaged ${name}`);
  }
  for (const name of other.keys()) found.push(`missing-here ${name}`);
  return found.sort();
}

function row(i: number, slot: number, version: number, checksum = version, crowd = 0): TreeRow {
  const key = `key:${i}`;
  // a crowd shares one place: the finest ranges must list it whole
  const pos = crowd > 0 && i % crowd === 0 ? positionOf(slot, 'crowd') : positionOf(slot, key);
  return { db: i % 3 === 0 ? 1 : 0, pos, key, contextHash: hash52(`${i} ${version}`), checksum };
}

const side = fc.array(
  fc.record({
    i: fc.nat({ max: 300 }),
    version: fc.constantFrom(1, 1, 1, 1, 2),
    damage: fc.constantFrom(0, 0, 0, 0, 1),
  }),
  { maxLength: 300, size: 'max' },
);

test('random differences are all found and nothing else', () => {
  fc.assert(
    fc.property(side, side, fc.constantFrom(1, 16, 1024, 16384), fc.nat({ max: 3 }), (x, y, partitions, crowd) => {
      const make = (list: typeof x) => {
        const rows = new Map(list.map((r) => [r.i, row(r.i, 0, r.version, r.version * 10 + r.damage, crowd)]));
        return [...rows.values()];
      };
      const a = make(x);
      const b = make(y);
      const outcome = run(new Side(a, 0, partitions), new Side(b, 0, partitions));
      assert.deepEqual(outcome.found, expected(a, b));
    }),
    { numRuns: 150 },
  );
});

test('equal trees exchange one root', () => {
  const rows = Array.from({ length: 1000 }, (_, i) => row(i, 5, 1));
  const outcome = run(new Side(rows, 0, 1024), new Side(rows, 0, 1024));
  assert.deepEqual(outcome.found, []);
  assert.equal(outcome.messages, 2);
  assert.equal(outcome.scannedRows, 0);
  assert.ok(outcome.bytes <= 20, `${outcome.bytes} bytes`);
});

test('a side that has lost everything: the other one names every key', () => {
  const rows = Array.from({ length: 20_000 }, (_, i) => row(i, i % 16, 1));
  const outcome = run(new Side(rows, 0, 1024), new Side([], 0, 1024), 1000);
  assert.equal(outcome.found.length, 20_000);
  assert.ok(outcome.bytes < 100, `${outcome.bytes} bytes`);
});

test('malformed messages are refused', () => {
  const a = new Side([row(1, 0, 1), row(2, 0, 1)], 0, 1024);
  const [effect] = new Exchange(a.tree).start();
  assert.ok(effect.kind === 'send');
  const fresh = () => new Exchange(new MerkleTree(0, 1024));
  for (let cut = 0; cut < effect.bytes.length; cut++) {
    if (cut === 3) continue; // a message of no items
    assert.throws(() => fresh().receive(effect.bytes.subarray(0, cut)));
  }
  assert.throws(() => new Exchange(new MerkleTree(1, 1024)).receive(effect.bytes));
  for (const items of [
    [1, 99, 0],
    [1, 2, 0xff, 0xff, 3],
    [7, 0, 0],
    [2, 0, 0, 0xff, 0xff, 0xff, 0x7f],
  ])
    assert.throws(() => fresh().receive(Buffer.from([1, 0, 0, ...items])));
});

test('cost: 1,000 of 1,000,000 keys differ', (t) => {
  const KEYS = 1_000_000;
  const DIFFERENT = 1000;
  // a lower bound of what a key is: its name and the two hashes. Values make the allowance only larger.
  const KEY_BYTES = 16 + 16;
  const allowed = 0.01 * KEYS * KEY_BYTES + 10 * DIFFERENT * KEY_BYTES;
  for (const [name, partitions, nameKey] of [
    ['1024 partitions', 1024, (i: number) => `key:${String(i).padStart(12, '0')}`],
    ['one partition', 1, (i: number) => `key:${String(i).padStart(12, '0')}`],
    ['1024 partitions, all keys in one slot', 1024, (i: number) => `{k}:${String(i).padStart(12, '0')}`],
  ] as const) {
    const here = new Map<number, TreeRow[]>();
    const there = new Map<number, TreeRow[]>();
    const differing = new Set<number>();
    for (let i = 0; i < DIFFERENT; i++) differing.add((i * 7919 * 131) % KEYS);
    for (let i = 0; i < KEYS; i++) {
      const key = nameKey(i);
      const slot = slotOf(key);
      const r = { db: 0, pos: positionOf(slot, key), key, contextHash: i * 1000003, checksum: i };
      const p = Math.floor(slot / (SLOTS / partitions));
      if (!here.has(p)) {
        here.set(p, []);
        there.set(p, []);
      }
      here.get(p)!.push(r);
      there.get(p)!.push(differing.has(i) ? { ...r, contextHash: r.contextHash + 1 } : r);
    }
    const total = { found: 0, bytes: 0, messages: 0, longest: 0, scannedRows: 0 };
    for (const [p, rows] of here) {
      const outcome = run(new Side(rows, p, partitions), new Side(there.get(p)!, p, partitions), 4096);
      total.found += outcome.found.length;
      total.bytes += outcome.bytes;
      total.longest = Math.max(total.longest, outcome.messages);
      total.scannedRows += outcome.scannedRows;
    }
    assert.equal(total.found, differing.size);
    t.diagnostic(
      `${name}: ${total.bytes} bytes (allowed ${allowed}), ${total.longest} messages at most, ${total.scannedRows} rows read`,
    );
    assert.ok(total.bytes <= allowed, `${name}: ${total.bytes} bytes`);
  }
});
