/** Hashes: keys that differ little must be spread as if they had nothing in common, for rings and ranges alike. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addHash, hash32, hash52, subtractHash } from './hash.ts';

const BUCKETS = 1024;
const KEYS = 100 * BUCKETS;
const SPAN = 2 ** 52;

/**
 * Chi-square over the buckets. For a uniform hash it is normal about BUCKETS - 1 with a deviation of
 * sqrt(2 * BUCKETS) = 45: five of them are a miss in three million, and the keys are fixed.
 */
function chiSquare(keys: Iterable<string>, bucketOf: (key: string) => number): number {
  const counts = new Float64Array(BUCKETS);
  let n = 0;
  for (const key of keys) {
    counts[bucketOf(key)]++;
    n++;
  }
  const expected = n / BUCKETS;
  return counts.reduce((sum, c) => sum + (c - expected) ** 2 / expected, 0);
}

function* numbered(prefix: string, digits: number): Generator<string> {
  for (let i = 0; i < KEYS; i++) yield prefix + String(i).padStart(digits, '0');
}

function* inFront(): Generator<string> {
  for (let i = 0; i < KEYS; i++) yield `${i}:the:same:end`;
}

function* bytes(): Generator<string> {
  for (let i = 0; i < KEYS; i++) yield String.fromCharCode(i & 255, (i >> 8) & 255, (i >> 16) & 255);
}

function* repeated(): Generator<string> {
  for (let i = 0; i < 320; i++) for (let c = 0; c < 256; c++) yield String.fromCharCode(c).repeat(i + 1);
}

const FAMILIES: [string, () => Iterable<string>][] = [
  ['a counter behind', () => numbered('user:', 0)],
  ['padded, as redis-benchmark names keys', () => numbered('key:', 12)],
  ['a counter in front', inFront],
  ['short binary keys', bytes],
  ['repeated characters', repeated],
];

const BUCKETINGS: [string, (key: string) => number][] = [
  ['low bits of hash52', (key) => hash52(key) % BUCKETS],
  ['high bits of hash52', (key) => Math.floor(hash52(key) / (SPAN / BUCKETS))],
  // what a place on the ring is made of
  ['bits 29 to 38 of hash52', (key) => Math.floor((hash52(key) % 2 ** 39) / 2 ** 29)],
  ['low bits of hash32', (key) => hash32(key) % BUCKETS],
  ['high bits of hash32', (key) => hash32(key) >>> 22],
];

for (const [family, keys] of FAMILIES) {
  test(`similar keys are spread evenly: ${family}`, () => {
    for (const [bits, bucketOf] of BUCKETINGS) {
      const chi = chiSquare(keys(), bucketOf);
      const off = (chi - (BUCKETS - 1)) / Math.sqrt(2 * (BUCKETS - 1));
      assert.ok(Math.abs(off) < 5, `${bits}: chi-square ${chi.toFixed(0)} is ${off.toFixed(1)} deviations off`);
    }
  });
}

test('one bit of a key changes about half of the hash', () => {
  let flipped = 0;
  let looked = 0;
  for (let i = 0; i < 2000; i++) {
    const key = `session:${i}`;
    const other = key.slice(0, -1) + String.fromCharCode(key.charCodeAt(key.length - 1) ^ 1);
    const a = hash52(key);
    const b = hash52(other);
    for (let bit = 0; bit < 52; bit++) {
      if (Math.floor(a / 2 ** bit) % 2 !== Math.floor(b / 2 ** bit) % 2) flipped++;
      looked++;
    }
  }
  assert.ok(Math.abs(flipped / looked - 0.5) < 0.01, `${flipped} of ${looked}`);
});

test('hashes of many keys are distinct, and within their bounds', () => {
  const seen = new Set<number>();
  for (const key of numbered('k', 0)) {
    const h = hash52(key);
    assert.ok(Number.isInteger(h) && h >= 0 && h < SPAN);
    seen.add(h);
    const h32 = hash32(key);
    assert.ok(Number.isInteger(h32) && h32 >= 0 && h32 < 2 ** 32);
  }
  assert.equal(seen.size, KEYS);
});

test('a sum of hashes knows no order, and gives up what is taken out', () => {
  const term = fc.oneof(fc.integer({ min: 0, max: SPAN - 1 }), fc.constantFrom(0, 1, SPAN - 1, SPAN / 2));
  fc.assert(
    fc.property(fc.array(term, { minLength: 1, maxLength: 20 }), fc.nat(), (terms, seed) => {
      const sum = terms.reduce(addHash, 0);
      assert.ok(Number.isInteger(sum) && sum >= 0 && sum < SPAN);
      const turned = [...terms.slice(seed % terms.length), ...terms.slice(0, seed % terms.length)].reverse();
      assert.equal(turned.reduce(addHash, 0), sum);
      assert.equal(
        BigInt(sum),
        terms.reduce((s, t) => (s + BigInt(t)) % BigInt(SPAN), 0n),
      );
      assert.equal(turned.reduce(subtractHash, sum), 0);
    }),
  );
});
