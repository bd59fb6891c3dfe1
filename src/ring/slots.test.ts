/**
 * Slots against `cluster-key-slot`, which Redis Cluster's own clients use, and against Redis itself where the two
 * differ: after an empty tag the package looks for another one, Redis hashes the whole key.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import calculateSlot from 'cluster-key-slot';
import fc from 'fast-check';
import { SLOTS, slotOf, slotOfBytes } from './slots.ts';

/** Both forms, the second at some place inside a larger buffer. */
function check(key: Buffer, expected = calculateSlot(key)): void {
  assert.ok(expected < SLOTS);
  assert.equal(slotOf(key.latin1Slice()), expected, JSON.stringify(key.latin1Slice()));
  const around = Buffer.concat([Buffer.from('x{'), key, Buffer.from('}y')]);
  assert.equal(slotOfBytes(around, 2, 2 + key.length), expected, JSON.stringify(key.latin1Slice()));
}

test('slots known from the cluster specification', () => {
  assert.equal(slotOf('123456789'), 0x31c3);
  assert.equal(slotOf(''), 0);
  assert.equal(slotOf('foo'), 12182);
});

/** Replies of CLUSTER KEYSLOT, Redis 7.0.15. */
const KEYSLOT: readonly [string, number][] = [
  ['foo{}{bar}', 8363],
  ['{}', 15257],
  ['{}}', 14790],
  ['{}a', 10875],
  ['{}{a}', 13650],
  ['x{}{a}{b}', 11815],
  ['foo{{bar}}zap', 4015],
  ['foo{bar}{zap}', 5061],
  ['{user1000}.following', 3443],
  ['}{a}', 15495],
];

test('hash tags: the first open brace, the first close brace behind it, and something between', () => {
  for (const [key, slot] of KEYSLOT) check(Buffer.from(key), slot);
  for (const key of ['{', '}', '}{', 'a}b{c}d', 'a{b', 'a{b}', '{a', '{{}', '{{}}', '{\0}', '{\xff\xfe}x']) {
    check(Buffer.from(key, 'latin1'));
  }
  assert.equal(slotOf('{user1000}.following'), slotOf('{user1000}.followers'));
  assert.equal(slotOf('{user1000}.following'), slotOf('user1000'));
});

/** The package and Redis agree on all keys but those whose first tag is empty. */
function beginsWithEmptyTag(key: readonly number[]): boolean {
  const open = key.indexOf(0x7b);
  return open >= 0 && key[open + 1] === 0x7d;
}

test('any bytes, braces among them often', () => {
  const byte = fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 255 }) },
    { weight: 2, arbitrary: fc.constantFrom(0x7b, 0x7d) },
  );
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 40 }), (bytes) => {
      fc.pre(!beginsWithEmptyTag(bytes));
      check(Buffer.from(bytes));
    }),
    { numRuns: 3000 },
  );
});

test("every slot is somebody's", () => {
  const seen = new Set<number>();
  for (let i = 0; seen.size < SLOTS && i < 400_000; i++) seen.add(slotOf(`k${i}`));
  assert.equal(seen.size, SLOTS);
});
