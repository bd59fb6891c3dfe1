/**
 * Moving ranges (paper 4.9): a new home gets each partition from one who serves it, compares with as many others as a
 * write may have missed, and confirms when all of it is on disk.
 *
 * A move goes round: its roots are compared with those who serve it; one that agrees with enough of them is confirmed; of
 * another everything is fetched that differs, and where that was not enough an exchange finds the rest; then it is
 * compared again. Comparing and confirming is done for all moves together, so that a partition costs no wait for the
 * network, none for the disk, and no change of the ring of its own.
 */
import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import type { LayoutName } from '../ring/layout.ts';
import { positionOf } from '../ring/position.ts';
import type { KeyPlace, Keyspace } from '../store/keyspace.ts';
import type { Exchanges } from './exchanges.ts';
import type { Governor } from './governor.ts';
import { CONFIRM } from './messages.ts';
import type { Peer, Peers } from './peers.ts';
import type { RepairParts, RepairStats } from './repair-parts.ts';
import { fewestWithAll, type Ring } from './ring.ts';
import { ASK_TRANSFER } from './rpc.ts';
import type { Trees } from './trees.ts';

/** Partitions being fetched at once; fewer while there is something to give way to. */
const MAX_FETCHES = 16;
const FEW_FETCHES = 4;
const TRANSFER_MS = 600_000;
/** Keys of a partition being transferred that are sent at once. */
const TRANSFER_KEYS = 4096;
/** A move that was interrupted is left alone for so many ms. */
const RETRY_MS = 500;
/** While others are being fetched, those that are ready wait this long for one another to be confirmed, in ms. */
const GATHER_MS = 1000;

/** One partition on its way to this node, in one layout. */
interface Move {
  readonly p: number;
  /** Those who serve it of whom this node has had everything. */
  readonly agreed: Set<string>;
  /** What one of them had is here: exchanges find the rest. */
  fetched: boolean;
  /** It waits for its turn to be fetched, or has it. */
  queued: boolean;
  /** It was interrupted: not before this time, on the monotonic clock. */
  retryAt: number;
}

export class Transfers {
  private moves = new Map<number, Move>();
  /** The layout that they belong to: what was compared with the homes of one says nothing of those of another. */
  private layout: LayoutName = { version: 0, hash: 0 };
  private queue: Move[] = [];
  private workers = 0;
  private confirmedAt = 0;
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

  /** Compares what is being taken over, confirms what is whole, and fetches what is not. */
  async step(): Promise<void> {
    const moves = this.wanted();
    const now = this.parts.clock.monotonic();
    const idle = moves.filter((m) => !m.queued && m.retryAt <= now && !this.isWhole(m));
    if (idle.length > 0) {
      await this.compare(idle);
      for (const m of idle) {
        if (this.isCurrent(m) && !this.isWhole(m)) {
          m.queued = true;
          this.queue.push(m);
        }
      }
    }
    while (this.workers < Math.min(this.fetches, this.queue.length)) this.work();
    await this.confirmWhole(moves);
  }

  /** The moves to this node that it has not confirmed. */
  private wanted(): Move[] {
    const { self } = this.peers;
    if (!this.isLayout(this.layout)) {
      this.layout = this.ring.name;
      this.moves = new Map();
      this.queue = [];
    }
    const wanted = new Map<number, Move>();
    for (const p of this.ring.moving()) {
      if (!this.ring.gaining(p).includes(self) || this.ring.hasConfirmed(p, self) || !this.trees.isReady(p)) continue;
      wanted.set(p, this.moves.get(p) ?? { p, agreed: new Set(), fetched: false, queued: false, retryAt: 0 });
    }
    this.moves = wanted;
    return [...wanted.values()];
  }

  private isCurrent(m: Move): boolean {
    return this.isLayout(this.layout) && this.moves.get(m.p) === m && this.ring.gaining(m.p).includes(this.peers.self);
  }

  private isWhole(m: Move): boolean {
    const agreed = this.ring.homes(m.p).filter((id) => m.agreed.has(id)).length;
    return agreed >= this.sourcesNeeded(m.p);
  }

  /** Asks all who serve any of these for their roots: empty partitions are whole at once. */
  private async compare(moves: readonly Move[]): Promise<void> {
    const ask = async (peer: Peer): Promise<void> => {
      const list = moves.filter((m) => !m.agreed.has(peer.id) && this.ring.homes(m.p).includes(peer.id));
      if (list.length === 0) return;
      const differ = await this.governor.piece(() =>
        this.exchanges.compareRoots(
          peer,
          list.map((m) => m.p),
        ),
      );
      for (const m of list) if (!differ.has(m.p)) m.agreed.add(peer.id);
    };
    const peers = [...this.peers.byId.values()].filter((x) => x.isWell);
    await Promise.all(peers.map((peer) => ask(peer).catch((error) => this.interrupted(null, error))));
  }

  private async confirmWhole(moves: readonly Move[]): Promise<void> {
    const now = this.parts.clock.monotonic();
    if (this.workers > 0 && now - this.confirmedAt < GATHER_MS) return;
    const whole = moves.filter((m) => this.isCurrent(m) && this.isWhole(m));
    if (whole.length === 0) return;
    this.confirmedAt = now;
    await this.parts.store.journal.flush();
    await this.parts.store.journal.sync(true);
    const list = whole.filter((m) => this.isCurrent(m) && this.isWhole(m)).map((m) => m.p);
    if (list.length === 0) return;
    this.stats.transferred += list.length;
    this.confirm(list);
  }

  /** Homes that a new one compares with: a write may have missed the others. What only those had who are gone is lost. */
  private sourcesNeeded(p: number): number {
    const homes = this.ring.homes(p);
    const left = homes.filter((id) => !this.parts.isGone(id));
    return Math.min(fewestWithAll(homes.length, this.parts.w), left.length);
  }

  private get fetches(): number {
    return this.governor.share === 1 ? MAX_FETCHES : FEW_FETCHES;
  }

  /** Takes moves from the queue until it is empty, the newest first: what has been begun is finished before more is. */
  private work(): void {
    this.workers++;
    const run = async (): Promise<void> => {
      while (this.workers <= this.fetches) {
        const m = this.queue.pop();
        if (m === undefined) return;
        try {
          await this.governor.piece(() => this.fetch(m));
        } catch (error) {
          m.retryAt = this.parts.clock.monotonic() + RETRY_MS;
          this.interrupted(m.p, error);
        }
        m.queued = false;
      }
    };
    void run().finally(() => this.workers--);
  }

  private interrupted(partition: number | null, error: unknown): void {
    this.parts.log.debug({ partition, error: String(error) }, 'a transfer was interrupted');
  }

  /** Gets what this node lacks: from one who serves the partition, and after that by comparison with all that differ. */
  private async fetch(m: Move): Promise<void> {
    // the ring may have changed while it waited for its turn
    if (!this.isCurrent(m)) return;
    const { p } = m;
    const sources = this.ring
      .homes(p)
      .map((id) => this.peers.byId.get(id))
      .filter((x): x is Peer => x?.isWell ?? false);
    if (!m.fetched) {
      // others than those that it agrees with, if there are any: with one copy they have the rest
      const peer = sources.find((x) => !m.agreed.has(x.id));
      if (peer === undefined) return;
      await this.trees.settle();
      const sums = (w: ByteWriter) => {
        w.varint(p);
        this.trees.tree(p).writeSums(w);
      };
      await this.parts.rpc.call(peer, ASK_TRANSFER, sums, TRANSFER_MS);
      m.fetched = true;
      return;
    }
    for (const peer of sources) {
      if (m.agreed.has(peer.id) || !this.isCurrent(m) || this.isWhole(m)) continue;
      await this.exchanges.exchange(peer, p);
      m.agreed.add(peer.id);
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

  /** Sends of a partition what the peer has not the same, and answers when it has taken it all. */
  private async answerTransfer(peer: Peer, r: ByteReader, w: ByteWriter): Promise<void> {
    const p = r.varint();
    await this.trees.settle();
    // an older version says nothing of what it has, and gets everything
    const tree = this.trees.tree(p);
    const differ = r.done || !this.trees.isReady(p) ? null : tree.otherSums(r);
    const sendAll = async (places: KeyPlace[]): Promise<void> => {
      const oks = await Promise.all(places.map((place) => this.parts.states.sendToAll([peer], place, false)));
      if (!oks.every((ok) => ok)) throw new Error('the transfer was interrupted');
    };
    let sent = 0;
    for (const db of this.keys.databases) {
      // in order of place: of one that is interrupted most buckets are there or not, and few in part
      const all = (await this.trees.keysOf(db, p))
        .map((key) => this.parts.store.placeOf(db, key))
        .map((place) => ({ place, pos: positionOf(place.slot, place.key) }))
        .filter((x) => differ === null || differ[tree.bucketOf(x.pos)] === 1)
        .sort((x, y) => x.pos - y.pos);
      for (let i = 0; i < all.length; ) {
        const some = all.slice(i, i + this.governor.pieceOf(TRANSFER_KEYS));
        i += some.length;
        await this.governor.piece(() => sendAll(some.map((x) => x.place)));
      }
      sent += all.length;
    }
    w.varint(sent);
  }
}
