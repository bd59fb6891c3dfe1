/**
 * Trees that are kept while keys are written, packed and unpacked, folded, evicted, loaded again and flushed: their sums
 * are those of trees that are made anew of the same keys.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { leafTerm, MerkleTree, partitionRange } from '../merkle/tree.ts';
import { positionOf, slotOfPosition } from '../ring/position.ts';
import { slotOf } from '../ring/slots.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import { MISS } from '../store/keyspace.ts';
import { MemoryEngine } from '../store/memory-engine.ts';
import { StoredKey } from '../store/object.ts';
import { decodeObject } from '../store/rows.ts';
import { Store } from '../store/store.ts';
import { checksumOf, Trees } from './trees.ts';

const PARTITIONS = 4;
const NAMES = Array.from({ length: 8 }, (_, i) => `key:${i}`);

async function during<T>(time: VirtualTime, work: Promise<T>): Promise<T> {
  let done = false;
  void work.finally(() => {
    done = true;
  });
  for (let i = 0; i < 1000 && !done; i++) await time.advance(1);
  return work;
}

class Node {
  readonly store: Store;
  readonly trees: Trees;
  private readonly engine: MemoryEngine;
  private readonly time: VirtualTime;

  private constructor(store: Store, engine: MemoryEngine, time: VirtualTime) {
    this.store = store;
    this.engine = engine;
    this.time = time;
    this.trees = new Trees({ keys: store.keys, engine, timers: time, log: new QuietLog() });
    store.residency.packIdleSeconds = 1e9;
    this.trees.start();
  }

  static async open(time: VirtualTime): Promise<Node> {
    const engine = new MemoryEngine();
    const opening = Store.open({
      engine,
      clock: time,
      timers: time,
      random: new SeededRandom(7),
      log: new QuietLog(),
      databases: 2,
      partitions: PARTITIONS,
      maxSiblings: 10,
      sync: 'everysec',
      sole: false,
    });
    return new Node(await during(time, opening), engine, time);
  }

  async step(op: Op): Promise<void> {
    const { store, time } = this;
    if (op.what === 'wait') await time.advance(op.n * 100);
    else if (op.what === 'fold') await during(time, store.fold.drain());
    else {
      for (;;) {
        store.keys.now = time.now();
        try {
          this.apply(op);
          return;
        } catch (error) {
          if (error !== MISS) throw error;
          await during(time, store.residency.load([store.keys.missing!]));
        }
      }
    }
  }

  private apply({ what, key, n }: Op): void {
    const { keys, residency } = this.store;
    const db = keys.databases[n % 2];
    const name = NAMES[key];
    const slot = slotOf(name);
    if (what === 'flush') keys.flush(db);
    else if (what === 'object') keys.object(db, name, slot);
    else if (what === 'refresh') this.trees.refresh(n);
    else if (what === 'set') {
      const buf = Buffer.from(name + String(n).repeat(n * 20));
      if (!keys.setBytes(db, buf, 0, name.length, slot, name.length, buf.length))
        keys.set(db, keys.object(db, name, slot), name, slot, String(n), 0);
    } else if (what === 'del') {
      const o = keys.peekForWrite(db, name, slot);
      if (o !== null) keys.remove(db, o);
    } else if (what === 'pack') {
      residency.packIdleSeconds = 0;
      residency.pack();
      residency.packIdleSeconds = 1e9;
    } else if (what === 'evict') {
      residency.limit = 0;
      (residency as unknown as { idleSeconds: number }).idleSeconds = 0;
      residency.evict();
      residency.limit = Number.MAX_SAFE_INTEGER;
    }
  }

  /** A partition's tree, made of what is in memory and of the rows of the rest. */
  async anew(p: number): Promise<MerkleTree> {
    const { keys } = this.store;
    const { first, span } = partitionRange(p, PARTITIONS);
    const tree = new MerkleTree(p, PARTITIONS);
    for (const db of keys.databases) {
      const shard = db.shards[p];
      const all = [...shard.values()];
      for (const row of await this.engine.range(db.index, first, first + span, Number.MAX_SAFE_INTEGER)) {
        if (shard.has(row.key)) continue;
        const o = new StoredKey(row.key, slotOfPosition(row.pos), db.index);
        decodeObject(keys, o, row.state, null);
        if (o.to > db.floor) all.push(o);
      }
      for (const o of all) {
        const hash = o.contextHash();
        const pos = positionOf(o.slot, o.key);
        if (hash !== 0) tree.add(pos, leafTerm(db.index, pos, hash, checksumOf(o)));
      }
    }
    return tree;
  }

  async check(): Promise<void> {
    for (let p = 0; p < PARTITIONS; p++) {
      if (!this.trees.isReady(p)) continue;
      const kept = [...this.trees.current(p).bucketSums()];
      assert.deepEqual(kept, [...(await this.anew(p)).bucketSums()], `partition ${p}`);
    }
  }
}

interface Op {
  what: 'set' | 'object' | 'pack' | 'evict' | 'fold' | 'flush' | 'del' | 'refresh' | 'wait';
  key: number;
  n: number;
}

const ops = fc.array(
  fc.record({
    what: fc.oneof(
      {
        weight: 12,
        arbitrary: fc.constantFrom<Op['what'][]>('set', 'set', 'object', 'pack', 'evict', 'fold', 'refresh'),
      },
      { weight: 1, arbitrary: fc.constantFrom<Op['what'][]>('flush', 'del', 'wait') },
    ),
    key: fc.nat(NAMES.length - 1),
    n: fc.nat(9),
  }),
  { maxLength: 60, size: 'max' },
);

/** A flush of another database has all trees built anew; a key whose term was not worked out leaves before its row is read. */
const LEAVES_BEFORE_THE_BUILD: Op[] = [
  { what: 'set', key: 0, n: 3 },
  { what: 'fold', key: 0, n: 0 },
  { what: 'flush', key: 0, n: 0 },
  { what: 'evict', key: 0, n: 0 },
];

test('a tree that is kept has the sums of one that is made anew', async () => {
  await fc.assert(
    fc.asyncProperty(ops, async (list) => {
      const time = new VirtualTime();
      const node = await Node.open(time);
      await time.advance(100);
      assert.equal(node.trees.readyCount, PARTITIONS);
      for (const op of list) {
        await node.step(op);
        if (op.what === 'wait' || op.what === 'evict') await node.check();
      }
      await time.advance(5000);
      assert.equal(node.trees.readyCount, PARTITIONS);
      await node.check();
    }),
    { numRuns: 150, examples: [[LEAVES_BEFORE_THE_BUILD]] },
  );
});
