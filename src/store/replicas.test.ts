/**
 * Three stores that exchange events, late, twice and out of order: after healing they hold the same states, no write is
 * lost, and a counter is its base and every increment that no overwrite saw.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { actorNumber } from '../causality/actors.ts';
import { slotOf, stretchOf } from '../ring/slots.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import { REGISTER } from '../types/kinds.ts';
import { fingerprint, type KeyEvent } from '../types/state.ts';
import { RECENT_NEWS } from './keyspace.ts';
import { MemoryEngine } from './memory-engine.ts';
import { StoredKey } from './object.ts';
import { eventOf, readRecord } from './records.ts';
import { decodeSimple, encodeObject } from './rows.ts';
import { Store } from './store.ts';

const SLOT = slotOf('k');

class Node {
  readonly store: Store;
  /** Events made here, with how many of each other's had been seen. */
  readonly events: KeyEvent[] = [];

  private constructor(store: Store) {
    this.store = store;
    store.keys.sole = false;
  }

  static async open(seed: number, time: VirtualTime): Promise<Node> {
    const store = await Store.open({
      engine: new MemoryEngine(),
      clock: time,
      timers: time,
      random: new SeededRandom(seed),
      log: new QuietLog(),
      databases: 1,
      partitions: 1,
      maxSiblings: 1000,
      sync: 'everysec',
    });
    return new Node(store);
  }

  /** Takes what the last operation recorded. */
  collect(): KeyEvent[] {
    const { w } = this.store.journal;
    const r = new ByteReader(w.take());
    w.reset();
    const made: KeyEvent[] = [];
    for (let record = readRecord(r); record !== null; record = readRecord(r)) {
      if (record.kind === 'event' || record.kind === 'overwrite' || record.kind === 'step') made.push(eventOf(record));
    }
    this.events.push(...made);
    return made;
  }

  receive(event: KeyEvent): void {
    const { keys } = this.store;
    keys.replay(keys.databases[0], 'k', event);
  }

  object() {
    return this.store.keys.object(this.store.keys.databases[0], 'k', SLOT);
  }

  text(): string | null {
    const o = this.store.keys.peek(this.store.keys.databases[0], 'k', SLOT);
    return o === null ? null : o.text();
  }
}

test('changes that leave a large context are counted', async () => {
  const who = await Node.open(1, new VirtualTime());
  const { stats } = who.store.keys;
  const event = (n: number): KeyEvent => {
    const actor = actorNumber(`writer${String(n).padStart(2, '0')}`);
    const to = 1_000_000 + n;
    const adds = [{ field: REGISTER, data: `v${n}`, num: 0, aux: '' }];
    return { actor, from: to - 1, to, covers: null, coversGone: [], removes: [], adds };
  };
  for (let n = 1; n <= 10; n++) who.receive(event(n));
  assert.equal(stats.largeContexts, 0);
  who.receive(event(11));
  assert.equal(stats.largeContexts, 1);
  who.receive(event(11));
  assert.equal(stats.largeContexts, 1, 'what changes nothing');
});

type Op =
  | { op: 'incr'; who: number; by: number }
  | { op: 'set'; who: number; to: number }
  | { op: 'del'; who: number }
  | { op: 'deliver'; which: number; again: boolean }
  | { op: 'tick' };

const who = fc.integer({ min: 0, max: 2 });
const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ op: fc.constant('incr' as const), who, by: fc.integer({ min: -3, max: 9 }) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('set' as const), who, to: fc.integer({ min: 0, max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('del' as const), who }) },
  {
    weight: 5,
    arbitrary: fc.record({ op: fc.constant('deliver' as const), which: fc.nat(1000), again: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.constant({ op: 'tick' as const }) },
);

function sameRun(a: Step, b: Step): boolean {
  return !a.overwrites && !b.overwrites && a.event.adds[0].field === b.event.adds[0].field;
}

interface Step {
  event: KeyEvent;
  by: number;
  overwrites: boolean;
  base: number | null;
}

test('every increment counts, except those that an overwrite saw', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(op, { maxLength: 50, size: 'max' }), async (list) => {
      const time = new VirtualTime();
      const nodes = await Promise.all([11, 22, 33].map((seed) => Node.open(seed, time)));
      const flight: { to: Node; event: KeyEvent }[] = [];
      const steps: Step[] = [];
      const seenAt = nodes.map(() => new Set<Step>());
      const sawOf = new Map<Step, Set<Step>>();
      const spread = (n: number, step: Omit<Step, 'event'>) => {
        for (const event of nodes[n].collect()) {
          const s = { ...step, event };
          steps.push(s);
          sawOf.set(s, new Set(seenAt[n]));
          seenAt[n].add(s);
          for (const other of nodes) if (other !== nodes[n]) flight.push({ to: other, event });
        }
      };
      const arrived = (to: Node, event: KeyEvent) => {
        const n = nodes.indexOf(to);
        to.receive(event);
        const step = steps.find((s) => s.event === event)!;
        seenAt[n].add(step);
        // an overwrite carries its context: whoever has it has seen what it saw
        if (step.overwrites) for (const s of sawOf.get(step)!) seenAt[n].add(s);
        // a step's sum has the earlier steps of its run in it
        else for (const s of steps) if (sameRun(s, step) && s.event.to < step.event.to) seenAt[n].add(s);
      };
      for (const o of list) {
        if (o.op === 'tick') await time.advance(2);
        else if (o.op === 'deliver') {
          if (flight.length === 0) continue;
          const i = o.which % flight.length;
          arrived(flight[i].to, flight[i].event);
          if (!o.again) flight.splice(i, 1);
        } else {
          const node = nodes[o.who];
          const { keys } = node.store;
          keys.now = time.now();
          const db = keys.databases[0];
          const found = keys.peekForWrite(db, 'k', SLOT);
          if (o.op === 'incr') {
            const now = Number(found?.text() ?? 0);
            keys.increment(db, keys.object(db, 'k', SLOT), 'k', SLOT, now, now + o.by);
            spread(o.who, { by: o.by, overwrites: false, base: null });
          } else if (o.op === 'set') {
            keys.set(db, keys.object(db, 'k', SLOT), 'k', SLOT, String(o.to), 0);
            spread(o.who, { by: 0, overwrites: true, base: o.to });
          } else if (found !== null) {
            keys.remove(db, found);
            spread(o.who, { by: 0, overwrites: true, base: null });
          }
        }
      }
      for (const { to, event } of flight) arrived(to, event);
      if (steps.length === 0) return;
      const prints = nodes.map((n) => fingerprint(n.object()!.toState()));
      assert.equal(new Set(prints).size, 1, 'replicas differ');

      // the oracle: the shown base is the latest SET that no other overwrite saw
      const overwrites = steps.filter((s) => s.overwrites);
      const covered = new Set(overwrites.flatMap((s) => [...sawOf.get(s)!]));
      const bases = overwrites.filter((s) => s.base !== null && !covered.has(s));
      bases.sort((a, b) => b.event.to - a.event.to);
      const counted = steps.filter((s) => !s.overwrites && !covered.has(s));
      const runsLive = counted.length > 0;
      const expected =
        bases.length === 0 && !runsLive
          ? null
          : String((bases[0]?.base ?? 0) + counted.reduce((sum, s) => sum + s.by, 0));
      const same = bases.length < 2 || bases[0].event.to !== bases[1].event.to;
      if (same) for (const n of nodes) assert.equal(n.text(), expected);
    }),
    { numRuns: 500 },
  );
});

test('a simple register that is taken as it came is what a join makes of it, here and in the journal', async () => {
  const time = new VirtualTime();
  const [maker, taker, joiner] = [await Node.open(1, time), await Node.open(2, time), await Node.open(3, time)];
  const dbOf = (n: Node) => n.store.keys.databases[0];
  const { keys } = maker.store;
  keys.set(dbOf(maker), null, 'k', SLOT, 'value', 0);
  const w = new ByteWriter(64);
  encodeObject(w, maker.object()!, false);
  const take = (n: Node) => {
    const fresh = new StoredKey('k', SLOT, 0);
    assert.ok(decodeSimple(fresh, new ByteReader(w.take())));
    return n.store.keys.takeSimple(dbOf(n), fresh, w.buf, 0, w.pos);
  };
  assert.equal(take(taker), true);
  assert.ok(joiner.store.keys.joinState(dbOf(joiner), 'k', SLOT, maker.object()!.toState(), true));
  assert.equal(fingerprint(taker.object()!.toState()), fingerprint(joiner.object()!.toState()));
  assert.deepEqual(taker.store.journal.w.take(), joiner.store.journal.w.take());
  assert.equal(taker.text(), 'value');
  assert.equal(dbOf(taker).keys, 1);
  // once something is known of the key it has to be joined
  assert.equal(take(taker), null);
  // and what a flush has made void is no news
  dbOf(joiner).floor = maker.object()!.to;
  assert.equal(take(joiner), false);
});

test('news are known by slot; of those of long ago, by their stretch', async () => {
  const time = new VirtualTime();
  const [a, b] = [await Node.open(1, time), await Node.open(2, time)];
  // keys of one stretch, and one of another
  const near: string[] = [];
  let far = '';
  for (let i = 0; near.length < 2 || far === ''; i++) {
    const key = `key${i}`;
    const slot = slotOf(key);
    if (stretchOf(slot) !== stretchOf(SLOT)) far = key;
    else if (slot !== SLOT && !near.some((x) => slotOf(x) === slot)) near.push(key);
  }
  const { keys } = b.store;
  const give = (key: string) => {
    const made = a.store.keys;
    const [db, slot] = [made.databases[0], slotOf(key)];
    made.set(db, made.object(db, key, slot), key, slot, 'v', 0);
    for (const event of a.collect()) keys.replay(keys.databases[0], key, event);
  };
  const told: number[] = [];
  keys.onNews = (slot) => told.push(slot);
  give('k');
  const then = keys.news;
  give(near[0]);
  give(far);
  assert.deepEqual(told, [SLOT, slotOf(near[0]), slotOf(far)]);
  const since = (key: string, n: number) => keys.hadNews(slotOf(key), n);
  assert.deepEqual([since('k', then - 1), since('k', then)], [true, false]);
  assert.deepEqual([since(near[0], then), since(near[0], keys.news)], [true, false]);
  assert.ok(!since(near[1], then));
  assert.ok(since(far, then));
  const before = keys.news;
  for (let i = 0; i < RECENT_NEWS; i++) give(far);
  assert.equal(keys.news, before + RECENT_NEWS);
  assert.ok(!since(near[1], before) && since(far, before));
  assert.ok(since(near[1], then), 'it might have been this one');
  assert.ok(!since(near[1], then + 1), 'nothing of the stretch');
  assert.ok(!since('k', before));
});
