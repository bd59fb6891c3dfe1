/** A node joins while clients write: they notice nothing but the time that it takes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Pipeline } from './durability/pipeline.ts';
import { killLeftovers } from './durability/server.ts';
import { converged } from './nemesis/check.ts';
import { eventually, TestCluster } from './nemesis/cluster.ts';

const KEYS = 60_000;
const WRITERS = 6;
const SETTLE_MS = 120_000;

let cluster: TestCluster;

before(async () => {
  cluster = await TestCluster.start(3);
});
after(async () => {
  await cluster.end();
  await killLeftovers();
});

test('no command fails, and nothing is lost, while a fourth node joins', async () => {
  const { members } = cluster;
  const wrong = new Map<string, number>();
  const not = (reply: unknown) => wrong.set(String(reply), (wrong.get(String(reply)) ?? 0) + 1);
  const connect = (i: number) => Pipeline.connect(members[i % 3].port);
  const clients = await Promise.all(Array.from({ length: WRITERS }, (_, i) => connect(i)));
  const value = 'v'.repeat(100);
  const written: number[] = new Array(WRITERS).fill(0);
  const write = async (c: number, until: () => boolean) => {
    while (!until()) {
      const i = written[c]++;
      clients[c].send(['SET', `k:${c}:${i}`, `${i}${value}`], (reply) => reply === '+OK\r\n' || not(reply));
      clients[c].send(['INCR', `n:${c}:${i % 50}`], (reply) => (reply ?? '').startsWith(':') || not(reply));
      await clients[c].room(20);
    }
    await clients[c].drained();
  };
  await Promise.all(clients.map((_, c) => write(c, () => written[c] >= KEYS / WRITERS)));
  let over = false;
  const writers = clients.map((_, c) => write(c, () => over));
  await cluster.add();
  await cluster.settled(SETTLE_MS);
  // former homes hand over what they keep no longer
  const strays = async () => {
    const left = await Promise.all(members.map((m) => m.info('dynamo')));
    return left.reduce((n, info) => n + Number(info.get('partitions_stray')), 0);
  };
  assert.ok(await eventually(SETTLE_MS, async () => (await strays()) === 0));
  over = true;
  await Promise.all(writers);
  assert.deepEqual([...wrong], []);
  for (const m of cluster.members) assert.equal(/"level":[56]0/.exec(m.server.output)?.input ?? null, null);
  await converged(cluster, SETTLE_MS);
  for (const c of written.keys()) {
    for (let i = 0; i < written[c]; i++)
      clients[c].send(
        ['GET', `k:${c}:${i}`],
        (reply) => reply === `$${`${i}${value}`.length}\r\n${i}${value}\r\n` || not(reply),
      );
    for (let k = 0; k < 50; k++) {
      const n = Math.ceil((written[c] - k) / 50);
      clients[c].send(['GET', `n:${c}:${k}`], (reply) => reply === `$${String(n).length}\r\n${n}\r\n` || not(reply));
    }
  }
  await Promise.all(clients.map((client) => client.drained()));
  for (const client of clients) client.close();
  assert.deepEqual([...wrong], []);
});
