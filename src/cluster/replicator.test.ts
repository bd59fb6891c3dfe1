/**
 * Which acknowledgements let an operation go, which do not, and who is asked instead: tickets, groups and peers alone,
 * with links that only note what they are given.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Clock } from '../ports/clock.ts';
import { slotOf } from '../ring/slots.ts';
import { SAID_BY_RECORD } from '../store/replica.ts';
import type { Link } from './bus.ts';
import { OP_COMPARE, OP_FIRM, OP_KIND, OP_SYNC, OP_WRITE, REFUSED_WRITE, REPLICATE } from './messages.ts';
import { Peer, type Peers } from './peers.ts';
import { type Group, type Refusal, Replicator, type Ticket } from './replicator.ts';

const TIMEOUT_MS = 250;
const HEDGE_MS = 30;

interface Frame {
  seq: number;
  ticket: number;
  kinds: number[];
}

class World {
  now = 1000;
  readonly told: string[] = [];
  readonly refused: Refusal[] = [];
  readonly sent = new Map<Peer, Frame[]>();
  readonly byId = new Map<string, Peer>();
  readonly groups = new Map<number, Group[]>();
  spare: Peer | null = null;
  readonly replicator: Replicator;

  constructor() {
    const peers = {
      byId: this.byId,
      listened: (now: number) => now,
      timeoutMs: () => TIMEOUT_MS,
      detector: { hedgeMs: () => HEDGE_MS },
      answered() {},
      timedOut() {},
      refuses() {},
    };
    this.replicator = new Replicator(
      peers as unknown as Peers,
      { monotonic: () => this.now, now: () => this.now } as Clock,
      {
        done: (t) => this.told.push(`done ${t.n}`),
        forgotten() {},
        failed: (t) => this.told.push(`failed ${t.n}`),
        unclean() {},
        undecided() {},
        groupsOf: (_, op) => this.groups.get(op) ?? null,
        refused: (t, refusal) => {
          this.told.push(`refused ${t.n}`);
          this.refused.push(refusal);
        },
        late() {},
        spare: () => this.spare,
        behind: (peer, _, key) => this.told.push(`${peer.id} lacks ${key}`),
        missed: (owner) => this.told.push(`${owner} missed`),
      },
    );
  }

  peer(id: string): Peer {
    const peer = new Peer(id);
    peer.state = 'alive';
    peer.clock = 0;
    const frames: Frame[] = [];
    this.sent.set(peer, frames);
    peer.link = {
      version: 2,
      send: (kind: number, buf: Buffer, start: number, end: number) => {
        assert.equal(kind, REPLICATE);
        frames.push(parse(Buffer.from(buf.subarray(start, end))));
        return true;
      },
    } as unknown as Link;
    this.byId.set(id, peer);
    return peer;
  }

  group(targets: Peer[], need: number, more: Partial<Group> = {}): Group {
    return {
      targets,
      spares: [],
      hintFor: targets.map(() => null),
      quotas: [{ peers: targets, need, standsFor: targets.map(() => null), durable: false }],
      durable: [],
      self: 1,
      firm: false,
      min: 1,
      absent: [],
      ticket: 0,
      ...more,
    };
  }

  /** A tick with one write. */
  write(group: Group, key: string, firm = false): Ticket {
    const { replicator } = this;
    const record = recordOf(key);
    const op = replicator.begin(group);
    this.groups.set(op, [group]);
    replicator.write(group, op, record, 0, record.length, SAID_BY_RECORD, null, firm);
    if (firm) replicator.opens(slotOf(key));
    return replicator.seal()!;
  }

  /** A tick with one read. */
  compare(group: Group, key: string): void {
    const bytes = Buffer.from(key);
    const op = this.replicator.begin(group);
    this.replicator.compare(group, op, 0, bytes, 0, bytes.length, 7);
    this.replicator.seal();
  }

  ack(peer: Peer, seq: number, refusals: { ticket: number; op: number; key: string }[] = []): void {
    const w = new ByteWriter(64);
    w.u53(seq);
    w.u8(0);
    w.varint(refusals.length);
    for (const { ticket, op, key } of refusals) {
      w.u53(ticket);
      w.varint(op);
      w.u8(REFUSED_WRITE);
      w.u8(0);
      w.str(key);
    }
    this.replicator.takeAck(peer, new ByteReader(w.buf, 0, w.pos));
  }
}

/** Something that is long enough to pass for a record: length, and as many bytes. */
function recordOf(key: string): Buffer {
  const w = new ByteWriter(64);
  w.u32(key.length + 2);
  w.u8(1);
  w.u8(0);
  w.rawStr(key);
  return Buffer.from(w.buf.subarray(0, w.pos));
}

function parse(bytes: Buffer): Frame {
  const r = new ByteReader(bytes, 0, bytes.length);
  const frame: Frame = { seq: r.u53(), ticket: r.u53(), kinds: [] };
  while (!r.done) {
    const kind = r.u8();
    r.varint();
    frame.kinds.push(kind);
    if ((kind & OP_KIND) === OP_COMPARE) {
      r.u8();
      r.str();
      r.u53();
    } else if (kind !== OP_SYNC) r.pos += 4 + bytes.readUInt32LE(r.pos);
  }
  return frame;
}

test('a write goes when as many as it needs have it, and in the order of ticks', () => {
  const world = new World();
  const [a, b] = [world.peer('a'), world.peer('b')];
  const group = world.group([a, b], 1);
  world.write(group, 'k');
  world.write(world.group([b], 1), 'l');
  world.ack(b, 2);
  assert.deepEqual(world.told, ['done 1', 'done 2']);
  world.write(world.group([a], 1), 'm');
  world.write(world.group([b], 1), 'n');
  world.ack(b, 3);
  assert.equal(world.told.length, 2, 'the earlier one waits');
  world.ack(a, 2);
  assert.deepEqual(world.told.slice(2), ['done 3', 'done 4']);
});

test('a firm write that one replica refuses stands when another has taken it; the first is told', () => {
  const world = new World();
  const [a, b] = [world.peer('a'), world.peer('b')];
  const ticket = world.write(world.group([a, b], 1), 'k', true);
  assert.equal(world.sent.get(a)![0].kinds[0], OP_WRITE | OP_FIRM);
  assert.ok(world.replicator.isOpen(slotOf('k')));
  world.ack(a, 1, [{ ticket: ticket.n, op: 0, key: 'k' }]);
  assert.deepEqual(world.told, [], 'an acknowledgement that refuses is no copy');
  world.ack(b, 1);
  assert.deepEqual(world.told, ['a lacks k', 'done 1']);
  assert.ok(!world.replicator.isOpen(slotOf('k')));
});

test('a firm write that all refuse, or that nobody can take any more, is to be undone before its tick is done', () => {
  for (const second of ['refuses', 'fails']) {
    const world = new World();
    const [a, b] = [world.peer('a'), world.peer('b')];
    const ticket = world.write(world.group([a, b], 1), 'k', true);
    world.ack(a, 1, [{ ticket: ticket.n, op: 0, key: 'k' }]);
    if (second === 'refuses') world.ack(b, 1, [{ ticket: ticket.n, op: 0, key: 'k' }]);
    else {
      world.now += TIMEOUT_MS + 1;
      world.replicator.sweep(world.now);
    }
    assert.deepEqual(
      world.told.filter((x) => !x.endsWith('missed')),
      ['refused 1', 'done 1'],
      second,
    );
    assert.equal(world.refused[0].peer, a);
  }
});

test('a refusal that comes when the reply is out only tells that the replica lacks the write', () => {
  const world = new World();
  const [a, b] = [world.peer('a'), world.peer('b')];
  const ticket = world.write(world.group([a, b], 1), 'k', true);
  world.ack(b, 1);
  world.ack(a, 1, [{ ticket: ticket.n, op: 0, key: 'k' }]);
  assert.deepEqual(world.told, ['done 1', 'a lacks k']);
});

test('what is not decided is waited for', async () => {
  const world = new World();
  const a = world.peer('a');
  world.write(world.group([a], 1), 'k', true);
  let decided = false;
  const waiting = world.replicator.decided(slotOf('k')).then(() => {
    decided = true;
  });
  await Promise.resolve();
  assert.ok(!decided);
  world.ack(a, 1);
  await waiting;
  // refused, and not yet undone
  let settle = () => {};
  world.replicator.settles(slotOf('k'), new Promise<void>((done) => (settle = done)));
  assert.ok(world.replicator.isOpen(slotOf('k')) && world.replicator.isDoubtful(slotOf('k')));
  settle();
  await world.replicator.decided(slotOf('k'));
  await Promise.resolve();
  assert.ok(!world.replicator.isOpen(slotOf('k')));
});

test('what was written before the latest news is doubtful until it is decided', () => {
  const world = new World();
  const { replicator } = world;
  const a = world.peer('a');
  const [k, other] = [slotOf('k'), slotOf('other')];
  replicator.hasNews(k);
  world.write(world.group([a], 1), 'k', true);
  assert.ok(!replicator.isDoubtful(k), 'no news since');
  replicator.hasNews(other);
  replicator.hasNews(k);
  assert.ok(replicator.isDoubtful(k));
  assert.ok(!replicator.isDoubtful(other), 'nothing was written');
  world.write(world.group([a], 1), 'k', true);
  world.ack(a, 1);
  assert.ok(replicator.isDoubtful(k), 'the second rests on the first');
  world.ack(a, 2);
  assert.ok(!replicator.isDoubtful(k));
  world.write(world.group([a], 1), 'k', true);
  assert.ok(!replicator.isDoubtful(k), 'it has seen the news');
});

test('slots that lie together are open each for itself, however many tickets there have been', async () => {
  const world = new World();
  const { replicator } = world;
  const a = world.peer('a');
  const group = world.group([a], 1);
  const slot = slotOf('k');
  const neighbour = slot ^ 1;
  const tick = (...slots: number[]) => {
    replicator.begin(group);
    for (const s of slots) replicator.opens(s);
    const t = replicator.seal();
    return t?.n ?? 0;
  };
  world.write(group, 'k', true);
  assert.deepEqual([replicator.isOpen(slot), replicator.isOpen(neighbour)], [true, false]);
  world.ack(a, 1);
  assert.ok(!replicator.isOpen(slot));
  // numbers beyond what is kept of them
  const alone = world.group([], 0);
  for (let i = 0; i < 70_000; i++) {
    replicator.begin(alone);
    replicator.seal();
  }
  world.write(group, 'k', true);
  tick(neighbour);
  assert.deepEqual([replicator.isOpen(slot), replicator.isOpen(neighbour)], [true, true]);
  let decided = false;
  const waiting = replicator.decided(slot).then(() => {
    decided = true;
  });
  world.ack(a, 2);
  await waiting;
  assert.ok(decided);
  assert.ok(!replicator.isOpen(slot), 'the neighbour is not waited for');
});

test('where the reply rests on the state, a stand-in counts once its owner has really failed', () => {
  for (const firm of [true, false]) {
    const world = new World();
    const [owner, standIn] = [world.peer('owner'), world.peer('standIn')];
    owner.state = 'suspect';
    const peers = [owner, standIn];
    const group = world.group(peers, 1, {
      hintFor: [null, 'owner'],
      quotas: [{ peers, need: 1, standsFor: [null, owner], durable: false }],
      firm,
    });
    world.write(group, 'k', firm);
    world.ack(standIn, 1);
    assert.deepEqual(world.told, firm ? [] : ['done 1']);
    world.now += TIMEOUT_MS + 1;
    world.replicator.sweep(world.now);
    assert.ok(world.told.includes('done 1'));
    assert.ok(!world.told.includes('failed 1'));
  }
});

test('a read is compared with another replica when the first is late, or not well any more', () => {
  for (const how of ['late', 'suspected', 'given up']) {
    const world = new World();
    const [a, b] = [world.peer('a'), world.peer('b')];
    world.spare = b;
    world.compare(world.group([a], 1, { spares: [b] }), 'k');
    assert.equal(world.sent.get(b)!.length, 0);
    // a frame of this tick is open for the other already: it keeps its place on the link
    const group = world.group([b], 1);
    const record = recordOf('l');
    world.replicator.write(group, world.replicator.begin(group), record, 0, record.length, SAID_BY_RECORD);
    if (how === 'late') world.replicator.sweep((world.now += HEDGE_MS + 1));
    else if (how === 'suspected') {
      a.state = 'suspect';
      world.replicator.hedgeAll(a);
      world.replicator.check();
    } else world.replicator.sweep((world.now += TIMEOUT_MS + 1));
    world.replicator.seal();
    const [late, tick] = world.sent.get(b)!;
    assert.deepEqual([late.ticket, late.kinds, tick.ticket], [1, [OP_COMPARE], 2], how);
    assert.deepEqual([late.seq, tick.seq], [1, 2], 'numbers follow the order on the link');
    assert.ok(!world.told.includes('done 1'), how);
    world.ack(b, 1);
    assert.ok(world.told.includes('done 1'), how);
    assert.equal(world.replicator.stats.degraded, 0, how);
  }
});

test('a replica that was not asked to compare does not answer for one that was', () => {
  const world = new World();
  const [a, b] = [world.peer('a'), world.peer('b')];
  const { replicator } = world;
  const bytes = Buffer.from('k');
  const reads = world.group([a], 1, { spares: [b] });
  replicator.compare(reads, replicator.begin(reads), 0, bytes, 0, 1, 7);
  const writes = world.group([a, b], 1);
  const record = recordOf('l');
  replicator.write(writes, replicator.begin(writes), record, 0, record.length, SAID_BY_RECORD);
  replicator.seal();
  world.ack(b, 1);
  assert.deepEqual(world.told, []);
  world.ack(a, 1);
  assert.deepEqual(world.told, ['done 1']);
});

test('a durable write waits for whoever is asked to have it on disk, and has failed without', () => {
  for (const how of ['acked', 'failed']) {
    const world = new World();
    const [a, b] = [world.peer('a'), world.peer('b')];
    const quota = (peer: Peer, durable: boolean) => ({ peers: [peer], need: 1, standsFor: [null], durable });
    const group = world.group([a, b], 1, { durable: [b], quotas: [quota(a, false), quota(b, true)] });
    world.write(group, 'k');
    assert.deepEqual(world.sent.get(a)![0].kinds, [OP_WRITE]);
    assert.deepEqual(world.sent.get(b)![0].kinds, [OP_SYNC, OP_WRITE]);
    world.ack(a, 1);
    assert.deepEqual(world.told, []);
    if (how === 'acked') world.ack(b, 1);
    else world.replicator.sweep((world.now += TIMEOUT_MS + 1));
    assert.deepEqual(world.told, how === 'acked' ? ['done 1'] : ['b missed', 'failed 1', 'done 1']);
  }
});
