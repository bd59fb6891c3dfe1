/** The failure detector: who counts as failed, for how long one waits, how often one tries again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  DOWN_AFTER_MS,
  FailureDetector,
  FIRST_RETRY_MS,
  HEARTBEAT_MS,
  MAX_RETRY_MS,
  MAX_TIMEOUT_MS,
  MIN_TIMEOUT_MS,
  STALL_MS,
} from './detector.ts';

const P = 'peer';

function detector(now = 0): FailureDetector {
  const d = new FailureDetector();
  d.add(P, now);
  return d;
}

test('a timeout makes a peer suspect, silence makes it down, one answer brings it back', () => {
  const d = detector();
  assert.equal(d.state(P), 'alive');
  assert.deepEqual(d.timedOut(P, 100, 50), [{ peer: P, from: 'alive', to: 'suspect' }]);
  assert.deepEqual(d.timedOut(P, 200, 150), []);
  assert.deepEqual(d.timedOut(P, 100 + DOWN_AFTER_MS, 1000), [{ peer: P, from: 'suspect', to: 'down' }]);
  assert.deepEqual(d.answered(P, 5000, 3), [{ peer: P, from: 'down', to: 'alive' }]);
  assert.equal(d.state('nobody'), 'down');
});

test('one lost request of many is no failure', () => {
  const d = detector();
  d.answered(P, 100, 5);
  assert.deepEqual(d.timedOut(P, 120, 90), [], 'it has answered something sent later');
  assert.equal(d.state(P), 'alive');
});

test('a refused connection is down at once, a lost one is suspect', () => {
  const d = detector();
  assert.equal(d.disconnected(P, 10)[0].to, 'suspect');
  assert.equal(d.refused(P, 20)[0].to, 'down');
  assert.deepEqual(d.timedOut(P, 30, 25), [], 'a timeout does not make it better');
  assert.equal(d.state(P), 'down');
});

test('a stall of our own is nobody else’s failure', () => {
  const d = detector();
  for (let now = 0; now <= 1000; now += 100) d.tick(now);
  const woke = 1000 + STALL_MS + 500;
  d.tick(woke);
  assert.deepEqual(d.timedOut(P, woke + 1, 950), []);
  assert.equal(d.timedOut(P, woke + 200, woke + 100)[0].to, 'suspect');
});

test('a suspect that is only asked seldom comes down by the clock', () => {
  const d = detector();
  d.tick(0);
  for (const t of [100, 150, 160]) d.timedOut(P, t, 50);
  let changes = 0;
  for (let now = 100; now < 100 + DOWN_AFTER_MS + 200; now += 100) changes += d.tick(now).length;
  assert.equal(changes, 1);
  assert.equal(d.state(P), 'down');
});

test('waits follow the latency, within their bounds, and grow while nothing comes', () => {
  const d = detector();
  for (let i = 0; i < 100; i++) d.answered(P, i, 300 + (i % 2) * 10);
  const usual = d.timeoutMs(P);
  assert.ok(usual > 310 && usual < 350, `${usual}`);
  assert.ok(d.hedgeMs(P) < usual);
  d.timedOut(P, 2000, 1900);
  assert.ok(d.timeoutMs(P) > usual);
  for (let i = 0; i < 50; i++) d.timedOut(P, 3000 + i, 2999);
  assert.equal(d.timeoutMs(P), MAX_TIMEOUT_MS);
  d.answered(P, 9000, 305);
  assert.ok(d.timeoutMs(P) < 350);
  assert.ok(Math.abs(d.latencyMs(P)! - 305) < 5);
});

test('any history of answers: the wait is bounded and the hedge is not after it', () => {
  const latency = fc.double({ min: 0, max: 1e5, noNaN: true });
  fc.assert(
    fc.property(fc.array(fc.option(latency), { size: 'max', maxLength: 60 }), (history) => {
      const d = detector();
      history.forEach((ms, i) => {
        if (ms === null) d.timedOut(P, 10 * i + 5, 10 * i);
        else d.answered(P, 10 * i, ms);
        const wait = d.timeoutMs(P);
        assert.ok(wait >= MIN_TIMEOUT_MS && wait <= MAX_TIMEOUT_MS && d.hedgeMs(P) <= wait);
        assert.equal(d.isHealthy(P), d.state(P) === 'alive');
      });
    }),
  );
});

test('probes: heartbeats where it is quiet, ever rarer retries where it is silent', () => {
  const d = detector();
  assert.deepEqual(d.probes(0), [P]);
  assert.deepEqual(d.probes(1), []);
  d.answered(P, 500, 1);
  assert.deepEqual(d.probes(500 + HEARTBEAT_MS - 1), [], 'traffic makes heartbeats needless');
  assert.deepEqual(d.probes(500 + HEARTBEAT_MS), [P]);
  d.timedOut(P, 2000, 1900);
  const times: number[] = [];
  for (let now = 2000; now < 120_000; now += 10) if (d.probes(now).length > 0) times.push(now);
  assert.equal(times[0], 2000 + FIRST_RETRY_MS);
  const pauses = times.slice(1).map((t, i) => t - times[i]);
  pauses.reduce((a, b) => {
    assert.ok(b >= a - 10);
    return b;
  });
  assert.ok(Math.abs(pauses.at(-1)! - MAX_RETRY_MS) <= 10);
  assert.equal(d.answered(P, 200_000, 2)[0].to, 'alive');
  assert.deepEqual(d.probes(200_000 + HEARTBEAT_MS), [P]);
  d.forget(P);
  assert.deepEqual(d.probes(1e9), []);
});
