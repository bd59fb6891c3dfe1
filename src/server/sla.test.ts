import assert from 'node:assert/strict';
import { test } from 'node:test';
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
