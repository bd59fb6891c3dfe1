/**
 * Quorums, exhaustively: every order in which results can come, for small clusters, against what the rules promise.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Comparison, type ReadAction, ReadQuorum, type WriteAction, WriteQuorum } from './quorum.ts';

const LIST = ['a', 'b', 'c', 'd', 'e'];

interface WriteCase {
  members: number;
  n: number;
  w: number;
  min: number;
  dependsOnState: boolean;
  unhealthy: string[];
}

type WriteEvent = { node: string; result: 'clean' | 'news' | 'failed' };

function* subsets(list: string[]): Generator<string[]> {
  for (let mask = 0; mask < 2 ** list.length; mask++) yield list.filter((_, i) => mask & (1 << i));
}

/** Runs a prefix of events and gives what is open then. */
function replay(c: WriteCase, events: WriteEvent[]) {
  const list = LIST.slice(0, c.members);
  const homes = Math.min(c.n, c.members);
  const q = new WriteQuorum({
    groups: [{ list, homes }],
    w: c.w,
    min: c.min,
    dependsOnState: c.dependsOnState,
    isHealthy: (x) => !c.unhealthy.includes(x),
  });
  const log: WriteAction[][] = [q.start()];
  for (const e of events) log.push(e.result === 'failed' ? q.failed(e.node) : q.acked(e.node, e.result === 'news'));
  const sent = log.flat().flatMap((x) => (x.do === 'send' ? [x] : []));
  const pending = sent.map((x) => x.node).filter((x) => !events.some((e) => e.node === x));
  return { q, log, sent, pending, homes, list };
}

function checkWrite(c: WriteCase, events: WriteEvent[]): void {
  const { log, sent, pending, homes, list } = replay(c, events);
  const actions = log.flat();
  const ends = actions.filter((x) => x.do === 'answer' || x.do === 'fail' || x.do === 'rerun');
  assert.ok(ends.length <= 1, 'one outcome');
  const isHome = (x: string) => list.indexOf(x) < homes;
  const result = (x: string) => events.find((e) => e.node === x)?.result;
  const acks = sent.filter((s) => result(s.node) === 'clean' || result(s.node) === 'news');
  const w = Math.min(c.w, homes);
  // sends: every home replica once, fallbacks only for owners that are unhealthy or failed, one at a time each
  assert.deepEqual(
    sent.filter((s) => s.hintFor === null).map((s) => s.node),
    list.slice(0, homes),
  );
  for (const s of sent) {
    if (s.hintFor === null) continue;
    assert.ok(!isHome(s.node) && isHome(s.hintFor) && !c.unhealthy.includes(s.node));
    assert.ok(c.unhealthy.includes(s.hintFor) || result(s.hintFor) === 'failed', 'a stand-in for somebody who is well');
  }
  for (const owner of list.slice(0, homes)) {
    const standing = sent.filter((s) => s.hintFor === owner && result(s.node) !== 'failed');
    assert.ok(standing.length <= 1);
    const absent = c.unhealthy.includes(owner) || result(owner) === 'failed';
    const open = ends.length === 0;
    if (absent && open) {
      const remembered = actions.some((x) => x.do === 'remember' && x.owner === owner);
      assert.ok(standing.length === 1 || remembered, `nobody stands in for ${owner}`);
    }
  }
  const news = events.find((e) => e.result === 'news');
  const end = ends[0];
  if (end === undefined) {
    assert.ok(pending.length > 0, 'open with nobody to wait for');
    return;
  }
  if (end.do === 'rerun') {
    assert.ok(c.dependsOnState && news);
    return;
  }
  if (!c.dependsOnState && news) assert.ok(actions.some((x) => x.do === 'fetch' && x.node === news.node));
  if (end.do === 'answer') {
    assert.ok(end.copies >= 1);
    if (end.degraded) assert.ok(end.copies >= c.min && end.copies <= acks.length);
    else {
      // what counted at that moment: replay up to the answer
      const upTo = log.findIndex((x) => x.includes(end));
      const seen = events.slice(0, upTo);
      const at = (x: string) => seen.find((e) => e.node === x)?.result;
      const home = sent.filter((s) => s.hintFor === null && ['clean', 'news'].includes(at(s.node) ?? '')).length;
      const stand = sent.filter((s) => s.hintFor !== null && ['clean', 'news'].includes(at(s.node) ?? ''));
      const valid = c.dependsOnState ? stand.filter((s) => at(s.hintFor!) === 'failed') : stand;
      assert.ok(home + valid.length >= w, 'too few acks');
      if (c.dependsOnState) assert.ok(!seen.some((e) => e.result === 'news'), 'answered in spite of news');
    }
  } else assert.ok(end.copies < Math.max(1, c.min) || c.dependsOnState);
}

test('writes: every order of every result keeps the rules', () => {
  let runs = 0;
  for (const members of [1, 2, 3, 4, 5]) {
    for (const n of [1, 3]) {
      for (const [w, min] of [
        [1, 1],
        [2, 1],
        [2, 2],
        [3, 1],
      ]) {
        for (const dependsOnState of [false, true]) {
          for (const unhealthy of subsets(LIST.slice(1, members))) {
            const c = { members, n, w, min, dependsOnState, unhealthy };
            const explore = (events: WriteEvent[]) => {
              runs++;
              checkWrite(c, events);
              const { pending, q } = replay(c, events);
              if (!q.isOpen) return;
              for (const node of pending) {
                for (const result of ['clean', 'news', 'failed'] as const) explore([...events, { node, result }]);
              }
            };
            explore([]);
          }
        }
      }
    }
  }
  assert.ok(runs > 50_000, `${runs}`);
});

const all = () => true;
const write = (over: Partial<ConstructorParameters<typeof WriteQuorum>[0]> = {}) =>
  new WriteQuorum({
    groups: [{ list: LIST, homes: 3 }],
    w: 2,
    min: 1,
    dependsOnState: true,
    isHealthy: all,
    ...over,
  });
const ends = (actions: { do: string }[]) => actions.map((x) => x.do).filter((x) => !['send', 'ask'].includes(x));

test('a stand-in’s ack waits for the owner’s real timeout when the reply depends on state', () => {
  const isHealthy = (x: string) => x !== 'b' && x !== 'c';
  const plain = write({ dependsOnState: false, isHealthy });
  const sends = plain.start().map((x) => (x.do === 'send' ? `${x.node}:${x.hintFor}` : x.do));
  assert.deepEqual(sends, ['a:null', 'b:null', 'c:null', 'd:b', 'e:c']);
  plain.acked('a', false);
  assert.deepEqual(ends(plain.acked('d', false)), ['answer']);

  const strict = write({ isHealthy });
  strict.start();
  strict.acked('a', false);
  assert.deepEqual(ends(strict.acked('d', false)), []);
  assert.deepEqual(ends(strict.acked('e', false)), []);
  assert.deepEqual(ends(strict.failed('c')), ['answer']);
});

test('news before the reply means run again, after it only fetch', () => {
  const q = write();
  q.start();
  assert.deepEqual(q.acked('b', true), [{ do: 'rerun', node: 'b' }]);
  assert.deepEqual(q.acked('a', false), []);
  const late = write();
  late.start();
  late.acked('a', false);
  assert.deepEqual(ends(late.acked('b', false)), ['answer']);
  assert.deepEqual(late.acked('c', true), [{ do: 'fetch', node: 'c' }]);
});

test('with no home replica: plain writes are taken, replies that depend on state are not', () => {
  for (const dependsOnState of [false, true]) {
    const q = write({ dependsOnState, isHealthy: (x) => x === 'e' });
    q.start();
    q.acked('e', false);
    for (const x of ['a', 'b'])
      assert.deepEqual(
        ends(q.failed(x)).filter((y) => y !== 'remember'),
        [],
      );
    const last = ends(q.failed('c')).filter((y) => y !== 'remember');
    assert.deepEqual(last, dependsOnState ? ['fail'] : ['answer']);
  }
});

test('while a range moves, W of the old and W of the new owners', () => {
  const groups = [
    { list: ['a', 'b', 'c', 'd', 'e', 'f'], homes: 3 },
    { list: ['d', 'b', 'e', 'a', 'c', 'f'], homes: 3 },
  ];
  const q = write({ groups });
  assert.equal(q.start().length, 5);
  assert.deepEqual(ends(q.acked('a', false)), []);
  assert.deepEqual(ends(q.acked('c', false)), [], 'two old ones, no new one');
  assert.deepEqual(ends(q.acked('d', false)), []);
  assert.deepEqual(ends(q.acked('b', false)), ['answer']);
});

test('a deadline: what there is must do', () => {
  const q = write({ dependsOnState: false, min: 1 });
  q.start();
  q.acked('a', false);
  assert.deepEqual(q.expire(), [{ do: 'answer', copies: 1, degraded: true }]);
  const strict = write({ min: 2 });
  strict.start();
  strict.acked('a', false);
  assert.deepEqual(strict.expire(), [{ do: 'fail', copies: 1 }]);
});

// ---------------------------------------------------------------------- reads

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
