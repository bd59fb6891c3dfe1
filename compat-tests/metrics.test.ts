/** The pages of the metrics port: what a Prometheus scrapes, and the ring for a browser. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { Redis } from 'ioredis';
import { freshDirectory, killLeftovers, start } from './durability/server.ts';
import { freePort } from './lib/servers.ts';
import { eventually, type Member, PAGES, TestCluster } from './nemesis/cluster.ts';

after(killLeftovers);

/** Value of a sample without labels. */
function sample(page: string, name: string): number {
  const line = page.split('\n').find((l) => l.startsWith(`${name} `));
  assert.ok(line !== undefined, `${name} is not on the page`);
  return Number(line.slice(name.length + 1));
}

const read = async (url: string) => (await fetch(url)).text();

test('used_memory is of all that is in memory, beside the heap too', async () => {
  const server = await start(freshDirectory());
  const redis = new Redis(server.port, '127.0.0.1');
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
  try {
    const [keys, bytes, batch] = [60_000, 1000, 10_000];
    const before = await used();
    const value = 'v'.repeat(bytes);
    for (let i = 0; i < keys; i += batch) {
      const pipeline = redis.pipeline();
      for (let k = 0; k < batch; k++) pipeline.set(`p${i + k}`, value);
      await pipeline.exec();
    }
    const after = await used();
    assert.ok(after - before > keys * bytes, `${after - before} bytes for ${keys} values of ${bytes}`);
    assert.ok(Number(await redis.call('MEMORY', 'USAGE', 'p1')) > bytes);
  } finally {
    redis.disconnect();
    await server.stop();
  }
});

/** What `/ring.json` says. */
interface RingJson {
  node: string;
  layout: number;
  partitions: number;
  n: number;
  moving: number;
  imbalance: number;
  members: number;
  nodes: {
    id: string;
    address: string;
    zone: string;
    weight: number;
    member: boolean;
    state: string;
    share: number;
    partitions: number;
    hints: number;
    fetching: number;
  }[];
  owners: number[];
  plan: { from: number; to: number; nodes: { id: string; change: string }[] } | null;
}

const ringOf = async (url: string) => (await (await fetch(`${url}/ring.json`)).json()) as RingJson;

/** A page's policy lets its own style and script through, whatever they are, and nothing else. */
function checkPolicy(policy: string, html: string): void {
  assert.match(policy, /^default-src 'none'; /);
  assert.ok(!policy.includes('unsafe'));
  for (const tag of ['style', 'script']) {
    const blocks = [...html.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))];
    assert.equal(blocks.length, 1, tag);
    const hash = createHash('sha256').update(blocks[0][1]).digest('base64');
    assert.ok(policy.includes(`${tag}-src 'sha256-${hash}'`), tag);
  }
  assert.ok(!/ (style|on[a-z]+)=/.test(html), 'what the policy would forbid');
}

test('one node: /metrics counts what clients do, the page shows the node itself, and nothing else is served', async () => {
  const port = await freePort();
  const server = await start(freshDirectory(), '--metrics-port', String(port), '--cluster-zone', '<b>here</b>');
  const redis = new Redis(server.port, '127.0.0.1');
  const url = `http://127.0.0.1:${port}`;
  try {
    const before = await read(`${url}/metrics`);
    for (let i = 0; i < 10; i++) await redis.set(`k${i}`, 'v');
    const response = await fetch(`${url}/metrics`);
    const page = await response.text();
    assert.match(response.headers.get('content-type') ?? '', /^text\/plain/);
    assert.equal(sample(page, 'gramme_keys'), 10);
    assert.equal(sample(page, 'gramme_writes_total') - sample(before, 'gramme_writes_total'), 10);
    assert.equal(sample(page, 'gramme_connected_clients'), 1);
    assert.ok(sample(page, 'process_resident_memory_bytes') > 0);

    // divergent versions that readers saw (paper 6.3)
    for (const v of ['a', 'b', 'c']) await redis.call('DSET', 'd', v);
    await redis.call('DGET', 'd');
    await redis.get('d');
    await redis.mget('d', 'k1', 'd');
    const versions = await read(`${url}/metrics`);
    assert.equal(sample(versions, 'gramme_reads_with_3_siblings_total'), 4);
    assert.equal(sample(versions, 'gramme_reads_with_2_siblings_total'), 0);
    assert.match(await redis.info('dynamo'), /reads_with_1_sibling:1\r\n[\s\S]*reads_with_3_siblings:4\r\n/);
    await redis.call('CONFIG', 'RESETSTAT');
    assert.equal(sample(await read(`${url}/metrics`), 'gramme_reads_with_3_siblings_total'), 0);

    const shown = await fetch(url);
    const html = await shown.text();
    assert.equal(shown.status, 200);
    assert.equal(shown.headers.get('content-type'), 'text/html; charset=utf-8');
    assert.equal(shown.headers.get('cache-control'), 'no-store');
    assert.equal(shown.headers.get('x-content-type-options'), 'nosniff');
    checkPolicy(shown.headers.get('content-security-policy') ?? '', html);
    const ring = await ringOf(url);
    assert.ok(html.includes(ring.node) && html.includes(`127.0.0.1:${server.port}`));
    assert.ok(html.includes('&lt;b&gt;here&lt;/b&gt;') && !html.includes('<b>here'));
    assert.equal(ring.members, 1);
    assert.equal(ring.plan, null);
    assert.deepEqual(
      ring.nodes.map((x) => [x.id, x.address, x.zone, x.state, x.share, x.hints]),
      [[ring.node, `127.0.0.1:${server.port}`, '<b>here</b>', 'self', 100, 0]],
    );
    assert.deepEqual(new Set(ring.owners), new Set([0]));
    assert.equal(ring.owners.length, ring.partitions);

    for (const path of ['/', '/ring.json', '/metrics']) {
      const head = await fetch(`${url}${path}`, { method: 'HEAD' });
      assert.equal(head.status, 200);
      assert.ok(Number(head.headers.get('content-length')) > 0);
      assert.equal(await head.text(), '');
      for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
        const refused = await fetch(`${url}${path}`, { method });
        assert.equal(refused.status, 405, `${method} ${path}`);
        assert.equal(refused.headers.get('allow'), 'GET, HEAD');
      }
    }
    assert.equal((await fetch(`${url}/?refresh=1`)).status, 200);
    for (const path of ['/metrics/', '/ring', '/favicon.ico', '/%2e%2e/etc/passwd', '/__proto__'])
      assert.equal((await fetch(`${url}${path}`)).status, 404, path);
  } finally {
    redis.disconnect();
  }
  assert.equal(await server.stop(), 0, 'it stops though the pages were open');
});

test('three nodes: /metrics of each moves with what it does, and the page shows the ring as it sees it', async () => {
  const zone = `"<i>&'`;
  const cluster = await TestCluster.start(3, ...PAGES, '--cluster-partitions', '64', '--cluster-zone', zone);
  try {
    const [first, second, third] = cluster.members;
    const calm = () =>
      eventually(10_000, async () => {
        const rings = await Promise.all(cluster.members.map((m) => ringOf(m.pages)));
        return rings.every((r) => r.moving === 0 && r.nodes.every((x) => x.state === 'self' || x.state === 'alive'));
      });
    const scrape = () => Promise.all(cluster.members.map((m) => read(`${m.pages}/metrics`)));
    assert.ok(await calm());
    const before = await scrape();
    for (const page of before) {
      assert.equal(sample(page, 'gramme_members'), 3);
      assert.equal(sample(page, 'gramme_peers_alive'), 2);
      assert.equal(sample(page, 'gramme_peers_down'), 0);
      assert.equal(sample(page, 'gramme_partitions_moving'), 0);
    }
    for (let i = 0; i < 60; i++) await first.call('SET', `k${i}`, 'v'.repeat(100));
    let afterwards = before;
    const grown = (i: number, name: string) => sample(afterwards[i], name) - sample(before[i], name);
    // two copies are waited for; the third may come later
    const copied = await eventually(5000, async () => {
      afterwards = await scrape();
      return [0, 1, 2].every((i) => grown(i, 'gramme_writes_total') === 60);
    });
    assert.ok(copied, "others' writes are counted too");
    const sentOn = grown(0, 'gramme_commands_forwarded_total');
    assert.ok(sentOn > 20 && sentOn < 60, `two thirds of the keys are coordinated elsewhere: ${sentOn}`);
    assert.equal(grown(0, 'gramme_commands_answered_by_writes_total'), sentOn, 'each write has brought its own reply');
    assert.equal(grown(1, 'gramme_commands_forwarded_total') + grown(2, 'gramme_commands_forwarded_total'), 0);
    for (const i of [0, 1, 2]) {
      assert.ok(grown(i, 'gramme_bus_bytes_in_total') > 6000, 'each has a copy of each key');
      assert.ok(grown(i, 'gramme_bus_bytes_out_total') > 0);
      assert.equal(grown(i, 'gramme_writes_failed_total'), 0);
    }

    // what may be undone, or is to be on disk first, is answered by the coordinator
    const rode = async () => sample(await read(`${first.pages}/metrics`), 'gramme_commands_answered_by_writes_total');
    const rodeBefore = await rode();
    for (let i = 0; i < 20; i++) await first.call('INCR', `n${i}`);
    assert.equal(await rode(), rodeBefore);
    const policy = async (to: string, ...members: Member[]) => {
      for (const m of members) await m.call('CONFIG', 'SET', 'appendfsync', to);
      // the files are told, and then it holds
      await new Promise((resolve) => setTimeout(resolve, 200));
    };
    await policy('always', first);
    for (let i = 0; i < 20; i++) await first.call('SET', `d${i}`, 'v');
    assert.equal(await rode(), rodeBefore);
    await policy('everysec', first);
    await policy('always', second, third);
    for (let i = 0; i < 20; i++) await first.call('SET', `e${i}`, 'v');
    assert.equal(await rode(), rodeBefore);

    assert.ok(await calm());
    const ids = cluster.members.map((m) => m.id.slice(0, 8)).sort();
    for (const m of cluster.members) {
      const ring = await ringOf(m.pages);
      assert.equal(ring.node, m.id.slice(0, 8));
      assert.deepEqual(ring.nodes.map((x) => x.id).sort(), ids);
      assert.deepEqual([ring.members, ring.partitions, ring.n, ring.moving, ring.imbalance], [3, 64, 3, 0, 0]);
      for (const x of ring.nodes) {
        assert.equal(x.state, x.id === ring.node ? 'self' : 'alive');
        assert.deepEqual([x.zone, x.weight, x.share, x.member], [zone, 1, 33.33, true]);
        const i = ring.nodes.indexOf(x);
        assert.equal(ring.owners.filter((o) => o === i).length, x.partitions);
      }
      assert.equal(ring.owners.length, 64);
      const html = await read(m.pages);
      for (const other of cluster.members) assert.ok(html.includes(`127.0.0.1:${other.port}`));
      assert.ok(html.includes('&quot;&lt;i&gt;&amp;&#39;') && !html.includes('<i>'));
    }

    // a node that stops is seen to be gone, and what it misses is counted
    await third.kill();
    const sees = async (m: Member, id: string) => (await ringOf(m.pages)).nodes.find((x) => x.id === id.slice(0, 8))!;
    assert.ok(await eventually(10_000, async () => (await sees(first, third.id)).state === 'down'));
    for (let i = 0; i < 20; i++) await first.call('SET', `h${i}`, 'v');
    const missed = await eventually(10_000, async () => {
      const kept = await Promise.all([first, second].map((m) => sees(m, third.id)));
      return kept.reduce((n, x) => n + x.hints, 0) >= 20;
    });
    assert.ok(missed, 'hints for it are shown');
    const page = await read(`${first.pages}/metrics`);
    assert.deepEqual(
      ['gramme_peers_alive', 'gramme_peers_down', 'gramme_members'].map((name) => sample(page, name)),
      [1, 1, 3],
    );
    assert.ok(sample(page, 'gramme_hints_held') > 0);

    // a plan shows where it was made, until it is committed
    await first.call('DYNAMO', 'PLAN', 'REMOVE', third.id);
    const { plan, layout } = await ringOf(first.pages);
    assert.deepEqual([plan?.from, plan?.to], [layout, layout + 1]);
    assert.equal(plan?.nodes.find((x) => x.id === third.id.slice(0, 8))?.change, 'leaves');
    assert.match(await read(first.pages), /Planned/);
    assert.equal((await ringOf(second.pages)).plan, null);
    // a plan that changes nothing takes its place
    assert.equal(await first.call('DYNAMO', 'PLAN'), null);
    assert.equal((await ringOf(first.pages)).plan, null);
    await assert.rejects(first.call('DYNAMO', 'COMMIT'), /nothing is planned/);
    await first.call('DYNAMO', 'PLAN', 'REMOVE', third.id);
    await first.call('DYNAMO', 'COMMIT');
    assert.equal((await ringOf(first.pages)).plan, null);
    assert.ok(await eventually(10_000, async () => (await ringOf(second.pages)).members === 2));
  } finally {
    await cluster.end();
  }
});
