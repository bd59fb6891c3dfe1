import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Sla } from './sla.ts';

test('the share of requests that were answered in time', () => {
  let now = 1000;
  let commands = 0;
  const sla = new Sla(
    () => now,
    () => commands,
  );
  sla.limitMs = 10;
  assert.equal(sla.attained(), 100);
  sla.begin();
  commands = 3;
  const at = sla.at;
  const n = sla.take();
  now += 10;
  sla.sent(n, at);
  assert.deepEqual([sla.requests, sla.within], [3, 3]);
  sla.begin();
  commands = 4;
  const late = [sla.take(), sla.at];
  now += 11;
  sla.sent(late[0], late[1]);
  assert.equal(sla.attained(), 75);
  // one of those that went out with their tick was a hole, and is filled late
  sla.filled(now - 5);
  assert.equal(sla.within, 3);
  sla.filled(now - 50);
  assert.equal(sla.attained(), 50);
});

test('counting begins again when the commands do', () => {
  let commands = 50;
  const sla = new Sla(
    () => 0,
    () => commands,
  );
  assert.equal(sla.take(), 50);
  commands = 2;
  assert.equal(sla.take(), 2);
  sla.sent(2, 0);
  sla.reset();
  assert.deepEqual([sla.requests, sla.attained()], [0, 100]);
});

function make() {
  const at = { ms: 5_000_000.25, commands: 0 };
  const sla = new Sla(
    () => at.ms,
    () => at.commands,
  );
  sla.limitMs = 300;
  /** A tick of so many requests that are answered after so many ms. */
  const tick = (ms: number, requests = 1) => {
    sla.begin();
    at.commands += requests;
    const n = sla.take();
    at.ms += ms;
    sla.sent(n, sla.at);
  };
  return { at, sla, tick };
}

/** A latency is within its bucket: at most an eighth above the truth, but for the µs that it is cut to. */
function near(found: number, truth: number): void {
  assert.ok(found >= truth - 0.002 && found <= truth * 1.125 + 0.002, `${found} for ${truth}`);
}

test('percentiles are those of the requests, to the width of a bucket', () => {
  const { sla, tick } = make();
  assert.deepEqual(
    [50, 99, 99.9].map((p) => sla.percentile(p)),
    [0, 0, 0],
  );
  // 989 in 1 ms, 9 in 20, 2 in 300
  tick(1, 989);
  tick(20, 9);
  tick(300, 2);
  near(sla.percentile(50), 1);
  near(sla.percentile(98), 1);
  near(sla.percentile(99), 20);
  near(sla.percentile(99.9), 300);
  assert.equal(sla.recent(60), 1000);
});

test('percentiles of any requests, against sorting them', () => {
  const latency = fc.oneof(fc.double({ min: 0.01, max: 2, noNaN: true }), fc.double({ min: 2, max: 800, noNaN: true }));
  fc.assert(
    fc.property(
      fc.array(fc.record({ latency, requests: fc.integer({ min: 1, max: 20 }) }), { minLength: 1, maxLength: 60 }),
      fc.constantFrom(50, 90, 99, 99.9),
      (ticks, percent) => {
        const { sla, tick } = make();
        const all: number[] = [];
        for (const t of ticks) {
          tick(t.latency, t.requests);
          for (let i = 0; i < t.requests; i++) all.push(t.latency);
        }
        all.sort((a, b) => a - b);
        near(sla.percentile(percent), all[Math.max(1, Math.ceil((percent / 100) * all.length)) - 1]);
      },
    ),
  );
});

test('what takes longer than a minute counts as a minute', () => {
  const { sla, tick } = make();
  tick(200_000);
  near(sla.percentile(50), 60_000);
});

test('the window forgets, second by second', () => {
  const { at, sla, tick } = make();
  tick(50, 10);
  at.ms += 30_000;
  tick(1, 10);
  near(sla.percentile(99), 50);
  assert.deepEqual([sla.recent(3), sla.recent(60)], [10, 20]);
  near(sla.percentile(99, 5), 1);
  at.ms += 29_000;
  assert.equal(sla.recent(60), 20);
  at.ms += 1000;
  assert.equal(sla.recent(60), 10);
  near(sla.percentile(99), 1);
  at.ms += 1_000_000;
  assert.deepEqual([sla.recent(60), sla.percentile(99)], [0, 0]);
  assert.equal(sla.requests, 20);
});

test('a reply that comes later than its tick moves one request to its own time', () => {
  const { at, sla, tick } = make();
  tick(1, 9);
  sla.begin();
  const { at: begun } = sla;
  at.commands += 1;
  const n = sla.take();
  // filled before its tick is sent: it goes out with it, and is counted so
  at.ms += 400;
  sla.filled(begun);
  assert.equal(sla.recent(60), 9);
  sla.sent(n, begun);
  assert.deepEqual([sla.recent(60), sla.requests, sla.within], [10, 10, 9]);
  near(sla.percentile(99), 400);
  // later ticks, and then the late reply
  const first = begun - 1;
  tick(1, 5);
  sla.filled(first + 0.5);
  assert.deepEqual([sla.recent(60), sla.within], [15, 13]);
  near(sla.percentile(99), 402);
  near(sla.percentile(85), 1);
  // the tick itself was late already: it is not late twice
  at.ms += 500;
  sla.filled(begun);
  assert.deepEqual([sla.recent(60), sla.within], [15, 13]);
  near(sla.percentile(100), 901);
});

test('a command without a reply in its own tick is looked for in the next', () => {
  const { at, sla, tick } = make();
  sla.begin();
  const waitingAt = sla.at;
  at.commands++;
  at.ms += 1;
  // nothing was written in that tick, so its command is counted with the next one's
  tick(1, 1);
  assert.equal(sla.recent(60), 2);
  at.ms += 100;
  sla.filled(waitingAt);
  assert.equal(sla.recent(60), 2);
  near(sla.percentile(50), 1);
  near(sla.percentile(99), 102);
});

test('a reply that is later than all remembered ticks still counts', () => {
  const { at, sla, tick } = make();
  const long = at.ms;
  for (let i = 0; i < 20_000; i++) tick(0.02);
  sla.filled(long);
  assert.equal(sla.recent(60), 20_000);
  near(sla.percentile(100), 400);
});

test('RESETSTAT forgets all', () => {
  const { at, sla, tick } = make();
  tick(5, 10);
  sla.reset();
  assert.deepEqual([sla.requests, sla.within, sla.recent(60), sla.percentile(99.9)], [0, 0, 0, 0]);
  at.ms += 400;
  sla.filled(at.ms - 400);
  assert.deepEqual([sla.within, sla.recent(60)], [0, 0]);
  tick(1, 3);
  near(sla.percentile(99), 1);
});
