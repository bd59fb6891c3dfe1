/**
 * Strays: keys that this node holds and is no home of (it stood in for somebody, or its range has moved). They go to all
 * homes, and are dropped here when all have them on disk.
 */
import { breaks } from '../base/breaks.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import type { StoredKey } from '../store/object.ts';
import type { Governor } from './governor.ts';
import type { Peer, Peers } from './peers.ts';
import type { RepairParts, RepairStats } from './repair-parts.ts';
import type { Ring } from './ring.ts';
import type { Trees } from './trees.ts';

/** Keys of a stray partition that are handed over at once. */
const STRAY_KEYS = 2000;

export class Strays {
  private readonly parts: RepairParts;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly governor: Governor;
  private readonly stats: RepairStats;

  constructor(parts: RepairParts, stats: RepairStats) {
    this.parts = parts;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.governor = parts.governor;
    this.stats = stats;
  }

  /** Keys that are here and belong to others. */
  get count(): number {
    let n = 0;
    for (let p = 0; p < this.ring.partitions; p++) if (this.isStray(p)) n++;
    return n;
  }

  private isStray(p: number): boolean {
    if (!this.trees.isReady(p) || this.trees.tree(p).count() === 0) return false;
    const { self } = this.peers;
    return !this.ring.homes(p).includes(self) && !this.ring.gaining(p).includes(self);
  }

  async handAllOver(): Promise<void> {
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
      const keys = (await this.trees.keysOf(db, p)).slice(0, STRAY_KEYS);
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
    if (await this.parts.states.sendToAll(owners, place, !breaks.dropsUnsynced)) this.drop(p, place, o, hash, epoch);
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
