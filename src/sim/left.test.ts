/**
 * A node that has left, and is still up with what it could not hand over yet.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Machine } from './cluster.ts';
import { Scene } from './scene.ts';

/** Long enough for a round of reaping, and for what it takes to be old enough. */
const REAPED_MS = 90_000;

/** A node says that it wishes to leave; `at` plans without it and commits. Before that it loses touch of `unreached`. */
async function leaves(s: Scene, leaver: Machine, at: Machine, unreached: Machine): Promise<void> {
  const { membership } = s.parts(at);
  s.parts(leaver).membership.leave();
  await s.until('it is known to leave', () => membership.isLeaving(leaver.server!.nodeId));
  s.cut(leaver, unreached);
  assert.ok(membership.plan() !== null && membership.commit([]) !== null);
  leaver.member = false;
}

for (const unreached of [0, 1]) {
  test(`traces of deletes stay while a node that has left holds a copy: it does not reach owner ${unreached}`, async () => {
    const s = new Scene({ seed: 1, nodes: 4, partitions: 1, appendfsync: 'always' });
    const verdicts = await s.play(async () => {
      const [leaver] = s.cluster.homes('r0');
      const others = s.cluster.machines.filter((m) => m !== leaver);
      const owner = others[unreached];
      await s.ask(others[0], 'set', ['SET', 'r0', 'old']);
      await s.sleep(2000);
      // it can't give its copy to all owners as long as it does not reach one
      await leaves(s, leaver, others.find((m) => m !== owner)!, owner);
      const rings = others.map((m) => s.parts(m).ring);
      await s.until('the others serve', () => rings.every((r) => r.members.length === 3 && r.moving().length === 0));
      await s.ask(others[0], 'del', ['DEL', 'r0']);
      await s.sleep(REAPED_MS);
      assert.ok(s.has(leaver, 'r0'));
      s.heal(leaver, owner);
      await s.until('it has handed all over', () => !s.has(leaver, 'r0'), 60_000);
      assert.equal((await s.ask(owner, 'get', ['GET', 'r0'])).reply, null);
      await s.until('the traces go', () => others.every((m) => !s.has(m, 'r0')), 2 * REAPED_MS);
    });
    for (const v of verdicts) assert.deepEqual(v.problems, [], v.checker);
  });
}

test('the last member keeps traces of deletes while the one before it holds copies', async () => {
  const s = new Scene({ seed: 1, nodes: 2, partitions: 1, appendfsync: 'always' });
  const verdicts = await s.play(async () => {
    const [leaver, last] = s.cluster.machines;
    await s.ask(last, 'set', ['SET', 'r0', 'old']);
    await s.sleep(2000);
    await leaves(s, leaver, last, last);
    await s.ask(last, 'del', ['DEL', 'r0']);
    await s.sleep(2000);
    s.heal(leaver, last);
    await s.until('it has handed all over', () => !s.has(leaver, 'r0'));
    assert.equal((await s.ask(last, 'get', ['GET', 'r0'])).reply, null);
    await s.cluster.stop(leaver);
    await s.until('it is alone', () => last.server!.keys.sole);
  });
  for (const v of verdicts) assert.deepEqual(v.problems, [], v.checker);
});

test('the last member answers for nothing that it does not have yet', async () => {
  const s = new Scene({ seed: 1, nodes: 2, n: 1, r: 1, w: 1, appendfsync: 'always' });
  const verdicts = await s.play(async () => {
    const [leaver, last] = s.cluster.machines;
    const keys = Array.from({ length: 8 }, (_, i) => `c${i * 7919}`);
    for (const key of keys) await s.ask(last, 'incr', ['INCR', key]);
    await leaves(s, leaver, last, last);
    const replies = await Promise.all(keys.map((key) => s.ask(last, 'incr', ['INCR', key])));
    assert.ok(replies.some((x) => x.reply === '2') && replies.some((x) => x.reply === null));
    for (const { result, reply } of replies) assert.ok(reply === '2' || result !== 'ok', String(reply));
    s.heal(leaver, last);
    await s.until('it has everything', () => s.parts(last).ring.moving().length === 0);
    for (const key of keys) assert.ok(Number((await s.ask(last, 'get', ['GET', key])).reply) >= 1);
  });
  for (const v of verdicts) assert.deepEqual(v.problems, [], v.checker);
});
