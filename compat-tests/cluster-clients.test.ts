// Three real processes, the cluster clients that people use, and a node that is killed under them. Cluster clients find
// the coordinators by themselves, so next to nothing is forwarded; plain ones talk to any node.

import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { hasTool } from './lib/servers.ts';
import { IOREDIS } from './programs/clients.ts';

const TOOL = fileURLToPath(new URL('../bin/gramme', import.meta.url));
const NODES = 3;
const BUS_PORT_OFFSET = 10_000;
const READY_MS = 15_000;
/** Below the range that systems give out by themselves. */
const [FIRST_PORT, LAST_PORT] = [20_000, 22_000];
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

interface Outcome {
  code: number | string;
  stdout: string;
  stderr: string;
}

function run(file: string, args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(file, args, { timeout: 15_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : (error.code ?? 'signal'), stdout, stderr }),
    );
    child.stdin?.end();
  });
}

const gramme = (...args: string[]) => run(process.execPath, [TOOL, ...args]);

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** The first of so many ports in a row that are free, as are their bus ports. */
async function freePorts(count: number): Promise<number> {
  for (let first = FIRST_PORT + (process.pid % 1500); first < LAST_PORT + 1500; first += count) {
    const ports = Array.from({ length: count }, (_, i) => [first + i, first + i + BUS_PORT_OFFSET]).flat();
    if ((await Promise.all(ports.map(isFree))).every((x) => x)) return first;
  }
  throw new Error('no free ports');
}

/** `gramme local`, and the processes that it has started. */
class LocalCluster {
  readonly port: number;
  readonly directory = mkdtempSync(join(tmpdir(), 'gramme-cluster-'));
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  output = '';

  private constructor(port: number) {
    this.port = port;
    const args = ['local', String(NODES), '--port', String(port), '--dir', this.directory];
    this.child = spawn(process.execPath, [TOOL, ...args, '--', '--enable-debug-command', 'yes'], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.ended = new Promise((resolve) => this.child.once('exit', (code) => resolve(code)));
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
      });
  }

  static async start(): Promise<LocalCluster> {
    const cluster = new LocalCluster(await freePorts(NODES));
    const until = Date.now() + READY_MS;
    while (!cluster.output.includes('cluster ready')) {
      if (Date.now() > until || cluster.child.exitCode !== null) {
        const file = join(cluster.directory, 'node-1.log');
        const log = existsSync(file) ? readFileSync(file, 'utf8').slice(-3000) : '';
        await cluster.kill();
        throw new Error(`the cluster is not ready:\n${cluster.output}\n${log}`);
      }
      await sleep(20);
    }
    return cluster;
  }

  get ports(): number[] {
    return Array.from({ length: NODES }, (_, i) => this.port + i);
  }

  get pids(): number[] {
    return [...this.output.matchAll(/^node \d+ {2}\S+ {2}pid (\d+)$/gm)].map((m) => Number(m[1]));
  }

  get alive(): number[] {
    return this.pids.filter((pid) => {
      try {
        process.kill(pid, 0);
        return true;
      } catch {
        return false;
      }
    });
  }

  /** Whatever is left of it. */
  async kill(): Promise<void> {
    for (const pid of this.alive) process.kill(pid, 'SIGKILL');
    this.child.kill('SIGKILL');
    await this.ended;
    rmSync(this.directory, { recursive: true, force: true });
  }
}

let cluster: LocalCluster;

async function onEach<T>(work: (redis: Redis, port: number) => Promise<T>, ports = cluster.ports): Promise<T[]> {
  return Promise.all(
    ports.map(async (port) => {
      const redis = new Redis({ port, lazyConnect: true, retryStrategy: () => null });
      redis.on('error', () => {});
      await redis.connect();
      try {
        return await work(redis, port);
      } finally {
        redis.disconnect();
      }
    }),
  );
}

/** A field of INFO, summed over all nodes. */
async function total(field: string): Promise<number> {
  const values = await onEach(async (redis) => {
    const text = await redis.info('everything');
    return Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(text)?.[1] ?? Number.NaN);
  });
  return values.reduce((a, b) => a + b, 0);
}

type SlotRow = [number, number, ...[string, number, string, unknown[]][]];

describe('a cluster of three', { timeout: 60_000 }, () => {
  before(async () => {
    cluster = await LocalCluster.start();
  });
  after(async () => {
    await cluster?.kill();
  });

  test('every node takes writes and serves what the others took', async () => {
    for (const [name, Client] of IOREDIS) {
      const clients = cluster.ports.map((port) => new Client({ port }));
      await Promise.all(Array.from({ length: 300 }, (_, i) => clients[i % NODES].set(`${name}:${i}`, `value ${i}`)));
      const read = await Promise.all(
        Array.from({ length: 300 }, (_, i) => clients[(i + 1) % NODES].get(`${name}:${i}`)),
      );
      assert.deepEqual(
        read,
        Array.from({ length: 300 }, (_, i) => `value ${i}`),
      );
      await Promise.all(Array.from({ length: 300 }, (_, i) => clients[i % NODES].incr(`${name}:counter`)));
      assert.equal(await clients[0].get(`${name}:counter`), '300');
      for (const c of clients) c.disconnect();
    }
  });

  test('CLUSTER SLOTS, SHARDS, NODES and INFO tell one story, on every node', async () => {
    const stories = await onEach(async (redis) => {
      const slots = (await redis.call('CLUSTER', 'SLOTS')) as SlotRow[];
      let next = 0;
      const owned = new Map<string, number>();
      for (const [start, end, master, ...replicas] of slots) {
        assert.equal(start, next);
        next = end + 1;
        assert.equal(replicas.length, NODES - 1);
        for (const [host, port, id] of [master, ...replicas]) {
          assert.equal(host, '127.0.0.1');
          assert.ok(cluster.ports.includes(port));
          assert.match(id, /^[0-9a-f]{40}$/);
        }
        owned.set(master[2], (owned.get(master[2]) ?? 0) + end - start + 1);
      }
      assert.equal(next, 16384);
      const lines = ((await redis.call('CLUSTER', 'NODES')) as string).trimEnd().split('\n');
      assert.equal(lines.length, NODES);
      for (const line of lines) {
        const [id, address, flags, master, , , , link, ...ranges] = line.split(' ');
        assert.match(address, /^127\.0\.0\.1:\d+@\d+$/);
        assert.match(flags, /^(myself,)?master$/);
        assert.deepEqual([master, link], ['-', 'connected']);
        const count = ranges.map((r) => r.split('-').map(Number)).reduce((n, [a, b]) => n + (b ?? a) - a + 1, 0);
        assert.equal(count, owned.get(id));
      }
      const shards = (await redis.call('CLUSTER', 'SHARDS')) as [string, number[], string, string[][]][];
      const inShards = new Map<string, number>();
      for (const [, pairs, , [master]] of shards) {
        const id = master[master.indexOf('id') + 1];
        for (let i = 0; i < pairs.length; i += 2)
          inShards.set(id, (inShards.get(id) ?? 0) + pairs[i + 1] - pairs[i] + 1);
      }
      assert.deepEqual(new Map([...inShards].sort()), new Map([...owned].sort()));
      const info = (await redis.call('CLUSTER', 'INFO')) as string;
      for (const line of ['cluster_state:ok', 'cluster_slots_ok:16384', `cluster_known_nodes:${NODES}`])
        assert.ok(info.includes(`${line}\r\n`), line);
      assert.ok(info.includes(`cluster_size:${NODES}\r\n`));
      const hello = (await redis.call('HELLO', '2')) as unknown[];
      assert.equal(hello[hello.indexOf('mode') + 1], 'cluster');
      return slots.map(([start, end, master]) => [start, end, master[2]]);
    });
    assert.deepEqual(stories[1], stories[0]);
    assert.deepEqual(stories[2], stories[0]);
  });

  test('cluster clients reach the coordinators by themselves', async () => {
    const forwarded = await total('commands_forwarded');
    for (const [name, Client] of IOREDIS) {
      const redis = new Client.Cluster([{ host: '127.0.0.1', port: cluster.port }]);
      await Promise.all(Array.from({ length: 1000 }, (_, i) => redis.set(`c${name}:${i}`, i)));
      const read = await Promise.all(Array.from({ length: 1000 }, (_, i) => redis.get(`c${name}:${i}`)));
      assert.ok(read.every((v, i) => v === String(i)));
      assert.equal(redis.nodes('master').length, NODES);
      redis.disconnect();
    }
    assert.ok((await total('commands_forwarded')) - forwarded <= 40, 'forwards');
  });

  test('redis-cli -c, on every node', { skip: !hasTool('redis-cli') && 'no redis-cli installed' }, async () => {
    for (const port of cluster.ports) {
      const cli = (...args: string[]) => run('redis-cli', ['-c', '-p', String(port), ...args]);
      assert.equal((await cli('SET', `cli:${port}`, 'v')).stdout, 'OK\n');
      assert.equal((await cli('GET', `cli:${port}`)).stdout, 'v\n');
    }
    const check = await run('redis-cli', ['--cluster', 'check', `127.0.0.1:${cluster.port}`]);
    assert.equal(check.code, 0, check.stdout);
    assert.match(check.stdout, /All 16384 slots covered/);
  });

  test('redis-benchmark --cluster', { skip: !hasTool('redis-benchmark') && 'no redis-benchmark' }, async () => {
    const forwarded = await total('commands_forwarded');
    const args = ['--cluster', '-p', String(cluster.port), '-t', 'set,get', '-n', '3000', '-r', '500', '-q'];
    const outcome = await run('redis-benchmark', args);
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.match(outcome.stdout, /GET: .* requests per second/);
    assert.ok((await total('commands_forwarded')) - forwarded <= 60, 'forwards');
  });

  test('gramme tells how it is', async () => {
    const port = ['--port', String(cluster.port)];
    const status = JSON.parse((await gramme('status', '--json', ...port)).stdout);
    assert.equal(status.ok, true, JSON.stringify(status));
    assert.deepEqual([status.members, status.up, status.moving, status.partitions], [NODES, NODES, 0, 1024]);
    const explained = JSON.parse((await gramme('explain', 'ioredis 6:1', '--json', ...port)).stdout);
    assert.equal(explained['home-replicas'].length, NODES);
    assert.equal(explained.agree, 1);
    const held = explained.context as { hash: string }[];
    assert.equal(new Set(held.map((h) => h.hash)).size, 1);
    const plan = JSON.parse((await gramme('plan', '--json', ...port)).stdout);
    assert.deepEqual(plan, { change: false });
    assert.match((await gramme('repair', '--json', ...port)).stdout, /"differences": 0/);
    assert.match((await gramme('status', ...port)).stdout, /verdict +all is well/);
  });

  test('a node is killed, and the clients of the others carry on', async () => {
    const [victim] = cluster.pids.slice(-1);
    const living = cluster.ports.slice(0, -1);
    const plain = living.map((port) => new Redis({ port }));
    const routed = IOREDIS.map(([, Client]) => new Client.Cluster([{ host: '127.0.0.1', port: cluster.port }]));
    // a client whose node is gone says so, and goes on
    for (const c of routed) c.on('error', () => {});
    await Promise.all(routed.map((c) => c.ping()));
    const clients: { set(key: string, value: string): Promise<unknown>; get(key: string): Promise<string | null> }[] = [
      ...plain,
      ...routed,
    ];
    const slowest = clients.map(() => 0);
    const done = clients.map(() => 0);
    const errors: string[] = [];
    let over = false;
    const load = clients.map(async (client, k) => {
      for (let i = 0; !over; i++) {
        const at = performance.now();
        try {
          await client.set(`load:${k}:${i}`, String(i));
          assert.equal(await client.get(`load:${k}:${i}`), String(i));
          done[k]++;
        } catch (error) {
          errors.push(`client ${k}: ${String(error)}`);
        }
        slowest[k] = Math.max(slowest[k], performance.now() - at);
      }
    });
    await sleep(300);
    process.kill(victim, 'SIGKILL');
    await sleep(2500);
    over = true;
    await Promise.all(load);
    assert.deepEqual(errors, []);
    for (const [k, ms] of slowest.entries()) {
      assert.ok(ms < 1500, `client ${k} waited ${ms} ms`);
      assert.ok(done[k] > 100, `client ${k} got ${done[k]} done`);
    }
    // nothing that was acknowledged is missing
    for (const [k, n] of done.entries())
      assert.equal(await plain[0].get(`load:${k}:${n - 1}`), String(n - 1), `client ${k}`);
    for (const c of [...plain, ...routed]) c.disconnect();
  });

  test('the others tell the truth about it', async () => {
    const living = cluster.ports.slice(0, -1);
    const dead = cluster.ports[NODES - 1];
    await onEach(async (redis) => {
      const slots = (await redis.call('CLUSTER', 'SLOTS')) as SlotRow[];
      assert.ok(slots.every(([, , ...nodes]) => nodes.every(([, port]) => port !== dead)));
      const lines = ((await redis.call('CLUSTER', 'NODES')) as string).split('\n');
      assert.match(lines.find((l) => l.includes(`:${dead}@`)) ?? '', / master,fail\?? /);
    }, living);
    const told = await gramme('status', '--json', '--port', String(cluster.port));
    assert.equal(told.code, 0);
    const status = JSON.parse(told.stdout);
    assert.deepEqual([status.ok, status.members, status.up], [false, NODES, NODES - 1]);
    const nodes = status.nodes as { id: string; address: string; up: boolean; reason: string; sees: object }[];
    const gone = nodes.filter((n) => !n.up);
    assert.deepEqual(
      gone.map((n) => [n.address, n.reason]),
      [[`127.0.0.1:${dead}`, 'process down']],
    );
    for (const n of nodes.filter((x) => x.up)) {
      const other = nodes.find((m) => m.up && m !== n)!;
      assert.deepEqual(n.sees, { [other.id]: 'alive', [gone[0].id]: 'down' });
    }
    assert.ok(status.hints > 0, 'the missed writes are hinted');
    assert.equal((await gramme('status', '--check', '--port', String(cluster.port))).code, 1);
    const digests = await onEach(async (redis) => (await redis.call('DEBUG', 'DIGEST')) as string, living);
    assert.match(digests[0], /^[0-9a-f]{40}$/);
    assert.equal(digests[1], digests[0]);
  });

  test('gramme local stops with whoever started it', async () => {
    cluster.child.stdin?.end();
    assert.equal(await cluster.ended, 0);
    assert.deepEqual(cluster.alive, []);
    assert.match(cluster.output, /node 3 has ended: SIGKILL/);
  });
});
