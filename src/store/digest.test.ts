import assert from 'node:assert/strict';
import { test } from 'node:test';
import { slotOf } from '../ring/slots.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import { digestOf } from './digest.ts';
import { MemoryEngine } from './memory-engine.ts';
import { Store } from './store.ts';

const NOTHING = '0'.repeat(40);
const ALL = [0, 1, 2, 3];

async function open(time: VirtualTime, seed: number): Promise<Store> {
  return Store.open({
    engine: new MemoryEngine(),
    clock: time,
    timers: time,
    random: new SeededRandom(seed),
    log: new QuietLog(),
    databases: 2,
    partitions: 4,
    maxSiblings: 100,
    sync: 'everysec',
  });
}

function set(store: Store, key: string, value: string, deadline = 0, db = 0): void {
  const slot = slotOf(key);
  store.keys.now = 1000;
  const database = store.keys.databases[db];
  store.keys.set(database, store.keys.object(database, key, slot), key, slot, value, deadline);
}

test('equal data has an equal digest, however it came about', async () => {
  const time = new VirtualTime();
  const [a, b] = [await open(time, 1), await open(time, 2)];
  for (let i = 0; i < 50; i++) set(a, `k${i}`, `v${i}`);
  set(b, 'k7', 'something else first');
  for (let i = 49; i >= 0; i--) set(b, `k${i}`, `v${i}`);
  const digest = await digestOf(a, time, ALL);
  assert.match(digest, /^[0-9a-f]{40}$/);
  assert.equal(await digestOf(b, time, ALL), digest);
  const parts = await Promise.all(ALL.map((p) => digestOf(a, time, [p])));
  assert.equal(new Set([...parts, digest]).size, 5);
});

test('values, names, databases and deadlines count; traces of deletes do not', async () => {
  const time = new VirtualTime();
  const digests = new Set<string>();
  const of = async (fill: (store: Store) => void) => {
    const store = await open(time, 3);
    fill(store);
    const digest = await digestOf(store, time, ALL);
    digests.add(digest);
    return digest;
  };
  assert.equal(await of(() => {}), NOTHING);
  await of((s) => set(s, 'k', 'v'));
  await of((s) => set(s, 'k', 'w'));
  await of((s) => set(s, 'l', 'v'));
  await of((s) => set(s, 'k', 'v', 0, 1));
  await of((s) => set(s, 'k', 'v', 5000));
  assert.equal(digests.size, 6);
  const deleted = await of((s) => {
    s.keys.sole = false;
    set(s, 'k', 'v');
    s.keys.remove(s.keys.databases[0], s.keys.object(s.keys.databases[0], 'k', slotOf('k'))!);
  });
  assert.equal(deleted, NOTHING);
  const expired = await of((s) => {
    set(s, 'k', 'v', 5000);
    s.keys.now = 6000;
  });
  assert.equal(expired, NOTHING);
});

test('siblings count', async () => {
  const time = new VirtualTime();
  const store = await open(time, 4);
  const [db] = store.keys.databases;
  set(store, 'k', 'v');
  const one = await digestOf(store, time, ALL);
  store.keys.putSibling(db, 'k', slotOf('k'), 'w', 0, null);
  const two = await digestOf(store, time, ALL);
  assert.notEqual(two, one);
});
