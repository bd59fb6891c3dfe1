/** Places: a slot's keys lie together, slots follow one another, and every place is an exact number. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { firstPositionOfSlot, POSITIONS, positionOf, slotOfPosition } from './position.ts';
import { SLOTS, slotOf } from './slots.ts';

const slot = fc.oneof(fc.constantFrom(0, 1, SLOTS - 2, SLOTS - 1), fc.integer({ min: 0, max: SLOTS - 1 }));
const key = fc.uint8Array({ maxLength: 30 }).map((b) => Buffer.from(b).latin1Slice());

test('a place lies within its slot and within all places', () => {
  fc.assert(
    fc.property(slot, key, (s, k) => {
      const pos = positionOf(s, k);
      assert.ok(Number.isSafeInteger(pos) && pos >= 0 && pos < POSITIONS);
      assert.equal(slotOfPosition(pos), s);
      assert.ok(pos >= firstPositionOfSlot(s) && pos < firstPositionOfSlot(s + 1));
      assert.equal(positionOf(s, k), pos);
    }),
  );
});

test('places of a lower slot come before those of a higher one', () => {
  fc.assert(
    fc.property(slot, slot, key, key, (a, b, k, l) => {
      if (a === b) return;
      assert.equal(positionOf(a, k) < positionOf(b, l), a < b);
    }),
  );
});

test('bounds', () => {
  assert.equal(POSITIONS, 2 ** 53);
  assert.equal(firstPositionOfSlot(0), 0);
  assert.equal(firstPositionOfSlot(SLOTS), POSITIONS);
  assert.equal(slotOfPosition(POSITIONS - 1), SLOTS - 1);
  for (let s = 1; s < SLOTS; s += 997) {
    assert.equal(slotOfPosition(firstPositionOfSlot(s)), s);
    assert.equal(slotOfPosition(firstPositionOfSlot(s) - 1), s - 1);
  }
});

test('keys of one slot rarely share a place', () => {
  const seen = new Set<number>();
  for (let i = 0; i < 100_000; i++) seen.add(positionOf(5, `{tag}${i}`));
  assert.ok(seen.size >= 99_998, `${100_000 - seen.size} of 100,000 share one`);
  assert.equal(slotOfPosition(positionOf(slotOf('{tag}1'), '{tag}1')), slotOf('tag'));
});
