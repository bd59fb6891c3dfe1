/**
 * Quorum reads, exhaustively: every order in which results can come, for small clusters, against what the rules promise.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Comparison, type ReadAction, ReadQuorum } from './quorum.ts';

const LIST = ['a', 'b', 'c', 'd', 'e'];

const all = () => true;
const ends = (actions: { do: string }[]) => actions.map((x) => x.do).filter((x) => x !== 'ask');

function* subsets(list: string[]): Generator<string[]> {
  for (let mask = 0; mask < 2 ** list.length; mask++) yield list.filter((_, i) => mask & (1 << i));
}

interface ReadCase {
  members: number;
  n: number;
  r: number;
  min: number;
  self: string;
  selfHolds: boolean;
  unhealthy: string[];
}

type ReadEvent =
  | { node: string; kind: 'reply'; comparison: Comparison; holds: boolean }
  | { node: string; kind: 'fetched'; news: boolean; behind: boolean }
  | { node: string; kind: 'failed' | 'hedge' };

function replayRead(c: ReadCase, events: ReadEvent[]) {
  const list = LIST.slice(0, c.members);
  const homes = Math.min(c.n, c.members);
  const q = new ReadQuorum({
    replicas: { list, homes },
    r: c.r,
    min: c.min,
    self: c.self,
    selfHolds: c.selfHolds,
    isHealthy: (x) => !c.unhealthy.includes(x),
  });
  const log: ReadAction[][] = [q.start()];
  for (const e of events) {
    if (e.kind === 'reply') log.push(q.replied(e.node, e.comparison, e.holds));
    else if (e.kind === 'fetched') log.push(q.fetched(e.node, e.news, e.behind));
    else log.push(e.kind === 'failed' ? q.failed(e.node) : q.hedge(e.node));
  }
  return { q, log, list, homes };
}

function checkRead(c: ReadCase, events: ReadEvent[]): ReadEvent[] {
  const { q, log, list, homes } = replayRead(c, events);
  const actions = log.flat();
  const outcomes = actions.filter((x) => x.do === 'answer' || x.do === 'fail');
  assert.ok(outcomes.length <= 1);
  const asked = actions.flatMap((x) => (x.do === 'ask' ? [x.node] : []));
  assert.equal(new Set(asked).size, asked.length, 'asked twice');
  assert.ok(!asked.includes(c.self));
  const r = Math.min(c.r, homes);
  const isHome = (x: string) => list.indexOf(x) < homes;
  const settled = new Map<string, boolean>([[c.self, isHome(c.self) || c.selfHolds]]);
  const holds = new Map<string, boolean>();
  const waiting = new Map<string, 'asked' | 'fetching'>(asked.map((x) => [x, 'asked']));
  for (const e of events) {
    if (e.kind === 'reply') {
      holds.set(e.node, e.holds);
      if (e.comparison === 'differs') waiting.set(e.node, 'fetching');
      else {
        waiting.delete(e.node);
        settled.set(e.node, isHome(e.node) || e.holds);
      }
    } else if (e.kind === 'fetched') {
      waiting.delete(e.node);
      settled.set(e.node, isHome(e.node) || (holds.get(e.node) ?? false));
    } else if (e.kind === 'failed') waiting.delete(e.node);
  }
  const replicas = [...settled.values()].filter(Boolean).length;
  const end = outcomes[0];
  if (end === undefined) {
    assert.ok(waiting.size > 0, 'open with nobody to wait for');
    assert.ok(settled.size < r || replicas < Math.min(c.min, r), 'there is enough and no answer');
  } else if (end.do === 'answer') {
    assert.ok(end.replicas >= 1, 'a made-up nil');
    assert.ok(end.degraded || end.replicas >= Math.min(c.min, r));
    // everybody at home who is known to be behind is repaired
    for (const e of events) {
      if (e.kind === 'reply' && e.comparison === 'behind' && isHome(e.node))
        assert.ok(actions.some((x) => x.do === 'repair' && x.node === e.node));
    }
  } else {
    assert.ok(replicas < Math.max(1, c.min) && waiting.size === 0);
    // nobody who is healthy, and no home replica, was left unasked
    for (const x of list)
      if (x !== c.self && (isHome(x) || !c.unhealthy.includes(x))) assert.ok(asked.includes(x), `${x} was not asked`);
  }
  if (!q.isOpen) return [];
  const next: ReadEvent[] = [];
  for (const [node, state] of waiting) {
    next.push({ node, kind: 'failed' });
    if (state === 'fetching') next.push({ node, kind: 'fetched', news: true, behind: true });
    else {
      next.push({ node, kind: 'reply', comparison: 'equal', holds: c.selfHolds });
      next.push({ node, kind: 'reply', comparison: 'behind', holds: false });
      next.push({ node, kind: 'reply', comparison: 'differs', holds: true });
      if (!events.some((e) => e.kind === 'hedge')) next.push({ node, kind: 'hedge' });
    }
  }
  return next;
}

test('reads: every order of every result keeps the rules', () => {
  let runs = 0;
  for (const members of [1, 2, 3, 4]) {
    for (const [r, min] of [
      [1, 1],
      [2, 1],
      [2, 2],
      [3, 1],
    ]) {
      for (const self of LIST.slice(0, members)) {
        for (const unhealthy of subsets(LIST.slice(0, members).filter((x) => x !== self))) {
          for (const selfHolds of [true, false]) {
            const c = { members, n: 2, r, min, self, selfHolds, unhealthy };
            const explore = (events: ReadEvent[]) => {
              runs++;
              for (const e of checkRead(c, events)) explore([...events, e]);
            };
            explore([]);
          }
        }
      }
    }
  }
  assert.ok(runs > 10_000, `${runs}`);
});

const read = (over: Partial<ConstructorParameters<typeof ReadQuorum>[0]> = {}) =>
  new ReadQuorum({
    replicas: { list: LIST, homes: 3 },
    r: 2,
    min: 1,
    self: 'a',
    selfHolds: true,
    isHealthy: all,
    ...over,
  });

test('the calm read asks R - 1 and answers at once', () => {
  const q = read();
  assert.deepEqual(q.start(), [{ do: 'ask', node: 'b' }]);
  assert.deepEqual(q.replied('b', 'equal', true), [{ do: 'answer', replicas: 2, homes: 2, degraded: false }]);
  assert.deepEqual(read({ r: 1 }).start(), [{ do: 'answer', replicas: 1, homes: 1, degraded: false }]);
});

test('a peer that is behind is repaired, one that differs is fetched first, and then who is behind that', () => {
  const q = read({ r: 3 });
  q.start();
  assert.deepEqual(q.replied('b', 'behind', true), []);
  assert.deepEqual(q.replied('c', 'differs', true), [{ do: 'fetch', node: 'c' }]);
  assert.deepEqual(q.fetched('c', true, false), [
    { do: 'answer', replicas: 3, homes: 3, degraded: false },
    { do: 'repair', node: 'b' },
  ]);
});

test('whoever was equal before a fetch brought news is behind after it', () => {
  const q = read({ r: 3 });
  q.start();
  q.replied('b', 'equal', true);
  q.replied('c', 'differs', true);
  assert.deepEqual(
    q.fetched('c', true, true).flatMap((x) => (x.do === 'repair' ? [x.node] : [])),
    ['b', 'c'],
  );
});

test('a slow peer: another is asked, the first to come counts, the late one is repaired', () => {
  const q = read();
  q.start();
  assert.deepEqual(q.hedge('b'), [{ do: 'ask', node: 'c' }]);
  assert.deepEqual(ends(q.replied('c', 'equal', true)), ['answer']);
  assert.deepEqual(q.replied('b', 'behind', true), [{ do: 'repair', node: 'b' }]);
});

test('cut off with nothing: an error, and with a hinted copy its content', () => {
  const alone = { self: 'e', isHealthy: (x: string) => x === 'e' };
  const nothing = read({ ...alone, selfHolds: false });
  nothing.start();
  nothing.failed('a');
  nothing.failed('b');
  assert.deepEqual(nothing.failed('c'), [{ do: 'fail', replicas: 0 }]);
  const held = read({ ...alone, selfHolds: true });
  held.start();
  held.failed('a');
  held.failed('b');
  assert.deepEqual(held.failed('c'), [{ do: 'answer', replicas: 1, homes: 0, degraded: true }]);
});

test('a client that insists on R replicas gets them or an error', () => {
  const q = read({ min: 2, isHealthy: (x) => x === 'a' || x === 'd' });
  q.start();
  q.replied('d', 'behind', false);
  q.failed('b');
  assert.deepEqual(ends(q.failed('c')), ['fail']);
});
