/**
 * Moving ranges (paper 4.9): a new home gets each partition whole from one who serves it, compares with as many others as
 * a write may have missed, and confirms when all of it is on disk.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import type { LayoutName } from '../ring/layout.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import type { Exchanges } from './exchanges.ts';
import type { Governor } from './governor.ts';
import { CONFIRM } from './messages.ts';
import type { Peer, Peers } from './peers.ts';
import type { RepairParts, RepairStats } from './repair-parts.ts';
import { fewestWithAll, type Ring } from './ring.ts';
import { ASK_TRANSFER } from './rpc.ts';
import type { Trees } from './trees.ts';

/** Partitions being transferred at once. */
const MAX_TRANSFERS = 4;
const TRANSFER_MS = 600_000;
/** Keys of a partition being transferred that are sent at once. */
const TRANSFER_KEYS = 4096;

export class Transfers {
  private readonly transferring = new Set<number>();
  private readonly parts: RepairParts;
  private readonly keys: Keyspace;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly governor: Governor;
  private readonly exchanges: Exchanges;
  private readonly stats: RepairStats;
  /** Told when a partition's new homes serve it from now on. */
  onServed: (p: number) => void = () => {};
  /** Told once for all of them that do so at one time. */
  onSettled: () => void = () => {};

  constructor(parts: RepairParts, exchanges: Exchanges, stats: RepairStats) {
    this.parts = parts;
    this.keys = parts.store.keys;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.governor = parts.governor;
    this.exchanges = exchanges;
    this.stats = stats;
    parts.rpc.on(ASK_TRANSFER, (peer, r, w) => this.answerTransfer(peer, r, w));
  }

  /** Confirms what is here already, and begins to fetch what is not. */
  async step(): Promise<void> {
    await this.confirmEqual();
    this.startTransfers();
  }

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
      const differ = await this.governor.piece(() => this.exchanges.compareRoots(peer, list));
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
        const differ = await this.exchanges.compareRoots(peer, [p]);
        if (!differ.has(p)) {
          first = false;
          continue;
        }
        if (first) {
          await this.parts.rpc.call(peer, ASK_TRANSFER, (w) => w.varint(p), TRANSFER_MS);
          first = false;
        }
        await this.exchanges.exchange(peer, p);
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
      this.onServed(p);
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
      const oks = await Promise.all(places.map((place) => this.parts.states.sendToAll([peer], place, false)));
      if (!oks.every((ok) => ok)) throw new Error('the transfer was interrupted');
    };
    let sent = 0;
    for (const db of this.keys.databases) {
      const keys = await this.trees.keysOf(db, p);
      for (let i = 0; i < keys.length; ) {
        const some = keys.slice(i, i + this.governor.pieceOf(TRANSFER_KEYS));
        i += some.length;
        await this.governor.piece(() => sendAll(some.map((key) => this.parts.store.placeOf(db, key))));
      }
      sent += keys.length;
    }
    w.varint(sent);
  }
}
