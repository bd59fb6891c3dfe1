/**
 * Who belongs to the cluster (paper 4.8): founding, joining, leaving, gossip, and the layout that all go by.
 *
 * A node without seeds founds a cluster of its own. One with seeds asks a member to take it in; the member plans the
 * next layout and commits it (`cluster-auto-join yes`), or an operator does. Fresh nodes that know only each other agree
 * on a founder: the one with the lowest id, once all seeds have been reached or some time has passed.
 *
 * Layouts travel with the ring's state (`ring`): pushed to everybody when they change, and compared once a round of
 * gossip. History and layout are kept in `node.db`, so a restarted node is the member that it was.
 *
 * A member that has been away for longer than `tombstone-grace` is expelled, by the rules of `absence`.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import { claim } from '../ring/claim.ts';
import type { Layout, Member } from '../ring/layout.ts';
import { type Plan, plan as planMoves } from '../ring/plan.ts';
import type { Store } from '../store/store.ts';
import { Absences, isNews, judge, type Sighting, seesMajority } from './absence.ts';
import type { Bus, Link } from './bus.ts';
import { effectiveMark, type Facts, GOSSIP_MS, Gossip, type GossipChange } from './gossip.ts';
import { GOSSIP, RING, RING_NAME } from './messages.ts';
import type { Peers } from './peers.ts';
import { Ring } from './ring.ts';
import { ASK_JOIN, type Rpc } from './rpc.ts';

/** How long a fresh node waits for its seeds before those that are there found the cluster, in ms. */
const FOUND_AFTER_MS = 3000;
/** All seeds are linked: how long it waits for the others' links among each other, in ms. */
const SETTLE_MS = 300;
const STEP_MS = 100;
const JOIN_RETRY_MS = 700;
const JOIN_TIMEOUT_MS = 3000;
/** Nodes that ask within this time are taken in with one layout, in ms. */
const JOIN_BATCH_MS = 150;
/** How often it is written down how long members have been away, in ms. */
const ABSENCES_MS = 60_000;
/** A node that is no member counts as up for so long after the last news of it, in ms. */
const OUTSIDER_MS = 10_000;
/** A layout that names a node which is expelled is followed by one without it after so many ms. */
const EXPELLED_MS = 3000;

export interface MembershipOptions {
  seeds: readonly string[];
  autoJoin: boolean;
  host: string;
  zone: string;
  weight: number;
  n: number;
  /** Nodes that hold a write before it is acknowledged. */
  w: number;
  /** Ms that a member may be away before it is expelled; 0 for ever. */
  grace: () => number;
  bus: string;
  client: string;
}

export class Membership {
  readonly gossip: Gossip;
  readonly ring: Ring;
  /** Resolves when this node has a layout to go by: its own or its cluster's. */
  readonly ready: Promise<void>;
  private becomeReady: () => void = () => {};
  /** Resolves when this node is a member, or is to wait for an operator. */
  readonly joined: Promise<void>;
  private haveJoined: () => void = () => {};
  /** Told when the layout or who serves has changed. */
  onRing: (what: 'layout' | 'serving') => void = () => {};
  /** Told when peers have expelled this node. */
  onExpelled: () => void = () => {};
  /** Told of a node that will not come back as what it was. */
  onGone: (id: string) => void = () => {};
  private readonly parts: MembershipParts;
  private readonly options: MembershipOptions;
  private readonly timersOn: Timer[] = [];
  private readonly started: number;
  private asking = false;
  private nextAsk = 0;
  private joiners = new Map<string, Member>();
  private commitTimer: Timer | null = null;
  private saving: Promise<void> = Promise.resolve();
  private allLinkedSince = 0;
  private leaving = false;
  private readonly absences = new Absences();
  private absencesSaved = 0;
  /** Members that were said to be kept in spite of their absence. */
  private readonly kept = new Set<string>();
  /** When there was news of nodes that go by our layout and are no members, by id. */
  private readonly outside = new Map<string, { pulse: Facts; at: number }>();
  /** The layout that was seen to name an expelled node, and since when. */
  private stale: { hash: number; at: number } | null = null;
  /** What `plan` has shown last. */
  private planned: { next: Layout; plan: Plan } | null = null;

  private constructor(parts: MembershipParts, options: MembershipOptions, ring: Ring, session: number, nonce: number) {
    this.parts = parts;
    this.options = options;
    this.ring = ring;
    this.started = parts.clock.monotonic();
    this.ready = new Promise((resolve) => {
      this.becomeReady = resolve;
    });
    this.joined = new Promise((resolve) => {
      this.haveJoined = resolve;
    });
    this.gossip = new Gossip(
      parts.store.identity.nodeId,
      {
        session,
        nonce,
        incarnation: 0,
        bus: options.bus,
        client: options.client,
        host: options.host,
        zone: options.zone,
        weight: options.weight,
        layout: ring.name,
        leaving: false,
      },
      options.seeds,
    );
  }

  static async open(parts: MembershipParts, options: MembershipOptions): Promise<Membership> {
    const { store } = parts;
    const ring = new Ring(options.n);
    const saved = await store.engine.getMeta('ring');
    if (saved !== null && saved.length > 0) {
      const r = Ring.decode(new ByteReader(saved));
      if (r !== null) ring.merge(r);
    }
    const nonce = parts.random.bytes(4).readUInt32LE(0);
    const m = new Membership(parts, options, ring, store.identity.session, nonce);
    const history = await store.engine.getMeta('members');
    if (history !== null && history.length > 0) {
      try {
        m.gossip.restore(history);
      } catch (error) {
        parts.log.warn({ error: String(error) }, 'the membership history can not be read; it will be heard again');
      }
    }
    const absences = await store.engine.getMeta('absences');
    if (absences !== null && absences.length > 0) {
      try {
        m.absences.restore(new ByteReader(absences));
      } catch (error) {
        parts.log.warn({ error: String(error) }, 'how long members have been away can not be read; it counts anew');
      }
    }
    m.lookForOutsiders();
    parts.rpc.on(ASK_JOIN, (_, r, w) => m.answerJoin(r, w));
    return m;
  }

  get isExpelled(): boolean {
    return effectiveMark(this.gossip.self) === 'expelled';
  }

  hasExpelled(id: string): boolean {
    const e = this.gossip.entry(id);
    return e !== null && effectiveMark(e) === 'expelled';
  }

  /** It has left or is expelled: it will not come back as what it was. */
  isGone(id: string): boolean {
    const e = this.gossip.entry(id);
    return e !== null && effectiveMark(e) !== 'none';
  }

  get self(): string {
    return this.gossip.id;
  }

  /** '' while it belongs to no cluster. */
  get clusterId(): string {
    return this.ring.layout === null ? '' : this.parts.store.identity.clusterId;
  }

  start(): void {
    const { timers, bus } = this.parts;
    if (this.ring.layout === null && this.others().length === 0) this.found([]);
    for (const seed of this.others()) bus.want(seed);
    for (const e of this.gossip.entries()) this.wantEntry(e.facts.bus, effectiveMark(e) === 'none');
    if (this.ring.layout !== null) this.becomeReady();
    if (!this.options.autoJoin || this.ring.isMember(this.self)) this.haveJoined();
    this.timersOn.push(timers.every(STEP_MS, () => this.step()));
    this.timersOn.push(timers.every(GOSSIP_MS, () => this.round()));
  }

  stop(): void {
    for (const t of this.timersOn) t.cancel();
    this.commitTimer?.cancel();
  }

  private others(): string[] {
    return this.options.seeds.filter((s) => s !== this.options.bus);
  }

  private wantEntry(address: string, wanted: boolean): void {
    if (address === '' || address === this.options.bus) return;
    if (wanted) this.parts.bus.want(address);
    else if (!this.options.seeds.includes(address)) this.parts.bus.forget(address);
  }

  // ------------------------------------------------------------------ founding and joining

  private me(): Member {
    const { host, zone, weight, bus, client } = this.options;
    return { id: this.self, host: host === '' ? this.self : host, zone, weight, bus, client };
  }

  private memberOf(id: string): Member | null {
    const e = this.gossip.entry(id);
    if (e === null) return null;
    const { host, zone, weight, bus, client } = e.facts;
    return { id, host: host === '' ? id : host, zone, weight, bus, client };
  }

  /** The first layout of a new cluster. */
  private found(others: Member[]): void {
    const layout = claim(null, [this.me(), ...others], {
      n: this.options.n,
      partitions: this.parts.store.keys.partitions,
    });
    this.parts.log.info({ members: layout.members.length }, 'founding a cluster');
    this.advance(layout);
  }

  private step(): void {
    if (this.ring.layout === null) this.seekCluster();
    else if (this.options.autoJoin && !this.leaving && !this.isExpelled && !this.ring.isMember(this.self))
      this.askToJoin();
  }

  /** Without a layout: somebody who has one takes us in, or one of us founds a cluster. */
  private seekCluster(): void {
    const { bus, clock } = this.parts;
    const links = [...bus.links()];
    if (links.some((l) => this.hasLayout(l))) {
      this.askToJoin();
      return;
    }
    if (!this.options.autoJoin) return;
    const now = clock.monotonic();
    const linked = new Set(links.map((l) => l.hello.bus));
    for (const l of links) linked.add(l.address);
    const all = this.others().every((s) => linked.has(s));
    if (!all || links.length === 0) this.allLinkedSince = 0;
    else if (this.allLinkedSince === 0) this.allLinkedSince = now;
    const patient = now - this.started < FOUND_AFTER_MS;
    if (all ? this.allLinkedSince === 0 || now - this.allLinkedSince < SETTLE_MS : patient) return;
    if (links.length === 0) {
      // alone: only the first seed may begin without the others
      if (this.options.seeds[0] === this.options.bus && now - this.started > 2 * FOUND_AFTER_MS) this.found([]);
      return;
    }
    const fresh = links.map((l) => l.nodeId);
    if (fresh.some((id) => id < this.self)) return;
    const others = fresh.map((id) => this.memberOf(id)).filter((m): m is Member => m !== null);
    if (others.length === fresh.length) this.found(others);
  }

  private hasLayout(l: Link): boolean {
    const e = this.gossip.entry(l.nodeId);
    return l.hello.clusterId !== '' || (e !== null && e.facts.layout.version > 0);
  }

  private askToJoin(): void {
    const { bus, clock, peers, rpc } = this.parts;
    const now = clock.monotonic();
    if (this.asking || now < this.nextAsk) return;
    if (this.ring.layout === null && !this.options.autoJoin) {
      // an operator decides; until then it forwards, and needs the layout for that
      this.nextAsk = now + JOIN_RETRY_MS;
    }
    const members = [...bus.links()].filter((l) => this.hasLayout(l)).sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
    if (members.length === 0) return;
    this.asking = true;
    this.nextAsk = now + JOIN_RETRY_MS;
    rpc
      .call(
        peers.get(members[0].nodeId),
        ASK_JOIN,
        (w) => {
          w.u8(this.options.autoJoin ? 1 : 0);
          const m = this.me();
          for (const s of [m.id, m.host, m.zone, m.bus, m.client]) w.str(s);
          w.varint(m.weight);
          w.varint(this.parts.store.keys.partitions);
        },
        JOIN_TIMEOUT_MS,
      )
      .then(async (r) => {
        const clusterId = r.str();
        const tokenKey = r.str();
        await this.parts.store.adoptCluster(clusterId, tokenKey);
        const ring = Ring.decode(r);
        if (ring !== null) this.takeRing(ring);
      })
      .catch((error) => this.parts.log.warn({ error: String((error as Error).message) }, 'joining has to wait'))
      .finally(() => {
        this.asking = false;
      });
  }

  private answerJoin(r: ByteReader, w: ByteWriter): void {
    const wants = r.u8() === 1;
    const [id, host, zone, bus, client] = [r.str(), r.str(), r.str(), r.str(), r.str()];
    const weight = r.varint();
    const partitions = r.varint();
    const { layout } = this.ring;
    if (layout === null) throw new Error('this node belongs to no cluster itself');
    if (partitions !== layout.partitions)
      throw new Error(`the cluster has ${layout.partitions} partitions: set cluster-partitions ${layout.partitions}`);
    const e = this.gossip.entry(id);
    if (this.hasExpelled(id)) throw new Error('this node was expelled: it can join again with an empty directory');
    if (wants && !(e?.facts.leaving ?? false) && !this.ring.isMember(id)) {
      this.joiners.set(id, { id, host, zone, weight, bus, client });
      this.commitTimer ??= this.parts.timers.after(JOIN_BATCH_MS, () => this.takeIn());
    }
    const { identity } = this.parts.store;
    w.str(identity.clusterId);
    w.str(identity.tokenKey);
    this.ring.encode(w);
  }

  /** Commits a layout with everybody who has asked. */
  private takeIn(): void {
    this.commitTimer = null;
    const { layout } = this.ring;
    if (layout === null) return;
    const joiners = [...this.joiners.values()].filter((m) => !layout.members.some((x) => x.id === m.id));
    this.joiners.clear();
    if (joiners.length === 0) return;
    // who stood at a joiner's address before is gone: its disk was wiped or set aside, and it comes back as another
    const replaced = layout.members.filter((m) => joiners.some((j) => j.bus === m.bus));
    for (const m of replaced) this.expel(m.id);
    const members = [...layout.members.filter((m) => !replaced.includes(m)), ...joiners];
    const next = claim(layout, members, { n: this.options.n });
    this.parts.log.info({ version: next.version, members: members.length }, 'new members: a new layout');
    this.advance(next);
  }

  // ------------------------------------------------------------------ layouts

  private advance(layout: Layout): void {
    this.ring.advance(layout);
    this.ringChanged('layout');
    this.push();
  }

  private ringChanged(what: 'layout' | 'serving'): void {
    const { name, layout } = this.ring;
    if (what === 'layout') {
      this.gossip.change({ layout: name });
      for (const m of layout?.members ?? []) this.wantEntry(m.bus, true);
      this.planned = null;
    }
    this.lookForOutsiders();
    this.save();
    this.onRing(what);
    this.becomeReady();
    if (this.ring.isMember(this.self)) this.haveJoined();
  }

  private save(): void {
    const { engine } = this.parts.store;
    this.saving = this.saving
      .then(async () => {
        if (this.ring.layout !== null) await engine.setMeta('ring', this.ring.bytes());
        await engine.setMeta('members', this.gossip.history());
      })
      .catch((error) => this.parts.log.warn({ error: String(error) }, 'the layout could not be saved'));
  }

  /** Resolves when what is known is on disk. */
  saved(): Promise<void> {
    return this.saving;
  }

  /** Sends the ring to everybody. */
  private push(): void {
    const bytes = this.ring.bytes();
    for (const link of this.parts.bus.links()) link.send(RING, bytes, 0, bytes.length);
  }

  /** Who serves what has changed: to disk, and to those who may not have heard why. */
  settled(): void {
    this.save();
    this.onRing('serving');
  }

  private takeRing(other: NonNullable<ReturnType<typeof Ring.decode>>): void {
    if (this.parts.store.keys.partitions !== other.layout.partitions) return;
    const changed = this.ring.merge(other);
    if (changed === null) return;
    this.parts.log.info({ version: this.ring.name.version, what: changed }, 'the ring has changed');
    this.ringChanged(changed);
    if (changed === 'layout') this.push();
  }

  // ------------------------------------------------------------------ gossip

  linkUp(link: Link): void {
    const bytes = this.gossip.digest();
    link.send(GOSSIP, bytes, 0, bytes.length);
    if (this.ring.layout !== null) this.sayRingName(link);
  }

  private sayRingName(link: Link): void {
    const w = new ByteWriter(32);
    w.varint(this.ring.name.version);
    w.u53(this.ring.name.hash);
    w.u53(this.ring.digest());
    link.send(RING_NAME, w.buf, 0, w.pos);
  }

  private round(): void {
    const { bus, random } = this.parts;
    this.gossip.beat();
    const links = new Map([...bus.links()].map((l) => [l.hello.bus, l]));
    for (const address of this.gossip.partners(random)) {
      const link = links.get(address) ?? [...bus.links()].find((l) => l.address === address);
      if (link === undefined) continue;
      const bytes = this.gossip.digest();
      link.send(GOSSIP, bytes, 0, bytes.length);
      if (this.ring.layout !== null) this.sayRingName(link);
    }
    this.lookForOutsiders();
    this.lookForExpelled();
    this.lookForAbsent();
  }

  take(link: Link, kind: number, buf: Buffer, start: number, end: number): void {
    if (kind === GOSSIP) {
      const { reply, changes } = this.gossip.receive(Buffer.from(buf.subarray(start, end)));
      if (reply !== null) link.send(GOSSIP, reply, 0, reply.length);
      this.heard(changes);
    } else if (kind === RING) {
      const ring = Ring.decode(new ByteReader(buf, start, end));
      // without a cluster yet, the layout comes as the answer to our asking
      if (ring !== null && this.ring.layout !== null) this.takeRing(ring);
      else if (ring !== null) this.nextAsk = 0;
    } else if (kind === RING_NAME) {
      const r = new ByteReader(buf, start, end);
      r.varint();
      r.u53();
      if (this.ring.layout === null || r.u53() === this.ring.digest()) return;
      const bytes = this.ring.bytes();
      link.send(RING, bytes, 0, bytes.length);
    }
  }

  private heard(changes: GossipChange[]): void {
    let save = false;
    for (const c of changes) {
      if (c.kind === 'node' || c.kind === 'moved') {
        this.wantEntry(c.entry.facts.bus, effectiveMark(c.entry) === 'none');
        save = true;
      } else if (c.kind === 'marked') {
        this.wantEntry(c.entry.facts.bus, effectiveMark(c.entry) === 'none');
        if (effectiveMark(c.entry) !== 'none') this.onGone(c.entry.id);
        if (effectiveMark(c.entry) === 'expelled') this.tellAll(c.entry.id);
        save = true;
      } else if (c.kind === 'superseded') {
        this.parts.log.error(
          { session: c.session },
          'peers know a later session of this node: its disk went back, or a copy of it runs elsewhere',
        );
        this.parts.superseded(c.session);
      } else if (c.kind === 'expelled') {
        this.parts.log.error(
          {},
          'this node was expelled from its cluster while it was away: it serves nothing, and keeps what it holds to itself',
        );
        this.onExpelled();
      }
    }
    if (save) this.save();
  }

  // ------------------------------------------------------------------ what operators ask for

  /** Nodes that are known and not marked. */
  known(): { id: string; facts: Facts }[] {
    return this.gossip.entries().filter((e) => effectiveMark(e) === 'none');
  }

  /**
   * The layout that would follow: everybody who is known and does not wish to leave.
   * @param without ids of nodes to remove, dead ones among them
   */
  plan(without: readonly string[] = []): { next: Layout; plan: Plan } | null {
    // what was planned before is not to be committed after this, whatever comes of it
    this.planned = null;
    const { layout } = this.ring;
    const members = new Map<string, Member>();
    for (const m of layout?.members ?? []) members.set(m.id, m);
    for (const { id, facts } of this.known()) {
      const m = this.memberOf(id);
      if (m !== null && (members.has(id) || facts.bus !== '')) members.set(id, m);
    }
    for (const e of this.gossip.entries())
      if (e.facts.leaving || effectiveMark(e) !== 'none' || without.includes(e.id)) members.delete(e.id);
    for (const id of without) members.delete(id);
    if (members.size === 0) return null;
    const next = claim(layout, [...members.values()], {
      n: this.options.n,
      partitions: layout?.partitions ?? this.parts.store.keys.partitions,
    });
    const same =
      layout !== null &&
      layout.members.length === next.members.length &&
      layout.members.every((m, i) => JSON.stringify(m) === JSON.stringify(next.members[i]));
    if (same) return null;
    this.planned = { next, plan: planMoves(layout, next, this.options.n) };
    return this.planned;
  }

  /** A plan of this node's that waits for `commit`; null when there is none, or when the layout has changed since. */
  get pendingPlan(): Plan | null {
    return this.planned?.plan ?? null;
  }

  /** Goes over to what `plan` has shown last. Returns the version, or null when there is nothing planned. */
  commit(without: readonly string[]): number | null {
    const next = this.planned?.next;
    if (next === undefined || next.version !== (this.ring.layout?.version ?? 0) + 1) return null;
    for (const id of without) this.expel(id);
    this.advance(next);
    return next.version;
  }

  private expel(id: string): void {
    this.gossip.mark(id, 'expelled');
    this.tellAll(id);
    this.onGone(id);
  }

  /**
   * That a node is expelled goes to everybody at once, and by them to those whom they alone reach: before the layout
   * without it, on every link. Whoever had the layout and not the mark would take the node's keys for strays, and take
   * them over if it came back at that moment.
   */
  private tellAll(id: string): void {
    const bytes = this.gossip.tell(id);
    if (bytes === null) return;
    for (const link of this.parts.bus.links()) link.send(GOSSIP, bytes, 0, bytes.length);
  }

  // ------------------------------------------------------------------ who is there and no member

  private lookForOutsiders(): void {
    const now = this.parts.clock.monotonic();
    for (const id of this.outside.keys()) if (this.ring.isMember(id)) this.outside.delete(id);
    for (const { id, facts } of this.known()) {
      if (id === this.self || facts.layout.version === 0 || this.ring.isMember(id)) continue;
      const before = this.outside.get(id);
      if (before === undefined || isNews(facts, before.pulse)) this.outside.set(id, { pulse: facts, at: now });
    }
  }

  /**
   * Nodes that have left, and are up: by their links, or by what others hear of them. They may hold keys that they could
   * not hand over yet. One that is stopped is not waited for.
   */
  outsiders(): string[] {
    const now = this.parts.clock.monotonic();
    const isUp = (id: string, at: number) => now - at < OUTSIDER_MS || this.parts.peers.isHealthy(id);
    return [...this.outside].filter(([id, { at }]) => isUp(id, at) && !this.hasExpelled(id)).map(([id]) => id);
  }

  // ------------------------------------------------------------------ who has been away for too long

  private sightings(): Sighting[] {
    const { peers } = this.parts;
    return this.ring.members.map((id) => ({
      id,
      well: peers.isHealthy(id),
      heardAt: peers.detector.heardAt(id),
      pulse: this.gossip.entry(id)?.facts ?? null,
    }));
  }

  /**
   * Of two layouts that were made at once one holds, and that may be the one which still names a node that the other has
   * left out: nobody talks to it any more, and its partitions would wait for it for ever.
   */
  private lookForExpelled(): void {
    const { layout, name } = this.ring;
    const now = this.parts.clock.monotonic();
    if (layout?.members.some((m) => this.hasExpelled(m.id)) !== true) this.stale = null;
    else if (this.stale?.hash !== name.hash) this.stale = { hash: name.hash, at: now };
    if (layout === null || this.stale === null || now - this.stale.at < EXPELLED_MS || this.isExpelled) return;
    const members = this.sightings().filter((m) => !this.hasExpelled(m.id));
    const first = members.find((m) => m.well);
    if (first?.id !== this.self || !seesMajority(members)) return;
    const next = claim(
      layout,
      layout.members.filter((m) => !this.hasExpelled(m.id)),
      { n: this.options.n },
    );
    this.parts.log.info({ version: next.version }, 'the layout names nodes that are expelled: a new one without them');
    this.advance(next);
  }

  private lookForAbsent(): void {
    const { ring, self, absences, parts } = this;
    const { layout } = ring;
    if (layout === null || this.isExpelled || !ring.isMember(self)) return;
    const members = this.sightings();
    const now = parts.clock.monotonic();
    absences.look(now, members);
    if (absences.size > 0 && now - this.absencesSaved >= ABSENCES_MS) {
      this.absencesSaved = now;
      this.saveAbsences();
    }
    const verdict = judge({
      self,
      members,
      awayMs: (id) => absences.awayMs(id),
      graceMs: this.options.grace(),
      n: this.options.n,
      w: this.options.w,
      partitions: ring.partitions,
      homes: (p) => ring.homes(p),
      gaining: (p) => ring.gaining(p),
    });
    for (const id of this.kept) if (absences.awayMs(id) === 0) this.kept.delete(id);
    if (verdict === null) return;
    if ('keep' in verdict) {
      if (this.kept.has(verdict.keep)) return;
      this.kept.add(verdict.keep);
      parts.log.warn(
        { node: verdict.keep.slice(0, 8), why: verdict.why },
        'a member has been away for longer than tombstone-grace, and is kept: traces of deletes wait for it',
      );
      return;
    }
    const next = claim(
      layout,
      layout.members.filter((m) => m.id !== verdict.expel),
      { n: this.options.n },
    );
    parts.log.warn(
      {
        node: verdict.expel.slice(0, 8),
        seconds: Math.round(absences.awayMs(verdict.expel) / 1000),
        version: next.version,
      },
      'a member has been away for longer than tombstone-grace: it is expelled, and what it alone holds is set aside',
    );
    this.expel(verdict.expel);
    this.advance(next);
  }

  private saveAbsences(): void {
    const bytes = this.absences.bytes();
    this.saving = this.saving
      .then(() => this.parts.store.engine.setMeta('absences', bytes))
      .catch((error) => this.parts.log.warn({ error: String(error) }, 'the absence of members could not be saved'));
  }

  /** Begins a new session of this node, later than any that peers know. */
  restart(session: number): void {
    this.gossip.restart({ ...this.gossip.self.facts, session, nonce: this.parts.random.bytes(4).readUInt32LE(0) });
    this.gossip.change({ layout: this.ring.name });
  }

  /** This node wishes to leave; the next plan leaves it out. */
  leave(): void {
    this.leaving = true;
    this.gossip.change({ leaving: true });
    for (const link of this.parts.bus.links()) this.linkUp(link);
  }

  /** Gets in touch with whoever is at this bus address. */
  meet(address: string): void {
    this.gossip.addSeeds([address]);
    this.parts.bus.want(address);
    this.save();
  }

  /** A node that is no member is not looked for any longer, here or elsewhere. */
  forget(id: string): void {
    this.gossip.mark(id, 'left');
    this.wantEntry(this.gossip.entry(id)?.facts.bus ?? '', false);
    this.save();
  }

  /** Another node wishes nothing; an operator has it leave. */
  isLeaving(id: string): boolean {
    return this.gossip.entry(id)?.facts.leaving ?? false;
  }
}

export interface MembershipParts {
  store: Store;
  bus: Bus;
  peers: Peers;
  rpc: Rpc;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  /** Peers know a later session: the node's actor must change. */
  superseded: (session: number) => void;
}
