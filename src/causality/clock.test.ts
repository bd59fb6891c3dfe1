/** The hybrid clock under a wall clock that does as it likes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HybridClock, hlcOfMs, msOfHlc } from './clock.ts';

test('stamps strictly increase whatever the wall clock does, and after a restart from the lease', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -100_000, max: 100_000 })), fc.nat(10_000), (jumps, ahead) => {
      let now = 1_780_000_000_000;
      const wall = { now: () => now, monotonic: () => 0 };
      let clock = new HybridClock(wall, 0);
      let last = 0;
      for (const jump of jumps) {
        now += jump;
        if (jump % 7 === 0) clock = new HybridClock(wall, clock.current() + ahead);
        if (jump % 5 === 0) clock.observe(last + (jump % 1000));
        const next = clock.next();
        assert.ok(next > last && Number.isSafeInteger(next));
        last = next;
      }
    }),
  );
});

test('a remote stamp more than a minute ahead is not followed', () => {
  const wall = { now: () => 1_780_000_000_000, monotonic: () => 0 };
  const clock = new HybridClock(wall, 0);
  clock.observe(hlcOfMs(wall.now() + 50_000));
  assert.equal(msOfHlc(clock.next()), wall.now() + 50_000);
  clock.observe(hlcOfMs(wall.now() + 120_000));
  assert.ok(msOfHlc(clock.next()) < wall.now() + 60_000);
});
