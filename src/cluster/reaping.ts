/**
 * Reaping: tombstones that have served their time go.
 *
 * Tombstones go in rounds (DESIGN section 4). The coordinator of a partition asks every member, and every node that has
 * left and may not have handed all over, and each one must promise that it holds nothing that could bring back what was
 * deleted: no hint, no frame that is not acknowledged, no state under way, no stray copy. The homes say their roots,
 * which must be equal; so every one of them has every tombstone that is old enough, and each may drop it. One that
 * doesn't, because it dies, gives it back to the others, and the next round takes it again.
 */
import { breaks } from '../base/breaks.ts';
import type { ByteReader, ByteWriter } from '../base/bytes.ts';
import { hlcOfMs } from '../causality/clock.ts';
import type { Keyspace } from '../store/keyspace.ts';
import type { StoredKey } from '../store/object.ts';
import { NONE } from '../types/kinds.ts';
import type { Governor } from './governor.ts';
import type { Peers } from './peers.ts';
import { CALL_MS, type RepairParts, type RepairStats } from './repair-parts.ts';
import type { Ring } from './ring.ts';
import { ASK_PROMISE, ASK_REAP } from './rpc.ts';
import type { Tenure } from './tenure.ts';
import type { Trees } from './trees.ts';

/** Parts that all partitions are looked at in. */
export const REAP_PARTS = 64;
/** A tombstone younger than this is left alone, in ms. */
export const REAP_AGE_MS = 20_000;
/** Partitions that one part asks all members about, at most. */
const REAP_ASKS = 32;

export class Reaping {
  private reapHand = 0;
  private readonly parts: RepairParts;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly governor: Governor;
  private readonly tenure: Tenure;
  private readonly stats: RepairStats;

  constructor(parts: RepairParts, tenure: Tenure, stats: RepairStats) {
    this.parts = parts;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.governor = parts.governor;
    this.tenure = tenure;
    this.stats = stats;
    parts.rpc.on(ASK_PROMISE, (_, r, w) => this.answerPromise(r, w));
    parts.rpc.on(ASK_REAP, (_, r) => this.reap(r.varint(), r.u53()));
  }

  /** Looks at the next part of all partitions. */
  async some(): Promise<void> {
    const q = this.ring.partitions;
    const part = Math.ceil(q / REAP_PARTS);
    const horizon = hlcOfMs(this.parts.clock.now() - REAP_AGE_MS);
    let asks = 0;
    for (let i = 0; i < part && asks < REAP_ASKS && this.holdersToAsk() !== null; i++) {
      const p = this.reapHand++ % q;
      await this.governor.piece(async () => {
        // not before its turn: everybody of that time must be asked
        const holders = this.holdersToAsk();
        if (holders === null || !this.tenure.has(p) || !this.parts.coordinates(p)) return;
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
      // a packed key is live
      for (const o of shard.objects.values()) {
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
    const free = same && p < this.keys.partitions && this.trees.isReady(p) && !this.parts.hasWork(p);
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
  }
}
