/**
 * A node that has left, and is still up with what it could not hand over yet.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scene } from './scene.ts';

/** Long enough for a round of reaping, and for what it takes to be old enough. */
const REAPED_MS = 90_000;

for (const unreached of [0, 1, 2]) {
  test(`traces of deletes stay while a node that has left holds a copy: it does not reach owner ${unreached}`, async () => {
    const s = new Scene({ seed: 1, nodes: 4, partitions: 1, appendfsync: 'always' });
    const verdicts = await s.play(async () => {
      const [leaver] = s.cluster.homes('r0');
      const others = s.cluster.machines.filter((m) => m !== leaver);
      const owner = others[unreached];
      const { membership } = s.parts(others.find((m) => m !== owner)!);
      await s.ask(others[0], 'set', ['SET', 'r0', 'old']);
      await s.sleep(2000);
      s.parts(leaver).membership.leave();
      await s.until('it is known to leave', () => membership.isLeaving(leaver.server!.nodeId));
      // it can't give its copy to all owners as long as it does not reach one
      s.cut(leaver, owner);
      assert.ok(membership.plan() !== null && membership.commit([]) !== null);
      leaver.member = false;
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
