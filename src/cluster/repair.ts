/**
 * Anti-entropy (paper 4.7 and 4.9): replicas compare their trees and bring each other up to date.
 *
 * - *Rounds*: now and then with a random peer, and at once with one that has come back, the roots of all partitions that
 *   both hold; those that differ go through an `Exchange`.
 * - *Tenure* (DESIGN section 6): a node that coordinates a partition knows that it has missed nothing when it has
 *   compared with enough others since it last might have. Until then the coordinator reads before it runs.
 * - *Transfer*: a new home gets the partition whole from one who serves it, compares with others, and confirms.
 * - *Strays*: keys that this node holds and is no home of (it stood in for somebody, or its range has moved) go to all
 *   homes, and are dropped here when all have them on disk.
 *
 * All of these but tenure, which clients wait for, run under the `Governor`: each in a task of its own, in pieces, so that
 * one that rests keeps no other waiting, and tenure least of all.
 */
import { breaks } from '../base/breaks.ts';
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import { hlcOfMs } from '../causality/clock.ts';
import { Exchange, type ExchangeEffect } from '../merkle/diff.ts';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { LayoutName } from '../ring/layout.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import type { StoredKey } from '../store/object.ts';
import type { Store } from '../store/store.ts';
import { NONE } from '../types/kinds.ts';
import type { Governor } from './governor.ts';
import { CONFIRM, EXCHANGE } from './messages.ts';
import type { Peer, Peers } from './peers.ts';
import type { Reads } from './reads.ts';
import { fewestWithAll, type Ring } from './ring.ts';
import { ASK_PROMISE, ASK_REAP, ASK_ROOTS, ASK_TRANSFER, type Rpc } from './rpc.ts';
import type { States } from './states.ts';
import type { Trees } from './trees.ts';

/** Pause between rounds with a random peer, in ms. */
export const ROUND_MS = 10_000;
/** Pause between looks for what is to be caught up on, handed over or taken over, in ms. */
const STEP_MS = 200;
/** Exchanges, and partitions being transferred, at once. */
const MAX_SESSIONS = 4;
const MAX_TRANSFERS = 4;
const CALL_MS = 5000;
const TRANSFER_MS = 600_000;
const SESSION_MS = 8_000;
/** Keys of a stray partition that are handed over at once. */
const STRAY_KEYS = 2000;
const STRAY_MS = 1000;
/** Keys of a partition being transferred that are sent at once. */
const TRANSFER_KEYS = 4096;
/**
 * Writes a second above which rounds are BUSY_ROUNDS times as far apart. The governor does not see this: comparing costs a
 * term for each key that was written since the last time, on both sides, which takes from what a node can do and may
 * leave its latency alone. With fewer rounds a key that is written over and over is hashed for fewer of them.
 */
const BUSY_EVENTS = 2000;
const BUSY_ROUNDS = 30;
/** Confirmations that have not led to anything are repeated after so many ms. */
const CONFIRM_MS = 2000;
/** All partitions are looked at for tombstones in so many ms, in so many parts. */
export const REAP_MS = 30_000;
const REAP_PARTS = 64;
/** A tombstone younger than this is left alone, in ms. */
export const REAP_AGE_MS = 20_000;
/** Partitions that one part asks all members about, at most. */
const REAP_ASKS = 32;

interface Session {
  peer: Peer;
  p: number;
  id: number;
  mine: boolean;
  exchange: Exchange;
  /** Repairs that are under way. */
  open: number;
  over: boolean;
  peerOver: boolean;
  at: number;
  chain: Promise<void>;
  resolve: (() => void) | null;
  reject: ((e: Error) => void) | null;
}

type Piece = <T>(work: () => Promise<T>) => Promise<T>;

const NONE_YET = 0;
const HELD = 1;

export class Repair {
  /** HELD where this node knows that it has missed nothing. */
  readonly tenure: Uint8Array;
  private readonly credit: Set<string>[] = [];
  /** Counts the occasions on which tenure was lost. */
  private tenureEpoch = 0;
  private readonly sessions = new Map<string, Session>();
  private lastSession = 0;
  private timer: Timer | null = null;
  private nextRound = 0;
  private nextConfirm = 0;
  private eventsAtRound = 0;
  private roundAt = 0;
  /** When a round was made for no other reason than that time has passed. */
  private lastRound = 0;
  private nextStray = 0;
  private nextReap = 0;
  private reapHand = 0;
  /** Tasks that are at it. */
  private readonly running = new Set<string>();
  private readonly transferring = new Set<number>();
  /** Peers to compare with as soon as possible. */
  private readonly urgent = new Set<string>();
  private readonly parts: RepairParts;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly governor: Governor;
  stats = {
    rounds: 0,
    exchanges: 0,
    differences: 0,
    keys: 0,
    damaged: 0,
    bytes: 0,
    transferred: 0,
    strays: 0,
    reaped: 0,
  };
  /** Told when new homes serve a partition from now on. */
  onSettled: () => void = () => {};

  constructor(parts: RepairParts) {
    this.parts = parts;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.governor = parts.governor;
    const q = this.keys.partitions;
    this.tenure = new Uint8Array(q);
    for (let p = 0; p < q; p++) this.credit.push(new Set());
    parts.rpc.on(ASK_ROOTS, (peer, r, w) => this.answerRoots(peer, r, w));
    parts.rpc.on(ASK_PROMISE, (_, r, w) => this.answerPromise(r, w));
    parts.rpc.on(ASK_REAP, (_, r) => this.reap(r.varint(), r.u53()));
    parts.rpc.on(ASK_TRANSFER, (peer, r, w) => this.answerTransfer(peer, r, w));
  }

  start(): void {
    this.timer = this.parts.timers.every(STEP_MS, () => this.step());
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  // ------------------------------------------------------------------ tenure

  private get r(): number {
    return this.parts.r;
  }

  /** Something may have been missed: of one partition, or of all. */
  loseTenure(p?: number): void {
    this.tenureEpoch++;
    if (p === undefined) {
      this.tenure.fill(NONE_YET);
      for (const c of this.credit) c.clear();
    } else {
      this.tenure[p] = NONE_YET;
      this.credit[p].clear();
    }
  }

  /** This peer was away or is gone: partitions that it shares with us may have had another coordinator. */
  peerChanged(peer: Peer): void {
    for (let p = 0; p < this.ring.partitions; p++) {
      if (!this.ring.homes(p).includes(peer.id)) continue;
      this.tenure[p] = NONE_YET;
      this.credit[p].clear();
    }
    this.tenureEpoch++;
    if (peer.isWell) this.urgent.add(peer.id);
  }

  private give(p: number, peer: string, epoch: number): void {
    if (epoch !== this.tenureEpoch || this.tenure[p] === HELD) return;
    const homes = this.ring.homes(p);
    const credit = this.credit[p];
    if (peer !== '' && homes.includes(peer)) credit.add(peer);
    const needed = Math.min(this.r, homes.length) - (homes.includes(this.peers.self) ? 1 : 0);
    if (credit.size >= needed) this.tenure[p] = HELD;
  }

  /** Partitions that this node coordinates, without knowing that it has everything. */
  private untenured(): number[] {
    const list: number[] = [];
    for (let p = 0; p < this.ring.partitions; p++) {
      if (this.tenure[p] === HELD || !this.ring.homes(p).includes(this.peers.self)) continue;
      if (this.parts.coordinates(p)) list.push(p);
    }
    return list;
  }

  // ------------------------------------------------------------------ steps

  private step(): void {
    if (this.ring.layout === null) return;
    const now = this.parts.clock.monotonic();
    this.run('tenure', () => this.gainTenure());
    if (now >= this.nextConfirm) {
      this.nextConfirm = now + CONFIRM_MS;
      this.repeatConfirmations();
    }
    this.run('transfers', async () => {
      await this.confirmEqual();
      this.startTransfers();
    });
    this.run('rounds', () => this.rounds(now));
    if (now >= this.nextStray)
      this.run('strays', () => {
        this.nextStray = now + STRAY_MS;
        return this.handStraysOver();
      });
    if (now >= this.nextReap)
      this.run('reaping', () => {
        this.nextReap = now + REAP_MS / REAP_PARTS;
        return this.reapSome();
      });
  }

  /** Runs a task, unless it is running already. */
  private run(name: string, task: () => Promise<void>): void {
    if (this.running.has(name)) return;
    this.running.add(name);
    task()
      .catch((error) => this.parts.log.debug({ task: name, error: String(error) }, 'a step of repair was interrupted'))
      .finally(() => this.running.delete(name));
  }

  private async rounds(now: number): Promise<void> {
    for (const id of [...this.urgent]) {
      this.urgent.delete(id);
      const peer = this.peers.byId.get(id);
      if (!peer?.isWell) continue;
      // one that was interrupted is made again, and so is one that could not compare everything yet
      const whole = this.trees.readyCount === this.tenure.length;
      const done = await this.round(peer).then(
        () => true,
        () => false,
      );
      if (!done || !whole) this.urgent.add(id);
    }
    if (now < this.nextRound) return;
    const { events } = this.keys.stats;
    const busy = (events - this.eventsAtRound) * 1000 > BUSY_EVENTS * Math.max(1, now - this.roundAt);
    this.eventsAtRound = events;
    this.roundAt = now;
    this.nextRound = now + ROUND_MS * (0.5 + this.parts.random.next());
    if (busy && now - this.lastRound < ROUND_MS * BUSY_ROUNDS) return;
    this.lastRound = now;
    const well = [...this.peers.byId.values()].filter((x) => x.isWell);
    if (well.length > 0) await this.round(well[Math.floor(this.parts.random.next() * well.length)]);
  }

  private async gainTenure(): Promise<void> {
    const wanting = this.untenured();
    if (wanting.length === 0) return;
    const epoch = this.tenureEpoch;
    const byPeer = new Map<Peer, number[]>();
    for (const p of wanting) {
      this.give(p, '', epoch);
      if (this.tenure[p] === HELD || !this.trees.isReady(p)) continue;
      for (const id of this.ring.homes(p)) {
        const peer = this.peers.byId.get(id);
        if (peer === undefined || !peer.isWell || this.credit[p].has(id)) continue;
        const list = byPeer.get(peer);
        if (list === undefined) byPeer.set(peer, [p]);
        else list.push(p);
      }
    }
    await Promise.all([...byPeer].map(([peer, list]) => this.catchUp(peer, list, epoch)));
  }

  private async catchUp(peer: Peer, list: number[], epoch: number): Promise<void> {
    try {
      const differ = await this.compareRoots(peer, list);
      for (const p of list) if (!differ.has(p)) this.give(p, peer.id, epoch);
      for (const p of list) {
        if (!differ.has(p) || this.tenure[p] === HELD || epoch !== this.tenureEpoch) continue;
        await this.exchange(peer, p);
        this.give(p, peer.id, epoch);
      }
    } catch {
      // it will be tried again
    }
  }

  private shares(peer: Peer, p: number): boolean {
    const homes = this.ring.homes(p);
    return homes.includes(this.peers.self) && homes.includes(peer.id) && this.trees.isReady(p);
  }

  /**
   * One round with one peer over all that both hold.
   * @param piece runs a part of it: as background work, unless somebody has asked for the round
   */
  async round(peer: Peer, piece: Piece = (work) => this.governor.piece(work)): Promise<void> {
    this.stats.rounds++;
    const shared: number[] = [];
    for (let p = 0; p < this.ring.partitions; p++) if (this.shares(peer, p)) shared.push(p);
    if (shared.length === 0) return;
    let differ = await piece(() => this.compareRoots(peer, shared));
    if (differ.size === 0) return;
    // what is under way makes roots differ for a moment
    await this.pause(50);
    const again = shared.filter((p) => differ.has(p));
    differ = await piece(() => this.compareRoots(peer, again));
    const queue = [...differ];
    const worker = async (): Promise<void> => {
      for (let p = queue.pop(); p !== undefined; p = queue.pop()) {
        const partition = p;
        // the ring may have changed while it waited for its turn
        await piece(async () => {
          if (this.shares(peer, partition)) await this.exchange(peer, partition);
        });
      }
    };
    await Promise.all(Array.from({ length: MAX_SESSIONS }, worker));
  }

  /**
   * Rounds with everybody, now: `DYNAMO REPAIR`. Resolves with the number of differences found. An operator waits for it,
   * so it is no background work.
   */
  async repairAll(only: number | null): Promise<number> {
    const before = this.stats.differences;
    for (const peer of this.peers.byId.values()) {
      if (!peer.isWell) continue;
      if (only === null) await this.round(peer, (work) => work());
      else if (this.ring.homes(only).includes(peer.id)) await this.exchange(peer, only);
    }
    return this.stats.differences - before;
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.parts.timers.after(ms, resolve));
  }

  // ------------------------------------------------------------------ roots

  /** Partitions whose roots differ from the peer's, or that it can't compare yet. */
  private async compareRoots(peer: Peer, list: readonly number[]): Promise<Set<number>> {
    if (list.length === 0) return new Set();
    await this.trees.settle();
    const r = await this.parts.rpc.call(
      peer,
      ASK_ROOTS,
      (w) => {
        w.varint(list.length);
        for (const p of list) {
          w.varint(p);
          w.u53(this.trees.tree(p).root());
        }
        this.stats.bytes += w.pos;
      },
      CALL_MS,
    );
    const differ = new Set<number>();
    for (let n = r.varint(); n > 0; n--) differ.add(r.varint());
    return differ;
  }

  private async answerRoots(_peer: Peer, r: ByteReader, w: ByteWriter): Promise<void> {
    await this.trees.settle();
    const differ: number[] = [];
    for (let n = r.varint(); n > 0; n--) {
      const p = r.varint();
      const root = r.u53();
      if (p >= this.tenure.length || !this.trees.isReady(p) || this.trees.tree(p).root() !== root) differ.push(p);
    }
    w.varint(differ.length);
    for (const p of differ) w.varint(p);
    this.stats.bytes += w.pos;
  }

  // ------------------------------------------------------------------ exchanges

  /** Compares one partition with one peer, and repairs both ways. Resolves when both have what they lacked. */
  async exchange(peer: Peer, p: number): Promise<void> {
    await this.trees.settle();
    if (!this.trees.isReady(p)) throw new Error('the tree is not built yet');
    this.stats.exchanges++;
    const s = this.session(peer, p, ++this.lastSession, true);
    return new Promise((resolve, reject) => {
      s.resolve = resolve;
      s.reject = reject;
      this.process(s, s.exchange.start()).catch((e) => this.end(s, String(e)));
    });
  }

  private session(peer: Peer, p: number, id: number, mine: boolean): Session {
    const s: Session = {
      peer,
      p,
      id,
      mine,
      exchange: new Exchange(this.trees.tree(p)),
      open: 0,
      over: false,
      peerOver: false,
      at: this.parts.clock.monotonic(),
      chain: Promise.resolve(),
      resolve: null,
      reject: null,
    };
    this.sessions.set(`${mine ? 'm' : 't'}:${peer.id}:${id}`, s);
    return s;
  }

  /** EXCHANGE frames: is it the session of the sender?, session, partition, bytes; no bytes: its repairs are done. */
  take(peer: Peer, r: ByteReader): void {
    const theirs = r.u8() === 1;
    const id = r.varint();
    const p = r.varint();
    const bytes = Buffer.from(r.buf.subarray(r.pos, r.end));
    const name = `${theirs ? 't' : 'm'}:${peer.id}:${id}`;
    let s = this.sessions.get(name);
    if (s === undefined) {
      if (!theirs || bytes.length === 0) return;
      if (p >= this.tenure.length || !this.trees.isReady(p)) {
        this.say(peer, false, id, p, Buffer.alloc(0));
        return;
      }
      s = this.session(peer, p, id, false);
    }
    s.at = this.parts.clock.monotonic();
    const session = s;
    if (bytes.length === 0) {
      // behind what has come before it; where nothing is over yet the peer could not begin
      s.chain = s.chain.then(() => {
        session.peerOver = true;
        if (session.mine && !session.over) this.end(session, 'the peer is not ready');
        else this.finishIfOver(session);
      });
      return;
    }
    s.chain = s.chain.then(async () => {
      try {
        await this.trees.settle();
        await this.process(session, session.exchange.receive(bytes));
      } catch (error) {
        this.end(session, String(error));
      }
    });
  }

  private say(peer: Peer, mine: boolean, id: number, p: number, bytes: Buffer): void {
    const w = new ByteWriter(bytes.length + 16);
    w.u8(mine ? 1 : 0);
    w.varint(id);
    w.varint(p);
    w.bytes(bytes);
    this.stats.bytes += w.pos;
    peer.link?.send(EXCHANGE, w.buf, 0, w.pos);
  }

  private async process(s: Session, effects: ExchangeEffect[]): Promise<void> {
    for (const e of effects) {
      if (e.kind === 'send') this.say(s.peer, s.mine, s.id, s.p, e.bytes);
      else if (e.kind === 'difference') this.repairKey(s, e.what, e.db, e.key);
      else if (e.kind === 'scan') {
        const rows = await this.trees.scan(s.p, e.first, e.end);
        s.at = this.parts.clock.monotonic();
        await this.process(s, s.exchange.scanned(rows, true));
      } else {
        s.over = true;
        this.finishIfOver(s);
      }
    }
  }

  private repairKey(s: Session, what: string, dbIndex: number, key: string): void {
    this.stats.differences++;
    const db = this.keys.databases[dbIndex];
    if (db === undefined) return;
    const place = this.parts.store.placeOf(db, key);
    s.open++;
    const done = () => {
      s.open--;
      this.stats.keys++;
      this.finishIfOver(s);
    };
    if (what === 'missing-there') {
      this.parts.states.send(s.peer, place, { done });
      return;
    }
    if (what === 'damaged') this.stats.damaged++;
    void this.pull(s.peer, place, what === 'damaged').then(done, done);
  }

  /** Gets what the peer has of a key, and gives back what it lacks. */
  private async pull(peer: Peer, place: KeyPlace, damaged: boolean): Promise<void> {
    if (!this.keys.isResident(place.db, place.key, place.slot)) await this.parts.store.residency.load([place]);
    const o = this.keys.shard(place.db, place.slot).map.get(place.key);
    const state = await this.parts.reads.state(peer, place, damaged ? 0 : (o?.contextHash() ?? 0));
    if (state === null) return;
    if (damaged && !breaks.joinsLosses) {
      // one of the two has lost or altered entries: the fuller one is taken, whole
      const mine = o?.toState();
      if (mine?.context.equals(state.context) && mine.count < state.count)
        this.keys.replaceState(place.db, place.key, place.slot, state);
      else this.parts.states.send(peer, place, { replace: true });
      return;
    }
    const { behind } = this.parts.reads.merge(place, state);
    this.parts.applied();
    if (behind) this.parts.states.send(peer, place);
  }

  private finishIfOver(s: Session): void {
    if (!s.over || s.open > 0) return;
    if (!s.mine) {
      // the initiator waits for what we send it
      this.say(s.peer, false, s.id, s.p, Buffer.alloc(0));
      this.sessions.delete(`t:${s.peer.id}:${s.id}`);
      return;
    }
    if (!s.peerOver) return;
    this.sessions.delete(`m:${s.peer.id}:${s.id}`);
    s.resolve?.();
  }

  private end(s: Session, why: string): void {
    this.sessions.delete(`${s.mine ? 'm' : 't'}:${s.peer.id}:${s.id}`);
    s.reject?.(new Error(why));
  }

  /** Sessions of which nothing has been heard for long are given up: whoever waits for one must not wait for ever. */
  sweep(now: number): void {
    for (const s of [...this.sessions.values()]) if (now - s.at > SESSION_MS) this.end(s, 'no answer');
  }

  lost(peer: Peer): void {
    for (const s of [...this.sessions.values()]) if (s.peer === peer) this.end(s, 'the link broke');
  }

  // ------------------------------------------------------------------ transfer

  private startTransfers(): void {
    for (const p of this.ring.moving()) {
      if (this.transferring.size >= MAX_TRANSFERS) return;
      if (this.transferring.has(p) || !this.ring.gaining(p).includes(this.peers.self)) continue;
      if (this.ring.hasConfirmed(p, this.peers.self) || !this.trees.isReady(p)) continue;
      this.transferring.add(p);
      void this.governor
        .piece(() => this.transfer(p))
        .then((ok) => {
          this.transferring.delete(p);
          if (ok) this.startTransfers();
        });
    }
  }

  private wanted(): number[] {
    const { self } = this.peers;
    return this.ring
      .moving()
      .filter(
        (p) =>
          this.ring.gaining(p).includes(self) &&
          !this.ring.hasConfirmed(p, self) &&
          !this.transferring.has(p) &&
          this.trees.isReady(p),
      );
  }

  /** Partitions of which this new home has everything already, most of all empty ones: confirmed together. */
  private async confirmEqual(): Promise<void> {
    const wanted = this.wanted();
    if (wanted.length === 0) return;
    const { epoch, name } = this.ring;
    const equal = new Map<number, number>();
    for (const peer of [...this.peers.byId.values()]) {
      if (!peer.isWell) continue;
      const list = wanted.filter((p) => this.ring.homes(p).includes(peer.id));
      const differ = await this.governor.piece(() => this.compareRoots(peer, list));
      for (const p of list) if (!differ.has(p)) equal.set(p, (equal.get(p) ?? 0) + 1);
    }
    const list = wanted.filter((p) => (equal.get(p) ?? 0) >= this.sourcesNeeded(p));
    if (list.length === 0 || epoch !== this.ring.epoch) return;
    await this.parts.store.journal.flush();
    await this.parts.store.journal.sync(true);
    if (!this.isLayout(name)) return;
    this.stats.transferred += list.length;
    this.confirm(list);
  }

  /** Homes that a new one compares with: a write may have missed the others. What only those had who are gone is lost. */
  private sourcesNeeded(p: number): number {
    const homes = this.ring.homes(p);
    const left = homes.filter((id) => !this.parts.isGone(id));
    return Math.min(fewestWithAll(homes.length, this.parts.w), left.length);
  }

  /** Gets a partition from those who serve it: whole from one, then by comparison from as many as a write may have missed. */
  private async transfer(p: number): Promise<boolean> {
    const { name } = this.ring;
    // the ring may have changed while it waited for its turn
    if (!this.ring.gaining(p).includes(this.peers.self)) return false;
    const homes = this.ring.homes(p);
    const sources = homes
      .filter((id) => id !== this.peers.self)
      .map((id) => this.peers.byId.get(id))
      .filter((x): x is Peer => x?.isWell ?? false);
    const needed = this.sourcesNeeded(p);
    if (sources.length < needed) return false;
    try {
      let first = true;
      for (const peer of sources.slice(0, needed)) {
        const differ = await this.compareRoots(peer, [p]);
        if (!differ.has(p)) {
          first = false;
          continue;
        }
        if (first) {
          await this.parts.rpc.call(peer, ASK_TRANSFER, (w) => w.varint(p), TRANSFER_MS);
          first = false;
        }
        await this.exchange(peer, p);
      }
      await this.parts.store.journal.flush();
      await this.parts.store.journal.sync(true);
      // what was compared with the homes of one layout says nothing of those of another
      if (!this.isLayout(name)) return false;
      this.stats.transferred++;
      this.confirm([p]);
      return true;
    } catch (error) {
      this.parts.log.debug({ partition: p, error: String(error) }, 'a transfer was interrupted');
      return false;
    }
  }

  private isLayout(name: LayoutName): boolean {
    return name.version === this.ring.name.version && name.hash === this.ring.name.hash;
  }

  private confirm(list: number[]): void {
    const w = new ByteWriter(64);
    w.varint(this.ring.name.version);
    w.u53(this.ring.name.hash);
    w.varint(list.length);
    for (const p of list) w.varint(p);
    for (const peer of this.peers.byId.values()) peer.link?.send(CONFIRM, w.buf, 0, w.pos);
    this.confirmed(list, this.peers.self);
  }

  private confirmed(list: number[], id: string): void {
    let settled = false;
    for (const p of list) {
      if (!this.ring.confirm(p, id)) continue;
      settled = true;
      this.loseTenure(p);
    }
    if (settled) this.onSettled();
  }

  takeConfirm(peer: Peer, r: ByteReader): void {
    if (!this.isLayout({ version: r.varint(), hash: r.u53() })) return;
    const list: number[] = [];
    for (let n = r.varint(); n > 0; n--) list.push(r.varint());
    this.confirmed(list, peer.id);
  }

  /** Confirmations that others may have missed, once a round of gossip. */
  repeatConfirmations(): void {
    const list = this.ring.moving().filter((p) => this.ring.hasConfirmed(p, this.peers.self));
    if (list.length > 0) this.confirm(list);
  }

  /** Sends everything of a partition, and answers when the peer has taken it all. */
  private async answerTransfer(peer: Peer, r: ByteReader, w: ByteWriter): Promise<void> {
    const p = r.varint();
    const sendAll = async (places: KeyPlace[]): Promise<void> => {
      const oks = await Promise.all(places.map((place) => this.giveTo([peer], place, false)));
      if (!oks.every((ok) => ok)) throw new Error('the transfer was interrupted');
    };
    let sent = 0;
    for (const db of this.keys.databases) {
      const keys = await this.keysOf(db.index, p);
      for (let i = 0; i < keys.length; ) {
        const some = keys.slice(i, i + this.governor.pieceOf(TRANSFER_KEYS));
        i += some.length;
        await this.governor.piece(() => sendAll(some.map((key) => this.parts.store.placeOf(db, key))));
      }
      sent += keys.length;
    }
    w.varint(sent);
  }

  /** All keys of a partition, tombstones among them. */
  private async keysOf(dbIndex: number, p: number): Promise<string[]> {
    const db = this.keys.databases[dbIndex];
    const shard = db.shards[p];
    if (shard.complete) return [...shard.map.keys()];
    const tree = this.trees.tree(p);
    const names = new Set(await this.parts.store.engine.keyNames(dbIndex, tree.first, tree.first + tree.span));
    for (const key of shard.map.keys()) names.add(key);
    return [...names];
  }

  // ------------------------------------------------------------------ reaping

  /**
   * Tombstones go in rounds (DESIGN section 4). The coordinator of a partition asks every member, and every node that has
   * left and may not have handed all over, and each one must promise that it holds nothing that could bring back what was
   * deleted: no hint, no frame that is not acknowledged, no state under way, no stray copy. The homes say their roots,
   * which must be equal; so every one of them has every tombstone that is old enough, and each may drop it. One that
   * doesn't, because it dies, gives it back to the others, and the next round takes it again.
   */
  private async reapSome(): Promise<void> {
    const q = this.ring.partitions;
    const part = Math.ceil(q / REAP_PARTS);
    const horizon = hlcOfMs(this.parts.clock.now() - REAP_AGE_MS);
    let asks = 0;
    for (let i = 0; i < part && asks < REAP_ASKS && this.holdersToAsk() !== null; i++) {
      const p = this.reapHand++ % q;
      await this.governor.piece(async () => {
        // not before its turn: everybody of that time must be asked
        const holders = this.holdersToAsk();
        if (holders === null || this.tenure[p] !== HELD || !this.parts.coordinates(p)) return;
        if (!this.hasTombstones(p, horizon)) return;
        asks++;
        await this.reapRound(p, holders, horizon);
      });
    }
  }

  /** All other members, and who has left and is still there; null while any of them is not well. */
  private holdersToAsk(): string[] | null {
    const members = this.ring.members.filter((id) => id !== this.peers.self);
    const all = [...members, ...this.parts.outsiders()];
    return all.every((id) => this.peers.isHealthy(id)) ? all : null;
  }

  private *tombstones(p: number, horizon: number): IterableIterator<StoredKey> {
    for (const db of this.keys.databases) {
      const shard = db.shards[p];
      if (shard.map.size === 0) continue;
      for (const o of shard.map.values()) {
        if (o.type !== NONE || o.contextHash() === 0) continue;
        const s = o.state;
        if (s !== null && (s.count > 0 || s.gone !== null)) continue;
        if ((s?.context.highest() ?? Math.max(o.to, o.rest?.highest() ?? 0)) <= horizon) yield o;
      }
    }
  }

  private hasTombstones(p: number, horizon: number): boolean {
    for (const _ of this.tombstones(p, horizon)) return true;
    return false;
  }

  private async reapRound(p: number, holders: readonly string[], horizon: number): Promise<void> {
    await this.trees.settle();
    if (this.parts.hasWork(p) || !this.trees.isReady(p)) return;
    const root = this.trees.tree(p).root();
    const homes = this.ring.homes(p);
    const { epoch } = this.ring;
    const promises = holders.map(async (id) => {
      const r = await this.parts.rpc.call(this.peers.get(id), ASK_PROMISE, (w) => this.writePartition(w, p), CALL_MS);
      if (r.u8() !== 1) return false;
      const theirs = r.u53();
      if (breaks.reapsDespiteCopies) return true;
      return homes.includes(id) ? theirs === root : theirs === 0;
    });
    const promised = await Promise.all(promises.map((x) => x.catch(() => false)));
    if (!promised.every((x) => x) || epoch !== this.ring.epoch) return;
    for (const id of homes) {
      if (id === this.peers.self) continue;
      const fill = (w: ByteWriter) => {
        w.varint(p);
        w.u53(horizon);
      };
      await this.parts.rpc.call(this.peers.get(id), ASK_REAP, fill, CALL_MS).catch(() => {});
    }
    this.reap(p, horizon);
  }

  private writePartition(w: ByteWriter, p: number): void {
    w.varint(p);
    w.varint(this.ring.name.version);
    w.u53(this.ring.name.hash);
  }

  private async answerPromise(r: ByteReader, w: ByteWriter): Promise<void> {
    const p = r.varint();
    const same = r.varint() === this.ring.name.version && r.u53() === this.ring.name.hash;
    await this.trees.settle();
    const free = same && p < this.tenure.length && this.trees.isReady(p) && !this.parts.hasWork(p);
    if (free) {
      await this.parts.store.journal.flush();
      await this.parts.store.journal.sync(true);
    }
    w.u8(free ? 1 : 0);
    w.u53(free ? this.trees.tree(p).root() : 0);
  }

  private reap(p: number, horizon: number): void {
    for (const o of [...this.tombstones(p, horizon)]) {
      this.keys.forget(this.keys.databases[o.db], o);
      this.stats.reaped++;
    }
    this.parts.applied();
  }

  // ------------------------------------------------------------------ strays

  /** Keys that are here and belong to others. */
  get strayPartitions(): number {
    let n = 0;
    for (let p = 0; p < this.ring.partitions; p++) if (this.isStray(p)) n++;
    return n;
  }

  private isStray(p: number): boolean {
    if (!this.trees.isReady(p) || this.trees.tree(p).count() === 0) return false;
    const { self } = this.peers;
    return !this.ring.homes(p).includes(self) && !this.ring.gaining(p).includes(self);
  }

  private async handStraysOver(): Promise<void> {
    for (let p = 0; p < this.ring.partitions; p++) {
      if (!this.isStray(p) || this.ring.isMoving(p)) continue;
      const owners = this.ring.homes(p).map((id) => this.peers.byId.get(id));
      if (owners.length === 0 || owners.some((x) => x === undefined || !x.isWell)) continue;
      await this.handOver(p, owners as Peer[]);
    }
  }

  private async handOver(p: number, owners: Peer[]): Promise<void> {
    // equal roots would say what the owners have in memory; what goes here must be on their disks
    const { epoch } = this.ring;
    for (const db of this.keys.databases) {
      const keys = (await this.keysOf(db.index, p)).slice(0, STRAY_KEYS);
      for (let i = 0; i < keys.length && epoch === this.ring.epoch; ) {
        const some = keys.slice(i, i + this.governor.pieceOf(STRAY_KEYS));
        i += some.length;
        await this.governor.piece(() =>
          Promise.all(some.map((key) => this.handKeyOver(p, this.parts.store.placeOf(db, key), owners, epoch))),
        );
      }
    }
  }

  private async handKeyOver(p: number, place: KeyPlace, owners: Peer[], epoch: number): Promise<void> {
    const { db, key, slot } = place;
    if (!this.keys.isResident(db, key, slot)) await this.parts.store.residency.load([place]);
    const o = this.keys.shard(db, slot).map.get(key);
    if (o === undefined || o.contextHash() === 0) return;
    const hash = o.contextHash();
    if (await this.giveTo(owners, place, !breaks.dropsUnsynced)) this.drop(p, place, o, hash, epoch);
  }

  /** Sends a key; resolves when all have it, or when one has not. */
  private async giveTo(owners: Peer[], place: KeyPlace, durable: boolean): Promise<boolean> {
    const oks = await Promise.all(
      owners.map(
        (peer) => new Promise<boolean>((resolve) => this.parts.states.send(peer, place, { durable, done: resolve })),
      ),
    );
    return oks.every((ok) => ok);
  }

  /** The owners have it on disk; nothing has been written to it here meanwhile. */
  private drop(p: number, place: KeyPlace, o: StoredKey, hash: number, epoch: number): void {
    if (epoch !== this.ring.epoch || !this.isStray(p)) return;
    const now = this.keys.shard(place.db, place.slot).map.get(place.key);
    if (now !== o || o.contextHash() !== hash) return;
    this.stats.strays++;
    this.keys.forget(place.db, o);
    this.parts.applied();
  }
}

export interface RepairParts {
  store: Store;
  trees: Trees;
  peers: Peers;
  ring: Ring;
  reads: Reads;
  states: States;
  governor: Governor;
  rpc: Rpc;
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  r: number;
  w: number;
  coordinates: (p: number) => boolean;
  /** A node that will not come back as what it was: nobody is to wait for it. */
  isGone: (id: string) => boolean;
  /** Nodes that are up, are no members, and may hold what members' keys once were. */
  outsiders: () => readonly string[];
  applied: () => void;
  /** Is anything under way or kept back that concerns this partition? */
  hasWork: (p: number) => boolean;
}
