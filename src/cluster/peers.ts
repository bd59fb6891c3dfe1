/**
 * The other nodes, each with its link and this node's opinion of it.
 *
 * A peer is there from the first time that it is heard of; its link comes and goes. `epoch` counts changes of links and
 * of opinions: whatever was worked out of who is well is stale when it has moved on.
 */

import { type ByteReader, ByteWriter } from '../base/bytes.ts';
import type { Clock, Random, Timer, Timers } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Bus, Link } from './bus.ts';
import { FailureDetector, type PeerState, type StateChange } from './detector.ts';
import { PING, PONG } from './messages.ts';

/** How often timeouts are looked for, in ms, while anything is outstanding. */
export const SWEEP_MS = 20;

/** A frame that was sent and not acknowledged yet. */
export interface Sent {
  seq: number;
  w: ByteWriter;
  at: number;
  /** The same on the listening clock (`Peers.listened`). */
  listened: number;
  /** Another has been asked for what is compared in it. */
  hedged: boolean;
}

export class Peer {
  readonly id: string;
  link: Link | null = null;
  state: PeerState = 'down';
  /** The replication frame that this tick is filling, and where its operations begin. */
  frame: ByteWriter | null = null;
  /** The frame asks to be on disk before it is acknowledged. */
  syncs = false;
  nextSeq = 1;
  acked = 0;
  /** Frames up to this one will not be acknowledged any more: their keys are hinted. */
  failedUpTo = 0;
  unacked: Sent[] = [];
  unackedBytes = 0;
  /** Its monotonic clock, as it said on this link, and when that was heard; -1 before. */
  clock = -1;
  clockHeard = 0;
  /** Its process is known to be gone, so nothing that was sent to it will still be done. */
  isGone = false;
  lastPing = 0;
  /** When its sign of life was last taken note of. */
  heardAt = 0;
  /** Its disk refuses writes: until when, in monotonic ms, others are asked to coordinate them. */
  refusesUntil = 0;

  constructor(id: string) {
    this.id = id;
  }

  /** Requests may be sent, and may be waited for. */
  get isWell(): boolean {
    return this.link !== null && this.state === 'alive' && this.clock >= 0;
  }

  /** What it has been sent may still be acknowledged. */
  get mayAnswer(): boolean {
    return this.link !== null && this.state === 'alive';
  }

  /** What its monotonic clock shows at least, when ours shows `now`. */
  clockAt(now: number): number {
    return this.clock + (now - this.clockHeard);
  }
}

export class Peers {
  readonly self: string;
  readonly detector = new FailureDetector();
  readonly byId = new Map<string, Peer>();
  epoch = 0;
  /** Told when a peer's link or this node's opinion of it has changed. */
  onChange: (peer: Peer, was: boolean) => void = () => {};
  /** Told when this node notices that it has been stalled. */
  onStall: (ms: number) => void = () => {};
  /** Called each SWEEP_MS. */
  onSweep: (now: number) => void = () => {};
  private readonly bus: Bus;
  private readonly clock: Clock;
  private readonly log: Log;
  private readonly w = new ByteWriter(64);
  private lastSweep = 0;
  private listenedThen = 0;
  private timer: Timer | null = null;

  constructor(parts: { self: string; bus: Bus; clock: Clock; timers: Timers; random: Random; log: Log }) {
    this.self = parts.self;
    this.bus = parts.bus;
    this.clock = parts.clock;
    this.log = parts.log;
    this.lastSweep = parts.clock.monotonic();
    this.timer = parts.timers.every(SWEEP_MS, () => this.sweep());
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  get(id: string): Peer {
    let peer = this.byId.get(id);
    if (peer === undefined) {
      peer = new Peer(id);
      this.byId.set(id, peer);
    }
    return peer;
  }

  isHealthy(id: string): boolean {
    return id === this.self || (this.byId.get(id)?.isWell ?? false);
  }

  attach(link: Link): void {
    const peer = this.get(link.nodeId);
    const was = peer.isWell;
    peer.link = link;
    peer.clock = -1;
    peer.isGone = false;
    const now = this.clock.monotonic();
    this.detector.add(peer.id, now);
    this.detector.heard(peer.id, now);
    peer.state = this.detector.state(peer.id);
    this.epoch++;
    this.onChange(peer, was);
    this.ping(peer, now);
  }

  /** After a stall of our own: nobody is taken to be well before a new sign of life. */
  doubtAll(): void {
    const now = this.clock.monotonic();
    for (const peer of this.byId.values()) {
      if (peer.link === null || peer.clock < 0) continue;
      const was = peer.isWell;
      peer.clock = -1;
      this.epoch++;
      this.ping(peer, now);
      if (was) this.onChange(peer, true);
    }
  }

  /** It has said that it can take no writes. */
  refuses(peer: Peer): void {
    const known = peer.refusesUntil > 0;
    peer.refusesUntil = this.clock.monotonic() + REFUSAL_MS;
    if (known) return;
    this.epoch++;
    this.log.warn({ peer: peer.id.slice(0, 8) }, 'a peer takes no writes; others coordinate them');
  }

  private ping(peer: Peer, now: number): boolean {
    this.w.reset();
    this.w.f64(now);
    peer.lastPing = now;
    return peer.link?.send(PING, this.w.buf, 0, this.w.pos) ?? false;
  }

  detach(link: Link): void {
    const peer = this.byId.get(link.nodeId);
    if (peer === undefined || peer.link !== link) return;
    const was = peer.isWell;
    peer.link = null;
    this.detector.disconnected(peer.id, this.clock.monotonic());
    peer.state = this.detector.state(peer.id);
    this.epoch++;
    this.onChange(peer, was);
  }

  private apply(changes: StateChange[]): void {
    for (const c of changes) {
      const peer = this.byId.get(c.peer);
      if (peer === undefined) continue;
      const was = peer.isWell;
      peer.state = c.to;
      this.epoch++;
      this.log.info({ peer: peer.id.slice(0, 8), from: c.from, to: c.to }, 'a peer is seen otherwise');
      this.onChange(peer, was);
    }
  }

  answered(peer: Peer, now: number, latencyMs: number | null): void {
    const changes = this.detector.answered(peer.id, now, latencyMs);
    if (changes.length > 0) this.apply(changes);
  }

  /** A sign of life that says nothing of how long it took; many come in a tick, and one counts. */
  heard(peer: Peer, now: number): void {
    if (now - peer.heardAt < HEARD_MS && peer.state === 'alive') return;
    peer.heardAt = now;
    this.answered(peer, now, null);
  }

  timedOut(peer: Peer, now: number, sentAt: number): void {
    this.apply(this.detector.timedOut(peer.id, now, sentAt));
  }

  timeoutMs(peer: Peer): number {
    return this.detector.timeoutMs(peer.id);
  }

  /**
   * A clock in ms that stands still while this process does: how long an answer has been waited for is told by this one.
   * After a stall the answers of that time are still to be read, and nobody is late for it.
   */
  listened(now: number): number {
    return this.listenedThen + Math.min(now - this.lastSweep, MAX_LISTENED_MS);
  }

  // ------------------------------------------------------------------ heartbeats

  private readonly pings = new Map<string, number>();

  private sweep(): void {
    const now = this.clock.monotonic();
    const gap = now - this.lastSweep;
    this.listenedThen = this.listened(now);
    this.lastSweep = now;
    this.apply(this.detector.tick(now));
    if (gap > STALL_NOTICE_MS) this.onStall(gap);
    for (const [id, at] of this.pings) {
      const peer = this.byId.get(id);
      if (peer === undefined || peer.link === null) this.pings.delete(id);
      else if (this.listened(now) - at > this.timeoutMs(peer)) {
        this.pings.delete(id);
        this.timedOut(peer, now, now - (this.listened(now) - at));
      }
    }
    for (const id of this.detector.probes(now)) {
      const peer = this.byId.get(id);
      if (peer === undefined || peer.link === null || this.pings.has(id)) continue;
      if (this.ping(peer, now)) this.pings.set(id, this.listened(now));
    }
    for (const peer of this.byId.values())
      if (peer.link !== null && now - peer.lastPing > CLOCK_MS) this.ping(peer, now);
    for (const peer of this.byId.values()) {
      if (peer.refusesUntil === 0 || now < peer.refusesUntil) continue;
      peer.refusesUntil = 0;
      this.epoch++;
    }
    this.onSweep(now);
  }

  /** A frame of ours: true when it was a heartbeat. */
  take(link: Link, kind: number, r: ByteReader): boolean {
    if (kind === PING) {
      this.w.reset();
      this.w.f64(r.f64());
      this.w.f64(this.clock.monotonic());
      link.send(PONG, this.w.buf, 0, this.w.pos);
      return true;
    }
    if (kind !== PONG) return false;
    const peer = this.byId.get(link.nodeId);
    this.pings.delete(link.nodeId);
    const now = this.clock.monotonic();
    if (peer === undefined || peer.link !== link) return true;
    const sent = r.f64();
    const theirs = r.f64();
    const first = peer.clock < 0;
    if (first || theirs > peer.clockAt(now)) {
      peer.clock = theirs;
      peer.clockHeard = now;
    }
    this.answered(peer, now, now - sent);
    if (first) {
      this.epoch++;
      this.onChange(peer, false);
    }
    return true;
  }

  /** A connection to the node was refused: its machine is there, its process is not. */
  refused(id: string): void {
    const peer = this.byId.get(id);
    if (peer === undefined || peer.link !== null) return;
    this.apply(this.detector.refused(id, this.clock.monotonic()));
    if (peer.isGone) return;
    peer.isGone = true;
    this.onChange(peer, false);
  }

  /** Redials a peer that should be there. */
  want(address: string): void {
    this.bus.want(address);
  }
}

/** Between two sweeps this node can have listened for so many ms; what is beyond is a stall. */
const MAX_LISTENED_MS = 3 * SWEEP_MS;

/** Signs of life that are closer together than so many ms count as one. */
const HEARD_MS = 5;

/** A peer that refuses writes is asked again after so many ms. */
const REFUSAL_MS = 2000;

/** How often a peer is asked for its clock, in ms. */
const CLOCK_MS = 500;

/** A gap of this many ms between two sweeps is a stall: others may have taken over meanwhile. */
const STALL_NOTICE_MS = 400;
