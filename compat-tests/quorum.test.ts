/** How many copies an answer rests on: what a request asks for, what the configuration asks for, and what is said when there are too few. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { killLeftovers } from './durability/server.ts';
import { eventually, type Member, TestCluster } from './nemesis/cluster.ts';

const SETTLE_MS = 10_000;
const TIMEOUT_MS = 150;
/** A timeout that is named is kept, give or take what a busy machine needs. */
const LATE_MS = 1000;

let cluster: TestCluster;
let lonely: Member;
let others: Member[];

before(async () => {
  cluster = await TestCluster.start(3);
  [lonely, ...others] = cluster.members;
});
after(async () => {
  await cluster.end();
  await killLeftovers();
});

const peersAlive = async (m: Member) => Number((await m.info('cluster')).get('peers_alive'));

async function isolate(): Promise<void> {
  for (const m of others) await lonely.call('DYNAMO', 'LINKS', 'CUT', m.id);
  assert.ok(await eventually(SETTLE_MS, async () => (await peersAlive(lonely)) === 0));
}

async function heal(): Promise<void> {
  for (const m of others) await lonely.call('DYNAMO', 'LINKS', 'HEAL', m.id);
  assert.ok(await eventually(SETTLE_MS, async () => (await peersAlive(lonely)) === others.length));
}

test('with everybody there, any number of replicas may be asked for', async () => {
  await lonely.call('DSET', 'all', 'v', 'W', '3');
  for (const m of cluster.members) {
    assert.deepEqual(((await m.call('DYNAMO', 'PEEK', 'all')) as unknown[])[1], ['v'], 'W 3 is on three nodes');
    assert.deepEqual(((await m.call('DGET', 'all', 'R', '3')) as unknown[])[1], ['v']);
  }
  await assert.rejects(lonely.call('DSET', 'all', 'v', 'W', '4'), /NOREPLICAS/);
});

test('a node that is cut off takes plain writes, and refuses what asks for more copies than it can make', async () => {
  await isolate();
  assert.equal(await lonely.call('SET', 'plain', 'v'), 'OK');
  assert.equal(await lonely.call('GET', 'plain'), 'v');
  await assert.rejects(lonely.call('DSET', 'asked', 'v', 'W', '2'), /NOREPLICAS.*may still show up/);
  await assert.rejects(lonely.call('DGET', 'plain', 'R', '2'), /NOREPLICAS/);
  await lonely.call('CONFIG', 'SET', 'write-min-nodes', '2');
  await assert.rejects(lonely.call('SET', 'plain', 'w'), /NOREPLICAS/);
  await assert.rejects(lonely.call('INCR', 'counted'), /NOREPLICAS/);
  await lonely.call('CONFIG', 'SET', 'write-min-nodes', '1');
  assert.equal(await lonely.call('SET', 'plain', 'x'), 'OK');
  await heal();
  for (const m of others)
    assert.ok(
      await eventually(SETTLE_MS, async () => (await m.call('GET', 'plain')) === 'x'),
      'it is there after healing',
    );
});

test('a timeout that a request names is kept', async () => {
  const asleep = others[0];
  asleep.pause();
  try {
    const began = performance.now();
    await assert.rejects(lonely.call('DSET', 'hurry', 'v', 'W', '3', 'TIMEOUT', String(TIMEOUT_MS)), /NOREPLICAS/);
    assert.ok(performance.now() - began < TIMEOUT_MS + LATE_MS);
  } finally {
    asleep.resume();
  }
  assert.ok(await eventually(SETTLE_MS, async () => (await peersAlive(lonely)) === others.length));
});

test('durable-writes: so many other nodes have a write on disk before it is acknowledged', async () => {
  const { members } = cluster;
  const all = (...command: [string, ...string[]]) => Promise.all(members.map((m) => m.call(...command)));
  const fsyncs = async () => {
    const counts = await Promise.all(members.map(async (m) => Number((await m.info('dynamo')).get('journal_fsyncs'))));
    return counts.reduce((sum, n) => sum + n, 0);
  };
  const WRITES = 20;
  await all('CONFIG', 'SET', 'appendfsync', 'no');
  for (const nodes of [0, 1, 2]) {
    await all('CONFIG', 'SET', 'durable-writes', String(nodes));
    const before = await fsyncs();
    for (let i = 0; i < WRITES; i++) await lonely.call('SET', `durable:${nodes}:${i}`, 'v');
    const made = (await fsyncs()) - before;
    assert.ok(
      nodes === 0 ? made < WRITES : made >= WRITES * nodes,
      `${made} fsyncs for ${WRITES} writes, ${nodes} nodes`,
    );
  }
  await all('CONFIG', 'SET', 'durable-writes', '0');
  await all('CONFIG', 'SET', 'appendfsync', 'everysec');
});
