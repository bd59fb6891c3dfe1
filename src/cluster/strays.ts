/**
 * Strays: keys that this node holds and is no home of (it stood in for somebody, or its range has moved). They are dropped
 * here when all homes have them on disk.
 *
 * Mostly they have: a range is moved from its former homes before these hold strays. So a home is first asked which parts of
 * the partition (the buckets of its Merkle tree) it has on disk exactly as they are here, then which keys of the others,
 * and what it still lacks after that is sent to it. What was said of a key or of a bucket counts as long as nothing in it
 * has changed here since.
 */
import { breaks } from '../base/breaks.ts';
import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { subtractHash } from '../base/hash.ts';
import { leafTerm, TREE_BUCKETS } from '../merkle/tree.ts';
import { positionOf } from '../ring/position.ts';
import type { Database, KeyPlace, Keyspace } from '../store/keyspace.ts';
import { IN_TREE, STALE, type StoredKey } from '../store/object.ts';
import type { Governor } from './governor.ts';
import type { Peer, Peers } from './peers.ts';
import { CALL_MS, type RepairParts, type RepairStats } from './repair-parts.ts';
import type { Ring } from './ring.ts';
import { ASK_KEYS_HELD, ASK_PARTS_HELD, CallError, type Rpc } from './rpc.ts';
import { checksumOf, type Trees } from './trees.ts';

/** Keys of a stray partition that are looked at at once. */
const STRAY_KEYS = 2000;
/** Partitions that a home is asked about at once: some 1.8 KiB each. */
const ASKED_PARTITIONS = 64;
/** Longer keys are sent without asking: a question is one frame. */
const ASKED_KEY_BYTES = 1024;

/** A partition that belongs to others. */
interface Stray {
  readonly p: number;
  readonly homes: readonly string[];
  readonly owners: readonly Peer[];
  /** The buckets' sums that the owners were asked about, less what has been dropped since. */
  sums: Float64Array;
  /** For each owner, 1 for each bucket that it has not on disk just so. Null when it can't say: later, then. */
  lacks: (Uint8Array | null)[];
}

/** One key of it that not all are known to have. */
interface Rest {
  readonly place: KeyPlace;
  readonly o: StoredKey;
  readonly hash: number;
  readonly term: number;
  /** Who is to be asked about it, and after that: who is to get it. */
  lacking: Peer[];
}

export class Strays {
  private readonly parts: RepairParts;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly governor: Governor;
  private readonly rpc: Rpc;
  private readonly stats: RepairStats;

  constructor(parts: RepairParts, stats: RepairStats) {
    this.parts = parts;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.governor = parts.governor;
    this.rpc = parts.rpc;
    this.stats = stats;
    this.rpc.on(ASK_PARTS_HELD, (_, r, w) => this.answerParts(r, w));
    this.rpc.on(ASK_KEYS_HELD, (_, r, w) => this.answerKeys(r, w));
  }

  /** Partitions of which keys are here that belong to others. */
  get count(): number {
    let n = 0;
    for (let p = 0; p < this.ring.partitions; p++) if (this.isStray(p)) n++;
    return n;
  }

  private isStray(p: number): boolean {
    return this.trees.isReady(p) && this.trees.tree(p).count() > 0 && this.isOthers(p);
  }

  private isOthers(p: number): boolean {
    const { self } = this.peers;
    return !this.ring.homes(p).includes(self) && !this.ring.gaining(p).includes(self);
  }

  /** Hands over what can be handed over: partitions whose homes are all well. */
  async handAllOver(): Promise<void> {
    const list: Stray[] = [];
    for (let p = 0; p < this.ring.partitions; p++) {
      if (!this.isStray(p) || this.ring.isMoving(p)) continue;
      const homes = this.ring.homes(p);
      const owners = homes.map((id) => this.peers.byId.get(id)).filter((x): x is Peer => x?.isWell ?? false);
      if (homes.length === 0 || owners.length < homes.length) continue;
      list.push({ p, homes, owners, sums: new Float64Array(TREE_BUCKETS), lacks: [] });
    }
    for (let i = 0; i < list.length; i += ASKED_PARTITIONS) {
      const some = list.slice(i, i + ASKED_PARTITIONS);
      await this.governor.piece(() => this.askParts(some));
      for (const s of some) await this.handOver(s);
    }
  }

  /** What was found out of a partition still concerns it. */
  private isCurrent(s: Stray): boolean {
    return this.ring.homes(s.p) === s.homes && !this.ring.isMoving(s.p) && this.isOthers(s.p);
  }

  private async handOver(s: Stray): Promise<void> {
    if (s.lacks.some((x) => x === null)) return;
    for (const db of this.keys.databases) {
      const keys = await this.trees.keysOf(db, s.p);
      for (let i = 0; i < keys.length && this.isCurrent(s); ) {
        const some = keys.slice(i, i + this.governor.pieceOf(STRAY_KEYS));
        i += some.length;
        await this.governor.piece(() => this.handKeysOver(s, db, some));
      }
    }
  }

  private async handKeysOver(s: Stray, db: Database, keys: readonly string[]): Promise<void> {
    const places = keys.map((key) => this.parts.store.placeOf(db, key));
    const cold = places.filter((x) => !this.keys.isResident(db, x.key, x.slot));
    if (cold.length > 0) await this.parts.store.residency.load(cold);
    const rest = this.dropHeld(s, places);
    if (rest.length === 0) return;
    await Promise.all(s.owners.map((peer) => this.askKeys(peer, rest)));
    const sent = rest.map(async (x) => {
      if (await this.parts.states.sendToAll(x.lacking, x.place, !breaks.dropsUnsynced)) this.dropIfSame(s, x);
    });
    await Promise.all(sent);
  }

  /** Drops what lies in buckets that all owners have. Returns the others. */
  private dropHeld(s: Stray, places: readonly KeyPlace[]): Rest[] {
    const tree = this.trees.current(s.p);
    const rest: Rest[] = [];
    if (!this.isCurrent(s)) return rest;
    const now = tree.bucketSums();
    const same = now.map((sum, b) => (sum === s.sums[b] ? 1 : 0));
    for (const place of places) {
      const o = this.keys.shard(place.db, place.slot).get(place.key);
      if (o === undefined || o.contextHash() === 0 || (o.flags & IN_TREE) === 0) continue;
      // another round finds it
      if (this.parts.isBorrowed(place)) continue;
      const b = tree.bucketOf(positionOf(place.slot, place.key));
      const lacking = same[b] === 1 ? s.owners.filter((_, i) => s.lacks[i]![b] === 1) : [...s.owners];
      if (lacking.length === 0) this.drop(s, place, o);
      else rest.push({ place, o, hash: o.contextHash(), term: o.term, lacking });
    }
    return rest;
  }

  /** The owners have it on disk; nothing has been written to it here meanwhile. */
  private dropIfSame(s: Stray, { place, o, hash }: Rest): void {
    if (!this.isCurrent(s) || o.contextHash() !== hash || this.parts.isBorrowed(place)) return;
    if (this.keys.shard(place.db, place.slot).get(place.key) === o) this.drop(s, place, o);
  }

  private drop(s: Stray, place: KeyPlace, o: StoredKey): void {
    const b = this.trees.tree(s.p).bucketOf(positionOf(place.slot, place.key));
    s.sums[b] = subtractHash(s.sums[b], o.term);
    this.stats.strays++;
    this.keys.forget(place.db, o);
  }

  // ------------------------------------------------------------------ questions

  /** Which buckets do the owners have on disk as they are here? */
  private async askParts(list: readonly Stray[]): Promise<void> {
    await this.trees.settle();
    const byOwner = new Map<Peer, Stray[]>();
    for (const s of list) {
      s.sums = this.trees.tree(s.p).bucketSums();
      s.lacks = s.owners.map(() => null);
      for (const peer of s.owners) {
        const theirs = byOwner.get(peer);
        if (theirs === undefined) byOwner.set(peer, [s]);
        else theirs.push(s);
      }
    }
    const fill = (w: ByteWriter, strays: readonly Stray[]) => {
      w.varint(strays.length);
      for (const s of strays) {
        w.varint(s.p);
        this.trees.tree(s.p).writeSums(w);
      }
      this.stats.bytes += w.pos;
    };
    const ask = async (peer: Peer, strays: readonly Stray[]): Promise<void> => {
      try {
        const r = await this.rpc.call(peer, ASK_PARTS_HELD, (w) => fill(w, strays), CALL_MS);
        for (const s of strays) if (r.u8() === 1) s.lacks[s.owners.indexOf(peer)] = readBits(r, TREE_BUCKETS);
      } catch (error) {
        if (!(error instanceof CallError && error.isUnknown)) return;
        // an older version: it is sent everything
        for (const s of strays) s.lacks[s.owners.indexOf(peer)] = new Uint8Array(TREE_BUCKETS).fill(1);
      }
    };
    await Promise.all([...byOwner].map(([peer, strays]) => ask(peer, strays)));
  }

  /** For each partition: may be compared?, and a bit for each bucket that is not the same here, or was not to be synced. */
  private async answerParts(r: ByteReader, w: ByteWriter): Promise<void> {
    await this.trees.settle();
    for (let n = r.varint(); n > 0; n--) {
      const tree = this.trees.tree(r.varint());
      const differ = tree.otherSums(r);
      const ready = this.trees.isReady(tree.partition);
      w.u8(ready ? 1 : 0);
      if (ready) writeBits(w, differ);
    }
    await this.onDisk();
    this.stats.bytes += w.pos;
  }

  /** Which of these keys does the owner lack? Those that it has on disk are taken from its list. */
  private async askKeys(peer: Peer, rest: readonly Rest[]): Promise<void> {
    const list = rest.filter((x) => x.place.key.length <= ASKED_KEY_BYTES && x.lacking.includes(peer));
    if (list.length === 0) return;
    const fill = (w: ByteWriter) => {
      w.varint(list.length);
      for (const x of list) {
        w.u8(x.place.db.index);
        w.str(x.place.key);
        w.u53(x.term);
      }
      this.stats.bytes += w.pos;
    };
    try {
      const lacks = readBits(await this.rpc.call(peer, ASK_KEYS_HELD, fill, CALL_MS), list.length);
      list.forEach((x, i) => {
        if (lacks[i] === 0) x.lacking = x.lacking.filter((y) => y !== peer);
      });
    } catch {
      // it is sent all of them, and says then what it has
    }
  }

  private async answerKeys(r: ByteReader, w: ByteWriter): Promise<void> {
    const asked: { place: KeyPlace; term: number }[] = [];
    for (let n = r.varint(); n > 0; n--) {
      const db = this.keys.databases[r.u8()];
      const key = r.str();
      asked.push({ place: this.parts.store.placeOf(db, key), term: r.u53() });
    }
    const cold = asked.map((x) => x.place).filter((x) => !this.keys.isResident(x.db, x.key, x.slot));
    if (cold.length > 0) await this.parts.store.residency.load(cold);
    const lacks = new Uint8Array(asked.length);
    asked.forEach(({ place, term }, i) => {
      const o = this.keys.shard(place.db, place.slot).get(place.key);
      lacks[i] = o === undefined || this.termOf(o) !== term ? 1 : 0;
    });
    await this.onDisk();
    writeBits(w, lacks);
    this.stats.bytes += w.pos;
  }

  private termOf(o: StoredKey): number {
    if ((o.flags & (IN_TREE | STALE)) === IN_TREE) return o.term;
    const hash = o.contextHash();
    return hash === 0 ? 0 : leafTerm(o.db, positionOf(o.slot, o.key), hash, checksumOf(o));
  }

  /** Equal sums say what is in memory; what is dropped elsewhere for them must be on this disk. */
  private async onDisk(): Promise<void> {
    if (breaks.dropsUnsynced) return;
    await this.parts.store.journal.flush();
    await this.parts.store.journal.sync(true);
  }
}

function writeBits(w: ByteWriter, bits: Uint8Array): void {
  for (let i = 0; i < bits.length; i += 8) {
    let byte = 0;
    for (let k = 0; k < 8 && i + k < bits.length; k++) byte |= bits[i + k] << k;
    w.u8(byte);
  }
}

function readBits(r: ByteReader, n: number): Uint8Array {
  const bits = new Uint8Array(n);
  for (let i = 0; i < n; i += 8) {
    const byte = r.u8();
    for (let k = 0; k < 8 && i + k < n; k++) bits[i + k] = (byte >> k) & 1;
  }
  return bits;
}
