/** Both ends of a lend over links and a clock made by hand: how it goes, and every way in which it ends. */
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { ByteReader } from '../base/bytes.ts';
import { slotOf } from '../ring/slots.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import { KeyState } from '../types/state.ts';
import type { Link } from './bus.ts';
import { ASK_MS, COMMIT_MS, LEND_MS, Lends, PINNED_MS, type Transaction } from './lends.ts';
import { Locks } from './locks.ts';
import * as m from './messages.ts';
import { Peer } from './peers.ts';

const DB = { index: 0 };
const soon = () => new Promise<void>((resolve) => setImmediate(resolve));
const NAMES: Record<number, string> = {
  [m.LEND]: 'LEND',
  [m.LENT]: 'LENT',
  [m.PIN]: 'PIN',
  [m.PINNED]: 'PINNED',
  [m.RETURN]: 'RETURN',
  [m.RECALL]: 'RECALL',
};

let now = 0;
let frames: string[] = [];
let nodes: Node[] = [];
/** Frames of these kinds stay on their way. */
let held: Set<string>;
let onTheirWay: (() => void)[] = [];

beforeEach(() => {
  now = 1000;
  frames = [];
  nodes = [];
  held = new Set();
  onTheirWay = [];
});

/** A node with nothing but its lends: it coordinates the keys that begin with its name. */
class Node {
  readonly locks = new Locks();
  readonly lends: Lends;
  readonly peers = new Map<Node, Peer>();
  readonly merged: string[] = [];
  readonly reads: string[] = [];
  tenure = true;
  serves = true;
  /** What was written and is not decided; what was sent and is not applied. */
  open: Promise<void> | null = null;
  behind: (() => void)[] | null = null;
  /** Keys of which it has something that others lack. */
  readonly news = new Set<string>();
  readonly name: string;

  constructor(name: string) {
    this.name = name;
    const keys = {
      databases: [DB],
      partitionOf: (slot: number) => slot,
      isResident: () => true,
      object: (_: unknown, key: string) => (this.news.has(key) ? { contextHash: () => 7 } : null),
      snapshot: () => new KeyState(),
    };
    const store = { keys, placeOf: (_: unknown, key: string) => place(key), residency: { load: async () => {} } };
    this.lends = new Lends({
      store: store as unknown as Store,
      self: name,
      peers: { listened: (x: number) => x },
      clock: { now: () => 1_700_000_000_000 + now, monotonic: () => now },
      locks: this.locks,
      mayLend: () => this.serves,
      hasTenure: () => this.tenure,
      read: async (p) => this.reads.push(p.key),
      decided: () => this.open,
      flush: () => {},
      merge: (p) => this.merged.push(p.key),
      whenTaken: (_, tell) => (this.behind === null ? tell() : this.behind.push(tell)),
      wake: () => {},
    });
    for (const other of nodes) {
      connect(this, other);
      connect(other, this);
    }
    nodes.push(this);
  }

  peer(other: Node): Peer {
    return this.peers.get(other)!;
  }

  /** Asks for keys; the names of those that it coordinates itself begin with its own. */
  borrow(keys: string[], age = 0): Asked {
    const mine = (key: string) => key[0] === this.name;
    const lent = new Map<Peer, KeyPlace[]>();
    for (const key of keys.filter((k) => !mine(k))) {
      const peer = this.peer(nodes.find((n) => n.name === key[0])!);
      lent.set(peer, [...(lent.get(peer) ?? []), place(key)]);
    }
    const asked: Asked = { fate: 'waits', transaction: null, unlent: [] };
    this.lends.borrow(
      {
        own: keys.filter(mine).map(place),
        lent,
        age,
        toRead: (unlent) => unlent,
        read: async (places) => {
          asked.unlent = places.map((p) => p.key);
        },
      },
      {
        ready: (t) => {
          asked.fate = 'ready';
          asked.transaction = t;
        },
        putBack: (t) => {
          asked.fate = 'put back';
          asked.transaction = t;
        },
        failed: () => {
          asked.fate = 'failed';
        },
      },
    );
    return asked;
  }
}

interface Asked {
  fate: string;
  transaction: Transaction | null;
  unlent: string[];
}

function place(key: string): KeyPlace {
  return { db: DB as KeyPlace['db'], key, slot: slotOf(key) };
}

function connect(from: Node, to: Node): void {
  const peer = new Peer(to.name);
  peer.state = 'alive';
  peer.clock = 0;
  const send = (kind: number, buf: Buffer, start: number, end: number) => {
    const bytes = Buffer.from(buf.subarray(start, end));
    const name = `${NAMES[kind]} ${from.name}>${to.name}`;
    const arrive = () => {
      frames.push(name);
      take(to, to.peer(from), kind, new ByteReader(bytes));
    };
    if (held.has(NAMES[kind])) onTheirWay.push(arrive);
    else queueMicrotask(arrive);
    return true;
  };
  peer.link = { send, version: m.LEND_VERSION } as unknown as Link;
  from.peers.set(to, peer);
}

function take(at: Node, peer: Peer, kind: number, r: ByteReader): void {
  const { lends } = at;
  if (kind === m.LEND) lends.takeLend(peer, r);
  else if (kind === m.LENT) lends.takeLent(peer, r);
  else if (kind === m.PIN) lends.takePin(peer, r);
  else if (kind === m.PINNED) lends.takePinned(peer, r);
  else if (kind === m.RETURN) lends.takeReturn(peer, r);
  else lends.takeRecall(peer, r);
}

function release(): void {
  held.clear();
  for (const arrive of onTheirWay.splice(0)) arrive();
}

const isHeld = (node: Node, key: string) => node.locks.isHeld(place(key));

function nothingLeft(): void {
  for (const n of nodes) {
    assert.equal(n.locks.size, 0, `${n.name} holds keys`);
    assert.equal(n.lends.outstanding, 0);
  }
}

test('one lender: it pins at once, and serves the key again when it has it back', async () => {
  const [a, b] = [new Node('a'), new Node('b')];
  const asked = a.borrow(['a1', 'b1']);
  await soon();
  assert.equal(asked.fate, 'ready');
  assert.deepEqual(frames, ['LEND a>b', 'LENT b>a']);
  assert.deepEqual([isHeld(a, 'a1'), isHeld(b, 'b1')], [true, true]);
  assert.equal(a.lends.mayRun(asked.transaction!), true);
  a.lends.giveBack(asked.transaction!);
  await soon();
  nothingLeft();
  assert.deepEqual([b.lends.stats.given, a.lends.stats.taken], [1, 1]);
});

test('several lenders: each is asked to pin when all have lent', async () => {
  const [a] = [new Node('a'), new Node('b'), new Node('c')];
  const asked = a.borrow(['b1', 'c1', 'b2']);
  await soon();
  assert.equal(asked.fate, 'ready');
  assert.deepEqual(
    frames.map((f) => f.split(' ')[0]),
    ['LEND', 'LEND', 'LENT', 'LENT', 'PIN', 'PIN', 'PINNED', 'PINNED'],
  );
  a.lends.giveBack(asked.transaction!);
  await soon();
  nothingLeft();
});

test('from the question to the return a borrowed key is not to be dropped as a stray', async () => {
  const [a] = [new Node('a'), new Node('b')];
  const asked = a.borrow(['a1', 'b1']);
  // the lender may be told by now that it is here
  assert.deepEqual([a.lends.isBorrowed(place('b1')), a.lends.isBorrowed(place('b2'))], [true, false]);
  await soon();
  assert.equal(a.lends.isBorrowed(place('b1')), true);
  a.lends.giveBack(asked.transaction!);
  assert.equal(a.lends.isBorrowed(place('b1')), false);
});

test('what the borrower lacks comes along; a lender without tenure reads first; what is not decided is waited for', async () => {
  const [a, b] = [new Node('a'), new Node('b')];
  b.news.add('b1');
  b.tenure = false;
  let decide = () => {};
  b.open = new Promise((resolve) => {
    decide = resolve;
  });
  const asked = a.borrow(['b1', 'b2']);
  await soon();
  assert.equal(asked.fate, 'waits');
  assert.equal(isHeld(b, 'b1'), true, 'later work waits already');
  decide();
  await soon();
  assert.equal(asked.fate, 'ready');
  assert.deepEqual([a.merged, b.reads], [['b1'], ['b1', 'b2']]);
});

test('a lend has its time; it is over then, and a late return is refused', async () => {
  const [a, b] = [new Node('a'), new Node('b'), new Node('c')];
  held.add('PIN');
  const asked = a.borrow(['b1', 'c1']);
  await soon();
  now += LEND_MS;
  b.lends.sweep();
  assert.equal(isHeld(b, 'b1'), true);
  now++;
  b.lends.sweep();
  assert.equal(isHeld(b, 'b1'), false);
  await soon();
  assert.equal(asked.fate, 'put back', 'the borrower is told');
  release();
  await soon();
  assert.equal(b.lends.stats.expired, 1);
  assert.equal(b.lends.stats.late, 1, 'the return finds nothing');
  nothingLeft();
});

test('a pinned lend lasts longer, and not for ever; its borrower does not run any more by then', async () => {
  const [a, b] = [new Node('a'), new Node('b')];
  const asked = a.borrow(['b1']);
  await soon();
  now += COMMIT_MS;
  assert.equal(a.lends.mayRun(asked.transaction!), true);
  now++;
  assert.equal(a.lends.mayRun(asked.transaction!), false);
  now += PINNED_MS - COMMIT_MS - 1;
  b.lends.sweep();
  assert.equal(isHeld(b, 'b1'), true);
  now++;
  b.lends.sweep();
  assert.equal(isHeld(b, 'b1'), false);
  await soon();
  assert.equal(asked.fate, 'ready', 'it has been run by now: its end is not put back');
  a.lends.giveBack(asked.transaction!);
  await soon();
  nothingLeft();
});

test('PIN gives a lend its longer time', async () => {
  const [a, b] = [new Node('a'), new Node('b'), new Node('c')];
  const asked = a.borrow(['b1', 'c1']);
  await soon();
  now += PINNED_MS;
  b.lends.sweep();
  assert.equal(isHeld(b, 'b1'), true);
  now++;
  b.lends.sweep();
  assert.equal(isHeld(b, 'b1'), false);
  a.lends.giveBack(asked.transaction!);
  await soon();
});

test('a lender that does not answer is not waited for', async () => {
  const [a] = [new Node('a'), new Node('b')];
  held.add('LENT');
  const asked = a.borrow(['a1', 'b1']);
  await soon();
  now += COMMIT_MS + ASK_MS;
  a.lends.sweep();
  await soon();
  assert.equal(asked.fate, 'put back');
  release();
  await soon();
  nothingLeft();
});

test('of two that want the same keys the older one gets them, and the younger is put back with its age', async () => {
  const [a, b, c] = [new Node('a'), new Node('b'), new Node('c'), new Node('d')];
  held.add('PIN');
  const young = a.borrow(['b1', 'd1'], 20);
  await soon();
  assert.equal(isHeld(b, 'b1'), true);
  held.clear();
  const old = c.borrow(['b1', 'd2'], 10);
  await soon();
  assert.equal(young.fate, 'put back');
  assert.equal(young.transaction!.age, 20);
  assert.equal(old.fate, 'ready');
  assert.equal(b.lends.stats.recalled, 1);
  release();
  await soon();
  const again = a.borrow(['b1', 'd1'], young.transaction!.age);
  await soon();
  assert.equal(again.fate, 'waits');
  c.lends.giveBack(old.transaction!);
  await soon();
  assert.equal(again.fate, 'ready');
  a.lends.giveBack(again.transaction!);
  await soon();
  nothingLeft();
});

test('a pinned lend is not taken away: the older one waits', async () => {
  const [a, b, c] = [new Node('a'), new Node('b'), new Node('c')];
  const young = a.borrow(['b1'], 20);
  await soon();
  const old = c.borrow(['b1'], 10);
  await soon();
  assert.deepEqual([young.fate, old.fate], ['ready', 'waits']);
  a.lends.giveBack(young.transaction!);
  await soon();
  assert.equal(old.fate, 'ready');
  assert.equal(b.lends.stats.recalled, 0);
});

test('two that want each other’s keys do not wait for ever', async () => {
  const [a, b] = [new Node('a'), new Node('b')];
  const first = a.borrow(['a1', 'b1'], 1);
  const second = b.borrow(['a1', 'b1'], 2);
  await soon();
  assert.deepEqual([first.fate, second.fate], ['ready', 'put back']);
  a.lends.giveBack(first.transaction!);
  await soon();
  nothingLeft();
});

test('a borrower dies: pinned or not, its lends are over', async () => {
  for (const pinned of [false, true]) {
    const [a, b] = [new Node('a'), new Node('b'), new Node('c')];
    if (!pinned) held.add('PIN');
    a.borrow(['b1', 'c1']);
    await soon();
    assert.equal(isHeld(b, 'b1'), true);
    b.lends.lost(b.peer(a));
    assert.equal(isHeld(b, 'b1'), false);
    nodes = [];
    held.clear();
  }
});

test('a borrower that is merely suspected keeps what it has pinned', async () => {
  for (const pinned of [false, true]) {
    const [a, b] = [new Node('a'), new Node('b'), new Node('c')];
    if (!pinned) held.add('PIN');
    a.borrow(['b1', 'c1']);
    await soon();
    b.lends.suspected(b.peer(a));
    assert.equal(isHeld(b, 'b1'), pinned);
    nodes = [];
    held.clear();
  }
});

test('a lender dies: the transaction is put back, and the others have their keys again', async () => {
  const [a, b, c] = [new Node('a'), new Node('b'), new Node('c')];
  held.add('PINNED');
  const asked = a.borrow(['a1', 'b1', 'c1']);
  await soon();
  a.peer(b).link = null;
  a.lends.lost(a.peer(b));
  await soon();
  assert.equal(asked.fate, 'put back');
  assert.deepEqual([isHeld(a, 'a1'), isHeld(c, 'c1')], [false, false]);
});

test('who does not coordinate, or is starting, does not lend: the key is read instead', async () => {
  const [a, b] = [new Node('a'), new Node('b'), new Node('c')];
  b.serves = false;
  const asked = a.borrow(['a1', 'b1', 'c1']);
  await soon();
  assert.equal(asked.fate, 'ready');
  assert.deepEqual(asked.unlent, ['b1']);
  assert.equal(b.lends.stats.refused, 1);
  a.lends.giveBack(asked.transaction!);
  await soon();
  nothingLeft();
});

test('a peer with an older protocol, or that is not well, is not asked', () => {
  const [a, b] = [new Node('a'), new Node('b')];
  const peer = a.peer(b);
  assert.equal(a.lends.canLend(peer), true);
  peer.state = 'suspect';
  assert.equal(a.lends.canLend(peer), false);
  peer.state = 'alive';
  (peer.link as { version: number }).version = m.LEND_VERSION - 1;
  assert.equal(a.lends.canLend(peer), false);
});

test('nobody sees a key before what its borrower has written is applied', async () => {
  const [a, b] = [new Node('a'), new Node('b')];
  const asked = a.borrow(['b1']);
  await soon();
  b.behind = [];
  a.lends.giveBack(asked.transaction!);
  await soon();
  assert.equal(isHeld(b, 'b1'), true, 'a frame still waits for the disk');
  for (const tell of b.behind) tell();
  assert.equal(isHeld(b, 'b1'), false);
});
