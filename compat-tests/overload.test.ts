/** More commands than a cluster can run: they wait at the door, and none is refused, sent again, or run twice for it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Pipeline } from './durability/pipeline.ts';
import { killLeftovers } from './durability/server.ts';
import { TestCluster } from './nemesis/cluster.ts';

const CLIENTS = 48;
/** Commands that each sends without waiting for a reply: some seconds' work. */
const EACH = 4000;

let cluster: TestCluster;

before(async () => {
  cluster = await TestCluster.start(3);
});
after(async () => {
  await cluster.end();
  await killLeftovers();
});

test('200,000 commands at once are all answered, in order, and each runs once', async () => {
  const { members } = cluster;
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, i) => Pipeline.connect(members[i % members.length].port)),
  );
  const wrong = new Map<string, number>();
  const not = (reply: unknown) => wrong.set(String(reply), (wrong.get(String(reply)) ?? 0) + 1);
  const value = 'v'.repeat(100);
  for (const [c, client] of clients.entries()) {
    for (let i = 0; i < EACH / 4; i++) {
      client.send(['SET', `k:${c}:${i}`, `${i}${value}`], (reply) => reply === '+OK\r\n' || not(reply));
      client.send(['INCR', `n:${c}`], (reply) => reply === `:${i + 1}\r\n` || not(reply));
      client.send(['GET', `none:${c}:${i}`], (reply) => reply === '$-1\r\n' || not(reply));
      client.send(['ECHO', 'there'], (reply) => String(reply).includes('there') || not(reply));
    }
  }
  // others are let in meanwhile
  for (const m of members) assert.equal(await m.call('PING'), 'PONG');
  await Promise.all(clients.map((client) => client.drained()));
  for (const client of clients) client.close();
  assert.deepEqual([...wrong], []);
  for (const m of members) {
    const info = await m.info('dynamo');
    assert.ok(Number(info.get('inputs_held')) > 0, 'input has waited');
    assert.ok(Number(info.get('commands_under_way')) < 10);
    assert.equal(Number(info.get('commands_run_twice') ?? 0), 0);
  }
});
