import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Machine, SimCluster } from '../sim/cluster.ts';
import { VirtualTime } from '../sim/time.ts';
import { Governor, LOOK_MS, MAX_REST_MS, MIN_SHARE, PIECE_KEYS } from './governor.ts';

function make() {
  const time = new VirtualTime();
  const foreground = { p99: 1, requests: 1000 };
  const settings = { thresholdMs: 50 };
  const governor = new Governor({
    foreground: { percentile: () => foreground.p99, recent: () => foreground.requests },
    clock: time,
    timers: time,
    thresholdMs: () => settings.thresholdMs,
  });
  governor.start();
  const looks = (n: number) => time.advance(n * LOOK_MS);
  return { time, foreground, settings, governor, looks };
}

test('while clients are answered in time, all is as if there were no governor', async () => {
  const { time, governor, looks } = make();
  await looks(10);
  assert.equal(governor.share, 1);
  assert.equal(governor.pieceOf(2048), 2048);
  for (let i = 0; i < 3; i++) {
    const before = time.monotonic();
    await time.until(
      governor.piece(() => time.sleep(500)),
      600,
    );
    assert.equal(time.monotonic() - before, 500);
    assert.ok(governor.mayWork());
  }
  assert.equal(governor.stats.restedMs, 0);
});

test('the share is halved while requests are slow, never below its minimum, and grows back by tenths', async () => {
  const { foreground, governor, looks } = make();
  foreground.p99 = 50;
  await looks(1);
  assert.equal(governor.share, 1, 'the threshold itself is in order');
  foreground.p99 = 51;
  const shares: number[] = [];
  for (let i = 0; i < 6; i++) {
    await looks(1);
    shares.push(governor.share);
  }
  assert.deepEqual(shares, [0.5, 0.25, MIN_SHARE, MIN_SHARE, MIN_SHARE, MIN_SHARE]);
  foreground.p99 = 5;
  await looks(1);
  assert.ok(Math.abs(governor.share - (MIN_SHARE + 0.1)) < 1e-9);
  await looks(10);
  assert.equal(governor.share, 1);
});

test('with nobody to give way to there is no giving way', async () => {
  const { foreground, governor, looks } = make();
  foreground.p99 = 500;
  await looks(8);
  assert.equal(governor.share, MIN_SHARE);
  // a handful of requests: their 99th percentile is the slowest of them
  foreground.requests = 19;
  await looks(1);
  assert.equal(governor.share, 1);
  foreground.requests = 20;
  await looks(1);
  assert.equal(governor.share, 0.5);
  foreground.requests = 0;
  await looks(1);
  assert.equal(governor.share, 1);
});

test('a threshold of 0 turns it off, at run time too', async () => {
  const { foreground, settings, governor, looks } = make();
  foreground.p99 = 500;
  await looks(8);
  settings.thresholdMs = 0;
  await looks(1);
  assert.equal(governor.share, 1);
  await looks(5);
  assert.equal(governor.share, 1);
});

test('pieces get their share of the time', async () => {
  for (const share of [0.5, 0.25, MIN_SHARE]) {
    const { time, governor } = make();
    governor.stop();
    governor.share = share;
    let worked = 0;
    let stopped = false;
    const task = async (): Promise<void> => {
      while (!stopped) await governor.piece(() => time.sleep(20).then(() => void (worked += 20)));
    };
    void task();
    await time.advance(60_000);
    stopped = true;
    const found = worked / 60_000;
    assert.ok(Math.abs(found - share) < share * 0.1, `${found} for ${share}`);
  }
});

test('several tasks share it, and each comes to its turn', async () => {
  const { time, governor } = make();
  governor.stop();
  governor.share = 0.25;
  const turns = [0, 0, 0, 0];
  turns.forEach((_, i) => {
    const task = async (): Promise<void> => {
      // the first is greedy
      for (;;) await governor.piece(() => time.sleep(i === 0 ? 60 : 10).then(() => void turns[i]++));
    };
    void task();
  });
  await time.advance(60_000);
  // 90 ms of work a turn of all four, and three times as much rest
  for (const n of turns) assert.ok(n > 150 && n < 300, turns.join());
});

test('a rest is bounded, and ends when there is nothing left to give way to', async () => {
  const { time, foreground, governor, looks } = make();
  foreground.p99 = 500;
  await looks(8);
  governor.worked(60_000);
  assert.ok(!governor.mayWork());
  await time.advance(MAX_REST_MS - 1);
  assert.ok(!governor.mayWork());
  await time.advance(1);
  assert.ok(governor.mayWork());
  governor.worked(60_000);
  let began = 0;
  void governor.piece(async () => {
    began = time.monotonic();
  });
  foreground.p99 = 0;
  foreground.requests = 0;
  const before = time.monotonic();
  await looks(2);
  assert.ok(began > 0 && began - before <= LOOK_MS);
});

test('a piece that fails counts, and is passed on', async () => {
  const { time, foreground, governor, looks } = make();
  foreground.p99 = 500;
  await looks(1);
  const failing = governor.piece(async () => {
    await time.sleep(100);
    throw new Error('the link broke');
  });
  await assert.rejects(time.until(failing, 200), /the link broke/);
  assert.ok(!governor.mayWork());
  assert.equal(governor.stats.restedMs, 100);
  assert.equal(governor.pieceOf(2048), PIECE_KEYS);
  assert.equal(governor.pieceOf(10), 10);
});

test('after a stop nobody is let in', async () => {
  const { time, foreground, governor, looks } = make();
  foreground.p99 = 500;
  await looks(3);
  governor.worked(100);
  let ran = false;
  void governor.piece(async () => {
    ran = true;
  });
  governor.stop();
  await time.advance(60_000);
  assert.ok(!ran);
});

/**
 * One of three nodes misses 5000 keys and comes back, with or without clients that are answered more slowly than the
 * threshold. How long until it knows that it has missed nothing (tenure), and until all hints have been delivered?
 */
async function comeback(thresholdMs: number, busy: boolean) {
  const cluster = new SimCluster({ seed: 7, nodes: 3, settings: [['background-latency-ms', String(thresholdMs)]] });
  const { time } = cluster;
  const parts = (m: Machine) => m.server!.router!.cluster;
  const found = { share: 0, tenureMs: 0, hintsMs: 0 };
  const work = async (): Promise<void> => {
    await cluster.startAll();
    const [a, b, c] = cluster.machines;
    cluster.kill(c);
    await time.sleep(3000);
    const client = cluster.client();
    for (let i = 0; i < 10; i++) {
      const sets = Array.from({ length: 500 }, (_, k) => ['SET', `k${i * 500 + k}`, 'v']);
      await client.pipeline(a.address, sets, 8000);
    }
    const held = () => parts(a).hints.count + parts(b).hints.count;
    assert.equal(held(), 5000);
    let stopped = !busy;
    const clients = [a, b].map(async (m) => {
      const one = cluster.client();
      while (!stopped) {
        await one.call(m.address, ['SET', `x${m.index}`, 'v'], 8000);
        await time.sleep(10);
      }
    });
    await time.sleep(10_000);
    found.share = parts(a).governor.share;
    const began = time.monotonic();
    await cluster.start(c);
    while (found.hintsMs === 0 || found.tenureMs === 0) {
      await time.sleep(20);
      const ms = time.monotonic() - began;
      assert.ok(ms < 60_000, `${held()} hints are left`);
      if (found.hintsMs === 0 && held() === 0) found.hintsMs = ms;
      const own = Array.from(parts(c).repair.tenure.keys()).filter((p) => parts(c).routes.coordinates(p));
      const tenured = own.length > 0 && own.every((p) => parts(c).repair.tenure[p] === 1);
      if (found.tenureMs === 0 && tenured) found.tenureMs = ms;
    }
    stopped = true;
    await Promise.all(clients);
    assert.deepEqual(cluster.problems, []);
  };
  await time.until(work(), 600_000);
  return found;
}

test('hints wait for slow clients and for nobody else; tenure waits for nobody', async () => {
  const free = await comeback(0, true);
  const held = await comeback(1, true);
  const calm = await comeback(1, false);
  assert.deepEqual([free.share, held.share, calm.share], [1, MIN_SHARE, 1]);
  assert.ok(
    held.hintsMs > 2 * free.hintsMs,
    `${held.hintsMs} ms with slow clients, ${free.hintsMs} without a governor`,
  );
  // it is looked at each 20 ms
  assert.ok(
    calm.hintsMs <= free.hintsMs + 20,
    `${calm.hintsMs} ms without clients, ${free.hintsMs} without a governor`,
  );
  for (const { tenureMs } of [held, calm]) assert.ok(tenureMs <= free.tenureMs + 50, `${tenureMs}, ${free.tenureMs}`);
});
