/**
 * What a node has written itself goes to its replicas, wherever in the journal it lies; what comes from others does not go
 * out as its own, and neither does what it wrote while it was alone.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteReader } from '../base/bytes.ts';
import { slotOf } from '../ring/slots.ts';
import { type Machine, SimCluster } from '../sim/cluster.ts';
import { readRecord } from '../store/records.ts';

const parts = (m: Machine) => m.server!.router!.cluster;

async function run(nodes: number, work: (cluster: SimCluster) => Promise<void>): Promise<void> {
  const cluster = new SimCluster({ seed: 11, nodes, partitions: 64, appendfsync: 'everysec' });
  const all = async () => {
    assert.ok(await cluster.startAll());
    await work(cluster);
    assert.deepEqual(cluster.problems, []);
  };
  await cluster.time.until(all(), 600_000);
}

/** What a machine holds of a key. */
function valueAt(m: Machine, key: string): string | null {
  const { keys } = m.server!.store;
  return keys.peek(keys.databases[0], key, slotOf(key))?.text() ?? null;
}

/** Two keys that this machine coordinates, of different slots. */
function ownKeys(m: Machine): [string, string] {
  const { keys } = m.server!.store;
  const own: string[] = [];
  for (let i = 0; own.length < 2; i++)
    if (parts(m).routes.coordinates(keys.partitionOf(slotOf(`k${i}`)))) own.push(`k${i}`);
  return [own[0], own[1]];
}

test("own records are found among others', however many a command makes", () =>
  run(3, async (cluster) => {
    const [a, b, c] = cluster.machines;
    const { store } = a.server!;
    const { keys, journal } = store;
    const db = keys.databases[0];
    const [first, second] = ownKeys(a);
    const theirs = b.server!.store.keys;
    // keys of somebody else, which this node lacks as yet
    const state = (key: string) => {
      const o = theirs.set(theirs.databases[0], null, key, slotOf(key), `${key} of another`, 0);
      theirs.made!.clear();
      return theirs.snapshot(o)!;
    };
    const states = ['x', 'y'].map(state);
    const made = keys.made!;
    const begin = journal.w.pos;
    keys.set(db, keys.object(db, first, slotOf(first)), first, slotOf(first), 'one', 0);
    parts(a).reads.merge(store.placeOf(db, 'x'), states[0]);
    keys.increment(db, keys.object(db, second, slotOf(second)), second, slotOf(second), 0, 5);
    parts(a).reads.merge(store.placeOf(db, 'y'), states[1]);
    assert.ok(journal.w.pos > begin);
    assert.equal(made.count, 2);
    const found = [0, 1].map((i) => {
      const record = readRecord(new ByteReader(journal.w.buf, made.starts[i], journal.w.pos));
      return record?.kind === 'overwrite' || record?.kind === 'step' ? record.key : record?.kind;
    });
    assert.deepEqual(found, [first, second]);
    parts(a).replicateOwn();
    assert.equal(made.count, 0);
    a.server!.output.wake();
    await cluster.time.sleep(50);
    for (const m of [b, c]) assert.deepEqual([valueAt(m, first), valueAt(m, second)], ['one', '5']);
    assert.equal(valueAt(c, 'x'), null, 'it was not taken for an own one');
  }));

test("what was written alone is nobody else's, and is not sent when there are others", () =>
  run(2, async (cluster) => {
    const [a, left] = cluster.machines;
    const { time } = cluster;
    assert.ok(await cluster.leave(left, 60_000));
    while (!parts(a).isAlone || !a.server!.store.keys.sole) await time.sleep(10);
    const { keys } = a.server!.store;
    const client = cluster.client();
    const [reply] = await client.pipeline(a.address, [['SET', 'k', 'v', 'PX', '50']], 5000);
    assert.equal(reply.kind, 'ok');
    await time.sleep(60);
    // met outside of a command, before a round of expiry does
    keys.now = time.now();
    assert.equal(valueAt(a, 'k'), null);
    assert.equal(keys.made!.count, 1);
    await time.sleep(100);
    const joined = await cluster.join();
    while (!parts(a).ring.isMember(joined.server?.nodeId ?? '')) await time.sleep(10);
    assert.equal(keys.made!.count, 0);
    for (let i = 0; i < 50; i++) {
      const [answer] = await client.pipeline(a.address, [['SET', `n${i}`, 'v']], 5000);
      assert.equal(answer.kind, 'ok');
    }
    await time.sleep(3000);
    assert.equal(valueAt(joined, 'k'), null);
    for (let i = 0; i < 50; i++) assert.equal(valueAt(joined, `n${i}`), 'v');
  }));
