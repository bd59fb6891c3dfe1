/**
 * Clusters of real processes under a nemesis that kills, pauses, cuts off, empties, adds and removes nodes, and what
 * clients were told held against what is there afterwards. `npm run nemesis` is the longer form; it prints the seed that
 * repeats a round (`NEMESIS_SEED` does the same here).
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, test } from 'node:test';
import { killLeftovers, sleep } from './durability/server.ts';
import { converged } from './nemesis/check.ts';
import { connectTo, reasonOf, TestCluster, usable } from './nemesis/cluster.ts';
import type { Fault } from './nemesis/faults.ts';
import { round } from './nemesis/round.ts';
import { watch } from './nemesis/steady.ts';

after(killLeftovers);

const SEED = Number(process.env['NEMESIS_SEED'] ?? Math.floor(Math.random() * 1_000_000));
/** Longest time between two replies for clients of the living nodes. */
const KILL_GAP_MS = 300;
const PAUSE_GAP_MS = 600;
/** The same while a node comes back: its start takes a core from the servers here. */
const RETURN_GAP_MS = 1200;
/** Commands that a node cut off alone may be slow with before it knows that it is alone, and what is slow. */
const SLOW_ALONE = 4;
const SLOW_MS = 600;
const RAMP_UP_MS = 2000;
const CONVERGE_MS = 15_000;

const ROUNDS: [name: string, nodes: number, seconds: number, faults: Fault[]][] = [
  ['three nodes, killed and paused', 3, 8, ['kill', 'pause', 'kill', 'pause']],
  ['three nodes, cut apart', 3, 8, ['cut', 'isolate', 'half-cut', 'swizzle']],
  ['five nodes, everything', 5, 10, ['kill', 'add', 'isolate', 'wipe', 'leave']],
];

for (const [name, nodes, seconds, faults] of ROUNDS) {
  test(`${name}: nothing acknowledged is lost, nothing is made up`, async (t) => {
    const directives = nodes > 3 ? ['--cluster-partitions', '64'] : [];
    const story: string[] = [`seed ${SEED}`];
    const result = await round({ nodes, seconds, faults, seed: SEED, directives, say: (text) => story.push(text) });
    const { violations } = result;
    t.diagnostic(
      `${result.faults} faults, ${result.acks} answers, ${result.unknown} without; agreed after ${result.convergedMs.toFixed(0)} ms`,
    );
    assert.ok(
      violations.length === 0,
      [...story, ...violations.slice(0, 20), `${violations.length} in all`].join('\n'),
    );
    assert.ok(result.acks > 1000, `only ${result.acks} commands were answered`);
  });
}

const ms = (list: readonly number[]) => list.map((x) => x.toFixed(0)).join(' ');

test('a dead or paused node is hardly noticed by clients of the others', async (t) => {
  const cluster = await TestCluster.start(3);
  try {
    for (const [what, limitMs] of [
      ['killed', KILL_GAP_MS],
      ['paused', PAUSE_GAP_MS],
    ] as const) {
      const victim = cluster.members[what === 'killed' ? 1 : 2];
      const clients = await watch(cluster.members.filter((m) => m !== victim));
      await sleep(RAMP_UP_MS);
      const calm = clients.gaps();
      const own = monitorEventLoopDelay({ resolution: 5 });
      own.enable();
      if (what === 'killed') await victim.kill();
      else victim.pause();
      await sleep(2000);
      const away = clients.gaps();
      const stoodAway = own.max / 1e6;
      own.reset();
      if (what === 'killed') await victim.restart();
      else victim.resume();
      await sleep(2000);
      const back = clients.gaps();
      const stoodBack = own.max / 1e6;
      own.disable();
      await clients.stop();
      t.diagnostic(
        `longest times between two replies, by client, in ms: before ${ms(calm)}; while ${what} ${ms(away)}; when back ${ms(back)}; the test itself stood still for ${ms([stoodAway, stoodBack])}`,
      );
      assert.deepEqual([...new Set(clients.errors)], [], `while a node was ${what}`);
      // what the test's own process missed is not the servers'
      assert.ok(away[0] <= limitMs + stoodAway, `${away[0].toFixed(0)} ms without a reply while a node was ${what}`);
      assert.ok(
        back[0] <= RETURN_GAP_MS + stoodBack,
        `${back[0].toFixed(0)} ms without a reply when the ${what} node came back`,
      );
    }
  } finally {
    await cluster.end();
  }
});

test('a node cut off alone takes writes and answers reads, and they are everywhere after healing', async (t) => {
  const cluster = await TestCluster.start(3);
  const [alone, ...others] = cluster.members;
  const inside = connectTo(alone.port);
  const outside = connectTo(others[0].port);
  try {
    await Promise.all([usable(inside), usable(outside)]);
    const keys = Array.from({ length: 500 }, (_, i) => `key:${i}`);
    for (const key of keys) await outside.set(key, 'before');
    await converged(cluster, CONVERGE_MS);
    for (const m of others) await alone.call('DYNAMO', 'LINKS', 'CUT', m.id);

    const began = performance.now();
    const times: number[] = [];
    const timed = async <T>(sent: Promise<T>): Promise<T> => {
      const asked = performance.now();
      const reply = await sent;
      times.push(performance.now() - asked);
      return reply;
    };
    for (const [i, key] of keys.entries()) {
      assert.equal(await timed(inside.get(key)), 'before', `${key}, read alone`);
      await timed(inside.set(`alone:${i}`, 'written alone'));
      await timed(inside.incr('count'));
      await outside.set(`others:${i}`, 'written by the others');
      await outside.incr('count');
    }
    const tookMs = performance.now() - began;
    assert.equal(await inside.get('others:0'), null, 'the node is not alone');
    for (const m of others) await alone.call('DYNAMO', 'LINKS', 'HEAL', m.id);
    const agreedMs = await converged(cluster, CONVERGE_MS);
    const slow = times.filter((x) => x > SLOW_MS);
    t.diagnostic(
      `${keys.length * 5} commands in ${tookMs.toFixed(0)} ms, the slowest ${Math.max(...times).toFixed(0)} ms; agreed ${agreedMs.toFixed(0)} ms after healing`,
    );
    assert.ok(slow.length <= SLOW_ALONE, `${slow.length} commands took longer than ${SLOW_MS} ms: ${ms(slow)}`);
    for (const m of cluster.members) {
      const redis = connectTo(m.port);
      await usable(redis);
      for (const i of keys.keys()) {
        assert.equal(await redis.get(`alone:${i}`), 'written alone', `alone:${i} on ${m.name}`);
        assert.equal(await redis.get(`others:${i}`), 'written by the others', `others:${i} on ${m.name}`);
      }
      assert.equal(await redis.get('count'), String(2 * keys.length));
      redis.disconnect();
    }
  } finally {
    inside.disconnect();
    outside.disconnect();
    await cluster.end();
  }
});

test('a write that asks for three copies is an error within its time while one node is dead', async () => {
  const cluster = await TestCluster.start(3);
  const redis = connectTo(cluster.members[0].port);
  try {
    await usable(redis);
    for (let i = 0; i < 20; i++) await redis.call('DSET', `three:${i}`, 'x', 'W', '3', 'TIMEOUT', '1000');
    await cluster.members[2].kill();
    for (const [timeoutMs, graceMs] of [
      [400, 200],
      [1000, 200],
    ]) {
      for (let i = 0; i < 10; i++) {
        const asked = performance.now();
        const said = await redis.call('DSET', `more:${i}`, 'x', 'W', '3', 'TIMEOUT', String(timeoutMs)).then(
          (reply) => `the reply ${String(reply)}`,
          (error) => reasonOf(error),
        );
        const tookMs = performance.now() - asked;
        assert.match(said, /^NOREPLICAS /);
        assert.ok(tookMs <= timeoutMs + graceMs, `answered after ${tookMs.toFixed(0)} of ${timeoutMs} ms`);
      }
    }
    // what asks for less is served
    for (let i = 0; i < 20; i++) await redis.call('DSET', `less:${i}`, 'x', 'W', '2', 'TIMEOUT', '1000');
  } finally {
    redis.disconnect();
    await cluster.end();
  }
});

test('a node whose data file is damaged names it, and on the next start gets its data from the others', async () => {
  const cluster = await TestCluster.start(3);
  const [first, , victim] = cluster.members;
  const redis = connectTo(first.port);
  try {
    await usable(redis);
    const keys = Array.from({ length: 500 }, (_, i) => `key:${i}`);
    for (const key of keys) await redis.set(key, 'v');
    await redis.del(keys[0]);
    await converged(cluster, CONVERGE_MS);
    // a clean end leaves no write-ahead log to read the pages from
    await victim.server.stop();
    victim.state = 'down';
    const file = join(victim.directory, 'data.db');
    const bytes = readFileSync(file);
    bytes.fill(0x55, 0, 64);
    writeFileSync(file, bytes);
    await assert.rejects(victim.restart(), /data\.db is damaged .* set aside as data\.db\.damaged-/);
    for (const key of keys) await redis.incr(`meanwhile:${key}`);
    await victim.restart();
    await cluster.settled();
    await converged(cluster, CONVERGE_MS);
    for (const key of keys) {
      assert.equal(await victim.call('GET', key), key === keys[0] ? null : 'v');
      assert.equal(await victim.call('GET', `meanwhile:${key}`), '1');
    }
    assert.ok(readdirSync(victim.directory).some((x) => x.startsWith('data.db.damaged-')));
  } finally {
    redis.disconnect();
    await cluster.end();
  }
});
