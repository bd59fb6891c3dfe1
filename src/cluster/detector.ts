/**
 * Failure detection (paper 4.8.3): this node's own opinion of each peer, fed by what its requests meet.
 *
 * Nobody is told and nobody is asked: a peer counts as failed here when it does not answer us, even if it answers
 * others. While there is traffic, the traffic is the detector; heartbeats only speak where there is none. A failed peer
 * is tried again from time to time, ever more rarely, and one answer brings it back.
 *
 *   alive    answers in time
 *   suspect  a request has timed out: requests still go to it, but nobody waits for it alone (DESIGN section 6)
 *   down     it has been silent for long, or its connection is refused: only retries go to it
 *
 * It also says how long to wait for a peer: its usual latency and some deviations, so that a dead peer costs a request
 * one adaptive timeout. All times are monotonic ms of the caller's clock; nothing here waits or sends.
 */

/** Shortest and longest wait for an answer, in ms. */
export const MIN_TIMEOUT_MS = 250;
export const MAX_TIMEOUT_MS = 1000;
/** Wait for a peer of which nothing is known, in ms. */
export const FIRST_TIMEOUT_MS = 300;
/** Deviations above the mean latency after which an answer is overdue (Jacobson's rule for TCP), ... */
export const TIMEOUT_DEVIATIONS = 4;
/** ... and after which a read is hedged: about the 99th percentile. */
export const HEDGE_DEVIATIONS = 2.5;
/** Shortest wait before a read is hedged, in ms. */
export const MIN_HEDGE_MS = 2;
/** Weight of one observation in the mean and in the deviation. */
export const MEAN_GAIN = 1 / 8;
export const DEVIATION_GAIN = 1 / 4;
/** A timeout makes later waits this much longer until an answer comes, so that a slow peer is not timed out for ever. */
export const TIMEOUT_BACKOFF = 1.5;
/** Silence with requests unanswered after which a suspect is down, in ms, ... */
export const DOWN_AFTER_MS = 2000;
/** ... provided that at least so many requests went unanswered. */
export const DOWN_AFTER_FAILURES = 3;
/** A quiet peer gets a heartbeat after this, in ms. */
export const HEARTBEAT_MS = 1000;
/** First and longest pause between retries of a peer that is suspect or down, in ms; each is RETRY_GROWTH of the last. */
export const FIRST_RETRY_MS = 200;
export const MAX_RETRY_MS = 3000;
export const RETRY_GROWTH = 1.7;
/**
 * When this node itself was stalled for longer than this, in ms, unanswered requests of that time say nothing about the
 * peers: their answers were waiting here.
 */
export const STALL_MS = 200;

export type PeerState = 'alive' | 'suspect' | 'down';

export interface StateChange {
  readonly peer: string;
  readonly from: PeerState;
  readonly to: PeerState;
}

interface Peer {
  state: PeerState;
  /** Mean latency and mean deviation in ms; mean is negative before the first answer. */
  mean: number;
  deviation: number;
  /** Grows with timeouts; 1 after an answer. */
  backoff: number;
  lastHeard: number;
  /** When the first of the failures in a row happened. */
  failingSince: number;
  failures: number;
  retryMs: number;
  nextProbe: number;
}

export class FailureDetector {
  private readonly peers = new Map<string, Peer>();
  private lastTick: number | null = null;
  /** Requests sent before this were answered, if at all, while we were not listening. */
  private excusedBefore = 0;

  /** A peer begins as alive: the first request finds out. */
  add(id: string, now: number): void {
    if (this.peers.has(id)) return;
    this.peers.set(id, {
      state: 'alive',
      mean: -1,
      deviation: 0,
      backoff: 1,
      lastHeard: now,
      failingSince: 0,
      failures: 0,
      retryMs: FIRST_RETRY_MS,
      nextProbe: now,
    });
  }

  forget(id: string): void {
    this.peers.delete(id);
  }

  // ------------------------------------------------------------------ what has happened

  /** A request or a heartbeat was answered after `latencyMs`, a number when it measures the peer (no disk wait). */
  answered(id: string, now: number, latencyMs: number | null): StateChange[] {
    const p = this.peers.get(id);
    if (p === undefined) return [];
    if (latencyMs !== null) {
      if (p.mean < 0) {
        p.mean = latencyMs;
        p.deviation = latencyMs / 2;
      } else {
        p.deviation += DEVIATION_GAIN * (Math.abs(latencyMs - p.mean) - p.deviation);
        p.mean += MEAN_GAIN * (latencyMs - p.mean);
      }
    }
    return this.heard(id, now);
  }

  /** Anything came from the peer, asked for or not. */
  heard(id: string, now: number): StateChange[] {
    const p = this.peers.get(id);
    if (p === undefined) return [];
    p.lastHeard = now;
    p.failures = 0;
    p.backoff = 1;
    p.retryMs = FIRST_RETRY_MS;
    p.nextProbe = now + HEARTBEAT_MS;
    return this.become(id, p, 'alive');
  }

  /** A request sent at `sentAt` was not answered in its time. */
  timedOut(id: string, now: number, sentAt: number): StateChange[] {
    const p = this.peers.get(id);
    // something was heard since: that one request was slow or lost, the peer is not
    if (p === undefined || sentAt < this.excusedBefore || p.lastHeard > sentAt) return [];
    this.fail(p, now);
    p.backoff = Math.min(p.backoff * TIMEOUT_BACKOFF, MAX_TIMEOUT_MS / MIN_TIMEOUT_MS);
    const silent =
      p.failures >= DOWN_AFTER_FAILURES && now - Math.max(p.lastHeard, this.excusedBefore) >= DOWN_AFTER_MS;
    return this.become(id, p, silent || p.state === 'down' ? 'down' : 'suspect');
  }

  /** The connection was lost. A peer that is well is back at the next try. */
  disconnected(id: string, now: number): StateChange[] {
    const p = this.peers.get(id);
    if (p === undefined) return [];
    this.fail(p, now);
    return this.become(id, p, p.state === 'down' ? 'down' : 'suspect');
  }

  /** A connection was refused: the machine is there and the process is not. */
  refused(id: string, now: number): StateChange[] {
    const p = this.peers.get(id);
    if (p === undefined) return [];
    this.fail(p, now);
    return this.become(id, p, 'down');
  }

  /**
   * To be called often. Notices that this node was stalled (its own clock jumped between two calls), and takes a suspect
   * that has been silent for long as down.
   */
  tick(now: number): StateChange[] {
    if (this.lastTick !== null && now - this.lastTick > STALL_MS) this.excusedBefore = now;
    this.lastTick = now;
    const changes: StateChange[] = [];
    for (const [id, p] of this.peers) {
      const since = Math.max(p.failingSince, this.excusedBefore);
      if (p.state === 'suspect' && p.failures >= DOWN_AFTER_FAILURES && now - since >= DOWN_AFTER_MS)
        changes.push(...this.become(id, p, 'down'));
    }
    return changes;
  }

  private fail(p: Peer, now: number): void {
    if (p.failures++ === 0) {
      p.failingSince = now;
      p.nextProbe = now + p.retryMs;
    }
  }

  private become(id: string, p: Peer, to: PeerState): StateChange[] {
    const from = p.state;
    if (from === to) return [];
    p.state = to;
    return [{ peer: id, from, to }];
  }

  // ------------------------------------------------------------------ what to do

  /** Peers to send a heartbeat or a new connection to now. Each is asked for once until its next time comes. */
  probes(now: number): string[] {
    const due: string[] = [];
    for (const [id, p] of this.peers) {
      if (now < p.nextProbe) continue;
      due.push(id);
      if (p.state === 'alive') p.nextProbe = now + HEARTBEAT_MS;
      else {
        p.nextProbe = now + p.retryMs;
        p.retryMs = Math.min(p.retryMs * RETRY_GROWTH, MAX_RETRY_MS);
      }
    }
    return due;
  }

  /** When anything came from the peer last; null for one that has not been heard of. */
  heardAt(id: string): number | null {
    return this.peers.get(id)?.lastHeard ?? null;
  }

  state(id: string): PeerState {
    return this.peers.get(id)?.state ?? 'down';
  }

  isHealthy(id: string): boolean {
    return this.state(id) === 'alive';
  }

  /** How long to wait for an answer, in ms. */
  timeoutMs(id: string): number {
    const p = this.peers.get(id);
    const usual = p === undefined || p.mean < 0 ? FIRST_TIMEOUT_MS : p.mean + TIMEOUT_DEVIATIONS * p.deviation;
    const waiting = Math.max(MIN_TIMEOUT_MS, usual) * (p?.backoff ?? 1);
    return Math.min(MAX_TIMEOUT_MS, waiting);
  }

  /** After how long to ask another replica as well, in ms: past about the 99th percentile, and before the timeout. */
  hedgeMs(id: string): number {
    const p = this.peers.get(id);
    const timeout = this.timeoutMs(id);
    if (p === undefined || p.mean < 0) return timeout / 2;
    return Math.min(timeout, Math.max(MIN_HEDGE_MS, p.mean + HEDGE_DEVIATIONS * p.deviation));
  }

  /** Mean latency in ms, for people; null before the first answer. */
  latencyMs(id: string): number | null {
    const p = this.peers.get(id);
    return p === undefined || p.mean < 0 ? null : p.mean;
  }
}
