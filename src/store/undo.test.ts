/** Undoing what this node wrote, though it has gone on since, and what tells that somebody has replaced it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slotOf } from '../ring/slots.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import { MemoryEngine } from './memory-engine.ts';
import { Store } from './store.ts';

const SLOT = slotOf('k');

async function setUp() {
  const time = new VirtualTime();
  const store = await Store.open({
    engine: new MemoryEngine(),
    clock: time,
    timers: time,
    random: new SeededRandom(7),
    log: new QuietLog(),
    databases: 1,
    partitions: 1,
    maxSiblings: 1000,
    sync: 'everysec',
  });
  const { keys, hlc } = store;
  keys.sole = false;
  const [db] = keys.databases;
  /** Returns the stamp of the increment. */
  const incr = (by = '1'): number => {
    const o = keys.object(db, 'k', SLOT);
    const now = Number(o?.text() ?? 0) + Number(by);
    keys.incrementBy(db, o, 'k', SLOT, by, String(now));
    return hlc.current();
  };
  const text = () => keys.object(db, 'k', SLOT)?.text();
  const undoIncr = (stamp: number) => keys.undoIncrement(db, 'k', SLOT, '1', stamp, false);
  return { keys, hlc, db, incr, text, undoIncr };
}

test('an increment is taken back, whichever run of this node it is in', async () => {
  const { keys, hlc, incr, text, undoIncr } = await setUp();
  const first = incr();
  incr();
  // this node has not held the key all the time since: its next increment begins another run
  keys.chainStart = hlc.current();
  const third = incr();
  incr();
  assert.equal(text(), '4');
  assert.equal(undoIncr(third), true);
  assert.equal(text(), '3');
  assert.equal(undoIncr(first), true, 'its run is not the one that goes on');
  assert.equal(text(), '2');
});

test('an increment that an overwrite has seen is gone, and so is a version that was replaced', async () => {
  const { keys, hlc, db, incr, text, undoIncr } = await setUp();
  const stamp = incr();
  const since = hlc.current() + 1;
  keys.set(db, keys.object(db, 'k', SLOT), 'k', SLOT, 'v', 0);
  const until = hlc.current();
  assert.equal(undoIncr(stamp), false);
  assert.equal(text(), 'v');
  const later = hlc.current() + 1;
  keys.set(db, keys.object(db, 'k', SLOT), 'k', SLOT, 'w', 0);
  assert.equal(keys.undo(db, 'k', SLOT, since, until, null, null), false, 'v is replaced');
  assert.equal(text(), 'w');
  assert.equal(keys.undo(db, 'k', SLOT, later, hlc.current(), null, null), true);
  assert.equal(keys.findString(db, 'k', SLOT), null, 'w was all that there was');
});

test('of two runs of one write the later is undone: what it replaced comes back if it is younger than the other', async () => {
  for (const isYounger of [true, false]) {
    const { keys, hlc, db, text } = await setUp();
    const set = (value: string) => keys.set(db, keys.object(db, 'k', SLOT), 'k', SLOT, value, 0);
    const early = hlc.current() + 1;
    set('other');
    const late = hlc.current();
    const before = keys.snapshot(keys.object(db, 'k', SLOT));
    const since = hlc.current() + 1;
    set('run');
    const counts = isYounger ? early - 1 : late;
    assert.equal(keys.undo(db, 'k', SLOT, since, hlc.current(), before, null, [], counts), true);
    assert.equal(text(), isYounger ? 'other' : '');
  }
});
