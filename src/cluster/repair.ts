/**
 * Anti-entropy (paper 4.7 and 4.9): replicas compare their trees and bring each other up to date.
 *
 * Here is when each part has its turn:
 *
 * - *Rounds*: now and then with a random peer, and at once with one that has come back, the roots of all partitions that
 *   both hold; those that differ go through an exchange (`exchanges`).
 * - *Tenure* (`tenure`): what this node has to compare before it coordinates a partition freely.
 * - *Transfer* (`transfers`): what this node takes over.
 * - *Strays* (`strays`): what it holds and others own.
 * - *Reaping* (`reaping`): tombstones that have served their time.
 *
 * All of these but tenure, which clients wait for, run under the `Governor`: each in a task of its own, in pieces, so that
 * one that rests keeps no other waiting, and tenure least of all.
 */
import type { ByteReader } from '../base/bytes.ts';
import type { Timer } from '../ports/clock.ts';
import { Exchanges } from './exchanges.ts';
import type { Governor } from './governor.ts';
import type { Peer, Peers } from './peers.ts';
import { REAP_PARTS, Reaping } from './reaping.ts';
import { type RepairParts, RepairStats } from './repair-parts.ts';
import type { Ring } from './ring.ts';
import { Strays } from './strays.ts';
import { Tenure } from './tenure.ts';
import { Transfers } from './transfers.ts';
import type { Trees } from './trees.ts';

/** Pause between rounds with a random peer, in ms. */
export const ROUND_MS = 10_000;
/** Pause between looks for what is to be caught up on, handed over or taken over, in ms. */
const STEP_MS = 200;
/** Exchanges of a round at once. */
const MAX_SESSIONS = 4;
const STRAY_MS = 1000;
/**
 * Writes a second above which rounds are BUSY_ROUNDS times as far apart. The governor does not see this: comparing costs a
 * term for each key that was written since the last time, on both sides, which takes from what a node can do and may
 * leave its latency alone. With fewer rounds a key that is written over and over is hashed for fewer of them.
 */
const BUSY_EVENTS = 2000;
const BUSY_ROUNDS = 30;
/** Confirmations that have not led to anything are repeated after so many ms. */
const CONFIRM_MS = 2000;
/** All partitions are looked at for tombstones in so many ms. */
export const REAP_MS = 30_000;

type Piece = <T>(work: () => Promise<T>) => Promise<T>;

export class Repair {
  private timer: Timer | null = null;
  private nextRound = 0;
  private nextConfirm = 0;
  private eventsAtRound = 0;
  private roundAt = 0;
  /** When a round was made for no other reason than that time has passed. */
  private lastRound = 0;
  private nextStray = 0;
  private nextReap = 0;
  /** Tasks that are at it. */
  private readonly running = new Set<string>();
  /** Peers to compare with as soon as possible. */
  private readonly urgent = new Set<string>();
  private readonly parts: RepairParts;
  private readonly peers: Peers;
  private readonly ring: Ring;
  private readonly trees: Trees;
  private readonly governor: Governor;
  readonly stats = new RepairStats();
  /** 1 for each partition of which this node knows that it has missed nothing: each command asks. */
  readonly tenure: Uint8Array;
  private readonly exchanges: Exchanges;
  private readonly tenures: Tenure;
  private readonly transfers: Transfers;
  private readonly strays: Strays;
  private readonly reaping: Reaping;
  /** Told when new homes serve partitions from now on. */
  onSettled: () => void = () => {};

  constructor(parts: RepairParts) {
    this.parts = parts;
    this.peers = parts.peers;
    this.ring = parts.ring;
    this.trees = parts.trees;
    this.governor = parts.governor;
    this.exchanges = new Exchanges(parts, this.stats);
    this.tenures = new Tenure(parts, this.exchanges);
    this.tenure = this.tenures.held;
    this.transfers = new Transfers(parts, this.exchanges, this.stats);
    this.transfers.onServed = (p) => this.tenures.lose(p);
    this.transfers.onSettled = () => this.onSettled();
    this.strays = new Strays(parts, this.stats);
    this.reaping = new Reaping(parts, this.tenures, this.stats);
  }

  start(): void {
    this.timer = this.parts.timers.every(STEP_MS, () => this.step());
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  // ------------------------------------------------------------------ what others ask and tell

  /** Something may have been missed: of one partition, or of all. */
  loseTenure(p?: number): void {
    this.tenures.lose(p);
  }

  /** This peer was away or is gone: partitions that it shares with us may have had another coordinator. */
  peerChanged(peer: Peer): void {
    this.tenures.peerChanged(peer);
    if (peer.isWell) this.urgent.add(peer.id);
  }

  /** Partitions of which keys are here that belong to others. */
  get strayPartitions(): number {
    return this.strays.count;
  }

  take(peer: Peer, r: ByteReader): void {
    this.exchanges.take(peer, r);
  }

  takeConfirm(peer: Peer, r: ByteReader): void {
    this.transfers.takeConfirm(peer, r);
  }

  sweep(now: number): void {
    this.exchanges.sweep(now);
  }

  lost(peer: Peer): void {
    this.exchanges.lost(peer);
  }

  // ------------------------------------------------------------------ steps

  private step(): void {
    if (this.ring.layout === null) return;
    const now = this.parts.clock.monotonic();
    this.run('tenure', () => this.tenures.gain());
    if (now >= this.nextConfirm) {
      this.nextConfirm = now + CONFIRM_MS;
      this.transfers.repeatConfirmations();
    }
    this.run('transfers', () => this.transfers.step());
    this.run('rounds', () => this.rounds(now));
    if (now >= this.nextStray)
      this.run('strays', () => {
        this.nextStray = now + STRAY_MS;
        return this.strays.handAllOver();
      });
    if (now >= this.nextReap)
      this.run('reaping', () => {
        this.nextReap = now + REAP_MS / REAP_PARTS;
        return this.reaping.some();
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
    const { events } = this.parts.store.keys.stats;
    const busy = (events - this.eventsAtRound) * 1000 > BUSY_EVENTS * Math.max(1, now - this.roundAt);
    this.eventsAtRound = events;
    this.roundAt = now;
    this.nextRound = now + ROUND_MS * (0.5 + this.parts.random.next());
    if (busy && now - this.lastRound < ROUND_MS * BUSY_ROUNDS) return;
    this.lastRound = now;
    const well = [...this.peers.byId.values()].filter((x) => x.isWell);
    if (well.length > 0) await this.round(well[Math.floor(this.parts.random.next() * well.length)]);
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
    let differ = await piece(() => this.exchanges.compareRoots(peer, shared));
    if (differ.size === 0) return;
    // what is under way makes roots differ for a moment
    await this.pause(50);
    const again = shared.filter((p) => differ.has(p));
    differ = await piece(() => this.exchanges.compareRoots(peer, again));
    const queue = [...differ];
    const worker = async (): Promise<void> => {
      for (let p = queue.pop(); p !== undefined; p = queue.pop()) {
        const partition = p;
        // the ring may have changed while it waited for its turn
        await piece(async () => {
          if (this.shares(peer, partition)) await this.exchanges.exchange(peer, partition);
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
      else if (this.ring.homes(only).includes(peer.id)) await this.exchanges.exchange(peer, only);
    }
    return this.stats.differences - before;
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.parts.timers.after(ms, resolve));
  }
}
