/** The tree against plain sums over its keys. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { addHash } from '../base/hash.ts';
import { leafTerm, MerkleTree, partitionRange, TREE_BUCKETS, TREE_FANOUT } from './tree.ts';

const PARTITIONS = 1024;
const PARTITION = 7;
const { first, span } = partitionRange(PARTITION, PARTITIONS);

const change = fc.record({ key: fc.nat({ max: 40 }), version: fc.nat({ max: 5 }), remove: fc.boolean() });
const changes = fc.array(change, { maxLength: 200, size: 'max' });

/** Some keys share a bucket, some a first-level part. */
const posOf = (key: number) => first + ((key % 7) * span) / 7 + (key * span) / 2048;

function build(list: { key: number; version: number; remove: boolean }[]) {
  const tree = new MerkleTree(PARTITION, PARTITIONS);
  const terms = new Map<number, number>();
  for (const { key, version, remove } of list) {
    const pos = Math.floor(posOf(key));
    const term = leafTerm(0, pos, version, key);
    const old = terms.get(key);
    if (remove) {
      if (old !== undefined) tree.remove(pos, old);
      terms.delete(key);
    } else {
      if (old === undefined) tree.add(pos, term);
      else tree.replace(pos, old, term);
      terms.set(key, term);
    }
  }
  return { tree, terms };
}

test('sums and counts of every range are those of the keys in it, in whatever order they came', () => {
  fc.assert(
    fc.property(changes, (list) => {
      const { tree, terms } = build(list);
      for (const parts of [1, TREE_FANOUT, TREE_BUCKETS]) {
        for (let i = 0; i < parts; i++) {
          const from = first + (i * span) / parts;
          let sum = 0;
          let count = 0;
          for (const [key, term] of terms) {
            const pos = Math.floor(posOf(key));
            if (pos < from || pos >= from + span / parts) continue;
            sum = addHash(sum, term);
            count++;
          }
          assert.deepEqual(tree.range(from, span / parts), { sum, count });
        }
      }
      assert.equal(tree.range(first, span / TREE_BUCKETS / TREE_FANOUT), null);
      assert.equal(tree.count(), terms.size);
    }),
  );
});

test('a saved tree comes back, a damaged one is refused and leaves the tree empty', () => {
  fc.assert(
    fc.property(changes, fc.nat(), fc.integer({ min: 1, max: 255 }), (list, at, flip) => {
      const { tree } = build(list);
      const bytes = tree.save();
      const copy = new MerkleTree(PARTITION, PARTITIONS);
      copy.restore(bytes);
      assert.deepEqual(copy.save(), bytes);
      const damaged = Buffer.from(bytes);
      damaged[at % bytes.length] ^= flip;
      const other = new MerkleTree(PARTITION, PARTITIONS);
      try {
        other.restore(damaged);
        // only counts carry no check: a wrong one costs bytes in an exchange and nothing else
        assert.equal(other.root(), tree.root());
      } catch {
        assert.equal(other.root(), 0);
        assert.equal(other.count(), 0);
      }
      assert.throws(() => new MerkleTree(PARTITION + 1, PARTITIONS).restore(bytes));
    }),
  );
});

test('terms are spread over all 52 bits by every input alone', () => {
  const SAMPLES = 5000;
  const inputs: Record<string, (i: number) => number> = {
    database: (i) => leafTerm(i, 5, 3, 1),
    'low place': (i) => leafTerm(0, i, 3, 1),
    'high place': (i) => leafTerm(0, i * 2 ** 39, 3, 1),
    'low context': (i) => leafTerm(0, 5, i, 1),
    'high context': (i) => leafTerm(0, 5, i * 2 ** 38, 1),
    'low checksum': (i) => leafTerm(0, 5, 3, i),
    'high checksum': (i) => leafTerm(0, 5, 3, i * 2 ** 38),
  };
  for (const [name, term] of Object.entries(inputs)) {
    const terms = Array.from({ length: SAMPLES }, (_, i) => term(i));
    assert.equal(new Set(terms).size, SAMPLES, name);
    for (let b = 0; b < 52; b++) {
      const share = terms.filter((t) => Math.floor(t / 2 ** b) % 2 === 1).length / SAMPLES;
      // five deviations of a fair coin
      assert.ok(Math.abs(share - 0.5) < 0.036, `${name}, bit ${b}: ${share}`);
    }
  }
});

test('said sums name the buckets that differ, and no others', () => {
  fc.assert(
    fc.property(changes, changes, (mine, theirs) => {
      const [a, b] = [build(mine).tree, build(theirs).tree];
      const w = new ByteWriter(16);
      b.writeSums(w);
      w.u8(77);
      const r = new ByteReader(w.take());
      const differ = a.otherSums(r);
      assert.equal(r.u8(), 77);
      const [sumsA, sumsB] = [a.bucketSums(), b.bucketSums()];
      assert.deepEqual(
        [...differ],
        Array.from({ length: TREE_BUCKETS }, (_, i) => (sumsA[i] === sumsB[i] ? 0 : 1)),
      );
    }),
  );
});
