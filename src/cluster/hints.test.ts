/**
 * Hints by themselves: counted once a key, kept in their file until the owner has the key on disk, and gone with the
 * owner. What whole clusters do with them is in `sim`.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { ByteReader } from '../base/bytes.ts';
import { SqliteEngine } from '../platform/sqlite.ts';
import { systemClock, systemRandom, systemTimers } from '../platform/system.ts';
import type { Clock, Random, Timers } from '../ports/clock.ts';
import type { Engine, HintRow } from '../ports/engine.ts';
import { QuietLog } from '../sim/quiet-log.ts';
import { SeededRandom } from '../sim/random.ts';
import { VirtualTime } from '../sim/time.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import { MemoryEngine } from '../store/memory-engine.ts';
import { Store } from '../store/store.ts';
import type { Link } from './bus.ts';
import { Governor } from './governor.ts';
import { Hints } from './hints.ts';
import { STATES, STATES_TAKEN } from './messages.ts';
import { Peer, type Peers } from './peers.ts';
import { States } from './states.ts';

/** Nobody asks this node anything, so nothing has to give way. */
function unhurried(clock: Clock, timers: Timers = clock as VirtualTime): Governor {
  const foreground = { percentile: () => 0, recent: () => 0 };
  return new Governor({ foreground, clock, timers, thresholdMs: () => 0 });
}

/** Longer than hints wait to be written, in ms. */
const WRITTEN_MS = 60;
/** Longer than a delivery that failed waits for the next one. */
const AGAIN_MS = 600;

const MB = 1024 * 1024;
const base = fs.mkdtempSync(path.join(os.tmpdir(), 'gramme-hints-'));
after(() => fs.rmSync(base, { recursive: true, force: true }));

function openStore(engine: Engine, ports: { clock: Clock; timers: Timers; random: Random }): Promise<Store> {
  const log = new QuietLog();
  return Store.open({ engine, ...ports, log, databases: 4, partitions: 16, maxSiblings: 10, sync: 'everysec' });
}

/** Runs what waits for virtual time, and gives its outcome. */
async function within<T>(time: VirtualTime, work: Promise<T>): Promise<T> {
  let over = false;
  const end = () => {
    over = true;
  };
  work.then(end, end);
  while (!over) await time.advance(0);
  return work;
}

interface Asked {
  peer: string;
  key: string;
  durable: boolean;
  done: (ok: boolean) => void;
}

/** Hints over a store in memory, and deliveries that are answered by hand. */
async function setUp(options: { engine?: MemoryEngine; limit?: number } = {}) {
  const time = new VirtualTime();
  const engine = options.engine ?? new MemoryEngine();
  const ports = { clock: time, timers: time, random: new SeededRandom(7) };
  const store = await within(time, openStore(engine, ports));
  const byId = new Map<string, Peer>();
  const asked: Asked[] = [];
  const members = new Set(['b', 'c']);
  const states = {
    send: (peer: Peer, place: KeyPlace, o: { durable?: boolean; done?: (ok: boolean) => void }) =>
      asked.push({ peer: peer.id, key: place.key, durable: o.durable ?? false, done: o.done! }),
  };
  const log = new QuietLog();
  const hints = new Hints({
    store,
    peers: { self: 'a', byId } as unknown as Peers,
    states: states as unknown as States,
    governor: unhurried(time),
    clock: time,
    timers: time,
    log,
    isOwner: (id) => members.has(id),
    limit: options.limit,
  });
  await within(time, hints.start());
  const place = (key: string, db = 0) => store.placeOf(store.keys.databases[db], key);
  const rows = async () => (await engine.readHints()).map((h: HintRow) => `${h.owner} ${h.db} ${h.key}`).sort();
  const written = () => time.advance(WRITTEN_MS);
  const deliver = () => hints.deliver(time.monotonic());
  return { time, engine, store, hints, byId, asked, members, log, place, rows, written, deliver };
}

/** A peer that is well. */
function wellPeer(id: string, link: Partial<Link> = {}): Peer {
  const peer = new Peer(id);
  peer.link = link as Link;
  peer.state = 'alive';
  peer.clock = 0;
  return peer;
}

test('a key is one hint an owner, however often it is written', async () => {
  const { hints, place, rows, written } = await setUp();
  for (let i = 0; i < 10; i++) hints.add('b', place('k'));
  hints.add('c', place('k'));
  hints.add('b', place('k', 1));
  hints.add('a', place('k'));
  assert.equal(hints.count, 3, 'and none for this node itself');
  assert.deepEqual([...hints.byOwner()].sort(), [
    ['b', 2],
    ['c', 1],
  ]);
  assert.deepEqual(hints.ownersOf(0, 'k').sort(), ['b', 'c']);
  assert.deepEqual(hints.ownersOf(1, 'k'), ['b']);
  assert.equal(hints.has(1, 'k'), true);
  assert.equal(hints.has(2, 'k'), false);
  const { slot } = place('k');
  const partition = Math.floor((slot * 16) / 16384);
  assert.equal(hints.hasPartition(partition), true);
  assert.equal(hints.hasPartition((partition + 1) % 16), false);
  await written();
  assert.deepEqual(await rows(), ['b 0 k', 'b 1 k', 'c 0 k']);
  assert.deepEqual(hints.stats, { added: 3, delivered: 0, overflown: 0 });
});

test('nothing is sent to who is away, and a hint is gone when its owner has the key on disk', async () => {
  const { hints, byId, asked, place, rows, written, deliver, time } = await setUp();
  hints.add('b', place('k'));
  await written();
  deliver();
  const peer = wellPeer('b');
  peer.state = 'suspect';
  byId.set('b', peer);
  deliver();
  assert.equal(asked.length, 0);
  peer.state = 'alive';
  deliver();
  deliver();
  assert.deepEqual(
    asked.map((a) => [a.peer, a.key, a.durable]),
    [['b', 'k', true]],
  );
  await written();
  assert.equal(hints.count, 1);
  assert.deepEqual(await rows(), ['b 0 k'], 'sent is not delivered');
  asked[0].done(false);
  await written();
  assert.equal(hints.count, 1);
  deliver();
  assert.equal(asked.length, 1, 'not at once again');
  await time.advance(AGAIN_MS);
  deliver();
  assert.equal(asked.length, 2);
  asked[1].done(true);
  assert.equal(hints.count, 0);
  assert.equal(hints.stats.delivered, 1);
  await written();
  assert.deepEqual(await rows(), []);
});

test('a key that is written while it is under way stays hinted, and goes once more', async () => {
  const { hints, byId, asked, place, rows, written, deliver } = await setUp();
  byId.set('b', wellPeer('b'));
  hints.add('b', place('k'));
  await written();
  deliver();
  hints.add('b', place('k'));
  asked[0].done(true);
  assert.equal(hints.count, 1, 'what was written since has not been delivered');
  await written();
  assert.deepEqual(await rows(), ['b 0 k']);
  deliver();
  assert.equal(asked.length, 2);
  asked[1].done(true);
  assert.equal(hints.count, 0);
});

test('the outcome of an earlier delivery says nothing of a later one', async () => {
  const { hints, byId, asked, place, deliver, time } = await setUp();
  byId.set('b', wellPeer('b'));
  hints.add('b', place('k'));
  deliver();
  hints.add('b', place('k'));
  deliver();
  assert.equal(asked.length, 2);
  asked[0].done(true);
  assert.equal(hints.count, 1, 'the second is still under way');
  deliver();
  assert.equal(asked.length, 2, 'and not sent a third time');
  asked[1].done(false);
  assert.equal(hints.count, 1);
  await time.advance(AGAIN_MS);
  deliver();
  asked[2].done(true);
  assert.equal(hints.count, 0);
});

test('what is delivered before it was written leaves no row behind; what is hinted again after that has one', async () => {
  const { hints, byId, asked, place, rows, written, deliver } = await setUp();
  byId.set('b', wellPeer('b'));
  hints.add('b', place('once'));
  hints.add('b', place('again'));
  deliver();
  for (const a of asked) a.done(true);
  hints.add('b', place('again'));
  await written();
  assert.deepEqual(await rows(), ['b 0 again']);
});

test('the hints for an owner who is gone are forgotten, the others stay', async () => {
  const { hints, byId, asked, members, place, rows, written, deliver } = await setUp();
  byId.set('b', wellPeer('b'));
  for (const key of ['x', 'y']) hints.add('b', place(key));
  hints.add('c', place('x'));
  deliver();
  await written();
  hints.forgetOwner('b');
  hints.forgetOwner('nobody');
  await written();
  assert.equal(hints.count, 1);
  assert.deepEqual(await rows(), ['c 0 x']);
  // the same id is back, and what was under way before is answered
  hints.add('b', place('x'));
  for (const a of asked) a.done(true);
  await written();
  assert.deepEqual(hints.ownersOf(0, 'x').sort(), ['b', 'c']);
  assert.deepEqual(await rows(), ['b 0 x', 'c 0 x']);
  members.delete('c');
  deliver();
  assert.deepEqual([...hints.byOwner()], [['b', 1]], 'who owns nothing any more is noticed');
});

test('there are only so many hints for one owner', async () => {
  const { hints, place, log } = await setUp({ limit: 3 });
  for (let i = 0; i < 5; i++) hints.add('b', place(`k${i}`));
  hints.add('b', place('k0'));
  hints.add('c', place('k4'));
  assert.deepEqual([...hints.byOwner()].sort(), [
    ['b', 3],
    ['c', 1],
  ]);
  assert.equal(hints.stats.overflown, 2);
  assert.equal(log.lines.filter((l) => l.message.includes('too many hints')).length, 1, 'said once');
});

test('a disk that takes no hints is no reason to lose those in memory', async () => {
  const { engine, hints, place, written, byId, asked, deliver } = await setUp();
  engine.putHints = async () => {
    throw new Error('full');
  };
  hints.add('b', place('k'));
  await written();
  assert.equal(hints.count, 1);
  byId.set('b', wellPeer('b'));
  deliver();
  asked[0].done(true);
  assert.equal(hints.count, 0);
});

test('a stop waits for what is being written, and writes the rest', async () => {
  const { engine, hints, place, rows, time } = await setUp();
  const put = engine.putHints.bind(engine);
  engine.putHints = async (list) => {
    await new Promise<void>((resolve) => time.after(500, resolve));
    await put(list);
  };
  hints.add('b', place('early'));
  await time.advance(WRITTEN_MS);
  hints.add('b', place('late'));
  let stopped = false;
  const stopping = hints.stop().then(() => {
    stopped = true;
  });
  await time.advance(400);
  assert.equal(stopped, false);
  await time.advance(2000);
  await stopping;
  assert.deepEqual(await rows(), ['b 0 early', 'b 0 late']);
});

test('hints.db: what was hinted is there after a restart, whatever the key; what was delivered is not', async () => {
  const directory = path.join(base, 'restart');
  const ports = { clock: systemClock, timers: systemTimers, random: systemRandom };
  const keys = ['k', '', '\0\xff binary \x80', "it's", 'é'.repeat(3), 'x'.repeat(100_000)].map((k) =>
    Buffer.from(k, 'latin1').latin1Slice(),
  );
  const session = async (work: (hints: Hints, store: Store, done: (() => void)[]) => void) => {
    const store = await openStore(new SqliteEngine({ directory, log: new QuietLog(), cacheBytes: 4 * MB }), ports);
    const done: (() => void)[] = [];
    const states = {
      send: (_: Peer, __: KeyPlace, o: { done: (ok: boolean) => void }) => done.push(() => o.done(true)),
    };
    const hints = new Hints({
      store,
      peers: { self: 'a', byId: new Map([['b', wellPeer('b')]]) } as unknown as Peers,
      states: states as unknown as States,
      governor: unhurried(systemClock, systemTimers),
      clock: systemClock,
      timers: systemTimers,
      log: new QuietLog(),
      isOwner: () => true,
    });
    await hints.start();
    work(hints, store, done);
    await hints.stop();
    await store.close();
  };
  await session((hints, store) => {
    assert.equal(hints.count, 0);
    for (const db of [0, 3])
      for (const key of keys)
        for (const owner of ['b', 'c']) hints.add(owner, store.placeOf(store.keys.databases[db], key));
  });
  await session((hints, _, done) => {
    assert.equal(hints.count, 2 * 2 * keys.length);
    for (const db of [0, 3]) for (const key of keys) assert.deepEqual(hints.ownersOf(db, key).sort(), ['b', 'c']);
    hints.deliver(0);
    assert.equal(done.length, 2 * keys.length);
    // the first of them is not answered
    for (const answer of done.slice(1)) answer();
  });
  await session((hints) => {
    assert.deepEqual([...hints.byOwner()].sort(), [
      ['b', 1],
      ['c', 2 * keys.length],
    ]);
    hints.forgetOwner('c');
  });
  await session((hints) => assert.equal(hints.count, 1));
});

/** An engine whose fsync of the journal takes until it is told. */
class SlowSync extends MemoryEngine {
  syncs: (() => void)[] = [];
  override syncJournal(): Promise<void> {
    return new Promise((resolve) => this.syncs.push(resolve));
  }
}

test('the owner says that it has a key when it has synced it, and the hint stays until then', async () => {
  const time = new VirtualTime();
  const engine = new SlowSync();
  const ports = { clock: time, timers: time };
  const here = await within(time, openStore(new MemoryEngine(), { ...ports, random: new SeededRandom(1) }));
  const there = await within(time, openStore(engine, { ...ports, random: new SeededRandom(2) }));
  for (const store of [here, there]) store.keys.sole = false;
  const peers = { self: 'a', byId: new Map<string, Peer>() } as unknown as Peers;
  const log = new QuietLog();
  const sender = new States({ store: here, peers, clock: time, log });
  const owner = new States({ store: there, peers, clock: time, log });
  const toOwner = wellPeer('b', {
    send: (kind: number, buf: Buffer, start: number, end: number) => {
      assert.equal(kind, STATES);
      const bytes = Buffer.from(buf.subarray(start, end));
      void owner.take(toSender, bytes, 0, bytes.length);
      return true;
    },
  });
  const toSender = wellPeer('a', {
    send: (kind: number, buf: Buffer, start: number, end: number) => {
      assert.equal(kind, STATES_TAKEN);
      sender.taken(toOwner, new ByteReader(Buffer.from(buf.subarray(start, end))));
      return true;
    },
  });
  peers.byId.set('b', toOwner);
  const hints = new Hints({
    store: here,
    peers,
    states: sender,
    governor: unhurried(time),
    clock: time,
    timers: time,
    log,
    isOwner: () => true,
  });
  await within(time, hints.start());
  const [db] = here.keys.databases;
  const place = here.placeOf(db, 'k');
  while (!here.keys.isResident(db, 'k', place.slot)) await within(time, here.residency.load([place]));
  here.keys.set(db, here.keys.object(db, 'k', place.slot), 'k', place.slot, 'v', 0);
  hints.add('b', place);
  hints.deliver(time.monotonic());
  await time.advance(100);
  const copy = there.keys.object(there.keys.databases[0], 'k', place.slot);
  assert.equal(copy?.text(), 'v', 'it has it in memory');
  assert.ok(engine.syncs.length > 0, 'and is about to sync it');
  assert.equal(hints.count, 1);
  for (let i = 0; i < 5 && hints.count > 0; i++) {
    for (const sync of engine.syncs.splice(0)) sync();
    await time.advance(1);
  }
  assert.equal(hints.count, 0);
  assert.equal(hints.stats.delivered, 1);
});
