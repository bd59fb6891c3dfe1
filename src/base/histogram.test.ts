import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bucketAt, bucketEnd, bucketOf } from './histogram.ts';

test('buckets follow one another without gaps, and end where they say', () => {
  for (const bits of [2, 3]) {
    for (let i = 0; i < 27 << bits; i++) {
      assert.equal(bucketOf(bucketEnd(i, bits), bits), i);
      assert.equal(bucketOf(bucketEnd(i, bits) + 1, bits), i + 1);
    }
  }
});

test("a bucket's end is off by at most its share of an octave", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), fc.integer({ min: 1, max: 4 }), (usec, bits) => {
      const end = bucketEnd(bucketOf(usec, bits), bits);
      assert.ok(end >= usec && end - usec <= usec / 2 ** bits);
    }),
  );
});

test('what no histogram can hold lies at its ends', () => {
  assert.equal(bucketOf(-5, 3), 0);
  assert.equal(bucketOf(2 ** 40, 3), bucketOf(2 ** 31 - 1, 3));
});

test('the bucket of a percentage', () => {
  const counts = new Uint32Array(8);
  assert.equal(bucketAt(counts, 50), -1);
  counts[2] = 99;
  counts[5] = 1;
  assert.deepEqual(
    [0, 50, 99, 99.5, 100].map((p) => bucketAt(counts, p)),
    [2, 2, 2, 5, 5],
  );
});
