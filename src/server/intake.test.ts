import assert from 'node:assert/strict';
import test from 'node:test';
import { Intake } from './intake.ts';

test('what is under way is bounded, forwarded commands too, and goes on when there is room', () => {
  let forwarded = 0;
  const intake = new Intake(() => forwarded);
  intake.taken = 511;
  assert.equal(intake.isFull, false);
  intake.taken = 512;
  assert.equal(intake.isFull, true);
  intake.released = 100;
  assert.equal(intake.isFull, false);
  assert.equal(intake.hasRoom, false, 'not for a few commands');
  intake.released = 128;
  assert.equal(intake.hasRoom, true);
  forwarded = 128;
  assert.equal(intake.isFull, true);
  assert.equal(intake.underWay, 512);
});

test('the window is what is finished in 80 ms, between its limits', () => {
  const intake = new Intake(() => 0);
  const look = (from: number, perMs: number, looks: number) => {
    for (let i = 1; i <= looks; i++) {
      intake.taken += perMs * 100;
      intake.released = intake.taken;
      intake.sweep(from + i * 100);
    }
  };
  const room = () => {
    let n = 0;
    for (; !intake.isFull; n++) intake.taken++;
    intake.taken -= n;
    return n;
  };
  look(0, 50, 20);
  assert.ok(Math.abs(room() - 4000) <= 1, `${room()} at 50 a ms`);
  // between two looks nothing changes
  intake.released = intake.taken += 100_000;
  intake.sweep(2050);
  assert.ok(Math.abs(room() - 4000) <= 1);
  look(2000, 10_000, 20);
  assert.equal(room(), 32_768);
  look(4000, 1, 20);
  assert.equal(room(), 512, 'however slow it goes');
});
