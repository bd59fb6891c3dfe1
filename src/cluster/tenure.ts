/**
 * Tenure (DESIGN section 6): of which partitions this node knows that it has missed nothing.
 *
 * It knows so when it has compared with enough others since it last might have missed something. Until then the
 * coordinator reads before it runs. Clients wait for this, so it never asks the governor.
 */
import type { Exchanges } from './exchanges.ts';
import type { Peer, Peers } from './peers.ts';
import type { RepairParts } from './repair-parts.ts';
import type { Ring } from './ring.ts';
import type { Trees } from './trees.ts';

const NONE_YET = 0;
const HELD = 1;

export class Tenure {
  /** HELD where this node knows that it has missed nothing. */
  readonly held: Uint8Array;
  private readonly credit: Set<string>[] = [];
  /** Counts the occasions on which tenure was lost. */
  private epoch = 0;
  private readonly parts: RepairParts;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly exchanges: Exchanges;

  constructor(parts: RepairParts, exchanges: Exchanges) {
    this.parts = parts;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.exchanges = exchanges;
    const q = parts.store.keys.partitions;
    this.held = new Uint8Array(q);
    for (let p = 0; p < q; p++) this.credit.push(new Set());
  }

  has(p: number): boolean {
    return this.held[p] === HELD;
  }

  /** Something may have been missed: of one partition, or of all. */
  lose(p?: number): void {
    this.epoch++;
    if (p === undefined) {
      this.held.fill(NONE_YET);
      for (const c of this.credit) c.clear();
    } else {
      this.held[p] = NONE_YET;
      this.credit[p].clear();
    }
  }

  /** This peer was away or is gone: partitions that it shares with us may have had another coordinator. */
  peerChanged(peer: Peer): void {
    for (let p = 0; p < this.ring.partitions; p++) {
      if (!this.ring.homes(p).includes(peer.id)) continue;
      this.held[p] = NONE_YET;
      this.credit[p].clear();
    }
    this.epoch++;
  }

  private give(p: number, peer: string, epoch: number): void {
    if (epoch !== this.epoch || this.held[p] === HELD) return;
    const homes = this.ring.homes(p);
    const credit = this.credit[p];
    if (peer !== '' && homes.includes(peer)) credit.add(peer);
    const needed = Math.min(this.parts.r, homes.length) - (homes.includes(this.peers.self) ? 1 : 0);
    if (credit.size >= needed) this.held[p] = HELD;
  }

  /** Partitions that this node coordinates, without knowing that it has everything. */
  private untenured(): number[] {
    const list: number[] = [];
    for (let p = 0; p < this.ring.partitions; p++) {
      if (this.held[p] === HELD || !this.ring.homes(p).includes(this.peers.self)) continue;
      if (this.parts.coordinates(p)) list.push(p);
    }
    return list;
  }

  async gain(): Promise<void> {
    const wanting = this.untenured();
    if (wanting.length === 0) return;
    const epoch = this.epoch;
    const byPeer = new Map<Peer, number[]>();
    for (const p of wanting) {
      this.give(p, '', epoch);
      if (this.held[p] === HELD || !this.trees.isReady(p)) continue;
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
      const differ = await this.exchanges.compareRoots(peer, list);
      for (const p of list) if (!differ.has(p)) this.give(p, peer.id, epoch);
      for (const p of list) {
        if (!differ.has(p) || this.held[p] === HELD || epoch !== this.epoch) continue;
        await this.exchanges.exchange(peer, p);
        this.give(p, peer.id, epoch);
      }
    } catch {
      // it will be tried again
    }
  }
}
