/** Who gets a key: all of a claim's keys or none, the older before the younger, and nobody waits in a circle. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { slotOf } from '../ring/slots.ts';
import type { Database, KeyPlace } from '../store/keyspace.ts';
import { Claim, Locks } from './locks.ts';

const DB = { index: 0 } as Database;
const place = (key: string): KeyPlace => ({ db: DB, key, slot: slotOf(key) });
const soon = () => new Promise<void>((resolve) => setImmediate(resolve));

function claim(log: string[], age: number, keys: string, by = 'n1'): Claim {
  const name = `${age}:${keys}`;
  return new Claim(
    { age, by, number: 1 },
    [...keys].map(place),
    () => log.push(`${name} has`),
    () => log.push(`${name} lost`),
  );
}

test('a claim has all of its keys or none; what waits has them in the order of age', async () => {
  const locks = new Locks();
  const log: string[] = [];
  const first = claim(log, 1, 'ab');
  const [third, second] = [claim(log, 3, 'bc'), claim(log, 2, 'b')];
  for (const c of [first, third, second]) locks.take(c);
  assert.deepEqual(log, ['1:ab has']);
  assert.deepEqual(
    [locks.isHeld(place('b')), locks.isHeld(place('c'))],
    [true, false],
    'a claim that waits holds nothing',
  );
  assert.deepEqual([locks.isFree(slotOf('a')), locks.isFree(slotOf('c'))], [false, true]);
  locks.end(first);
  await soon();
  locks.end(second);
  await soon();
  assert.deepEqual(log, ['1:ab has', '2:b has', '3:bc has']);
  locks.end(third);
  await soon();
  assert.equal(locks.size, 0);
  for (const key of 'abc') assert.ok(locks.isFree(slotOf(key)));
});

test('an older claim takes keys from a younger one, unless that is pinned', async () => {
  const locks = new Locks();
  const log: string[] = [];
  const [young, pinned, old] = [claim(log, 5, 'a'), claim(log, 6, 'b'), claim(log, 1, 'ab')];
  locks.take(young);
  locks.take(pinned);
  pinned.pinned = true;
  locks.take(old);
  await soon();
  assert.deepEqual(log, ['5:a has', '6:b has', '5:a lost']);
  assert.deepEqual([young.over, old.held], [true, false]);
  locks.end(pinned);
  await soon();
  assert.equal(log.at(-1), '1:ab has');
});

test('of two that began at one moment the lower name is the older', async () => {
  const locks = new Locks();
  const log: string[] = [];
  const [a, b] = [claim(log, 1, 'x', 'n2'), claim(log, 1, 'x', 'n1')];
  locks.take(a);
  locks.take(b);
  await soon();
  assert.deepEqual([a.over, b.held], [true, true]);
});

test('commands that wait have their turn before the next claim, and see the key free', async () => {
  const locks = new Locks();
  const log: string[] = [];
  const [first, second] = [claim(log, 1, 'a'), claim(log, 2, 'a')];
  locks.take(first);
  locks.take(second);
  locks.wait(place('a'), () => log.push(`command, held: ${locks.isHeld(place('a'))}`));
  locks.end(first);
  assert.deepEqual(log, ['1:a has'], 'not from within end');
  await soon();
  assert.deepEqual(log, ['1:a has', 'command, held: false', '2:a has']);
});

test('nodes that lock in any order: every transaction has all its keys at last', async () => {
  const transaction = fc.record({
    age: fc.integer({ min: 1, max: 6 }),
    keys: fc.uniqueArray(fc.constantFrom(...'abcd'), { minLength: 1 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(transaction, { minLength: 2, maxLength: 6 }),
      fc.infiniteStream(fc.nat()),
      async (list, dice) => {
        // each key is on a node of its own
        const nodes = new Map([...'abcd'].map((k) => [k, new Locks()]));
        let done = 0;
        const begin = (t: (typeof list)[number], number: number): void => {
          let left = t.keys.length;
          let over = false;
          const claims: Claim[] = [];
          const end = () => {
            over = true;
            for (const [i, c] of claims.entries()) nodes.get(t.keys[i])!.end(c);
          };
          const granted = () => {
            if (--left > 0) return;
            // it has them all: it is pinned, and done a little later
            for (const c of claims) c.pinned = true;
            setImmediate(() => {
              end();
              done++;
            });
          };
          const wounded = () => {
            if (over) return;
            end();
            setImmediate(() => begin(t, number));
          };
          for (const _ of t.keys)
            claims.push(new Claim({ age: t.age, by: 'n', number }, [place(t.keys[claims.length])], granted, wounded));
          const order = t.keys.map((_, i) => i).sort(() => (dice.next().value! % 2 === 0 ? 1 : -1));
          for (const i of order) if (!over) nodes.get(t.keys[i])!.take(claims[i]);
        };
        list.forEach(begin);
        for (let i = 0; i < 400 && done < list.length; i++) await soon();
        assert.equal(done, list.length);
        await soon();
        for (const locks of nodes.values()) assert.equal(locks.size, 0);
      },
    ),
    { numRuns: 100 },
  );
});
