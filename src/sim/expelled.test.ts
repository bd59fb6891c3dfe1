/**
 * Members that stay away for longer than `tombstone-grace`: the others expel them and go on, and nothing that was deleted
 * meanwhile comes back with them. And deadlines: what is past its own is hidden at once and removed `expire-settle` later.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Verdict } from './checkers/verdict.ts';
import type { Machine } from './cluster.ts';
import { Scene } from './scene.ts';

const GRACE_S = 60;

function passes(verdicts: Verdict[]): void {
  for (const v of verdicts) assert.deepEqual(v.problems, [], v.checker);
}

/** What nodes say about members that are away, of the scene at hand. */
let said: string[] = [];

function scene(seed: number, nodes: number, settings: string[][] = []): Scene {
  said = [];
  const print = (line: string) => {
    if (line.includes('longer than tombstone-grace')) said.push(line);
  };
  return new Scene({ seed, nodes, settings: [['tombstone-grace', String(GRACE_S)], ...settings], print });
}

function members(s: Scene, m: Machine): number {
  return s.parts(m).ring.members.length;
}

/** Nodes that hold anything of the key, be it the trace of a delete. */
function holders(s: Scene, key: string): number {
  return s.cluster.machines.filter((m) => m.server !== null && s.has(m, key)).length;
}

for (const seed of [1, 2, 3]) {
  test(`seed ${seed}: a member that is away too long is expelled, traces of deletes go, and it comes back to nothing`, async () => {
    const s = scene(seed, 4);
    const verdicts = await s.play(async () => {
      const { cluster } = s;
      const keys = Array.from({ length: 8 }, (_, i) => `r${i}`);
      for (const key of keys) await s.ask(cluster.machines[0], 'set', ['SET', key, `old ${key}`]);
      const gone = cluster.homes(keys[0])[0];
      const others = cluster.machines.filter((m) => m !== gone);
      await s.sleep(2000);
      cluster.kill(gone);
      await s.sleep(5000);
      const deleted = keys.slice(0, 6);
      for (const key of deleted) assert.equal((await s.ask(others[0], 'del', ['DEL', key])).result, 'ok');
      await s.ask(others[1], 'set', ['SET', 'r9', 'new']);
      // long enough for reaping, were it not for the member that is away
      await s.sleep((GRACE_S - 15) * 1000);
      for (const m of others) assert.equal(members(s, m), 4);
      assert.ok(deleted.some((key) => holders(s, key) > 0));
      await s.until('the absent one is expelled', () => others.every((m) => members(s, m) === 3), 40_000);
      assert.equal(said.length, 1, said.join('\n'));
      assert.match(said[0], /warn .* it is expelled/);
      await s.until('traces of deletes are reaped', () => deleted.every((key) => holders(s, key) === 0), 180_000);
      gone.member = false;
      void cluster.start(gone);
      await s.until('it is back', () => gone.state === 'up');
      await s.until('it knows', () => s.parts(gone).isExpelled);
      const answer = await s.ask(gone, 'get', ['GET', 'r9']);
      assert.equal(answer.result, 'error');
      await s.sleep(60_000);
      for (const key of deleted)
        for (const m of others) assert.equal(s.has(m, key), false, `${key} is on ${m.name} again`);
      assert.ok(
        deleted.some((key) => s.has(gone, key)),
        'it keeps what it has',
      );
      for (const m of others) assert.equal(members(s, m), 3);
      // and it still knows after a restart of its own
      await cluster.stop(gone);
      void cluster.start(gone);
      await s.until('it is back again', () => gone.state === 'up');
      assert.ok(s.parts(gone).isExpelled);
      await s.sleep(5000);
    });
    passes(verdicts);
  });
}

test('two halves that are cut apart for longer than the grace expel nobody, and come together again', async () => {
  const s = scene(4, 4);
  const verdicts = await s.play(async () => {
    const { machines } = s.cluster;
    for (const a of machines.slice(0, 2)) for (const b of machines.slice(2)) s.cut(a, b);
    await s.sleep(5000);
    for (const m of machines) await s.ask(m, 'set', ['SET', `r${m.index}`, `by ${m.name}`]);
    await s.sleep(3 * GRACE_S * 1000);
    for (const m of machines) assert.equal(members(s, m), 4);
    for (const a of machines.slice(0, 2)) for (const b of machines.slice(2)) s.heal(a, b);
    await s.until('they are together', () => s.cluster.unready() === null, 60_000);
  });
  passes(verdicts);
});

test('one that is cut off expels nobody; it is expelled itself, and serves nothing once it hears of it', async () => {
  const s = scene(5, 4);
  const verdicts = await s.play(async () => {
    const { machines } = s.cluster;
    // the lowest id would decide, if it saw enough of the others
    const sorted = [...machines].sort((a, b) => (a.server!.nodeId < b.server!.nodeId ? -1 : 1));
    const [alone, ...rest] = sorted;
    for (const m of rest) s.cut(alone, m);
    await s.until('the others expel it', () => rest.every((m) => members(s, m) === 3), 2 * GRACE_S * 1000);
    await s.sleep(2 * GRACE_S * 1000);
    assert.equal(members(s, alone), 4);
    assert.ok(!s.parts(alone).isExpelled);
    alone.member = false;
    for (const m of rest) s.heal(alone, m);
    await s.until('it knows', () => s.parts(alone).isExpelled);
  });
  passes(verdicts);
});

test('as many members as copies, or no grace: nobody is expelled', async () => {
  for (const [nodes, settings] of [
    [3, []],
    [4, [['tombstone-grace', '0']]],
  ] as [number, string[][]][]) {
    const s = scene(6, nodes, settings);
    const verdicts = await s.play(async () => {
      const [gone, ...others] = s.cluster.machines;
      s.cluster.kill(gone);
      await s.sleep(3 * GRACE_S * 1000);
      for (const m of others) assert.equal(members(s, m), nodes);
      assert.equal(said.filter((line) => /and is kept/.test(line)).length, nodes === 3 ? 1 : 0, said.join('\n'));
    });
    passes(verdicts);
  }
});

test('two homes of a partition are expelled at once: the third has what they had, and gives it to the new ones', async () => {
  const s = scene(9, 5);
  const verdicts = await s.play(async () => {
    const { machines } = s.cluster;
    for (let i = 0; i < 16; i++) await s.ask(machines[0], 'set', ['SET', `r${i * 7919}`, 'v']);
    await s.sleep(2000);
    const lost = machines.slice(3);
    const ids = lost.map((m) => m.server!.nodeId);
    const { membership, ring } = s.parts(machines[0]);
    const shared = Array.from({ length: ring.partitions }, (_, p) => p).filter((p) =>
      ids.every((id) => ring.homes(p).includes(id)),
    );
    assert.ok(shared.length > 0);
    for (const m of lost) {
      s.cluster.kill(m);
      m.member = false;
    }
    await s.sleep(5000);
    assert.ok(membership.plan(ids) !== null && membership.commit(ids) !== null);
    await s.until('the ring is whole', () => s.cluster.unready() === null, 30_000);
    for (let i = 0; i < 16; i++)
      assert.equal((await s.ask(machines[2], 'get', ['GET', `r${i * 7919}`])).reply, 'v', `r${i * 7919}`);
  });
  passes(verdicts);
});

test('of two plans that are committed at once one holds, and in either case the one who was expelled is no member', async () => {
  const versions = new Set<number>();
  for (const seed of [1, 2]) {
    const s = scene(seed, 5);
    const verdicts = await s.play(async () => {
      const [one, another, leaver, gone] = s.cluster.machines;
      for (let i = 0; i < 8; i++) await s.ask(one, 'set', ['SET', `r${i * 7919}`, 'v']);
      await s.sleep(2000);
      const { nodeId } = gone.server!;
      s.cluster.kill(gone);
      gone.member = leaver.member = false;
      s.parts(leaver).membership.leave();
      await s.sleep(3000);
      const plans: [Machine, string[]][] = [
        [one, [nodeId]],
        [another, []],
      ];
      for (const [m, without] of plans) assert.ok(s.parts(m).membership.plan(without) !== null);
      for (const [m, without] of plans) assert.equal(s.parts(m).membership.commit(without), 2);
      await s.until('the ring is whole', () => s.cluster.unready() === null, 30_000);
      for (const m of s.cluster.members) assert.equal(members(s, m), 3);
      versions.add(s.parts(one).ring.name.version);
    });
    passes(verdicts);
  }
  assert.ok(versions.size > 1, 'each of the two has held once');
});

test('the count goes on after a restart of all that count', async () => {
  const s = scene(7, 4, [['tombstone-grace', '300']]);
  const verdicts = await s.play(async () => {
    const [gone, ...others] = s.cluster.machines;
    s.cluster.kill(gone);
    await s.sleep(200_000);
    for (const m of others) {
      s.cluster.kill(m);
      await s.sleep(1000);
      void s.cluster.start(m);
      await s.until('it is back', () => m.state === 'up');
      await s.sleep(5000);
    }
    // a minute may have been lost to each restart, and no more
    await s.until('the absent one is expelled', () => others.every((m) => members(s, m) === 3), 180_000);
    gone.member = false;
  });
  passes(verdicts);
});

test('in a cluster a key is hidden at its deadline, and removed expire-settle later', async () => {
  const s = new Scene({ seed: 8, nodes: 3, settings: [['expire-settle', '4']] });
  const verdicts = await s.play(async () => {
    const { machines } = s.cluster;
    const first = s.cluster.homes('e0')[0];
    const isThere = (key: string) => {
      const { keys } = first.server!;
      const { db, slot } = s.place(first, key);
      return (keys.shard(db, slot).peek(key)?.type ?? 0) !== 0;
    };
    const { stats } = first.server!.keys;
    const removed = stats.expired;
    for (const key of ['e0', 'e1']) await s.ask(first, 'set', ['SET', key, 'v', 'PX', '1000'], { ttlMs: 1000 });
    const due = s.time.now() + 1000;
    await s.sleep(1100);
    for (const m of machines) assert.equal((await s.ask(m, 'get', ['GET', 'e0'])).reply, null);
    // a write that meets a hidden key removes it first, whatever the time
    await s.ask(first, 'append', ['APPEND', 'e1', 'w']);
    assert.equal((await s.ask(machines[1], 'get', ['GET', 'e1'])).reply, 'w');
    const before = stats.expired;
    while (s.time.now() < due + 3900) {
      assert.ok(isThere('e0'), `removed ${due + 4000 - s.time.now()} ms early`);
      await s.sleep(50);
    }
    assert.ok(before <= removed + 1 && stats.expired === before);
    await s.until('it is removed', () => !isThere('e0'), 1000);
    assert.ok(s.time.now() >= due + 4000);
    // at run time
    await s.ask(first, 'set', ['SET', 'e2', 'v', 'PX', '200'], { ttlMs: 200 });
    for (const m of machines) await s.cluster.ask(m, ['CONFIG', 'SET', 'expire-settle', '0']);
    await s.until('the next one goes at once', () => !isThere('e2') || holders(s, 'e2') === 0, 1500);
  });
  passes(verdicts);
});
