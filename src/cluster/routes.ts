/**
 * Who does what for each partition, as this node sees it now: who coordinates it, who takes part in its writes and reads,
 * and who stands in for whom (paper 4.6).
 *
 * A route depends on nothing but the ring and this node's opinion of its peers. It is worked out when it is first asked
 * for and holds until one of these changes.
 *
 * Every command asks for one, so there are few: partitions for which the same nodes do the same share one object, which
 * says nothing of the partition. Three nodes have three routes and one group of writes, and these stay in the cache.
 */
import { MAX_PARTITIONS } from '../ring/layout.ts';
import type { Journal } from '../store/journal.ts';
import type { Peer, Peers } from './peers.ts';
import type { Group, Quota } from './replicator.ts';
import type { Ring } from './ring.ts';

const NO_PEERS: readonly Peer[] = [];

export interface RouteOptions {
  /** Replicas that a read asks, and that a write waits for. */
  r: number;
  w: number;
  /** Copies without which a write, or a read, has failed. */
  writeMin: () => number;
  readMin: () => number;
  /** Other nodes that must have a write on disk before it is acknowledged. */
  durable: () => number;
}

export interface RouteParts {
  ring: Ring;
  peers: Peers;
  journal: Journal;
  self: string;
  options: RouteOptions;
}

/** Who does what for some partitions, as this node sees it now. */
export interface Route {
  epoch: number;
  /** Null when it is this node. */
  coordinator: Peer | null;
  /** Nobody who may coordinate can be reached. */
  nobody: boolean;
  /** This node is one of those who serve. */
  home: boolean;
  write: Group;
  /** For writes whose replies rest on the state; the same where nobody stands in. */
  firmWrite: Group;
  read: Group;
}

export class Routes {
  private readonly ring: Ring;
  private readonly peers: Peers;
  private readonly journal: Journal;
  private readonly self: string;
  private readonly options: RouteOptions;
  private readonly routes = new Array<Route | null>(MAX_PARTITIONS).fill(null);
  private readonly groups = new Map<string, Group>();
  private groupsEpoch = -1;
  /** Numbers of the groups, for the names of routes. */
  private readonly numbers = new Map<Group, number>();
  private readonly shared = new Map<string, Route>();
  /** Routes by the orders of nodes that they were worked out from; and whether all members were well. */
  private readonly patterns = new Map<string, Route>();
  private allWell = false;

  constructor(parts: RouteParts) {
    this.ring = parts.ring;
    this.peers = parts.peers;
    this.journal = parts.journal;
    this.self = parts.self;
    this.options = parts.options;
  }

  /** Counts changes of who is well and of who serves. */
  private get epoch(): number {
    return this.peers.epoch + this.ring.epoch;
  }

  /** Who does what for partition p now. */
  of(p: number): Route {
    const route = this.routes[p];
    if (route !== null && route.epoch === this.epoch) return route;
    const fresh = this.makeRoute(p);
    this.routes[p] = fresh;
    return fresh;
  }

  /**
   * A route depends on nothing but nodes, and few orders of these occur: each change of an opinion or of the ring makes all
   * partitions' routes anew, while clients wait.
   */
  private makeRoute(p: number): Route {
    this.startEpoch();
    const { ring } = this;
    const target = ring.isMoving(p) ? ring.target(p).join() : '';
    const name = `${ring.homes(p).join()}|${target}|${this.allWell ? '' : ring.list(p).join()}`;
    const known = this.patterns.get(name);
    if (known !== undefined) return known;
    const route = this.workOutRoute(p);
    this.patterns.set(name, route);
    return route;
  }

  /** Forgets what was worked out of who is well and who serves, when that has changed. */
  private startEpoch(): void {
    if (this.groupsEpoch === this.epoch) return;
    this.groupsEpoch = this.epoch;
    this.groups.clear();
    this.numbers.clear();
    this.shared.clear();
    this.patterns.clear();
    const { peers, self } = this;
    const ids = [...this.ring.members, ...[...peers.byId.keys()].filter((id) => this.ring.isOwner(id))];
    this.allWell =
      this.journal.failure === null &&
      ids.every((id) => id === self || (peers.isHealthy(id) && peers.get(id).refusesUntil === 0));
  }

  private workOutRoute(p: number): Route {
    const { ring, peers, self } = this;
    const { failure } = this.journal;
    let coordinator: Peer | null = null;
    let nobody = true;
    // one whose disk refuses coordinates only where there is no other
    for (const strict of [true, false]) {
      for (const id of ring.list(p)) {
        if (id !== self && !peers.isHealthy(id)) continue;
        if (strict && (id === self ? failure !== null : peers.get(id).refusesUntil > 0)) continue;
        coordinator = id === self ? null : peers.get(id);
        nobody = false;
        break;
      }
      if (!nobody) break;
    }
    const { r, w, writeMin, readMin } = this.options;
    const route: Route = {
      epoch: this.epoch,
      coordinator,
      nobody,
      home: ring.homes(p).includes(self),
      write: this.writeGroup(p, w, writeMin(), false),
      firmWrite: this.writeGroup(p, w, writeMin(), true),
      read: this.readGroup(p, r, readMin()),
    };
    const groups = [route.write, route.firmWrite, route.read].map((g) => this.numbers.get(g));
    const name = `${nobody ? '' : (coordinator?.id ?? self)}|${route.home}|${groups.join()}`;
    const known = this.shared.get(name);
    if (known !== undefined) return known;
    this.shared.set(name, route);
    return route;
  }

  /** Does this node coordinate it? */
  coordinates(p: number): boolean {
    const r = this.of(p);
    return !r.nobody && r.coordinator === null;
  }

  /** Who takes part in a write. @param min copies without which it has failed */
  writeGroup(p: number, w: number, min: number, firm: boolean): Group {
    const { ring, peers, self } = this;
    const homes = ring.homes(p);
    const gaining = ring.gaining(p);
    const list = ring.list(p);
    const targets: Peer[] = [];
    const hintFor: (string | null)[] = [];
    const absent: string[] = [];
    const counted: Peer[] = [];
    const standsFor: (Peer | null)[] = [];
    const used = new Set<string>([...homes, ...gaining, self]);
    let copies = homes.includes(self) ? 1 : 0;
    for (const id of this.inOrder([...homes, ...gaining])) {
      const peer = peers.get(id);
      if (peer.link === null) absent.push(id);
      else {
        targets.push(peer);
        hintFor.push(null);
        if (homes.includes(id)) {
          counted.push(peer);
          standsFor.push(null);
        }
      }
    }
    const missing = homes.filter((id) => id !== self && !peers.get(id).isWell);
    // the next healthy nodes stand in (paper 4.6); this one too, when it is no home and has to coordinate
    for (const owner of missing) {
      if (copies === 0 && !homes.includes(self)) {
        copies = 1;
        if (!absent.includes(owner)) absent.push(owner);
        continue;
      }
      const standIn = list.find((id) => !used.has(id) && peers.isHealthy(id));
      if (standIn === undefined) continue;
      used.add(standIn);
      const peer = peers.get(standIn);
      targets.push(peer);
      hintFor.push(owner);
      counted.push(peer);
      standsFor.push(peers.get(owner));
    }
    const quotas: Quota[] = [
      { peers: counted, need: Math.max(0, Math.min(w, homes.length) - copies), standsFor, durable: false },
    ];
    if (gaining.length > 0) {
      const target = ring.target(p);
      const fresh = target.filter((id) => id !== self).map((id) => peers.get(id));
      const own = target.includes(self) ? 1 : 0;
      const need = Math.max(0, Math.min(w, target.length) - own);
      quotas.push({ peers: fresh, need, standsFor: fresh.map(() => null), durable: false });
    }
    // always the same ones, and those that are asked last to compare reads: an fsync keeps the fewest waiting
    const wanted = this.options.durable();
    const durable = wanted === 0 ? NO_PEERS : this.wellHomes(p).slice(-wanted);
    if (durable.length > 0)
      quotas.push({ peers: durable, need: durable.length, standsFor: durable.map(() => null), durable: true });
    return this.intern({
      targets,
      spares: [],
      hintFor,
      quotas,
      self: copies,
      durable,
      // without stand-ins there is no difference, and a tick has fewer groups
      firm: firm && standsFor.some((x) => x !== null),
      min: Math.min(min, homes.length),
      absent,
      ticket: 0,
    });
  }

  /** The other nodes of these, beginning with those that follow this one: so all have as much to do. */
  private inOrder(ids: readonly string[]): string[] {
    const { self } = this;
    return [...ids.filter((id) => id > self).sort(), ...ids.filter((id) => id < self).sort()];
  }

  /** The other homes that are well, in that order. */
  private wellHomes(p: number): Peer[] {
    return this.inOrder(this.ring.homes(p))
      .map((id) => this.peers.get(id))
      .filter((x) => x.isWell);
  }

  private readGroup(p: number, r: number, min: number): Group {
    const { ring, self } = this;
    const homes = ring.homes(p);
    const well = this.wellHomes(p);
    const copies = homes.includes(self) ? 1 : 0;
    const need = Math.max(0, Math.min(r, homes.length) - copies);
    return this.intern({
      targets: well.slice(0, need),
      spares: well.slice(need),
      hintFor: well.slice(0, need).map(() => null),
      quotas: [{ peers: well.slice(0, need), need, standsFor: well.slice(0, need).map(() => null), durable: false }],
      self: 1,
      durable: NO_PEERS,
      firm: false,
      min: Math.min(min, homes.length),
      absent: [],
      ticket: 0,
    });
  }

  /** Partitions with the same nodes share a group, so that a tick has few of them. */
  private intern(g: Group): Group {
    this.startEpoch();
    const ids = (list: readonly Peer[]) => list.map((x) => x.id).join();
    const name = [
      ids(g.targets),
      ids(g.spares),
      g.hintFor.join(),
      g.quotas.map((q) => `${ids(q.peers)}/${q.need}`).join(';'),
      g.self,
      g.firm ? g.quotas.map((q) => q.standsFor.map((x) => x?.id ?? '').join()).join(';') : '',
      g.min,
      g.absent.join(),
      ids(g.durable),
    ].join('|');
    const known = this.groups.get(name);
    if (known !== undefined) return known;
    this.groups.set(name, g);
    this.numbers.set(g, this.numbers.size);
    return g;
  }
}
