/**
 * One node's part in the cluster: puts the pieces together, and sends what has been written here to its replicas.
 *
 * Nothing here knows what a command is: the server asks for a `Route` (`routes`), runs the command or sends it on, and
 * gives the records that came of it to `replicate`.
 */
import { breaks } from '../base/breaks.ts';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Clock, Random, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { TlsOptions, Transport } from '../ports/transport.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import { MadeRecords } from '../store/made-records.ts';
import { keyOfRecord } from '../store/replica.ts';
import type { Store } from '../store/store.ts';
import { Bus, type Link } from './bus.ts';
import { type Foreground, Governor } from './governor.ts';
import type { Versions } from './handshake.ts';
import { Hints } from './hints.ts';
import { Lends } from './lends.ts';
import { Locks } from './locks.ts';
import { Membership } from './membership.ts';
import * as m from './messages.ts';
import { Operator } from './operator.ts';
import { type Peer, Peers } from './peers.ts';
import { Reads } from './reads.ts';
import { REAP_AGE_MS } from './reaping.ts';
import { Receiver } from './receiver.ts';
import { Repair } from './repair.ts';
import { type Group, Replicator, type ReplicatorEvents, type RequestName } from './replicator.ts';
import { type Done, Requests } from './requests.ts';
import type { Ring } from './ring.ts';
import { type RouteOptions, Routes } from './routes.ts';
import { Rpc } from './rpc.ts';
import { States } from './states.ts';
import { Trees } from './trees.ts';
import { Voids } from './voids.ts';

const HINTS_MS = 200;
/** Frames that are taken from a node that is expelled. */
const HEARD_FROM_EXPELLED: ReadonlySet<number> = new Set([m.GOSSIP, m.RING, m.RING_NAME, m.PING]);
/** A member that was started waits this long for the others, in ms. */
const START_MS = 1500;

export interface ClusterOptions extends RouteOptions {
  n: number;
  /** Ms after its deadline that a key is removed, while there are other members. */
  expireSettle: () => number;
  /** Ms that a member may be away before it is expelled; 0 for ever. */
  tombstoneGrace: () => number;
  /** Ms; background work gives way while the foreground's 99th percentile is above it. 0 for never. */
  backgroundLatency: () => number;
  seeds: readonly string[];
  autoJoin: boolean;
  host: string;
  zone: string;
  weight: number;
  secret: string;
  tls: TlsOptions | null;
  bindHost: string;
  port: number;
  /** What other nodes and clients are told. */
  busAddress: string;
  clientAddress: string;
}

export interface ClusterParts {
  store: Store;
  transport: Transport;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  options: ClusterOptions;
  /** What clients' requests take. */
  foreground: Foreground;
  /** Versions of the bus protocol that it speaks; all by default. */
  busVersions?: Versions;
}

/** What the server does for other nodes. */
export interface ClusterServer extends Omit<ReplicatorEvents, 'missed' | 'behind' | 'spare' | 'late'> {
  forward(peer: Peer, buf: Buffer, start: number, end: number): void;
  /** @param others the reply begins with the id of the node that has run the command */
  forwarded(peer: Peer, buf: Buffer, start: number, end: number, others: boolean): void;
  /** The reply to a command that this node has forwarded, which came with its write. */
  answered(peer: Peer, tag: number, id: number, buf: Buffer, start: number, end: number): void;
  /** A peer's link is gone, or it is not waited for any longer. */
  lost(peer: Peer): void;
  /** Something has to be done at the end of this tick. */
  wake(): void;
  /** What this tick has written so far goes out. */
  flush(): void;
  /** Who coordinates what has changed. */
  routesChanged(): void;
  sweep(now: number): void;
  /** A forwarded command was run here, but another run of it counts. */
  undoByName(tag: number, id: number, done: Done): void;
  /** A peer's link is up. */
  met(peer: Peer): void;
  takeFloors(r: ByteReader): Promise<void>;
}

export class Cluster {
  readonly bus: Bus;
  readonly peers: Peers;
  readonly rpc: Rpc;
  readonly membership: Membership;
  readonly ring: Ring;
  readonly routes: Routes;
  readonly replicator: Replicator;
  readonly receiver: Receiver;
  readonly reads: Reads;
  readonly states: States;
  readonly governor: Governor;
  readonly hints: Hints;
  readonly trees: Trees;
  readonly repair: Repair;
  readonly operator: Operator;
  readonly locks = new Locks();
  readonly lends: Lends;
  readonly requests = new Requests();
  readonly voids = new Voids();
  readonly self: string;
  readonly options: ClusterOptions;
  private readonly parts: ClusterParts;
  private readonly store: Store;
  private server!: ClusterServer;
  private nextHints = 0;
  private starting = true;
  private refusing = false;
  private startedAt = 0;
  /** Resolves when this node serves. */
  readonly started: Promise<void>;
  private haveStarted: () => void = () => {};
  /** Who takes part in the operation that `replicate` has just sent. */
  lastGroup: Group | null = null;
  moreGroups: readonly Group[] | null = null;
  private stopped = false;

  private constructor(parts: ClusterParts, bus: Bus, peers: Peers, rpc: Rpc, membership: Membership) {
    const { store, clock, timers, random, log, options } = parts;
    this.started = new Promise((resolve) => {
      this.haveStarted = resolve;
    });
    this.parts = parts;
    this.store = store;
    this.options = options;
    this.bus = bus;
    this.peers = peers;
    this.rpc = rpc;
    this.membership = membership;
    this.ring = membership.ring;
    this.self = store.identity.nodeId;
    this.routes = new Routes({ ring: this.ring, peers, journal: store.journal, self: this.self, options });
    this.governor = new Governor({
      foreground: parts.foreground,
      clock,
      timers,
      thresholdMs: options.backgroundLatency,
    });
    this.states = new States({ store, peers, clock, log });
    this.reads = new Reads({
      store,
      requests: this.requests,
      peers,
      ring: this.ring,
      clock,
      repair: (peer, place) => this.states.send(peer, place),
      isOpen: (slot) => this.replicator.isOpen(slot),
      isSettling: (slot) => this.replicator.isSettling(slot),
      decided: (slot) => this.replicator.decided(slot),
    });
    this.hints = new Hints({
      store,
      peers,
      states: this.states,
      governor: this.governor,
      clock,
      timers,
      log,
      isOwner: (id) => this.ring.layout === null || this.ring.isOwner(id),
    });
    this.trees = new Trees({ keys: store.keys, engine: store.engine, timers, log });
    this.repair = new Repair({
      store,
      trees: this.trees,
      peers,
      ring: this.ring,
      reads: this.reads,
      states: this.states,
      governor: this.governor,
      rpc,
      clock,
      timers,
      random,
      log,
      r: options.r,
      w: options.w,
      coordinates: (p) => this.routes.coordinates(p),
      isGone: (id) => membership.isGone(id),
      outsiders: () => membership.outsiders(),
      hasWork: (p) => this.hasWork(p),
      isBorrowed: (place) => this.lends.isBorrowed(place),
    });
    this.replicator = new Replicator(peers, clock, {
      done: (t) => this.server.done(t),
      forgotten: (t) => this.server.forgotten(t),
      failed: (t, g) => this.server.failed(t, g),
      unclean: (peer, t, op, db, key, theirs) => this.server.unclean(peer, t, op, db, key, theirs),
      undecided: (t, op) => this.server.undecided(t, op),
      groupsOf: (t, op) => this.server.groupsOf(t, op),
      refused: (t, refusal) => this.server.refused(t, refusal),
      late: () => this.server.wake(),
      spare: (peer, db, key) => {
        const { read } = this.routes.of(this.store.keys.partitionOf(this.place(db, key).slot));
        return [...read.targets, ...read.spares].find((x) => x !== peer && x.isWell) ?? null;
      },
      behind: (peer, db, key) => this.states.send(peer, this.place(db, key)),
      missed: (owner, buf, start, request) => {
        this.hints.add(owner, keyOfRecord(store.keys, buf, start));
        if (request !== null) this.requests.miss(owner, request);
      },
    });
    this.receiver = new Receiver({
      store,
      log,
      requests: this.requests,
      events: {
        hint: (owner, place) => this.hints.add(owner, place),
        isOpen: (slot) => this.replicator.isOpen(slot),
        answered: (peer, tag, id, buf, start, end) => this.server.answered(peer, tag, id, buf, start, end),
        wake: () => this.server.wake(),
      },
    });
    this.lends = new Lends({
      store,
      self: this.self,
      peers,
      clock,
      locks: this.locks,
      mayLend: (p) => this.mayLend(p),
      hasTenure: (p) => this.repair.tenure[p] === 1,
      read: (place) => this.reads.read(place, { r: options.r, min: options.readMin(), timeoutMs: 0 }),
      decided: (slot) => (this.replicator.isOpen(slot) ? this.replicator.decided(slot) : null),
      flush: () => {
        if (this.replicator.open !== null) this.server.flush();
      },
      merge: (place, state) => {
        if (this.replicator.open !== null) this.server.flush();
        this.reads.merge(place, state);
      },
      whenTaken: (peer, tell) => this.receiver.whenTaken(peer, tell),
      wake: () => this.server.wake(),
    });
    this.operator = new Operator({ store, peers, rpc, membership, hints: this.hints });
    store.keys.made = new MadeRecords();
    store.keys.onNews = (slot) => this.replicator.hasNews(slot);
    store.keys.onOwn = () => this.replicateOwn();
    store.keys.mayExpire = (slot) => this.locks.isFree(slot) && this.mayExpire(store.keys.partitionOf(slot));
    store.expiry.settleMs = () => (this.isAlone ? 0 : options.expireSettle());
  }

  static async open(parts: ClusterParts): Promise<Cluster> {
    const { store, transport, clock, timers, random, log, options } = parts;
    // the bus asks who we are before there is a membership to say so
    const known: { membership: Membership | null; superseded: (session: number) => void } = {
      membership: null,
      superseded: (session) => {
        store
          .renewActor(session)
          .then(() => known.membership?.restart(store.identity.session))
          .catch((error) => log.error({ error: String(error) }, 'a new session could not be begun'));
      },
    };
    const bus = new Bus({
      transport,
      clock,
      timers,
      random,
      log,
      hello: () => ({
        nodeId: store.identity.nodeId,
        clusterId: known.membership?.clusterId ?? '',
        session: store.identity.session,
        bus: options.busAddress,
        client: options.clientAddress,
      }),
      secret: options.secret,
      tls: options.tls,
      versions: parts.busVersions,
    });
    const peers = new Peers({ self: store.identity.nodeId, bus, clock, timers, random, log });
    const rpc = new Rpc(peers, clock);
    const membership = await Membership.open(
      { store, bus, peers, rpc, clock, timers, random, log, superseded: (session) => known.superseded(session) },
      {
        seeds: options.seeds,
        autoJoin: options.autoJoin,
        host: options.host,
        zone: options.zone,
        weight: options.weight,
        n: options.n,
        w: options.w,
        grace: options.tombstoneGrace,
        bus: options.busAddress,
        client: options.clientAddress,
      },
    );
    known.membership = membership;
    return new Cluster(parts, bus, peers, rpc, membership);
  }

  /** @param server what runs commands here */
  async start(server: ClusterServer): Promise<string> {
    this.server = server;
    this.startedAt = this.parts.clock.monotonic();
    const { bus, peers, membership } = this;
    this.ringChanged('layout');
    await this.hints.start();
    bus.onUp = (link) => this.linkUp(link);
    bus.onDown = (link) => this.linkDown(link);
    bus.onFrame = (link, kind, buf, start, end) => this.frame(link, kind, buf, start, end);
    // only a refusal by the machine itself says that the process is gone
    bus.onRefused = (address, why) => {
      if (/refused$|ECONNREFUSED/.test(why)) this.refused(address);
    };
    peers.onChange = (peer, was) => this.peerChanged(peer, was);
    peers.onSweep = (now) => this.sweep(now);
    peers.onStall = (ms) => {
      this.parts.log.warn(
        { ms: Math.round(ms) },
        'this node was stalled; it reads before it runs until it has caught up',
      );
      this.repair.loseTenure();
      // its links may be gone without its knowing: as after a start, it waits for them before it serves
      this.starting = true;
      this.startedAt = this.parts.clock.monotonic();
      this.peers.doubtAll();
    };
    membership.onExpelled = () => {
      this.repair.stop();
      this.server.routesChanged();
    };
    membership.onGone = (id) => {
      // it may be linked all the same: but it answers for nothing any more, so nobody is to wait for it
      const link = this.membership.hasExpelled(id) ? (peers.byId.get(id)?.link ?? null) : null;
      if (link !== null) this.linkDown(link);
      this.hints.forgetOwner(id);
      this.voids.forget(id);
    };
    membership.onRing = (what) => this.ringChanged(what);
    this.repair.onSettled = () => membership.settled();
    const address = await bus.listen(this.options.bindHost, this.options.port);
    this.trees.start();
    membership.start();
    this.governor.start();
    this.repair.start();
    return address;
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.membership.stop();
    this.governor.stop();
    this.repair.stop();
    this.trees.stop();
    this.peers.stop();
    await this.hints.stop();
    await this.membership.saved();
    await this.bus.close();
  }

  // ------------------------------------------------------------------ what this node may do

  get isAlone(): boolean {
    return this.ring.isSole(this.self);
  }

  /**
   * Nothing of what is here can be anywhere else. Alone by its own choice, and never otherwise: a node that waits for its
   * cluster may hold what others know of, and one that has left it may still have keys to hand over.
   */
  private get isSole(): boolean {
    return this.isAlone && this.membership.outsiders().length === 0;
  }

  /** May other nodes borrow keys of the partition here? Only from a home: it gets what the borrower writes. */
  private mayLend(p: number): boolean {
    if (this.starting || this.isExpelled || this.store.journal.failure !== null) return false;
    return this.ring.layout !== null && this.routes.coordinates(p) && this.routes.of(p).home;
  }

  /** Its coordinator removes what is past its deadline, once it knows that it has everything. */
  private mayExpire(p: number): boolean {
    // what an expelled node holds is kept as it is, for whoever comes to recover it
    if (this.isExpelled) return false;
    return this.isAlone || (this.routes.coordinates(p) && this.repair.tenure[p] === 1);
  }

  // ------------------------------------------------------------------ replication

  /**
   * Sends the records that have been made since the last time to their replicas.
   * @param group for the first key, when it is other than its route's
   * @param firm the reply rests on the state: who has seen more does not apply them
   * @returns the operation's number, or -1 when nothing was written
   */
  replicate(group: Group | null, request: RequestName | null = null, firm = false): number {
    const made = this.store.keys.made!;
    const n = made.count;
    if (n === 0) return -1;
    const { w, sealed } = this.store.journal;
    if (made.sealed !== sealed) {
      // their bytes are not there any more: replicas get what they came to when they compare
      this.parts.log.error({ records: n }, 'own records were not replicated before their batch was sealed');
      made.clear();
      return -1;
    }
    let op = -1;
    let first: Group | null = null;
    let more: Group[] | null = null;
    for (let i = 0; i < n; i++) {
      const at = made.starts[i];
      const end = at + 4 + w.buf.readUInt32LE(at);
      const route = this.routes.of(this.store.keys.partitionOf(made.slots[i]));
      const g = group ?? (firm ? route.firmWrite : route.write);
      if (op < 0) {
        op = this.replicator.begin(g);
        first = g;
      } else if (g !== first) {
        more ??= [];
        more.push(g);
        this.replicator.join(this.replicator.ticket(), g);
      } else this.replicator.join(this.replicator.ticket(), g);
      this.replicator.write(g, op, w.buf, at, end, made.basis(i), i === 0 ? request : null, firm);
      if (firm) this.replicator.opens(made.slots[i]);
    }
    this.lastGroup = first;
    this.moreGroups = more;
    made.clear();
    return op;
  }

  /** Records that no command has made: expiry, undoing. */
  replicateOwn(): void {
    const made = this.store.keys.made!;
    if (made.count === 0) return;
    // nobody else is to have them; who joins gets what they came to
    if (this.isAlone || this.ring.layout === null) made.clear();
    else this.replicate(null);
  }

  // ------------------------------------------------------------------ links

  private linkUp(link: Link): void {
    if (this.stopped) return;
    if (this.membership.hasExpelled(link.nodeId)) {
      // it hears what it has become, and is no peer: its pongs would make it a source and a coordinator
      this.membership.linkUp(link);
      return;
    }
    const peer = this.peers.get(link.nodeId);
    // frames are numbered afresh on each link
    peer.nextSeq = Math.max(peer.nextSeq, peer.acked + 1);
    this.peers.attach(link);
    this.membership.linkUp(link);
    this.sayNames(peer);
    this.voids.linkUp(peer);
    this.server.met(peer);
    this.nextHints = 0;
  }

  /** What this node has run for others while the peer was out of reach: it may be asked to run the same. */
  private sayNames(peer: Peer): void {
    const list = this.requests.takeMissed(peer.id);
    if (list.length === 0) return;
    const w = new ByteWriter(1024);
    w.varint(list.length);
    for (const { tag, id, reply } of list) writeDone(w, tag, id, this.self, reply);
    if (!peer.link?.send(m.NAMES, w.buf, 0, w.pos)) for (const x of list) this.requests.miss(peer.id, x);
  }

  private takeNames(r: ByteReader): void {
    for (let n = r.varint(); n > 0; n--) {
      const { tag, id, done } = readDone(r);
      if (this.requests.get(tag, id) === undefined) this.requests.put(tag, id, done);
    }
  }

  private linkDown(link: Link): void {
    const peer = this.peers.get(link.nodeId);
    this.peers.detach(link);
    this.reads.lost(peer);
    this.rpc.lost(peer);
    this.states.lost(peer);
    this.repair.lost(peer);
    this.receiver.forget(peer);
    this.replicator.lost(peer);
    this.lends.lost(peer);
    this.server.lost(peer);
  }

  private refused(address: string): void {
    for (const { id, facts } of this.membership.known()) if (facts.bus === address) this.peers.refused(id);
  }

  private peerChanged(peer: Peer, was: boolean): void {
    if (peer.isGone) this.server.lost(peer);
    if (was === peer.isWell) return;
    if (!peer.isWell) this.replicator.hedgeAll(peer);
    this.repair.peerChanged(peer);
    if (peer.isWell) this.nextHints = 0;
    else {
      this.lends.suspected(peer);
      this.server.lost(peer);
    }
    this.server.routesChanged();
    this.replicator.check();
  }

  private ringChanged(what: 'layout' | 'serving'): void {
    const { keys } = this.store;
    keys.sole = this.isSole;
    // between commands there are only such as were made alone
    keys.made!.clear();
    if (what === 'layout') this.repair.loseTenure();
    this.server.routesChanged();
  }

  private sweep(now: number): void {
    this.replicator.sweep(now);
    this.reads.sweep(now);
    this.rpc.sweep(now);
    this.states.sweep(now);
    this.repair.sweep(now);
    this.lends.sweep();
    const refusing = this.store.journal.failure !== null;
    if (refusing !== this.refusing) {
      this.refusing = refusing;
      this.peers.epoch++;
    }
    if (this.isAlone) this.store.keys.sole = this.isSole;
    this.endStart(now);
    this.server.sweep(now);
    this.requests.sweep(now);
    if (now >= this.nextHints) {
      this.nextHints = now + HINTS_MS;
      // before the keys themselves, so that nobody knows of a write and not of the command that it came of
      for (const peer of this.peers.byId.values()) if (peer.isWell) this.sayNames(peer);
      this.hints.deliver(now);
    }
  }

  private frame(link: Link, kind: number, buf: Buffer, start: number, end: number): void {
    const peer = this.peers.get(link.nodeId);
    const expelled = this.membership.hasExpelled(peer.id);
    if (peer.link !== link && !expelled) return;
    try {
      // an expelled node's data counts no more; it may hear what it has become
      if (expelled && !HEARD_FROM_EXPELLED.has(kind)) return;
      this.take(peer, link, kind, buf, start, end);
    } catch (error) {
      this.parts.log.error(
        { peer: peer.id.slice(0, 8), kind, error: error instanceof Error ? error.stack : String(error) },
        'a frame made no sense; the link is closed',
      );
      link.destroy();
    }
  }

  private take(peer: Peer, link: Link, kind: number, buf: Buffer, start: number, end: number): void {
    switch (kind) {
      case m.REPLICATE:
        this.receiver.take(peer, buf, start, end);
        return;
      case m.ACK:
        this.replicator.takeAck(peer, new ByteReader(buf, start, end));
        return;
      case m.FORWARD:
        this.server.forward(peer, buf, start, end);
        return;
      case m.FORWARDED:
        this.server.forwarded(peer, buf, start, end, false);
        return;
      case m.FORWARDED_BY:
        this.server.forwarded(peer, buf, start, end, true);
        return;
      case m.GOSSIP:
      case m.RING:
      case m.RING_NAME:
        this.membership.take(link, kind, buf, start, end);
        return;
      default:
        this.takeSlow(peer, link, kind, Buffer.from(buf.subarray(start, end)));
    }
  }

  /** Frames that are dealt with over several ticks, so over bytes of their own. */
  private takeSlow(peer: Peer, link: Link, kind: number, bytes: Buffer): void {
    const r = new ByteReader(bytes);
    const failed = (error: unknown) =>
      this.parts.log.warn({ kind, error: String(error) }, 'a frame could not be served');
    switch (kind) {
      case m.FETCH:
        this.reads.answer(peer, r).catch(failed);
        return;
      case m.FETCHED:
        this.reads.taken(peer, r);
        return;
      case m.STATES:
        this.states.take(peer, bytes, 0, bytes.length).catch(failed);
        return;
      case m.STATES_TAKEN:
        this.states.taken(peer, r);
        return;
      case m.CALL:
        this.rpc.take(peer, r).catch(failed);
        return;
      case m.ANSWER:
        this.rpc.taken(peer, r);
        return;
      case m.EXCHANGE:
        this.repair.take(peer, r);
        return;
      case m.LEND:
        this.lends.takeLend(peer, r);
        return;
      case m.LENT:
        this.lends.takeLent(peer, r);
        return;
      case m.PIN:
        this.lends.takePin(peer, r);
        return;
      case m.PINNED:
        this.lends.takePinned(peer, r);
        return;
      case m.RETURN:
        this.lends.takeReturn(peer, r);
        return;
      case m.RECALL:
        this.lends.takeRecall(peer, r);
        return;
      case m.NAMES:
        this.takeNames(r);
        return;
      case m.VOID:
        this.voids.take(peer, r, (tag, id, done) => {
          this.requests.put(tag, id, done);
          this.server.undoByName(tag, id, done);
        });
        return;
      case m.VOIDED:
        this.voids.heard(peer, r);
        return;
      case m.FLOORS:
        this.server.takeFloors(r).catch(failed);
        return;
      case m.CONFIRM:
        this.repair.takeConfirm(peer, r);
        return;
      default:
        // a later protocol version may say more
        this.peers.take(link, kind, r);
    }
  }

  /**
   * A member that has just been started waits for its links before it serves anything: what it has is old, and others may
   * have taken over. Not for long: the others may be gone.
   */
  /** Peers have expelled this node: what it holds may be long deleted, so it neither serves nor gives any of it away. */
  get isExpelled(): boolean {
    return this.membership.isExpelled;
  }

  get isStarting(): boolean {
    return this.starting;
  }

  private endStart(now: number): void {
    if (!this.starting) return;
    const { layout } = this.ring;
    if (layout === null) {
      this.startedAt = now;
      return;
    }
    const missing = layout.members.some((x) => {
      if (x.id === this.self) return false;
      const peer = this.peers.byId.get(x.id);
      return peer === undefined || !(peer.isWell || peer.isGone);
    });
    if (missing && now - this.startedAt < START_MS) return;
    this.starting = false;
    this.haveStarted();
    this.server.routesChanged();
  }

  /** Waits until this node has everything that its peers had for it, for tests and tools. */
  isQuiet(): boolean {
    return (
      this.hints.count === 0 &&
      this.voids.outstanding === 0 &&
      this.states.outstanding === 0 &&
      this.reads.outstanding === 0 &&
      this.replicator.waiting === 0 &&
      this.lends.outstanding === 0 &&
      this.repair.strayPartitions === 0 &&
      this.ring.moving().length === 0
    );
  }

  /** Is there anything here that may still bring back what a partition's tombstones stand for? */
  private hasWork(p: number): boolean {
    if (this.ring.isMoving(p) || (this.hints.hasPartition(p) && !breaks.reapsDespiteHints)) return true;
    if (breaks.reapsDespiteFrames) return false;
    // a frame holds what was written when it was sent: only an old one can hold something old
    const old = this.parts.clock.monotonic() - REAP_AGE_MS / 4;
    for (const peer of this.peers.byId.values()) if (peer.unacked.length > 0 && peer.unacked[0].at < old) return true;
    return this.replicator.waiting > 0 || this.states.outstanding > 0 || this.receiver.isBehind;
  }

  /** What the tick has for the peers goes out, in one write each. */
  flushLinks(): void {
    for (const peer of this.peers.byId.values()) peer.link?.flush();
  }

  place(db: number, key: string): KeyPlace {
    return this.store.placeOf(this.store.keys.databases[db], key);
  }
}

function writeDone(w: ByteWriter, tag: number, id: number, by: string, reply: Buffer): void {
  w.u32(tag);
  w.u53(id);
  w.str(by);
  w.varint(reply.length);
  w.bytes(reply);
}

function readDone(r: ByteReader): { tag: number; id: number; done: Done } {
  const tag = r.u32();
  const id = r.u53();
  const by = r.str();
  return { tag, id, done: { by, reply: Buffer.from(r.rawStr(r.varint()), 'latin1') } };
}
