import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteReader } from '../base/bytes.ts';
import { Absences, judge, MAX_LOOK_MS, type Sighting, type Situation } from './absence.ts';

const GRACE = 10_000;

function member(id: string, fields: Partial<Sighting> = {}): Sighting {
  return { id, well: true, heardAt: null, pulse: { session: 1, nonce: 1, heartbeat: 1 }, ...fields };
}

const away = (id: string, heartbeat = 1) => member(id, { well: false, pulse: { session: 1, nonce: 1, heartbeat } });

/** One look a second, for so long; gives the time of the last. */
function watch(a: Absences, members: readonly Sighting[], seconds: number, from = 0): number {
  for (let i = 0; i <= seconds; i++) a.look(from + i * 1000, members);
  return from + seconds * 1000;
}

test('time counts while a majority is seen, and a stall of our own counts for little', () => {
  const a = new Absences();
  const members = [member('a'), member('b'), away('c')];
  let now = watch(a, members, 5);
  assert.equal(a.awayMs('c'), 5000);
  assert.equal(a.awayMs('b'), 0);
  now = watch(a, [member('a'), away('b'), away('c')], 60, now + 1000);
  assert.equal(a.awayMs('c'), 5000, 'one of three may be the one that is cut off');
  assert.equal(a.awayMs('b'), 0);
  a.look(now + 3_600_000, members);
  assert.equal(a.awayMs('c'), 5000 + MAX_LOOK_MS);
});

test('half of the members are no majority', () => {
  const a = new Absences();
  watch(a, [member('a'), away('b')], 100);
  watch(a, [member('a'), member('b'), away('c'), away('d')], 100);
  assert.equal(a.awayMs('c'), 0);
});

test('it begins anew when the member is well, when anything comes from it, and when others have heard it', () => {
  const a = new Absences();
  const rest = [member('a'), member('b')];
  const signs: ((now: number) => Sighting)[] = [
    () => member('c'),
    (now) => ({ ...away('c'), heardAt: now - 1 }),
    () => away('c', 2),
  ];
  let now = 0;
  for (const sign of signs) {
    now = watch(a, [...rest, away('c')], 5, now);
    assert.equal(a.awayMs('c'), 5000);
    a.look(now + 1000, [...rest, sign(now + 1000)]);
    assert.equal(a.awayMs('c'), 0);
    a.look(now + 2000, [...rest, member('c')]);
  }
});

test('a restart goes on counting, unless the member was seen meanwhile', () => {
  const a = new Absences();
  const now = watch(a, [member('a'), member('b'), away('c', 7), away('d', 7), member('e')], 9);
  assert.ok(now > 0);
  const b = new Absences();
  b.restore(new ByteReader(a.bytes()));
  // what gossip has after a restart may be older than what was known before it
  watch(b, [member('a'), member('b'), away('c', 3), away('d', 8), member('e')], 2);
  assert.equal(b.awayMs('c'), 11_000);
  assert.equal(b.awayMs('d'), 2000);
});

/** Four members with the ids a to d, partition p on p, p + 1 and p + 2. */
function situation(fields: Partial<Situation> & { away: string }): Situation {
  const ids = ['a', 'b', 'c', 'd', 'e'];
  return {
    self: ids.find((id) => !fields.away.includes(id))!,
    members: ids.map((id) => (fields.away.includes(id) ? away(id) : member(id))),
    awayMs: (id) => (fields.away.includes(id) ? GRACE : 0),
    graceMs: GRACE,
    n: 3,
    w: 2,
    partitions: 5,
    homes: (p) => [0, 1, 2].map((i) => ids[(p + i) % 5]),
    gaining: () => [],
    ...fields,
  };
}

test('the lowest of those that are well decides, and nobody before the time is over', () => {
  assert.deepEqual(judge(situation({ away: 'd' })), { expel: 'd' });
  assert.equal(judge(situation({ away: 'd', self: 'b' })), null);
  assert.deepEqual(judge(situation({ away: 'a' })), { expel: 'a' });
  assert.equal(judge(situation({ away: 'd', awayMs: () => GRACE - 1 })), null);
  assert.equal(judge(situation({ away: 'd', graceMs: 0 })), null);
  assert.equal(judge(situation({ away: 'cde' })), null, 'two of five');
});

test('not below N members, not below N - W + 1 of those who share a partition, and one after the other', () => {
  const keeps = (s: Situation) => {
    const v = judge(s);
    assert.ok(v !== null && 'keep' in v, JSON.stringify(v));
  };
  keeps(situation({ away: 'd', n: 5 }));
  // a and b share partitions that have only one more home: a write may be with these two alone
  keeps(situation({ away: 'ab' }));
  // with W = 1 it may be with any one alone
  keeps(situation({ away: 'd', w: 1 }));
  assert.deepEqual(judge(situation({ away: 'ab', w: 3 })), { expel: 'a' });
  // what moves and can arrive is waited for
  assert.equal(judge(situation({ away: 'd', gaining: (p) => (p === 0 ? ['e'] : []) })), null);
  // and what can't, because the very member is away, is not
  assert.deepEqual(judge(situation({ away: 'd', gaining: (p) => (p === 0 ? ['d'] : []) })), { expel: 'd' });
});
