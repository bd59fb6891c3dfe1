/** `KeyMap` beside a `Map`: the same after any sequence of steps, in the same order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KeyMap, secretHash } from './key-map.ts';

interface Thing {
  key: string;
  n: number;
}

function same(map: KeyMap<Thing>, model: Map<string, Thing>): void {
  assert.equal(map.size, model.size);
  assert.deepEqual([...map.values()], [...model.values()]);
  assert.deepEqual([...map.keys()], [...model.keys()]);
}

test('does what a Map does', () => {
  const key = fc.oneof(
    fc.string({ unit: 'binary-ascii', maxLength: 9 }),
    fc.integer({ min: 0, max: 60 }).map((n) => `key:${n}`),
  );
  const step = fc.record({ what: fc.constantFrom('set', 'set', 'set', 'delete', 'delete', 'get'), key });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const map = new KeyMap<Thing>();
      const model = new Map<string, Thing>();
      steps.forEach(({ what, key }, n) => {
        if (what === 'set') {
          map.set({ key, n });
          model.set(key, { key, n });
        } else if (what === 'delete') assert.equal(map.delete(key), model.delete(key));
        else assert.deepEqual(map.get(key), model.get(key));
        assert.equal(map.has(key), model.has(key));
      });
      same(map, model);
    }),
  );
});

test('many keys, half of them taken out while others come', () => {
  const map = new KeyMap<Thing>();
  const model = new Map<string, Thing>();
  for (let n = 0; n < 60_000; n++) {
    const thing = { key: `user:${n % 40_000}`, n };
    map.set(thing);
    model.set(thing.key, thing);
    if (n % 2 === 1) {
      const gone = `user:${(n * 7919) % 40_000}`;
      assert.equal(map.delete(gone), model.delete(gone));
    }
  }
  same(map, model);
  for (let n = 0; n < 40_000; n++) assert.equal(map.get(`user:${n}`), model.get(`user:${n}`));
  for (const key of [...model.keys()]) assert.ok(map.delete(key));
  assert.equal(map.size, 0);
  assert.equal(map.get('user:1'), undefined);
});

test('an iteration goes on while what it has seen is taken out', () => {
  const map = new KeyMap<Thing>();
  for (let n = 0; n < 100; n++) map.set({ key: `k${n}`, n });
  const seen: number[] = [];
  for (const { key, n } of map.values()) {
    seen.push(n);
    map.delete(key);
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 100 }, (_, n) => n),
  );
});

test('hashes of similar keys fill a table evenly', () => {
  for (const name of [(n: number) => `key:${n}`, (n: number) => `${n}`, (n: number) => `${'x'.repeat(40)}${n}`]) {
    const counts = new Uint32Array(1024);
    const total = 1024 * 100;
    for (let n = 0; n < total; n++) counts[secretHash(name(n)) & 1023]++;
    // 100 each, with a spread of 10 if they fall as by chance
    const chi = counts.reduce((sum, c) => sum + (c - 100) ** 2 / 100, 0);
    assert.ok(chi < 1023 + 8 * Math.sqrt(2 * 1023), `chi-squared ${chi}`);
  }
});
