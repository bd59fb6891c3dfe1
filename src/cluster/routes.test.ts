/** Who does what for a partition: over a ring and opinions of peers alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Layout } from '../ring/layout.ts';
import { SLOTS } from '../ring/slots.ts';
import type { Journal } from '../store/journal.ts';
import type { Link } from './bus.ts';
import { Peer, type Peers } from './peers.ts';
import { Ring } from './ring.ts';
import { type Route, Routes } from './routes.ts';

const idOf = (n: number) => n.toString(16).padStart(40, '0');

/** Nodes 1 to n, of which the first is this one. The walk of the ring is neither even nor in one order. */
function layout(version: number, members: number, partitions: number): Layout {
  return {
    version,
    partitions,
    members: Array.from({ length: members }, (_, i) => ({
      id: idOf(i + 1),
      host: `h${i}`,
      zone: '',
      weight: 1,
      bus: '',
      client: '',
    })),
    owners: Array.from({ length: partitions }, (_, p) => (Math.imul(p + 1, 2654435761) >>> 13) % members),
  };
}

class World {
  readonly self = idOf(1);
  readonly ring = new Ring(3);
  readonly byId = new Map<string, Peer>();
  readonly peers = {
    epoch: 0,
    byId: this.byId,
    get: (id: string) => this.byId.get(id)!,
    isHealthy: (id: string) => id === this.self || this.byId.get(id)!.isWell,
  };
  readonly journal = { failure: null as string | null };
  readonly options = { r: 2, w: 2, writeMin: () => 1, readMin: () => 1, durable: () => 0 };
  readonly routes: Routes;

  constructor(
    members: number,
    readonly partitions = 1024,
  ) {
    for (let i = 2; i <= members; i++) {
      const peer = new Peer(idOf(i));
      this.byId.set(peer.id, peer);
      this.set(peer, true);
    }
    this.ring.advance(layout(1, members, partitions));
    this.routes = new Routes({
      ring: this.ring,
      peers: this.peers as unknown as Peers,
      journal: this.journal as unknown as Journal,
      self: this.self,
      options: this.options,
    });
  }

  set(peer: Peer, well: boolean): void {
    peer.link = well ? ({} as Link) : null;
    peer.state = well ? 'alive' : 'down';
    peer.clock = 0;
    this.peers.epoch++;
  }

  all(): Route[] {
    return Array.from({ length: this.partitions }, (_, p) => this.routes.of(p));
  }

  /** Who should coordinate a partition: the first of its list that is well. */
  coordinatorOf(p: number): string {
    return this.ring.list(p).find((id) => this.peers.isHealthy(id))!;
  }

  check(): void {
    for (let p = 0; p < this.partitions; p++) {
      const route = this.routes.of(p);
      assert.equal(route.coordinator?.id ?? this.self, this.coordinatorOf(p));
      assert.equal(this.routes.coordinates(p), this.coordinatorOf(p) === this.self);
      assert.equal(route.home, this.ring.homes(p).includes(this.self));
      const others = this.ring.homes(p).filter((id) => id !== this.self && this.peers.isHealthy(id));
      for (const id of others) assert.ok(route.write.targets.some((x) => x.id === id));
      for (const x of route.read.targets) assert.ok(others.includes(x.id));
    }
  }
}

test('three nodes have three routes, whatever the orders in which partitions prefer them', () => {
  const w = new World(3);
  w.check();
  const all = w.all();
  const orders = new Set(Array.from({ length: w.partitions }, (_, p) => w.ring.homes(p).join()));
  assert.equal(orders.size, 6, 'the layout has all orders');
  assert.equal(new Set(all).size, 3);
  assert.equal(new Set(all.map((r) => r.write)).size, 1);
  assert.equal(new Set(all.map((r) => r.read)).size, 1);
  assert.equal(all[0].firmWrite, all[0].write, 'nobody stands in');
});

test('what is known of a partition is forgotten when an opinion changes, and only then', () => {
  const w = new World(3);
  const before = w.all();
  assert.deepEqual(new Set(w.all()), new Set(before));
  w.set(w.byId.get(idOf(2))!, false);
  w.check();
  const after = w.all();
  for (const r of after) assert.ok(!before.includes(r));
  // the two that are left
  assert.equal(new Set(after).size, 2);
  assert.deepEqual(after[0].write.absent, [idOf(2)]);
});

test('partitions with other homes do not share a route, and those with the same do', () => {
  const w = new World(6, 4096);
  w.check();
  const names = new Map<Route, string>();
  const routes = new Map<string, Route>();
  for (let p = 0; p < w.partitions; p++) {
    const name = `${w.coordinatorOf(p)}|${[...w.ring.homes(p)].sort().join()}`;
    const route = w.routes.of(p);
    assert.equal(names.get(route) ?? name, name);
    assert.equal(routes.get(name) ?? route, route);
    names.set(route, name);
    routes.set(name, route);
  }
  assert.ok(names.size > 20);
});

test('the next healthy nodes stand in for those that are gone, each for one', () => {
  const w = new World(6);
  const gone = idOf(4);
  w.set(w.byId.get(gone)!, false);
  w.check();
  let seen = 0;
  for (let p = 0; p < w.partitions; p++) {
    const homes = w.ring.homes(p);
    const { write, firmWrite } = w.routes.of(p);
    if (!homes.includes(gone)) {
      assert.equal(firmWrite, write);
      continue;
    }
    seen++;
    assert.deepEqual(
      write.absent.filter((x) => x !== gone),
      [],
    );
    const hinted = write.targets.filter((_, i) => write.hintFor[i] !== null);
    if (homes.includes(w.self)) {
      assert.ok(firmWrite.firm && !write.firm);
      const first = w.ring.list(p).find((id) => !homes.includes(id) && w.peers.isHealthy(id));
      assert.deepEqual(
        hinted.map((x) => x.id),
        [first],
      );
    } else assert.deepEqual(hinted, [], 'this node stands in itself');
  }
  assert.ok(seen > 100);
});

test('a moving partition has a route of its own, with a quota among the new homes, until they have confirmed', () => {
  const w = new World(3);
  const joined = new Peer(idOf(4));
  w.byId.set(joined.id, joined);
  w.set(joined, true);
  w.all();
  w.ring.advance(layout(2, 4, w.partitions));
  w.check();
  const moving = w.ring.moving();
  assert.ok(moving.length > 100);
  for (const p of moving) {
    const { write } = w.routes.of(p);
    assert.equal(write.quotas.length, 2);
    assert.ok(write.targets.includes(joined));
    assert.ok(!w.routes.of(p).read.targets.includes(joined), 'it does not serve yet');
  }
  const p = moving[0];
  w.ring.confirm(p, joined.id);
  assert.equal(w.routes.of(p).write.quotas.length, 1);
});

test('one whose disk refuses coordinates only where there is no other', () => {
  const w = new World(2, SLOTS);
  w.journal.failure = 'full';
  w.peers.epoch++;
  assert.ok(w.all().every((r) => r.coordinator?.id === idOf(2)));
  w.set(w.byId.get(idOf(2))!, false);
  assert.ok(w.all().every((r) => r.coordinator === null && !r.nobody));
});
