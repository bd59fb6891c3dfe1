/**
 * Commands over keys of several coordinators on three real processes: clients at every node run them and plain commands
 * on the same keys, and nobody ever sees half of one.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Redis } from 'ioredis';
import { killLeftovers } from './durability/server.ts';
import { connectTo, TestCluster, usable } from './nemesis/cluster.ts';

const CLIENTS_PER_NODE = 3;
const MOVES_MS = 4000;
/** On a busy machine it goes on for so long, until enough has been done. */
const MOVES_LIMIT_MS = 40_000;
const ENOUGH = 50;
const ROUNDS = 150;
/** How often a command is asked again that came too late to be begun, or met others again and again. */
const AGAIN = /^(TRYAGAIN|CLUSTERDOWN)/;

let cluster: TestCluster;
let clients: Redis[];

before(async () => {
  cluster = await TestCluster.start(3);
  clients = cluster.members.flatMap((m) => Array.from({ length: CLIENTS_PER_NODE }, () => connectTo(m.port)));
  for (const c of clients) assert.ok(await usable(c));
});
after(async () => {
  for (const c of clients ?? []) c.disconnect();
  await cluster?.end();
  await killLeftovers();
});

async function coordinatorOf(key: string): Promise<string> {
  const facts = (await cluster.members[0].call('DYNAMO', 'EXPLAIN', key)) as string[];
  return facts[facts.indexOf('coordinator') + 1];
}

/** Three keys, each with another coordinator. */
async function family(name: string): Promise<string[]> {
  const keys = new Map<string, string>();
  for (let i = 0; keys.size < 3; i++) {
    const key = `${name}:${i}`;
    const coordinator = await coordinatorOf(key);
    if (!keys.has(coordinator)) keys.set(coordinator, key);
  }
  return [...keys.values()];
}

const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)];
const no = (error: unknown) => (error instanceof Error ? error.message : String(error));

async function total(field: string): Promise<number> {
  const all = await Promise.all(cluster.members.map((m) => m.info('dynamo')));
  return all.reduce((sum, info) => sum + Number(info.get(field)), 0);
}

test('a token that is renamed from key to key is on exactly one of them, whoever looks', async (t) => {
  const keys = await family('token');
  await clients[0].set(keys[0], 'token');
  const began = Date.now();
  const seen: string[] = [];
  const counts = { moved: 0, missed: 0, looked: 0, set: 0, again: 0 };
  const few = () => counts.moved <= ENOUGH || counts.looked <= ENOUGH;
  const one = async (redis: Redis, n: number): Promise<void> => {
    const from = pick(keys);
    const to = pick(keys.filter((k) => k !== from));
    const dice = Math.random();
    if (n % CLIENTS_PER_NODE === 0) {
      if (dice < 0.4) {
        const won = await redis.msetnx(...keys.flatMap((k) => [k, 'other']));
        if (won !== 0) seen.push('none of the keys was there');
      } else if (dice < 0.7) {
        const length = await redis.bitop('OR', `looked:${n}`, ...keys);
        if (length !== 5) seen.push(`all keys together have ${length} bytes`);
      } else {
        const common = await redis.call('LCS', from, to, 'LEN');
        if (common !== 0) seen.push('two keys had the token');
      }
      counts.looked++;
      return;
    }
    if (dice < 0.3) {
      await redis.set(from, 'token', 'XX');
      counts.set++;
      return;
    }
    if (dice < 0.4) {
      await redis.set(`other:${n}`, 'x');
      return;
    }
    try {
      await redis.rename(from, to);
      counts.moved++;
    } catch (error) {
      if (!/no such key/.test(no(error))) throw error;
      counts.missed++;
    }
  };
  await Promise.all(
    clients.map(async (redis, n) => {
      while (Date.now() < began + MOVES_MS || (few() && Date.now() < began + MOVES_LIMIT_MS)) {
        try {
          await one(redis, n);
        } catch (error) {
          if (!AGAIN.test(no(error))) throw error;
          counts.again++;
        }
      }
    }),
  );
  t.diagnostic(JSON.stringify(counts));
  assert.deepEqual([...new Set(seen)], []);
  assert.ok(!few(), JSON.stringify(counts));
  const there = await Promise.all(keys.map((k) => clients[0].exists(k)));
  assert.deepEqual(there.sort(), [0, 0, 1]);
  assert.ok((await total('lends_given')) > ENOUGH);
});

test('of several MSETNX one wins as a whole, and INCR and APPEND on its keys come all before it or all after it', async (t) => {
  const names = await family('round');
  let wins = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const [a, b, c] = names.map((k) => `{${k}}${round}`);
    const asked = clients.map(async (redis, n) => {
      try {
        if (n % CLIENTS_PER_NODE === 0) {
          const value = String(1000 * (n + 1));
          return { what: 'msetnx', value, reply: await redis.msetnx(a, value, b, value, c, value) };
        }
        if (n % CLIENTS_PER_NODE === 1) return { what: 'incr', value: '', reply: await redis.incr(a) };
        return { what: 'append', value: 'x', reply: await redis.append(b, 'x') };
      } catch (error) {
        if (!AGAIN.test(no(error))) throw error;
        return { what: 'nothing', value: '', reply: 0 };
      }
    });
    const done = await Promise.all(asked);
    const won = done.filter((x) => x.what === 'msetnx' && x.reply === 1);
    const of = (what: string) => done.filter((x) => x.what === what);
    const story = JSON.stringify(done);
    assert.ok(won.length <= 1, story);
    wins += won.length;
    const base = won[0]?.value ?? '';
    const replies = of('incr').map((x) => x.reply - Number(base));
    assert.deepEqual(
      replies.sort(),
      replies.map((_, i) => i + 1),
      story,
    );
    // each node is asked for one: all of them have the same
    const values = await Promise.all([a, b, c].map((k, i) => clients[i * CLIENTS_PER_NODE].get(k)));
    const incremented = of('incr').length === 0 ? base : String(Number(base) + of('incr').length);
    assert.deepEqual(
      values,
      [incremented, base + 'x'.repeat(of('append').length), won.length === 0 ? null : base],
      story,
    );
  }
  t.diagnostic(`${wins} of ${ROUNDS} rounds won`);
  assert.ok(wins > 0, 'some MSETNX was first');
});
