/** Gossip: a join that has the laws, exchanges that spread everything, and what must never be forgotten. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hash52 } from '../base/hash.ts';
import { SeededRandom } from '../sim/random.ts';
import { type Entry, effectiveMark, type Facts, Gossip, type GossipChange, MARKS, mergeEntries } from './gossip.ts';

const idOf = (i: number) => hash52(`node ${i}`).toString(16).padStart(40, '0');
const small = fc.nat({ max: 3 });

const facts: fc.Arbitrary<Facts> = fc.record(
  {
    session: small,
    nonce: small,
    heartbeat: small,
    incarnation: small,
    bus: fc.constantFrom('a:1', 'b:1', ''),
    client: fc.constantFrom('a:2', 'b:2'),
    host: fc.constantFrom('a', 'b'),
    zone: fc.constantFrom('', 'z'),
    weight: small,
    layout: fc.record({ version: small, hash: small }, { noNullPrototype: true }),
    leaving: fc.boolean(),
  },
  { noNullPrototype: true },
);
const entry = (id: fc.Arbitrary<number>): fc.Arbitrary<Entry> =>
  fc.record(
    { id: id.map(idOf), facts, markedIncarnation: small, mark: fc.constantFrom(...MARKS) },
    { noNullPrototype: true },
  );
const same = entry(fc.constant(1));

test('merging is idempotent, commutative and associative, and never goes back', () => {
  fc.assert(
    fc.property(same, same, same, (a, b, c) => {
      assert.deepEqual(mergeEntries(a, a), a);
      assert.deepEqual(mergeEntries(a, b), mergeEntries(b, a));
      assert.deepEqual(mergeEntries(mergeEntries(a, b), c), mergeEntries(a, mergeEntries(b, c)));
      const ab = mergeEntries(a, b);
      assert.deepEqual(mergeEntries(ab, b), ab);
      assert.ok(ab.facts.session >= a.facts.session && ab.markedIncarnation >= a.markedIncarnation);
    }),
    { numRuns: 2000 },
  );
});

function node(i: number, seeds: string[] = [], over: Partial<Facts> = {}): Gossip {
  const own = {
    session: 1,
    nonce: 7,
    incarnation: 1,
    bus: `h${i}:16379`,
    client: `h${i}:6379`,
    host: `h${i}`,
    zone: '',
    weight: 1,
    layout: { version: 0, hash: 0 },
    leaving: false,
    ...over,
  };
  return new Gossip(idOf(i), own, seeds);
}

/** One exchange; gives what both have learnt. */
function exchange(a: Gossip, b: Gossip): GossipChange[] {
  const changes: GossipChange[] = [];
  let message: Buffer | null = a.digest();
  let to = b;
  for (let i = 0; message !== null; i++) {
    assert.ok(i < 3, 'an exchange has three messages');
    const got: { reply: Buffer | null; changes: GossipChange[] } = to.receive(message);
    changes.push(...got.changes);
    message = got.reply;
    to = to === a ? b : a;
  }
  return changes;
}

test('after one exchange both know what either knew, and a second one says nothing', () => {
  const states = fc.array(entry(fc.integer({ min: 5, max: 9 })), { maxLength: 8, size: 'max' });
  fc.assert(
    fc.property(states, states, (x, y) => {
      const a = node(1);
      const b = node(2);
      for (const e of x) a.merge(e);
      for (const e of y) b.merge(e);
      const all = node(1);
      for (const e of [...a.entries(), ...b.entries()]) all.merge(e);
      exchange(a, b);
      // facts of one version with different content can't come from one node; the digest does not look into them
      const versions = (g: Gossip) =>
        g.entries().map((e) => [e.id, e.facts.session, e.facts.nonce, e.facts.heartbeat, e.markedIncarnation, e.mark]);
      assert.deepEqual(versions(a), versions(all));
      assert.deepEqual(versions(b), versions(all));
      assert.equal(a.receive(b.digest()).reply, null);
    }),
  );
});

test('history comes back, and damaged bytes are refused', () => {
  fc.assert(
    fc.property(fc.array(entry(fc.integer({ min: 5, max: 9 }))), fc.nat(), (list, cut) => {
      const a = node(1, ['s1:1', 's2:1']);
      for (const e of list) a.merge(e);
      const bytes = a.history();
      const b = node(1, ['s3:1']);
      b.restore(bytes);
      assert.deepEqual(b.entries(), a.entries());
      assert.deepEqual(b.seeds, ['s3:1', 's1:1', 's2:1']);
      assert.throws(() => node(1).restore(bytes.subarray(0, cut % bytes.length)));
      const digest = a.digest();
      assert.throws(() => node(1).receive(digest.subarray(0, cut % digest.length)));
    }),
  );
});

test('fifty nodes that know one seed each know all within a few rounds', () => {
  const random = new SeededRandom(7);
  // two islands that have one seed in common
  const nodes = Array.from({ length: 50 }, (_, i) => node(i, [`h${i < 25 ? 0 : 25}:16379`, 'h0:16379']));
  const at = new Map(nodes.map((n) => [n.self.facts.bus, n]));
  let rounds = 0;
  while (nodes.some((n) => n.entries().length < 50)) {
    assert.ok(++rounds < 15, 'gossip does not spread');
    for (const n of nodes) {
      n.beat();
      for (const address of n.partners(random)) exchange(n, at.get(address)!);
    }
  }
  const before = nodes[9].entry(idOf(3))!.facts.heartbeat;
  nodes[3].change({ leaving: true });
  let news = 0;
  for (let i = 0; i < 8; i++) {
    for (const n of nodes) for (const address of n.partners(random)) news += exchange(n, at.get(address)!).length;
  }
  assert.ok(nodes.every((n) => n.entry(idOf(3))!.facts.leaving));
  assert.ok(nodes[9].entry(idOf(3))!.facts.heartbeat > before);
  assert.equal(news, 49, 'each of the others learns it once');
});

test('seeds are contacted for ever, down or marked as they may be', () => {
  const random = new SeededRandom(1);
  const a = node(1, ['h1:16379', 'h2:16379', 'lost:16379']);
  exchange(a, node(2));
  a.mark(idOf(2), 'expelled');
  const met = new Set<string>();
  for (let i = 0; i < 500; i++) for (const p of a.partners(random)) met.add(p);
  assert.deepEqual([...met].sort(), ['h2:16379', 'lost:16379'], 'and never ourselves');
});

test('a node that was expelled is told, and comes back as a new incarnation', () => {
  const a = node(1);
  const b = node(2);
  exchange(a, b);
  a.mark(idOf(2), 'left');
  a.mark(idOf(2), 'expelled');
  a.mark(idOf(2), 'left');
  assert.equal(effectiveMark(a.entry(idOf(2))!), 'expelled');
  assert.deepEqual(exchange(a, b), [{ kind: 'expelled' }]);
  b.restart({ ...b.self.facts, session: 2, nonce: 8, incarnation: 2 });
  const changes = exchange(b, a).map((c) => c.kind);
  assert.deepEqual(changes, ['restarted', 'marked']);
  assert.equal(effectiveMark(a.entry(idOf(2))!), 'none');
  // an old copy of the gossip does not undo it
  const old = node(3);
  old.merge({ ...a.entry(idOf(2))!, facts: { ...b.self.facts, session: 1, incarnation: 1, heartbeat: 99 } });
  exchange(old, a);
  assert.equal(effectiveMark(a.entry(idOf(2))!), 'none');
});

test('a node whose disk went back learns it from its peers', () => {
  const before = node(2, [], { session: 5, incarnation: 1 });
  const a = node(1);
  exchange(before, a);
  const restored = node(2, [], { session: 4, incarnation: 1 });
  const changes = exchange(restored, a);
  assert.deepEqual(changes[0], { kind: 'superseded', session: 5, incarnation: 1 });
  restored.beat();
  assert.equal(restored.self.facts.heartbeat, before.self.facts.heartbeat, 'it says nothing under the later session');
  restored.restart({ ...restored.self.facts, session: 6, nonce: 9, incarnation: 2 });
  assert.equal(exchange(restored, a)[0].kind, 'restarted');
});

test('a disk that went back and counted up to the same session is found out, whoever has beaten more often', () => {
  for (const [beats, nonce] of [
    [0, 3],
    [0, 9],
    [50, 3],
    [50, 9],
  ]) {
    const before = node(2);
    for (let i = 0; i < 10; i++) before.beat();
    const a = node(1);
    exchange(before, a);
    const restored = node(2, [], { nonce });
    for (let i = 0; i < beats; i++) restored.beat();
    for (const [x, y] of [
      [a, restored],
      [restored, a],
    ]) {
      const found = exchange(x, y).some((c) => c.kind === 'superseded');
      if (x === a) assert.ok(found, `${beats} beats, nonce ${nonce}`);
    }
  }
});

test('whoever hears of a better layout is told where it is', () => {
  const a = node(1, [], { layout: { version: 3, hash: 10 } });
  const b = node(2, [], { layout: { version: 3, hash: 11 } });
  const changes = exchange(a, b);
  assert.deepEqual(
    changes.filter((c) => c.kind === 'layout'),
    [{ kind: 'layout', id: idOf(2), layout: { version: 3, hash: 11 } }],
  );
});
