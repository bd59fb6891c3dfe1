/** Each checker on histories made by hand: it accepts what is right and names what is wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Op, op } from '../history.ts';
import { SeededRandom } from '../random.ts';
import { checkBounded } from './bounded.ts';
import { type Copy, checkConvergence, checkSameContextSameState } from './convergence.ts';
import { checkAppends, checkIncrements, checkNothingLost } from './lost.ts';
import { checkOrder, linearize } from './order.ts';
import { checkSiblingReads, checkSiblings } from './siblings.ts';
import { checkNothingUndead } from './undead.ts';

let nextId = 1;
/** An operation from `at` on, which takes `ms`. */
function at(start: number, name: Op['name'], fields: Partial<Op> = {}, ms = 1): Op {
  return op({ id: nextId++, name, invokeMs: start, respondMs: start + ms, ...fields });
}
const set = (start: number, value: string, fields: Partial<Op> = {}, ms = 1) =>
  at(start, 'set', { value, reply: 'OK', ...fields }, ms);
const get = (start: number, reply: string | null, ms = 1) => at(start, 'get', { reply }, ms);
const unknown = { result: 'unknown' as const, reply: null };
const final = (...values: string[]) => new Map([['k', values]]);
const problems = (v: { problems: string[] }) => v.problems.length;

// ---------------------------------------------------------------------- convergence

const copy = (node: number, context: string | null, state: string | null, live = true): Copy => ({
  node,
  context,
  state,
  live,
});

test('convergence: one context, one state', () => {
  const check = (copies: Copy[], reaping = false) => checkConvergence(new Map([['k', copies]]), reaping).problems;
  assert.deepEqual(check([copy(0, 'c', 's'), copy(1, 'c', 's'), copy(2, 'c', 's')]), []);
  assert.match(check([copy(0, 'c', 's'), copy(1, 'd', 't')])[0], /n0 has a value with context c, n1/);
  assert.match(check([copy(0, 'c', 's'), copy(1, 'c', 't')])[0], /one context and two states/);
  assert.match(check([copy(0, 'c', 's'), copy(1, null, null, false)])[0], /n1 has nothing/);
  const tombstone = [copy(0, 'c', 's', false), copy(1, null, null, false)];
  assert.deepEqual([check(tombstone).length, check(tombstone, true).length], [1, 0]);
});

test('same context, same state: judged among those with equal contexts alone', () => {
  const check = (copies: Copy[]) => problems(checkSameContextSameState(new Map([['k', copies]])));
  assert.equal(check([copy(0, 'c', 's'), copy(1, 'd', 't'), copy(2, null, null)]), 0);
  assert.equal(check([copy(0, 'c', 's'), copy(1, 'd', 't'), copy(2, 'c', 'x')]), 1);
});

// ---------------------------------------------------------------------- lost

test('nothing lost: a write may go only when something that is left could have seen it', () => {
  const lost = (ops: Op[], ...values: string[]) => problems(checkNothingLost(ops, final(...values)));
  assert.equal(lost([set(0, 'a'), set(10, 'b')], 'b'), 0);
  assert.equal(lost([set(0, 'a'), set(10, 'b')], 'a'), 1, 'the later one is gone');
  assert.equal(lost([set(0, 'a')]), 1, 'gone without a trace');
  assert.equal(lost([set(0, 'a', {}, 20), set(10, 'b', {}, 20)], 'a'), 0, 'at the same time');
  assert.equal(lost([set(0, 'a'), set(10, 'b')], 'a', 'b'), 0, 'siblings');
  assert.equal(lost([set(0, 'a', unknown)]), 0, 'nobody said that it was there');
  assert.equal(lost([set(0, 'a', unknown), set(10, 'b')], 'a'), 0, 'a doubtful one may come late');
  assert.equal(lost([set(0, 'a'), at(10, 'del', { reply: '1' })]), 0);
  assert.equal(lost([set(0, 'a'), at(10, 'del', { reply: '0' })]), 1, 'a DEL of nothing removes nothing');
  assert.equal(lost([at(0, 'del', { reply: '1' }), set(10, 'a')]), 1, 'removed before it was written');
  assert.equal(lost([set(0, 'a'), at(1, 'del', unknown)]), 0);
  assert.equal(lost([set(0, 'a'), at(5, 'getdel', { reply: 'a' })]), 0);
  assert.equal(lost([at(0, 'setnx', { value: 'a', reply: '1' })]), 1);
  assert.equal(lost([at(0, 'setnx', { value: 'a', reply: '0' })]), 0, 'it did not write');
});

test('increments: between what was acknowledged and what may have been', () => {
  const incr = (result: Op['result']) => at(0, 'incr', { result });
  const ops = [incr('ok'), incr('ok'), incr('unknown'), incr('error')];
  const check = (value: string) => problems(checkIncrements(ops, final(value)));
  assert.deepEqual(['1', '2', '3', '4'].map(check), [1, 0, 0, 1]);
  assert.equal(problems(checkIncrements([...ops, set(5, '9')], final('9'))), 0, 'overwritten: not judged');
});

test('appends: once each', () => {
  const ops = [
    at(0, 'append', { value: '<1>' }),
    at(1, 'append', { value: '<2>' }),
    at(2, 'append', { value: '<3>', ...unknown }),
  ];
  const check = (text: string) => problems(checkAppends(ops, final(text)));
  assert.deepEqual(['<1><2>', '<2><1><3>', '<1>', '<1><2><1>'].map(check), [0, 0, 1, 1]);
});

// ---------------------------------------------------------------------- undead

test('nothing undead: what was seen and removed stays away', () => {
  const end = { atMs: 10_000, clockErrorMs: 100 };
  const check = (ops: Op[], orderedFromMs: number, ...values: string[]) =>
    problems(checkNothingUndead(ops, final(...values), orderedFromMs, end));
  const taken = [set(0, 'a'), at(10, 'getdel', { reply: 'a' })];
  assert.equal(check(taken, Number.POSITIVE_INFINITY), 0);
  assert.equal(check(taken, Number.POSITIVE_INFINITY, 'a'), 1, 'GETDEL gave it');
  const replaced = [set(0, 'a'), set(10, 'b')];
  assert.equal(check(replaced, Number.POSITIVE_INFINITY, 'a', 'b'), 0, 'cut apart, the second need not have seen it');
  assert.equal(check(replaced, 0, 'a', 'b'), 1, 'in order, it has');
  assert.equal(check([set(0, 'a', {}, 20), set(10, 'b', {}, 20)], 0, 'a', 'b'), 0, 'at the same time');
  assert.equal(check([set(0, 'a', { result: 'error' })], 0, 'a'), 1, 'refused, and there');
  assert.equal(check([set(0, 'a')], 0, 'z'), 1, 'nobody wrote it');
  const short = { ttlMs: 50 };
  assert.equal(check([set(0, 'a', short)], 0, 'a'), 1, 'past its deadline');
  assert.equal(check([set(9900, 'a', short)], 0, 'a'), 0, 'within the error of clocks');
  assert.equal(check([set(0, 'a', short), at(5, 'pexpire', { ttlMs: 20_000, reply: '1' })], 0, 'a'), 0, 'prolonged');
});

// ---------------------------------------------------------------------- siblings

test('siblings: exactly those that nobody replaced', () => {
  nextId = 1;
  const a = at(0, 'dset', { value: 'a' });
  const b = at(2, 'dset', { value: 'b' });
  const both = at(4, 'dget', { values: ['b', 'a'] });
  const early = at(1.5, 'dget', { values: ['a'] });
  const c = at(6, 'dset', { value: 'c', seenOp: both.id });
  const d = at(6, 'dset', { value: 'd', seenOp: early.id });
  const maybe = at(6, 'dset', { value: 'e', seenOp: both.id, ...unknown });
  const check = (ops: Op[], ...values: string[]) => problems(checkSiblings(ops, final(...values)));
  assert.equal(check([a, b], 'a', 'b'), 0);
  assert.equal(check([a, b], 'b'), 1, 'a sibling is lost');
  assert.equal(check([a, b, both, c], 'c'), 0);
  assert.equal(check([a, b, both, c], 'a', 'c'), 1, 'a is undead');
  assert.equal(check([a, b, early, d], 'b', 'd'), 0);
  assert.equal(check([a, b, early, d], 'd'), 1, 'd had not seen b');
  assert.equal(check([a, b, both, early, c, d], 'c', 'd'), 0, 'two that saw the same stay side by side');
  assert.equal(check([a, b, both, maybe], 'a', 'b'), 0);
  assert.equal(check([a, b, both, maybe], 'e'), 0);
  assert.equal(check([a, b], 'a', 'b', 'z'), 1, 'nobody wrote z');
  assert.equal(check([a, b], 'a', 'a', 'b'), 1, 'twice');
  assert.equal(check([a, at(1, 'dset', { value: 'x', result: 'error' })], 'a', 'x'), 1, 'refused, and there');
  // what a DSET gave back covers what it was given and itself, not what else was there
  const chained = at(8, 'dset', { value: 'f', seenOp: b.id });
  assert.equal(check([a, b, chained], 'a', 'f'), 0);
  assert.equal(check([a, b, chained], 'f'), 1, 'a was never shown to it');
  assert.equal(check([a, at(3, 'ddel', { seenOp: early.id }), early]), 0);
});

test('sibling reads: exact, up to what goes on at the same time', () => {
  nextId = 1;
  const a = at(0, 'dset', { value: 'a' });
  const b = at(2, 'dset', { value: 'b' }, 10);
  const read = (start: number, ...values: string[]) => at(start, 'dget', { values });
  const check = (...reads: Op[]) => problems(checkSiblingReads([a, b, ...reads], 0, 100));
  assert.equal(check(read(5, 'a'), read(5, 'a', 'b'), read(20, 'a', 'b')), 0);
  assert.equal(check(read(20, 'a')), 1);
  assert.equal(check(read(5)), 1);
});

// ---------------------------------------------------------------------- order

const whole = [{ fromMs: 0, toMs: Number.POSITIVE_INFINITY }];
const order = (...ops: Op[]) => problems(checkOrder(ops, whole));

test('order: reads and writes one after another, or overlapping', () => {
  assert.equal(order(set(0, 'a'), get(2, 'a'), set(4, 'b'), get(6, 'b')), 0);
  assert.equal(order(set(0, 'a'), set(2, 'b'), get(4, 'a')), 1, 'stale');
  assert.equal(order(set(0, 'a'), set(2, 'b', {}, 10), get(3, 'a'), get(5, 'b')), 0);
  assert.equal(order(set(0, 'a'), set(2, 'b', {}, 10), get(3, 'b'), get(5, 'a')), 1, 'back in time');
  assert.equal(order(get(0, null), set(1, 'a'), get(3, null)), 1);
});

test('order: counters, locks, deletes', () => {
  const incr = (start: number, reply: string, ms = 1) => at(start, 'incr', { reply }, ms);
  assert.equal(order(incr(0, '2', 10), incr(0, '1', 10), incr(0, '3', 10)), 0);
  assert.equal(order(incr(0, '1', 10), incr(0, '1', 10)), 1, 'one increment lost');
  assert.equal(order(set(0, '5'), incr(2, '6'), at(4, 'del', { reply: '1' }), incr(6, '1')), 0);
  const lock = (start: number, value: string, reply: string) => at(start, 'setnx', { value, reply }, 5);
  assert.equal(order(lock(0, 'a', '1'), lock(1, 'b', '0'), get(9, 'a')), 0);
  assert.equal(order(lock(0, 'a', '1'), lock(1, 'b', '1')), 1, 'both won');
  assert.equal(
    order(set(0, 'a'), at(2, 'getdel', { reply: 'a' }, 5), at(2, 'getdel', { reply: 'a' }, 5)),
    1,
    'taken twice',
  );
  assert.equal(
    order(at(0, 'append', { value: 'ab', reply: '2' }), at(2, 'append', { value: 'c', reply: '3' }), get(4, 'abc')),
    0,
  );
});

test('order: a doubtful write may have happened, late or never', () => {
  const doubtful = set(0, 'a', unknown);
  assert.equal(order(doubtful, get(2, null), get(4, 'a'), get(6, 'a')), 0);
  assert.equal(order(doubtful, get(2, null), get(4, null)), 0);
  assert.equal(order(doubtful, get(2, 'a'), get(4, null)), 1);
});

test('order: a window judges what is within it, from a state that nobody knows', () => {
  const ops = [set(0, 'a'), set(10, 'b'), get(20, 'a'), get(30, 'a'), get(40, 'b')];
  assert.equal(problems(checkOrder(ops, [{ fromMs: 15, toMs: 35 }])), 0);
  assert.equal(problems(checkOrder(ops, [{ fromMs: 15, toMs: 50 }])), 1);
  assert.equal(problems(checkOrder(ops, [{ fromMs: 5, toMs: 25 }])), 1);
});

test('order: deadlines are not judged', () => {
  assert.equal(order(set(0, 'a', { ttlMs: 5 }), get(20, null)), 0);
});

test('order: agrees with trying every permutation', () => {
  const random = new SeededRandom(11);
  const names = ['set', 'get', 'incr', 'setnx', 'del', 'getdel'] as const;
  let refused = 0;
  for (let round = 0; round < 400; round++) {
    const ops: Op[] = [];
    const n = 2 + random.int(4);
    for (let i = 0; i < n; i++) {
      const name = names[random.int(names.length)];
      const reply = {
        set: 'OK',
        get: pick(),
        incr: ['1', '2', '3'][random.int(3)],
        setnx: bit(),
        del: bit(),
        getdel: pick(),
      }[name];
      ops.push(
        at(
          random.int(8),
          name,
          {
            value: name === 'set' || name === 'setnx' ? ['1', '2'][random.int(2)] : null,
            reply,
            result: random.next() < 0.15 && name !== 'get' ? 'unknown' : 'ok',
          },
          1 + random.int(6),
        ),
      );
      const last = ops[i];
      if (last.result === 'unknown') last.respondMs = Number.POSITIVE_INFINITY;
    }
    const want = possible(ops, null, new Set());
    const got = linearize(ops, null) === null;
    assert.equal(got, want, JSON.stringify(ops, null, 1));
    if (!want) refused++;
  }
  assert.ok(refused > 50 && refused < 350, `${refused}`);

  function pick(): string | null {
    return [null, '1', '2', '3'][random.int(4)];
  }
  function bit(): string {
    return String(random.int(2));
  }
});

/** By brute force: does any order of these, in which what ended first comes first, explain all answers? */
function possible(ops: Op[], state: string | null, done: Set<Op>): boolean {
  const open = ops.filter((o) => !done.has(o));
  if (open.every((o) => o.result === 'unknown')) return true;
  for (const o of open) {
    if (open.some((p) => p !== o && p.respondMs < o.invokeMs)) continue;
    const next = apply(state, o);
    if (next === undefined) continue;
    if (possible(ops, next, new Set([...done, o]))) return true;
  }
  return false;
}

function apply(state: string | null, o: Op): string | null | undefined {
  const says = (answer: string | null) => o.result === 'unknown' || o.reply === answer;
  if (o.name === 'get') return says(state) ? state : undefined;
  if (o.name === 'set') return o.value;
  if (o.name === 'incr') return says(String(Number(state ?? 0) + 1)) ? String(Number(state ?? 0) + 1) : undefined;
  if (o.name === 'setnx') return says(state === null ? '1' : '0') ? (state ?? o.value) : undefined;
  if (o.name === 'del') return says(state === null ? '0' : '1') ? null : undefined;
  return says(state) ? null : undefined;
}

test('order: a long and busy history is decided quickly', () => {
  const random = new SeededRandom(5);
  const ops: Op[] = [];
  let n = 0;
  for (let t = 0; t < 3000; t++) {
    // effects in order of t, calls and answers around them
    const start = t - random.next() * 4;
    const reads = random.next() < 0.5;
    if (!reads) n++;
    ops.push(at(start, reads ? 'get' : 'incr', { reply: n === 0 ? null : String(n) }, t - start + random.next() * 4));
  }
  assert.equal(linearize(ops, null), null);
  ops[2000] = { ...ops[2000], reply: '1' };
  assert.notEqual(linearize(ops, null), null);
});

// ---------------------------------------------------------------------- bounded

test('bounded: at the floor, or named', () => {
  const nodes = new Map<number, Record<string, number>>([
    [0, { hints: 0, queue: 3 }],
    [1, { hints: 2 }],
  ]);
  assert.deepEqual(checkBounded(nodes, { hints: 0, queue: 5 }).problems, ['n1: hints is 2, and should be 0 at most']);
});
