/**
 * Hinted handoff (paper 4.6): which keys an absent owner has missed writes of.
 *
 * A hint is a mark and not a copy: the data is in this node's own store, as a home replica's or as a stand-in's, so ten
 * thousand writes of one key are one hint, and what is delivered is the key as it is then. Hints are kept in a file of
 * their own, scanned when the owner is back, and dropped when it has the key on disk. A hint that a crash took back is
 * no loss: the trees find what it stood for, and keys that a stand-in holds are handed over as strays.
 */
import { breaks } from '../base/breaks.ts';
import type { Clock, Timer, Timers } from '../ports/clock.ts';
import type { Engine, HintRow } from '../ports/engine.ts';
import type { Log } from '../ports/log.ts';
import type { KeyPlace } from '../store/keyspace.ts';
import type { Store } from '../store/store.ts';
import type { Governor } from './governor.ts';
import type { Peer, Peers } from './peers.ts';
import type { States } from './states.ts';

/** Hints for one owner; beyond it only the trees know what it has missed. */
export const MAX_HINTS = 1_000_000;
const FLUSH_MS = 50;
/** Hints under way to one owner. */
const WINDOW = 2048;
const RETRY_MS = 500;

interface Owner {
  keys: Map<string, KeyPlace>;
  /** What is being delivered, by the number of its delivery: an earlier one's outcome says nothing of a later one. */
  underWay: Map<string, number>;
  overflown: boolean;
  retryAt: number;
}

export class Hints {
  private readonly owners = new Map<string, Owner>();
  private toPut: HintRow[] = [];
  private toDrop: HintRow[] = [];
  private timer: Timer | null = null;
  private writing: Promise<void> | null = null;
  private deliveries = 0;
  private readonly store: Store;
  private readonly engine: Engine;
  private readonly peers: Peers;
  private readonly states: States;
  private readonly governor: Governor;
  private readonly clock: Clock;
  private readonly timers: Timers;
  private readonly log: Log;
  private readonly isOwner: (id: string) => boolean;
  private readonly limit: number;
  stats = { added: 0, delivered: 0, overflown: 0 };

  constructor(parts: {
    store: Store;
    peers: Peers;
    states: States;
    governor: Governor;
    clock: Clock;
    timers: Timers;
    log: Log;
    isOwner: (id: string) => boolean;
    /** Hints for one owner, at most. */
    limit?: number;
  }) {
    this.isOwner = parts.isOwner;
    this.limit = parts.limit ?? MAX_HINTS;
    this.store = parts.store;
    this.engine = parts.store.engine;
    this.peers = parts.peers;
    this.states = parts.states;
    this.governor = parts.governor;
    this.clock = parts.clock;
    this.timers = parts.timers;
    this.log = parts.log;
  }

  /** Reads what an earlier session left. */
  async start(): Promise<void> {
    for (const row of await this.engine.readHints()) {
      const db = this.store.keys.databases[row.db];
      if (db !== undefined) this.ownerOf(row.owner).keys.set(`${row.db}:${row.key}`, this.store.placeOf(db, row.key));
    }
    this.timer = this.timers.every(FLUSH_MS, () => void this.flush());
  }

  async stop(): Promise<void> {
    this.timer?.cancel();
    await this.writing;
    await this.flush();
  }

  get count(): number {
    let n = 0;
    for (const o of this.owners.values()) n += o.keys.size;
    return n;
  }

  /** Hints waiting, by owner. */
  byOwner(): Map<string, number> {
    return new Map([...this.owners].filter(([, o]) => o.keys.size > 0).map(([id, o]) => [id, o.keys.size]));
  }

  has(db: number, key: string): boolean {
    const name = `${db}:${key}`;
    for (const o of this.owners.values()) if (o.keys.has(name)) return true;
    return false;
  }

  /** Owners for whom this key is hinted here. */
  ownersOf(db: number, key: string): string[] {
    const name = `${db}:${key}`;
    return [...this.owners].filter(([, o]) => o.keys.has(name)).map(([id]) => id);
  }

  hasPartition(p: number): boolean {
    for (const o of this.owners.values())
      for (const place of o.keys.values()) if (this.store.keys.partitionOf(place.slot) === p) return true;
    return false;
  }

  private ownerOf(id: string): Owner {
    let o = this.owners.get(id);
    if (o === undefined) {
      o = { keys: new Map(), underWay: new Map(), overflown: false, retryAt: 0 };
      this.owners.set(id, o);
    }
    return o;
  }

  add(owner: string, place: KeyPlace): void {
    if (owner === this.peers.self) return;
    const o = this.ownerOf(owner);
    const name = `${place.db.index}:${place.key}`;
    // written again while it is being delivered: it must go once more
    o.underWay.delete(name);
    if (o.keys.has(name)) return;
    if (o.keys.size >= this.limit) {
      if (!o.overflown)
        this.log.warn({ owner: owner.slice(0, 8) }, 'too many hints for a node; the trees will find the rest');
      o.overflown = true;
      this.stats.overflown++;
      return;
    }
    o.keys.set(name, place);
    this.stats.added++;
    this.toPut.push({ owner, db: place.db.index, key: place.key });
  }

  /** The owner is a member no longer. */
  forgetOwner(owner: string): void {
    const o = this.owners.get(owner);
    if (o === undefined) return;
    for (const place of o.keys.values()) this.toDrop.push({ owner, db: place.db.index, key: place.key });
    this.owners.delete(owner);
    // what is still said of its deliveries is not for an owner of that name who comes later
    o.keys.clear();
    o.underWay.clear();
  }

  private flush(): Promise<void> {
    if (this.writing !== null || (this.toPut.length === 0 && this.toDrop.length === 0)) return Promise.resolve();
    this.writing = this.write().finally(() => {
      this.writing = null;
    });
    return this.writing;
  }

  private async write(): Promise<void> {
    const { toDrop } = this;
    // what was delivered before it was written needs no row, and nobody would ever drop that
    const toPut = this.toPut.filter((h) => this.owners.get(h.owner)?.keys.has(`${h.db}:${h.key}`));
    this.toPut = [];
    this.toDrop = [];
    try {
      // in this order: a key that is hinted again after its delivery keeps its row
      if (toDrop.length > 0) await this.engine.dropHints(toDrop);
      if (toPut.length > 0) await this.engine.putHints(toPut);
    } catch (error) {
      this.log.warn({ error: String(error) }, 'hints could not be written; they are in memory');
    }
  }

  /** Delivers what can be delivered. Called now and then, and when a peer is back. */
  deliver(now: number): void {
    for (const [id, o] of [...this.owners]) {
      if (o.keys.size === 0 || now < o.retryAt) continue;
      if (!this.isOwner(id)) {
        // a member no longer: those who took its place get their keys by other ways
        this.forgetOwner(id);
        continue;
      }
      const peer = this.peers.byId.get(id);
      if (peer === undefined || !peer.isWell) continue;
      this.deliverTo(peer, o, now);
    }
  }

  private deliverTo(peer: Peer, o: Owner, now: number): void {
    const { governor } = this;
    const window = governor.pieceOf(WINDOW);
    if (o.underWay.size >= window || !governor.mayWork()) return;
    // what one call sends is a piece of background work: it is over when all of it has been answered
    let open = 1;
    const over = () => {
      if (--open === 0) governor.worked(this.clock.monotonic() - now);
    };
    for (const [name, place] of o.keys) {
      if (o.underWay.size >= window) break;
      if (o.underWay.has(name)) continue;
      const delivery = ++this.deliveries;
      o.underWay.set(name, delivery);
      open++;
      this.states.send(peer, place, {
        durable: !breaks.dropsUnsynced,
        done: (ok) => {
          over();
          const current = o.underWay.get(name) === delivery;
          if (current) o.underWay.delete(name);
          if (!ok) {
            o.retryAt = now + RETRY_MS;
            return;
          }
          if (!current) return;
          this.stats.delivered++;
          if (o.keys.delete(name)) this.toDrop.push({ owner: peer.id, db: place.db.index, key: place.key });
        },
      });
    }
    over();
  }
}
