/** Virtual time: order, promises between steps, and processes that stand still or die. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from './random.ts';
import { NodeTime, VirtualTime } from './time.ts';

test('everything runs in order of time, then of asking', async () => {
  const time = new VirtualTime();
  const random = new SeededRandom(3);
  const want: { at: number; i: number }[] = [];
  const got: number[] = [];
  for (let i = 0; i < 5000; i++) {
    const at = random.int(500);
    const timer = time.after(at, () => {
      assert.equal(time.monotonic(), at);
      got.push(i);
    });
    // enough cancelled ones that the heap is swept
    if (random.next() < 0.6) timer.cancel();
    else want.push({ at, i });
  }
  await time.advance(499);
  assert.deepEqual(
    got,
    want.sort((a, b) => a.at - b.at || a.i - b.i).map((w) => w.i),
  );
});

test('an interval goes on until it is cancelled, by itself too', async () => {
  const time = new VirtualTime();
  const at: number[] = [];
  const timer = time.every(10, () => {
    at.push(time.monotonic());
    if (at.length === 3) timer.cancel();
  });
  await time.advance(100);
  assert.deepEqual(at, [10, 20, 30]);
});

test('however long a chain of promises is, it has run before the next step', async () => {
  const time = new VirtualTime();
  const log: string[] = [];
  time.after(1, () => {
    void (async () => {
      for (let i = 0; i < 500; i++) await Promise.resolve();
      log.push('chain');
      time.endOfTick(() => log.push('end of tick'));
    })();
  });
  time.after(1.5, () => log.push('next'));
  await time.advance(2);
  assert.deepEqual(log, ['chain', 'end of tick', 'next']);
});

test('until: as long as the work takes, and no longer than was said', async () => {
  const time = new VirtualTime();
  assert.equal(
    await time.until(
      time.sleep(70).then(() => 'done'),
      100,
    ),
    'done',
  );
  assert.equal(time.monotonic(), 70);
  await assert.rejects(time.until(time.sleep(200), 100), /not done after 100 ms/);
  await assert.rejects(time.until(Promise.reject(new Error('no')), 100), /^Error: no$/);
});

test('what a step throws stops time, and time can go on', async () => {
  const time = new VirtualTime();
  time.after(1, () => {
    throw new Error('thrown');
  });
  await assert.rejects(time.advance(5), /thrown/);
  await time.advance(5);
  assert.equal(time.monotonic(), 6);
});

test('a paused process does nothing; when it goes on, what is overdue runs at once and in order', async () => {
  const base = new VirtualTime();
  const time = new NodeTime(base, 1000);
  const log: string[] = [];
  time.after(30, () => log.push(`b ${base.monotonic()}`));
  time.after(20, () => log.push(`a ${base.monotonic()}`));
  const never = time.after(25, () => log.push('cancelled'));
  time.every(10, () => log.push(`tick ${base.monotonic()}`));
  await base.advance(15);
  time.pause();
  await base.advance(40);
  assert.deepEqual(log, ['tick 10']);
  assert.equal(time.monotonic(), 1055);
  never.cancel();
  time.resume();
  await base.advance(6);
  assert.deepEqual(log, ['tick 10', 'a 55', 'tick 55', 'b 55', 'tick 60']);
});

test('the dead do nothing, whatever they had planned', async () => {
  const base = new VirtualTime();
  const time = new NodeTime(base);
  let ran = 0;
  time.after(10, () => ran++);
  time.every(10, () => ran++);
  time.endOfTick(() => ran++);
  time.pause();
  await base.advance(5);
  time.kill();
  time.resume();
  time.after(1, () => ran++);
  time.guard(() => ran++);
  await base.advance(100);
  assert.equal(ran, 0);
});

test('a process has a wall clock of its own, and its errors are its own', async () => {
  const base = new VirtualTime();
  const errors: unknown[] = [];
  const time = new NodeTime(base, 0, -500, (error) => errors.push(error));
  assert.equal(base.now() - time.now(), 500);
  time.skewMs = 90_000;
  assert.equal(time.now() - base.now(), 90_000);
  time.after(1, () => {
    throw new Error('uncaught');
  });
  await base.advance(2);
  assert.equal(String(errors), 'Error: uncaught');
});
