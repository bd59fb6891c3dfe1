/** The filter forgets nothing, and is seldom wrong about strangers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyFilter } from './key-filter.ts';

test('every key that was added is known, few others are', () => {
  const filter = new KeyFilter();
  assert.equal(filter.has('key:0'), false);
  for (let i = 0; i < 50_000; i++) filter.add(`key:${i}`);
  for (let i = 0; i < 50_000; i++) assert.ok(filter.has(`key:${i}`));
  let wrong = 0;
  for (let i = 0; i < 50_000; i++) if (filter.has(`other:${i}`)) wrong++;
  assert.ok(wrong < 2500, `${wrong} of 50000 strangers taken for known`);
  assert.ok(filter.size() < 300_000);
});
