/** Contexts against plain sets of numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { actorNumber } from './actors.ts';
import { Context } from './context.ts';

const A = actorNumber('aaaaaaaa');
const interval = fc.tuple(
  fc.integer({ min: 0, max: 2 }),
  fc.integer({ min: 0, max: 20 }),
  fc.integer({ min: 1, max: 6 }),
);
const intervals = fc.array(interval, { maxLength: 12 });

function build(list: [number, number, number][]): { context: Context; members: Set<string> } {
  const context = new Context();
  const members = new Set<string>();
  for (const [who, from, length] of list) {
    const actor = actorNumber(`aaaaaaa${who}`);
    context.add(actor, from, from + length);
    for (let n = from + 1; n <= from + length; n++) members.add(`${actor}:${n}`);
  }
  return { context, members };
}

test('a context holds exactly what was added', () => {
  fc.assert(
    fc.property(intervals, (list) => {
      const { context, members } = build(list);
      for (let who = 0; who < 3; who++) {
        const actor = actorNumber(`aaaaaaa${who}`);
        for (let n = 0; n <= 27; n++) assert.equal(context.has(actor, n), members.has(`${actor}:${n}`));
      }
      for (let i = 1; i < context.size; i++) {
        const apart = context.actors[i - 1] !== context.actors[i] || context.tos[i - 1] < context.froms[i];
        assert.ok(apart, 'intervals of one actor touch');
      }
    }),
  );
});

test('join is union, covers is inclusion, equal sets are equal contexts with equal bytes', () => {
  fc.assert(
    fc.property(intervals, intervals, (x, y) => {
      const a = build(x);
      const b = build(y);
      const both = a.context.clone();
      both.join(b.context);
      const union = build([...x, ...y]);
      assert.ok(both.equals(union.context));
      assert.ok(both.covers(a.context) && both.covers(b.context));
      const included = [...b.members].every((m) => a.members.has(m));
      assert.equal(a.context.covers(b.context), included);
      const w = new ByteWriter();
      both.encode(w);
      const first = w.take();
      assert.ok(Context.decode(new ByteReader(first)).equals(both));
      const other = b.context.clone();
      other.join(a.context);
      w.reset();
      other.encode(w);
      assert.deepEqual(w.take(), first);
    }),
  );
});

test('max and highest', () => {
  const c = Context.of(A, 5, 9);
  c.add(A, 20, 30);
  assert.equal(c.max(A), 30);
  assert.equal(c.max(actorNumber('zzzzzzzz')), 0);
  assert.equal(c.highest(), 30);
});
